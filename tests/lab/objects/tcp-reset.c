/* SPDX-License-Identifier: Apache-2.0 */
/* The peer has reset the connection: what it sent can be read, then comes ECONNRESET. */
#include "net.h"

#define TCP_CLOSE 7

int main(int argc, char **argv)
{
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	net_send(b, 1, 0, 2000);
	net_recv(a, 1, 0, 500);
	CHECK(setsockopt(b, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 },
			 sizeof(struct linger)) == 0);
	CHECK(close(b) == 0);
	net_await_state(a, TCP_CLOSE);
	object_move();
	CHECK(net_poll(a, POLLIN, 0) & POLLERR);
	net_recv(a, 1, 500, 1500);
	CHECK(recv(a, &l, 1, 0) < 0 && errno == ECONNRESET);
	CHECK(send(a, &l, 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	return 0;
}
