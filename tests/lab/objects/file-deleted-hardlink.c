/* SPDX-License-Identifier: Apache-2.0 */
/* An open file whose name was deleted while it has another one. */
#include <fcntl.h>
#include <sys/stat.h>

#include "object.h"

int main(int argc, char **argv)
{
	int fd = open("/tmp/first", O_RDWR | O_CREAT, 0600), other;
	char buf[8] = "";
	struct stat st;

	object_init(argc, argv);
	CHECK(write(fd, "data", 4) == 4 && mkdir("/tmp/deep", 0700) == 0);
	CHECK(link("/tmp/first", "/tmp/deep/second") == 0 && unlink("/tmp/first") == 0);
	object_move();
	CHECK(fstat(fd, &st) == 0 && st.st_nlink == 1);
	CHECK(pwrite(fd, "DATA", 4, 0) == 4);
	other = open("/tmp/deep/second", O_RDONLY);
	CHECK(other >= 0 && read(other, buf, 8) == 4 && memcmp(buf, "DATA", 4) == 0);
	return 0;
}
