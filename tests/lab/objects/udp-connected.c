/* SPDX-License-Identifier: Apache-2.0 */
/* A connected datagram socket: its peer, and that others are not heard. */
#include "net.h"

int main(int argc, char **argv)
{
	union net_address at;
	socklen_t len;
	char got[10];
	int a, b, stranger;

	object_init(argc, argv);
	a = net_socket(SOCK_DGRAM, "127.0.0.1", 7000);
	b = net_socket(SOCK_DGRAM, "127.0.0.1", 7001);
	len = net_at(&at, "127.0.0.1", 7001);
	CHECK(connect(a, &at.sa, len) == 0);
	object_move();
	CHECK(getpeername(a, &at.sa, &len) == 0 && ntohs(at.in.sin_port) == 7001);
	len = net_at(&at, "127.0.0.1", 7000);
	stranger = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(sendto(stranger, "no", 2, 0, &at.sa, len) == 2);
	CHECK(sendto(b, "yes", 3, 0, &at.sa, len) == 3);
	CHECK(recv(a, got, sizeof(got), 0) == 3);
	CHECK(send(a, "back", 4, 0) == 4 && recv(b, got, sizeof(got), 0) == 4);
	return 0;
}
