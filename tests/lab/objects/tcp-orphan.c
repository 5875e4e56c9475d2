/* SPDX-License-Identifier: Apache-2.0 */
/* A server answered and closed its descriptor; the kernel still has most of the answer. */
#include "net.h"

int main(int argc, char **argv)
{
	int l, a[8], b;
	size_t n[8];

	object_init(argc, argv);
	l = net_listen("127.0.0.1", 7000, 16);
	for (int i = 0; i < 8; i++) {
		a[i] = net_dial("127.0.0.1", 7000);
		b = accept(l, NULL, NULL);
		CHECK(b >= 0);
		if (i % 2) /* LAST_ACK, else FIN_WAIT1 */
			CHECK(shutdown(a[i], SHUT_WR) == 0);
		n[i] = net_send(b, (unsigned int)i, 0, 0);
		CHECK(n[i] > 100000);
		CHECK(close(b) == 0);
	}
	object_move();
	for (int i = 0; i < 8; i++) {
		net_recv(a[i], (unsigned int)i, 0, n[i]);
		net_end(a[i]);
	}
	return 0;
}
