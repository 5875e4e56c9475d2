/* SPDX-License-Identifier: Apache-2.0 */
/* Real, effective and saved users and groups, and supplementary groups. */
#include <grp.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	gid_t groups[] = { 7, 70000, 4000000000u }, now[8];
	int go[2], tell[2], status;
	uid_t r, e, s;
	char byte;
	pid_t pid;

	object_init(argc, argv);
	CHECK(pipe(go) == 0 && pipe(tell) == 0);
	pid = fork();
	if (pid == 0) {
		CHECK(setgroups(3, groups) == 0 && setresgid(11, 12, 13) == 0 &&
		      setresuid(21, 22, 23) == 0);
		CHECK(write(tell[1], "r", 1) == 1 && read(go[0], &byte, 1) == 1);
		CHECK(getresuid(&r, &e, &s) == 0 && r == 21 && e == 22 && s == 23);
		CHECK(getresgid(&r, &e, &s) == 0 && r == 11 && e == 12 && s == 13);
		CHECK(getgroups(8, now) == 3 && memcmp(groups, now, sizeof(groups)) == 0);
		CHECK(setresuid(-1u, 0, -1u) < 0 && setuid(23) == 0);
		_exit(0);
	}
	CHECK(read(tell[0], &byte, 1) == 1);
	object_move();
	CHECK(write(go[1], "g", 1) == 1 && waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(getuid() == 0);
	return 0;
}
