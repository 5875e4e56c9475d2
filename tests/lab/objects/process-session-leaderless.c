/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon: fork, setsid, fork. The leader of its session has ended; its number stays taken
 * while the session lives. */
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	int go[2], tell[2], status;
	pid_t leader, pid;
	char byte;

	object_init(argc, argv);
	CHECK(pipe(go) == 0 && pipe(tell) == 0);
	if (fork() == 0) {
		setsid();
		leader = getpid();
		if (fork() == 0) {
			while (getppid() != 1)
				usleep(1000);
			CHECK(write(tell[1], &leader, sizeof(leader)) == sizeof(leader));
			CHECK(read(go[0], &byte, 1) == 1);
			_exit(getsid(0) == leader && getpgid(0) == leader && getppid() == 1 ? 7
											    : 8);
		}
		_exit(0);
	}
	CHECK(read(tell[0], &leader, sizeof(leader)) == sizeof(leader));
	CHECK(wait(&status) == leader && status == 0);
	object_move();
	CHECK(kill(leader, 0) < 0 && errno == ESRCH, "the leader lives again");
	CHECK(kill(-leader, 0) == 0, "its group is empty");
	CHECK(write(go[1], "g", 1) == 1);
	pid = wait(&status);
	CHECK(pid > 0 && pid != leader && WEXITSTATUS(status) == 7, "%x", status);
	return 0;
}
