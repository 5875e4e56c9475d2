/* SPDX-License-Identifier: Apache-2.0 */
/* Blocked signals, alternate stacks and signals pending for one thread only. */
#include <pthread.h>

#include "object.h"

static pthread_barrier_t both;
static volatile int handled;
static __thread char stack[65536];
static __thread bool on_stack;

static void handler(int sig)
{
	char here;

	handled++;
	on_stack = &here > stack && &here < stack + sizeof(stack);
	(void)sig;
}

static void *body(void *arg)
{
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) }, now;
	struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
	sigset_t set;

	if (arg)
		CHECK(sigaltstack(&ss, NULL) == 0 && sigaction(SIGUSR1, &sa, NULL) == 0);
	pthread_barrier_wait(&both);
	pthread_barrier_wait(&both);
	CHECK(pthread_sigmask(SIG_BLOCK, NULL, &set) == 0);
	CHECK(sigismember(&set, SIGUSR1) && sigismember(&set, SIGRTMIN + 3) &&
	      !sigismember(&set, SIGHUP));
	CHECK(sigaltstack(NULL, &now) == 0);
	CHECK(arg ? now.ss_sp == stack && now.ss_size == sizeof(stack) : now.ss_flags & SS_DISABLE);
	CHECK(sigpending(&set) == 0 && sigismember(&set, SIGUSR1) == (arg != NULL));
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	CHECK(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0);
	CHECK(on_stack == (arg != NULL));
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t th[2];
	sigset_t set;

	object_init(argc, argv);
	CHECK(signal(SIGUSR1, handler) != SIG_ERR);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 3);
	CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
	pthread_barrier_init(&both, NULL, 3);
	for (long i = 0; i < 2; i++)
		CHECK(pthread_create(&th[i], NULL, body, (void *)i) == 0);
	pthread_barrier_wait(&both);
	CHECK(pthread_kill(th[1], SIGUSR1) == 0);
	object_move();
	CHECK(sigpending(&set) == 0 && !sigismember(&set, SIGUSR1));
	pthread_barrier_wait(&both);
	for (int i = 0; i < 2; i++)
		CHECK(pthread_join(th[i], NULL) == 0);
	CHECK(handled == 1);
	return 0;
}
