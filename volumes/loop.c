// SPDX-License-Identifier: Apache-2.0
/* Loop devices; see loop.h and loop(4). */
#include "volumes/loop.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/str.h"

#define LOOP_MAJOR 7
#define TRIES	   64 /* another process may take the free device first */

/* Opens /dev/loopN; where no devtmpfs made the node, it is made here. */
static int open_nth(int n, const char *path, bool read_only)
{
	int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	int fd = open(path, flags);

	if (fd < 0 && errno == ENOENT &&
	    mknod(path, S_IFBLK | 0600, makedev(LOOP_MAJOR, (unsigned)n)) == 0)
		fd = open(path, flags);
	return fd < 0 ? -errno : fd;
}

static int configure(int loop, int file, const struct loop_options *o)
{
	struct loop_config config = { .fd = (uint32_t)file, .block_size = o->block_size };

	config.info.lo_flags = LO_FLAGS_DIRECT_IO;
	if (o->autoclear)
		config.info.lo_flags |= LO_FLAGS_AUTOCLEAR;
	if (o->read_only)
		config.info.lo_flags |= LO_FLAGS_READ_ONLY;
	if (ioctl(loop, LOOP_CONFIGURE, &config) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	/* A file system without direct I/O: slower, as correct. */
	config.info.lo_flags &= ~(uint32_t)LO_FLAGS_DIRECT_IO;
	return ioctl(loop, LOOP_CONFIGURE, &config) < 0 ? -errno : 0;
}

int loop_attach(int file, const struct loop_options *o, char **device, struct error *err)
{
	CLEANUP_CLOSE int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

	if (control < 0)
		return error_sys(err, errno, "opening /dev/loop-control");
	for (int i = 0; i < TRIES; i++) {
		CLEANUP_FREE char *path = NULL;
		CLEANUP_CLOSE int loop = -1;
		int rc, n = ioctl(control, LOOP_CTL_GET_FREE);

		if (n < 0)
			return error_sys(err, errno, "asking for a free loop device");
		path = str_format("/dev/loop%d", n);
		loop = open_nth(n, path, o->read_only);
		if (loop < 0)
			return error_sys(err, -loop, "opening %s", path);
		rc = configure(loop, file, o);
		if (rc == 0) {
			*device = TAKE_PTR(path);
			return TAKE_FD(loop);
		}
		if (rc != -EBUSY)
			return error_sys(err, -rc, "setting up %s", path);
	}
	return error_set(err, EBUSY, "no loop device stays free long enough");
}

int loop_clear(int loop)
{
	return ioctl(loop, LOOP_CLR_FD) < 0 ? -errno : 0;
}

int loop_resize(int loop)
{
	return ioctl(loop, LOOP_SET_CAPACITY) < 0 ? -errno : 0;
}

bool block_in_use(const char *device)
{
	CLEANUP_CLOSE int fd = open(device, O_RDONLY | O_EXCL | O_CLOEXEC);

	return fd < 0 && errno == EBUSY;
}

int block_drop_cache(const char *device, struct error *err)
{
	CLEANUP_CLOSE int fd = open(device, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_sys(err, errno, "opening %s", device);
	if (ioctl(fd, BLKFLSBUF, 0) < 0)
		return error_sys(err, errno, "dropping what is cached of %s", device);
	return 0;
}
