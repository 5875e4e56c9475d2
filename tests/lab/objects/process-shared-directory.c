/* SPDX-License-Identifier: Apache-2.0 */
/* Two processes with one working directory, root and umask (CLONE_FS). */
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	int go[2], tell[2], status;
	char byte, where[64];
	pid_t pid;

	object_init(argc, argv);
	CHECK(pipe(go) == 0 && pipe(tell) == 0);
	pid = (pid_t)syscall(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		CHECK(chdir("/tmp") == 0);
		CHECK(write(tell[1], "r", 1) == 1 && read(go[0], &byte, 1) == 1);
		CHECK(getcwd(where, sizeof(where)) && strcmp(where, "/proc") == 0, "%s", where);
		umask(0123);
		_exit(0);
	}
	CHECK(read(tell[0], &byte, 1) == 1);
	object_move();
	CHECK(getcwd(where, sizeof(where)) && strcmp(where, "/tmp") == 0, "%s", where);
	CHECK(chdir("/proc") == 0);
	CHECK(write(go[1], "g", 1) == 1);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(umask(0) == 0123);
	return 0;
}
