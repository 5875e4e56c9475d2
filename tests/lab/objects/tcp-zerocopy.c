/* SPDX-License-Identifier: Apache-2.0 */
/* SO_ZEROCOPY: its notices cannot be carried. */
/* refused: SO_ZEROCOPY */
#include "net.h"

int main(int argc, char **argv)
{
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	net_set(a, SOL_SOCKET, SO_ZEROCOPY, 1);
	object_move();
	net_works(a, b);
	return 0;
}
