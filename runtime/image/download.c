/* SPDX-License-Identifier: Apache-2.0 */
/* ROOT/downloads; download.h is the contract. */
#include "runtime/image/download.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"

#define TRIES	 6
#define WEEK_S	 (7 * 24 * 3600)
#define POLL_NS	 50000000
#define FIRST_NS 200000000ll

/* The file under its lock; 1: it has been removed by whoever held the lock before. */
static int open_locked(const char *path, bool (*stop)(void *ctx), void *ctx, int *out,
		       struct error *err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat st;

	if (fd < 0)
		return error_sys(err, errno, "opening %s", path);
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return error_sys(err, errno, "locking %s", path);
		if (stop && stop(ctx))
			return error_set(err, ECANCELED, "stopped");
		clock_sleep_ns(POLL_NS);
	}
	if (fstat(fd, &st) < 0)
		return error_sys(err, errno, "looking at %s", path);
	if (!st.st_nlink)
		return 1;
	*out = TAKE_FD(fd);
	return 0;
}

int download_begin(struct image_store *s, const char *hex, bool (*stop)(void *ctx), void *ctx,
		   struct download *d, uint64_t *have, struct error *err)
{
	struct stat st;
	int r;

	d->path = str_format("%s/downloads/%s", s->root, hex);
	d->fd = -1;
	do
		r = open_locked(d->path, stop, ctx, &d->fd, err);
	while (r == 1);
	if (r == 0 && fstat(d->fd, &st) < 0)
		r = error_sys(err, errno, "looking at %s", d->path);
	if (r < 0)
		download_end(d, false);
	else
		*have = (uint64_t)st.st_size;
	return r;
}

/* Where the file ends, for the next byte to come. */
static int seek_end(const struct download *d, uint64_t size, uint64_t *have, struct error *err)
{
	off_t end = lseek(d->fd, 0, SEEK_END);

	if (end >= 0 && (uint64_t)end > size && ftruncate(d->fd, 0) == 0)
		end = lseek(d->fd, 0, SEEK_SET);
	if (end < 0)
		return error_sys(err, errno, "looking at %s", d->path);
	*have = (uint64_t)end;
	return 0;
}

int download_fetch(struct download *d, struct registry *r, const char *hex, uint64_t size,
		   struct error *err)
{
	int64_t pause = FIRST_NS;
	uint64_t have, before = 0;
	int e = seek_end(d, size, &have, err);

	for (int i = 0; e == 0 && have < size; i++) {
		struct error cut = { 0 };

		before = have;
		e = registry_blob(r, hex, have, size, d->fd, &cut);
		if (e == 0)
			break;
		if (e == -ERANGE && have) { /* it cannot go on in the middle */
			e = ftruncate(d->fd, 0) < 0 ? -errno : 0;
		} else if (registry_is_transient(-e) && i < TRIES) {
			clock_sleep_ns(pause);
			pause *= 2;
			e = 0;
		}
		if (e < 0) {
			*err = cut;
			return e;
		}
		e = seek_end(d, size, &have, err);
		if (have > before) { /* it goes on: begin to count anew */
			i = 0;
			pause = FIRST_NS;
		}
	}
	return e;
}

void download_end(struct download *d, bool remove)
{
	if (d->fd >= 0) {
		if (remove)
			unlink(d->path);
		close(TAKE_FD(d->fd));
	}
	free(TAKE_PTR(d->path));
}

void download_sweep(struct image_store *s)
{
	CLEANUP_FREE char *path = str_format("%s/downloads", s->root);
	CLEANUP_CLOSEDIR DIR *d = opendir(path);
	time_t now = time(NULL);
	const struct dirent *e;

	while (d && (e = readdir(d))) {
		CLEANUP_CLOSE int fd = -1;
		struct stat st;

		if (e->d_name[0] == '.')
			continue;
		fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &st) < 0)
			continue;
		if (now - st.st_mtime > WEEK_S && unlinkat(dirfd(d), e->d_name, 0) < 0)
			log_warn("image store: removing an old download: %m");
	}
}
