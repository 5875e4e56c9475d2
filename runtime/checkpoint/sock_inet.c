/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP, UDP-Lite, ICMP ("ping") and raw sockets.
 *
 * Datagrams that wait in a UDP socket's queue are peeked at one after the other
 * (SO_PEEK_OFF) and, on the destination, put on lo by hand. Several sockets may share the
 * port there, so they are delivered while the socket is bound to a port of its own, which
 * it gives up before it is bound to the real one. Raw and ICMP sockets lose what waits:
 * they are made to lose packets anyway.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/peek.h"
#include "runtime/checkpoint/sock_addresses.h"
#include "runtime/checkpoint/sock_inet.h"
#include "runtime/checkpoint/sock_orphan.h"

#define SO_MEMINFO_ 55
#define MAX_SOURCES 64

static bool is_udp(const Cks__Common *c)
{
	return c->protocol == IPPROTO_UDP || c->protocol == IPPROTO_UDPLITE;
}

static bool inet_claims(const struct ofd *o)
{
	struct sock_kind k;

	if (!sock_kind(o, &k) || (k.family != AF_INET && k.family != AF_INET6))
		return false;
	/* Others of this type are not claimed: L2TP, for one, has a tunnel in the kernel. */
	return k.type == SOCK_RAW || (k.type == SOCK_DGRAM &&
				      (k.protocol == IPPROTO_UDP || k.protocol == IPPROTO_UDPLITE ||
				       k.protocol == IPPROTO_ICMP || k.protocol == IPPROTO_ICMPV6));
}

static const char *inet_obstacle(int fd, const char **remedy)
{
	int protocol = sock_opt_int(fd, SOL_SOCKET, SO_PROTOCOL, 0);

	if (protocol != IPPROTO_UDP)
		return NULL;
	if (sock_opt_int(fd, IPPROTO_UDP, UDP_ENCAP, 0)) {
		*remedy = "stop the IPsec or tunnel daemon";
		return "packets of this host's kernel are encapsulated with it (UDP_ENCAP)";
	}
	if (sock_opt_int(fd, IPPROTO_UDP, UDP_CORK, 0)) {
		*remedy = "try again when the datagram is sent";
		return "a datagram is being put together (UDP_CORK)";
	}
	return NULL;
}

/* Errors in a queue of their own: reading them would take them away. */
static bool errors_are_asked_for(int fd, int family)
{
	return sock_opt_int(fd, IPPROTO_IP, IP_RECVERR, 0) ||
	       (family == AF_INET6 && sock_opt_int(fd, IPPROTO_IPV6, IPV6_RECVERR, 0));
}

static int inet_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	const char *remedy = NULL, *why = inet_obstacle(o->fd, &remedy);
	int family = sock_opt_int(o->fd, SOL_SOCKET, SO_DOMAIN, AF_INET);

	if (!why && errors_are_asked_for(o->fd, family) && sock_stays(o->fd, POLLERR)) {
		why = "errors wait to be read (IP_RECVERR), and nobody reads them";
		remedy = "let the program read them";
	}
	if (why)
		obj_obstacle(out, o, "UDP socket", why, remedy);
	peek_load(PEEK_SOCKET_ERROR, NULL); /* not in the pause */
	sock_hidden_check(d, o, "UDP socket", out);
	sock_common_check(d, o, out);
	return 0;
}

/* --- multicast ---------------------------------------------------------------------------- */
union group_filter_room {
	struct group_filter f;
	char room[GROUP_FILTER_SIZE(MAX_SOURCES)];
};

static void fill_group(struct sockaddr_storage *to, int family, const void *ip)
{
	memset(to, 0, sizeof(*to));
	to->ss_family = (sa_family_t)family;
	if (family == AF_INET)
		memcpy(&((struct sockaddr_in *)to)->sin_addr, ip, 4);
	else
		memcpy(&((struct sockaddr_in6 *)to)->sin6_addr, ip, 16);
}

static const void *group_ip(const struct sockaddr_storage *s)
{
	return s->ss_family == AF_INET ? (const void *)&((const struct sockaddr_in *)s)->sin_addr
				       : &((const struct sockaddr_in6 *)s)->sin6_addr;
}

/* No call lists a socket's memberships, but it can be asked about each group that its
 * namespace has joined. */
