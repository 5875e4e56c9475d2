/* SPDX-License-Identifier: Apache-2.0 */
/* A subreaper has the orphans below it, those of before and those of after the move. */
#include <sys/prctl.h>
#include <sys/wait.h>

#include "object.h"

/* Makes a process whose parent has ended; it checks where it belongs, then and later. */
static void orphan(pid_t reaper, int go, int ready)
{
	int status;
	char byte;

	if (fork() == 0) {
		if (fork() == 0) {
			while (getppid() != reaper)
				usleep(1000);
			CHECK(write(ready, "r", 1) == 1 && read(go, &byte, 1) == 1);
			_exit(getppid() == reaper ? 0 : 1);
		}
		_exit(0);
	}
	CHECK(wait(&status) > 0 && status == 0);
}

int main(int argc, char **argv)
{
	int go[2], ready[2], status, got = 0;
	pid_t reaper;
	char byte;

	object_init(argc, argv);
	CHECK(pipe(go) == 0 && pipe(ready) == 0);
	reaper = fork();
	if (reaper == 0) {
		pid_t self = getpid();

		CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
		orphan(self, go[0], ready[1]);
		CHECK(read(go[0], &byte, 1) == 1);
		CHECK(prctl(PR_GET_CHILD_SUBREAPER, &got) == 0 && got == 1);
		orphan(self, go[0], ready[1]);
		for (int i = 0; i < 2; i++)
			CHECK(wait(&status) > 0 && status == 0, "%x", status);
		_exit(0);
	}
	CHECK(read(ready[0], &byte, 1) == 1);
	object_move();
	CHECK(write(go[1], "ggg", 3) == 3);
	CHECK(waitpid(reaper, &status, 0) == reaper && status == 0);
	return 0;
}
