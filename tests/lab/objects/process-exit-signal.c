/* SPDX-License-Identifier: Apache-2.0 */
/* Children made by clone() that announce their end by another signal, or not at all. */
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	int go[2], status;
	pid_t loud, quiet;
	siginfo_t si;
	sigset_t set;
	char byte;

	object_init(argc, argv);
	CHECK(pipe(go) == 0);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	sigaddset(&set, SIGCHLD);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	loud = (pid_t)syscall(SYS_clone, SIGRTMIN + 1, 0, 0, 0, 0);
	if (loud == 0) {
		CHECK(read(go[0], &byte, 1) == 1);
		_exit(5);
	}
	quiet = (pid_t)syscall(SYS_clone, 0, 0, 0, 0, 0);
	if (quiet == 0) {
		CHECK(read(go[0], &byte, 1) == 1);
		_exit(6);
	}
	object_move();
	CHECK(write(go[1], "gg", 2) == 2);
	CHECK(sigwaitinfo(&set, &si) == SIGRTMIN + 1 && si.si_pid == loud);
	CHECK(waitpid(quiet, &status, __WALL) == quiet && WEXITSTATUS(status) == 6);
	CHECK(waitpid(loud, &status, __WALL) == loud && WEXITSTATUS(status) == 5);
	CHECK(sigpending(&set) == 0 && !sigismember(&set, SIGCHLD));
	return 0;
}