static void ask_group(int fd, int family, int index, const void *ip, Cks__Inet *m)
{
	CLEANUP_FREE union group_filter_room *q = mem_zalloc(sizeof(*q));
	socklen_t len = sizeof(*q);
	size_t size = family == AF_INET ? 4 : 16;
	Cks__Membership *g;

	q->f.gf_interface = (uint32_t)index;
	fill_group(&q->f.gf_group, family, ip);
	q->f.gf_numsrc = MAX_SOURCES;
	if (getsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, MCAST_MSFILTER, q, &len) <
	    0)
		return;
	g = mem_zalloc(sizeof(*g));
	cks__membership__init(g);
	g->family = family;
	g->interface = sock_ifname(fd, index);
	if (!g->interface)
		g->interface = str_dup("");
	g->group.len = size;
	g->group.data = mem_zalloc(size);
	memcpy(g->group.data, ip, size);
	g->include = q->f.gf_fmode == MCAST_INCLUDE;
	g->n_sources = q->f.gf_numsrc < MAX_SOURCES ? q->f.gf_numsrc : MAX_SOURCES;
	g->sources = mem_zalloc((g->n_sources + 1) * sizeof(*g->sources));
	for (size_t i = 0; i < g->n_sources; i++) {
		g->sources[i].len = size;
		g->sources[i].data = mem_zalloc(size);
		memcpy(g->sources[i].data, group_ip(&q->f.gf_slist[i]), size);
	}
	m->memberships = mem_grow(m->memberships, m->n_memberships + 1, sizeof(*m->memberships));
	m->memberships[m->n_memberships++] = g;
}

static void dump_memberships(const struct ofd *o, Cks__Inet *m)
{
	CLEANUP_FREE char *v4 = NULL, *v6 = NULL;
	char dir[64], path[80], *save = NULL, *line;
	int index = 0;

	snprintf(dir, sizeof(dir), "/proc/thread-self/net");
	if (o->task)
		snprintf(dir, sizeof(dir), "/proc/%d/net", task_pid(o->task));
	snprintf(path, sizeof(path), "%s/igmp", dir);
	if (file_read(path, 16 << 20, &v4, NULL, NULL) == 0)
		for (line = strtok_r(v4, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
			uint32_t ip;

			if (line[0] >= '0' && line[0] <= '9')
				index = atoi(line);
			else if (line[0] == '\t' && sscanf(line, " %8x", &ip) == 1 &&
				 ip != htonl(INADDR_ALLHOSTS_GROUP))
				ask_group(o->fd, AF_INET, index, &ip, m);
		}
	snprintf(path, sizeof(path), "%s/igmp6", dir);
	if (m->common->family == AF_INET6 && file_read(path, 16 << 20, &v6, NULL, NULL) == 0)
		for (line = strtok_r(v6, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
			char hex[33];
			uint8_t ip[16];

			if (sscanf(line, "%d %*s %32s", &index, hex) != 2 || strlen(hex) != 32)
				continue;
			for (int i = 0; i < 16; i++)
				sscanf(hex + 2 * i, "%2hhx", &ip[i]);
			ask_group(o->fd, AF_INET6, index, ip, m);
		}
}

static int load_membership(int fd, const Cks__Membership *g, struct error *err)
{
	int level = g->family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
	size_t size = g->family == AF_INET ? 4 : 16;
	CLEANUP_FREE union group_filter_room *q = mem_zalloc(sizeof(*q));
	struct group_req join = { 0 };
	int index = sock_ifindex(fd, g->interface);

	if (g->group.len != size || g->n_sources > MAX_SOURCES)
		return error_set(err, EBADMSG, "a damaged multicast membership");
	if (index < 0)
		return error_set(err, ENODEV, "there is no interface %s here", g->interface);
	join.gr_interface = (uint32_t)index;
	fill_group(&join.gr_group, g->family, g->group.data);
	if (setsockopt(fd, level, MCAST_JOIN_GROUP, &join, sizeof(join)) < 0 && errno != EADDRINUSE)
		return error_sys(err, errno, "joining a multicast group");
	if (!g->include && !g->n_sources)
		return 0;
	q->f.gf_interface = (uint32_t)index;
	q->f.gf_group = join.gr_group;
	q->f.gf_fmode = g->include ? MCAST_INCLUDE : MCAST_EXCLUDE;
	q->f.gf_numsrc = (uint32_t)g->n_sources;
	for (size_t i = 0; i < g->n_sources; i++) {
		if (g->sources[i].len != size)
			return error_set(err, EBADMSG, "a damaged multicast membership");
		fill_group(&q->f.gf_slist[i], g->family, g->sources[i].data);
	}
	if (setsockopt(fd, level, MCAST_MSFILTER, q, (socklen_t)GROUP_FILTER_SIZE(g->n_sources)) <
	    0)
		return error_sys(err, errno, "filtering a multicast group");
	return 0;
}

/* --- queue, source --------------------------------------------------------------------------- */
static Cks__Datagram *datagram_add(Cks__Inet *m, const void *data, size_t len)
{
	Cks__Datagram *g = mem_zalloc(sizeof(*g));

	cks__datagram__init(g);
	g->data.data = mem_zalloc(len + 1);
	g->data.len = len;
	memcpy(g->data.data, data, len);
	m->queue = mem_grow(m->queue, m->n_queue + 1, sizeof(*m->queue));
	m->queue[m->n_queue++] = g;
	return g;
}

/* One message of the kernel's, several datagrams where UDP_GRO has joined them. */
static void datagram_take(int fd, struct msghdr *h, const uint8_t *data, size_t len, Cks__Inet *m)
{
	union sock_addr to = { 0 };
	size_t piece = len, at = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO)
			piece = *(const uint16_t *)(const void *)CMSG_DATA(c);
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_ORIGDSTADDR)
			memcpy(&to.in, CMSG_DATA(c), sizeof(to.in));
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_ORIGDSTADDR)
			memcpy(&to.in6, CMSG_DATA(c), sizeof(to.in6));
	}
	do {
		size_t n = piece && len - at > piece ? piece : len - at;
		Cks__Datagram *g = datagram_add(m, data + at, n);

		g->from = sock_address_dump(fd, h->msg_name);
		if (to.sa.sa_family)
			g->to = sock_address_dump(fd, &to);
		at += n;
	} while (at < len);
}

