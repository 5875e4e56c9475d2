/* SPDX-License-Identifier: Apache-2.0 */
/* Options of datagram sockets: broadcast, packet information, receiving of errors. */
#include <netinet/udp.h>

#include "net.h"

int main(int argc, char **argv)
{
	int s;

	object_init(argc, argv);
	s = net_socket(SOCK_DGRAM, "0.0.0.0", 7000);
	net_set(s, SOL_SOCKET, SO_BROADCAST, 1);
	net_set(s, IPPROTO_IP, IP_PKTINFO, 1);
	net_set(s, IPPROTO_IP, IP_RECVERR, 1);
	net_set(s, IPPROTO_IP, IP_MULTICAST_TTL, 9);
	net_set(s, IPPROTO_IP, IP_MULTICAST_LOOP, 0);
	net_set(s, IPPROTO_UDP, UDP_SEGMENT, 700);
	net_set(s, IPPROTO_UDP, UDP_GRO, 1);
	object_move();
	CHECK(net_int(s, SOL_SOCKET, SO_BROADCAST) == 1);
	CHECK(net_int(s, IPPROTO_IP, IP_PKTINFO) == 1);
	CHECK(net_int(s, IPPROTO_IP, IP_RECVERR) == 1);
	CHECK(net_int(s, IPPROTO_IP, IP_MULTICAST_TTL) == 9);
	CHECK(net_int(s, IPPROTO_IP, IP_MULTICAST_LOOP) == 0);
	CHECK(net_int(s, IPPROTO_UDP, UDP_SEGMENT) == 700);
	CHECK(net_int(s, IPPROTO_UDP, UDP_GRO) == 1);
	return 0;
}
