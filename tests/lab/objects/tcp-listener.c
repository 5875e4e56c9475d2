/* SPDX-License-Identifier: Apache-2.0 */
/* A listening socket: address, backlog, and that it goes on listening. */
#include "net.h"

#define TCP_LISTEN 10

int main(int argc, char **argv)
{
	int l, a, b;
	struct tcp_info i = { 0 };
	socklen_t len = sizeof(i);

	object_init(argc, argv);
	l = net_listen("0.0.0.0", 7000, 7);
	object_move();
	CHECK(net_state(l) == TCP_LISTEN);
	CHECK(getsockopt(l, IPPROTO_TCP, TCP_INFO, &i, &len) == 0);
	CHECK(i.tcpi_sacked == 7, "its backlog is %u", i.tcpi_sacked);
	a = net_dial("127.0.0.1", 7000);
	b = accept(l, NULL, NULL);
	CHECK(b >= 0);
	net_works(a, b);
	return 0;
}
