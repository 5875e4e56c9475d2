/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket options by table: what a program may have set, read on the source with
 * getsockopt, compared on the destination with what the fresh socket has, and set where it
 * differs. What is not in the table is not carried: options that only read (TCP_INFO),
 * that act once (TCP_QUICKACK, SO_ERROR), or that need care and are handled by the caller
 * (buffers, SO_REUSEADDR, SO_BINDTODEVICE, filters, SO_PEEK_OFF).
 */
#include "runtime/checkpoint/sock_options.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <netpacket/packet.h>
#include <pthread.h>
#include <netinet/udp.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Sets of options that are told apart; what comes after is sent with each socket. */
#define SETS_MAX 512

#define O_UNCONNECTED 1 /* only in states CLOSE and LISTEN */
#define O_INTERFACE   2 /* the value is an interface index (O_NET: in network order) */
#define O_NET	      4
#define O_EARLY	      8	 /* set first: others depend on it */
#define O_NOSTREAM    16 /* TCP keeps the peer's hop limit in it */

static const struct option {
	int level, name;
	unsigned int flags;
	int type; /* socket type, 0: any */
	const char *text;
} options[] = {
#define OPT(level, name, flags, type)                                                              \
	{                                                                                          \
		level, name, flags, type, #name                                                    \
	}
	OPT(IPPROTO_IPV6, IPV6_V6ONLY, O_EARLY, 0),
	OPT(SOL_SOCKET, SO_REUSEPORT, O_EARLY, 0),
	OPT(SOL_SOCKET, SO_MARK, O_EARLY, 0),
	OPT(IPPROTO_IP, IP_FREEBIND, O_EARLY, 0),
	OPT(IPPROTO_IP, IP_TRANSPARENT, O_EARLY, 0),
	OPT(IPPROTO_IPV6, IPV6_FREEBIND, O_EARLY, 0),
	OPT(IPPROTO_IPV6, IPV6_TRANSPARENT, O_EARLY, 0),
	OPT(SOL_SOCKET, SO_DONTROUTE, 0, 0),
	OPT(SOL_SOCKET, SO_BROADCAST, 0, 0),
	OPT(SOL_SOCKET, SO_KEEPALIVE, 0, 0),
	OPT(SOL_SOCKET, SO_OOBINLINE, 0, 0),
	OPT(SOL_SOCKET, SO_NO_CHECK, 0, 0),
	OPT(SOL_SOCKET, SO_LINGER, 0, 0),
	OPT(SOL_SOCKET, SO_RCVLOWAT, 0, 0),
	OPT(SOL_SOCKET, SO_RCVTIMEO_OLD, 0, 0),
	OPT(SOL_SOCKET, SO_SNDTIMEO_OLD, 0, 0),
	OPT(SOL_SOCKET, SO_PASSSEC, 0, 0),
	OPT(SOL_SOCKET, SO_TIMESTAMP_OLD, 0, 0),
	OPT(SOL_SOCKET, SO_TIMESTAMPNS_OLD, 0, 0),
	OPT(SOL_SOCKET, SO_TIMESTAMPING_OLD, 0, 0),
	OPT(SOL_SOCKET, SO_TIMESTAMP_NEW, 0, 0),
	OPT(SOL_SOCKET, SO_TIMESTAMPNS_NEW, 0, 0),
	OPT(SOL_SOCKET, SO_RXQ_OVFL, 0, 0),
	OPT(SOL_SOCKET, SO_WIFI_STATUS, 0, 0),
	OPT(SOL_SOCKET, SO_NOFCS, 0, 0),
	OPT(SOL_SOCKET, SO_SELECT_ERR_QUEUE, 0, 0),
	OPT(SOL_SOCKET, SO_BUSY_POLL, 0, 0),
	OPT(SOL_SOCKET, 69 /* SO_PREFER_BUSY_POLL */, 0, 0),
	OPT(SOL_SOCKET, 70 /* SO_BUSY_POLL_BUDGET */, 0, 0),
	OPT(SOL_SOCKET, SO_MAX_PACING_RATE, 0, 0),
	OPT(SOL_SOCKET, 61 /* SO_TXTIME */, 0, SOCK_DGRAM),
	OPT(SOL_SOCKET, 75 /* SO_RCVMARK */, 0, 0),
	OPT(IPPROTO_IP, IP_OPTIONS, 0, 0),
	OPT(IPPROTO_IP, IP_TOS, 0, 0),
	OPT(IPPROTO_IP, IP_TTL, 0, 0),
	OPT(IPPROTO_IP, IP_HDRINCL, 0, SOCK_RAW),
	OPT(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0, 0),
	OPT(IPPROTO_IP, 51 /* IP_LOCAL_PORT_RANGE */, 0, 0),
	OPT(IPPROTO_IP, IP_MTU_DISCOVER, 0, 0),
	OPT(IPPROTO_IP, IP_RECVERR, 0, 0),
	OPT(IPPROTO_IP, IP_PKTINFO, 0, 0),
	OPT(IPPROTO_IP, IP_RECVTTL, 0, 0),
	OPT(IPPROTO_IP, IP_RECVTOS, 0, 0),
	OPT(IPPROTO_IP, IP_RECVOPTS, 0, 0),
	OPT(IPPROTO_IP, IP_RETOPTS, 0, 0),
	OPT(IPPROTO_IP, IP_PASSSEC, 0, 0),
	OPT(IPPROTO_IP, IP_RECVORIGDSTADDR, 0, 0),
	OPT(IPPROTO_IP, IP_RECVFRAGSIZE, 0, 0),
	OPT(IPPROTO_IP, IP_CHECKSUM, 0, SOCK_DGRAM),
	OPT(IPPROTO_IP, IP_MINTTL, 0, SOCK_STREAM),
	OPT(IPPROTO_IP, IP_NODEFRAG, 0, SOCK_RAW),
	OPT(IPPROTO_IP, IP_MULTICAST_TTL, O_NOSTREAM, 0),
	OPT(IPPROTO_IP, IP_MULTICAST_LOOP, O_NOSTREAM, 0),
	OPT(IPPROTO_IP, IP_MULTICAST_ALL, O_NOSTREAM, 0),
	OPT(IPPROTO_IP, IP_MULTICAST_IF, 0, SOCK_DGRAM),
	OPT(IPPROTO_IP, IP_UNICAST_IF, O_INTERFACE | O_NET, 0),
	OPT(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 0, 0),
	OPT(IPPROTO_IPV6, IPV6_TCLASS, 0, 0),
	OPT(IPPROTO_IPV6, IPV6_MTU_DISCOVER, 0, 0),
	OPT(IPPROTO_IPV6, IPV6_RECVERR, 0, 0),
	OPT(IPPROTO_IPV6, IPV6_RECVPKTINFO, 0, 0),
	OPT(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 0, 0),
	OPT(IPPROTO_IPV6, IPV6_RECVTCLASS, 0, 0),
	OPT(IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 0, 0),
	OPT(IPPROTO_IPV6, IPV6_RECVFRAGSIZE, 0, 0),
	OPT(IPPROTO_IPV6, IPV6_RECVPATHMTU, 0, 0),
	OPT(IPPROTO_IPV6, IPV6_DONTFRAG, 0, 0),
	OPT(IPPROTO_IPV6, IPV6_MINHOPCOUNT, 0, SOCK_STREAM),
	OPT(IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0, 0),
	OPT(IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, 0, 0),
	OPT(IPPROTO_IPV6, 33 /* IPV6_FLOWINFO_SEND */, 0, 0),
	OPT(IPPROTO_IPV6, IPV6_MULTICAST_HOPS, O_NOSTREAM, 0),
	OPT(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, O_NOSTREAM, 0),
	OPT(IPPROTO_IPV6, IPV6_MULTICAST_ALL, O_NOSTREAM, 0),
	OPT(IPPROTO_IPV6, IPV6_MULTICAST_IF, O_INTERFACE, SOCK_DGRAM),
	OPT(IPPROTO_IPV6, IPV6_UNICAST_IF, O_INTERFACE | O_NET, 0),
	OPT(IPPROTO_IPV6, IPV6_CHECKSUM, 0, SOCK_RAW),
	OPT(SOL_SOCKET, SO_PRIORITY, 0, 0), /* IP_TOS sets it */
	OPT(IPPROTO_TCP, TCP_CONGESTION, 0, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_NODELAY, 0, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_CORK, 0, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_MAXSEG, O_UNCONNECTED, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_KEEPIDLE, 0, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_KEEPINTVL, 0, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_KEEPCNT, 0, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_SYNCNT, 0, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_LINGER2, 0, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_DEFER_ACCEPT, O_UNCONNECTED, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_WINDOW_CLAMP, O_UNCONNECTED, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 0, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_USER_TIMEOUT, 0, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_FASTOPEN, O_UNCONNECTED, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, O_UNCONNECTED, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, O_UNCONNECTED, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_SAVE_SYN, O_UNCONNECTED, SOCK_STREAM),
	OPT(IPPROTO_TCP, TCP_INQ, 0, SOCK_STREAM),
	OPT(IPPROTO_TCP, 37 /* TCP_TX_DELAY */, 0, SOCK_STREAM),
	OPT(IPPROTO_TCP, 44 /* TCP_RTO_MAX_MS */, 0, SOCK_STREAM),
	OPT(IPPROTO_TCP, 45 /* TCP_RTO_MIN_US */, 0, SOCK_STREAM),
	OPT(IPPROTO_TCP, 46 /* TCP_DELACK_MAX_US */, 0, SOCK_STREAM),
	OPT(IPPROTO_UDP, UDP_NO_CHECK6_TX, 0, SOCK_DGRAM),
	OPT(IPPROTO_UDP, UDP_NO_CHECK6_RX, 0, SOCK_DGRAM),
	OPT(IPPROTO_UDP, UDP_SEGMENT, 0, SOCK_DGRAM),
	OPT(IPPROTO_UDP, UDP_GRO, 0, SOCK_DGRAM),
	OPT(IPPROTO_UDPLITE, 10 /* UDPLITE_SEND_CSCOV */, 0, SOCK_DGRAM),
	OPT(IPPROTO_UDPLITE, 11 /* UDPLITE_RECV_CSCOV */, 0, SOCK_DGRAM),
	OPT(SOL_RAW, 1 /* ICMP_FILTER */, 0, SOCK_RAW),
	OPT(IPPROTO_ICMPV6, 1 /* ICMPV6_FILTER */, 0, SOCK_RAW),
	OPT(SOL_NETLINK, NETLINK_PKTINFO, 0, 0),
	OPT(SOL_NETLINK, NETLINK_BROADCAST_ERROR, 0, 0),
	OPT(SOL_NETLINK, NETLINK_NO_ENOBUFS, 0, 0),
	OPT(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 0, 0),
	OPT(SOL_NETLINK, NETLINK_CAP_ACK, 0, 0),
	OPT(SOL_NETLINK, NETLINK_EXT_ACK, 0, 0),
	OPT(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 0, 0),
	OPT(SOL_PACKET, PACKET_AUXDATA, 0, 0),
	OPT(SOL_PACKET, PACKET_ORIGDEV, 0, 0),
	OPT(SOL_PACKET, PACKET_QDISC_BYPASS, 0, 0),
	OPT(SOL_PACKET, PACKET_IGNORE_OUTGOING, 0, 0),
#undef OPT
};
#define NOPTIONS (sizeof(options) / sizeof(options[0]))
_Static_assert(NOPTIONS <= SOCK_OPTIONS_MAX, "room for all");

