/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP sockets on the destination.
 *
 *   restore  in repair mode: bind, sequence numbers, connect (nothing is sent), options,
 *            timestamp, queues; our own FIN where it came first
 *   late     all sockets exist: the peer's FIN, acknowledgements and resets are put on lo
 *            by hand; windows last, since packets change them
 *   finish   after the commit: repair mode is left (a window probe goes out), then what
 *            had not been sent is sent
 *
 * A connection made in repair mode knows no round trip time, so that a lost packet would be
 * sent again only after three seconds (RFC 6298, 5.7). Where something is on its way, the
 * send queue therefore begins one byte early, with a byte that the peer has long had, and
 * finish acknowledges it by hand: a first measurement, which also starts the timers anew.
 *
 * Binding is done in repair mode for every socket, because that asks about no conflict:
 * a listener and its connections share a port whatever SO_REUSEADDR says. The flag gets
 * its old value at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/sock_addresses.h"
#include "runtime/checkpoint/sock_release.h"
#include "runtime/checkpoint/sock_tcp.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define TCP_HEADER_WINDOW 65535

static struct made {
	uint32_t id;
	Cks__Tcp *m;
	bool dropped;
	bool plain;    /* all is done but to leave repair mode … */
	size_t place;  /* … in this place of sock_release.c */
	bool finished; /* sock_common_finish() has been called */
} * made;
static size_t nmade, nalive, made_cursor;

/* They are asked for in the order in which they were made. */
static struct made *made_find(uint32_t id)
{
	for (size_t i = 0; i < nmade; i++) {
		struct made *k = &made[made_cursor];

		made_cursor = made_cursor + 1 < nmade ? made_cursor + 1 : 0;
		if (k->id == id && !k->dropped)
			return k;
	}
	return NULL;
}

static void made_add(uint32_t id, Cks__Tcp *m, bool plain, int fd)
{
	made = mem_grow(made, nmade + 1, sizeof(*made));
	made[nmade++] = (struct made){ .id = id, .m = m, .plain = plain, .finished = plain };
	if (plain)
		made[nmade - 1].place = sock_release_add(fd, m->common->reuseaddr);
	nalive++;
}

void tcp_restore_free(void)
{
	while (nmade)
		obj_message_free(&made[--nmade].m);
	free(made);
	made = NULL;
	made_cursor = nalive = 0;
}

static void made_drop(struct restore *r, struct made *k)
{
	k->dropped = true;
	if (--nalive)
		return;
	sock_release_end();
	sock_inject_close();
	if (r)
		return; /* the rest has time until the tasks run */
	tcp_restore_free();
	sock_pool_drop();
}

static bool is_connection(const Cks__Tcp *m)
{
	return m->state != TCP_LISTEN && m->state != TCP_CLOSE && m->state != TCP_SYN_SENT;
}

/* RFC 7323: a scale of more than 14 is none. */
bool tcp_sequence_is_whole(const Cks__TcpSequence *s)
{
	return s && s->window && s->snd_wscale <= 14 && s->rcv_wscale <= 14;
}

static bool has_fin(const Cks__Tcp *m)
{
	return m->fin_sent || m->fin_acked || m->fin_unsent;
}

/* How many bytes the send queue begins early. */
static uint32_t early(const Cks__Tcp *m)
{
	return m->fin_sent || m->fin_unsent || m->sent->data.len || m->sent->spilled ||
	       m->unsent->data.len || m->unsent->spilled;
}

/* Our FIN was queued before the peer's came. */
static bool own_fin_first(const Cks__Tcp *m)
{
	return m->state == TCP_FIN_WAIT1 || m->state == TCP_FIN_WAIT2 || m->state == TCP_CLOSING ||
	       m->state == TCP_TIME_WAIT;
}

static int repair(int fd, int mode, struct error *err)
{
	int n = sock_opt_set(fd, IPPROTO_TCP, TCP_REPAIR, mode);

	return n < 0 ? error_sys(err, -n, "TCP_REPAIR") : 0;
}

static int queue(int fd, int which, struct error *err)
{
	int n = sock_opt_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, which);

	return n < 0 ? error_sys(err, -n, "TCP_REPAIR_QUEUE") : 0;
}

static int queue_set_seq(int fd, int which, uint32_t seq, struct error *err)
{
	int n = queue(fd, which, err);

	if (n == 0 && setsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &seq, sizeof(seq)) < 0)
		return error_sys(err, errno, "TCP_QUEUE_SEQ");
	return n;
}

