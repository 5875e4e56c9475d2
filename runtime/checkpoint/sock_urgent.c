/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP urgent data that came in. The stream has one place, the mark, behind which the urgent
 * byte lies; a read stops there, and without SO_OOBINLINE the byte is taken out of the
 * stream and kept beside it until recv(MSG_OOB).
 *
 *   copied_seq ── received ── mark ! ── received behind it ── rcv_nxt
 *
 * Source: no call tells where the mark is, but SIOCINQ counts up to it without SO_OOBINLINE
 * and all with it. Destination: repair mode fills the queue up to the mark; the rest comes
 * in packets made by hand, the first with the URG flag.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/sock_tcp.h"

#define PIECE 16384 /* of what comes in packets */

static int bytes_in(int fd, bool in_line)
{
	int n = 0;

	if (sock_opt_set(fd, SOL_SOCKET, SO_OOBINLINE, in_line) < 0 || ioctl(fd, SIOCINQ, &n) < 0)
		return -errno;
	return n;
}

int tcp_urgent_find(int fd, Cks__Tcp *m, int *in, struct error *err)
{
	int was = sock_opt_int(fd, SOL_SOCKET, SO_OOBINLINE, 0);
	int other = bytes_in(fd, !was), same = bytes_in(fd, was);
	int all = was ? same : other, mark = was ? other : same;
	uint8_t byte;

	if (other < 0 || same < 0)
		return error_sys(err, other < 0 ? -other : -same, "the size of the receive queue");
	*in = all;
	if (mark == all)
		return 0;
	m->urgent = true;
	m->urgent_at = (uint32_t)mark;
	if (was)
		sock_opt_set(fd, SOL_SOCKET, SO_OOBINLINE, 0);
	/* EINVAL: it was read */
	m->urgent_read = recv(fd, &byte, 1, MSG_OOB | MSG_PEEK | MSG_DONTWAIT) < 0;
	if (was)
		sock_opt_set(fd, SOL_SOCKET, SO_OOBINLINE, 1);
	return 0;
}

/* With SO_OOBINLINE: a read stops at the mark, another begins with the urgent byte. */
static int peek_both(int fd, size_t at, size_t want, uint8_t *data)
{
	ssize_t n = at ? recv(fd, data, at, MSG_PEEK | MSG_DONTWAIT) : 0;

	if (n >= 0 && (size_t)n < at)
		return -EIO;
	/* before Linux 6.10 nothing looks behind the mark */
	if (n >= 0 && at && setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &(int){ (int)at }, 4) < 0)
		n = -1;
	if (n >= 0)
		n = recv(fd, data + at, want - at, MSG_PEEK | MSG_DONTWAIT);
	return n < 0 ? -errno : (size_t)n < want - at ? -EIO : 0;
}

int tcp_urgent_peek(int fd, const Cks__Tcp *m, size_t want, uint8_t **data, struct error *err)
{
	int was = sock_opt_int(fd, SOL_SOCKET, SO_OOBINLINE, 0);
	CLEANUP_FREE uint8_t *buf = mem_zalloc(want + 1);
	int n = sock_opt_set(fd, SOL_SOCKET, SO_OOBINLINE, 1);

	if (n == 0)
		n = peek_both(fd, m->urgent_at, want, buf);
	sock_opt_set(fd, SOL_SOCKET, SO_PEEK_OFF, -1);
	if (!was)
		sock_opt_set(fd, SOL_SOCKET, SO_OOBINLINE, 0);
	if (n < 0)
		return error_set(err, EAGAIN,
				 "urgent data waits to be read, with data before it that this "
				 "kernel cannot look behind (Linux 6.10 can); try again when the "
				 "program has read it");
	*data = TAKE_PTR(buf);
	return 0;
}

/* --- destination ------------------------------------------------------------------------ */
size_t tcp_urgent_rest(const Cks__Tcp *m, size_t nreceived)
{
	return m->urgent && m->urgent_at < nreceived ? nreceived - m->urgent_at : 0;
}

/* The kernel handles what was put on lo soon, but not at once. */
static int await_bytes(int fd, size_t want, struct error *err)
{
	int n = 0;

	for (int i = 0; i < 20000; i++) {
		n = bytes_in(fd, true);
		if (n < 0 || (size_t)n == want)
			break;
		usleep(i < 50 ? 10 : 100);
	}
	if (n < 0)
		return error_sys(err, -n, "the size of the receive queue");
	return (size_t)n == want
		       ? 0
		       : error_set(err, EIO, "%d of %zu bytes of a stream with urgent data came", n,
				   want);
}

int tcp_urgent_restore(struct restore *r, const Cks__Tcp *m, int fd, uint32_t ack,
		       struct error *err)
{
	int was = sock_opt_int(fd, SOL_SOCKET, SO_OOBINLINE, 0), n;
	const uint8_t *data;
	size_t len, rest;
	uint8_t byte;

	n = sock_queue_data(m->received, &data, &len, err);
	rest = n == 0 ? tcp_urgent_rest(m, len) : 0;
	if (!rest)
		return n;
	for (size_t at = len - rest; at < len && n == 0; at += PIECE) {
		size_t k = len - at < PIECE ? len - at : PIECE;
		/* an urgent pointer of 0 says the first byte, whatever tcp_stdurg is */
		struct sock_packet p = {
			.from = m->common->peer,
			.to = m->common->local,
			.seq = m->seq->rcv_nxt - m->fin_received - (uint32_t)(len - at),
			.ack = ack,
			.flags = (uint8_t)(TH_ACK | (at == len - rest ? TH_URG : 0)),
			.window = 65535,
			.data = data + at,
			.len = k,
		};

		n = sock_inject_tcp(r, &p, err);
	}
	if (n == 0)
		n = await_bytes(fd, len, err);
	sock_opt_set(fd, SOL_SOCKET, SO_OOBINLINE, 0);
	if (n == 0 && m->urgent_read && recv(fd, &byte, 1, MSG_OOB | MSG_DONTWAIT) != 1)
		n = error_sys(err, errno, "reading urgent data");
	sock_opt_set(fd, SOL_SOCKET, SO_OOBINLINE, was);
	return n;
}
