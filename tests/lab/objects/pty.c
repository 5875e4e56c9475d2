/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pty of its own: number, settings, size, modes, and what was typed or printed and is
 * not read yet.
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "object.h"

static void read_all(int m, char *buf, size_t cap)
{
	size_t n = 0;
	ssize_t got;

	CHECK(fcntl(m, F_SETFL, O_RDWR | O_NONBLOCK) == 0);
	while ((got = read(m, buf + n, cap - 1 - n)) > 0)
		n += (size_t)got;
	buf[n] = '\0';
}

int main(int argc, char **argv)
{
	int m = posix_openpt(O_RDWR | O_NOCTTY), other, s, raw, mraw, flag = 1;
	struct winsize ws = { .ws_row = 33, .ws_col = 111 }, now;
	struct termios t, u;
	char name[64], buf[256];

	object_init(argc, argv);
	CHECK(m >= 0 && grantpt(m) == 0 && unlockpt(m) == 0 && ptsname_r(m, name, 64) == 0);
	s = open(name, O_RDWR | O_NOCTTY);
	other = posix_openpt(O_RDWR | O_NOCTTY);
	mraw = posix_openpt(O_RDWR | O_NOCTTY);
	CHECK(close(other) == 0 && unlockpt(mraw) == 0 && ptsname_r(mraw, buf, 64) == 0);
	raw = open(buf, O_RDWR | O_NOCTTY);
	CHECK(s >= 0 && raw >= 0 && ioctl(m, TIOCSWINSZ, &ws) == 0 && tcgetattr(s, &t) == 0);
	t.c_cc[VINTR] = 7;
	t.c_cflag = (t.c_cflag & ~(unsigned)CBAUD) | B19200;
	CHECK(tcsetattr(s, TCSANOW, &t) == 0 && tcgetattr(s, &t) == 0 && tcgetattr(raw, &u) == 0);
	cfmakeraw(&u);
	CHECK(tcsetattr(raw, TCSANOW, &u) == 0 && ioctl(mraw, TIOCPKT, &flag) == 0);
	/* two lines, one that ends without a newline, half a line; all echoed */
	CHECK(write(m, "first\nsecond\nno end\x04half", 24) == 24);
	usleep(100000); /* until it is echoed */
	CHECK(write(s, "printed\n", 8) == 8 && write(mraw, "a\r\x03\x00\x04z", 6) == 6);
	usleep(50000);
	object_move();
	CHECK(ioctl(s, TIOCGWINSZ, &now) == 0 && now.ws_row == 33 && now.ws_col == 111);
	CHECK(tcgetattr(s, &u) == 0 && memcmp(&t, &u, sizeof(t)) == 0);
	CHECK(ptsname_r(m, buf, 64) == 0 && strcmp(buf, name) == 0);
	CHECK(ioctl(mraw, TIOCGPKT, &flag) == 0 && flag == 1);
	CHECK(read(s, buf, 256) == 6 && memcmp(buf, "first\n", 6) == 0);
	CHECK(read(s, buf, 256) == 7 && memcmp(buf, "second\n", 7) == 0);
	CHECK(read(s, buf, 256) == 6 && memcmp(buf, "no end", 6) == 0);
	CHECK(fcntl(s, F_SETFL, O_NONBLOCK) == 0 && read(s, buf, 256) < 0 && errno == EAGAIN);
	/* the half line can still be edited */
	CHECK(write(m, "\x7f", 1) == 1 && write(m, "o!\n", 3) == 3);
	usleep(50000);
	CHECK(read(s, buf, 256) == 6 && memcmp(buf, "halo!\n", 6) == 0);
	CHECK(read(raw, buf, 256) == 6 && memcmp(buf, "a\r\x03\x00\x04z", 6) == 0);
	/* what was typed was echoed, and only once */
	read_all(m, buf, sizeof(buf));
	CHECK(strcmp(buf, "first\r\nsecond\r\nno endhalfprinted\r\n\b \bo!\r\n") == 0, "%s", buf);
	return 0;
}
