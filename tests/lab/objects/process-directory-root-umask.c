/* SPDX-License-Identifier: Apache-2.0 */
/* Working directory, root (chroot) and umask of a process. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	int go[2], tell[2], status;
	char byte, where[64];
	struct stat st;
	pid_t pid;

	object_init(argc, argv);
	CHECK(pipe(go) == 0 && pipe(tell) == 0);
	CHECK(mkdir("/tmp/jail", 0755) == 0 && mkdir("/tmp/jail/inside", 0755) == 0);
	pid = fork();
	if (pid == 0) {
		CHECK(chroot("/tmp/jail") == 0 && chdir("/inside") == 0);
		umask(0135);
		CHECK(write(tell[1], "r", 1) == 1 && read(go[0], &byte, 1) == 1);
		CHECK(getcwd(where, sizeof(where)) && strcmp(where, "/inside") == 0, "%s", where);
		CHECK(access("/inside", F_OK) == 0 && access("/tmp", F_OK) < 0);
		CHECK(close(open("made", O_CREAT | O_WRONLY, 0777)) == 0);
		_exit(0);
	}
	CHECK(chdir("/proc/self") == 0 && chdir("/tmp") == 0);
	umask(027);
	CHECK(read(tell[0], &byte, 1) == 1);
	object_move();
	CHECK(getcwd(where, sizeof(where)) && strcmp(where, "/tmp") == 0);
	CHECK(umask(0) == 027);
	CHECK(write(go[1], "g", 1) == 1);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "%x", status);
	CHECK(stat("/tmp/jail/inside/made", &st) == 0 && (st.st_mode & 0777) == (0777 & ~0135));
	return 0;
}
