/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams that wait, with their senders and borders. */
#include "net.h"

int main(int argc, char **argv)
{
	union net_address at, from;
	socklen_t len;
	char got[2000];
	int s, c[2];

	object_init(argc, argv);
	s = net_socket(SOCK_DGRAM, "127.0.0.1", 7000);
	len = net_at(&at, "127.0.0.1", 7000);
	for (int i = 0; i < 2; i++)
		c[i] = net_socket(SOCK_DGRAM, "127.0.0.1", 7001 + i);
	for (int i = 0; i < 10; i++) {
		memset(got, 'a' + i, sizeof(got));
		CHECK(sendto(c[i % 2], got, (size_t)(i * 150 + 1), 0, &at.sa, len) == i * 150 + 1);
	}
	object_move();
	for (int i = 0; i < 10; i++) {
		len = sizeof(from);
		CHECK(recvfrom(s, got, sizeof(got), MSG_DONTWAIT, &from.sa, &len) == i * 150 + 1);
		CHECK(got[0] == 'a' + i && got[i * 150] == 'a' + i);
		CHECK(ntohs(from.in.sin_port) == 7001 + i % 2);
	}
	CHECK(recv(s, got, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	return 0;
}
