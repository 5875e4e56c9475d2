/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll items whose number was closed or reused, or whose file is in flight between
 * sockets.
 */
#include <sys/epoll.h>
#include <sys/socket.h>

#include "object.h"

int main(int argc, char **argv)
{
	int ep = epoll_create1(0), a[2], b[2], f[2], pair[2], moved, fd = -1;
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} c = { .h = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec iov = { &fd, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &c,
			    .msg_controllen = sizeof(c.space) };
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 1 }, got[4];

	object_init(argc, argv);
	CHECK(pipe(a) == 0 && pipe(b) == 0 && pipe(f) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, a[0], &e) == 0);
	moved = dup(a[0]);
	CHECK(dup2(b[0], a[0]) == a[0]); /* the number is another file's now, watched as well */
	e.data.u64 = 2;
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, a[0], &e) == 0);
	e.data.u64 = 3;
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, f[0], &e) == 0);
	memcpy(CMSG_DATA(&c.h), &f[0], sizeof(int));
	CHECK(sendmsg(pair[0], &m, 0) == 1 && close(f[0]) == 0);
	object_move();
	CHECK(epoll_wait(ep, got, 4, 0) == 0);
	CHECK(write(a[1], "x", 1) == 1 && epoll_wait(ep, got, 4, 1000) == 1 &&
	      got[0].data.u64 == 1);
	CHECK(read(moved, &e, 1) == 1 && write(b[1], "y", 1) == 1);
	CHECK(epoll_wait(ep, got, 4, 1000) == 1 && got[0].data.u64 == 2 && read(a[0], &e, 1) == 1);
	CHECK(write(f[1], "z", 1) == 1 && epoll_wait(ep, got, 4, 1000) == 1 &&
	      got[0].data.u64 == 3);
	CHECK(recvmsg(pair[1], &m, 0) == 1);
	memcpy(&fd, CMSG_DATA(&c.h), sizeof(fd));
	CHECK(read(fd, &e, 1) == 1 && epoll_wait(ep, got, 4, 0) == 0);
	return 0;
}
