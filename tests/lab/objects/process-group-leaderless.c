/* SPDX-License-Identifier: Apache-2.0 */
/* A process group whose first process has ended still gets signals sent to the group. */
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	int tell[2], status;
	pid_t group;

	object_init(argc, argv);
	CHECK(pipe(tell) == 0);
	if (fork() == 0) {
		group = getpid();
		CHECK(setpgid(0, 0) == 0);
		for (int i = 0; i < 2; i++)
			if (fork() == 0) {
				while (getppid() != 1)
					usleep(1000);
				CHECK(write(tell[1], &group, sizeof(group)) == sizeof(group));
				for (;;)
					pause();
			}
		_exit(0);
	}
	for (int i = 0; i < 2; i++)
		CHECK(read(tell[0], &group, sizeof(group)) == sizeof(group));
	CHECK(waitpid(group, &status, 0) == group && status == 0);
	object_move();
	CHECK(kill(-group, SIGTERM) == 0);
	for (int i = 0; i < 2; i++)
		CHECK(wait(&status) > 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	return 0;
}
