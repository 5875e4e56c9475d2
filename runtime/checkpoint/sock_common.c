/* SPDX-License-Identifier: Apache-2.0 */
/* What all sockets have in common: kinds, addresses, the state besides queues. */
#include "runtime/checkpoint/sock_common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/sock_addresses.h"
#include "runtime/checkpoint/sock_gate.h"
#include "runtime/checkpoint/sock_half_open.h"
#include "runtime/checkpoint/sock_idle.h"
#include "runtime/checkpoint/sock_options.h"
#include "runtime/checkpoint/sock_orphan.h"
#include "runtime/checkpoint/sock_tcp.h"

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef SIOCGSKNS
#define SIOCGSKNS 0x894C
#endif
#ifndef SO_GET_FILTER
#define SO_GET_FILTER SO_ATTACH_FILTER
#endif
/* Buffers while a socket is being filled; the real sizes come afterwards. */
#define ROOMY (32u << 20)

bool sock_kind(const struct ofd *o, struct sock_kind *k)
{
	if (!S_ISSOCK(o->st.st_mode) || (o->flags & O_PATH))
		return false;
	k->family = sock_opt_int(o->fd, SOL_SOCKET, SO_DOMAIN, -1);
	k->type = sock_opt_int(o->fd, SOL_SOCKET, SO_TYPE, -1);
	k->protocol = sock_opt_int(o->fd, SOL_SOCKET, SO_PROTOCOL, -1);
	return k->family >= 0 && k->family != AF_UNIX;
}

/* --- interfaces and addresses ---------------------------------------------------------- */
int sock_ifindex(int fd, const char *name)
{
	struct ifreq q = { 0 };

	if (!name || strlen(name) >= IFNAMSIZ)
		return -ENODEV;
	strcpy(q.ifr_name, name);
	return ioctl(fd, SIOCGIFINDEX, &q) < 0 ? -errno : q.ifr_ifindex;
}

char *sock_ifname(int fd, int index)
{
	struct ifreq q = { .ifr_ifindex = index };

	return ioctl(fd, SIOCGIFNAME, &q) < 0 ? NULL : str_dup(q.ifr_name);
}

Cks__Address *sock_address_dump(int fd, const union sock_addr *a)
{
	Cks__Address *m = mem_zalloc(sizeof(*m));
	bool v6 = a->sa.sa_family == AF_INET6;

	cks__address__init(m);
	m->family = a->sa.sa_family;
	m->ip.len = v6 ? 16 : 4;
	m->ip.data = mem_zalloc(16);
	memcpy(m->ip.data, v6 ? (const void *)&a->in6.sin6_addr : &a->in.sin_addr, m->ip.len);
	m->port = ntohs(a->in.sin_port); /* at the same place in both */
	m->interface = NULL;
	if (v6) {
		m->flowinfo = a->in6.sin6_flowinfo;
		if (a->in6.sin6_scope_id)
			m->interface = sock_ifname(fd, (int)a->in6.sin6_scope_id);
	}
	if (!m->interface)
		m->interface = str_dup("");
	return m;
}

void sock_address_free(Cks__Address *a)
{
	if (!a)
		return;
	free(a->ip.data);
	free(a->interface);
	free(a);
}

bool sock_address_is_whole(const Cks__Address *m)
{
	return m && m->port <= 65535 &&
	       ((m->family == AF_INET && m->ip.len == 4) ||
		(m->family == AF_INET6 && m->ip.len == 16));
}

int sock_address_load(int fd, const Cks__Address *m, union sock_addr *a, struct error *err)
{
	int index;

	memset(a, 0, sizeof(*a));
	if (!sock_address_is_whole(m))
		return error_set(err, EBADMSG, "a damaged socket address");
	a->sa.sa_family = (sa_family_t)m->family;
	a->in.sin_port = htons((uint16_t)m->port);
	if (m->family == AF_INET) {
		memcpy(&a->in.sin_addr, m->ip.data, 4);
		return sizeof(a->in);
	}
	memcpy(&a->in6.sin6_addr, m->ip.data, 16);
	a->in6.sin6_flowinfo = m->flowinfo;
	if (*m->interface) {
		index = sock_ifindex(fd, m->interface);
		if (index < 0)
			return error_set(err, ENODEV, "there is no interface %s here",
					 m->interface);
		a->in6.sin6_scope_id = (uint32_t)index;
	}
	return sizeof(a->in6);
}

