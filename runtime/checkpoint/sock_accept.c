/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accept queues: connections that the kernel has completed and the server has not taken.
 *
 * There is no way to look at them in the queue. The source's engine therefore accepts them
 * through its duplicate of the listening descriptor, reads each like any connection and
 * keeps it in repair mode, in which closing it says nothing to the peer. On the
 * destination, and on the source where the migration is undone, they go back:
 *
 *   a handmade ACK ──► lo ──► accept.bpf.c: bpf_sk_assign_tcp_reqsk(listener, options)
 *                             the kernel takes it for the last packet of a handshake whose
 *                             SYN cookie was checked, and the sequence numbers from it
 *   handmade data, FIN ──► into the new connection's receive queue
 *
 * Needs kernel 6.9. On older ones, preflight and dump refuse while something waits.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "runtime/checkpoint/bpf/accept.skel.h"
#include "runtime/checkpoint/sock_waiting.h"
#include "runtime/checkpoint/sock_gate.h"
#include "runtime/checkpoint/sock_tcp.h"

#define PIECE 16384

/* What the source holds of one listener; ofd.priv, freed by the core with free(). */
struct held {
	size_t n;
	Cks__Tcp *m; /* the pending list only */
	int fd[];
};

static struct accept_bpf *again;
static bool unable;
static int again_link = -1;

static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	(void)level;
	(void)fmt;
	(void)ap;
	return 0;
}

bool tcp_pending_possible(void)
{
	if (again || unable)
		return again != NULL;
	libbpf_set_print(quiet);
	again = accept_bpf__open_and_load();
	unable = !again;
	return again != NULL;
}

static int attach(void *arg)
{
	int index = (int)if_nametoindex("lo");

	(void)arg;
	if (!index)
		return -errno;
	again_link = bpf_link_create(bpf_program__fd(again->progs.accept_again), index, TCX_INGRESS,
				     NULL);
	return again_link < 0 ? again_link : 0;
}

/* Without SYN cookies the kernel would answer the handmade ACK with a reset. */
int waiting_cookies_are_on(void *arg)
{
	CLEANUP_FREE char *text = NULL;

	(void)arg;
	if (file_read("/proc/sys/net/ipv4/tcp_syncookies", 64, &text, NULL, NULL) < 0)
		return 0;
	return text[0] == '0' ? -EOPNOTSUPP : 0;
}

static void detach(void)
{
	if (again_link >= 0)
		close(TAKE_FD(again_link));
}

/* --- source ---------------------------------------------------------------------------- */
static void pending_free(Cks__TcpPending *p)
{
	sock_address_free(p->local);
	sock_address_free(p->peer);
	if (p->seq)
		free(p->seq->window);
	free(p->seq);
	free(p->data.data);
	free(p);
}

static void list_free(Cks__Tcp *m)
{
	for (size_t i = 0; i < m->n_pending; i++)
		pending_free(m->pending[i]);
	free(m->pending);
}

/* Moves what matters of a connection into a fresh pending message. */
static Cks__TcpPending *pending_of(Cks__Tcp *c)
{
	Cks__TcpPending *p = mem_zalloc(sizeof(*p));

	cks__tcp_pending__init(p);
	p->local = TAKE_PTR(c->common->local);
	p->peer = TAKE_PTR(c->common->peer);
	p->seq = TAKE_PTR(c->seq);
	p->data = c->received->data;
	c->received->data.data = NULL;
	p->fin = c->fin_received;
	return p;
}

static int take_one(int fd, Cks__Tcp *m, bool *kept, struct error *err)
{
	struct ofd o = { .fd = fd, .num = -1, .flags = O_RDWR };
	struct tcp_info i = { 0 };
	socklen_t len = sizeof(i);
	Cks__Tcp c = CKS__TCP__INIT;
	int n;

	*kept = false;
	if (fstat(fd, &o.st) < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) < 0)
		return error_sys(err, errno, "a waiting connection");
	/* reset while it waited: the server would only be told that it is gone */
	if (i.tcpi_state == TCP_CLOSE)
		return 0;
	if (i.tcpi_state != TCP_ESTABLISHED && i.tcpi_state != TCP_CLOSE_WAIT)
		return error_set(err, ENOTSUP, "a waiting connection is in state %u", i.tcpi_state);
	n = tcp_connection_dump(NULL, &o, &c, true, err);
	if (n == 0) {
		m->pending = mem_grow(m->pending, m->n_pending + 1, sizeof(*m->pending));
		m->pending[m->n_pending++] = pending_of(&c);
		*kept = true;
	}
	tcp_message_free(&c);
	return n;
}

