/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP sockets on the source: read in repair mode, left whole.
 *
 * A socket is in repair mode only while it is read (about 70 µs), so that a killed engine
 * leaves behind at most one that is. Nothing is taken out of it: the queues are peeked at.
 * Meanwhile the container's packets are blocked both ways, so nothing changes between two
 * sockets either. Leaving repair mode forgets SO_REUSEADDR, which is put back.
 *
 *   write_seq ─┐            ┌─ snd_nxt          ┌─ snd_una
 *     [ unsent ............ | sent, not acked . | acked: gone ]     FIN counts one
 */
#include "runtime/checkpoint/sock_tcp.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/peek.h"
#include "runtime/checkpoint/sock_gate.h"
#include "runtime/checkpoint/sock_idle.h"
#include "runtime/checkpoint/sock_orphan.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static bool tcp_claims(const struct ofd *o)
{
	struct sock_kind k;

	return sock_kind(o, &k) && (k.family == AF_INET || k.family == AF_INET6) &&
	       k.type == SOCK_STREAM && (k.protocol == IPPROTO_TCP || k.protocol == IPPROTO_MPTCP);
}

static int tcp_state(int fd)
{
	struct tcp_info i = { 0 };
	socklen_t len = sizeof(i);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) < 0 ? -errno : i.tcpi_state;
}

static short poll_now(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLPRI | POLLRDHUP };

	return poll(&p, 1, 0) < 0 ? 0 : p.revents;
}

/* --- what cannot travel ------------------------------------------------------------------ */
/* NULL: it can. */
static const char *tcp_obstacle(const struct ofd *o, const char **remedy)
{
	char ulp[16] = "";
	socklen_t len = sizeof(ulp);
	int protocol = sock_opt_int(o->fd, SOL_SOCKET, SO_PROTOCOL, 0), state;

	state = protocol == IPPROTO_MPTCP ? TCP_CLOSE : tcp_state(o->fd);
	if (protocol == IPPROTO_MPTCP && !sock_opt_int(o->fd, SOL_SOCKET, SO_ACCEPTCONN, 0)) {
		*remedy = "switch MPTCP off in the program (Go: GODEBUG=multipathtcp=0), or with "
			  "sysctl net.mptcp.enabled=0 in the container";
		return "a connection over several paths (MPTCP) cannot be taken over";
	}
	if (state < 0) {
		*remedy = "close the connection";
		return "its state cannot be read";
	}
	if (protocol != IPPROTO_MPTCP && getsockopt(o->fd, IPPROTO_TCP, TCP_ULP, ulp, &len) == 0 &&
	    len > 0 && ulp[0]) {
		*remedy = "switch off kernel TLS in the program";
		return "an upper layer protocol (kernel TLS) is attached to it";
	}
	if (sock_opt_int(o->fd, SOL_SOCKET, SO_ZEROCOPY, 0)) {
		*remedy = "configure the program not to use MSG_ZEROCOPY";
		return "it sends without copying (SO_ZEROCOPY): notices in flight would be lost";
	}
	if (state == TCP_SYN_RECV) {
		*remedy = "try again in a moment";
		return "its handshake is not complete (TCP fast open)";
	}
	return NULL;
}

static int tcp_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	const char *remedy = NULL, *why = tcp_obstacle(o, &remedy);
	Cks__Address *local = sock_address_local(o->fd), *peer = sock_address_peer(o->fd);
	char name[160], a[70], b[70];

	snprintf(name, sizeof(name), peer ? "TCP connection %s to %s" : "TCP socket %s",
		 sock_address_text(local, a, sizeof(a)), sock_address_text(peer, b, sizeof(b)));
	if (!why && peer && sock_stays(o->fd, POLLERR) && tcp_state(o->fd) != TCP_CLOSE) {
		why = "errors or notices (MSG_ERRQUEUE) wait to be read, and nobody reads them";
		remedy = "let the program read them";
	}
	if (why)
		obj_obstacle(out, o, name, why, remedy);
	if (peer)
		peek_load(PEEK_SOCKET_ERROR, NULL); /* not in the pause */
	sock_hidden_check(d, o, name, out);
	sock_common_check(d, o, out);
	sock_address_free(local);
	sock_address_free(peer);
	return 0;
}

