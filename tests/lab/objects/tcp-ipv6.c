/* SPDX-License-Identifier: Apache-2.0 */
/* A connection over IPv6, with queues and hop limit. */
#include "net.h"

int main(int argc, char **argv)
{
	int l, a, b;

	object_init(argc, argv);
	net_pair("::1", 7000, &l, &a, &b);
	net_set(a, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 44);
	net_set(a, IPPROTO_IPV6, IPV6_TCLASS, 0x20);
	net_send(a, 1, 0, 30000);
	object_move();
	CHECK(net_int(a, IPPROTO_IPV6, IPV6_UNICAST_HOPS) == 44);
	CHECK(net_int(a, IPPROTO_IPV6, IPV6_TCLASS) == 0x20);
	net_recv(b, 1, 0, 30000);
	net_works(a, b);
	a = net_dial("::1", 7000);
	net_works(a, accept(l, NULL, NULL));
	return 0;
}