int tcp_pending_dump(struct dump *d, struct ofd *o, size_t waiting, Cks__Tcp *m, struct error *err)
{
	struct held *h;
	struct pollfd p = { .fd = o->fd, .events = POLLIN };
	int n = 0;

	(void)d;
	if (!waiting)
		return 0;
	if (!tcp_pending_possible())
		return error_set(err, EAGAIN,
				 "%zu connections wait to be accepted, and this kernel cannot move "
				 "them (Linux 6.9 can); try again",
				 waiting);
	n = d ? dump_in_netns(d, waiting_cookies_are_on, NULL, err) : waiting_cookies_are_on(NULL);
	if (n < 0)
		return error_set(err, ENOTSUP,
				 "%zu connections wait to be accepted, which only moves with "
				 "net.ipv4.tcp_syncookies=1 in the container; try again",
				 waiting);
	h = mem_zalloc(sizeof(*h) + (waiting + 64) * sizeof(int));
	h->m = mem_zalloc(sizeof(*h->m));
	cks__tcp__init(h->m);
	free(o->priv);
	o->priv = h;
	while (n == 0 && h->n < waiting + 64) {
		bool kept;
		int fd;

		if (poll(&p, 1, 0) <= 0 || !(p.revents & POLLIN))
			break;
		fd = accept4(o->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0 && (errno == ECONNABORTED || errno == EINTR))
			continue;
		if (fd < 0)
			return error_sys(err, errno, "taking waiting connections");
		n = take_one(fd, h->m, &kept, err);
		if (kept)
			h->fd[h->n++] = fd;
		else
			close(fd);
	}
	if (n == 0 && poll(&p, 1, 0) > 0 && (p.revents & POLLIN))
		n = error_set(err, EAGAIN,
			      "connections still come in: its packets are not blocked");
	/* the message borrows the list: tcp_dump() packs it before anything is freed */
	m->pending = h->m->pending;
	m->n_pending = h->m->n_pending;
	return n;
}

void waiting_of(const Cks__TcpPending *p, uint32_t seq, struct waiting_key *k,
		struct waiting_value *v)
{
	const Cks__TcpSequence *s = p->seq;

	memset(k, 0, sizeof(*k));
	memset(v, 0, sizeof(*v));
	for (int local = 0; local < 2; local++) {
		const Cks__Address *a = local ? p->local : p->peer;
		size_t at = a->ip.len == 16 && IN6_IS_ADDR_V4MAPPED(a->ip.data) ? 12 : 0;

		memcpy(local ? k->local : k->peer, a->ip.data + at, a->ip.len - at);
	}
	k->peer_port = htons((uint16_t)p->peer->port);
	k->local_port = htons((uint16_t)p->local->port);
	v->rcv_tsval = p->ts_recent;
	v->rcv_tsecr = s->timestamp & ~1u;
	v->mss = (uint16_t)s->mss;
	v->rcv_wscale = (uint8_t)s->rcv_wscale;
	v->snd_wscale = (uint8_t)s->snd_wscale;
	v->wscale_ok = s->wscale_ok;
	v->sack_ok = s->sack;
	v->tstamp_ok = s->timestamps;
	v->usec_ts_ok = s->timestamp & 1;
	v->seq = seq;
	v->ack = s->write_seq;
}

/* --- putting back, either side --------------------------------------------------------------- */
static int put_back(struct restore *r, const Cks__TcpPending *p, struct error *err)
{
	const Cks__TcpSequence *s = p->seq;
	uint32_t seq = s->rcv_nxt - (uint32_t)p->data.len - p->fin;
	uint32_t w = s->window->snd_wnd >> (s->wscale_ok ? s->snd_wscale : 0);
	struct waiting_key k;
	struct waiting_value v;
	struct sock_packet ack = { .from = p->peer,
				   .to = p->local,
				   .seq = seq,
				   .ack = s->write_seq,
				   .flags = TH_ACK,
				   .window = (uint16_t)(w < 65535 ? w : 65535) };
	uint64_t before = again->bss->assigned;
	int map = bpf_map__fd(again->maps.waiting), n;

	waiting_of(p, seq, &k, &v);
	again->bss->last_error = 0;
	if (bpf_map_update_elem(map, &k, &v, BPF_ANY) < 0)
		return error_sys(err, errno, "a waiting connection");
	n = sock_inject_tcp(r, &ack, err);
	for (int i = 0; n == 0 && i < 5000; i++) {
		if (__atomic_load_n(&again->bss->assigned, __ATOMIC_RELAXED) != before ||
		    __atomic_load_n(&again->bss->last_error, __ATOMIC_RELAXED))
			break;
		usleep(i < 100 ? 10 : 1000);
	}
	bpf_map_delete_elem(map, &k);
	if (n == 0 && again->bss->assigned == before)
		n = error_sys(err, again->bss->last_error ? -again->bss->last_error : ETIMEDOUT,
			      "putting a waiting connection into the accept queue");
	for (size_t at = 0; n == 0 && at < p->data.len; at += PIECE) {
		ack.seq = seq + (uint32_t)at;
		ack.flags = TH_ACK | TH_PUSH;
		ack.data = p->data.data + at;
		ack.len = p->data.len - at < PIECE ? p->data.len - at : PIECE;
		n = sock_inject_tcp(r, &ack, err);
	}
	if (n == 0 && p->fin) {
		ack.seq = s->rcv_nxt - 1;
		ack.flags = TH_ACK | TH_FIN;
		ack.len = 0;
		n = sock_inject_tcp(r, &ack, err);
	}
	return n;
}

