/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that were never connected: bound and not. */
#include "net.h"

int main(int argc, char **argv)
{
	int bound, fresh, l, a, b;
	union net_address at;
	socklen_t len = sizeof(at);

	object_init(argc, argv);
	bound = net_socket(SOCK_STREAM, "127.0.0.1", 7000);
	fresh = socket(AF_INET, SOCK_STREAM, 0);
	object_move();
	CHECK(getsockname(bound, &at.sa, &len) == 0 && ntohs(at.in.sin_port) == 7000);
	CHECK(recv(fresh, &l, 1, MSG_DONTWAIT) < 0 && errno == ENOTCONN);
	CHECK(listen(bound, 5) == 0);
	len = net_at(&at, "127.0.0.1", 7000);
	CHECK(connect(fresh, &at.sa, len) == 0);
	a = fresh;
	b = accept(bound, NULL, NULL);
	CHECK(b >= 0);
	net_works(a, b);
	return 0;
}
