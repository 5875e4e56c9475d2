/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that nothing waits in, on the source. A server has thousands of them, and to
 * ask each for its seventy options and ten numbers takes 40 µs of the blackout. A BPF
 * iterator (bpf/idle.bpf.c) shows all of them in one pass, as the kernel has them; names of
 * its BTF say what is where (sock_fields.c).
 *
 * Numbers are read from there. Options are not: one socket of each class is asked for
 * them in the usual way, and all whose fields behind the options are byte by byte the same
 * belong to its class. An option whose fields this kernel does not show is asked of each.
 *
 *   struct tcp_sock ──► numbers ───────────────────────────────► message
 *                   └─► fields behind options ──► class ──► set ──┘
 *                        (new: getsockopt)
 *
 * Whatever is not quite ordinary (something in a queue, a filter, a device, an error …) is
 * left to sock_tcp.c, which asks the socket itself; so is all where the kernel has no BTF.
 */
#include "runtime/checkpoint/sock_idle.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/bpf/idle.h"
#include "runtime/checkpoint/bpf/idle.skel.h"
#include "runtime/checkpoint/sock_fields.h"
#include "runtime/checkpoint/sock_options.h"
#include "runtime/checkpoint/sock_tcp.h"

#define SOCK_RCV_OR_SNDBUF_LOCK 3
/* Classes of options that are told apart; what comes after is asked for its own. */
#define CLASSES_MAX 128
#define FIELDS_MAX  160
#define KEY_MAX	    1024
/* So many options that are to be asked for, and the pass is not worth it. */
#define ASKED_MAX 16

size_t sock_idle_enough = 64;

/* --- what is where ------------------------------------------------------------------- */
enum number {
	FAMILY,
	LOCAL_PORT,
	PEER_PORT,
	LOCAL4,
	PEER4,
	DEVICE,
	REUSE,
	PROTOCOL,
	SOCKET_ERROR,
	SHUTDOWN,
	BACKLOG,
	PEEK_OFF,
	USERLOCKS,
	RCVBUF,
	SNDBUF,
	FILTER,
	ULP,
	REPAIR,
	URGENT,
	FASTOPEN,
	RCV_NXT,
	COPIED_SEQ,
	WRITE_SEQ,
	SND_UNA,
	SND_NXT,
	SND_WL1,
	SND_WND,
	MAX_WINDOW,
	RCV_WND,
	RCV_WUP,
	MSS,
	WSCALE_OK,
	SND_WSCALE,
	RCV_WSCALE,
	SACK,
	TSTAMP,
	TSOFFSET,
	IP_OPTIONS_,
	/* those before must be there */
	MPTCP,
	USEC,
	LOCAL6,
	PEER6,
	V6_OPTIONS,
	V6_FLOW,
	NUMBERS
};
static const char *const paths[NUMBERS] = {
	[FAMILY] = "sock_common.skc_family",
	[LOCAL_PORT] = "sock_common.skc_num",
	[PEER_PORT] = "sock_common.skc_dport",
	[LOCAL4] = "sock_common.skc_rcv_saddr",
	[PEER4] = "sock_common.skc_daddr",
	[DEVICE] = "sock_common.skc_bound_dev_if",
	[REUSE] = "sock_common.skc_reuse",
	[PROTOCOL] = "sock.sk_protocol",
	[SOCKET_ERROR] = "sock.sk_err",
	[SHUTDOWN] = "sock.sk_shutdown",
	[BACKLOG] = "sock.sk_backlog.len",
	[PEEK_OFF] = "sock.sk_peek_off",
	[USERLOCKS] = "sock.sk_userlocks",
	[RCVBUF] = "sock.sk_rcvbuf",
	[SNDBUF] = "sock.sk_sndbuf",
	[FILTER] = "sock.sk_filter",
	[ULP] = "inet_connection_sock.icsk_ulp_ops",
	[REPAIR] = "tcp_sock.repair",
	[URGENT] = "tcp_sock.urg_data",
	[FASTOPEN] = "tcp_sock.fastopen_rsk",
	[RCV_NXT] = "tcp_sock.rcv_nxt",
	[COPIED_SEQ] = "tcp_sock.copied_seq",
	[WRITE_SEQ] = "tcp_sock.write_seq",
	[SND_UNA] = "tcp_sock.snd_una",
	[SND_NXT] = "tcp_sock.snd_nxt",
	[SND_WL1] = "tcp_sock.snd_wl1",
	[SND_WND] = "tcp_sock.snd_wnd",
	[MAX_WINDOW] = "tcp_sock.max_window",
	[RCV_WND] = "tcp_sock.rcv_wnd",
	[RCV_WUP] = "tcp_sock.rcv_wup",
	[MSS] = "tcp_sock.rx_opt.mss_clamp",
	[WSCALE_OK] = "tcp_sock.rx_opt.wscale_ok",
	[SND_WSCALE] = "tcp_sock.rx_opt.snd_wscale",
	[RCV_WSCALE] = "tcp_sock.rx_opt.rcv_wscale",
	[SACK] = "tcp_sock.rx_opt.sack_ok",
	[TSTAMP] = "tcp_sock.rx_opt.tstamp_ok",
	[TSOFFSET] = "tcp_sock.tsoffset",
	[IP_OPTIONS_] = "inet_sock.inet_opt",
	[MPTCP] = "tcp_sock.is_mptcp",
	[USEC] = "tcp_sock.tcp_usec_ts",
	[LOCAL6] = "sock_common.skc_v6_rcv_saddr",
	[PEER6] = "sock_common.skc_v6_daddr",
	[V6_OPTIONS] = "ipv6_pinfo.opt",
	[V6_FLOW] = "ipv6_pinfo.flow_label",
};
static struct sock_field number[NUMBERS];