static int dump_queue(int fd, Cks__Inet *m, struct error *err)
{
	bool v6 = m->common->family == AF_INET6;
	int had4 = sock_opt_int(fd, IPPROTO_IP, IP_RECVORIGDSTADDR, 0);
	int had6 = v6 ? sock_opt_int(fd, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 0) : 0;
	CLEANUP_FREE uint8_t *buf = mem_zalloc(65536);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n;

	if (poll(&p, 1, 0) <= 0 || !(p.revents & POLLIN))
		return 0;
	/* the address it was sent to is told only to who asks; put back below */
	sock_opt_set(fd, IPPROTO_IP, IP_RECVORIGDSTADDR, 1);
	if (v6)
		sock_opt_set(fd, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 1);
	n = sock_opt_set(fd, SOL_SOCKET, SO_PEEK_OFF, 0);
	for (int failed = 0; n == 0;) {
		union sock_addr from = { 0 };
		char control[512];
		struct iovec iov = { buf, 65536 };
		struct msghdr h = { .msg_name = &from,
				    .msg_namelen = sizeof(from),
				    .msg_iov = &iov,
				    .msg_iovlen = 1,
				    .msg_control = control,
				    .msg_controllen = sizeof(control) };
		ssize_t got = recvmsg(fd, &h, MSG_PEEK | MSG_DONTWAIT);

		if (got < 0 && (errno == EAGAIN || failed++ > 2))
			break;
		if (got >= 0)
			datagram_take(fd, &h, buf, (size_t)got, m);
	}
	sock_opt_set(fd, SOL_SOCKET, SO_PEEK_OFF, m->common->peek_off);
	sock_opt_set(fd, IPPROTO_IP, IP_RECVORIGDSTADDR, had4);
	if (v6)
		sock_opt_set(fd, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, had6);
	return n < 0 ? error_sys(err, -n, "looking into a queue") : 0;
}

static void inet_message_free(Cks__Inet *m)
{
	for (size_t i = 0; i < m->n_queue; i++) {
		free(m->queue[i]->data.data);
		sock_address_free(m->queue[i]->from);
		sock_address_free(m->queue[i]->to);
		free(m->queue[i]);
	}
	free(m->queue);
	for (size_t i = 0; i < m->n_memberships; i++) {
		Cks__Membership *g = m->memberships[i];

		for (size_t k = 0; k < g->n_sources; k++)
			free(g->sources[k].data);
		free(g->sources);
		free(g->group.data);
		free(g->interface);
		free(g);
	}
	free(m->memberships);
	sock_common_free(m->common);
}