/* --- restore ------------------------------------------------------------------------------ */
static bool is_bound(const Cks__Address *a)
{
	if (!a)
		return false;
	for (size_t i = 0; i < a->ip.len; i++)
		if (a->ip.data[i])
			return true;
	return a->port != 0;
}

static int bind_local(int fd, const Cks__Common *c, struct error *err)
{
	union sock_addr a;
	char text[70];
	int n;

	if (!is_bound(c->local))
		return 0;
	n = sock_address_load(fd, c->local, &a, err);
	if (n < 0)
		return n;
	if (bind(fd, &a.sa, (socklen_t)n) < 0)
		return error_sys(err, errno, "binding to %s",
				 sock_address_text(c->local, text, sizeof(text)));
	return 0;
}

static int connect_peer(int fd, const Cks__Common *c, struct error *err)
{
	union sock_addr a;
	char text[70];
	int n = sock_address_load(fd, c->peer, &a, err);

	if (n < 0)
		return n;
	if (connect(fd, &a.sa, (socklen_t)n) < 0 && errno != EINPROGRESS)
		return error_sys(err, errno, "connecting to %s",
				 sock_address_text(c->peer, text, sizeof(text)));
	return 0;
}

/* Into the queue that TCP_REPAIR_QUEUE names; smaller pieces where memory is scarce. */
static int fill(int fd, const uint8_t *data, size_t len, struct error *err)
{
	size_t piece = 128 << 10;

	while (len) {
		ssize_t n = send(fd, data, len < piece ? len : piece, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n <= 0) {
			if (n < 0 && errno == EINTR)
				continue;
			if (piece > 1024 && (n == 0 || errno == ENOMEM || errno == ENOBUFS)) {
				piece /= 2;
				continue;
			}
			return error_sys(err, errno, "filling a queue (%zu bytes are left)", len);
		}
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int set_options(int fd, const Cks__TcpSequence *s, struct error *err)
{
	struct tcp_repair_opt o[4];
	size_t n = 0;

	o[n++] = (struct tcp_repair_opt){ TCPOPT_MAXSEG, s->mss };
	if (s->wscale_ok)
		o[n++] = (struct tcp_repair_opt){ TCPOPT_WINDOW,
						  s->snd_wscale | s->rcv_wscale << 16 };
	if (s->sack)
		o[n++] = (struct tcp_repair_opt){ TCPOPT_SACK_PERMITTED, 0 };
	if (s->timestamps)
		o[n++] = (struct tcp_repair_opt){ TCPOPT_TIMESTAMP, 0 };
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, o, (socklen_t)(n * sizeof(o[0]))) < 0)
		return error_sys(err, errno, "TCP_REPAIR_OPTIONS");
	if (s->timestamps &&
	    setsockopt(fd, IPPROTO_TCP, TCP_TIMESTAMP, &s->timestamp, sizeof(s->timestamp)) < 0)
		return error_sys(err, errno, "TCP_TIMESTAMP");
	return 0;
}

/* What comes in packets because of urgent data. */
static uint32_t urgent_rest(const Cks__Tcp *m)
{
	const uint8_t *data;
	size_t len;

	return m->urgent && sock_queue_data(m->received, &data, &len, NULL) == 0
		       ? (uint32_t)tcp_urgent_rest(m, len)
		       : 0;
}

/* `open`: enough room for handmade packets; else as it was. */
static int set_window(int fd, const Cks__Tcp *m, bool open, struct error *err)
{
	const Cks__TcpWindow *s = m->seq->window;
	uint32_t rest = open ? urgent_rest(m) : 0;
	uint32_t rcv_nxt = m->seq->rcv_nxt - (open && m->fin_received) - rest;
	struct tcp_repair_window w = { .snd_wl1 = s->snd_wl1,
				       .snd_wnd = s->snd_wnd,
				       .max_window = s->max_window,
				       .rcv_wnd = s->rcv_wnd,
				       .rcv_wup = s->rcv_wup };

	if ((int32_t)(w.rcv_wup - rcv_nxt) > 0)
		w.rcv_wup = rcv_nxt;
	if (open && (rest || (int32_t)(w.rcv_wup + w.rcv_wnd - rcv_nxt) <= 0)) {
		w.rcv_wup = rcv_nxt;
		w.rcv_wnd = rest + 4096;
	}
	if (w.max_window < w.snd_wnd)
		w.max_window = w.snd_wnd;
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, sizeof(w)) < 0)
		return error_sys(err, errno, "TCP_REPAIR_WINDOW");
	return 0;
}

