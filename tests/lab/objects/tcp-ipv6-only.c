/* SPDX-License-Identifier: Apache-2.0 */
/* IPV6_V6ONLY: the same port for each protocol. */
#include "net.h"

int main(int argc, char **argv)
{
	union net_address at;
	socklen_t len;
	int l4, l6, a;

	object_init(argc, argv);
	l6 = socket(AF_INET6, SOCK_STREAM, 0);
	net_set(l6, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	len = net_at(&at, "::", 7000);
	CHECK(bind(l6, &at.sa, len) == 0 && listen(l6, 5) == 0);
	l4 = net_listen("0.0.0.0", 7000, 5);
	object_move();
	CHECK(net_int(l6, IPPROTO_IPV6, IPV6_V6ONLY) == 1);
	a = net_dial("127.0.0.1", 7000);
	net_works(a, accept(l4, NULL, NULL));
	a = net_dial("::1", 7000);
	net_works(a, accept(l6, NULL, NULL));
	return 0;
}