static Cks__Address *address_of(int fd, int (*get)(int, struct sockaddr *, socklen_t *))
{
	union sock_addr a = { 0 };
	socklen_t len = sizeof(a);

	if (get(fd, &a.sa, &len) < 0 || (a.sa.sa_family != AF_INET && a.sa.sa_family != AF_INET6))
		return NULL;
	return sock_address_dump(fd, &a);
}

static int get_local(int fd, struct sockaddr *a, socklen_t *len)
{
	return getsockname(fd, a, len);
}

static int get_peer(int fd, struct sockaddr *a, socklen_t *len)
{
	return getpeername(fd, a, len);
}

Cks__Address *sock_address_local(int fd)
{
	return address_of(fd, get_local);
}

Cks__Address *sock_address_peer(int fd)
{
	return address_of(fd, get_peer);
}

const char *sock_address_text(const Cks__Address *m, char *out, size_t cap)
{
	char ip[64] = "?";

	if (!m)
		return "no address";
	if (!sock_address_is_whole(m))
		return "a damaged address";
	inet_ntop(m->family, m->ip.data, ip, sizeof(ip));
	snprintf(out, cap, m->family == AF_INET6 ? "[%s]:%u" : "%s:%u", ip, m->port);
	return out;
}

_Thread_local bool sock_beside;

/* --- source ---------------------------------------------------------------------------- */
static int cookie_of_netns(void *arg)
{
	CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(uint64_t);

	return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, arg, &len) < 0 ? -errno : 0;
}

/* The container's; 0: the kernel has none (before 5.14). */
static uint64_t netns_cookie(struct dump *d)
{
	static struct dump *of;
	static uint64_t cookie;

	if (d && d != of) {
		cookie = 0;
		if (dump_in_netns(d, cookie_of_netns, &cookie, NULL) < 0)
			cookie = 0;
		of = d;
	}
	return d ? cookie : 0;
}

void sock_common_prepare(struct dump *d)
{
	netns_cookie(d);
}

/* True where the socket lives in another network namespace than its holder. */
static bool in_foreign_netns(struct dump *d, const struct ofd *o)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	CLEANUP_CLOSE int ns = -1;
	char path[64];
	struct stat a, b;

	if (!o->task)
		return false;
	if (getsockopt(o->fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == 0 &&
	    cookie == netns_cookie(d))
		return false;
	ns = ioctl(o->fd, SIOCGSKNS);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", task_pid(o->task));
	return ns >= 0 && fstat(ns, &a) == 0 && stat(path, &b) == 0 && a.st_ino != b.st_ino;
}

bool sock_stays(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (int i = 0; i < 20; i++) {
		if (poll(&p, 1, 0) <= 0 || !(p.revents & events))
			return false;
		usleep(10000);
	}
	return true;
}

void sock_common_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	socklen_t n = 0;

	if (in_foreign_netns(d, o))
		obj_obstacle(out, o, o->link,
			     "this socket was made in another network namespace and handed in",
			     "let the program make its own sockets");
	if (getsockopt(o->fd, SOL_SOCKET, SO_GET_FILTER, NULL, &n) < 0 && errno == EACCES)
		obj_obstacle(out, o, o->link, "an eBPF filter is attached to this socket",
			     "detach it (SO_DETACH_FILTER), or use a classic filter");
	obj_owner_check(d, o, out);
}

int sock_common_dump(struct dump *d, const struct ofd *o, bool unconnected, Cks__Common **out,
		     struct error *err)
{
	Cks__Common *c = mem_zalloc(sizeof(*c));
	struct sock_kind k = { 0 };
	char device[IFNAMSIZ] = "";
	socklen_t len = sizeof(device);

