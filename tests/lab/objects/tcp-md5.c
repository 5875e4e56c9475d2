/* SPDX-License-Identifier: Apache-2.0 */
/* A socket with MD5 keys, which nobody can read. */
/* docker: --cap-add NET_ADMIN */
/* refused: MD5 */
#include "net.h"

int main(int argc, char **argv)
{
	struct tcp_md5sig k = { .tcpm_keylen = 6 };
	union net_address at;
	int l;

	object_init(argc, argv);
	net_at(&at, "127.0.0.9", 0);
	memcpy(&k.tcpm_addr, &at.in, sizeof(at.in));
	memcpy(k.tcpm_key, "secret", 6);
	l = net_socket(SOCK_STREAM, "127.0.0.1", 7000);
	CHECK(setsockopt(l, IPPROTO_TCP, TCP_MD5SIG, &k, sizeof(k)) == 0);
	CHECK(listen(l, 5) == 0);
	object_move();
	net_dial("127.0.0.1", 7000);
	return 0;
}