/* --- dump ------------------------------------------------------------------------------------ */
/* getpeername() that also works in states CLOSE and SYN_SENT. */
static Cks__Address *peer_of(int fd)
{
	union sock_addr a = { 0 };
	/* a longer buffer than the address is an error there */
	socklen_t len = sock_opt_int(fd, SOL_SOCKET, SO_DOMAIN, 0) == AF_INET6 ? sizeof(a.in6)
									       : sizeof(a.in);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &a, &len) < 0 ||
	    (a.sa.sa_family != AF_INET && a.sa.sa_family != AF_INET6))
		return NULL;
	return sock_address_dump(fd, &a);
}

static int peek_queue(int fd, size_t want, uint8_t **data, struct error *err)
{
	/* the send queue's peek copies whole buffers or fails: give it room */
	uint8_t *buf = mem_zalloc(want ? want + 65536 : 1);
	ssize_t n = 0;

	if (want)
		n = recv(fd, buf, want + 65536, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 || (size_t)n < want) {
		free(buf);
		return n < 0 ? error_sys(err, errno, "reading a queue")
			     : error_set(err, EIO, "a queue has %zd of its %zu bytes", n, want);
	}
	*data = buf;
	return 0;
}

static int queue_seq(int fd, int queue, uint32_t *seq, struct error *err)
{
	socklen_t len = sizeof(*seq);

	if (sock_opt_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue) < 0 ||
	    getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, seq, &len) < 0)
		return error_sys(err, errno, "reading sequence numbers");
	return 0;
}

/*
 * The lowest bit of TCP_TIMESTAMP says since Linux 6.7 that the unit is 1 µs. Before it is
 * time, which a newer kernel at the destination would take for that.
 */
static bool lowest_bit_is_time(void)
{
	unsigned int major = 0, minor = 0;
	struct utsname u;

	return uname(&u) == 0 && sscanf(u.release, "%u.%u", &major, &minor) == 2 &&
	       (major < 6 || (major == 6 && minor < 7));
}

/* In repair mode. */
static int read_sequence(int fd, Cks__TcpSequence *s, struct error *err)
{
	struct tcp_info i = { 0 };
	struct tcp_repair_window w;
	socklen_t len = sizeof(i);
	int n;

	n = queue_seq(fd, TCP_RECV_QUEUE, &s->rcv_nxt, err);
	if (n == 0)
		n = queue_seq(fd, TCP_SEND_QUEUE, &s->write_seq, err);
	if (n < 0)
		return n;
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) < 0)
		return error_sys(err, errno, "TCP_INFO");
	s->mss = (uint32_t)sock_opt_int(fd, IPPROTO_TCP, TCP_MAXSEG, 536);
	s->wscale_ok = i.tcpi_options & TCPI_OPT_WSCALE;
	s->snd_wscale = i.tcpi_snd_wscale;
	s->rcv_wscale = i.tcpi_rcv_wscale;
	s->sack = i.tcpi_options & TCPI_OPT_SACK;
	s->timestamps = i.tcpi_options & TCPI_OPT_TIMESTAMPS;
	s->timestamp = (uint32_t)sock_opt_int(fd, IPPROTO_TCP, TCP_TIMESTAMP, 0);
	if (lowest_bit_is_time())
		s->timestamp &= ~1u;
	len = sizeof(w);
	if (getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, &len) < 0)
		return error_sys(err, errno, "TCP_REPAIR_WINDOW");
	s->window->snd_wl1 = w.snd_wl1;
	s->window->snd_wnd = w.snd_wnd;
	s->window->max_window = w.max_window;
	s->window->rcv_wnd = w.rcv_wnd;
	s->window->rcv_wup = w.rcv_wup;
	return 0;
}

struct queues {
	uint8_t *received, *out;
	size_t nreceived, nout, nunsent;
};

