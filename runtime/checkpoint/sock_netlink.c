/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Netlink sockets: port id, multicast groups, options. Families whose sockets hold state in
 * the kernel (queues of netfilter, IPsec) are refused, and so are generic netlink groups,
 * whose numbers differ between hosts. Messages that wait cannot be put back: the dump
 * fails and the source goes on; they are read within moments, so a second try works.
 */
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/sock_common.h"

static bool netlink_claims(const struct ofd *o)
{
	struct sock_kind k;

	return sock_kind(o, &k) && k.family == AF_NETLINK;
}

/* Groups that the socket is a member of; caller frees. */
static size_t netlink_groups(int fd, uint32_t **out)
{
	uint32_t bits[64] = { 0 };
	socklen_t len = sizeof(bits);
	size_t n = 0;

	*out = NULL;
	if (getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, bits, &len) < 0)
		return 0;
	for (uint32_t i = 0; i < sizeof(bits) * 8; i++)
		if (bits[i / 32] & 1u << (i % 32)) {
			*out = mem_grow(*out, n + 1, sizeof(**out));
			(*out)[n++] = i + 1;
		}
	return n;
}

static const char *netlink_obstacle(int fd, const char **remedy)
{
	CLEANUP_FREE uint32_t *groups = NULL;
	int protocol = sock_opt_int(fd, SOL_SOCKET, SO_PROTOCOL, -1);
	size_t n = netlink_groups(fd, &groups);

	*remedy = "stop the program that uses it before the migration";
	switch (protocol) {
	case NETLINK_ROUTE:
	case NETLINK_KOBJECT_UEVENT:
	case NETLINK_SOCK_DIAG:
	case NETLINK_AUDIT:
		return NULL;
	case NETLINK_GENERIC:
		for (size_t i = 0; i < n; i++)
			if (groups[i] != GENL_ID_CTRL)
				return "it listens to a group whose number differs between hosts";
		return NULL;
	case NETLINK_NETFILTER:
		if (n)
			return "it listens to events of this host's packet filter";
		return "it may hold packets of a netfilter queue";
	default:
		return "sockets of this netlink family hold state of this host's kernel";
	}
}

static int netlink_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	const char *remedy = NULL, *why = netlink_obstacle(o->fd, &remedy);
	char name[60];

	snprintf(name, sizeof(name), "netlink socket of family %d",
		 sock_opt_int(o->fd, SOL_SOCKET, SO_PROTOCOL, -1));
	if (!why && sock_stays(o->fd, POLLIN)) {
		why = "messages of the kernel wait to be read, and nobody reads them";
		remedy = "let the program read them, or close it";
	}
	if (why)
		obj_obstacle(out, o, name, why, remedy);
	sock_common_check(d, o, out);
	return 0;
}

static int netlink_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cks__Netlink m = CKS__NETLINK__INIT;
	const char *remedy = NULL, *why = netlink_obstacle(o->fd, &remedy);
	struct pollfd p = { .fd = o->fd, .events = POLLIN };
	struct sockaddr_nl a = { 0 };
	socklen_t len = sizeof(a);
	int n;

	if (why)
		return error_set(err, ENOTSUP, "%s; %s", why, remedy);
	if (poll(&p, 1, 0) > 0 && (p.revents & POLLIN))
		return error_set(
			err, EAGAIN,
			"messages of the kernel wait to be read from a netlink socket; try again");
	n = sock_common_dump(d, o, false, &m.common, err);
	if (n == 0 && getsockname(o->fd, (struct sockaddr *)&a, &len) == 0) {
		m.portid = a.nl_pid;
		m.bound = a.nl_pid != 0;
	}
	len = sizeof(a);
	if (n == 0 && getpeername(o->fd, (struct sockaddr *)&a, &len) == 0) {
		m.connected = a.nl_pid || a.nl_groups;
		m.peer_portid = a.nl_pid;
		m.peer_groups = a.nl_groups;
	}
	m.n_groups = netlink_groups(o->fd, &m.groups);
	if (n == 0)
		obj_pack(&m.base, body);
	free(m.groups);
	sock_common_free(m.common);
	return n;
}

static int netlink_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			   struct error *err)
{
	CLEANUP_MSG Cks__Netlink *m = obj_unpack(&cks__netlink__descriptor, body, len, err);
	CLEANUP_CLOSE int s = -1;
	struct sockaddr_nl a = { .nl_family = AF_NETLINK };
	int n;

	(void)id;
	if (!m)
		return -EBADMSG;
	if (!m->common)
		return error_set(err, EBADMSG, "a socket came incomplete");
	n = sock_common_make(r, m->common, &s, err);
	if (n < 0)
		return n;
	a.nl_pid = m->portid;
	if (m->bound && bind(s, (struct sockaddr *)&a, sizeof(a)) < 0)
		return error_sys(err, errno, "binding a netlink socket to %u", m->portid);
	for (size_t i = 0; i < m->n_groups; i++)
		if (sock_opt_set(s, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, (int)m->groups[i]) < 0)
			return error_sys(err, errno, "joining netlink group %u", m->groups[i]);
	a.nl_pid = m->peer_portid;
	a.nl_groups = m->peer_groups;
	if (m->connected && connect(s, (struct sockaddr *)&a, sizeof(a)) < 0)
		return error_sys(err, errno, "connecting a netlink socket");
	n = sock_common_finish(s, m->common, err);
	if (n < 0)
		return n;
	*fd = TAKE_FD(s);
	return 0;
}

static int netlink_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
			struct error *err)
{
	CLEANUP_MSG Cks__Netlink *m = obj_unpack(&cks__netlink__descriptor, body, len, err);

	(void)fd;
	if (!m)
		return -EBADMSG;
	return obj_owner_late(r, id, m->common->owner, err);
}

const struct object_type sock_type_netlink = {
	.type = "netlink",
	.claims = netlink_claims,
	.check = netlink_check,
	.dump = netlink_dump,
	.restore = netlink_restore,
	.late = netlink_late,
};
