/* SPDX-License-Identifier: Apache-2.0 */
/* A SO_REUSEPORT group: every member gets its share. */
#include "net.h"

int main(int argc, char **argv)
{
	int l[4], seen = 0, a[64];

	object_init(argc, argv);
	for (int i = 0; i < 4; i++) {
		union net_address at;
		socklen_t len = net_at(&at, "127.0.0.1", 7000);

		l[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		net_set(l[i], SOL_SOCKET, SO_REUSEPORT, 1);
		CHECK(bind(l[i], &at.sa, len) == 0 && listen(l[i], 64) == 0);
	}
	object_move();
	for (int i = 0; i < 64; i++)
		a[i] = net_dial("127.0.0.1", 7000);
	for (int i = 0; i < 4; i++)
		for (int c; (c = accept(l[i], NULL, NULL)) >= 0; close(c))
			seen |= 1 << i;
	CHECK(seen == 15, "only %#x got connections", seen);
	close(a[0]);
	return 0;
}
