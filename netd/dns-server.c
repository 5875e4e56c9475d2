/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DNS server of all containers of a host: one thread, one epoll set. A socket is made
 * inside the container's namespace (by netns_run) and served from here; upstream queries
 * leave from the host's namespace, each through a socket of its own (a fresh random port
 * and id, so that a forged answer must guess both).
 *
 * Every fd in the epoll set is a `struct source`. Sources are made and freed by the server
 * thread alone, listeners excepted: these come and go under the lock and are freed by the
 * thread when it finds them `dead`.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <ldns/ldns.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "netd/dns.h"
#include "netd/netns.h"

#define LISTEN_ADDRESS	 0x7f00000b /* 127.0.0.11, as Docker's */
#define UPSTREAM_MAX	 3	    /* name servers tried, as resolv.conf(5) */
#define UPSTREAM_WAIT_NS 2500000000LL
#define CLIENT_WAIT_NS	 10000000000LL
#define PENDING_MAX	 512 /* upstream queries at a time */
#define CLIENTS_MAX	 256 /* TCP connections at a time */

enum kind { WAKE, UDP_LISTEN, TCP_LISTEN, TCP_CLIENT, UPSTREAM };

struct zone { /* one container; referenced by its listeners and what they started */
	char *id;
	json_t *networks, *dns;
	int refs;
	struct zone *next;
};

struct source {
	enum kind kind;
	int fd;
	struct zone *zone;
	struct source *next, *prev;
	bool dead;
	int64_t deadline_ns; /* 0: none */

	/* TCP_CLIENT, and UPSTREAM over TCP: the message being read or written */
	struct buf in, out;
	size_t sent;

	/* UPSTREAM */
	bool tcp;
	struct source *client;	 /* TCP_CLIENT or UDP_LISTEN that waits; NULL: gone */
	struct sockaddr_in from; /* UDP client */
	uint8_t *query;		 /* as the client sent it */
	size_t query_len;
	uint16_t id;
	int server; /* index of the name server being asked */
};

struct dns_server {
	pthread_t thread;
	pthread_mutex_t lock;	       /* zones, sources, resolver's fn and ctx */
	pthread_mutex_t resolver_lock; /* held while the resolver runs, for set_resolver */
	int epoll, wake;
	bool stop;
	char *resolv_conf;
	struct sockaddr_in servers[UPSTREAM_MAX];
	int nservers;
	struct timespec resolv_mtime;
	netd_lookup_fn *fn;
	void *ctx;
	struct zone *zones;
	struct source *sources;
	int npending, nclients;
};

/* --- sources ------------------------------------------------------------------------------ */

static void zone_put(struct zone *z)
{
	if (!z || --z->refs)
		return;
	free(z->id);
	json_decref(z->networks);
	json_decref(z->dns);
	free(z);
}

static struct source *source_new(struct dns_server *s, enum kind kind, int fd, uint32_t events,
				 struct zone *zone)
{
	struct source *src = mem_zalloc(sizeof(*src));
	struct epoll_event ev = { .events = events, .data.ptr = src };

	src->kind = kind;
	src->fd = fd;
	src->zone = zone;
	if (zone)
		zone->refs++;
	src->next = s->sources;
	if (s->sources)
		s->sources->prev = src;
	s->sources = src;
	epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev);
	return src;
}

static void source_events(struct dns_server *s, struct source *src, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = src };

	epoll_ctl(s->epoll, EPOLL_CTL_MOD, src->fd, &ev);
}

/* Closed now, freed at the end of the turn: events of this turn may still point here. */
static void source_kill(struct dns_server *s, struct source *src)
{
	if (src->dead)
		return;
	src->dead = true;
	epoll_ctl(s->epoll, EPOLL_CTL_DEL, src->fd, NULL);
	close(src->fd);
	if (src->kind == UPSTREAM)
		s->npending--;
	if (src->kind == TCP_CLIENT)
		s->nclients--;
	for (struct source *o = s->sources; o; o = o->next)
		if (o->client == src)
			o->client = NULL;
}

static void source_free(struct dns_server *s, struct source *src)
{
	if (src == s->sources)
		s->sources = src->next;
	else
		src->prev->next = src->next;
	if (src->next)
		src->next->prev = src->prev;
	buf_free(&src->in);
	buf_free(&src->out);
	free(src->query);
	zone_put(src->zone);
	free(src);
}

