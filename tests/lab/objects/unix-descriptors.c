/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors in flight: at once, behind other data, of a socket that is in flight itself. */
#include <stdint.h>
#include <sys/socket.h>

#include "object.h"

static void send_fd(int s, const char *data, size_t len, int fd)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} c = { .h = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec iov = { (void *)(uintptr_t)data, len };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &c,
			    .msg_controllen = sizeof(c.space) };

	memcpy(CMSG_DATA(&c.h), &fd, sizeof(fd));
	CHECK(sendmsg(s, &m, 0) == (ssize_t)len);
}

static int recv_fd(int s, char *buf, size_t len, int *fd)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} c;
	struct iovec iov = { buf, len };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &c,
			    .msg_controllen = sizeof(c.space) };
	ssize_t n = recvmsg(s, &m, 0);

	*fd = -1;
	if (m.msg_controllen >= CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(&c.h), sizeof(*fd));
	return (int)n;
}

int main(int argc, char **argv)
{
	int pair[2], behind[2], in[2], p[2], fd, n;
	char buf[64];

	object_init(argc, argv);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(p) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, behind) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, in) == 0);
	CHECK(write(p[1], "piped", 5) == 5);
	send_fd(pair[0], "f", 1, p[0]);
	close(p[0]);
	/* some data, then a descriptor with more data, then more */
	CHECK(write(behind[0], "aaaaa", 5) == 5);
	send_fd(behind[0], "bbb", 3, p[1]);
	CHECK(write(behind[0], "cc", 2) == 2);
	/* a socket that has a descriptor in its queue and is held by nobody */
	send_fd(in[0], "deep", 4, p[1]);
	send_fd(pair[0], "s", 1, in[1]);
	close(in[1]);
	object_move();
	n = recv_fd(pair[1], buf, 64, &fd);
	CHECK(n == 1 && fd >= 0 && read(fd, buf, 64) == 5 && memcmp(buf, "piped", 5) == 0);
	n = recv_fd(pair[1], buf, 64, &in[1]);
	CHECK(n == 1 && in[1] >= 0);
	n = recv_fd(in[1], buf, 64, &fd);
	CHECK(n == 4 && fd >= 0 && write(fd, "z", 1) == 1);
	n = recv_fd(behind[1], buf, 5, &fd);
	CHECK(n == 5 && fd < 0);
	n = recv_fd(behind[1], buf, 64, &fd);
	CHECK(n == 3 && memcmp(buf, "bbb", 3) == 0 && fd >= 0 && write(fd, "y", 1) == 1);
	CHECK(read(behind[1], buf, 64) == 2);
	return 0;
}
