/* SPDX-License-Identifier: Apache-2.0 */
/* A signal with a handler that comes while the process stands still ends a waiting call with
 * EINTR, or lets it go on (SA_RESTART), as the program has asked. */
#include <pthread.h>
#include <sys/epoll.h>

#include "object.h"

static int pipes[2];
static volatile bool stop, done, ended;
static volatile int sent[2], interrupted[2];

static void handler(int sig)
{
	(void)sig;
}

/* Each signal waits for the last to have ended a call. */
static void *send_signals(void *arg)
{
	pthread_t *th = arg;

	usleep(100000);
	while (!stop) {
		for (int i = 0; i < 2; i++)
			if (interrupted[i] == sent[i]) {
				sent[i]++;
				CHECK(pthread_kill(th[i], SIGUSR1) == 0);
			}
		CHECK(pthread_kill(th[2], SIGTERM) == 0);
		usleep(300);
	}
	return NULL;
}

static void *waiter(void *arg)
{
	int kind = (int)(long)arg, ep = epoll_create1(0);
	struct epoll_event ev;
	sigset_t set;
	char byte;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	while (kind < 2 && !done) {
		int r = kind ? sigwaitinfo(&set, NULL) : epoll_wait(ep, &ev, 1, -1);

		CHECK(r == -1 && errno == EINTR);
		if (interrupted[kind] < sent[kind])
			interrupted[kind]++;
	}
	if (kind == 2) {
		CHECK(read(pipes[0], &byte, 1) == 1);
		ended = true;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction plain = { .sa_handler = handler },
			 again = { .sa_handler = handler, .sa_flags = SA_RESTART };
	pthread_t th[3], sender;
	char byte;

	object_init(argc, argv);
	CHECK(sigaction(SIGUSR1, &plain, NULL) == 0 && sigaction(SIGTERM, &again, NULL) == 0);
	CHECK(pipe(pipes) == 0);
	for (long i = 0; i < 3; i++)
		CHECK(pthread_create(&th[i], NULL, waiter, (void *)i) == 0);
	CHECK(pthread_create(&sender, NULL, send_signals, th) == 0);
	object_move();
	stop = true;
	CHECK(pthread_join(sender, NULL) == 0);
	/* Every signal to the first two has ended a call; the third goes on reading. */
	for (int i = 0; i < 2; i++) {
		while (interrupted[i] < sent[i]) {
			usleep(1000);
			CHECK(interrupted[i] <= sent[i]);
		}
		done = true;
	}
	CHECK(!ended, "SA_RESTART: read ended");
	CHECK(write(pipes[1], "bbb", 3) == 3);
	for (int i = 0; i < 2; i++) {
		pthread_kill(th[i], SIGUSR1);
		CHECK(pthread_join(th[i], NULL) == 0);
	}
	CHECK(pthread_join(th[2], NULL) == 0 && ended);
	(void)byte;
	return 0;
}
