/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection that was reset after its stream had ended: what had come is read, and the error
 * is EPIPE, told once.
 */
#include "net.h"

int main(int argc, char **argv)
{
	struct linger hard = { .l_onoff = 1 };
	int l, a, b;
	char byte;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	CHECK(shutdown(a, SHUT_WR) == 0);
	net_await_state(b, 8); /* TCP_CLOSE_WAIT */
	CHECK(setsockopt(a, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) == 0 && close(a) == 0);
	net_await_state(b, 7); /* TCP_CLOSE */
	CHECK(net_poll(b, POLLIN, 0) & POLLERR);
	object_move();
	CHECK(net_state(b) == 7 && (net_poll(b, POLLIN, 0) & POLLERR));
	CHECK(net_int(b, SOL_SOCKET, SO_ERROR) == EPIPE);
	CHECK(net_int(b, SOL_SOCKET, SO_ERROR) == 0);
	CHECK(recv(b, &byte, 1, 0) == 0);
	CHECK(send(b, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	return 0;
}
