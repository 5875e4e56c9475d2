/* SPDX-License-Identifier: Apache-2.0 */
/* Files renamed while open, one onto another which thereby loses its name; a moved folder. */
#include <fcntl.h>
#include <sys/stat.h>

#include "object.h"

int main(int argc, char **argv)
{
	int fd = open("/tmp/old", O_RDWR | O_CREAT, 0600), lost, in, again;
	char buf[8] = "";
	struct stat st;

	object_init(argc, argv);
	lost = open("/tmp/new", O_RDWR | O_CREAT, 0600);
	CHECK(write(fd, "kept", 4) == 4 && write(lost, "lost", 4) == 4);
	CHECK(rename("/tmp/old", "/tmp/new") == 0);
	CHECK(mkdir("/tmp/a", 0700) == 0 && (in = open("/tmp/a/f", O_RDWR | O_CREAT, 0600)) >= 0);
	CHECK(write(in, "in", 2) == 2 && rename("/tmp/a", "/tmp/b") == 0);
	object_move();
	CHECK(pread(lost, buf, 8, 0) == 4 && memcmp(buf, "lost", 4) == 0);
	CHECK(fstat(lost, &st) == 0 && st.st_nlink == 0);
	CHECK(pwrite(fd, "K", 1, 0) == 1 && pwrite(in, "I", 1, 0) == 1);
	again = open("/tmp/new", O_RDONLY);
	CHECK(read(again, buf, 8) == 4 && memcmp(buf, "Kept", 4) == 0);
	again = open("/tmp/b/f", O_RDONLY);
	CHECK(read(again, buf, 8) == 2 && memcmp(buf, "In", 2) == 0);
	return 0;
}