static int own_fin(int fd, struct error *err)
{
	/* in the send queue's repair mode it counts as sent, and nothing goes out */
	int n = queue(fd, TCP_SEND_QUEUE, err);

	if (n == 0 && shutdown(fd, SHUT_WR) < 0)
		return error_sys(err, errno, "shutting down");
	return n;
}

static int make_connection(int fd, const Cks__Tcp *m, struct error *err)
{
	const uint8_t *in, *sent, *unsent;
	size_t nin, nsent, nunsent;
	int n;

	if (!tcp_sequence_is_whole(m->seq) || !m->common->local || !m->common->peer ||
	    !m->received || !m->sent || !m->unsent)
		return error_set(err, EBADMSG, "a TCP connection came incomplete");
	n = sock_queue_data(m->received, &in, &nin, err);
	if (n == 0)
		n = sock_queue_data(m->sent, &sent, &nsent, err);
	if (n == 0)
		n = sock_queue_data(m->unsent, &unsent, &nunsent, err);
	if (n == 0)
		n = queue_set_seq(fd, TCP_RECV_QUEUE,
				  m->seq->rcv_nxt - (uint32_t)nin - m->fin_received, err);
	if (n == 0)
		n = queue_set_seq(fd, TCP_SEND_QUEUE,
				  m->seq->write_seq - (uint32_t)(nsent + nunsent) - has_fin(m) -
					  early(m),
				  err);
	if (n == 0)
		n = connect_peer(fd, m->common, err);
	if (n == 0)
		n = set_options(fd, m->seq, err);
	if (n == 0)
		n = queue(fd, TCP_RECV_QUEUE, err);
	if (n == 0)
		n = fill(fd, in, nin - tcp_urgent_rest(m, nin), err);
	if (n == 0)
		n = queue(fd, TCP_SEND_QUEUE, err);
	if (n == 0)
		n = fill(fd, (const uint8_t *)"", early(m), err);
	if (n == 0)
		n = fill(fd, sent, nsent, err);
	if (n == 0)
		n = set_window(fd, m, true, err);
	if (n == 0 && own_fin_first(m) && !m->fin_unsent)
		n = own_fin(fd, err);
	return n;
}

/* Nothing waits in it and nothing has ended: no packet is made by hand for it. */
static bool is_plain(const Cks__Tcp *m)
{
	const Cks__Common *c = m->common;

	return m->state == TCP_ESTABLISHED && c->protocol == IPPROTO_TCP && c->local && c->peer &&
	       tcp_sequence_is_whole(m->seq) && m->received && !m->received->data.len &&
	       !m->received->spilled && m->sent && m->unsent && !early(m) && !has_fin(m) &&
	       !m->fin_received && !m->urgent && !m->shut_rd && !*c->device && !c->filter.len &&
	       !c->filter_locked && c->peek_off < 0;
}

static int make_plain(int fd, const Cks__Tcp *m, struct error *err)
{
	int n = repair(fd, TCP_REPAIR_ON, err);

	if (n == 0)
		n = bind_local(fd, m->common, err);
	if (n == 0)
		n = queue_set_seq(fd, TCP_RECV_QUEUE, m->seq->rcv_nxt, err);
	if (n == 0)
		n = queue_set_seq(fd, TCP_SEND_QUEUE, m->seq->write_seq, err);
	if (n == 0)
		n = connect_peer(fd, m->common, err);
	if (n == 0)
		n = set_options(fd, m->seq, err);
	if (n == 0)
		n = sock_common_settle(fd, m->common, err);
	return n < 0 ? n : set_window(fd, m, false, err);
}

/* A socket whose connection is over is made by ending one; see tcp_late(). */
static int make_dead(int fd, Cks__Tcp *m, struct error *err)
{
	const uint8_t *in;
	size_t nin;
	int n;

	if (!m->common->local || !m->common->peer)
		return error_set(err, EBADMSG, "a TCP socket came incomplete");
	n = sock_queue_data(m->received, &in, &nin, err);
	if (n == 0)
		n = queue_set_seq(fd, TCP_RECV_QUEUE, 1, err);
	if (n == 0)
		n = queue_set_seq(fd, TCP_SEND_QUEUE, 1, err);
	if (n == 0)
		n = connect_peer(fd, m->common, err);
	if (n == -ENETUNREACH || n == -EHOSTUNREACH) {
		/* from here there is no way to the peer; nothing is ever sent to it, so that
		 * its own address serves */
		if (m->common->local->ip.len == m->common->peer->ip.len)
			memcpy(m->common->peer->ip.data, m->common->local->ip.data,
			       m->common->local->ip.len);
		n = connect_peer(fd, m->common, err);
	}
	if (n == 0)
		n = queue(fd, TCP_RECV_QUEUE, err);
	return n < 0 ? n : fill(fd, in, nin, err);
}