/* IP options work on IPv6 sockets too, where they reach IPv4-mapped peers. */
static bool option_fits(const struct option *o, const Cks__Common *c)
{
	bool inet = c->family == AF_INET || c->family == AF_INET6;

	if ((o->type && o->type != c->type) || ((o->flags & O_NOSTREAM) && c->type == SOCK_STREAM))
		return false;
	switch (o->level) {
	case SOL_SOCKET:
		return inet || o->name != SO_REUSEPORT;
	case IPPROTO_IP:
		return inet && !(c->family == AF_INET6 && c->type == SOCK_RAW);
	case IPPROTO_IPV6:
		return c->family == AF_INET6;
	case IPPROTO_UDP:
		return inet && (c->protocol == IPPROTO_UDP || c->protocol == IPPROTO_UDPLITE);
	case IPPROTO_UDPLITE:
	case IPPROTO_TCP:
		return inet && c->protocol == o->level;
	case SOL_RAW:
		return c->family == AF_INET && c->protocol == IPPROTO_ICMP;
	case IPPROTO_ICMPV6:
		return c->family == AF_INET6 && c->protocol == IPPROTO_ICMPV6;
	case SOL_NETLINK:
		return c->family == AF_NETLINK;
	case SOL_PACKET:
		return c->family == AF_PACKET;
	}
	return false;
}

