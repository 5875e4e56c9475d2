/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of checkpoints in RADOS objects, or in files of this host; see blob.h. */
#include <fcntl.h>
#include <rados/librados.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "fabric/blob.h"
#include "fabric/internal.h"

#define SPACE	     "ferry-checkpoints"
#define OBJECT_BYTES (4u << 20)
#define IN_FLIGHT    8
#define GAP	     (4 * IN_FLIGHT) /* a write that was cut leaves no greater hole */
#define NAME_BYTES   64

bool blob_shared(const struct fabric *f)
{
	return f->ceph_pool != NULL;
}

/* --- RADOS -------------------------------------------------------------------------- */

struct pool {
	rados_t cluster;
	rados_ioctx_t io;
	char *name;
};

static void pool_close(struct pool *p)
{
	if (p->io)
		rados_ioctx_destroy(p->io);
	if (p->cluster)
		rados_shutdown(p->cluster);
}
#define CLEANUP_POOL __attribute__((cleanup(pool_close)))

static int pool_open(const struct fabric *f, struct pool *p, struct error *err)
{
	const char *conf = f->ceph_conf ? f->ceph_conf : "/etc/ceph/ceph.conf";
	int r = rados_create(&p->cluster, f->ceph_user ? f->ceph_user : "admin");

	if (r < 0) {
		p->cluster = NULL;
		return error_sys(err, -r, "making a Ceph client");
	}
	r = rados_conf_read_file(p->cluster, conf);
	if (r < 0)
		return error_sys(err, -r, "reading %s", conf);
	rados_conf_set(p->cluster, "rados_osd_op_timeout", "60");
	rados_conf_set(p->cluster, "rados_mon_op_timeout", "30");
	rados_conf_set(p->cluster, "client_mount_timeout", "30");
	rados_conf_set(p->cluster, "log_to_stderr", "false");
	rados_conf_set(p->cluster, "err_to_stderr", "false");
	rados_conf_set(p->cluster, "log_file", "");
	r = rados_connect(p->cluster);
	if (r < 0)
		return error_sys(err, -r, "connecting to Ceph");
	r = rados_ioctx_create(p->cluster, f->ceph_pool, &p->io);
	if (r < 0)
		return error_sys(err, -r, "opening pool %s", f->ceph_pool);
	rados_ioctx_set_namespace(p->io, SPACE);
	/* Full is an error at once: a container may be standing still meanwhile. */
	rados_set_pool_full_try(p->io);
	p->name = f->ceph_pool;
	return 0;
}

static void object_name(char out[NAME_BYTES], const char *id, uint64_t n)
{
	snprintf(out, NAME_BYTES, "%.40s.%08llx", id, (unsigned long long)n);
}

static int pool_error(const struct pool *p, int r, const char *what, struct error *err)
{
	if (r == -ENOSPC || r == -EDQUOT)
		return error_set(err, ENOSPC,
				 "%s: pool %s is full; make room (ferry checkpoint rm) or add OSDs",
				 what, p->name);
	if (r == -ETIMEDOUT)
		return error_set(err, ETIMEDOUT,
				 "%s: Ceph did not answer in time; see `ceph status`", what);
	return error_sys(err, -r, "%s in pool %s", what, p->name);
}

struct slot {
	rados_completion_t done;
	char *buf;
	size_t want;
};

/* Waits for one operation; bytes read are what its return value says. */
static int slot_wait(struct slot *s)
{
	int r;

	if (!s->done)
		return 0;
	rados_aio_wait_for_complete(s->done);
	r = rados_aio_get_return_value(s->done);
	rados_aio_release(s->done);
	s->done = NULL;
	return r;
}

static int slots_end(struct slot slots[IN_FLIGHT])
{
	int first = 0;

	for (int i = 0; i < IN_FLIGHT; i++) {
		int r = slot_wait(&slots[i]);

		if (r < 0 && !first)
			first = r;
		free(slots[i].buf);
	}
	return first;
}

static int write_objects(struct pool *p, const char *id, int fd, uint64_t bytes, struct error *err)
{
	struct slot slots[IN_FLIGHT] = { 0 };
	uint64_t at = 0;
	int r = 0, last;

	for (uint64_t n = 0; at < bytes && r >= 0; n++) {
		struct slot *s = &slots[n % IN_FLIGHT];
		size_t len = bytes - at < OBJECT_BYTES ? (size_t)(bytes - at) : OBJECT_BYTES;
		char name[NAME_BYTES];

		r = slot_wait(s);
		if (r < 0)
			break;
		if (!s->buf)
			s->buf = mem_zalloc(OBJECT_BYTES);
		object_name(name, id, n);
		r = fd_read_all(fd, s->buf, len);
		if (!r)
			r = rados_aio_create_completion2(NULL, NULL, &s->done);
		if (r < 0)
			break;
		r = rados_aio_write_full(p->io, name, s->done, s->buf, len);
		if (r < 0) {
			rados_aio_release(s->done);
			s->done = NULL;
		}
		at += len;
	}
	last = slots_end(slots);
	if (r >= 0)
		r = last;
	return r < 0 ? pool_error(p, r, "writing a checkpoint", err) : 0;
}

