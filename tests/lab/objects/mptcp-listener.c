/* SPDX-License-Identifier: Apache-2.0 */
/* A listener that would take several paths (as Go has them), and plain connections of it. */
#include "net.h"

int main(int argc, char **argv)
{
	union net_address at;
	socklen_t len = net_at(&at, "127.0.0.1", 7000);
	int l, a, b;

	object_init(argc, argv);
	l = socket(AF_INET, SOCK_STREAM, 262 /* IPPROTO_MPTCP */);
	if (l < 0 && (errno == EPROTONOSUPPORT || errno == ENOPROTOOPT))
		l = socket(AF_INET, SOCK_STREAM, 0); /* not in this kernel: as Go does */
	CHECK(l >= 0);
	CHECK(bind(l, &at.sa, len) == 0 && listen(l, 5) == 0);
	a = net_dial("127.0.0.1", 7000);
	b = accept(l, NULL, NULL);
	net_send(a, 1, 0, 3000);
	object_move();
	net_recv(b, 1, 0, 3000);
	net_works(a, b);
	a = net_dial("127.0.0.1", 7000);
	net_works(a, accept(l, NULL, NULL));
	return 0;
}
