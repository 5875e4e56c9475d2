/* SPDX-License-Identifier: Apache-2.0 */
/* Open file description locks: of the description, whoever has it. */
#include <fcntl.h>

#include "object.h"

int main(int argc, char **argv)
{
	int fd = open("/db", O_RDWR | O_CREAT, 0600), other;
	struct flock a = { .l_type = F_WRLCK, .l_start = 10, .l_len = 10 }, q;

	object_init(argc, argv);
	CHECK(fcntl(fd, F_OFD_SETLK, &a) == 0);
	object_move();
	other = open("/db", O_RDWR);
	q = (struct flock){ .l_type = F_RDLCK, .l_start = 19, .l_len = 1 };
	CHECK(fcntl(other, F_OFD_SETLK, &q) < 0 && errno == EAGAIN);
	q = (struct flock){ .l_type = F_WRLCK, .l_start = 20, .l_len = 1 };
	CHECK(fcntl(other, F_OFD_SETLK, &q) == 0);
	close(fd);
	q = (struct flock){ .l_type = F_RDLCK, .l_start = 19, .l_len = 1 };
	CHECK(fcntl(other, F_OFD_SETLK, &q) == 0);
	return 0;
}