/* In repair mode. */
static int read_queues(int fd, Cks__Tcp *m, struct queues *q, struct error *err)
{
	int in = 0, out = 0, unsent = 0, n;
	bool fin = m->state == TCP_FIN_WAIT1 || m->state == TCP_CLOSING || m->state == TCP_LAST_ACK;

	n = tcp_urgent_find(fd, m, &in, err);
	if (n < 0)
		return n;
	if (ioctl(fd, SIOCOUTQ, &out) < 0 || ioctl(fd, SIOCOUTQNSD, &unsent) < 0)
		return error_sys(err, errno, "sizes of queues");
	if (fin) {
		m->fin_unsent = unsent > 0;
		m->fin_sent = !unsent;
		out--;
		unsent -= unsent > 0;
	}
	m->fin_acked = m->state == TCP_FIN_WAIT2;
	m->fin_received =
		m->state == TCP_CLOSE_WAIT || m->state == TCP_LAST_ACK || m->state == TCP_CLOSING;
	q->nreceived = (size_t)in;
	q->nout = (size_t)out;
	q->nunsent = (size_t)unsent;
	if (sock_opt_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE) < 0)
		return error_sys(err, errno, "TCP_REPAIR_QUEUE");
	n = m->urgent ? tcp_urgent_peek(fd, m, q->nreceived, &q->received, err)
		      : peek_queue(fd, q->nreceived, &q->received, err);
	if (n < 0)
		return error_wrap(err, "receive queue");
	if (sock_opt_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE) < 0)
		return error_sys(err, errno, "TCP_REPAIR_QUEUE");
	n = peek_queue(fd, q->nout, &q->out, err);
	return n < 0 ? error_wrap(err, "send queue") : 0;
}

/* Every way out of repair mode on the source; no window probe is sent. */
static int leave_repair(int fd, const Cks__Common *c, struct error *err)
{
	int n = sock_opt_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);

	if (n == 0 && c->reuseaddr)
		n = sock_opt_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (n == 0 && c->peek_off >= 0)
		n = sock_opt_set(fd, SOL_SOCKET, SO_PEEK_OFF, c->peek_off);
	return n < 0 ? error_sys(err, -n, "leaving repair mode") : 0;
}

static int enter_repair(int fd, const Cks__Common *c, struct error *err)
{
	int n = c->peek_off >= 0 ? sock_opt_set(fd, SOL_SOCKET, SO_PEEK_OFF, -1) : 0;

	if (n == 0)
		n = sock_opt_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	return n < 0 ? error_sys(err, -n, "entering repair mode") : 0;
}

static void sequence_new(Cks__Tcp *m)
{
	m->seq = mem_zalloc(sizeof(*m->seq));
	cks__tcp_sequence__init(m->seq);
	m->seq->window = mem_zalloc(sizeof(*m->seq->window));
	cks__tcp_window__init(m->seq->window);
}

static int dump_connection(struct dump *d, int fd, Cks__Tcp *m, bool stay, struct error *err)
{
	struct queues q = { 0 };
	struct error second = { 0 };
	CLEANUP_FREE uint8_t *out = NULL;
	uint8_t *sent, *unsent;
	short events = poll_now(fd);
	size_t nsent;
	int n, left;

	if (events & POLLERR)
		return error_set(err, EAGAIN,
				 "an error or a notice (MSG_ERRQUEUE) waits to be read; try again");
	m->shut_rd = (m->state == TCP_ESTABLISHED || m->state == TCP_FIN_WAIT1 ||
		      m->state == TCP_FIN_WAIT2) &&
		     (events & POLLRDHUP);
	sequence_new(m);
	n = enter_repair(fd, m->common, err);
	if (n == 0)
		n = read_sequence(fd, m->seq, err);
	if (n == 0)
		n = read_queues(fd, m, &q, err);
	if (n == 0 && stay && m->urgent)
		n = error_set(err, EAGAIN,
			      "a connection that waits to be accepted has urgent data; try again");
	left = stay && n == 0 ? 0 : leave_repair(fd, m->common, n < 0 ? &second : err);
	out = q.out;
	if (n < 0 || left < 0) {
		free(q.received);
		return n < 0 ? n : left;
	}
	if ((uint32_t)tcp_state(fd) != m->state) {
		free(q.received);
		return error_set(err, EAGAIN, "its state changed while it was read");
	}
	nsent = q.nout - q.nunsent;
	sent = mem_zalloc(nsent + 1);
	if (nsent)
		memcpy(sent, out, nsent);
	unsent = mem_zalloc(q.nunsent + 1);
	if (q.nunsent)
		memcpy(unsent, out + nsent, q.nunsent);
	n = sock_queue_dump(d, q.received, q.nreceived, &m->received, err);
	left = sock_queue_dump(d, sent, nsent, &m->sent, err);
	if (n == 0)
		n = left;
	left = sock_queue_dump(d, unsent, q.nunsent, &m->unsent, err);
	return n < 0 ? n : left;
}