static void sweep(struct dns_server *s, int64_t now)
{
	struct source *next;

	for (struct source *src = s->sources; src; src = src->next)
		if (src->kind == TCP_CLIENT && src->deadline_ns && now >= src->deadline_ns)
			source_kill(s, src);
	for (struct source *src = s->sources; src; src = next) {
		next = src->next;
		if (src->dead)
			source_free(s, src);
	}
}

/* --- upstream servers --------------------------------------------------------------------- */

static int parse_server(const char *text, struct sockaddr_in *out)
{
	memset(out, 0, sizeof(*out));
	out->sin_family = AF_INET;
	out->sin_port = htons(53);
	return inet_pton(AF_INET, text, &out->sin_addr) == 1 ? 0 : -EINVAL;
}

/* Reads resolv.conf where it changed. IPv6 servers are passed over. */
static void read_resolv_conf(struct dns_server *s)
{
	CLEANUP_FREE char *text = NULL;
	struct stat st;
	char *save = NULL;

	if (stat(s->resolv_conf, &st) < 0 || (st.st_mtim.tv_sec == s->resolv_mtime.tv_sec &&
					      st.st_mtim.tv_nsec == s->resolv_mtime.tv_nsec))
		return;
	s->resolv_mtime = st.st_mtim;
	if (file_read(s->resolv_conf, 65536, &text, NULL, NULL) < 0)
		return;
	s->nservers = 0;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char ip[64];

		if (s->nservers < UPSTREAM_MAX && sscanf(line, "nameserver %63s", ip) == 1 &&
		    parse_server(ip, &s->servers[s->nservers]) == 0)
			s->nservers++;
	}
}

static int server_at(struct dns_server *s, const struct zone *z, int i, struct sockaddr_in *out)
{
	if (json_array_size(z->dns))
		return i < UPSTREAM_MAX && i < (int)json_array_size(z->dns)
			       ? parse_server(json_string_value(json_array_get(z->dns, (size_t)i)),
					      out)
			       : -ENOENT;
	if (i >= s->nservers)
		return -ENOENT;
	*out = s->servers[i];
	return 0;
}

/* --- replies to clients ------------------------------------------------------------------- */

static void tcp_flush(struct dns_server *s, struct source *src)
{
	while (src->sent < src->out.len) {
		ssize_t n = send(src->fd, src->out.data + src->sent, src->out.len - src->sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			source_events(s, src, EPOLLIN | EPOLLOUT);
			return;
		}
		if (n <= 0) {
			source_kill(s, src);
			return;
		}
		src->sent += (size_t)n;
	}
	src->out.len = src->sent = 0;
	source_events(s, src, EPOLLIN);
}

static void tcp_queue(struct source *src, const uint8_t *msg, size_t len)
{
	uint8_t size[2] = { (uint8_t)(len >> 8), (uint8_t)len };

	buf_add(&src->out, size, 2);
	buf_add(&src->out, msg, len);
}

static void reply(struct dns_server *s, struct source *client, const struct sockaddr_in *from,
		  const uint8_t *msg, size_t len)
{
	if (!client || client->dead)
		return;
	if (client->kind == TCP_CLIENT) {
		tcp_queue(client, msg, len);
		tcp_flush(s, client);
		return;
	}
	sendto(client->fd, msg, len, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)from,
	       sizeof(*from));
}

/* --- forwarding ----------------------------------------------------------------------------- */

/* Asks the next server; -ENOENT where none is left. */
static int upstream_ask(struct dns_server *s, struct source *client, const struct sockaddr_in *from,
			struct zone *zone, uint8_t *query, size_t len, int server)
{
	bool tcp = client->kind == TCP_CLIENT;
	struct sockaddr_in to;
	struct source *up;

	for (;; server++) {
		CLEANUP_CLOSE int fd = -1;
		uint16_t id = 0;

		if (server_at(s, zone, server, &to) < 0) {
			if (server >= UPSTREAM_MAX)
				return -ENOENT;
			continue;
		}
		fd = socket(AF_INET,
			    (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0 || getrandom(&id, sizeof(id), 0) != sizeof(id))
			return -ENOENT;
		if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
			continue;
		query[0] = (uint8_t)(id >> 8);
		query[1] = (uint8_t)id;
		if (!tcp && send(fd, query, len, MSG_NOSIGNAL) < 0)
			continue;
		up = source_new(s, UPSTREAM, TAKE_FD(fd), tcp ? EPOLLIN | EPOLLOUT : EPOLLIN, zone);
		up->tcp = tcp;
		up->id = id;
		break;
	}
	up->client = client;
	if (from)
		up->from = *from;
	up->query = query;
	up->query_len = len;
	up->server = server;
	up->deadline_ns = clock_mono_ns() + UPSTREAM_WAIT_NS;
	if (tcp)
		tcp_queue(up, query, len);
	s->npending++;
	return 0;
}

/* `query` is the client's message (ours to free); its first two bytes may be overwritten. */
static void forward(struct dns_server *s, struct source *client, const struct sockaddr_in *from,
		    struct zone *zone, uint8_t *query, size_t len, uint16_t client_id, int server)
{
	uint8_t *out = NULL;
	size_t out_len = 0;

