// SPDX-License-Identifier: Apache-2.0
/*
 * An image that is a plain file: for tests without Ceph, and for a file on a file system
 * that several hosts share. Requests are done at once in the caller's thread. The lock is
 * an OFD lock on PATH.lock (not on the image, where a mount might disturb it), the writer
 * mark is the content of PATH.writer.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "volumes/vold/image.h"

struct image {
	char *path;
	int fd, lock_fd;
	bool locked;
};

static void file_close(struct image *im)
{
	if (im->fd >= 0)
		close(im->fd);
	if (im->lock_fd >= 0)
		close(im->lock_fd);
	free(im->path);
	free(im);
}

static int file_open(const struct vold_options *o, struct image **out, struct error *err)
{
	struct image *im = mem_zalloc(sizeof(*im));
	CLEANUP_FREE char *lock = NULL;
	int flags = strcmp(o->mode, "ro") == 0 ? O_RDONLY : O_RDWR, rc = 0;

	im->path = str_dup(o->image + strlen("file:"));
	lock = str_format("%s.lock", im->path);
	im->lock_fd = -1;
	im->fd = open(im->path, flags | O_CLOEXEC);
	if (im->fd < 0)
		rc = error_sys(err, errno, "opening %s", im->path);
	if (rc == 0)
		im->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (rc == 0 && im->lock_fd < 0)
		rc = error_sys(err, errno, "opening %s", lock);
	if (rc) {
		file_close(im);
		return rc;
	}
	*out = im;
	return 0;
}

static int file_size(struct image *im, uint64_t *bytes, struct error *err)
{
	struct stat st;

	if (fstat(im->fd, &st) < 0)
		return error_sys(err, errno, "looking at %s", im->path);
	*bytes = (uint64_t)st.st_size;
	return 0;
}

static int transfer(struct image *im, struct vold_io *io)
{
	size_t at = 0;

	while (at < io->length) {
		char *p = (char *)io->buf + at;
		off_t off = (off_t)(io->offset + at);
		ssize_t n = io->op == VOLD_READ ? pread(im->fd, p, io->length - at, off)
						: pwrite(im->fd, p, io->length - at, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) { /* behind the end of a file that was cut */
			memset(p, 0, io->length - at);
			break;
		}
		at += (size_t)n;
	}
	return 0;
}

static int punch(struct image *im, struct vold_io *io)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	return fallocate(im->fd, mode, (off_t)io->offset, (off_t)io->length) < 0 ? -errno : 0;
}

static void file_submit(struct image *im, struct vold_io *io)
{
	int res;

	if (io->op == VOLD_FLUSH)
		res = fdatasync(im->fd) < 0 ? -errno : 0;
	else if (io->op == VOLD_ZERO)
		res = punch(im, io);
	else
		res = transfer(im, io);
	io->complete(io, res);
}

static int file_lock(struct image *im, struct error *err)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(im->lock_fd, F_OFD_SETLK, &fl) < 0) {
		if (errno == EAGAIN || errno == EACCES)
			return error_set(err, EBUSY, "another attachment holds the lock of %s",
					 im->path);
		return error_sys(err, errno, "locking %s", im->path);
	}
	im->locked = true;
	return 0;
}

static int file_unlock(struct image *im, struct error *err)
{
	struct flock fl = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	if (fcntl(im->lock_fd, F_OFD_SETLK, &fl) < 0)
		return error_sys(err, errno, "unlocking %s", im->path);
	im->locked = false;
	return 0;
}

static int file_lock_held(struct image *im)
{
	return im->locked ? 0 : -ENOLCK;
}

static const char *file_address(struct image *im)
{
	(void)im;
	return NULL;
}

static int file_writer_set(struct image *im, const char *mark, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s.writer", im->path);

	return file_write_atomic(path, mark, strlen(mark), 0600, err);
}

static int file_writer_get(struct image *im, char **mark, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s.writer", im->path);

	if (access(path, F_OK) < 0) {
		*mark = str_dup("");
		return 0;
	}
	return file_read(path, 4096, mark, NULL, err);
}

const struct image_ops image_file = {
	.open = file_open,
	.close = file_close,
	.size = file_size,
	.submit = file_submit,
	.lock = file_lock,
	.unlock = file_unlock,
	.lock_held = file_lock_held,
	.address = file_address,
	.writer_set = file_writer_set,
	.writer_get = file_writer_get,
};
