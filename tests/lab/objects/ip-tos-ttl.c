/* SPDX-License-Identifier: Apache-2.0 */
/* Type of service and time to live of a connection. */
#include "net.h"

static const struct {
	int level, name, value;
} options[] = {
	{ IPPROTO_IP, IP_TOS, 0x28 },
	{ IPPROTO_IP, IP_TTL, 33 },
	{ IPPROTO_IP, IP_MTU_DISCOVER, 3 },
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
