/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packet sockets (DHCP clients, ARP daemons): protocol, interface by name, classic filter,
 * promiscuous and all-multicast memberships. Rings are memory shared with the kernel, and
 * fanout groups have numbers of this host: both are refused. Packets that wait are lost,
 * as a full queue would lose them. What no getsockopt() tells is asked of sock_diag.
 */
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/netlink.h>
#include <linux/packet_diag.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netpacket/packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/sock_common.h"

struct details {
	bool found, rings, fanout, special; /* special: other memberships */
	bool promiscuous, allmulti;
};

static bool packet_claims(const struct ofd *o)
{
	struct sock_kind k;

	return sock_kind(o, &k) && k.family == AF_PACKET &&
	       (k.type == SOCK_RAW || k.type == SOCK_DGRAM);
}

static void take_memberships(const struct rtattr *a, struct details *t)
{
	const struct packet_diag_mclist *l = RTA_DATA(a);

	for (size_t i = 0; i < RTA_PAYLOAD(a) / sizeof(*l); i++) {
		if (l[i].pdmc_type == PACKET_MR_PROMISC)
			t->promiscuous = true;
		else if (l[i].pdmc_type == PACKET_MR_ALLMULTI)
			t->allmulti = true;
		else
			t->special = true;
	}
}

static void take_message(const struct nlmsghdr *h, ino_t ino, struct details *t)
{
	const struct packet_diag_msg *m = NLMSG_DATA(h);
	const struct rtattr *a = (const struct rtattr *)(m + 1);
	int left = (int)h->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*m));

	if (m->pdiag_ino != ino)
		return;
	t->found = true;
	for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
		switch (a->rta_type) {
		case PACKET_DIAG_RX_RING:
		case PACKET_DIAG_TX_RING:
			t->rings = true;
			break;
		case PACKET_DIAG_FANOUT:
			t->fanout = true;
			break;
		case PACKET_DIAG_MCLIST:
			take_memberships(a, t);
			break;
		}
}

static int diag_open(void *arg)
{
	int *fd = arg;

	*fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	return *fd < 0 ? -errno : 0;
}

static int packet_details(struct dump *d, const struct ofd *o, struct details *t, struct error *err)
{
	struct {
		struct nlmsghdr h;
		struct packet_diag_req r;
	} q = { { sizeof(q), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 },
		{ .sdiag_family = AF_PACKET,
		  .pdiag_show = PACKET_SHOW_INFO | PACKET_SHOW_MCLIST | PACKET_SHOW_RING_CFG |
				PACKET_SHOW_FANOUT } };
	CLEANUP_CLOSE int fd = -1;
	CLEANUP_FREE char *buf = mem_zalloc(65536);
	int n = d ? dump_in_netns(d, diag_open, &fd, err) : diag_open(&fd);

	memset(t, 0, sizeof(*t));
	if (n < 0)
		return error_sys(err, -n, "opening sock_diag");
	if (send(fd, &q, sizeof(q), 0) < 0)
		return error_sys(err, errno, "asking sock_diag");
	for (;;) {
		ssize_t got = recv(fd, buf, 65536, 0);

		if (got < 0)
			return error_sys(err, errno, "reading sock_diag");
		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, (size_t)got);
		     h = NLMSG_NEXT(h, got)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return error_set(err, ENOTSUP,
						 "sock_diag knows no packet sockets here");
			take_message(h, o->st.st_ino, t);
		}
	}
}

static const char *packet_obstacle(const struct details *t, const char **remedy)
{
	*remedy = "stop the program that captures packets before the migration";
	if (!t->found)
		return "its state cannot be read";
	if (t->rings)
		return "it has a ring shared with the kernel (PACKET_RX_RING or PACKET_TX_RING)";
	if (t->fanout)
		return "it belongs to a fanout group";
	if (t->special)
		return "it has joined link-layer addresses";
	return NULL;
}

