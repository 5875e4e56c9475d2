/* SPDX-License-Identifier: Apache-2.0 */
/* A route socket with a number and groups, which can ask on. */
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
	struct sockaddr_nl at = { .nl_family = AF_NETLINK,
				  .nl_pid = 4711,
				  .nl_groups = RTMGRP_LINK };
	unsigned int groups = 0;
	socklen_t len = sizeof(at);
	static char got[65536];
	struct nlmsghdr *h = (void *)got;
	int s;

	object_init(argc, argv);
	s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	CHECK(s >= 0 && bind(s, (struct sockaddr *)&at, sizeof(at)) == 0);
	net_set(s, SOL_NETLINK, NETLINK_EXT_ACK, 1);
	object_move();
	memset(&at, 0, sizeof(at));
	CHECK(getsockname(s, (struct sockaddr *)&at, &len) == 0);
	CHECK(at.nl_pid == 4711 && at.nl_groups == RTMGRP_LINK);
	len = sizeof(groups);
	CHECK(getsockopt(s, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, &groups, &len) == 0 &&
	      groups == 1);
	CHECK(net_int(s, SOL_NETLINK, NETLINK_EXT_ACK) == 1);
	CHECK(links(s) == 0);
	do
		CHECK(recv(s, got, sizeof(got), 0) > 0);
	while (h->nlmsg_seq != 5);
	CHECK(h->nlmsg_type == RTM_NEWLINK && h->nlmsg_pid == 4711);
	return 0;
}
