/* SPDX-License-Identifier: Apache-2.0 */
/* An error that came back to a connected socket which has not asked for details (IP_RECVERR):
 * the next call gives it, once. */
#include "net.h"

static int open_refused(const char *ip, int port)
{
	union net_address at;
	socklen_t len = net_at(&at, ip, port); /* nobody is there */
	int s = socket(at.sa.sa_family, SOCK_DGRAM, 0);

	CHECK(s >= 0 && connect(s, &at.sa, len) == 0 && send(s, "x", 1, 0) == 1);
	CHECK(net_poll(s, POLLIN, 10000) & POLLERR);
	return s;
}

int main(int argc, char **argv)
{
	int s[3], calm;
	union net_address at;
	socklen_t len;
	char byte;

	object_init(argc, argv);
	s[0] = open_refused("127.0.0.1", 7009);
	s[1] = open_refused("127.0.0.1", 7010);
	s[2] = open_refused("::1", 7011);
	calm = socket(AF_INET, SOCK_DGRAM, 0);
	len = net_at(&at, "127.0.0.1", 7012);
	CHECK(connect(calm, &at.sa, len) == 0);
	object_move();
	for (int i = 0; i < 3; i++)
		CHECK(net_poll(s[i], POLLIN, 0) & POLLERR);
	CHECK(net_int(s[0], SOL_SOCKET, SO_ERROR) == ECONNREFUSED);
	CHECK(net_int(s[0], SOL_SOCKET, SO_ERROR) == 0);
	CHECK(send(s[1], "y", 1, 0) < 0 && errno == ECONNREFUSED);
	CHECK(recv(s[2], &byte, 1, MSG_DONTWAIT) < 0 && errno == ECONNREFUSED);
	CHECK(recv(s[2], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	CHECK(net_int(calm, SOL_SOCKET, SO_ERROR) == 0);
	return 0;
}
