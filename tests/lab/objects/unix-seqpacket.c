/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix sequenced packets: bounds of packets, both ends, an accepted connection with an
 * abstract name.
 */
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "\0seq" }, now;
	socklen_t len = offsetof(struct sockaddr_un, sun_path) + 4, nlen = sizeof(now);
	int l = socket(AF_UNIX, SOCK_SEQPACKET, 0), c = socket(AF_UNIX, SOCK_SEQPACKET, 0), s;
	char buf[64];

	object_init(argc, argv);
	CHECK(bind(l, (struct sockaddr *)&un, len) == 0 && listen(l, 5) == 0);
	CHECK(connect(c, (struct sockaddr *)&un, len) == 0 && (s = accept(l, NULL, NULL)) >= 0);
	CHECK(send(c, "one", 3, 0) == 3 && send(c, "twotwo", 6, 0) == 6 &&
	      send(s, "back", 4, 0) == 4);
	object_move();
	CHECK(getsockname(s, (struct sockaddr *)&now, &nlen) == 0 && nlen == len &&
	      memcmp(&now, &un, len) == 0);
	nlen = sizeof(now);
	CHECK(getpeername(c, (struct sockaddr *)&now, &nlen) == 0 && nlen == len);
	CHECK(recv(s, buf, 64, 0) == 3 && recv(s, buf, 2, MSG_TRUNC) == 6);
	CHECK(recv(c, buf, 64, 0) == 4 && send(s, "x", 1, 0) == 1 && recv(c, buf, 64, 0) == 1);
	close(c);
	CHECK(recv(s, buf, 64, 0) == 0);
	c = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	CHECK(connect(c, (struct sockaddr *)&un, len) == 0 && accept(l, NULL, NULL) >= 0);
	return 0;
}
