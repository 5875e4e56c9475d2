/* SPDX-License-Identifier: Apache-2.0 */
/* A packet socket with a ring in memory that it shares with the kernel. */
/* refused: PACKET_RX_RING */
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include "net.h"

int main(int argc, char **argv)
{
	struct tpacket_req q = { 4096, 4, 2048, 8 };
	int s;

	object_init(argc, argv);
	s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	CHECK(s >= 0);
	CHECK(setsockopt(s, SOL_PACKET, PACKET_RX_RING, &q, sizeof(q)) == 0);
	object_move();
	return 0;
}
