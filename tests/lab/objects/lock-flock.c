/* SPDX-License-Identifier: Apache-2.0 */
/* flock(2): exclusive and shared locks belong to the description, and keep others out. */
#include <fcntl.h>
#include <sys/file.h>

#include "object.h"

int main(int argc, char **argv)
{
	int ex = open("/a", O_RDWR | O_CREAT, 0600), sh = open("/b", O_RDWR | O_CREAT, 0600), two;

	object_init(argc, argv);
	CHECK(flock(ex, LOCK_EX) == 0 && flock(sh, LOCK_SH) == 0);
	two = dup(ex);
	close(ex);
	object_move();
	ex = open("/a", O_RDWR);
	CHECK(flock(ex, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK);
	CHECK(flock(two, LOCK_UN) == 0 && flock(ex, LOCK_EX | LOCK_NB) == 0);
	two = open("/b", O_RDWR);
	CHECK(flock(two, LOCK_SH | LOCK_NB) == 0 && flock(two, LOCK_EX | LOCK_NB) < 0);
	CHECK(flock(sh, LOCK_UN) == 0 && flock(two, LOCK_EX | LOCK_NB) == 0);
	return 0;
}