static int make_listener(int fd, const Cks__Common *c, uint32_t backlog, struct error *err)
{
	int n = c->protocol == IPPROTO_MPTCP ? 0 : repair(fd, TCP_REPAIR_OFF_NO_WP, err);

	if (n < 0)
		return n;
	/* listen() asks about conflicts again; connections in repair mode allow it then */
	sock_opt_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (listen(fd, backlog > INT32_MAX ? INT32_MAX : (int)backlog) < 0)
		return error_sys(err, errno, "listening");
	return sock_common_finish(fd, c, err);
}

static int make(int fd, Cks__Tcp *m, struct error *err)
{
	int n = 0;

	if (m->common->protocol != IPPROTO_MPTCP)
		n = repair(fd, TCP_REPAIR_ON, err);
	/* handmade packets come through lo and would not reach a socket bound to a device */
	if (n == 0 && !m->fin_received && !m->fin_acked && !m->urgent && !m->dead && !m->n_pending)
		n = sock_common_device(fd, m->common, err);
	if (n == 0)
		n = bind_local(fd, m->common, err);
	if (n < 0)
		return n;
	if (is_connection(m))
		return make_connection(fd, m, err);
	if (m->state == TCP_LISTEN) {
		n = make_listener(fd, m->common, m->backlog, err);
		return n;
	}
	if (m->state == TCP_SYN_SENT) {
		if (!m->seq || !m->common->peer)
			return error_set(err, EBADMSG, "a TCP socket came incomplete");
		return queue_set_seq(fd, TCP_SEND_QUEUE, m->seq->write_seq - 1, err);
	}
	if (m->dead)
		return make_dead(fd, m, err);
	n = repair(fd, TCP_REPAIR_OFF_NO_WP, err);
	return n < 0 ? n : sock_common_finish(fd, m->common, err);
}

/* The program reads what had come before, and then that the peer has reset it. */
static void drop(Cks__Tcp *m)
{
	m->state = TCP_CLOSE;
	m->dead = m->error = true;
}

static void drop_and_move(struct restore *r, Cks__Tcp *m)
{
	size_t kept = 0;

	if (is_connection(m) && sock_peer_dropped(r, m->common->peer))
		drop(m);
	sock_common_move(r, m->common);
	/* the server has not seen those that wait for it: they are simply gone */
	for (size_t i = 0; i < m->n_pending; i++) {
		if (sock_peer_dropped(r, m->pending[i]->peer)) {
			protobuf_c_message_free_unpacked(&m->pending[i]->base, NULL);
			continue;
		}
		sock_address_move(r, m->pending[i]->local);
		sock_address_move(r, m->pending[i]->peer);
		m->pending[kept++] = m->pending[i];
	}
	m->n_pending = kept;
}

int tcp_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
		struct error *err)
{
	CLEANUP_MSG Cks__Tcp *m = obj_unpack(&cks__tcp__descriptor, body, len, err);
	CLEANUP_CLOSE int s = -1;
	char a[70], b[70];
	bool plain;
	int n;

	if (!m)
		return -EBADMSG;
	if (!m->common)
		return error_set(err, EBADMSG, "a TCP socket came incomplete");
	drop_and_move(r, m);
	plain = is_plain(m);
	n = sock_common_make(r, m->common, &s, err);
	if (n == 0)
		n = plain ? make_plain(s, m, err) : make(s, m, err);
	if (n < 0)
		return error_wrap(err, "TCP socket %s to %s",
				  sock_address_text(m->common->local, a, sizeof(a)),
				  sock_address_text(m->common->peer, b, sizeof(b)));
	made_add(id, TAKE_PTR(m), plain, s);
	*fd = TAKE_FD(s);
	return 0;
}

