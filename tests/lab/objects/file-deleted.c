/* SPDX-License-Identifier: Apache-2.0 */
/* A deleted file keeps content, holes, mode and its readers; it can get no name, as before. */
#include <fcntl.h>
#include <sys/stat.h>

#include "object.h"

int main(int argc, char **argv)
{
	int fd = open("/tmp/gone", O_RDWR | O_CREAT, 0604), rd, folder;
	char buf[16] = "", path[32];
	struct stat st;

	object_init(argc, argv);
	CHECK(pwrite(fd, "begin", 5, 0) == 5 && pwrite(fd, "end", 3, 10 << 20) == 3);
	rd = open("/tmp/gone", O_RDONLY);
	CHECK(mkdir("/tmp/folder", 0700) == 0 && (folder = open("/tmp/folder", O_RDONLY)) >= 0);
	CHECK(lseek(rd, 10 << 20, SEEK_SET) == 10 << 20);
	CHECK(unlink("/tmp/gone") == 0 && rmdir("/tmp/folder") == 0);
	object_move();
	CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == (10 << 20) + 3 &&
	      (st.st_mode & 0777) == 0604 && st.st_blocks < 1000);
	CHECK(read(rd, buf, sizeof(buf)) == 3 && memcmp(buf, "end", 3) == 0);
	/* both are the same file */
	CHECK(pwrite(fd, "BEGIN", 5, 0) == 5 && pread(rd, buf, 5, 0) == 5 &&
	      memcmp(buf, "BEGIN", 5) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK(linkat(AT_FDCWD, path, AT_FDCWD, "/tmp/again", AT_SYMLINK_FOLLOW) < 0 &&
	      errno == ENOENT);
	CHECK(fstat(folder, &st) == 0 && S_ISDIR(st.st_mode) && st.st_nlink == 0);
	CHECK(openat(folder, "x", O_CREAT | O_WRONLY, 0600) < 0 && errno == ENOENT);
	return 0;
}
