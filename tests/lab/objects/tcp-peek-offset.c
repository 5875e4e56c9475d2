/* SPDX-License-Identifier: Apache-2.0 */
/* SO_PEEK_OFF: peeking goes on where it was. */
#include "net.h"

int main(int argc, char **argv)
{
	char got[3];
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	CHECK(send(a, "abcdefgh", 8, 0) == 8);
	net_set(b, SOL_SOCKET, SO_PEEK_OFF, 0);
	CHECK(net_poll(b, POLLIN, 10000) & POLLIN);
	CHECK(recv(b, got, 3, MSG_PEEK) == 3);
	object_move();
	CHECK(recv(b, got, 3, MSG_PEEK) == 3 && memcmp(got, "def", 3) == 0);
	CHECK(recv(b, got, 3, 0) == 3 && memcmp(got, "abc", 3) == 0);
	return 0;
}
