/* SPDX-License-Identifier: Apache-2.0 */
/* Unix datagrams: queued ones, their senders, connected and not, options and buffers. */
#include <stddef.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct sockaddr_un srv = { .sun_family = AF_UNIX, .sun_path = "/tmp/srv" };
	struct sockaddr_un cli = { .sun_family = AF_UNIX, .sun_path = "\0client" }, from;
	int s = socket(AF_UNIX, SOCK_DGRAM, 0), c = socket(AF_UNIX, SOCK_DGRAM, 0), n, size = 50000;
	socklen_t len = sizeof(from), clen = offsetof(struct sockaddr_un, sun_path) + 7;
	struct timeval tv = { 3, 500000 };
	char buf[64];

	object_init(argc, argv);
	CHECK(bind(s, (struct sockaddr *)&srv, sizeof(srv)) == 0);
	CHECK(bind(c, (struct sockaddr *)&cli, clen) == 0);
	CHECK(connect(c, (struct sockaddr *)&srv, sizeof(srv)) == 0);
	CHECK(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0);
	CHECK(setsockopt(c, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0);
	CHECK(send(c, "one", 3, 0) == 3 && send(c, "", 0, 0) == 0 && send(c, "three", 5, 0) == 5);
	n = socket(AF_UNIX, SOCK_DGRAM, 0);
	CHECK(sendto(n, "nobody", 6, 0, (struct sockaddr *)&srv, sizeof(srv)) == 6);
	close(n);
	object_move();
	CHECK(recvfrom(s, buf, 64, 0, (struct sockaddr *)&from, &len) == 3 && len == clen &&
	      memcmp(&from, &cli, clen) == 0);
	CHECK(recv(s, buf, 64, 0) == 0 && recv(s, buf, 64, 0) == 5);
	len = sizeof(from);
	CHECK(recvfrom(s, buf, 64, 0, (struct sockaddr *)&from, &len) == 6 && len <= 2);
	CHECK(send(c, "after", 5, 0) == 5 && recv(s, buf, 64, 0) == 5);
	CHECK(sendto(s, "reply", 5, 0, (struct sockaddr *)&cli, clen) == 5 &&
	      recv(c, buf, 64, 0) == 5);
	len = sizeof(tv);
	CHECK(getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, &len) == 0 && tv.tv_sec == 3 &&
	      tv.tv_usec == 500000);
	len = sizeof(n);
	CHECK(getsockopt(c, SOL_SOCKET, SO_SNDBUF, &n, &len) == 0 && n == 2 * size);
	n = socket(AF_UNIX, SOCK_DGRAM, 0);
	CHECK(connect(n, (struct sockaddr *)&srv, sizeof(srv)) == 0 && send(n, "new", 3, 0) == 3);
	return 0;
}