size_t sock_options_of_connection(int family, struct sock_option_id *out, size_t cap)
{
	const Cks__Common c = { .family = family, .type = SOCK_STREAM, .protocol = IPPROTO_TCP };
	size_t n = 0;

	for (size_t i = 0; i < NOPTIONS && n < cap; i++)
		if (option_fits(&options[i], &c) && !(options[i].flags & O_UNCONNECTED))
			out[n++] = (struct sock_option_id){ options[i].level, options[i].name };
	return n;
}

int sock_opt_int(int fd, int level, int name, int missing)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(fd, level, name, &value, &len) < 0 ? missing : value;
}

int sock_opt_set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* --- reading ---------------------------------------------------------------------------- */
/*
 * Thousands of connections of a server have the same options. They are read into a flat
 * record, and equal records travel once, as a set with a number.
 */
struct flat {
	uint16_t option; /* index in the table */
	uint8_t len, named;
	uint8_t value[64]; /* `named`: an interface's name */
};
struct set {
	uint64_t key;
	int family, type, protocol;
	bool sent;
	size_t n;
	struct flat f[];
};
static struct set **sets;
static size_t nsets;
static pthread_mutex_t sets_lock = PTHREAD_MUTEX_INITIALIZER;

static bool read_one(int fd, size_t i, struct flat *f)
{
	const struct option *o = &options[i];
	socklen_t len = sizeof(f->value);
	CLEANUP_FREE char *name = NULL;
	int index = 0;

	memset(f, 0, sizeof(*f));
	f->option = (uint16_t)i;
	if (getsockopt(fd, o->level, o->name, f->value, &len) < 0)
		return false;
	f->len = (uint8_t)len;
	if (!(o->flags & O_INTERFACE))
		return true;
	memcpy(&index, f->value, sizeof(index));
	if (o->flags & O_NET)
		index = (int)ntohl((uint32_t)index);
	name = index ? sock_ifname(fd, index) : NULL;
	if (!name)
		return false;
	memset(f->value, 0, sizeof(f->value));
	f->named = 1;
	f->len = (uint8_t)strlen(name);
	memcpy(f->value, name, f->len);
	return true;
}

