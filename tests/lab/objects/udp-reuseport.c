/* SPDX-License-Identifier: Apache-2.0 */
/* Two datagram sockets on one port. */
#include "net.h"

int main(int argc, char **argv)
{
	union net_address at;
	socklen_t len;
	char got[10];
	int s[2], seen = 0;

	object_init(argc, argv);
	len = net_at(&at, "127.0.0.1", 7000);
	for (int i = 0; i < 2; i++) {
		s[i] = socket(AF_INET, SOCK_DGRAM, 0);
		net_set(s[i], SOL_SOCKET, SO_REUSEPORT, 1);
		CHECK(bind(s[i], &at.sa, len) == 0);
	}
	object_move();
	for (int i = 0; i < 64; i++) {
		int c = socket(AF_INET, SOCK_DGRAM, 0);

		CHECK(sendto(c, "x", 1, 0, &at.sa, len) == 1);
		close(c);
	}
	usleep(100000);
	for (int i = 0; i < 2; i++)
		while (recv(s[i], got, sizeof(got), MSG_DONTWAIT) > 0)
			seen |= 1 << i;
	CHECK(seen == 3, "only %#x got datagrams", seen);
	return 0;
}
