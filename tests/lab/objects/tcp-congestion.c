/* SPDX-License-Identifier: Apache-2.0 */
/* The congestion control of a connection, by name. */
#include "net.h"

int main(int argc, char **argv)
{
	int l, a, b;
	char before[16] = "", now[16] = "";
	socklen_t len = sizeof(before);

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	CHECK(setsockopt(a, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) == 0);
	CHECK(getsockopt(b, IPPROTO_TCP, TCP_CONGESTION, before, &len) == 0);
	object_move();
	len = sizeof(now);
	CHECK(getsockopt(a, IPPROTO_TCP, TCP_CONGESTION, now, &len) == 0);
	CHECK(strcmp(now, "reno") == 0, "it is %s", now);
	len = sizeof(now);
	CHECK(getsockopt(b, IPPROTO_TCP, TCP_CONGESTION, now, &len) == 0);
	CHECK(strcmp(now, before) == 0, "it is %s", now);
	net_works(a, b);
	return 0;
}
