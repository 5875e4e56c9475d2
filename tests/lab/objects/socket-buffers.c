/* SPDX-License-Identifier: Apache-2.0 */
/* SO_SNDBUF and SO_RCVBUF, and that they were set by hand. */
#include "net.h"

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

int main(int argc, char **argv)
{
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	net_set(a, SOL_SOCKET, SO_SNDBUF, 50000);
	net_set(b, SOL_SOCKET, SO_RCVBUF, 30000);
	object_move();
	CHECK(net_int(a, SOL_SOCKET, SO_SNDBUF) == 100000);
	CHECK(net_int(b, SOL_SOCKET, SO_RCVBUF) == 60000);
	CHECK(net_int(a, SOL_SOCKET, SO_BUF_LOCK) == 1);
	CHECK(net_int(b, SOL_SOCKET, SO_BUF_LOCK) == 2);
	net_works(a, b);
	return 0;
}
