/* SPDX-License-Identifier: Apache-2.0 */
/* Type of service and time to live of a connection. */
#include "net.h"

static const struct net_option options[] = {
	{ IPPROTO_IP, IP_TOS, 0x28 },
	{ IPPROTO_IP, IP_TTL, 33 },
	{ IPPROTO_IP, IP_MTU_DISCOVER, 3 },
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
