/* SPDX-License-Identifier: Apache-2.0 */
/* TCP_DEFER_ACCEPT of a listener. */
#include "net.h"

static const struct net_option options[] = {
	{ IPPROTO_TCP, TCP_DEFER_ACCEPT, 3 },
};

int main(int argc, char **argv)
{
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	net_options_set(l, options, sizeof(options) / sizeof(options[0]));
	object_move();
	net_options_hold(l, options, sizeof(options) / sizeof(options[0]));
	net_works(a, b);
	return 0;
}