/* --- late ------------------------------------------------------------------------------------ */
static int inject(struct restore *r, const Cks__Tcp *m, uint8_t flags, uint32_t seq, uint32_t ack,
		  struct error *err)
{
	struct sock_packet p = { .from = m->common->peer,
				 .to = m->common->local,
				 .seq = seq,
				 .ack = ack,
				 .flags = flags,
				 .window = TCP_HEADER_WINDOW };

	return sock_inject_tcp(r, &p, err);
}

static int state_of(int fd)
{
	struct tcp_info i = { 0 };
	socklen_t len = sizeof(i);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) < 0 ? -errno : i.tcpi_state;
}

/* The kernel handles what was put on lo soon, but not at once. */
static int await_state(int fd, int state, struct error *err)
{
	for (int i = 0; i < 20000; i++) {
		if (state_of(fd) == state)
			return 0;
		usleep(i < 50 ? 10 : 100);
	}
	return error_set(err, EIO, "a restored TCP socket is in state %d instead of %d",
			 state_of(fd), state);
}

/* What the peer has acknowledged. */
static uint32_t acknowledged(const Cks__Tcp *m)
{
	return m->seq->write_seq - (uint32_t)(m->sent->data.len + m->sent->spilled) -
	       (uint32_t)(m->unsent->data.len + m->unsent->spilled) -
	       (m->fin_sent || m->fin_unsent);
}

static int late_connection(struct restore *r, struct made *k, int fd, struct error *err)
{
	const Cks__Tcp *m = k->m;
	const Cks__TcpSequence *s = m->seq;
	uint32_t una = acknowledged(m);
	int n = tcp_urgent_restore(r, m, fd, una, err), now = TCP_ESTABLISHED;

	if (own_fin_first(m) && !m->fin_unsent)
		now = TCP_FIN_WAIT1;
	if (n == 0 && m->fin_acked) {
		n = inject(r, m, TH_ACK, s->rcv_nxt - m->fin_received, una, err);
		now = TCP_FIN_WAIT2;
		if (n == 0)
			n = await_state(fd, now, err);
	}
	if (n == 0 && m->fin_received) {
		n = inject(r, m, TH_ACK | TH_FIN, s->rcv_nxt - 1, una, err);
		now = now == TCP_FIN_WAIT1   ? TCP_CLOSING
		      : now == TCP_FIN_WAIT2 ? TCP_CLOSE
					     : TCP_CLOSE_WAIT;
		if (n == 0)
			n = await_state(fd, now, err);
	}
	/* the kernel keeps it by itself now */
	if (n == 0 && m->state == TCP_TIME_WAIT)
		return 0;
	if (n == 0 && m->state == TCP_LAST_ACK && !m->fin_unsent) {
		n = own_fin(fd, err);
		now = TCP_LAST_ACK;
	}
	if (n == 0)
		n = await_state(fd, now, err);
	/* the probe that ends repair mode announces a window, which comes from it */
	sock_buffer_set(fd, SO_RCVBUF, m->common->rcvbuf);
	if (n == 0)
		n = set_window(fd, m, false, err);
	if (n == 0 && (m->fin_received || m->fin_acked || m->urgent))
		n = sock_common_device(fd, m->common, err);
	/* before the commit, where what is left to do allows it */
	if (n == 0 && !m->unsent->data.len && !m->unsent->spilled && !m->common->filter.len) {
		n = sock_common_finish(fd, m->common, err);
		k->finished = n == 0;
	}
	return n;
}

static int late_dead(struct restore *r, const Cks__Tcp *m, int fd, struct error *err)
{
	size_t len;
	const uint8_t *data;
	uint32_t nxt;
	int n = sock_queue_data(m->received, &data, &len, err);

	if (n < 0)
		return n;
	nxt = 1 + (uint32_t)len;
	if (m->error && m->broken_pipe) { /* a reset after the end of the stream */
		n = inject(r, m, TH_FIN | TH_ACK, nxt++, 1, err);
		if (n == 0)
			n = await_state(fd, TCP_CLOSE_WAIT, err);
	}
	if (n == 0 && m->error) {
		n = inject(r, m, TH_RST | TH_ACK, nxt, 1, err);
	} else if (n == 0) {
		n = inject(r, m, TH_FIN | TH_ACK, nxt, 1, err);
		if (n == 0)
			n = await_state(fd, TCP_CLOSE_WAIT, err);
		if (n == 0)
			n = own_fin(fd, err);
		if (n == 0)
			n = inject(r, m, TH_ACK, nxt + 1, 2, err);
	}
	if (n == 0)
		n = await_state(fd, TCP_CLOSE, err);
	if (n == 0)
		n = repair(fd, TCP_REPAIR_OFF_NO_WP, err);
	return n < 0 ? n : sock_common_finish(fd, m->common, err);
}