/* Of each family: the fields behind all options, and the options to be asked for. */
static struct behind {
	struct option_field f[FIELDS_MAX];
	size_t nf;
	struct sock_option_id asked[ASKED_MAX];
	size_t nasked, key_bytes;
	bool usable;
} behind[2];

static struct idle_bpf *reader;
static bool unable;

static struct behind *behind_of(int family)
{
	return &behind[family == AF_INET6];
}

static bool add_field(struct behind *b, const struct option_field *f)
{
	for (size_t i = 0; i < b->nf; i++)
		if (memcmp(&b->f[i], f, sizeof(*f)) == 0)
			return true;
	if (b->nf == FIELDS_MAX || b->key_bytes + f->f.bytes > KEY_MAX)
		return false;
	b->f[b->nf++] = *f;
	b->key_bytes += f->f.bytes;
	return true;
}

static bool find_behind(const struct btf *btf, int family, struct behind *b)
{
	struct sock_option_id all[SOCK_OPTIONS_MAX];
	size_t n = sock_options_of_connection(family, all, SOCK_OPTIONS_MAX);

	memset(b, 0, sizeof(*b));
	for (size_t i = 0; i < n; i++) {
		struct option_field f[8];
		int k = sock_option_fields(btf, all[i].level, all[i].name, f, 8);

		for (int j = 0; j < k; j++)
			if (!add_field(b, &f[j]))
				return false;
		if (k < 0 && b->nasked == ASKED_MAX)
			return false;
		if (k < 0)
			b->asked[b->nasked++] = all[i];
	}
	return true;
}

static int find_fields(void)
{
	struct btf *btf = btf__load_vmlinux_btf();
	bool v6 = true;

	if (!btf)
		return -EOPNOTSUPP;
	for (size_t i = 0; i < NUMBERS; i++)
		if (!sock_field_find(btf, paths[i], &number[i])) {
			if (i < MPTCP) {
				btf__free(btf);
				return -EOPNOTSUPP;
			}
			v6 &= i < LOCAL6;
		}
	behind[0].usable = find_behind(btf, AF_INET, &behind[0]);
	behind[1].usable = find_behind(btf, AF_INET6, &behind[1]) && v6;
	btf__free(btf);
	return 0;
}

