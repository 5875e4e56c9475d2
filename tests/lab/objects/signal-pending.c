/* SPDX-License-Identifier: Apache-2.0 */
/* Signals queued for a process, with their order, origin and values, also real-time ones
 * that came several times. */
#include <sys/types.h>
#include <unistd.h>

#include "object.h"

int main(int argc, char **argv)
{
	siginfo_t si;
	sigset_t set;

	object_init(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGRTMIN + 2);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	for (int i = 0; i < 5; i++)
		CHECK(sigqueue(getpid(), SIGRTMIN + 2, (union sigval){ .sival_int = 100 + i }) ==
		      0);
	CHECK(kill(getpid(), SIGTERM) == 0 && kill(getpid(), SIGTERM) == 0);
	object_move();
	CHECK(sigwaitinfo(&set, &si) == SIGTERM && si.si_code == SI_USER && si.si_pid == getpid());
	for (int i = 0; i < 5; i++)
		CHECK(sigwaitinfo(&set, &si) == SIGRTMIN + 2 && si.si_code == SI_QUEUE &&
			      si.si_value.sival_int == 100 + i,
		      "signal %d: %d", i, si.si_value.sival_int);
	CHECK(sigpending(&set) == 0 && !sigismember(&set, SIGTERM) &&
	      !sigismember(&set, SIGRTMIN + 2));
	return 0;
}