static size_t read_all(int fd, bool unconnected, const Cks__Common *c, struct flat *f)
{
	size_t n = 0;

	for (size_t i = 0; i < NOPTIONS; i++)
		if (option_fits(&options[i], c) &&
		    (!(options[i].flags & O_UNCONNECTED) || unconnected) && read_one(fd, i, &f[n]))
			n++;
	return n;
}

static Cks__Option *message_of(const struct flat *f)
{
	const struct option *o = &options[f->option];
	Cks__Option *m = mem_zalloc(sizeof(*m));

	cks__option__init(m);
	m->level = o->level;
	m->name = o->name;
	m->value.data = mem_zalloc(f->len + 1u);
	if (f->named) {
		m->interface = mem_zalloc(f->len + 1u);
		memcpy(m->interface, f->value, f->len);
	} else {
		m->value.len = f->len;
		memcpy(m->value.data, f->value, f->len);
	}
	return m;
}

void sock_option_free(Cks__Option *m)
{
	free(m->value.data);
	if (m->interface != protobuf_c_empty_string)
		free(m->interface);
	free(m);
}

void sock_options_dump(int fd, bool unconnected, Cks__Common *c)
{
	struct flat f[NOPTIONS];
	size_t n = read_all(fd, unconnected, c, f);

	c->options = mem_zalloc((n + 1) * sizeof(*c->options));
	c->n_options = n;
	for (size_t i = 0; i < n; i++)
		c->options[i] = message_of(&f[i]);
}

