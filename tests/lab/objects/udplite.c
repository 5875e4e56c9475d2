/* SPDX-License-Identifier: Apache-2.0 */
/* A UDP-Lite socket with its coverage. */
#include "net.h"

int main(int argc, char **argv)
{
	int s;

	object_init(argc, argv);
	s = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE);
	if (s < 0 && errno == EPROTONOSUPPORT) /* removed from the kernel in 2025 */
		s = -2;
	if (s >= 0)
		net_set(s, IPPROTO_UDPLITE, 10 /* UDPLITE_SEND_CSCOV */, 20);
	object_move();
	CHECK(s == -2 || net_int(s, IPPROTO_UDPLITE, 10) == 20);
	return 0;
}
