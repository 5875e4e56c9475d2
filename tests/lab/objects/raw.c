/* SPDX-License-Identifier: Apache-2.0 */
/* A raw socket: protocol, filter of ICMP types, and that it hears. */
#include <netinet/ip_icmp.h>

#include "net.h"

#define SOL_RAW	    255
#define ICMP_FILTER 1

int main(int argc, char **argv)
{
	union net_address at;
	socklen_t len;
	struct icmphdr h = { .type = ICMP_ECHO };
	unsigned int filter = ~(1u << ICMP_ECHOREPLY), now = 0;
	char got[200];
	int s;

	object_init(argc, argv);
	s = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	CHECK(s >= 0);
	CHECK(setsockopt(s, SOL_RAW, ICMP_FILTER, &filter, sizeof(filter)) == 0);
	net_set(s, IPPROTO_IP, IP_TTL, 21);
	object_move();
	len = sizeof(now);
	CHECK(getsockopt(s, SOL_RAW, ICMP_FILTER, &now, &len) == 0 && now == filter);
	CHECK(net_int(s, IPPROTO_IP, IP_TTL) == 21);
	len = net_at(&at, "127.0.0.1", 0);
	h.un.echo.id = htons(77);
	h.checksum = (unsigned short)~(htons(ICMP_ECHO << 8) + htons(77));
	CHECK(sendto(s, &h, sizeof(h), 0, &at.sa, len) == sizeof(h));
	CHECK(net_poll(s, POLLIN, 10000) & POLLIN);
	CHECK(recv(s, got, sizeof(got), 0) == 20 + sizeof(h) && got[20] == ICMP_ECHOREPLY);
	return 0;
}
