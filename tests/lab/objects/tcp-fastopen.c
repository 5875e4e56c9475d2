/* SPDX-License-Identifier: Apache-2.0 */
/* TCP_FASTOPEN: length of the queue of a listener. */
#include "net.h"

static const struct {
	int level, name, value;
} options[] = {
	{ IPPROTO_TCP, TCP_FASTOPEN, 5 },
};

int main(int argc, char **argv)
{
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		net_set(l, options[i].level, options[i].name, options[i].value);
	object_move();
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		CHECK(net_int(l, options[i].level, options[i].name) == options[i].value,
		      "option %d is %d", options[i].name,
		      net_int(l, options[i].level, options[i].name));
	net_works(a, b);
	return 0;
}