/* The handshake begins anew at the destination, with the same sequence number. */
static int dump_syn_sent(int fd, Cks__Tcp *m, struct error *err)
{
	struct error second = { 0 };
	int n, left;

	sequence_new(m);
	n = enter_repair(fd, m->common, err);
	if (n == 0)
		n = queue_seq(fd, TCP_SEND_QUEUE, &m->seq->write_seq, err);
	left = leave_repair(fd, m->common, n < 0 ? &second : err);
	return n < 0 ? n : left;
}

/* Which error that is: two of them can be brought about again. */
static int dump_error(int fd, Cks__Tcp *m, struct error *err)
{
	int error = 0;

	if (peek_socket_error(fd, &error, NULL) < 0)
		return 0; /* ECONNRESET is by far the likeliest */
	m->broken_pipe = error == EPIPE;
	if (!error || error == ECONNRESET || error == EPIPE)
		return 0;
	return error_set(err, EAGAIN,
			 "a connection is over for a reason that cannot be made again (%s); try "
			 "again when the program has seen it",
			 strerror(error));
}

/* State CLOSE: never connected, or dead with perhaps something left to read. */
static int dump_closed(struct dump *d, int fd, Cks__Tcp *m, struct error *err)
{
	short ev = poll_now(fd);
	uint8_t *data = NULL;
	ssize_t got = 0;
	int in = 0, n;

	m->dead = (ev & POLLRDHUP) && m->common->peer;
	m->error = m->dead && (ev & POLLERR);
	if (!m->dead)
		return 0;
	n = m->error ? dump_error(fd, m, err) : 0;
	if (n == 0)
		n = tcp_urgent_find(fd, m, &in, err);
	if (n == 0 && m->urgent)
		n = error_set(err, EAGAIN,
			      "urgent data of a connection that is over waits to be read; try "
			      "again when the program has read it");
	if (n < 0 || in <= 0)
		return n;
	if (m->common->peek_off >= 0)
		sock_opt_set(fd, SOL_SOCKET, SO_PEEK_OFF, -1);
	data = mem_zalloc((size_t)in + 1);
	/* with data there this never consumes the pending error */
	got = recv(fd, data, (size_t)in + 1, MSG_PEEK | MSG_DONTWAIT);
	if (m->common->peek_off >= 0)
		sock_opt_set(fd, SOL_SOCKET, SO_PEEK_OFF, m->common->peek_off);
	if (got < 0) {
		free(data);
		return error_sys(err, errno, "reading a queue");
	}
	return sock_queue_dump(d, data, (size_t)got, &m->received, err);
}

void tcp_message_free(Cks__Tcp *m)
{
	sock_common_free(m->common);
	if (m->seq)
		free(m->seq->window);
	free(m->seq);
	sock_queue_free(m->received);
	sock_queue_free(m->sent);
	sock_queue_free(m->unsent);
	/* m->pending is the listener's own: tcp_pending_undo() */
}

int tcp_connection_dump(struct dump *d, struct ofd *o, Cks__Tcp *m, bool stay, struct error *err)
{
	int n = tcp_state(o->fd);

	if (n < 0)
		return error_sys(err, -n, "TCP_INFO");
	m->state = (uint32_t)n;
	n = sock_common_dump(NULL, o, false, &m->common, err);
	return n < 0 ? n : dump_connection(d, o->fd, m, stay, err);
}

