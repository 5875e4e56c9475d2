// SPDX-License-Identifier: Apache-2.0
/*
 * An RBD image. All I/O is asynchronous: librbd's threads call back. The exclusive lock is
 * only ever taken by lock(): once it has been asked for explicitly (rbd_lock_acquire), and
 * also before that, librbd must not take it because somebody writes; the gate in core.c
 * lets no write through without it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "volumes/ceph.h"
#include "volumes/registry.h"
#include "volumes/vold/image.h"

struct image {
	struct ceph ceph;
	rbd_image_t rbd;
	char *volume, *host, *pool, *name;
	char fs[16]; /* as the driver noted it */
	bool formatted, read_only, registered;
};

static void image_close(struct image *im)
{
	struct error err = { 0 };

	if (im->rbd)
		rbd_close(im->rbd);
	if (im->registered &&
	    registry_remove(im->ceph.io, im->volume, im->host, im->ceph.address, &err))
		log_warn("%s", err.msg);
	ceph_disconnect(&im->ceph);
	free(im->volume);
	free(im->host);
	free(im->pool);
	free(im->name);
	free(im);
}

static int open_rbd(struct image *im, struct error *err)
{
	int rc = im->read_only ? rbd_open_read_only(im->ceph.io, im->name, &im->rbd, NULL)
			       : rbd_open(im->ceph.io, im->name, &im->rbd, NULL);

	if (rc < 0)
		im->rbd = NULL;
	if (rc == -ENOENT)
		return error_set(err, ENOENT, "no such image: %s/%s", im->pool, im->name);
	if (rc < 0)
		return error_sys(err, -rc, "opening image %s/%s", im->pool, im->name);
	return 0;
}

/* What driver rbd noted at the image; without notes it is somebody else's. */
static int read_notes(struct image *im, struct error *err)
{
	char formatted[16];
	size_t n = sizeof(im->fs), m = sizeof(formatted);

	if (rbd_metadata_get(im->rbd, "ferry.fs", im->fs, &n) < 0)
		return error_set(err, ENOENT, "RBD image %s/%s is not a ferry volume", im->pool,
				 im->name);
	im->formatted = rbd_metadata_get(im->rbd, "ferry.formatted", formatted, &m) >= 0;
	return 0;
}

/* Readers enter themselves first and look for a writer then; writers the other way round. */
static int no_writer(struct image *im, struct error *err)
{
	CLEANUP_FREE char *owner = NULL, *host = NULL;
	int rc = ceph_lock_owner(im->rbd, &owner, err);

	if (rc || !owner)
		return rc;
	host = registry_host_of(im->ceph.io, owner);
	return error_set(err, EBUSY, "host %s has it attached read-write (RADOS client %s)",
			 host ? host : "(unknown)", owner);
}

static int image_open(const struct vold_options *o, struct image **out, struct error *err)
{
	const char *spec = o->image + strlen("rbd:"), *slash = strchr(spec, '/');
	struct image *im;
	int rc;

	if (!slash || slash == spec || !slash[1])
		return error_set(err, EINVAL, "image %s: expected rbd:POOL/NAME", o->image);
	im = mem_zalloc(sizeof(*im));
	im->pool = str_format("%.*s", (int)(slash - spec), spec);
	im->name = str_dup(slash + 1);
	im->volume = str_dup(o->name);
	im->host = str_dup(o->host);
	im->read_only = strcmp(o->mode, "ro") == 0;
	rc = ceph_connect(o->ceph_conf, o->ceph_user, im->pool, &im->ceph, err);
	if (rc == 0)
		rc = open_rbd(im, err);
	if (rc == 0)
		rc = read_notes(im, err);
	if (rc == 0)
		rc = registry_add(im->ceph.io, im->volume, im->host, im->ceph.address, o->mode,
				  err);
	im->registered = rc == 0;
	if (rc == 0 && im->read_only)
		rc = no_writer(im, err);
	if (rc) {
		image_close(im);
		return rc;
	}
	*out = im;
	return 0;
}

static int image_size(struct image *im, uint64_t *bytes, struct error *err)
{
	int rc = rbd_get_size(im->rbd, bytes);

	return rc < 0 ? error_sys(err, -rc, "asking for the size of the image") : 0;
}

/* --- I/O ---------------------------------------------------------------------------------- */

static void completed(rbd_completion_t c, void *arg)
{
	struct vold_io *io = arg;
	ssize_t res = rbd_aio_get_return_value(c);

	rbd_aio_release(c);
	if (io->op == VOLD_READ && res >= 0 && (size_t)res < io->length)
		memset((char *)io->buf + res, 0, io->length - (size_t)res);
	io->complete(io, res < 0 ? (int)res : 0);
}

