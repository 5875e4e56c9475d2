/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that were received and not read, in both directions. */
#include "net.h"

int main(int argc, char **argv)
{
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	net_send(a, 1, 0, 40000);
	net_send(b, 2, 0, 3000);
	object_move();
	net_recv(b, 1, 0, 40000);
	net_recv(a, 2, 0, 3000);
	net_works(a, b);
	return 0;
}