int inet_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cks__Inet m = CKS__INET__INIT;
	const char *remedy = NULL, *why = inet_obstacle(o->fd, &remedy);
	struct pollfd p = { .fd = o->fd, .events = POLLRDHUP };
	int n;

	if (why)
		return error_set(err, ENOTSUP, "%s; %s", why, remedy);
	n = sock_common_dump(d, o, true, &m.common, err);
	if (n == 0 && errors_are_asked_for(o->fd, m.common->family) && poll(&p, 1, 0) > 0 &&
	    (p.revents & POLLERR))
		n = error_set(err, EAGAIN, "errors wait to be read from a socket; try again");
	if (n == 0 && is_udp(m.common))
		n = inet_error_find(o->fd, &m, err);
	if (n == 0 && is_udp(m.common))
		n = dump_queue(o->fd, &m, err);
	if (n == 0) {
		dump_memberships(o, &m);
		m.shut_rd = poll(&p, 1, 0) > 0 && (p.revents & POLLRDHUP);
		m.shut_wr = m.shut_rd && (p.revents & POLLHUP);
		obj_pack(&m.base, body);
	}
	inet_message_free(&m);
	return n;
}

/* --- destination -------------------------------------------------------------------- */
static uint32_t queue_memory(int fd)
{
	uint32_t info[16] = { 0 };
	socklen_t len = sizeof(info);

	return getsockopt(fd, SOL_SOCKET, SO_MEMINFO_, info, &len) < 0 ? 0 : info[0];
}

/* A loopback address of the family: for datagrams whose own destination is not known. */
static Cks__Address *loopback_address(int fd, int family)
{
	union sock_addr a = { 0 };

	a.sa.sa_family = (sa_family_t)family;
	if (family == AF_INET)
		a.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		a.in6.sin6_addr = in6addr_loopback;
	return sock_address_dump(fd, &a);
}

/* A multicast or broadcast destination would be routed out: only the socket itself sees
 * which local address it was instead. */
static bool is_unicast(const Cks__Address *a)
{
	size_t at = a->ip.len == 16 ? 12 : 0;

	if (a->family == AF_INET6 && a->ip.data[0] == 0xff)
		return false;
	return !(a->family == AF_INET || IN6_IS_ADDR_V4MAPPED(a->ip.data)) || a->ip.data[at] < 224;
}

static int deliver_one(struct restore *r, int fd, const Cks__Common *c, const Cks__Datagram *g,
		       uint32_t port, struct error *err)
{
	const Cks__Address *best = g->to ? g->to : c->local;
	bool any = true, v4;
	Cks__Address *lo = NULL, to;
	struct sock_packet p = { .from = g->from, .data = g->data.data, .len = g->data.len };
	uint32_t before = queue_memory(fd);
	int n;

	if (!g->from)
		return 0;
	if (!sock_address_is_whole(g->from) || (g->to && !sock_address_is_whole(g->to)))
		return error_set(err, EBADMSG, "a damaged datagram");
	for (size_t i = 0; best && i < best->ip.len; i++)
		any &= best->ip.data[i] == 0;
	v4 = g->from->family == AF_INET || IN6_IS_ADDR_V4MAPPED(g->from->ip.data);
	if (!best || any || !is_unicast(best))
		best = lo = loopback_address(fd, v4 ? AF_INET : AF_INET6);
	to = *best;
	to.port = port;
	p.to = &to;
	n = sock_inject_udp(r, c->protocol, &p, err);
	for (int i = 0; n == 0 && i < 2000 && queue_memory(fd) == before; i++)
		usleep(i < 100 ? 10 : 1000);
	sock_address_free(lo);
	return n;
}

static int deliver(struct restore *r, int fd, const Cks__Inet *m, struct error *err)
{
	union sock_addr a = { 0 };
	socklen_t len = m->common->family == AF_INET ? sizeof(a.in) : sizeof(a.in6);
	Cks__Address *mine;
	int n = 0;

	a.sa.sa_family = (sa_family_t)m->common->family;
	if (bind(fd, &a.sa, len) < 0)
		return error_sys(err, errno, "binding to a port for queued datagrams");
	mine = sock_address_local(fd);
	for (size_t i = 0; n == 0 && mine && i < m->n_queue; i++)
		n = deliver_one(r, fd, m->common, m->queue[i], mine->port, err);
	sock_address_free(mine);
	/* a port that was not asked for is given up by this */
	a.sa.sa_family = AF_UNSPEC;
	if (n == 0 && connect(fd, &a.sa, len) < 0)
		n = error_sys(err, errno, "unbinding");
	return n;
}