void sock_options_dump_set(int fd, bool unconnected, Cks__Common *c)
{
	struct flat f[NOPTIONS];
	size_t n = read_all(fd, unconnected, c, f);
	struct set *s = NULL;

	pthread_mutex_lock(&sets_lock);
	for (size_t i = nsets; i-- > 0 && !s;)
		if (sets[i]->n == n && sets[i]->family == c->family && sets[i]->type == c->type &&
		    sets[i]->protocol == c->protocol && memcmp(sets[i]->f, f, n * sizeof(*f)) == 0)
			s = sets[i];
	if (!s && nsets < SETS_MAX) {
		s = mem_zalloc(sizeof(*s) + n * sizeof(*f));
		s->key = nsets + 1;
		s->family = c->family;
		s->type = c->type;
		s->protocol = c->protocol;
		s->n = n;
		memcpy(s->f, f, n * sizeof(*f));
		sets = mem_grow(sets, nsets + 1, sizeof(*sets));
		sets[nsets++] = s;
	}
	c->option_set = s ? s->key : 0;
	pthread_mutex_unlock(&sets_lock);
	if (s)
		return;
	c->options = mem_zalloc((n + 1) * sizeof(*c->options));
	c->n_options = n;
	for (size_t i = 0; i < n; i++)
		c->options[i] = message_of(&f[i]);
}

static int send_set(struct dump *d, const struct set *s, struct error *err)
{
	CLEANUP_BUF struct buf b = { 0 };
	Cks__Spill m = CKS__SPILL__INIT;
	Cks__Option *list[NOPTIONS];

	m.key = s->key;
	m.n_option_set = s->n;
	m.option_set = list;
	for (size_t i = 0; i < s->n; i++)
		list[i] = message_of(&s->f[i]);
	obj_pack(&m.base, &b);
	for (size_t i = 0; i < s->n; i++)
		sock_option_free(list[i]);
	return dump_send_part(d, sock_part.name, b.data, b.len, err);
}

int sock_options_send_sets(struct dump *d, struct error *err)
{
	int n = 0;

	pthread_mutex_lock(&sets_lock);
	for (size_t i = nsets; i-- > 0 && !sets[i]->sent && n == 0;) {
		n = send_set(d, sets[i], err);
		sets[i]->sent = n == 0;
	}
	pthread_mutex_unlock(&sets_lock);
	return n;
}

void sock_options_forget_sent(void)
{
	pthread_mutex_lock(&sets_lock);
	for (size_t i = 0; i < nsets; i++)
		sets[i]->sent = false;
	pthread_mutex_unlock(&sets_lock);
}

/* --- setting ----------------------------------------------------------------------------- */
static const struct option *option_find(const Cks__Option *m)
{
	for (size_t i = 0; i < NOPTIONS; i++)
		if (options[i].level == m->level && options[i].name == m->name)
			return &options[i];
	return NULL;
}

/* *set: it was not as wanted. */
static int option_load(int fd, const Cks__Option *m, const struct option *o, bool compare,
		       bool *set, struct error *err)
{
	char now[64] = { 0 };
	socklen_t len = sizeof(now);
	int index;

	*set = true;
	if (o->flags & O_INTERFACE) {
		index = sock_ifindex(fd, m->interface);
		if (index <= 0)
			return error_set(err, ENODEV, "there is no interface %s here",
					 m->interface);
		if (o->flags & O_NET)
			index = (int)htonl((uint32_t)index);
		if (setsockopt(fd, o->level, o->name, &index, sizeof(index)) < 0)
			return error_sys(err, errno, "setting socket option %s", o->text);
		return 0;
	}
	*set = !compare || getsockopt(fd, o->level, o->name, now, &len) < 0 ||
	       len != m->value.len || (len && memcmp(now, m->value.data, len) != 0);
	if (!*set || setsockopt(fd, o->level, o->name, m->value.data, (socklen_t)m->value.len) == 0)
		return 0;
	if (o->level == IPPROTO_TCP && o->name == TCP_CONGESTION)
		return error_sys(err, errno,
				 "this host cannot do TCP congestion control %s (modprobe tcp_%s)",
				 (char *)m->value.data, (char *)m->value.data);
	return error_sys(err, errno, "setting socket option %s", o->text);
}

