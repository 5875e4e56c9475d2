/* SPDX-License-Identifier: Apache-2.0 */
/* A program that distributes the connections of a SO_REUSEPORT group. */
/* refused: SO_ATTACH_REUSEPORT */
#include <linux/filter.h>

#include "net.h"

int main(int argc, char **argv)
{
	struct sock_filter f[] = { { BPF_RET | BPF_K, 0, 0, 1 } };
	struct sock_fprog p = { 1, f };
	int l[2], a;

	object_init(argc, argv);
	for (int i = 0; i < 2; i++) {
		union net_address at;
		socklen_t len = net_at(&at, "127.0.0.1", 7000);

		l[i] = socket(AF_INET, SOCK_STREAM, 0);
		net_set(l[i], SOL_SOCKET, SO_REUSEPORT, 1);
		CHECK(bind(l[i], &at.sa, len) == 0 && listen(l[i], 5) == 0);
	}
	CHECK(setsockopt(l[0], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &p, sizeof(p)) == 0);
	object_move();
	a = net_dial("127.0.0.1", 7000);
	net_works(a, accept(l[1], NULL, NULL));
	return 0;
}