static int remove_objects(struct pool *p, const char *id, struct error *err)
{
	uint64_t missing = 0;

	for (uint64_t n = 0; missing < GAP; n++) {
		char name[NAME_BYTES];
		int r;

		object_name(name, id, n);
		r = rados_remove(p->io, name);
		if (r < 0 && r != -ENOENT)
			return pool_error(p, r, "removing a checkpoint", err);
		missing = r == -ENOENT ? missing + 1 : 0;
	}
	return 0;
}

/* Object n has come (or not); its bytes go to fd. */
static int deliver(struct pool *p, struct slot *s, int fd, struct error *err)
{
	size_t want = s->want;
	int r = slot_wait(s);

	s->want = 0;
	if (r == -ENOENT || (r >= 0 && (size_t)r != want))
		return error_set(err, ENODATA,
				 "the checkpoint's data is damaged: an object is missing or short "
				 "in pool %s",
				 p->name);
	if (r < 0)
		return pool_error(p, r, "reading a checkpoint", err);
	r = fd_write_all(fd, s->buf, want);
	return r < 0 ? error_sys(err, -r, "writing out a checkpoint") : 0;
}

static int read_objects(struct pool *p, const char *id, uint64_t bytes, int fd, struct error *err)
{
	struct slot slots[IN_FLIGHT] = { 0 };
	uint64_t count = (bytes + OBJECT_BYTES - 1) / OBJECT_BYTES;
	int r = 0;

	for (uint64_t n = 0; n < count + IN_FLIGHT && !r; n++) {
		struct slot *s = &slots[n % IN_FLIGHT];
		char name[NAME_BYTES];

		if (s->want)
			r = deliver(p, s, fd, err);
		if (r < 0 || n >= count)
			continue;
		if (!s->buf)
			s->buf = mem_zalloc(OBJECT_BYTES);
		s->want =
			n + 1 < count ? OBJECT_BYTES : (size_t)(bytes - (count - 1) * OBJECT_BYTES);
		object_name(name, id, n);
		r = rados_aio_create_completion2(NULL, NULL, &s->done);
		if (r < 0)
			break;
		r = rados_aio_read(p->io, name, s->done, s->buf, s->want, 0);
		if (r < 0) {
			rados_aio_release(s->done);
			s->done = NULL;
			pool_error(p, r, "reading a checkpoint", err);
		}
	}
	slots_end(slots);
	return r;
}

/* --- files -------------------------------------------------------------------------- */

static char *file_path(const struct fabric *f, const char *id)
{
	return str_format("%s/checkpoints/%s", f->state_dir, id);
}

static int copy_bytes(int from, int to, uint64_t bytes)
{
	CLEANUP_FREE char *buf = mem_zalloc(OBJECT_BYTES);
	int r = 0;

	while (bytes && !r) {
		size_t len = bytes < OBJECT_BYTES ? (size_t)bytes : OBJECT_BYTES;

		r = fd_read_all(from, buf, len);
		if (!r)
			r = fd_write_all(to, buf, len);
		bytes -= len;
	}
	return r;
}

static int write_file(struct fabric *f, const char *id, int fd, uint64_t bytes, struct error *err)
{
	CLEANUP_FREE char *path = file_path(f, id);
	CLEANUP_CLOSE int out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r;

	if (out < 0)
		return error_sys(err, errno, "making %s", path);
	r = copy_bytes(fd, out, bytes);
	if (!r && fsync(out) < 0)
		r = -errno;
	return r < 0 ? error_sys(err, -r, "writing %s", path) : 0;
}

static int read_file(struct fabric *f, const char *id, uint64_t bytes, int fd, struct error *err)
{
	CLEANUP_FREE char *path = file_path(f, id);
	CLEANUP_CLOSE int in = open(path, O_RDONLY | O_CLOEXEC);
	int r;

	if (in < 0)
		return error_set(err, ENODATA, "the checkpoint's data is gone: %s is missing",
				 path);
	r = copy_bytes(in, fd, bytes);
	return r < 0 ? error_sys(err, -r, "reading %s", path) : 0;
}

/* --- either ------------------------------------------------------------------------- */

int blob_write(struct fabric *f, const char *id, int fd, uint64_t *bytes, struct error *err)
{
	CLEANUP_POOL struct pool p = { 0 };
	struct stat st;
	int r = 0;

	if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return error_sys(err, errno, "reading what the engine wrote");
	*bytes = (uint64_t)st.st_size;
	if (blob_shared(f)) {
		r = pool_open(f, &p, err);
		if (!r)
			r = write_objects(&p, id, fd, *bytes, err);
	} else {
		r = write_file(f, id, fd, *bytes, err);
	}
	if (r < 0)
		blob_remove(f, id, NULL);
	return r;
}

int blob_read(struct fabric *f, const char *id, uint64_t bytes, int fd, struct error *err)
{
	CLEANUP_POOL struct pool p = { 0 };
	int r;

	if (!blob_shared(f))
		return read_file(f, id, bytes, fd, err);
	r = pool_open(f, &p, err);
	return r < 0 ? r : read_objects(&p, id, bytes, fd, err);
}

int blob_remove(struct fabric *f, const char *id, struct error *err)
{
	CLEANUP_POOL struct pool p = { 0 };
	CLEANUP_FREE char *path = file_path(f, id);
	int r;

	if (unlink(path) < 0 && errno != ENOENT)
		return error_sys(err, errno, "removing %s", path);
	if (!blob_shared(f))
		return 0;
	r = pool_open(f, &p, err);
	return r < 0 ? r : remove_objects(&p, id, err);
}
