/* SPDX-License-Identifier: Apache-2.0 */
/* Keep-alive: that it is on, and its three times. */
#include "net.h"

static const struct net_option options[] = {
	{ SOL_SOCKET, SO_KEEPALIVE, 1 },
	{ IPPROTO_TCP, TCP_KEEPIDLE, 77 },
	{ IPPROTO_TCP, TCP_KEEPINTVL, 33 },
	{ IPPROTO_TCP, TCP_KEEPCNT, 4 },
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
