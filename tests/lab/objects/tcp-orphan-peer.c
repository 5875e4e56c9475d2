/* SPDX-License-Identifier: Apache-2.0 */
/* Closed with an unread answer on its way to another host, whose client reads it all. */
/* peer */
/* moves: live */
#include "net.h"

static int peer(void)
{
	union net_address from;
	socklen_t len = sizeof(from);
	char ip[64], byte;
	size_t n;
	int l = net_listen("0.0.0.0", 7001, 5), k, c;

	object_ready();
	k = accept(l, &from.sa, &len);
	CHECK(k >= 0 && recv(k, &byte, 1, 0) == 1);
	CHECK(inet_ntop(AF_INET, &from.in.sin_addr, ip, sizeof(ip)));
	c = net_dial(ip, 7000);
	k = accept(l, NULL, NULL);
	CHECK(k >= 0 && recv(k, &n, sizeof(n), MSG_WAITALL) == sizeof(n));
	net_recv(c, 5, 0, n);
	net_end(c);
	return 0;
}

int main(int argc, char **argv)
{
	union net_address at;
	int l, s, k = 0;
	size_t n;

	object_init(argc, argv);
	if (object_is_peer)
		return peer();
	l = net_listen("0.0.0.0", 7000, 5);
	net_send(net_dial(object_peer(), 7001), 0, 0, 1);
	s = accept(l, NULL, NULL);
	CHECK(s >= 0);
	n = net_send(s, 5, 0, 0);
	CHECK(n > 100000);
	CHECK(close(s) == 0);
	/* how much it was, and that it may read, goes over a connection of its own */
	k = net_dial(object_peer(), 7001);
	object_move();
	CHECK(send(k, &n, sizeof(n), MSG_NOSIGNAL) == sizeof(n));
	net_end(k);
	(void)at;
	return 0;
}
