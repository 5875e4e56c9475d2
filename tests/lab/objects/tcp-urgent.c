/* SPDX-License-Identifier: Apache-2.0 */
/* Urgent data that waits: its place in the stream cannot be set. */
/* refused: urgent data waits to be read */
#include "net.h"

int main(int argc, char **argv)
{
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	CHECK(send(a, "!", 1, MSG_OOB) == 1);
	CHECK(net_poll(b, POLLPRI, 10000) & POLLPRI);
	object_move();
	CHECK(recv(b, &l, 1, MSG_OOB) == 1);
	net_works(a, b);
	return 0;
}
