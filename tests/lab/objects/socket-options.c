/* SPDX-License-Identifier: Apache-2.0 */
/* Options of sockets in general. */
#include "net.h"

static const struct net_option options[] = {
	{ SOL_SOCKET, SO_RCVLOWAT, 17 }, { SOL_SOCKET, SO_OOBINLINE, 1 },
	{ SOL_SOCKET, SO_DONTROUTE, 1 }, { SOL_SOCKET, SO_TIMESTAMPNS, 1 },
	{ SOL_SOCKET, SO_BUSY_POLL, 0 }, { SOL_SOCKET, SO_REUSEADDR, 0 },
};

int main(int argc, char **argv)
{
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	net_options_set(a, options, sizeof(options) / sizeof(options[0]));
	object_move();
	net_options_hold(a, options, sizeof(options) / sizeof(options[0]));
	net_works(a, b);
	return 0;
}
