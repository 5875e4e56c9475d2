/* SPDX-License-Identifier: Apache-2.0 */
/* Options of sockets in general. */
#include "net.h"

static const struct {
	int level, name, value;
} options[] = {
	{ SOL_SOCKET, SO_RCVLOWAT, 17 }, { SOL_SOCKET, SO_OOBINLINE, 1 },
	{ SOL_SOCKET, SO_DONTROUTE, 1 }, { SOL_SOCKET, SO_TIMESTAMPNS, 1 },
	{ SOL_SOCKET, SO_BUSY_POLL, 0 }, { SOL_SOCKET, SO_REUSEADDR, 0 },
};

int main(int argc, char **argv)
{
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		net_set(a, options[i].level, options[i].name, options[i].value);
	object_move();
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		CHECK(net_int(a, options[i].level, options[i].name) == options[i].value,
		      "option %d is %d", options[i].name,
		      net_int(a, options[i].level, options[i].name));
	net_works(a, b);
	return 0;
}
