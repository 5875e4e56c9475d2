/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal of docker run -it: settings, size, sessions and what was typed ahead come
 * along.
 */
/* docker: -it --cap-add SYS_ADMIN */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct winsize ws = { .ws_row = 50, .ws_col = 132 }, now = { 0 };
	struct termios t, u;
	char c = 0;

	object_init(argc, argv);
	CHECK(isatty(0) && isatty(1) && isatty(2) && tcgetattr(0, &t) == 0);
	t.c_lflag &= ~(unsigned)(ECHO | ICANON);
	t.c_cc[VQUIT] = 5;
	CHECK(tcsetattr(0, TCSANOW, &t) == 0 && tcgetattr(0, &t) == 0);
	CHECK(ioctl(0, TIOCSWINSZ, &ws) == 0);
	for (const char *p = "ahead"; *p; p++)
		CHECK(ioctl(0, TIOCSTI, p) == 0);
	object_move();
	CHECK(isatty(0) && isatty(1) && isatty(2));
	CHECK(tcgetattr(0, &u) == 0 && memcmp(&t, &u, sizeof(t)) == 0);
	CHECK(ioctl(1, TIOCGWINSZ, &now) == 0 && now.ws_row == 50 && now.ws_col == 132);
	CHECK(tcgetsid(0) == 1 && tcgetpgrp(0) == 1 && open("/dev/tty", O_RDWR) >= 0);
	for (const char *p = "ahead"; *p; p++)
		CHECK(read(0, &c, 1) == 1 && c == *p, "%d instead of %d", c, *p);
	return 0;
}
