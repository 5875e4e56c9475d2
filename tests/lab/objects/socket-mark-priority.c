/* SPDX-License-Identifier: Apache-2.0 */
/* SO_MARK and SO_PRIORITY. */
/* docker: --cap-add NET_ADMIN */
#include "net.h"

static const struct net_option options[] = {
	{ SOL_SOCKET, SO_MARK, 42 },
	{ SOL_SOCKET, SO_PRIORITY, 5 },
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
