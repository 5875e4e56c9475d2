/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ferry-checkpoint: the engine of one side of one migration. ferryd starts it with a
 * control socket as descriptor 3; control.h says what is spoken there.
 */
#include <getopt.h>
#include <stdio.h>
#include <sys/socket.h>

#include "runtime/checkpoint/control.h"

int main(int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
	int type, c;
	socklen_t len = sizeof(type);

	c = getopt_long(argc, argv, "h", options, NULL);
	if (c != -1 || optind != argc) {
		fprintf(c == 'h' ? stdout : stderr, "usage: ferry-checkpoint   (started by ferryd, "
						    "control socket as descriptor 3)\n");
		return c == 'h' ? 0 : 2;
	}
	if (getsockopt(CONTROL_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
		fprintf(stderr,
			"ferry-checkpoint: descriptor 3 is no socket; ferryd starts this\n");
		return 2;
	}
	return control_serve(CONTROL_FD);
}
