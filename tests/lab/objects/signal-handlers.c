/* SPDX-License-Identifier: Apache-2.0 */
/* What a process does with each signal: handlers with flags and masks, ignored ones,
 * defaults. */

#include "object.h"

static volatile int got[65];

static void handler(int sig, siginfo_t *si, void *ctx)
{
	(void)ctx;
	got[sig] += si->si_signo == sig;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_sigaction = handler,
				.sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER };
	struct sigaction once = { .sa_sigaction = handler,
				  .sa_flags = (int)(SA_SIGINFO | SA_RESETHAND) },
			 now;

	object_init(argc, argv);
	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGHUP);
	sigaddset(&sa.sa_mask, SIGRTMIN + 5);
	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0 && sigaction(SIGRTMAX, &sa, NULL) == 0);
	CHECK(sigaction(SIGINT, &once, NULL) == 0);
	CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR && signal(SIGCHLD, SIG_IGN) != SIG_ERR);
	object_move();
	CHECK(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_sigaction == handler);
	CHECK((now.sa_flags & (SA_SIGINFO | SA_RESTART | SA_NODEFER | SA_RESETHAND)) ==
	      (SA_SIGINFO | SA_RESTART | SA_NODEFER));
	CHECK(sigismember(&now.sa_mask, SIGHUP) && sigismember(&now.sa_mask, SIGRTMIN + 5) &&
	      !sigismember(&now.sa_mask, SIGTERM));
	CHECK(raise(SIGUSR1) == 0 && raise(SIGRTMAX) == 0 && got[SIGUSR1] == 1 &&
	      got[SIGRTMAX] == 1);
	CHECK(raise(SIGINT) == 0 && got[SIGINT] == 1);
	CHECK(sigaction(SIGINT, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
	CHECK(raise(SIGPIPE) == 0);
	CHECK(sigaction(SIGCHLD, NULL, &now) == 0 && now.sa_handler == SIG_IGN);
	CHECK(sigaction(SIGTERM, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
	return 0;
}
