/* SPDX-License-Identifier: Apache-2.0 */
/* A packet socket of a fanout group. */
/* refused: fanout */
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include "net.h"

int main(int argc, char **argv)
{
	int s;

	object_init(argc, argv);
	s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	CHECK(s >= 0);
	net_set(s, SOL_PACKET, PACKET_FANOUT, 7);
	object_move();
	return 0;
}