static int bind_and_connect(int fd, const Cks__Common *c, struct error *err)
{
	union sock_addr a;
	char text[70];
	bool bound = false;
	int n;

	for (size_t i = 0; c->local && i < c->local->ip.len; i++)
		bound |= c->local->ip.data[i] != 0;
	if (c->local && c->type == SOCK_DGRAM)
		bound |= c->local->port != 0;
	if (bound) {
		n = sock_address_load(fd, c->local, &a, err);
		if (n < 0)
			return n;
		if (c->type == SOCK_RAW)
			a.in.sin_port = 0;
		if (bind(fd, &a.sa, (socklen_t)n) < 0)
			return error_sys(err, errno, "binding to %s",
					 sock_address_text(c->local, text, sizeof(text)));
	}
	if (!c->peer)
		return 0;
	n = sock_address_load(fd, c->peer, &a, err);
	if (n < 0)
		return n;
	if (connect(fd, &a.sa, (socklen_t)n) < 0)
		return error_sys(err, errno, "connecting to %s",
				 sock_address_text(c->peer, text, sizeof(text)));
	return 0;
}

static struct made {
	uint32_t id;
	Cks__Common *c;
	Cks__Inet *m;
} * made;
static size_t nmade;

int inet_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
		 struct error *err)
{
	CLEANUP_MSG Cks__Inet *m = obj_unpack(&cks__inet__descriptor, body, len, err);
	CLEANUP_CLOSE int s = -1;
	int n;

	if (!m)
		return -EBADMSG;
	if (!m->common)
		return error_set(err, EBADMSG, "a socket came incomplete");
	sock_common_move(r, m->common);
	for (size_t i = 0; i < m->n_queue; i++)
		sock_address_move(r, m->queue[i]->to);
	n = sock_common_make(r, m->common, &s, err);
	for (size_t i = 0; n == 0 && i < m->n_memberships; i++)
		n = load_membership(s, m->memberships[i], err);
	if (n == 0 && m->n_queue)
		n = deliver(r, s, m, err);
	if (n == 0)
		n = sock_common_device(s, m->common, err);
	if (n == 0)
		n = bind_and_connect(s, m->common, err);
	if (n == 0 && m->shut_rd && shutdown(s, m->shut_wr ? SHUT_RDWR : SHUT_RD) < 0)
		n = error_sys(err, errno, "shutting down");
	if (n == 0)
		n = inet_error_restore(r, s, m, err);
	if (n < 0)
		return n;
	made = mem_grow(made, nmade + 1, sizeof(*made));
	made[nmade++] = (struct made){ id, m->common, m };
	m = NULL;
	*fd = TAKE_FD(s);
	return 0;
}

static Cks__Common *made_find(uint32_t id)
{
	for (size_t i = 0; i < nmade; i++)
		if (made[i].id == id)
			return made[i].c;
	return NULL;
}

/* All are bound: SO_REUSEADDR may go back to what it was. */
int inet_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
	      struct error *err)
{
	const Cks__Common *c = made_find(id);
	int n;

	(void)body;
	(void)len;
	if (!c)
		return error_set(err, ENOENT, "object %u was not restored", id);
	n = sock_common_finish(fd, c, err);
	return n < 0 || !r ? n : obj_owner_late(r, id, c->owner, err);
}

int inet_finish(struct restore *r, uint32_t id, int fd, struct error *err)
{
	(void)fd;
	(void)err;
	if (!r) /* else it has time until the tasks run */
		sock_pool_drop();
	sock_inject_close();
	for (size_t i = 0; i < nmade; i++)
		if (made[i].id == id) {
			obj_message_free(&made[i].m);
			made[i] = made[--nmade];
			break;
		}
	if (nmade == 0) {
		free(made);
		made = NULL;
	}
	return 0;
}

const struct object_type sock_type_inet = {
	.type = "inet",
	.claims = inet_claims,
	.check = inet_check,
	.dump = inet_dump,
	.restore = inet_restore,
	.late = inet_late,
	.finish = inet_finish,
};
