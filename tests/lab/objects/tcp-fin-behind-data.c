/* SPDX-License-Identifier: Apache-2.0 */
/* Closed for writing with data that the other side has no room for: FIN_WAIT1. */
#include "net.h"

#define TCP_FIN_WAIT1 4

int main(int argc, char **argv)
{
	int l, a, b;
	size_t n;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	n = net_send(a, 1, 0, 0);
	CHECK(shutdown(a, SHUT_WR) == 0);
	CHECK(net_state(a) == TCP_FIN_WAIT1);
	object_move();
	CHECK(net_state(a) == TCP_FIN_WAIT1);
	net_recv(b, 1, 0, n);
	net_end(b);
	net_send(b, 2, 0, 5000);
	net_recv(a, 2, 0, 5000);
	return 0;
}
