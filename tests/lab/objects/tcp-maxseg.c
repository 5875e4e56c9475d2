/* SPDX-License-Identifier: Apache-2.0 */
/* TCP_MAXSEG, set before listening: the connections have it. */
#include "net.h"

int main(int argc, char **argv)
{
	int l, a, b;

	object_init(argc, argv);
	l = net_socket(SOCK_STREAM, "127.0.0.1", 7000);
	net_set(l, IPPROTO_TCP, TCP_MAXSEG, 800);
	CHECK(listen(l, 5) == 0);
	a = net_dial("127.0.0.1", 7000);
	b = accept(l, NULL, NULL);
	CHECK(b >= 0);
	object_move();
	CHECK(net_int(l, IPPROTO_TCP, TCP_MAXSEG) == 800);
	net_works(a, b);
	a = net_dial("127.0.0.1", 7000);
	b = accept(l, NULL, NULL);
	CHECK(b >= 0 && net_int(a, IPPROTO_TCP, TCP_MAXSEG) <= 800);
	net_works(a, b);
	return 0;
}