	cks__common__init(c);
	*out = c;
	if (!sock_kind(o, &k))
		return error_set(err, ENOTSOCK, "this is no socket");
	if (in_foreign_netns(d, o))
		return error_set(err, ENOTSUP, "this socket lives in another network namespace");
	c->family = k.family;
	c->type = k.type;
	c->protocol = k.protocol;
	c->flags = (uint32_t)o->flags;
	c->uid = o->st.st_uid;
	c->gid = o->st.st_gid;
	c->sndbuf = (uint32_t)sock_opt_int(o->fd, SOL_SOCKET, SO_SNDBUF, 0);
	c->rcvbuf = (uint32_t)sock_opt_int(o->fd, SOL_SOCKET, SO_RCVBUF, 0);
	c->buf_lock = (uint32_t)sock_opt_int(o->fd, SOL_SOCKET, SO_BUF_LOCK, 3);
	c->reuseaddr = sock_opt_int(o->fd, SOL_SOCKET, SO_REUSEADDR, 0) != 0;
	c->peek_off = sock_opt_int(o->fd, SOL_SOCKET, SO_PEEK_OFF, -1);
	if (getsockopt(o->fd, SOL_SOCKET, SO_BINDTODEVICE, device, &len) == 0 && len)
		c->device = str_dup(device);
	if (d)
		sock_options_dump_set(o->fd, unconnected, c);
	else
		sock_options_dump(o->fd, unconnected, c);
	c->local = sock_address_local(o->fd);
	c->peer = sock_address_peer(o->fd);
	if (d) {
		int n = obj_owner_dump(d, o, &c->owner, err);

		if (n == 0 && !sock_beside)
			n = sock_options_send_sets(d, err);
		if (n < 0)
			return n;
	}
	return sock_filter_dump(o->fd, c, err);
}

static void free_text(char *s)
{
	if (s != protobuf_c_empty_string)
		free(s);
}

void sock_common_free(Cks__Common *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n_options; i++)
		sock_option_free(c->options[i]);
	free(c->options);
	free_text(c->device);
	free(c->filter.data);
	free(c->owner);
	sock_address_free(c->local);
	sock_address_free(c->peer);
	free(c);
}

/* --- destination: a stock of fresh sockets ---------------------------------------------- */
#define STOCK_MAX  64	 /* made at a visit, where nobody has said how many there will be */
#define EXPECT_MAX 16384 /* made ahead */
#define STOCKS	   16
static struct stock {
	int family, type, protocol;
	int *fd;
	size_t n, next; /* ready; how many to make at the next visit */
} stocks[STOCKS];

static struct dump *stock_source;

void sock_pool_use(struct dump *d)
{
	stock_source = d;
}

static int stock_fill(void *arg)
{
	struct stock *s = arg;

	s->fd = mem_grow(s->fd, s->next, sizeof(*s->fd));
	while (s->n < s->next) {
		int fd = socket(s->family, s->type | SOCK_CLOEXEC | SOCK_NONBLOCK, s->protocol);

		if (fd < 0)
			return s->n ? 0 : -errno;
		sock_opt_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		sock_buffer_set(fd, SO_SNDBUF, ROOMY);
		sock_buffer_set(fd, SO_RCVBUF, ROOMY);
		s->fd[s->n++] = fd;
	}
	return 0;
}

/* The stock of this kind; NULL: there are too many kinds. */
static struct stock *stock_of(int family, int type, int protocol)
{
	for (size_t i = 0; i < STOCKS; i++) {
		struct stock *s = &stocks[i];

		if (s->next && (s->family != family || s->type != type || s->protocol != protocol))
			continue;
		if (!s->next)
			*s = (struct stock){ family, type, protocol, NULL, 0, 1 };
		return s;
	}
	return NULL;
}

static int stock_visit(struct restore *r, struct stock *s, struct error *err)
{
	if (r)
		return restore_in_netns(r, stock_fill, s, err);
	return stock_source ? dump_in_netns(stock_source, stock_fill, s, err) : stock_fill(s);
}

void sock_pool_expect(struct restore *r, int family, size_t n)
{
	struct stock *s = stock_of(family, SOCK_STREAM, IPPROTO_TCP);
	size_t next = s ? s->next : 0;
	struct rlimit lim;

	if (!s || (family != AF_INET && family != AF_INET6))
		return;
	/* beside all descriptors of the container, and the engine's own */
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && n > lim.rlim_cur / 4)
		n = lim.rlim_cur / 4;
	s->next = n < EXPECT_MAX ? n : EXPECT_MAX;
	if (s->next > s->n)
		stock_visit(r, s, NULL);
	s->next = next;
}

