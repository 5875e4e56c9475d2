/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Urgent data that came in and waits, alone and among other data; read, with its place in the
 * stream still ahead; in line with the rest; and behind the end of what is sent.
 */
/* peer */
/* moves: live */
#include "net.h"

#define BEFORE 3000
#define AFTER  100000

enum { AHEAD, ALONE, READ, IN_LINE, ENDED, KINDS };

static void talk(int s, int kind)
{
	if (kind != ALONE)
		net_send(s, 1, 0, BEFORE);
	CHECK(send(s, "!", 1, MSG_OOB) == 1);
	if (kind != ALONE)
		net_send(s, 2, 0, AFTER);
	if (kind == ENDED)
		CHECK(shutdown(s, SHUT_WR) == 0);
}

/* All that was sent has come, the urgent byte with it. */
static void await_all(int s, int kind)
{
	int in = 0, want = kind == ALONE ? 1 : BEFORE + 1 + AFTER;

	for (int i = 0; i < 30000 && in != want; i++) {
		net_set(s, SOL_SOCKET, SO_OOBINLINE, 1);
		CHECK(ioctl(s, FIONREAD, &in) == 0);
		net_set(s, SOL_SOCKET, SO_OOBINLINE, kind == IN_LINE);
		usleep(1000);
	}
	CHECK(in == want, "%d bytes", in);
}

static int at_mark(int s)
{
	int at = -1;

	CHECK(ioctl(s, SIOCATMARK, &at) == 0);
	return at;
}

static void urgent_is(int s, int kind)
{
	char byte = 0;
	ssize_t n = recv(s, &byte, 1, MSG_OOB | MSG_DONTWAIT);

	if (kind == READ || kind == IN_LINE)
		CHECK(n < 0 && errno == EINVAL);
	else
		CHECK(n == 1 && byte == '!');
}

static void hear(int s, int kind)
{
	char buf[BEFORE + 100];
	ssize_t n;

	CHECK(!(net_poll(s, POLLPRI, 0) & POLLPRI) == (kind == READ));
	if (kind != ALONE) {
		CHECK(at_mark(s) == 0);
		/* a read ends at the mark, however much it asks for */
		n = recv(s, buf, sizeof(buf), MSG_DONTWAIT);
		CHECK(n == BEFORE, "%zd", n);
		for (int i = 0; i < BEFORE; i++)
			CHECK(buf[i] == net_byte(1, (size_t)i));
	}
	CHECK(at_mark(s) == 1);
	urgent_is(s, kind);
	if (kind == IN_LINE)
		CHECK(recv(s, buf, 1, 0) == 1 && buf[0] == '!');
	if (kind != ALONE)
		net_recv(s, 2, 0, AFTER);
	else
		CHECK(recv(s, buf, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	CHECK(at_mark(s) == 0);
	if (kind == ENDED)
		net_end(s);
	CHECK(send(s, "x", 1, 0) == 1);
}

int main(int argc, char **argv)
{
	int l, s[KINDS], near[KINDS], far[KINDS];
	char byte;

	object_init(argc, argv);
	if (object_is_peer) {
		l = net_listen("0.0.0.0", 7000, 16);
		object_ready();
		for (int k = 0; k < KINDS; k++) {
			s[k] = accept(l, NULL, NULL);
			talk(s[k], k);
		}
		for (int k = 0; k < KINDS; k++)
			CHECK(recv(s[k], &byte, 1, 0) == 1);
		return 0;
	}
	l = net_listen("127.0.0.1", 7001, 16);
	for (int k = 0; k < KINDS; k++) {
		int big = 1 << 20;

		s[k] = net_dial(object_peer(), 7000);
		net_set(s[k], SOL_SOCKET, SO_RCVBUF, big);
		near[k] = net_dial("127.0.0.1", 7001);
		far[k] = accept(l, NULL, NULL);
		net_set(far[k], SOL_SOCKET, SO_RCVBUF, big);
		talk(near[k], k);
	}
	for (int k = 0; k < KINDS; k++) {
		await_all(s[k], k);
		await_all(far[k], k);
	}
	CHECK(recv(s[READ], &byte, 1, MSG_OOB) == 1 && recv(far[READ], &byte, 1, MSG_OOB) == 1);
	object_move();
	for (int k = 0; k < KINDS; k++) {
		hear(s[k], k);
		hear(far[k], k);
		CHECK(recv(near[k], &byte, 1, 0) == 1);
	}
	/* urgent data that is sent afterwards has the place where it is sent */
	CHECK(send(near[READ], "?", 1, MSG_OOB) == 1);
	CHECK(net_poll(far[READ], POLLPRI, 30000) & POLLPRI);
	CHECK(recv(far[READ], &byte, 1, MSG_OOB) == 1 && byte == '?');
	return 0;
}