/* `needed` (may be NULL) gets the places of those that were not as wanted. */
static int load_list(int fd, Cks__Option *const *list, size_t n, uint16_t *needed, size_t *nneeded,
		     struct error *err)
{
	for (int late = 0; late < 2; late++)
		for (size_t i = 0; i < n; i++) {
			const struct option *o = option_find(list[i]);
			bool set;
			int r;

			if (!o)
				return error_set(err, EPROTO,
						 "unknown socket option %d of level %d",
						 list[i]->name, list[i]->level);
			if (late == !!(o->flags & O_EARLY))
				continue;
			r = option_load(fd, list[i], o, true, &set, err);
			if (r < 0)
				return r;
			if (set && needed)
				needed[(*nneeded)++] = (uint16_t)i;
		}
	return 0;
}

/* A set that came. After its first socket it is known what a fresh one lacks. */
static struct came {
	uint64_t key;
	Cks__Spill *m;
	bool known;
	size_t nneeded;
	uint16_t needed[NOPTIONS];
} * came;
static size_t ncame;

int sock_options_receive_set(Cks__Spill *m, struct error *err)
{
	if (m->n_option_set > NOPTIONS || ncame >= SETS_MAX)
		return error_set(err, EBADMSG, "a damaged set of socket options");
	came = mem_grow(came, ncame + 1, sizeof(*came));
	memset(&came[ncame], 0, sizeof(*came));
	came[ncame].key = m->key;
	came[ncame++].m = m;
	return 0;
}

static int load_set(int fd, struct came *s, struct error *err)
{
	bool set;
	int n = 0;

	if (!s->known) {
		s->nneeded = 0;
		n = load_list(fd, s->m->option_set, s->m->n_option_set, s->needed, &s->nneeded,
			      err);
		s->known = n == 0;
		return n;
	}
	for (size_t i = 0; i < s->nneeded && n == 0; i++) {
		const Cks__Option *m = s->m->option_set[s->needed[i]];

		n = option_load(fd, m, option_find(m), false, &set, err);
	}
	return n;
}

int sock_options_load(int fd, const Cks__Common *c, struct error *err)
{
	int n = load_list(fd, c->options, c->n_options, NULL, NULL, err);

	if (n < 0 || !c->option_set)
		return n;
	for (size_t i = ncame; i-- > 0;)
		if (came[i].key == c->option_set)
			return load_set(fd, &came[i], err);
	return error_set(err, EBADMSG, "the options of a socket are missing");
}

int sock_buffer_set(int fd, int name, unsigned int size)
{
	int half = (int)(size / 2);
	int force = name == SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE;

	if ((unsigned int)sock_opt_int(fd, SOL_SOCKET, name, 0) == size)
		return 0;
	if (setsockopt(fd, SOL_SOCKET, force, &half, sizeof(half)) < 0 &&
	    setsockopt(fd, SOL_SOCKET, name, &half, sizeof(half)) < 0)
		return -errno;
	return 0;
}

/* --- filters --------------------------------------------------------------------------- */
int sock_filter_dump(int fd, Cks__Common *c, struct error *err)
{
	socklen_t n = 0;

	c->filter_locked = sock_opt_int(fd, SOL_SOCKET, SO_LOCK_FILTER, 0) != 0;
	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &n) < 0) {
		if (errno == EACCES)
			return error_set(err, ENOTSUP, "it has an eBPF filter attached");
		return 0;
	}
	if (!n)
		return 0;
	/* the length is in instructions here */
	c->filter.len = n * sizeof(struct sock_filter);
	c->filter.data = mem_zalloc(c->filter.len);
	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, c->filter.data, &n) < 0)
		return error_sys(err, errno, "reading its filter");
	return 0;
}

int sock_filter_load(int fd, const Cks__Common *c, struct error *err)
{
	struct sock_fprog p = { .len = (unsigned short)(c->filter.len / sizeof(struct sock_filter)),
				.filter = (struct sock_filter *)(void *)c->filter.data };

	if (p.len && setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof(p)) < 0)
		return error_sys(err, errno, "attaching a socket filter");
	if (c->filter_locked && sock_opt_set(fd, SOL_SOCKET, SO_LOCK_FILTER, 1) < 0)
		return error_sys(err, errno, "locking a socket filter");
	return 0;
}