/* All arrived, where no other listener shares the port. */
static int await_queue(int fd, size_t want, struct error *err)
{
	struct tcp_info i = { 0 };
	socklen_t len = sizeof(i);

	if (sock_opt_int(fd, SOL_SOCKET, SO_REUSEPORT, 0))
		return 0;
	for (int k = 0; k < 3000; k++) {
		if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) < 0)
			return error_sys(err, errno, "TCP_INFO");
		if (i.tcpi_unacked >= want)
			return 0;
		usleep(k < 100 ? 10 : 1000);
	}
	return error_set(err, EIO, "%u of %zu waiting connections came into the accept queue",
			 i.tcpi_unacked, want);
}

bool waiting_is_whole(const Cks__TcpPending *p)
{
	return sock_address_is_whole(p->local) && sock_address_is_whole(p->peer) &&
	       tcp_sequence_is_whole(p->seq) && p->data.len < 64 << 20 &&
	       p->peer->ip.len == p->local->ip.len;
}

int tcp_pending_restore(struct restore *r, const Cks__Tcp *m, int fd, struct error *err)
{
	int n;

	if (!tcp_pending_possible())
		return error_set(
			err, ENOTSUP,
			"%zu connections wait to be accepted, which this host's kernel cannot "
			"take over (Linux 6.9 can); try again",
			m->n_pending);
	n = r ? restore_in_netns(r, waiting_cookies_are_on, NULL, err)
	      : waiting_cookies_are_on(NULL);
	if (n < 0)
		return error_set(err, ENOTSUP,
				 "waiting connections need net.ipv4.tcp_syncookies=1");
	n = r ? restore_in_netns(r, attach, NULL, err) : attach(NULL);
	if (n < 0)
		return error_sys(err, -n, "attaching to lo");
	for (size_t i = 0; n == 0 && i < m->n_pending; i++)
		n = waiting_is_whole(m->pending[i])
			    ? put_back(r, m->pending[i], err)
			    : error_set(err, EBADMSG, "a damaged waiting connection");
	detach();
	if (n == 0)
		n = await_queue(fd, m->n_pending, err);
	return n < 0 ? n : sock_common_device(fd, m->common, err);
}

void tcp_pending_undo(struct dump *d, struct ofd *o)
{
	struct held *h = o->priv;
	struct error err = { 0 };
	char device[IFNAMSIZ] = "";
	socklen_t len = sizeof(device);
	int n;

	/* closed in repair mode: no packet tells the peers */
	for (size_t i = 0; i < h->n; i++)
		close(h->fd[i]);
	if (getsockopt(o->fd, SOL_SOCKET, SO_BINDTODEVICE, device, &len) == 0 && device[0])
		setsockopt(o->fd, SOL_SOCKET, SO_BINDTODEVICE, "", 0);
	sock_pool_use(d);
	n = d ? dump_in_netns(d, attach, NULL, &err) : attach(NULL);
	for (size_t i = 0; n == 0 && i < h->n; i++)
		n = put_back(NULL, h->m->pending[i], &err);
	if (n < 0)
		log_error("connections that waited to be accepted are lost: %s", err.msg);
	detach();
	sock_pool_drop();
	sock_inject_close();
	sock_pool_use(NULL);
	if (device[0])
		setsockopt(o->fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device));
	list_free(h->m);
	free(h->m);
	free(o->priv);
	o->priv = NULL;
}