int tcp_can_travel(const struct ofd *o, struct error *err)
{
	const char *remedy = NULL, *why = tcp_obstacle(o, &remedy);

	return why ? error_set(err, ENOTSUP, "%s; %s", why, remedy) : 0;
}

static int dump_by_state(struct dump *d, struct ofd *o, Cks__Tcp *m, struct error *err)
{
	struct tcp_info i = { 0 };
	socklen_t len = sizeof(i);
	bool mptcp = sock_opt_int(o->fd, SOL_SOCKET, SO_PROTOCOL, 0) == IPPROTO_MPTCP;
	int n = tcp_can_travel(o, err);

	if (n < 0)
		return n;
	if (!mptcp && getsockopt(o->fd, IPPROTO_TCP, TCP_INFO, &i, &len) < 0)
		return error_sys(err, errno, "TCP_INFO");
	m->state = mptcp ? TCP_LISTEN : i.tcpi_state;
	/* one whose connection is over tells the segment size of that as TCP_MAXSEG */
	n = sock_common_dump(d, o,
			     m->state == TCP_LISTEN ||
				     (m->state == TCP_CLOSE && !(poll_now(o->fd) & POLLRDHUP)),
			     &m->common, err);
	if (n < 0)
		return n;
	if (!m->common->peer)
		m->common->peer = peer_of(o->fd);
	switch (m->state) {
	case TCP_LISTEN:
		/* in this state TCP_INFO reports the length of the accept queue and its limit */
		m->backlog = mptcp ? SOMAXCONN : i.tcpi_sacked;
		if (mptcp && (poll_now(o->fd) & POLLIN))
			return error_set(err, EAGAIN, "connections wait to be accepted; try again");
		return mptcp ? 0 : tcp_pending_dump(d, o, i.tcpi_unacked, m, err);
	case TCP_CLOSE:
		return dump_closed(d, o->fd, m, err);
	case TCP_SYN_SENT:
		return dump_syn_sent(o->fd, m, err);
	default:
		return dump_connection(d, o->fd, m, false, err);
	}
}

/*
 * The undo of the first opens lo again. An engine that was killed may have left a socket in
 * repair mode; the one that comes after it does not know which.
 */
static int tcp_dump_undo(struct dump *d, struct ofd *o)
{
	sock_gate_close(false);
	if (sock_opt_int(o->fd, IPPROTO_TCP, TCP_REPAIR, 0) == 1)
		sock_opt_set(o->fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
	if (o->priv)
		tcp_pending_undo(d, o);
	return 0;
}

static int dump_whole(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cks__Tcp m = CKS__TCP__INIT;
	int n = dump_by_state(d, o, &m, err);

	if (n == 0)
		obj_pack(&m.base, body);
	else if (m.common) {
		char a[70], b[70];

		error_wrap(err, "TCP socket %s to %s",
			   sock_address_text(m.common->local, a, sizeof(a)),
			   sock_address_text(m.common->peer, b, sizeof(b)));
	}
	tcp_message_free(&m);
	return n;
}

int tcp_dump_beside(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	int state = tcp_state(o->fd), in = 0, out = 0;

	/* accept queues are taken out, long queues are sent at once: the main thread's */
	if (state < 0 || state == TCP_LISTEN || state == TCP_CLOSE || state == TCP_SYN_SENT ||
	    ioctl(o->fd, SIOCINQ, &in) < 0 || ioctl(o->fd, SIOCOUTQ, &out) < 0 ||
	    in + out > 128 << 10)
		return -EAGAIN;
	return dump_whole(d, o, body, err);
}

int tcp_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	int n = sock_gate_attach(d, err);

	if (n < 0)
		return n;
	sock_gate_close(true);
	n = sock_idle_dump(d, o, body, err);
	if (n == 0)
		n = tcp_ahead_take(o, body, err);
	return n == 0 ? dump_whole(d, o, body, err) : n < 0 ? n : 0;
}

const struct object_type sock_type_tcp = {
	.type = "tcp",
	.claims = tcp_claims,
	.check = tcp_check,
	.dump = tcp_dump,
	.dump_undo = tcp_dump_undo,
	.restore = tcp_restore,
	.early = true,
	.late = tcp_late,
	.finish = tcp_finish,
};
