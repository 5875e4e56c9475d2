/* SPDX-License-Identifier: Apache-2.0 */
/* An answer of the kernel that was read only in part. */
/* refused: messages of the kernel wait */
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "net.h"

static int links(int s)
{
	struct {
		struct nlmsghdr h;
		struct rtgenmsg g;
	} q = { { sizeof(q), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 5, 0 }, { AF_UNSPEC } };

	return send(s, &q, sizeof(q), 0) == sizeof(q) ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct sockaddr_nl at = { .nl_family = AF_NETLINK };
	static char got[65536];
	int s;

	object_init(argc, argv);
	s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	CHECK(s >= 0 && bind(s, (struct sockaddr *)&at, sizeof(at)) == 0);
	CHECK(links(s) == 0);
	object_move();
	CHECK(recv(s, got, sizeof(got), 0) > 0 && ((struct nlmsghdr *)(void *)got)->nlmsg_seq == 5);
	return 0;
}
