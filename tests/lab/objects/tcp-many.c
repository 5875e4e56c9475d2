/* SPDX-License-Identifier: Apache-2.0 */
/* Four thousand connections in one process. */
/* docker: --ulimit nofile=8192:8192 */
#include "net.h"

int main(int argc, char **argv)
{
	enum { N = 2000 };
	static int a[N], b[N];
	int l;

	object_init(argc, argv);
	l = net_listen("127.0.0.1", 7000, 64);
	for (int i = 0; i < N; i++) {
		a[i] = net_dial("127.0.0.1", 7000);
		b[i] = accept(l, NULL, NULL);
		CHECK(b[i] >= 0);
		if (i % 7 == 0)
			net_send(a[i], (unsigned int)i, 0, 100);
	}
	object_move();
	for (int i = 0; i < N; i++) {
		if (i % 7 == 0)
			net_recv(b[i], (unsigned int)i, 0, 100);
		net_send(b[i], (unsigned int)i, 0, 10);
		net_recv(a[i], (unsigned int)i, 0, 10);
	}
	return 0;
}
