/* SPDX-License-Identifier: Apache-2.0 */
/* Membership of an IPv6 group. */
#include <net/if.h>

#include "net.h"

#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL 29
#endif

int main(int argc, char **argv)
{
	struct ipv6_mreq m = { 0 };
	int s;

	object_init(argc, argv);
	s = net_socket(SOCK_DGRAM, "::", 7000);
	inet_pton(AF_INET6, "ff02::4:77", &m.ipv6mr_multiaddr);
	m.ipv6mr_interface = if_nametoindex("eth0") ? if_nametoindex("eth0") : if_nametoindex("lo");
	CHECK(setsockopt(s, IPPROTO_IPV6, IPV6_JOIN_GROUP, &m, sizeof(m)) == 0);
	net_set(s, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
	object_move();
	CHECK(net_int(s, IPPROTO_IPV6, IPV6_MULTICAST_ALL) == 0);
	m.ipv6mr_interface = if_nametoindex("eth0") ? if_nametoindex("eth0") : if_nametoindex("lo");
	/* only a member can leave, and once */
	CHECK(setsockopt(s, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &m, sizeof(m)) == 0);
	CHECK(setsockopt(s, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &m, sizeof(m)) < 0);
	return 0;
}