static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	(void)level;
	(void)fmt;
	(void)ap;
	return 0;
}

int sock_idle_load(size_t sockets)
{
	if (reader || sockets < sock_idle_enough)
		return 0;
	if (unable)
		return -EOPNOTSUPP;
	libbpf_set_print(quiet);
	if (find_fields() == 0)
		reader = idle_bpf__open_and_load();
	if (reader)
		reader->links.idle = bpf_program__attach_iter(reader->progs.idle, NULL);
	unable = !reader || !reader->links.idle;
	if (!unable)
		return 0;
	sock_idle_unload();
	return -EOPNOTSUPP;
}

void sock_idle_unload(void)
{
	sock_idle_forget();
	if (reader)
		idle_bpf__destroy(reader);
	reader = NULL;
}

/* --- the pass --------------------------------------------------------------------------- */
struct idle {
	uint64_t ino;
	uint64_t socket_flags; /* the first of the key's */
	uint16_t family, local_port, peer_port;
	bool reuse, wscale_ok, sack, tstamp;
	uint8_t snd_wscale, rcv_wscale, buf_lock;
	uint8_t local[16], peer[16];
	uint32_t rcvbuf, sndbuf;
	uint32_t rcv_nxt, write_seq, mss, timestamp;
	uint32_t snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup;
	uint8_t key[];
};
static struct idle **seen;
static size_t nseen;
static bool passed; /* to the end */

static uint64_t get(enum number n, const uint8_t *sk)
{
	return sock_field_read(&number[n], sk);
}

/* A local address that is none yet, or anything that takes more than numbers to tell. */
static bool is_ordinary(const uint8_t *sk, const uint8_t *v6)
{
	if (get(PROTOCOL, sk) != IPPROTO_TCP || get(MPTCP, sk) || get(DEVICE, sk) ||
	    get(SOCKET_ERROR, sk) || get(SHUTDOWN, sk) || get(BACKLOG, sk) ||
	    (int32_t)get(PEEK_OFF, sk) != -1 || get(FILTER, sk) || get(ULP, sk) ||
	    get(REPAIR, sk) || get(URGENT, sk) || get(FASTOPEN, sk) || get(IP_OPTIONS_, sk))
		return false;
	if (v6 &&
	    (sock_field_read(&number[V6_OPTIONS], v6) || sock_field_read(&number[V6_FLOW], v6)))
		return false;
	return get(COPIED_SEQ, sk) == get(RCV_NXT, sk) && get(SND_UNA, sk) == get(WRITE_SEQ, sk) &&
	       get(SND_NXT, sk) == get(WRITE_SEQ, sk);
}

static void fill_key(const struct behind *b, const uint8_t *sk, const uint8_t *v6, uint8_t *key)
{
	for (size_t i = 0; i < b->nf; i++) {
		const struct sock_field *f = &b->f[i].f;
		const uint8_t *base = b->f[i].v6 ? v6 : sk;

		if (f->bits)
			*key = (uint8_t)sock_field_read(f, base);
		else
			memcpy(key, base + f->at, f->bytes);
		key += f->bytes;
	}
}

/* As getsockopt(TCP_TIMESTAMP) gives it. */
static uint32_t timestamp_of(const struct idle_head *h, const uint8_t *sk)
{
	bool usec = get(USEC, sk);

	return (((uint32_t)(h->now_ns / (usec ? 1000 : 1000000)) + (uint32_t)get(TSOFFSET, sk)) &
		~1u) |
	       usec;
}

