/* SPDX-License-Identifier: Apache-2.0 */
/* A side that said it will read no more. */
#include "net.h"

int main(int argc, char **argv)
{
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	CHECK(shutdown(a, SHUT_RD) == 0);
	object_move();
	CHECK(recv(a, &l, 1, 0) == 0);
	net_send(a, 1, 0, 1000);
	net_recv(b, 1, 0, 1000);
	return 0;
}
