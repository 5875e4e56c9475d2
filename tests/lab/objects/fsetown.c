/* SPDX-License-Identifier: Apache-2.0 */
/* F_SETOWN: signals of readiness go to the thread, process or group that was named. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

#include "object.h"

static volatile pid_t tid;

static void *thread(void *arg)
{
	struct timespec second = { 60, 0 };
	siginfo_t si;
	sigset_t set;

	tid = gettid();
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	CHECK(sigtimedwait(&set, &si, &second) == SIGRTMIN);
	return arg;
}

int main(int argc, char **argv)
{
	int t[2], p[2], g[2];
	struct f_owner_ex ex = { .type = F_OWNER_TID };
	struct timespec second = { 10, 0 };
	siginfo_t si;
	sigset_t set;
	pthread_t th;
	pid_t child;
	int status;

	object_init(argc, argv);
	sigemptyset(&set);
	for (int i = 0; i < 3; i++)
		sigaddset(&set, SIGRTMIN + i);
	sigprocmask(SIG_BLOCK, &set, NULL);
	CHECK(pipe(t) == 0 && pipe(p) == 0 && pipe(g) == 0);
	CHECK(pthread_create(&th, NULL, thread, NULL) == 0);
	while (!tid)
		usleep(1000);
	ex.pid = tid;
	CHECK(fcntl(t[0], F_SETOWN_EX, &ex) == 0 && fcntl(t[0], F_SETSIG, SIGRTMIN) == 0);
	CHECK(fcntl(t[0], F_SETFL, O_ASYNC) == 0);
	CHECK(fcntl(p[0], F_SETOWN, getpid()) == 0 && fcntl(p[0], F_SETSIG, SIGRTMIN + 1) == 0);
	CHECK(fcntl(p[0], F_SETFL, O_ASYNC | O_NONBLOCK) == 0);
	child = fork();
	if (child == 0) {
		setpgid(0, 0);
		CHECK(fcntl(g[0], F_SETOWN, -getpid()) == 0);
		CHECK(fcntl(g[0], F_SETSIG, SIGRTMIN + 2) == 0);
		CHECK(fcntl(g[0], F_SETFL, O_ASYNC) == 0 && write(g[1], "r", 1) == 1);
		CHECK(sigtimedwait(&set, &si, &second) == SIGRTMIN + 2 && read(g[0], &si, 1) == 1);
		object_wait();
		CHECK(sigtimedwait(&set, &si, &second) == SIGRTMIN + 2 && si.si_fd == g[0]);
		_exit(0);
	}
	while (fcntl(g[0], F_GETOWN) != -child)
		usleep(1000);
	object_move();
	CHECK(fcntl(t[0], F_GETOWN_EX, &ex) == 0 && ex.type == F_OWNER_TID && ex.pid == tid);
	CHECK(fcntl(p[0], F_GETOWN) == 1 && fcntl(g[0], F_GETOWN) == -child);
	CHECK((fcntl(p[0], F_GETFL) & (O_ASYNC | O_NONBLOCK)) == (O_ASYNC | O_NONBLOCK));
	CHECK(write(t[1], "x", 1) == 1 && write(p[1], "x", 1) == 1 && write(g[1], "x", 1) == 1);
	CHECK(sigtimedwait(&set, &si, &second) == SIGRTMIN + 1 && si.si_fd == p[0]);
	CHECK(pthread_join(th, NULL) == 0);
	kill(child, SIGUSR2);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	return 0;
}
