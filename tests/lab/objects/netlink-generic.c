/* SPDX-License-Identifier: Apache-2.0 */
/* A generic netlink socket, an uevent and a sock_diag one. */
#include <linux/netlink.h>

#include "net.h"

int main(int argc, char **argv)
{
	static const int families[] = { NETLINK_GENERIC, NETLINK_KOBJECT_UEVENT,
					NETLINK_SOCK_DIAG };
	int s[3];

	object_init(argc, argv);
	for (int i = 0; i < 3; i++) {
		s[i] = socket(AF_NETLINK, SOCK_RAW, families[i]);
		CHECK(s[i] >= 0);
	}
	object_move();
	for (int i = 0; i < 3; i++) {
		struct sockaddr_nl at = { .nl_family = AF_NETLINK };

		CHECK(net_int(s[i], SOL_SOCKET, SO_PROTOCOL) == families[i]);
		CHECK(bind(s[i], (struct sockaddr *)&at, sizeof(at)) == 0);
	}
	return 0;
}
