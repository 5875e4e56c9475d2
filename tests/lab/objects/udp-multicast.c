/* SPDX-License-Identifier: Apache-2.0 */
/* Membership of an IPv4 group, with a source filter in one of two sockets. */
#include "net.h"

int main(int argc, char **argv)
{
	union net_address group, at;
	struct ip_mreqn m = { 0 };
	struct ip_mreq_source ms = { 0 };
	struct in_addr lo;
	socklen_t len;
	char got[10];
	int any, only, c;

	object_init(argc, argv);
	inet_pton(AF_INET, "127.0.0.1", &lo);
	any = net_socket(SOCK_DGRAM, "0.0.0.0", 7000);
	only = net_socket(SOCK_DGRAM, "0.0.0.0", 7001);
	net_at(&group, "239.1.2.3", 7000);
	m.imr_multiaddr = group.in.sin_addr;
	m.imr_address = lo;
	CHECK(setsockopt(any, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)) == 0);
	ms.imr_multiaddr = group.in.sin_addr;
	ms.imr_interface = lo;
	inet_pton(AF_INET, "127.0.0.77", &ms.imr_sourceaddr);
	CHECK(setsockopt(only, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &ms, sizeof(ms)) == 0);
	net_set(any, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	net_set(only, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	object_move();
	for (int i = 0; i < 2; i++) {
		c = net_socket(SOCK_DGRAM, i ? "127.0.0.77" : "127.0.0.1", 0);
		CHECK(setsockopt(c, IPPROTO_IP, IP_MULTICAST_IF, &m, sizeof(m)) == 0);
		for (int port = 7000; port < 7002; port++) {
			len = net_at(&at, "239.1.2.3", port);
			CHECK(sendto(c, i ? "right" : "left", 5 - !i, 0, &at.sa, len) == 5 - !i);
		}
	}
	CHECK(net_poll(any, POLLIN, 10000) & POLLIN && recv(any, got, sizeof(got), 0) == 4);
	CHECK(net_poll(any, POLLIN, 10000) & POLLIN && recv(any, got, sizeof(got), 0) == 5);
	CHECK(net_poll(only, POLLIN, 10000) & POLLIN && recv(only, got, sizeof(got), 0) == 5);
	CHECK(recv(only, got, sizeof(got), MSG_DONTWAIT) < 0 && errno == EAGAIN);
	return 0;
}
