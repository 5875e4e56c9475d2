/* SPDX-License-Identifier: Apache-2.0 */
/* Pipes: what is in them, partly read buffers, their size, when they are full. */
#include <fcntl.h>

#include "object.h"

int main(int argc, char **argv)
{
	int p[2], full[2];
	char buf[70000];
	ssize_t n;

	object_init(argc, argv);
	CHECK(pipe(p) == 0 && pipe2(full, O_NONBLOCK) == 0);
	CHECK(write(p[1], "hello world", 11) == 11 && read(p[0], buf, 6) == 6);
	CHECK(write(p[1], "!", 1) == 1 && fcntl(full[1], F_SETPIPE_SZ, 65536) == 65536);
	for (int i = 0; i < 65536; i++)
		buf[i] = (char)(i % 253);
	CHECK(write(full[1], buf, 65536) == 65536 && write(full[1], "x", 1) < 0);
	object_move();
	memset(buf, 0, sizeof(buf));
	CHECK(read(p[0], buf, sizeof(buf)) == 6 && memcmp(buf, "world!", 6) == 0);
	CHECK(fcntl(full[0], F_GETPIPE_SZ) == 65536 && write(full[1], "x", 1) < 0 &&
	      errno == EAGAIN);
	for (int at = 0; at < 65536; at += (int)n) {
		n = read(full[0], buf, sizeof(buf));
		CHECK(n > 0);
		for (int i = 0; i < n; i++)
			CHECK(buf[i] == (char)((at + i) % 253), "byte %d", at + i);
	}
	CHECK(read(full[0], buf, 1) < 0 && errno == EAGAIN && write(full[1], "x", 1) == 1);
	return 0;
}
