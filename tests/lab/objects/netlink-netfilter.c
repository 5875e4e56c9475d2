/* SPDX-License-Identifier: Apache-2.0 */
/* A socket of the packet filter, which may hold packets of this host. */
/* refused: netfilter queue */
#include <linux/netlink.h>

#include "net.h"

int main(int argc, char **argv)
{
	int s;

	object_init(argc, argv);
	s = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
	CHECK(s >= 0);
	object_move();
	return 0;
}
