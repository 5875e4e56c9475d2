/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP sockets that no descriptor leads to, on the source. A server that writes its answer
 * and closes leaves the rest to the kernel: an orphan in FIN_WAIT1, LAST_ACK or CLOSING
 * with a queue that the peer waits for. Then there are connections in TIME_WAIT, which
 * must answer a FIN that comes again, and handshakes on their way.
 *
 * No system call reaches them. A BPF iterator (bpf/orphans.bpf.c) reads them out of the
 * kernel's table, queues included, and changes nothing. On the destination an orphan is
 * made as any other connection, only that nobody gets its descriptor: when the engine
 * closes it after the commit, the kernel there goes on with it.
 *
 *   struct page* in a queue ── * 64 + delta ──► address of its content
 *
 * The delta is a constant of the running kernel, which no interface tells. It is found by
 * putting a page of a memfd, whose frame number /proc/self/pagemap gives, into the queue of
 * a socket of this process.
 */
#include "runtime/checkpoint/sock_orphan.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "runtime/checkpoint/bpf/orphans.h"
#include "runtime/checkpoint/bpf/orphans.skel.h"

/* A FIN is sent again after some 0.2, 0.6, 1.4 and 3 s; older ones have been answered. */
#define TIME_WAIT_MAX_AGE_MS 5000
#define TIME_WAIT_MAX	     256
#define NEW_SYN_RECV	     12 /* include/net/tcp_states.h */

static struct orphans_bpf *reader;
static bool unable;

/* --- loading, calibration ------------------------------------------------------------------ */
static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	(void)level;
	(void)fmt;
	(void)ap;
	return 0;
}

/* One pass over the table of this thread's network namespace. */
static int pass_of(struct bpf_program *program)
{
	struct bpf_link *link = bpf_program__attach_iter(program, NULL);
	CLEANUP_CLOSE int fd = -1;
	char byte[64];
	ssize_t n;

	if (!link)
		return -errno;
	fd = bpf_iter_create(bpf_link__fd(link));
	while ((n = fd < 0 ? -1 : read(fd, byte, sizeof(byte))) > 0)
		;
	n = n < 0 ? -errno : 0;
	bpf_link__destroy(link);
	return (int)n;
}

static int pass(void *arg)
{
	(void)arg;
	return pass_of(reader->progs.orphans);
}

static int pass_hidden(void *arg)
{
	int n = pass_of(reader->progs.hidden_tcp);

	(void)arg;
	return n < 0 ? n : pass_of(reader->progs.hidden_udp);
}

static uint64_t frame_of(const void *page)
{
	uint64_t entry = 0;
	CLEANUP_CLOSE int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || pread(fd, &entry, 8, (off_t)((uintptr_t)page / 4096 * 8)) != 8 ||
	    !(entry >> 63))
		return 0;
	return entry & ((1ull << 55) - 1);
}

