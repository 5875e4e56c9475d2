/* SPDX-License-Identifier: Apache-2.0 */
/* TCP_CORK with a part of a segment that waits for more. */
#include "net.h"

int main(int argc, char **argv)
{
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	net_set(a, IPPROTO_TCP, TCP_CORK, 1);
	net_send(a, 1, 0, 100);
	object_move();
	CHECK(net_int(a, IPPROTO_TCP, TCP_CORK) == 1);
	net_send(a, 1, 100, 100);
	net_set(a, IPPROTO_TCP, TCP_CORK, 0);
	net_recv(b, 1, 0, 200);
	net_works(a, b);
	return 0;
}
