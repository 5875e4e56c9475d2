/* SPDX-License-Identifier: Apache-2.0 */
/* TCP_USER_TIMEOUT. */
#include "net.h"

static const struct {
	int level, name, value;
} options[] = {
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, 12345 },
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