	if (s->npending < PENDING_MAX) {
		uint8_t *copy = mem_zalloc(len + 2);

		/* The client's id travels behind the message. */
		memcpy(copy, query, len);
		copy[len] = (uint8_t)(client_id >> 8);
		copy[len + 1] = (uint8_t)client_id;
		if (upstream_ask(s, client, from, zone, copy, len, server) == 0)
			return;
		free(copy);
	}
	query[0] = (uint8_t)(client_id >> 8);
	query[1] = (uint8_t)client_id;
	if (dns_error_reply(query, len, LDNS_RCODE_SERVFAIL, &out, &out_len) == 0)
		reply(s, client, from, out, out_len);
	free(out);
}

static uint16_t upstream_client_id(const struct source *up)
{
	return (uint16_t)(up->query[up->query_len] << 8 | up->query[up->query_len + 1]);
}

/* This server does not answer: the next one. */
static void upstream_failed(struct dns_server *s, struct source *up)
{
	struct source *client = up->client;

	source_kill(s, up);
	if (client && !client->dead)
		forward(s, client, &up->from, up->zone, up->query, up->query_len,
			upstream_client_id(up), up->server + 1);
}

static void upstream_answer(struct dns_server *s, struct source *up, uint8_t *msg, size_t len)
{
	uint16_t id = upstream_client_id(up);

	if (len < 12 || msg[0] != (uint8_t)(up->id >> 8) || msg[1] != (uint8_t)up->id ||
	    !(msg[2] & 0x80))
		return; /* not the answer to this: wait on */
	msg[0] = (uint8_t)(id >> 8);
	msg[1] = (uint8_t)id;
	reply(s, up->client, &up->from, msg, len);
	source_kill(s, up);
}

/* --- queries -------------------------------------------------------------------------------- */

struct lookup {
	struct dns_server *s;
	json_t *networks;
};

static int lookup_name(void *ctx, const char *name, json_t **answers)
{
	struct lookup *l = ctx;
	const json_t *network;
	size_t i;
	int r = -ENOENT;

	pthread_mutex_lock(&l->s->resolver_lock);
	json_array_foreach (l->networks, i, network) {
		if (!l->s->fn)
			break;
		r = l->s->fn(l->s->ctx, json_string_value(network), name, answers);
		if (r == 0)
			break;
	}
	pthread_mutex_unlock(&l->s->resolver_lock);
	return r;
}

/* Called with the lock held; drops it while the resolver runs. */
static void query(struct dns_server *s, struct source *client, const struct sockaddr_in *from,
		  uint8_t *msg, size_t len)
{
	struct lookup l = { s, json_incref(client->zone->networks) };
	enum dns_verdict verdict;
	uint8_t *out = NULL;
	size_t out_len = 0;

	pthread_mutex_unlock(&s->lock);
	verdict = dns_answer(msg, len, client->kind == TCP_CLIENT ? DNS_MESSAGE_MAX : 512,
			     lookup_name, &l, &out, &out_len);
	pthread_mutex_lock(&s->lock);
	json_decref(l.networks);
	if (verdict == DNS_ANSWER)
		reply(s, client, from, out, out_len);
	else if (verdict == DNS_FORWARD && !client->dead)
		forward(s, client, from, client->zone, msg, len, (uint16_t)(msg[0] << 8 | msg[1]),
			0);
	free(out);
}

static void on_udp(struct dns_server *s, struct source *src, uint8_t *msg)
{
	for (int burst = 0; burst < 64 && !src->dead; burst++) {
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(src->fd, msg, DNS_MESSAGE_MAX, MSG_DONTWAIT,
				     (struct sockaddr *)&from, &len);

		if (n < 0)
			return;
		query(s, src, &from, msg, (size_t)n);
	}
}

static void on_accept(struct dns_server *s, struct source *src)
{
	int fd = accept4(src->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct source *client;

	if (fd < 0)
		return;
	if (s->nclients >= CLIENTS_MAX) {
		close(fd);
		return;
	}
	client = source_new(s, TCP_CLIENT, fd, EPOLLIN, src->zone);
	client->deadline_ns = clock_mono_ns() + CLIENT_WAIT_NS;
	s->nclients++;
}

/* Reads what is there; the length of a whole message at the start of `in`, 0: not yet. */
static size_t tcp_read(struct dns_server *s, struct source *src)
{
	uint8_t chunk[4096];
	ssize_t n = recv(src->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
	size_t want;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		if (src->kind == UPSTREAM)
			upstream_failed(s, src);
		else
			source_kill(s, src);
		return 0;
	}
	buf_add(&src->in, chunk, (size_t)n);
	if (src->in.len < 2)
		return 0;
	want = (size_t)((uint8_t)src->in.data[0] << 8 | (uint8_t)src->in.data[1]);
	return src->in.len >= want + 2 ? want : 0;
}

static void on_tcp_client(struct dns_server *s, struct source *src, uint32_t events, uint8_t *msg)
{
	size_t len;

	if (events & EPOLLOUT)
		tcp_flush(s, src);
	if (src->dead || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	len = tcp_read(s, src);
	while (len && !src->dead) { /* pipelined queries (RFC 7766) */
		memcpy(msg, src->in.data + 2, len);
		memmove(src->in.data, src->in.data + len + 2, src->in.len - len - 2);
		src->in.len -= len + 2;
		src->deadline_ns = clock_mono_ns() + CLIENT_WAIT_NS;
		query(s, src, NULL, msg, len);
		len = 0;
		if (src->in.len >= 2) {
			size_t want =
				(size_t)((uint8_t)src->in.data[0] << 8 | (uint8_t)src->in.data[1]);

			if (src->in.len >= want + 2)
				len = want;
		}
	}
}

static void on_upstream(struct dns_server *s, struct source *up, uint32_t events, uint8_t *msg)
{
	ssize_t n;
	size_t len;

	if (!up->tcp) {
		n = recv(up->fd, msg, DNS_MESSAGE_MAX, MSG_DONTWAIT);
		if (n >= 0)
			upstream_answer(s, up, msg, (size_t)n);
		else if (errno != EAGAIN && errno != EINTR)
			upstream_failed(s, up);
		return;
	}
	if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN)) {
		upstream_failed(s, up);
		return;
	}
	if (events & EPOLLOUT)
		tcp_flush(s, up);
	if (up->dead)
		upstream_failed(s, up); /* the write failed */
	if (up->dead || !(events & EPOLLIN))
		return;
	len = tcp_read(s, up);
	if (len && !up->dead) {
		memcpy(msg, up->in.data + 2, len);
		upstream_answer(s, up, msg, len);
	}
}

static void expire(struct dns_server *s, int64_t now)
{
	struct source *next;

	/* upstream_failed() puts new sources at the head, which this walk has passed. */
	for (struct source *src = s->sources; src; src = next) {
		next = src->next;
		if (src->kind == UPSTREAM && !src->dead && now >= src->deadline_ns)
			upstream_failed(s, src);
	}
}

static void dispatch(struct dns_server *s, const struct epoll_event *ev, uint8_t *msg)
{
	struct source *src = ev->data.ptr;
	uint64_t n;

	if (src->dead)
		return;
	switch (src->kind) {
	case WAKE:
		if (read(src->fd, &n, sizeof(n)) < 0)
			return;
		break;
	case UDP_LISTEN:
		on_udp(s, src, msg);
		break;
	case TCP_LISTEN:
		on_accept(s, src);
		break;
	case TCP_CLIENT:
		on_tcp_client(s, src, ev->events, msg);
		break;
	case UPSTREAM:
		on_upstream(s, src, ev->events, msg);
		break;
	}
}

static void *server_main(void *arg)
{
	struct dns_server *s = arg;
	uint8_t *msg = mem_zalloc(DNS_MESSAGE_MAX + 1);

	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		struct epoll_event ev[32];
		bool idle = !s->npending && !s->nclients;
		int n;

		pthread_mutex_unlock(&s->lock);
		n = epoll_wait(s->epoll, ev, 32, idle ? -1 : 250);
		pthread_mutex_lock(&s->lock);
		if (s->stop)
			break;
		read_resolv_conf(s);
		for (int i = 0; i < n; i++)
			dispatch(s, &ev[i], msg);
		expire(s, clock_mono_ns());
		sweep(s, clock_mono_ns());
	}
	pthread_mutex_unlock(&s->lock);
	free(msg);
	return NULL;
}