static void note(const struct idle_head *h, const uint8_t *sk, const uint8_t *v6)
{
	const struct behind *b = behind_of(v6 ? AF_INET6 : AF_INET);
	static const uint8_t none[16];
	struct idle *i;

	if (!b->usable || !is_ordinary(sk, v6))
		return;
	i = mem_zalloc(sizeof(*i) + b->key_bytes);
	i->ino = h->ino;
	i->socket_flags = h->socket_flags;
	i->family = (uint16_t)get(FAMILY, sk);
	i->local_port = (uint16_t)get(LOCAL_PORT, sk);
	i->peer_port = ntohs((uint16_t)get(PEER_PORT, sk));
	memcpy(i->local, sk + number[v6 ? LOCAL6 : LOCAL4].at, v6 ? 16 : 4);
	memcpy(i->peer, sk + number[v6 ? PEER6 : PEER4].at, v6 ? 16 : 4);
	i->reuse = get(REUSE, sk) != 0;
	i->buf_lock = get(USERLOCKS, sk) & SOCK_RCV_OR_SNDBUF_LOCK;
	i->rcvbuf = (uint32_t)get(RCVBUF, sk);
	i->sndbuf = (uint32_t)get(SNDBUF, sk);
	i->rcv_nxt = (uint32_t)get(RCV_NXT, sk);
	i->write_seq = (uint32_t)get(WRITE_SEQ, sk);
	i->mss = (uint32_t)get(MSS, sk);
	i->wscale_ok = get(WSCALE_OK, sk);
	i->snd_wscale = i->wscale_ok ? (uint8_t)get(SND_WSCALE, sk) : 0;
	i->rcv_wscale = i->wscale_ok ? (uint8_t)get(RCV_WSCALE, sk) : 0;
	i->sack = get(SACK, sk) != 0;
	i->tstamp = get(TSTAMP, sk);
	i->timestamp = timestamp_of(h, sk);
	i->snd_wl1 = (uint32_t)get(SND_WL1, sk);
	i->snd_wnd = (uint32_t)get(SND_WND, sk);
	i->max_window = (uint32_t)get(MAX_WINDOW, sk);
	i->rcv_wnd = (uint32_t)get(RCV_WND, sk);
	i->rcv_wup = (uint32_t)get(RCV_WUP, sk);
	fill_key(b, sk, v6, i->key);
	if (memcmp(i->local, none, 16) == 0 || memcmp(i->peer, none, 16) == 0) {
		free(i);
		return;
	}
	seen = mem_grow(seen, nseen + 1, sizeof(*seen));
	seen[nseen++] = i;
}

/* Whole records at the front of what came; how many bytes of it they were. */
static size_t take(const uint8_t *p, size_t len)
{
	size_t at = 0;

	while (len - at >= sizeof(struct idle_head)) {
		struct idle_head h;
		size_t tcp, v6;

		memcpy(&h, p + at, sizeof(h));
		tcp = (h.tcp_bytes + 7u) & ~7u;
		v6 = (h.v6_bytes + 7u) & ~7u;
		if (len - at < sizeof(h) + tcp + v6)
			break;
		at += sizeof(h);
		note(&h, p + at, h.v6_bytes ? p + at + tcp : NULL);
		at += tcp + v6;
	}
	return at;
}

static int pass(void *arg)
{
	CLEANUP_CLOSE int fd = bpf_iter_create(bpf_link__fd(reader->links.idle));
	CLEANUP_FREE uint8_t *buf = mem_zalloc(128 << 10);
	size_t have = 0, used;
	ssize_t n;

	(void)arg;
	while ((n = fd < 0 ? -1 : read(fd, buf + have, (128 << 10) - have)) > 0) {
		have += (size_t)n;
		used = take(buf, have);
		memmove(buf, buf + used, have - used);
		have -= used;
	}
	return n < 0 ? -errno : 0;
}

static int by_ino(const void *a, const void *b)
{
	const struct idle *const *x = a, *const *y = b;

	return (*x)->ino < (*y)->ino ? -1 : (*x)->ino > (*y)->ino;
}

void sock_idle_read(struct dump *d)
{
	sock_idle_forget();
	if (!reader)
		return;
	reader->bss->others = 0;
	if ((d ? dump_in_netns(d, pass, NULL, NULL) : pass(NULL)) < 0) {
		sock_idle_forget();
		return;
	}
	passed = true;
	if (nseen)
		qsort(seen, nseen, sizeof(*seen), by_ino);
}