int sock_pool_take(struct restore *r, int family, int type, int protocol, struct error *err)
{
	struct stock one = { family, type, protocol, NULL, 0, 1 };
	struct stock *known = stock_of(family, type, protocol), *s = known ? known : &one;
	int n = 0, fd;

	if (!s->n) {
		n = stock_visit(r, s, err);
		if (s->next < STOCK_MAX && known)
			s->next *= 2;
	}
	fd = n < 0 || !s->n ? -1 : s->fd[--s->n];
	free(one.fd);
	if (fd < 0)
		return error_sys(err, n < 0 ? -n : EMFILE,
				 "making a socket (family %d, type %d, protocol %d)%s", family,
				 type, protocol,
				 n == -EACCES && type == SOCK_DGRAM
					 ? "; is net.ipv4.ping_group_range set there?"
					 : "");
	return fd;
}

void sock_pool_drop(void)
{
	for (size_t i = 0; i < STOCKS; i++) {
		while (stocks[i].n)
			close(stocks[i].fd[--stocks[i].n]);
		free(stocks[i].fd);
		stocks[i].fd = NULL;
		stocks[i].next = 0;
	}
}

int sock_common_make(struct restore *r, const Cks__Common *c, int *fd, struct error *err)
{
	CLEANUP_CLOSE int s = -1;
	int n;

	if ((c->local && !sock_address_is_whole(c->local)) ||
	    (c->peer && !sock_address_is_whole(c->peer)))
		return error_set(err, EBADMSG, "a damaged socket address");
	s = sock_pool_take(r, c->family, c->type, c->protocol, err);
	if (s < 0)
		return s;
	/* its owner: SO_REUSEPORT groups are of one user */
	if ((c->uid || c->gid) && fchown(s, c->uid, c->gid) < 0)
		return error_sys(err, errno, "setting the owner of a socket");
	n = sock_options_load(s, c, err);
	if (n < 0)
		return n;
	*fd = TAKE_FD(s);
	return 0;
}

int sock_common_device(int fd, const Cks__Common *c, struct error *err)
{
	if (*c->device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, c->device,
				     (socklen_t)strlen(c->device)) < 0)
		return error_sys(err, errno, "binding a socket to interface %s", c->device);
	return 0;
}

/* As sock_buffer_set(), of a socket that is known to have another. */
static void buffer_shrink(int fd, int name, int force, uint32_t size)
{
	if (sock_opt_set(fd, SOL_SOCKET, force, (int)(size / 2)) < 0)
		sock_opt_set(fd, SOL_SOCKET, name, (int)(size / 2));
}

int sock_common_settle(int fd, const Cks__Common *c, struct error *err)
{
	buffer_shrink(fd, SO_SNDBUF, SO_SNDBUFFORCE, c->sndbuf);
	buffer_shrink(fd, SO_RCVBUF, SO_RCVBUFFORCE, c->rcvbuf);
	sock_opt_set(fd, SOL_SOCKET, SO_BUF_LOCK, (int)c->buf_lock);
	if (!(c->flags & O_NONBLOCK) && fcntl(fd, F_SETFL, O_RDWR) < 0)
		return error_sys(err, errno, "setting the flags of a socket");
	return 0;
}

int sock_common_finish(int fd, const Cks__Common *c, struct error *err)
{
	int n = 0, fl;

	sock_buffer_set(fd, SO_SNDBUF, c->sndbuf);
	sock_buffer_set(fd, SO_RCVBUF, c->rcvbuf);
	sock_opt_set(fd, SOL_SOCKET, SO_BUF_LOCK, (int)c->buf_lock);
	if ((sock_opt_int(fd, SOL_SOCKET, SO_REUSEADDR, 0) != 0) != c->reuseaddr)
		n = sock_opt_set(fd, SOL_SOCKET, SO_REUSEADDR, c->reuseaddr);
	if (n == 0 && c->peek_off >= 0)
		n = sock_opt_set(fd, SOL_SOCKET, SO_PEEK_OFF, c->peek_off);
	if (n < 0)
		return error_sys(err, -n, "setting socket options");
	n = sock_filter_load(fd, c, err);
	if (n < 0)
		return n;
	fl = fcntl(fd, F_GETFL);
	if (fcntl(fd, F_SETFL, (fl & ~O_NONBLOCK) | ((int)c->flags & O_NONBLOCK)) < 0)
		return error_sys(err, errno, "setting the flags of a socket");
	return 0;
}

