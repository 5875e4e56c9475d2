/* SPDX-License-Identifier: Apache-2.0 */
/* SO_PEERCRED of socket pairs: the process, user and group that made them. */
#include <sys/socket.h>
#include <sys/wait.h>

#include "object.h"

static void peer_is(int fd, pid_t pid, uid_t uid, gid_t gid)
{
	struct ucred u = { .pid = 0, .uid = 0, .gid = 0 };
	socklen_t len = sizeof(u);

	CHECK(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &len) == 0);
	CHECK(u.pid == pid && u.uid == uid && u.gid == gid, "%d %d %d instead of %d %d %d", u.pid,
	      u.uid, u.gid, pid, uid, gid);
}

int main(int argc, char **argv)
{
	int pair[2], own[2], ready[2], status;
	char byte;
	pid_t child;

	object_init(argc, argv);
	CHECK(pipe(ready) == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, own) == 0);
	child = fork();
	if (child == 0) {
		CHECK(setresgid(1001, 1001, 1001) == 0 && setresuid(1000, 1000, 1000) == 0);
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
		CHECK(write(ready[1], "x", 1) == 1 && write(pair[0], "y", 1) == 1);
		object_wait();
		peer_is(pair[0], getpid(), 1000, 1001);
		peer_is(pair[1], getpid(), 1000, 1001);
		peer_is(own[1], 1, 0, 0);
		_exit(read(pair[1], &byte, 1) == 1 && byte == 'y' ? 0 : 1);
	}
	CHECK(read(ready[0], &byte, 1) == 1);
	object_move();
	peer_is(own[0], 1, 0, 0);
	kill(child, SIGUSR2);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	return 0;
}
