/* SPDX-License-Identifier: Apache-2.0 */
/* Full send and receive queues in both directions: nobody may send any more. */
#include "net.h"

int main(int argc, char **argv)
{
	int l, a, b;
	size_t there, back;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	there = net_send(a, 1, 0, 0);
	back = net_send(b, 2, 0, 0);
	object_move();
	net_recv(b, 1, 0, there);
	net_recv(a, 2, 0, back);
	net_works(a, b);
	return 0;
}
