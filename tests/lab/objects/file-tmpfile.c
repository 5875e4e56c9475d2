/* SPDX-License-Identifier: Apache-2.0 */
/* O_TMPFILE: content of a file without a name, which may still get one, or may not. */
#include <fcntl.h>
#include <sys/stat.h>

#include "object.h"

int main(int argc, char **argv)
{
	char buf[16] = "", path[32];
	int fd = open("/tmp", O_TMPFILE | O_RDWR, 0640), excl, link;
	struct stat st;

	object_init(argc, argv);
	excl = open("/tmp", O_TMPFILE | O_RDWR | O_EXCL, 0600);
	CHECK(fd >= 0 && excl >= 0 && write(fd, "nameless", 8) == 8 && write(excl, "x", 1) == 1);
	object_move();
	CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 8 &&
	      (st.st_mode & 0777) == 0640);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK(linkat(AT_FDCWD, path, AT_FDCWD, "/tmp/name", AT_SYMLINK_FOLLOW) == 0);
	link = open("/tmp/name", O_RDONLY);
	CHECK(read(link, buf, sizeof(buf)) == 8 && memcmp(buf, "nameless", 8) == 0);
	CHECK(lseek(fd, 0, SEEK_CUR) == 8 && pread(excl, buf, 1, 0) == 1 && buf[0] == 'x');
	return 0;
}
