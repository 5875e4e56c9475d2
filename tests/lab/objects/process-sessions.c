/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions and process groups: leaders, members, and a child left in its parent's old
 * session. */
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	int go[2], ready[2], status;
	char byte;

	object_init(argc, argv);
	CHECK(pipe(go) == 0 && pipe(ready) == 0);
	if (fork() == 0) {
		pid_t old = getsid(0), left = fork(), member, group;

		if (left == 0) {
			CHECK(write(ready[1], "r", 1) == 1 && read(go[0], &byte, 1) == 1);
			_exit(getsid(0) == old ? 0 : 1);
		}
		CHECK(setsid() == getpid());
		member = fork();
		if (member == 0) {
			CHECK(write(ready[1], "r", 1) == 1 && read(go[0], &byte, 1) == 1);
			_exit(getsid(0) == getppid() && getpgid(0) == getppid() ? 0 : 2);
		}
		group = fork();
		if (group == 0) {
			CHECK(setpgid(0, 0) == 0);
			CHECK(write(ready[1], "r", 1) == 1 && read(go[0], &byte, 1) == 1);
			_exit(getsid(0) == getppid() && getpgid(0) == getpid() ? 0 : 3);
		}
		for (int i = 0; i < 3; i++)
			CHECK(wait(&status) > 0 && status == 0, "%x", status);
		_exit(getsid(0) == getpid() ? 0 : 4);
	}
	for (int i = 0; i < 3; i++)
		CHECK(read(ready[0], &byte, 1) == 1);
	object_move();
	CHECK(write(go[1], "ggg", 3) == 3);
	CHECK(wait(&status) > 0 && status == 0, "%x", status);
	return 0;
}
