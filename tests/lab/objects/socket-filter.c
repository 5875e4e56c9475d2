/* SPDX-License-Identifier: Apache-2.0 */
/* A classic packet filter of a datagram socket, and that it is locked. */
#include <linux/filter.h>

#include "net.h"

int main(int argc, char **argv)
{
	/* accepts what begins with an x (behind the UDP header) */
	struct sock_filter f[] = { { BPF_LD | BPF_B | BPF_ABS, 0, 0, 8 },
				   { BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 'x' },
				   { BPF_RET | BPF_K, 0, 0, 0xffff },
				   { BPF_RET | BPF_K, 0, 0, 0 } };
	struct sock_fprog p = { 4, f };
	union net_address at;
	socklen_t len;
	char got[4] = "";
	int s, c;

	object_init(argc, argv);
	s = net_socket(SOCK_DGRAM, "127.0.0.1", 7000);
	CHECK(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof(p)) == 0);
	net_set(s, SOL_SOCKET, SO_LOCK_FILTER, 1);
	object_move();
	len = net_at(&at, "127.0.0.1", 7000);
	c = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(sendto(c, "no", 2, 0, &at.sa, len) == 2);
	CHECK(sendto(c, "xyz", 3, 0, &at.sa, len) == 3);
	CHECK(recv(s, got, sizeof(got), 0) == 3 && memcmp(got, "xyz", 3) == 0);
	CHECK(setsockopt(s, SOL_SOCKET, SO_DETACH_FILTER, &c, sizeof(c)) < 0 && errno == EPERM);
	return 0;
}
