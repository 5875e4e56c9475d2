/* SPDX-License-Identifier: Apache-2.0 */
/* A raw socket whose headers the program makes (IP_HDRINCL), bound and connected. */
#include "net.h"

int main(int argc, char **argv)
{
	union net_address at;
	socklen_t len;
	int s;

	object_init(argc, argv);
	s = socket(AF_INET, SOCK_RAW, 200);
	CHECK(s >= 0);
	net_set(s, IPPROTO_IP, IP_HDRINCL, 1);
	len = net_at(&at, "127.0.0.1", 0);
	CHECK(bind(s, &at.sa, len) == 0);
	object_move();
	CHECK(net_int(s, IPPROTO_IP, IP_HDRINCL) == 1);
	CHECK(net_int(s, SOL_SOCKET, SO_PROTOCOL) == 200);
	len = sizeof(at);
	CHECK(getsockname(s, &at.sa, &len) == 0 && at.in.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	return 0;
}
