/* SPDX-License-Identifier: Apache-2.0 */
/* Both sides have closed for writing, one behind unsent data: LAST_ACK with a descriptor. */
#include "net.h"

enum { TCP_CLOSE = 7, TCP_CLOSE_WAIT = 8, TCP_LAST_ACK = 9 };

int main(int argc, char **argv)
{
	int l, a, b;
	size_t n;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	CHECK(shutdown(a, SHUT_WR) == 0);
	net_await_state(b, TCP_CLOSE_WAIT);
	n = net_send(b, 1, 0, 0);
	CHECK(shutdown(b, SHUT_WR) == 0);
	CHECK(net_state(b) == TCP_LAST_ACK);
	object_move();
	CHECK(net_state(b) == TCP_LAST_ACK);
	net_recv(a, 1, 0, n);
	net_end(a);
	net_await_state(b, TCP_CLOSE);
	return 0;
}