/* --- interface ------------------------------------------------------------------------------ */

static void wake(struct dns_server *s)
{
	uint64_t one = 1;

	if (write(s->wake, &one, sizeof(one)) < 0)
		log_warn("waking the DNS thread: %s", strerror(errno));
}

int dns_server_start(const char *resolv_conf, struct dns_server **out, struct error *err)
{
	struct dns_server *s = mem_zalloc(sizeof(*s));
	int r;

	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->resolver_lock, NULL);
	s->resolv_conf = str_dup(resolv_conf ? resolv_conf : "/etc/resolv.conf");
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->epoll < 0 || s->wake < 0)
		return error_sys(err, errno, "starting the DNS server");
	source_new(s, WAKE, s->wake, EPOLLIN, NULL);
	r = pthread_create(&s->thread, NULL, server_main, s);
	if (r)
		return error_sys(err, r, "starting the DNS thread");
	*out = s;
	return 0;
}

void dns_server_stop(struct dns_server *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	wake(s);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	while (s->sources) {
		source_kill(s, s->sources);
		source_free(s, s->sources);
	}
	while (s->zones) {
		struct zone *z = s->zones;

		s->zones = z->next;
		zone_put(z);
	}
	close(s->epoll);
	free(s->resolv_conf);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->resolver_lock);
	free(s);
}

