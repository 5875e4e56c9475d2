/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writable layer: attributes of chattr, also those that forbid writing (to files that are
 * open for it), and space that is allocated and not written.
 */
/* docker: --cap-add LINUX_IMMUTABLE */
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "object.h"

static int flags_of(const char *path)
{
	int fd = open(path, O_RDONLY), flags = 0;

	CHECK(fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0, "%s", path);
	close(fd);
	return flags & (FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NOATIME_FL | FS_NODUMP_FL | FS_SYNC_FL);
}

static void set(const char *path, int want)
{
	int fd = open(path, O_RDONLY), flags = 0;

	CHECK(fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0, "%s", path);
	flags |= want;
	CHECK(ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0, "%s", path);
	close(fd);
	CHECK(flags_of(path) == want, "%s", path);
}

static const struct {
	const char *path;
	int flags;
} files[] = { { "/w/fixed", FS_IMMUTABLE_FL },
	      { "/w/log", FS_APPEND_FL },
	      { "/w/quiet", FS_NOATIME_FL | FS_NODUMP_FL },
	      { "/w/folder", FS_IMMUTABLE_FL | FS_NODUMP_FL },
	      { "/w/folder/inside", FS_SYNC_FL } };
#define FILES (sizeof(files) / sizeof(files[0]))

int main(int argc, char **argv)
{
	int fd[FILES], allocated;
	struct stat st;

	object_init(argc, argv);
	CHECK(mkdir("/w", 0700) == 0 && mkdir("/w/folder", 0700) == 0);
	for (size_t i = 0; i < FILES; i++) {
		fd[i] = open(files[i].path, O_RDWR | O_CREAT, 0600);
		CHECK(fd[i] >= 0 ? write(fd[i], "old", 3) == 3 : errno == EISDIR);
	}
	for (size_t i = FILES; i-- > 0;)
		set(files[i].path, files[i].flags);
	allocated = open("/w/allocated", O_RDWR | O_CREAT, 0600);
	CHECK(fallocate(allocated, 0, 0, 4 << 20) == 0);
	CHECK(fallocate(allocated, FALLOC_FL_KEEP_SIZE, 8 << 20, 4 << 20) == 0);
	CHECK(pwrite(allocated, "x", 1, 1 << 20) == 1);
	object_move();
	for (size_t i = 0; i < FILES; i++)
		CHECK(flags_of(files[i].path) == files[i].flags, "%s: %#x", files[i].path,
		      flags_of(files[i].path));
	CHECK(open("/w/fixed", O_WRONLY) < 0 && errno == EPERM);
	CHECK(open("/w/log", O_WRONLY) < 0 && errno == EPERM);
	CHECK(write(fd[0], "new", 3) == 3, "it was open before");
	CHECK(unlink("/w/folder/inside") < 0 && errno == EPERM);
	CHECK(fstat(allocated, &st) == 0 && st.st_size == 4 << 20);
	CHECK(st.st_blocks >= (8 << 20) / 512, "%ld blocks", (long)st.st_blocks);
	return 0;
}
