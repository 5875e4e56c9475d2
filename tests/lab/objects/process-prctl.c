/* SPDX-License-Identifier: Apache-2.0 */
/* What prctl() has set for a process: dumpable, THP, execute-protection (MDWE), parent-death
 * signal, TSC faults of a child, subreaper. */
#include <stdint.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <x86intrin.h>

#include "object.h"

static void segv(int sig)
{
	_exit(sig == SIGSEGV ? 9 : 8);
}

int main(int argc, char **argv)
{
	int go[2], tell[2], status, v = 0, mdwe;
	char byte;
	pid_t pid;

	object_init(argc, argv);
	CHECK(pipe(go) == 0 && pipe(tell) == 0);
	pid = fork();
	if (pid == 0) {
		CHECK(prctl(PR_SET_TSC, PR_TSC_SIGSEGV) == 0);
		CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0);
		CHECK(write(tell[1], "r", 1) == 1 && read(go[0], &byte, 1) == 1);
		CHECK(prctl(PR_GET_TSC, &v) == 0 && v == PR_TSC_SIGSEGV);
		CHECK(prctl(PR_GET_PDEATHSIG, &v) == 0 && v == SIGUSR1);
		signal(SIGSEGV, segv);
		(void)__rdtsc();
		_exit(1);
	}
	mdwe = prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0);
	CHECK(mdwe == 0 || errno == EINVAL);
	CHECK(prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
	CHECK(read(tell[0], &byte, 1) == 1);
	object_move();
	CHECK(prctl(PR_GET_DUMPABLE) == 0 && prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1);
	CHECK(mdwe < 0 || prctl(66 /* PR_GET_MDWE */, 0, 0, 0, 0) == 1);
	CHECK(write(go[1], "g", 1) == 1);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 9,
	      "%x", status);
	return 0;
}