static int packet_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	struct details t;
	struct error err = { 0 };
	const char *why, *remedy = "stop the program";

	why = packet_details(d, o, &t, &err) < 0 ? err.msg : packet_obstacle(&t, &remedy);
	if (why)
		obj_obstacle(out, o, "packet socket", why, remedy);
	sock_common_check(d, o, out);
	return 0;
}

static int packet_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cks__Packet m = CKS__PACKET__INIT;
	struct sockaddr_ll a = { 0 };
	socklen_t len = sizeof(a);
	CLEANUP_FREE char *name = NULL;
	const char *remedy = NULL, *why;
	struct details t;
	int n = packet_details(d, o, &t, err);

	if (n < 0)
		return n;
	why = packet_obstacle(&t, &remedy);
	if (why)
		return error_set(err, ENOTSUP, "%s; %s", why, remedy);
	n = sock_common_dump(d, o, false, &m.common, err);
	if (n == 0 && getsockname(o->fd, (struct sockaddr *)&a, &len) < 0)
		n = error_sys(err, errno, "getsockname");
	if (n == 0) {
		m.ethertype = ntohs(a.sll_protocol);
		if (a.sll_ifindex)
			m.interface = name = sock_ifname(o->fd, a.sll_ifindex);
		if (a.sll_ifindex && !name)
			n = error_set(err, ENODEV, "its interface is gone");
		m.promiscuous = t.promiscuous;
		m.allmulti = t.allmulti;
	}
	if (n == 0)
		obj_pack(&m.base, body);
	sock_common_free(m.common);
	return n;
}

static int join(int fd, int index, int type, struct error *err)
{
	struct packet_mreq q = { .mr_ifindex = index, .mr_type = (unsigned short)type };

	if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &q, sizeof(q)) < 0)
		return error_sys(err, errno, "PACKET_ADD_MEMBERSHIP");
	return 0;
}

static int packet_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			  struct error *err)
{
	CLEANUP_MSG Cks__Packet *m = obj_unpack(&cks__packet__descriptor, body, len, err);
	CLEANUP_CLOSE int s = -1;
	struct sockaddr_ll a = { .sll_family = AF_PACKET };
	int n, index = 0;

	(void)id;
	if (!m)
		return -EBADMSG;
	if (!m->common)
		return error_set(err, EBADMSG, "a socket came incomplete");
	/* protocol 0 first: nothing may arrive before the filter is there */
	m->common->protocol = 0;
	n = sock_common_make(r, m->common, &s, err);
	if (n == 0)
		n = sock_common_finish(s, m->common, err);
	if (n < 0)
		return n;
	if (*m->interface) {
		index = sock_ifindex(s, m->interface);
		if (index < 0)
			return error_set(err, ENODEV, "there is no interface %s here",
					 m->interface);
	}
	a.sll_protocol = htons((uint16_t)m->ethertype);
	a.sll_ifindex = index;
	if (m->ethertype && bind(s, (struct sockaddr *)&a, sizeof(a)) < 0)
		return error_sys(err, errno, "binding a packet socket");
	if (m->promiscuous)
		n = join(s, index, PACKET_MR_PROMISC, err);
	if (n == 0 && m->allmulti)
		n = join(s, index, PACKET_MR_ALLMULTI, err);
	if (n < 0)
		return n;
	*fd = TAKE_FD(s);
	return 0;
}

static int packet_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
		       struct error *err)
{
	CLEANUP_MSG Cks__Packet *m = obj_unpack(&cks__packet__descriptor, body, len, err);

	(void)fd;
	if (!m)
		return -EBADMSG;
	return obj_owner_late(r, id, m->common->owner, err);
}

const struct object_type sock_type_packet = {
	.type = "packet",
	.claims = packet_claims,
	.check = packet_check,
	.dump = packet_dump,
	.restore = packet_restore,
	.late = packet_late,
};
