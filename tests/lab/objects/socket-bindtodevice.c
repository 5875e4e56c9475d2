/* SPDX-License-Identifier: Apache-2.0 */
/* SO_BINDTODEVICE of a listener and a datagram socket. */
/* docker: --cap-add NET_ADMIN */
#include "net.h"

int main(int argc, char **argv)
{
	char name[16] = "";
	socklen_t len = sizeof(name);
	int l, u;

	object_init(argc, argv);
	l = net_socket(SOCK_STREAM, "0.0.0.0", 7000);
	CHECK(setsockopt(l, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2) == 0);
	CHECK(listen(l, 5) == 0);
	u = net_socket(SOCK_DGRAM, "0.0.0.0", 7000);
	CHECK(setsockopt(u, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2) == 0);
	object_move();
	CHECK(getsockopt(l, SOL_SOCKET, SO_BINDTODEVICE, name, &len) == 0 &&
	      strcmp(name, "lo") == 0);
	len = sizeof(name);
	CHECK(getsockopt(u, SOL_SOCKET, SO_BINDTODEVICE, name, &len) == 0 &&
	      strcmp(name, "lo") == 0);
	net_dial("127.0.0.1", 7000);
	CHECK(accept(l, NULL, NULL) >= 0);
	return 0;
}
