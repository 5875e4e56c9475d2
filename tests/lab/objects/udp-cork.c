/* SPDX-License-Identifier: Apache-2.0 */
/* A datagram that is being put together (UDP_CORK). */
/* refused: a datagram is being put together */
#include <netinet/udp.h>

#include "net.h"

int main(int argc, char **argv)
{
	union net_address at;
	socklen_t len;
	char got[10];
	int a, b;

	object_init(argc, argv);
	b = net_socket(SOCK_DGRAM, "127.0.0.1", 7001);
	a = socket(AF_INET, SOCK_DGRAM, 0);
	len = net_at(&at, "127.0.0.1", 7001);
	CHECK(connect(a, &at.sa, len) == 0);
	net_set(a, IPPROTO_UDP, UDP_CORK, 1);
	CHECK(send(a, "one", 3, 0) == 3);
	object_move();
	net_set(a, IPPROTO_UDP, UDP_CORK, 0);
	CHECK(recv(b, got, sizeof(got), 0) == 3);
	return 0;
}