int tcp_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
	     struct error *err)
{
	struct made *k = made_find(id);
	Cks__Tcp *m = k ? k->m : NULL;
	char a[70], b[70];
	int n = 0;

	(void)body;
	(void)len;
	if (!m)
		return error_set(err, ENOENT, "object %u was not restored", id);
	if (k->plain)
		n = 0;
	else if (is_connection(m))
		n = late_connection(r, k, fd, err);
	else if (m->dead)
		n = late_dead(r, m, fd, err);
	else if (m->n_pending)
		n = tcp_pending_restore(r, m, fd, err);
	if (n < 0)
		return error_wrap(err, "TCP socket %s to %s",
				  sock_address_text(m->common->local, a, sizeof(a)),
				  sock_address_text(m->common->peer, b, sizeof(b)));
	return r ? obj_owner_late(r, id, m->common->owner, err) : 0;
}

/*
 * With the peer's own window, which a packet would change. The measurement comes from the
 * timestamp that is echoed: what repair mode queues bears no time. A timestamp of 0 from
 * the peer counts as none, so its next real one is taken.
 */
static int acknowledge_early(struct restore *r, const Cks__Tcp *m, int fd, struct error *err)
{
	uint32_t w = m->seq->window->snd_wnd >> (m->seq->wscale_ok ? m->seq->snd_wscale : 0);
	uint32_t now = (uint32_t)sock_opt_int(fd, IPPROTO_TCP, TCP_TIMESTAMP, 0);
	struct {
		uint8_t nop[2], kind, len;
		uint32_t val, ecr;
	} o = { { TCPOPT_NOP, TCPOPT_NOP },
		TCPOPT_TIMESTAMP,
		TCPOLEN_TIMESTAMP,
		0,
		htonl(now & 1 ? now - 2 : now) };
	struct sock_packet p = { .from = m->common->peer,
				 .to = m->common->local,
				 .seq = m->seq->rcv_nxt,
				 .ack = acknowledged(m),
				 .flags = TH_ACK,
				 .options = (const uint8_t *)&o,
				 .options_len = m->seq->timestamps ? sizeof(o) : 0,
				 .window = (uint16_t)(w < 65535 ? w : 65535) };

	return sock_inject_tcp(r, &p, err);
}

/* --- finish ------------------------------------------------------------------------- */
static int finish_connection(struct restore *r, int fd, const Cks__Tcp *m, struct error *err)
{
	const uint8_t *unsent;
	size_t n;
	int e = sock_queue_data(m->unsent, &unsent, &n, err);

	if (e == 0)
		e = repair(fd, TCP_REPAIR_OFF, err);
	if (e == 0 && early(m) && !*m->common->device)
		e = acknowledge_early(r, m, fd, err);
	if (e == 0)
		e = fill(fd, unsent, n, err);
	if (e == 0 && m->fin_unsent && shutdown(fd, SHUT_WR) < 0)
		e = error_sys(err, errno, "shutting down");
	if (e == 0 && m->shut_rd && shutdown(fd, SHUT_RD) < 0)
		e = error_sys(err, errno, "shutting down");
	return e;
}

int tcp_finish(struct restore *r, uint32_t id, int fd, struct error *err)
{
	struct made *k = made_find(id);
	const Cks__Tcp *m = k ? k->m : NULL;
	bool finish = false;
	int n = 0;

	if (!m)
		return 0;
	if (m->state == TCP_TIME_WAIT) {
		made_drop(r, k);
		return 0;
	}
	if (k->plain) {
		n = sock_release_take(k->place);
		if (n < 0)
			error_sys(err, -n, "TCP_REPAIR");
	} else if (is_connection(m)) {
		n = finish_connection(r, fd, m, err);
		/* leaving repair mode forgets it */
		if (n == 0 && k->finished && m->common->reuseaddr)
			sock_opt_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		finish = !k->finished;
	} else if (m->state == TCP_SYN_SENT) {
		n = repair(fd, TCP_REPAIR_OFF_NO_WP, err);
		if (n == 0)
			n = connect_peer(fd, m->common, err);
		finish = true;
	}
	if (n == 0 && finish)
		n = sock_common_finish(fd, m->common, err);
	made_drop(r, k);
	return n;
}
