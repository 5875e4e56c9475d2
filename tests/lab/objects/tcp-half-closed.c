/* SPDX-License-Identifier: Apache-2.0 */
/* One direction is closed, the other goes on: FIN_WAIT2 and CLOSE_WAIT. */
#include "net.h"

enum { TCP_FIN_WAIT2 = 5, TCP_CLOSE_WAIT = 8 };

int main(int argc, char **argv)
{
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	CHECK(shutdown(a, SHUT_WR) == 0);
	net_await_state(a, TCP_FIN_WAIT2);
	net_await_state(b, TCP_CLOSE_WAIT);
	object_move();
	net_await_state(a, TCP_FIN_WAIT2);
	net_await_state(b, TCP_CLOSE_WAIT);
	CHECK(send(a, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	net_end(b);
	net_send(b, 3, 0, 50000);
	net_recv(a, 3, 0, 50000);
	CHECK(close(b) == 0);
	net_end(a);
	return 0;
}
