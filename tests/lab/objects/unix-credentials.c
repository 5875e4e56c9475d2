/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials of the sender come with queued messages (SO_PASSCRED). */
#include <sys/socket.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(struct ucred))];
	} c;
	int pair[2], on = 1, status;
	char buf[8];
	struct iovec iov = { buf, sizeof(buf) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &c,
			    .msg_controllen = sizeof(c.space) };
	struct ucred u;
	pid_t child;

	object_init(argc, argv);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	CHECK(setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0);
	child = fork();
	if (child == 0) {
		CHECK(setresgid(1001, 1001, 1001) == 0 && setresuid(1000, 1000, 1000) == 0);
		CHECK(write(pair[1], "hello", 5) == 5);
		object_wait();
		_exit(0);
	}
	CHECK(recv(pair[0], buf, 8, MSG_PEEK) == 5);
	object_move();
	CHECK(recvmsg(pair[0], &m, 0) == 5 && c.h.cmsg_type == SCM_CREDENTIALS);
	memcpy(&u, CMSG_DATA(&c.h), sizeof(u));
	CHECK(u.pid == child && u.uid == 1000 && u.gid == 1001, "%d %d %d", u.pid, u.uid, u.gid);
	kill(child, SIGUSR2);
	CHECK(waitpid(child, &status, 0) == child);
	return 0;
}
