/* SPDX-License-Identifier: Apache-2.0 */
/* A packet socket on an interface, with a filter, promiscuous. */
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <netpacket/packet.h>

#include "net.h"

int main(int argc, char **argv)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP) };
	struct packet_mreq q = { .mr_type = PACKET_MR_PROMISC };
	struct sock_filter f[] = { { BPF_RET | BPF_K, 0, 0, 60 } };
	struct sock_fprog p = { 1, f };
	socklen_t len = sizeof(at);
	union net_address to;
	char got[2000];
	int s, c;

	object_init(argc, argv);
	s = socket(AF_PACKET, SOCK_DGRAM, 0);
	CHECK(s >= 0);
	CHECK(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof(p)) == 0);
	at.sll_ifindex = (int)if_nametoindex("lo");
	CHECK(bind(s, (struct sockaddr *)&at, sizeof(at)) == 0);
	q.mr_ifindex = at.sll_ifindex;
	CHECK(setsockopt(s, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &q, sizeof(q)) == 0);
	net_set(s, SOL_PACKET, PACKET_AUXDATA, 1);
	object_move();
	CHECK(getsockname(s, (struct sockaddr *)&at, &len) == 0);
	CHECK(at.sll_ifindex == (int)if_nametoindex("lo") && at.sll_protocol == htons(ETH_P_IP));
	CHECK(net_int(s, SOL_PACKET, PACKET_AUXDATA) == 1);
	while (recv(s, got, sizeof(got), MSG_DONTWAIT) > 0)
		;
	c = socket(AF_INET, SOCK_DGRAM, 0);
	len = net_at(&to, "127.0.0.1", 9);
	memset(got, 'p', 500);
	CHECK(sendto(c, got, 500, 0, &to.sa, len) == 500);
	CHECK(net_poll(s, POLLIN, 10000) & POLLIN);
	CHECK(recv(s, got, sizeof(got), 0) == 60); /* as the filter cuts it */
	CHECK(setsockopt(s, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &q, sizeof(q)) == 0);
	return 0;
}