/* --- long queues: sent before the object, as a part of their own -------------------------- */
#define INLINE_MAX  (256u << 10)
#define SPILL_PIECE (2u << 20)

static struct spilled {
	uint64_t key;
	struct buf data;
} * spilled;
static size_t nspilled;
static uint64_t spill_key;

int sock_queue_dump(struct dump *d, uint8_t *data, size_t len, Cks__Queue **out, struct error *err)
{
	Cks__Queue *q = mem_zalloc(sizeof(*q));
	int n = 0;

	cks__queue__init(q);
	*out = q;
	q->data.data = data;
	if (!d || len <= INLINE_MAX || sock_beside) {
		q->data.len = len;
		return 0;
	}
	q->key = ++spill_key;
	q->spilled = len;
	for (size_t at = 0; at < len && n == 0; at += SPILL_PIECE) {
		CLEANUP_BUF struct buf b = { 0 };
		Cks__Spill m = CKS__SPILL__INIT;

		m.key = q->key;
		m.data.data = data + at;
		m.data.len = len - at < SPILL_PIECE ? len - at : SPILL_PIECE;
		obj_pack(&m.base, &b);
		n = dump_send_part(d, sock_part.name, b.data, b.len, err);
	}
	return n;
}

void sock_queue_free(Cks__Queue *q)
{
	if (!q)
		return;
	free(q->data.data);
	free(q);
}

int sock_queue_data(const Cks__Queue *q, const uint8_t **data, size_t *len, struct error *err)
{
	*data = NULL;
	*len = 0;
	if (!q)
		return 0;
	*data = q->data.data;
	*len = q->data.len;
	if (!q->spilled)
		return 0;
	for (size_t i = 0; i < nspilled; i++)
		if (spilled[i].key == q->key && spilled[i].data.len == q->spilled) {
			*data = (uint8_t *)spilled[i].data.data;
			*len = spilled[i].data.len;
			return 0;
		}
	return error_set(err, EBADMSG, "the content of a socket's queue is missing");
}

static int sock_part_receive(struct restore *r, const void *body, size_t len, struct error *err)
{
	CLEANUP_MSG Cks__Spill *m = obj_unpack(&cks__spill__descriptor, body, len, err);
	struct spilled *s = NULL;

	if (!m)
		return -EBADMSG;
	for (size_t i = 0; i < m->n_expect; i++)
		sock_pool_expect(r, m->expect[i]->family, m->expect[i]->sockets);
	if (m->n_expect)
		return 0;
	if (m->half_open)
		return sock_half_open_restore(r, m->half_open, err);
	if (m->n_option_set) {
		int n;

		sock_options_move(r, m->option_set, m->n_option_set);
		n = sock_options_receive_set(m, err);

		if (n == 0)
			m = NULL; /* kept */
		return n;
	}
	for (size_t i = 0; i < nspilled && !s; i++)
		if (spilled[i].key == m->key)
			s = &spilled[i];
	if (!s) {
		spilled = mem_grow(spilled, nspilled + 1, sizeof(*spilled));
		s = &spilled[nspilled++];
		*s = (struct spilled){ .key = m->key };
	}
	buf_add(&s->data, m->data.data, m->data.len);
	return 0;
}

/* TCP sockets in use in the container's namespace. */
static size_t count_tcp(struct dump *d, int family)
{
	const struct task *init = dump_task(d, 1);
	CLEANUP_FREE char *path = str_format("/proc/%d/net/sockstat%s", init ? task_pid(init) : 0,
					     family == AF_INET6 ? "6" : "");
	const char *key = family == AF_INET6 ? "TCP6: inuse " : "TCP: inuse ";
	CLEANUP_FREE char *text = NULL;
	const char *at = file_read(path, 65536, &text, NULL, NULL) < 0 ? NULL : strstr(text, key);

	return at ? strtoul(at + strlen(key), NULL, 10) : 0;
}

