/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that wait to be accepted: empty, with data, with data and the end. */
#include "net.h"

int main(int argc, char **argv)
{
	int l, a[30], b;

	object_init(argc, argv);
	l = net_listen("127.0.0.1", 7000, 64);
	for (int i = 0; i < 30; i++) {
		a[i] = net_dial("127.0.0.1", 7000);
		if (i % 3)
			net_send(a[i], (unsigned int)i, 0, 1000);
		if (i % 3 == 2)
			CHECK(shutdown(a[i], SHUT_WR) == 0);
	}
	object_move();
	for (int i = 0; i < 30; i++) {
		b = accept(l, NULL, NULL);
		CHECK(b >= 0);
		if (i % 3)
			net_recv(b, (unsigned int)i, 0, 1000);
		if (i % 3 == 2)
			net_end(b);
		else
			net_works(a[i], b);
		net_send(b, 4, 0, 100);
		net_recv(a[i], 4, 0, 100);
	}
	return 0;
}
