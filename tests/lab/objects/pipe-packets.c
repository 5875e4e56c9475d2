/* SPDX-License-Identifier: Apache-2.0 */
/* A pipe in packet mode keeps the limits of its packets. */
#include <fcntl.h>

#include "object.h"

int main(int argc, char **argv)
{
	char buf[64] = "";
	int p[2];

	object_init(argc, argv);
	CHECK(pipe2(p, O_DIRECT | O_NONBLOCK) == 0);
	CHECK(write(p[1], "one", 3) == 3 && write(p[1], "second", 6) == 6);
	CHECK(write(p[1], "three33", 7) == 7 && read(p[0], buf, 64) == 3);
	object_move();
	CHECK(fcntl(p[1], F_GETFL) & O_DIRECT);
	CHECK(read(p[0], buf, 64) == 6 && memcmp(buf, "second", 6) == 0);
	CHECK(read(p[0], buf, 5) == 5); /* the rest of a packet is lost */
	CHECK(read(p[0], buf, 64) < 0 && errno == EAGAIN);
	CHECK(write(p[1], "a", 1) == 1 && write(p[1], "b", 1) == 1 && read(p[0], buf, 64) == 1);
	return 0;
}