/* A connection to ourselves whose send queue holds the first page of `memfd`. */
static int self_connection(int memfd, int *out, int *listener, uint16_t *port)
{
	CLEANUP_CLOSE int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CLEANUP_CLOSE int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(a);
	int one = 1;

	if (l < 0 || s < 0 || bind(l, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(l, 1) < 0 ||
	    getsockname(l, (struct sockaddr *)&a, &len) < 0 ||
	    connect(s, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    setsockopt(s, IPPROTO_TCP, TCP_CORK, &one, sizeof(one)) < 0 ||
	    sendfile(s, memfd, &(off_t){ 0 }, 4096) != 4096 ||
	    getsockname(s, (struct sockaddr *)&a, &len) < 0)
		return -errno;
	*port = ntohs(a.sin_port);
	*out = TAKE_FD(s);
	*listener = TAKE_FD(l);
	return 0;
}

static int calibrate(void)
{
	CLEANUP_CLOSE int memfd = memfd_create("ferry", MFD_CLOEXEC), s = -1, l = -1;
	uint64_t *page;
	uint16_t port = 0;
	int n;

	if (memfd < 0 || ftruncate(memfd, 4096) < 0)
		return -errno;
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (page == MAP_FAILED)
		return -errno;
	if (getrandom(page, 16, 0) != 16)
		page[0] = (uint64_t)(uintptr_t)page;
	reader->bss->calibrate_magic[0] = page[0];
	reader->bss->calibrate_magic[1] = page[1];
	reader->bss->calibrate_pfn = frame_of(page);
	n = reader->bss->calibrate_pfn ? self_connection(memfd, &s, &l, &port) : -EPERM;
	if (n == 0) {
		reader->bss->calibrate_port = port;
		n = pass(NULL);
		reader->bss->calibrate_port = 0;
	}
	memset(page, 0, 16);
	munmap(page, 4096);
	return n < 0 ? n : reader->bss->page_delta ? 0 : -ENXIO;
}

int sock_orphans_load(void)
{
	struct timespec tick;
	int n;

	if (reader)
		return 0;
	if (unable)
		return -EOPNOTSUPP;
	libbpf_set_print(quiet);
	reader = orphans_bpf__open_and_load();
	unable = !reader;
	if (unable) {
		log_warn("this kernel does not show connections without a descriptor; what they "
			 "have not delivered is lost in a migration");
		return -EOPNOTSUPP;
	}
	clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
	reader->bss->hz = (uint64_t)((1000000000 + tick.tv_nsec / 2) / tick.tv_nsec);
	reader->bss->tw_max_age_ms = TIME_WAIT_MAX_AGE_MS;
	n = calibrate();
	if (n < 0)
		log_warn("connections without a descriptor can be read without their data only: "
			 "%s",
			 strerror(-n));
	return 0;
}

void sock_orphans_unload(void)
{
	if (reader)
		orphans_bpf__destroy(reader);
	reader = NULL;
}

/* --- messages ----------------------------------------------------------------------------------
 */
static Cks__Address *address(const struct orphan *o, bool peer)
{
	Cks__Address *m = mem_zalloc(sizeof(*m));
	bool v6 = o->family == AF_INET6;

	cks__address__init(m);
	m->family = o->family;
	m->ip.len = v6 ? 16 : 4;
	m->ip.data = mem_zalloc(16);
	memcpy(m->ip.data, peer ? o->peer : o->local, m->ip.len);
	m->port = peer ? ntohs(o->peer_port) : o->local_port;
	m->interface = str_dup("");
	return m;
}

static void option(Cks__Common *c, int level, int name, int value)
{
	Cks__Option *m = mem_zalloc(sizeof(*m));

	cks__option__init(m);
	m->level = level;
	m->name = name;
	m->value.len = sizeof(value);
	m->value.data = mem_zalloc(sizeof(value));
	memcpy(m->value.data, &value, sizeof(value));
	c->options = mem_grow(c->options, c->n_options + 1, sizeof(*c->options));
	c->options[c->n_options++] = m;
}

static bool is_link_local(const struct orphan *o)
{
	return o->family == AF_INET6 && o->peer[0] == 0xfe && (o->peer[1] & 0xc0) == 0x80;
}

static Cks__Common *common(const struct orphan *o, int names)
{
	Cks__Common *c = mem_zalloc(sizeof(*c));
	char *device;

	cks__common__init(c);
	c->family = o->family;
	c->type = SOCK_STREAM;
	c->protocol = IPPROTO_TCP;
	c->flags = O_RDWR | O_NONBLOCK;
	c->uid = o->uid;
	c->sndbuf = (uint32_t)o->sndbuf;
	c->rcvbuf = (uint32_t)o->rcvbuf;
	c->peek_off = -1;
	c->local = address(o, false);
	c->peer = address(o, true);
	device = o->device && names >= 0 ? sock_ifname(names, o->device) : NULL;
	if (device && is_link_local(o)) {
		free(c->peer->interface);
		free(c->local->interface);
		c->local->interface = str_dup(device);
		c->peer->interface = device;
	} else if (device) {
		c->device = device;
	}
	if (o->mark)
		option(c, SOL_SOCKET, SO_MARK, (int)o->mark);
	if (o->tos)
		option(c, IPPROTO_IP, IP_TOS, o->tos);
	if (o->priority)
		option(c, SOL_SOCKET, SO_PRIORITY, (int)o->priority);
	if (o->user_timeout)
		option(c, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)o->user_timeout);
	return c;
}

static Cks__TcpSequence *sequence(const struct orphan *o)
{
	Cks__TcpSequence *s = mem_zalloc(sizeof(*s));

	cks__tcp_sequence__init(s);
	s->window = mem_zalloc(sizeof(*s->window));
	cks__tcp_window__init(s->window);
	s->rcv_nxt = o->rcv_nxt;
	s->write_seq = o->write_seq;
	s->mss = o->mss ? o->mss : 536;
	s->wscale_ok = o->wscale_ok;
	s->snd_wscale = o->snd_wscale;
	s->rcv_wscale = o->rcv_wscale;
	s->sack = o->sack;
	s->timestamps = o->tstamp;
	s->timestamp = o->timestamp;
	s->window->snd_wl1 = o->snd_wl1;
	s->window->snd_wnd = o->snd_wnd;
	s->window->max_window = o->max_window;
	s->window->rcv_wnd = o->rcv_wnd;
	s->window->rcv_wup = o->rcv_wup;
	return s;
}

/* The bytes of [from, to) of the stream; NULL: they are not all there. */
static uint8_t *stream_bytes_of(const struct orphan *o, uint32_t from, uint32_t to)
{
	size_t len = to - from, have = 0;
	uint8_t *data;

	if (len > ORPHAN_ARENA)
		return NULL;
	data = mem_zalloc(len + 1);
	for (uint32_t i = 0; i < o->npieces; i++) {
		const struct orphan_piece *p = &reader->bss->pieces[o->piece + i];
		int64_t at = (int32_t)(p->seq - from);
		int64_t cut = at < 0 ? -at : 0, n = (int64_t)p->len - cut;

		if (at + cut + n > (int64_t)len)
			n = (int64_t)len - at - cut;
		if (n <= 0)
			continue;
		memcpy(data + at + cut, reader->bss->arena + p->at + cut, (size_t)n);
		have += (size_t)n;
	}
	if (have != len) {
		free(data);
		return NULL;
	}
	return data;
}

static Cks__Queue *queue(uint8_t *data, size_t len)
{
	Cks__Queue *q = mem_zalloc(sizeof(*q));

	cks__queue__init(q);
	q->data.data = data;
	q->data.len = len;
	return q;
}

/* False: what it has not delivered cannot be read. */
static bool connection(const struct orphan *o, int names, struct buf *body)
{
	Cks__Tcp m = CKS__TCP__INIT;
	uint32_t end = o->write_seq, middle = o->snd_nxt;
	uint8_t *sent = NULL, *unsent = NULL;

	m.state = o->state;
	switch (o->state) {
	case TCP_TIME_WAIT:
		m.state = o->substate == TCP_FIN_WAIT2 ? TCP_FIN_WAIT2 : TCP_TIME_WAIT;
		m.fin_acked = true;
		m.fin_received = m.state == TCP_TIME_WAIT;
		break;
	case TCP_FIN_WAIT2:
		m.fin_acked = true;
		break;
	default:
		m.fin_sent = o->snd_nxt == o->write_seq;
		m.fin_unsent = !m.fin_sent;
		m.fin_received = o->state != TCP_FIN_WAIT1;
		end--;
		if ((int32_t)(middle - end) > 0)
			middle = end;
		sent = o->bad ? NULL : stream_bytes_of(o, o->snd_una, middle);
		unsent = o->bad ? NULL : stream_bytes_of(o, middle, end);
		if (!sent || !unsent) {
			free(sent);
			free(unsent);
			return false;
		}
	}
	m.received = queue(NULL, 0);
	m.sent = queue(sent, sent ? middle - o->snd_una : 0);
	m.unsent = queue(unsent, unsent ? end - middle : 0);
	m.common = common(o, names);
	m.seq = sequence(o);
	obj_pack(&m.base, body);
	sock_common_free(m.common);
	free(m.seq->window);
	free(m.seq);
	sock_queue_free(m.received);
	sock_queue_free(m.sent);
	sock_queue_free(m.unsent);
	return true;
}

static void half_open(const struct orphan *o, Cks__HalfOpen *h)
{
	Cks__TcpPending *p = mem_zalloc(sizeof(*p));

	cks__tcp_pending__init(p);
	p->local = address(o, false);
	p->peer = address(o, true);
	p->seq = sequence(o);
	p->ts_recent = o->ts_recent;
	h->request = mem_grow(h->request, h->n_request + 1, sizeof(*h->request));
	h->request[h->n_request++] = p;
}

/* --- reading ------------------------------------------------------------------------------- */
static void take(struct sock_orphans *out, int names, size_t *waiting)
{
	for (uint32_t i = 0; i < reader->bss->nfound; i++) {
		const struct orphan *o = &reader->bss->found[i];

		if (o->state == NEW_SYN_RECV) {
			half_open(o, &out->half);
			continue;
		}
		if (o->state == TCP_TIME_WAIT && (*waiting)++ >= TIME_WAIT_MAX)
			continue;
		out->tcp = mem_grow(out->tcp, out->ntcp + 1, sizeof(*out->tcp));
		out->tcp[out->ntcp] = (struct buf){ 0 };
		if (connection(o, names, &out->tcp[out->ntcp]))
			out->ntcp++;
		else
			out->lost++;
	}
}

static int names_open(void *arg)
{
	int *fd = arg;

	*fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return *fd < 0 ? -errno : 0;
}

int sock_orphans_read(struct dump *d, struct sock_orphans *out, struct error *err)
{
	uint32_t skip = 0;
	size_t waiting = 0;
	CLEANUP_CLOSE int names = -1;
	int n = 0;

	memset(out, 0, sizeof(*out));
	cks__half_open__init(&out->half);
	if (sock_orphans_load() < 0)
		return 0;
	do {
		reader->bss->nfound = reader->bss->npieces = reader->bss->used = 0;
		reader->bss->full = reader->bss->urgent = 0;
		reader->bss->skip = skip;
		n = d ? dump_in_netns(d, pass, NULL, err) : pass(NULL);
		if (n < 0)
			return error_sys(err, -n, "reading connections without a descriptor");
		if (reader->bss->nfound && names < 0 &&
		    (d ? dump_in_netns(d, names_open, &names, err) : names_open(&names)) < 0)
			names = -1;
		out->urgent |= reader->bss->urgent;
		take(out, names, &waiting);
		skip += reader->bss->nfound;
		/* one that is longer than all the room there is */
		if (reader->bss->full && !reader->bss->nfound) {
			out->lost++;
			skip++;
		}
	} while (reader->bss->full);
	if (out->lost)
		log_warn("what %zu closed connections have not delivered cannot be read",
			 out->lost);
	return 0;
}

/* --- what no call tells --------------------------------------------------------------------- */
static const char *hidden_text(uint32_t what)
{
	if (what & HIDDEN_MD5)
		return "it has MD5 keys (TCP_MD5SIG), which nobody can read";
	if (what & HIDDEN_AO)
		return "it has keys of TCP-AO, which nobody can read";
	return "a program distributes what comes to its group (SO_ATTACH_REUSEPORT_*BPF)";
}

void sock_hidden_check(struct dump *d, const struct ofd *o, const char *name, struct obstacles *out)
{
	static struct dump *of;
	static int64_t looked_ns;
	struct timespec t;
	int64_t now;

	clock_gettime(CLOCK_MONOTONIC, &t);
	now = t.tv_sec * 1000000000ll + t.tv_nsec;
	if (!d || sock_orphans_load() < 0)
		return;
	/* all of a preflight's sockets ask within moments */
	if (of != d || now - looked_ns > 500000000) {
		reader->bss->nhidden = 0;
		dump_in_netns(d, pass_hidden, NULL, NULL);
		of = d;
		looked_ns = now;
	}
	for (uint32_t i = 0; i < reader->bss->nhidden && i < HIDDEN_MAX; i++)
		if (reader->bss->hidden[i].ino == o->st.st_ino) {
			obj_obstacle(out, o, name, hidden_text(reader->bss->hidden[i].what),
				     "configure the program to do without it");
			return;
		}
}

void sock_orphans_free(struct sock_orphans *o)
{
	for (size_t i = 0; i < o->ntcp; i++)
		buf_free(&o->tcp[i]);
	free(o->tcp);
	for (size_t i = 0; i < o->half.n_request; i++) {
		Cks__TcpPending *p = o->half.request[i];

		sock_address_free(p->local);
		sock_address_free(p->peer);
		free(p->seq->window);
		free(p->seq);
		free(p);
	}
	free(o->half.request);
	memset(o, 0, sizeof(*o));
}