static void image_submit(struct image *im, struct vold_io *io)
{
	rbd_completion_t c;
	int rc = rbd_aio_create_completion(io, completed, &c);

	if (rc < 0) {
		io->complete(io, rc);
		return;
	}
	switch (io->op) {
	case VOLD_READ:
		rc = rbd_aio_read(im->rbd, io->offset, io->length, io->buf, c);
		break;
	case VOLD_WRITE:
		rc = rbd_aio_write(im->rbd, io->offset, io->length, io->buf, c);
		break;
	case VOLD_ZERO:
		rc = rbd_aio_write_zeroes(im->rbd, io->offset, io->length, c, 0, 0);
		break;
	case VOLD_FLUSH:
		rc = rbd_aio_flush(im->rbd, c);
		break;
	}
	if (rc < 0) {
		rbd_aio_release(c);
		io->complete(io, rc);
	}
}

/* --- the lock --------------------------------------------------------------------------- */

static int no_readers(struct image *im, struct error *err)
{
	CLEANUP_JSON json_t *list = NULL;
	json_t *entry;
	size_t i;
	int rc = registry_list(im->ceph.io, im->volume, NULL, &list, err);

	json_array_foreach (list, i, entry)
		if (rc == 0 && strcmp(json_str(entry, "mode", ""), "ro") == 0)
			rc = error_set(err, EBUSY, "host %s has it attached read-only",
				       json_str(entry, "host", "?"));
	return rc;
}

static int image_lock(struct image *im, struct error *err)
{
	CLEANUP_FREE char *owner = NULL;
	int rc = ceph_lock_owner(im->rbd, &owner, err);

	if (rc)
		return rc;
	if (owner && strcmp(owner, im->ceph.address) != 0) {
		CLEANUP_FREE char *host = registry_host_of(im->ceph.io, owner);

		/*
		 * Never ask librbd for a lock that another client has: it would break it once
		 * the other seems dead. Whether it is dead is decided by who fences.
		 */
		return error_set(err, EBUSY,
				 "host %s holds its exclusive lock (RADOS client %s): detach it "
				 "there, or fence the host if it is dead",
				 host ? host : "(unknown)", owner);
	}
	rc = rbd_lock_acquire(im->rbd, RBD_LOCK_MODE_EXCLUSIVE);
	if (rc == -EBUSY || rc == -EROFS)
		return error_set(err, EBUSY, "another host took its exclusive lock just now");
	if (rc < 0)
		return error_sys(err, -rc, "taking the exclusive lock");
	rc = no_readers(im, err);
	if (rc)
		rbd_lock_release(im->rbd);
	return rc;
}

static int image_unlock(struct image *im, struct error *err)
{
	int rc = rbd_lock_release(im->rbd);

	if (rc == -EINVAL) { /* not held */
		int owner = 0;

		rc = rbd_is_exclusive_lock_owner(im->rbd, &owner);
		if (rc == 0 && owner)
			rc = -EINVAL;
	}
	return rc < 0 ? error_sys(err, -rc, "releasing the exclusive lock") : 0;
}

static int image_lock_held(struct image *im)
{
	CLEANUP_FREE char *owner = NULL;
	int rc = ceph_lock_owner(im->rbd, &owner, NULL);

	if (rc)
		return rc;
	return owner && strcmp(owner, im->ceph.address) == 0 ? 0 : -ENOLCK;
}

static int image_resize(struct image *im, uint64_t bytes, struct error *err)
{
	int rc = rbd_resize(im->rbd, bytes);

	return rc < 0 ? error_sys(err, -rc, "resizing the image") : 0;
}

static int image_snapshot_create(struct image *im, const char *snap, struct error *err)
{
	return ceph_snapshot_create(im->rbd, snap, err);
}

static int image_snapshot_remove(struct image *im, const char *snap, struct error *err)
{
	return ceph_snapshot_remove(im->rbd, snap, err);
}

static void image_describe(struct image *im, json_t *out)
{
	json_set_str(out, "fs", im->fs);
	json_set_bool(out, "formatted", im->formatted);
}

static const char *image_address(struct image *im)
{
	return im->ceph.address;
}

static int image_writer_set(struct image *im, const char *mark, struct error *err)
{
	return registry_writer_set(im->ceph.io, im->volume, mark, err);
}

static int image_writer_get(struct image *im, char **mark, struct error *err)
{
	return registry_writer_get(im->ceph.io, im->volume, mark, err);
}

const struct image_ops image_rbd = {
	.open = image_open,
	.close = image_close,
	.size = image_size,
	.submit = image_submit,
	.lock = image_lock,
	.unlock = image_unlock,
	.lock_held = image_lock_held,
	.resize = image_resize,
	.snapshot_create = image_snapshot_create,
	.snapshot_remove = image_snapshot_remove,
	.address = image_address,
	.describe = image_describe,
	.writer_set = image_writer_set,
	.writer_get = image_writer_get,
};
