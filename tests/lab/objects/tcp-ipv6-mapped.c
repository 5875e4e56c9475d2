/* SPDX-License-Identifier: Apache-2.0 */
/* A listener for both protocols, and a connection with an IPv4-mapped address. */
#include "net.h"

int main(int argc, char **argv)
{
	union net_address at;
	socklen_t len = sizeof(at);
	int l, a, b;

	object_init(argc, argv);
	l = net_listen("::", 7000, 5);
	CHECK(net_int(l, IPPROTO_IPV6, IPV6_V6ONLY) == 0);
	a = net_dial("127.0.0.1", 7000);
	b = accept(l, NULL, NULL);
	net_send(a, 1, 0, 3000);
	object_move();
	net_recv(b, 1, 0, 3000);
	CHECK(getpeername(b, &at.sa, &len) == 0 && IN6_IS_ADDR_V4MAPPED(&at.in6.sin6_addr));
	net_works(a, b);
	a = net_dial("127.0.0.1", 7000);
	net_works(a, accept(l, NULL, NULL));
	a = net_dial("::1", 7000);
	net_works(a, accept(l, NULL, NULL));
	return 0;
}