/* Tells the destination how many there will be, so that it makes as many fresh ones. */
static int send_expected(struct dump *d, size_t v4, size_t v6, struct error *err)
{
	Cks__Expect e[2] = { CKS__EXPECT__INIT, CKS__EXPECT__INIT }, *list[2] = { &e[0], &e[1] };
	Cks__Spill m = CKS__SPILL__INIT;
	CLEANUP_BUF struct buf b = { 0 };

	e[0].family = AF_INET;
	e[0].sockets = (uint32_t)v4;
	e[1].family = AF_INET6;
	e[1].sockets = (uint32_t)v6;
	m.expect = list;
	m.n_expect = 2;
	obj_pack(&m.base, &b);
	return dump_send_part(d, sock_part.name, b.data, b.len, err);
}

/* Pre-copy: what takes long and changes nothing yet. */
static int sock_part_round(struct dump *d, int n, json_t *args, struct error *err)
{
	size_t v4 = count_tcp(d, AF_INET), v6 = count_tcp(d, AF_INET6);

	(void)args;
	tcp_pending_possible();
	sock_orphans_load();
	sock_idle_load(v4 + v6);
	sock_common_prepare(d);
	if (n == 1 && v4 + v6 >= sock_idle_enough && send_expected(d, v4, v6, err) < 0)
		return -err->code;
	return sock_gate_attach(d, err);
}

/* What is on its way on lo arrives while others are dumped. */
static void sock_part_begin(struct dump *d)
{
	(void)d;
	sock_gate_close(true);
}

/* What was read in one pass goes first: the destination makes it while memory is sent. */
static int send_idle(struct dump *d, struct error *err)
{
	int n = 0;

	for (size_t i = 0; i < dump_ofd_count(d) && n == 0; i++) {
		struct ofd *o = dump_ofd_at(d, i);

		if (o->kind == &sock_type_tcp && sock_idle_has(o))
			n = dump_object(d, o, err);
	}
	return n;
}

/* Frozen: those, and what no descriptor leads to. */
static int sock_part_dump(struct dump *d, struct error *err)
{
	struct sock_orphans o = { 0 };
	int n = sock_gate_attach(d, err);

	sock_options_forget_sent();
	sock_common_prepare(d);
	if (n == 0) {
		sock_gate_close(true);
		sock_gate_wait();
		sock_idle_read(d);
		tcp_ahead_start(d);
		n = send_idle(d, err);
	}
	if (n == 0 && sock_idle_orphans_possible())
		n = sock_orphans_read(d, &o, err);
	if (n == 0 && o.urgent)
		n = error_set(err, EAGAIN,
			      "urgent data (MSG_OOB) that was sent is not acknowledged yet by the "
			      "peer; try again");
	for (size_t i = 0; i < o.ntcp && n == 0; i++)
		n = dump_send_object(d, "tcp", &o.tcp[i], err);
	if (n == 0 && o.half.n_request) {
		CLEANUP_BUF struct buf b = { 0 };
		Cks__Spill m = CKS__SPILL__INIT;

		m.half_open = &o.half;
		obj_pack(&m.base, &b);
		n = dump_send_part(d, sock_part.name, b.data, b.len, err);
	}
	sock_orphans_free(&o);
	return n;
}

static int sock_part_undo(struct dump *d)
{
	tcp_ahead_stop();
	sock_gate_close(false);
	sock_gate_open_left(d);
	sock_idle_forget();
	return 0;
}

static void sock_part_leave(struct restore *r)
{
	(void)r;
	sock_half_open_leave();
	tcp_restore_free();
	sock_pool_drop();
}

const struct checkpoint_part sock_part = {
	.name = "sockets",
	.round = sock_part_round,
	.begin = sock_part_begin,
	.dump = sock_part_dump,
	.dump_undo = sock_part_undo,
	.receive = sock_part_receive,
	.leave = sock_part_leave,
};