bool sock_idle_orphans_possible(void)
{
	return !passed || reader->bss->others;
}

static const struct idle *find(const struct ofd *o)
{
	struct idle key = { .ino = o->st.st_ino }, *at = &key, **found;

	if (!nseen)
		return NULL;
	found = bsearch(&at, seen, nseen, sizeof(*seen), by_ino);
	return found ? *found : NULL;
}

bool sock_idle_has(const struct ofd *o)
{
	return find(o) != NULL;
}

/* --- classes -------------------------------------------------------------------------- */
static struct class
{
	int family;
	uint64_t socket_flags;
	uint64_t set;
	bool usable;
	size_t len;
	uint8_t key[];
} * classes[CLASSES_MAX];
static size_t nclasses;

void sock_idle_forget(void)
{
	while (nseen)
		free(seen[--nseen]);
	free(seen);
	seen = NULL;
	passed = false;
	while (nclasses)
		free(classes[--nclasses]);
}

/* The key, and what the socket says of the options that have no known place. */
static size_t whole_key(const struct idle *i, const struct behind *b, int fd, uint8_t *key)
{
	size_t at = b->key_bytes;

	memcpy(key, i->key, at);
	for (size_t k = 0; k < b->nasked; k++) {
		uint8_t value[64] = { 0 };
		socklen_t len = sizeof(value);

		if (getsockopt(fd, b->asked[k].level, b->asked[k].name, value, &len) < 0)
			len = 0;
		key[at++] = (uint8_t)len;
		memcpy(key + at, value, len);
		at += len;
	}
	return at;
}

/* Asks `o` for the options of all that are like it. */
static int learn(struct dump *d, const struct ofd *o, struct class *c, struct error *err)
{
	Cks__Common *m = NULL;
	int n = tcp_can_travel(o, err);

	if (n == 0)
		n = sock_common_dump(d, o, false, &m, err);
	if (n == 0 && !d) /* a test without a container */
		sock_options_dump_set(o->fd, false, m);
	if (n == 0) {
		c->set = m->option_set;
		c->usable = m->option_set && !m->filter.len && !m->filter_locked && !*m->device &&
			    m->peek_off < 0;
	}
	sock_common_free(m);
	return n;
}

static int class_of(struct dump *d, const struct ofd *o, const struct idle *i,
		    const struct class **out, struct error *err)
{
	const struct behind *b = behind_of(i->family);
	uint8_t key[KEY_MAX + ASKED_MAX * 65];
	size_t len = whole_key(i, b, o->fd, key);
	struct class *c;
	int n;

	*out = NULL;
	for (size_t k = 0; k < nclasses; k++)
		if (classes[k]->len == len && classes[k]->family == i->family &&
		    classes[k]->socket_flags == i->socket_flags &&
		    memcmp(classes[k]->key, key, len) == 0) {
			*out = classes[k];
			return 0;
		}
	if (nclasses == CLASSES_MAX)
		return 0;
	c = mem_zalloc(sizeof(*c) + len);
	c->family = i->family;
	c->socket_flags = i->socket_flags;
	c->len = len;
	memcpy(c->key, key, len);
	n = learn(d, o, c, err);
	if (n < 0) {
		free(c);
		return n;
	}
	classes[nclasses++] = c;
	*out = c;
	return 0;
}

/* --- messages ----------------------------------------------------------------------------------
 */