void dns_server_set_resolver(struct dns_server *s, netd_lookup_fn *fn, void *ctx)
{
	pthread_mutex_lock(&s->resolver_lock);
	s->fn = fn;
	s->ctx = ctx;
	pthread_mutex_unlock(&s->resolver_lock);
}

struct sockets {
	int udp, tcp;
};

static int open_sockets(void *ctx, struct error *err)
{
	struct sockets *so = ctx;
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_port = htons(53),
				  .sin_addr.s_addr = htonl(LISTEN_ADDRESS) };
	int one = 1;

	so->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	so->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (so->udp < 0 || so->tcp < 0)
		return error_sys(err, errno, "opening DNS sockets");
	setsockopt(so->tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(so->udp, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    bind(so->tcp, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(so->tcp, 64) < 0)
		return error_sys(err, errno, "binding 127.0.0.11:53 in the container's namespace");
	return 0;
}

static struct zone *zone_find(struct dns_server *s, const char *id)
{
	for (struct zone *z = s->zones; z; z = z->next)
		if (!strcmp(z->id, id))
			return z;
	return NULL;
}

int dns_server_add(struct dns_server *s, const char *id, const char *netns, const json_t *networks,
		   const json_t *dns, struct error *err)
{
	struct sockets so = { -1, -1 };
	struct zone *z;
	int r;

	pthread_mutex_lock(&s->lock);
	z = zone_find(s, id);
	if (z) {
		json_decref(z->networks);
		z->networks = json_deep_copy(networks);
		json_decref(z->dns);
		z->dns = dns ? json_deep_copy(dns) : NULL;
	}
	pthread_mutex_unlock(&s->lock);
	if (z)
		return 0;
	r = netns_run(netns, open_sockets, &so, err);
	if (r < 0) {
		cleanup_close(&so.udp);
		cleanup_close(&so.tcp);
		return r;
	}
	z = mem_zalloc(sizeof(*z));
	z->id = str_dup(id);
	z->networks = json_deep_copy(networks);
	z->dns = dns ? json_deep_copy(dns) : NULL;
	z->refs = 1;
	pthread_mutex_lock(&s->lock);
	z->next = s->zones;
	s->zones = z;
	source_new(s, UDP_LISTEN, so.udp, EPOLLIN, z);
	source_new(s, TCP_LISTEN, so.tcp, EPOLLIN, z);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

void dns_server_remove(struct dns_server *s, const char *id)
{
	pthread_mutex_lock(&s->lock);
	for (struct zone **p = &s->zones; *p; p = &(*p)->next) {
		struct zone *z = *p;

		if (strcmp(z->id, id))
			continue;
		*p = z->next;
		/* All its sources: an open socket would keep the net namespace alive. */
		for (struct source *src = s->sources; src; src = src->next)
			if (src->zone == z)
				source_kill(s, src);
		zone_put(z);
		wake(s);
		break;
	}
	pthread_mutex_unlock(&s->lock);
}
