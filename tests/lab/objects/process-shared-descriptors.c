/* SPDX-License-Identifier: Apache-2.0 */
/* Two processes with one descriptor table (CLONE_FILES): what one opens the other has. */
#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	int go[2], tell[2], status;
	char byte;
	pid_t pid;

	object_init(argc, argv);
	CHECK(pipe(go) == 0 && pipe(tell) == 0);
	pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		CHECK(write(tell[1], "r", 1) == 1 && read(go[0], &byte, 1) == 1);
		CHECK(fcntl(90, F_GETFD) == 0, "the parent's new descriptor is not here");
		CHECK(dup2(90, 91) == 91 && close(90) == 0);
		CHECK(write(tell[1], "d", 1) == 1);
		_exit(0);
	}
	CHECK(read(tell[0], &byte, 1) == 1);
	object_move();
	CHECK(dup2(0, 90) == 90);
	CHECK(write(go[1], "g", 1) == 1 && read(tell[0], &byte, 1) == 1);
	CHECK(fcntl(91, F_GETFD) == 0 && fcntl(90, F_GETFD) < 0);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	return 0;
}