/* Numbers of inodes come round again after 2^32 of them: the addresses say that it is the one. */
static bool is_at(int fd, const struct idle *i)
{
	union sock_addr local = { 0 }, peer = { 0 };
	socklen_t a = sizeof(local), b = sizeof(peer);

	if (getsockname(fd, &local.sa, &a) < 0 || getpeername(fd, &peer.sa, &b) < 0 ||
	    local.sa.sa_family != i->family || ntohs(local.in.sin_port) != i->local_port ||
	    ntohs(peer.in.sin_port) != i->peer_port)
		return false;
	if (i->family == AF_INET6)
		return memcmp(&local.in6.sin6_addr, i->local, 16) == 0 &&
		       memcmp(&peer.in6.sin6_addr, i->peer, 16) == 0 && !local.in6.sin6_scope_id &&
		       !peer.in6.sin6_scope_id;
	return memcmp(&local.in.sin_addr, i->local, 4) == 0 &&
	       memcmp(&peer.in.sin_addr, i->peer, 4) == 0;
}

static void address(Cks__Address *a, const struct idle *i, bool peer)
{
	cks__address__init(a);
	a->family = i->family;
	a->ip.data = (uint8_t *)(uintptr_t)(peer ? i->peer : i->local);
	a->ip.len = i->family == AF_INET6 ? 16 : 4;
	a->port = peer ? i->peer_port : i->local_port;
}

static void sequence(const struct idle *i, Cks__TcpSequence *s, Cks__TcpWindow *w)
{
	cks__tcp_sequence__init(s);
	cks__tcp_window__init(w);
	s->rcv_nxt = i->rcv_nxt;
	s->write_seq = i->write_seq;
	s->mss = i->mss;
	s->wscale_ok = i->wscale_ok;
	s->snd_wscale = i->snd_wscale;
	s->rcv_wscale = i->rcv_wscale;
	s->sack = i->sack;
	s->timestamps = i->tstamp;
	s->timestamp = i->timestamp;
	s->window = w;
	w->snd_wl1 = i->snd_wl1;
	w->snd_wnd = i->snd_wnd;
	w->max_window = i->max_window;
	w->rcv_wnd = i->rcv_wnd;
	w->rcv_wup = i->rcv_wup;
}

static int message(struct dump *d, const struct ofd *o, const struct idle *i, const struct class *k,
		   struct buf *body, struct error *err)
{
	Cks__Queue none = CKS__QUEUE__INIT;
	Cks__Common c = CKS__COMMON__INIT;
	Cks__Tcp m = CKS__TCP__INIT;
	Cks__TcpSequence seq;
	Cks__TcpWindow window;
	Cks__Address local, peer;
	int n = d ? obj_owner_dump(d, o, &c.owner, err) : 0;

	if (n < 0)
		return n;
	address(&local, i, false);
	address(&peer, i, true);
	sequence(i, &seq, &window);
	c.family = i->family;
	c.type = SOCK_STREAM;
	c.protocol = IPPROTO_TCP;
	c.flags = (uint32_t)o->flags;
	c.uid = o->st.st_uid;
	c.gid = o->st.st_gid;
	c.sndbuf = i->sndbuf;
	c.rcvbuf = i->rcvbuf;
	c.buf_lock = i->buf_lock;
	c.reuseaddr = i->reuse;
	c.peek_off = -1;
	c.option_set = k->set;
	c.local = &local;
	c.peer = &peer;
	m.common = &c;
	m.state = TCP_ESTABLISHED;
	m.seq = &seq;
	m.received = m.sent = m.unsent = &none;
	obj_pack(&m.base, body);
	free(c.owner);
	return 1;
}

bool sock_idle_key(const struct ofd *o, struct buf *key)
{
	const struct idle *i = find(o);
	uint8_t bytes[KEY_MAX + ASKED_MAX * 65];

	if (!i)
		return false;
	buf_add(key, &i->socket_flags, sizeof(i->socket_flags));
	buf_add(key, bytes, whole_key(i, behind_of(i->family), o->fd, bytes));
	return true;
}

int sock_idle_dump(struct dump *d, const struct ofd *o, struct buf *body, struct error *err)
{
	const struct idle *i = find(o);
	const struct class *c = NULL;
	int n;

	if (!i || !is_at(o->fd, i))
		return 0;
	n = class_of(d, o, i, &c, err);
	if (n < 0 || !c || !c->usable)
		return n;
	return message(d, o, i, c, body, err);
}
