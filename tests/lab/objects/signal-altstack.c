/* SPDX-License-Identifier: Apache-2.0 */
/* A handler that runs on its alternate stack in the very moment of the move returns to where
 * it was called. */
#include <pthread.h>

#include "object.h"

static char stack[131072];
static volatile int inside;

static void handler(int sig)
{
	stack_t now;

	inside = 1;
	object_move();
	CHECK(sigaltstack(NULL, &now) == 0 && (now.ss_flags & SS_ONSTACK) && now.ss_sp == stack);
	CHECK(sig == SIGUSR1 && (char *)&now > stack && (char *)&now < stack + sizeof(stack));
	inside = 2;
}

int main(int argc, char **argv)
{
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
	double x = 1.25;

	object_init(argc, argv);
	CHECK(sigaltstack(&ss, NULL) == 0 && sigaction(SIGUSR1, &sa, NULL) == 0);
	CHECK(raise(SIGUSR1) == 0); /* the move is in there */
	CHECK(inside == 2 && x * 2 == 2.5);
	CHECK(sigaltstack(NULL, &ss) == 0 && ss.ss_sp == stack && !(ss.ss_flags & SS_ONSTACK));
	return 0;
}
