/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two queues of a pty. There is no way to look into either without taking out what is
 * in it; everything stands still, so it is read and put back as it was:
 *
 *   input    read from the slave, line by line in canonical mode, the incomplete line with
 *            that mode off for a moment; put back by TIOCSTI, byte by byte, which goes
 *            straight to the line discipline, with echo, signals and editing off
 *   output   read from the master; put back by writing to the slave, with processing off
 */
#include "runtime/checkpoint/obj_tty_queue.h"

#include <asm/termbits.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif
#define LINE_MOST 4096 /* N_TTY_BUF_SIZE */

void tty_unread_free(struct tty_unread *u)
{
	for (size_t i = 0; i < u->n; i++)
		free(u->pieces[i].data);
	free(u->pieces);
	*u = (struct tty_unread){ 0 };
}

static void piece_add(struct tty_unread *u, const void *data, size_t len)
{
	ProtobufCBinaryData *p;

	u->pieces = mem_grow(u->pieces, u->n + 1, sizeof(*u->pieces));
	p = &u->pieces[u->n++];
	p->data = mem_zalloc(len + 1);
	p->len = len;
	memcpy(p->data, data, len);
}

/* Reads until nothing is left. An empty line (Ctrl-D) reads as nothing. */
static int read_pieces(int fd, bool lines, struct tty_unread *u, struct error *err)
{
	char buf[65536];
	int empty = 0;

	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EIO))
			return 0;
		if (n < 0)
			return error_sys(err, errno, "reading what was typed or printed");
		if (n == 0 && (!lines || ++empty > LINE_MOST))
			return 0;
		piece_add(u, buf, (size_t)n);
	}
}

static int flags_swap(int fd, int flags)
{
	int old = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, flags < 0 ? old | O_NONBLOCK : flags);
	return old;
}

/* --- input ------------------------------------------------------------------------------ */
static bool ends_line(const struct termios2 *t, uint8_t c)
{
	return c == '\n' || (t->c_cc[VEOL] && c == t->c_cc[VEOL]) ||
	       (t->c_cc[VEOL2] && c == t->c_cc[VEOL2]);
}

/* A byte that is nowhere in the data, to stand for the end of a line without one. */
static int free_byte(const struct tty_unread *u)
{
	bool used[256] = { true };

	for (size_t i = 0; i < u->n; i++)
		for (size_t k = 0; k < u->pieces[i].len; k++)
			used[u->pieces[i].data[k]] = true;
	for (int c = 1; c < 256; c++)
		if (!used[c])
			return c;
	return -1;
}

static int type_byte(int fd, uint8_t c, struct error *err)
{
	char byte = (char)c;

	if (ioctl(fd, TIOCSTI, &byte) < 0)
		return error_sys(err, errno,
				 "putting back what was typed on a terminal (TIOCSTI needs "
				 "CAP_SYS_ADMIN)");
	return 0;
}

int tty_input_put(int fd, const struct tty_unread *u, struct error *err)
{
	struct termios2 t, plain;
	int end = free_byte(u), r = 0;

	if (!u->n)
		return 0;
	if (ioctl(fd, TCGETS2, &t) < 0)
		return error_sys(err, errno, "reading a terminal's settings");
	plain = t;
	plain.c_iflag &= ~(unsigned)(ICRNL | INLCR | IGNCR | ISTRIP | IUCLC | PARMRK | IUTF8);
	plain.c_lflag &= ~(unsigned)(ECHO | ECHOE | ECHOK | ECHONL | ISIG | IEXTEN);
	for (int i = 0; i < NCCS; i++)
		if (i != VEOL && i != VEOL2 && i != VMIN && i != VTIME && i != VSTART && i != VSTOP)
			plain.c_cc[i] = 0;
	if (end > 0)
		plain.c_cc[VEOF] = (uint8_t)end;
	if (ioctl(fd, TCSETS2, &plain) < 0)
		return error_sys(err, errno, "setting a terminal up");
	for (size_t i = 0; i < u->n && r == 0; i++) {
		const ProtobufCBinaryData *p = &u->pieces[i];
		bool whole = (t.c_lflag & ICANON) && !(u->partial && i == u->n - 1);

		for (size_t k = 0; k < p->len && r == 0; k++)
			r = type_byte(fd, p->data[k], err);
		if (r == 0 && whole && end > 0 &&
		    (p->len == 0 || !ends_line(&t, p->data[p->len - 1])))
			r = type_byte(fd, (uint8_t)end, err);
	}
	if (ioctl(fd, TCSETS2, &t) < 0 && r == 0)
		r = error_sys(err, errno, "setting a terminal up");
	return r;
}

int tty_input_peek(int fd, struct tty_unread *u, struct error *err)
{
	struct termios2 t, raw;
	size_t lines;
	int flags, r;

	*u = (struct tty_unread){ 0 };
	if (ioctl(fd, TCGETS2, &t) < 0)
		return error_sys(err, errno, "reading a terminal's settings");
	flags = flags_swap(fd, -1);
	r = read_pieces(fd, (t.c_lflag & ICANON) != 0, u, err);
	lines = u->n;
	if (r == 0 && (t.c_lflag & ICANON)) {
		raw = t;
		raw.c_lflag &= ~(unsigned)ICANON;
		raw.c_cc[VMIN] = 1;
		raw.c_cc[VTIME] = 0;
		ioctl(fd, TCSETS2, &raw);
		r = read_pieces(fd, false, u, err);
		ioctl(fd, TCSETS2, &t);
		u->partial = u->n > lines;
	}
	flags_swap(fd, flags);
	return r == 0 ? tty_input_put(fd, u, err) : r;
}

/* --- output ----------------------------------------------------------------------------- */
int tty_output_put(int fd, const struct tty_unread *u, struct error *err)
{
	CLEANUP_CLOSE int slave = -1;
	struct termios2 t, plain;
	int r = 0;

	if (!u->n)
		return 0;
	slave = ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (slave < 0 || ioctl(slave, TCGETS2, &t) < 0)
		return error_sys(err, errno, "opening the other end of a terminal");
	plain = t;
	plain.c_oflag &= ~(unsigned)OPOST;
	ioctl(slave, TCSETS2, &plain);
	for (size_t i = 0; i < u->n && r == 0; i++) {
		ssize_t n = write(slave, u->pieces[i].data, u->pieces[i].len);

		if (n != (ssize_t)u->pieces[i].len)
			r = error_sys(err, n < 0 ? errno : ENOSPC,
				      "putting back what was printed on a terminal");
	}
	ioctl(slave, TCSETS2, &t);
	return r;
}

int tty_output_peek(int fd, struct tty_unread *u, struct error *err)
{
	int flags = flags_swap(fd, -1), packet = 0, off = 0, r;

	*u = (struct tty_unread){ 0 };
	/* In packet mode a byte that is not the program's comes before each piece. */
	if (ioctl(fd, TIOCGPKT, &packet) == 0 && packet)
		ioctl(fd, TIOCPKT, &off);
	r = read_pieces(fd, false, u, err);
	if (packet)
		ioctl(fd, TIOCPKT, &packet);
	flags_swap(fd, flags);
	return r == 0 ? tty_output_put(fd, u, err) : r;
}
