/* SPDX-License-Identifier: Apache-2.0 */
/* A chain of 40 processes, each waiting for the next, keeps parents and exit codes. */
#include <sys/wait.h>

#include "object.h"

/* Returns how many there are from here on. */
static int chain(int depth, pid_t parent, int go, int ready)
{
	int status;
	char byte;
	pid_t pid, self = getpid();

	if (depth == 40) {
		CHECK(write(ready, "r", 1) == 1 && read(go, &byte, 1) == 1);
		CHECK(getppid() == parent);
		return 1;
	}
	pid = fork();
	if (pid == 0)
		_exit(chain(depth + 1, self, go, ready));
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	CHECK(getppid() == parent && getpid() == self);
	return WEXITSTATUS(status) + 1;
}

int main(int argc, char **argv)
{
	int go[2], ready[2];
	char byte;

	object_init(argc, argv);
	CHECK(pipe(go) == 0 && pipe(ready) == 0);
	if (fork() == 0)
		_exit(chain(1, getppid(), go[0], ready[1]));
	CHECK(read(ready[0], &byte, 1) == 1);
	object_move();
	CHECK(write(go[1], "g", 1) == 1);
	{
		int status;

		CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 40, "%x",
		      status);
	}
	return 0;
}
