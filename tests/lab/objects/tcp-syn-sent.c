/* SPDX-License-Identifier: Apache-2.0 */
/* A connection that is being opened, while the listener takes no more. */
#include "net.h"

#define TCP_SYN_SENT 2

int main(int argc, char **argv)
{
	union net_address at;
	socklen_t len;
	int l, first, second, a, b;

	object_init(argc, argv);
	l = net_listen("127.0.0.1", 7000, 0);
	first = net_dial("127.0.0.1", 7000); /* fills the accept queue */
	len = net_at(&at, "127.0.0.1", 7000);
	second = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	CHECK(connect(second, &at.sa, len) < 0 && errno == EINPROGRESS);
	usleep(50000);
	CHECK(net_state(second) == TCP_SYN_SENT);
	object_move();
	a = accept(l, NULL, NULL);
	CHECK(a >= 0);
	net_works(first, a);
	b = accept(l, NULL, NULL);
	CHECK(b >= 0);
	CHECK(net_poll(second, POLLOUT, 40000) & POLLOUT);
	CHECK(net_int(second, SOL_SOCKET, SO_ERROR) == 0);
	CHECK(fcntl(second, F_SETFL, 0) == 0);
	net_works(second, b);
	return 0;
}
