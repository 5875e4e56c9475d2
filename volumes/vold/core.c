// SPDX-License-Identifier: Apache-2.0
/*
 * The gate and its state machine; core.h draws it. Two locks: `lock` guards the fields and
 * is held only for moments (never over I/O), `op_lock` lets one transition run at a time
 * and is held over I/O. op_lock is taken first.
 */
#include "volumes/vold/core.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "volumes/vold/own.h"
#include "volumes/vold/overlay.h"

#define NS_PER_SEC 1000000000ll

enum mode { RO, STANDBY, RW, TENTATIVE, SETTLING, DRAINING, DEMOTED, FAILED };
static const char *const mode_names[] = { "ro",	      "standby",  "rw",	     "tentative",
					  "settling", "draining", "demoted", "failed" };

struct core {
	const struct image_ops *ops;
	struct image *image;
	char *mark;  /* this vold's writer mark */
	bool locked; /* the image's lock is ours; changed under op_lock and lock */
	uint64_t overlay_bytes;

	pthread_mutex_t op_lock;

	pthread_mutex_t lock;
	pthread_cond_t quiet; /* writes or patches came to 0, or the volume failed */
	enum mode mode;
	unsigned changes; /* of mode: a slow answer about an older mode is ignored */
	char failure[300];
	struct overlay *overlay; /* in tentative and settling */
	unsigned writes;	 /* in flight to the image */
	unsigned patches;	 /* reads in flight that the overlay completes */
	struct vold_io *parked, **parked_end;
	uint64_t nparked;
	uint64_t reads_done, writes_done, flushes_done, read_bytes, write_bytes;
};

/* --- opening ---------------------------------------------------------------------------- */

static const struct image_ops *image_kind(const char *image, struct error *err)
{
	if (str_starts(image, "rbd:"))
		return &image_rbd;
	if (str_starts(image, "file:"))
		return &image_file;
	error_set(err, EINVAL, "image %s: known kinds are rbd: and file:", image);
	return NULL;
}

static int mode_of(const char *name, enum mode *mode, struct error *err)
{
	for (enum mode m = RO; m <= RW; m++) {
		if (strcmp(name, mode_names[m]) == 0) {
			*mode = m;
			return 0;
		}
	}
	return error_set(err, EINVAL, "mode %s: known are rw, ro, standby", name);
}

static void core_free(struct core *c)
{
	if (c->image)
		c->ops->close(c->image);
	pthread_cond_destroy(&c->quiet);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->op_lock);
	overlay_free(c->overlay);
	free(c->mark);
	free(c);
}

int core_open(const struct vold_options *o, struct core **out, struct error *err)
{
	struct core *c = mem_zalloc(sizeof(*c));
	pthread_condattr_t attr;
	enum mode mode = RO;
	int rc;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->quiet, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->op_lock, NULL);
	c->parked_end = &c->parked;
	c->mark = str_random_hex(16);
	c->overlay_bytes = o->overlay_bytes;
	c->ops = image_kind(o->image, err);
	rc = c->ops ? mode_of(o->mode, &mode, err) : -EINVAL;
	if (rc == 0)
		rc = c->ops->open(o, &c->image, err);
	if (rc == 0) {
		c->mode = mode == RO ? RO : STANDBY;
		if (mode == RW)
			rc = core_promote(c, false, false, err);
	}
	if (rc) {
		core_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

void core_close(struct core *c)
{
	struct error err = { 0 };
	bool release;

	pthread_mutex_lock(&c->lock);
	release = c->locked && c->mode != FAILED && c->writes == 0;
	pthread_mutex_unlock(&c->lock);
	core_shut(c, "ferry-vold is ending");
	if (release && c->ops->unlock(c->image, &err))
		log_warn("releasing the lock: %s", err.msg);
	core_free(c);
}

int core_size(struct core *c, uint64_t *bytes, struct error *err)
{
	int rc = c->ops->size(c->image, bytes, err);

	if (rc == 0)
		*bytes = *bytes / VOLD_BLOCK * VOLD_BLOCK;
	return rc;
}

/* --- failing ---------------------------------------------------------------------------- */

static struct vold_io *take_parked(struct core *c)
{
	struct vold_io *list = c->parked;

	c->parked = NULL;
	c->parked_end = &c->parked;
	c->nparked = 0;
	return list;
}

static void answer_all(struct vold_io *list, int res)
{
	while (list) {
		struct vold_io *next = list->next;

		list->done(list, res);
		list = next;
	}
}

/* With c->lock held. The caller answers what it returns. */
static struct vold_io *fail_locked(struct core *c, const char *why)
{
	if (c->mode == FAILED)
		return NULL;
	snprintf(c->failure, sizeof(c->failure), "%s", why);
	c->mode = FAILED;
	c->changes++;
	pthread_cond_broadcast(&c->quiet);
	return take_parked(c);
}

void core_shut(struct core *c, const char *why)
{
	struct vold_io *list;

	pthread_mutex_lock(&c->lock);
	list = fail_locked(c, why);
	pthread_mutex_unlock(&c->lock);
	answer_all(list, -EIO);
}

static void fail(struct core *c, const char *why)
{
	log_error("%s; all I/O fails from now on", why);
	core_shut(c, why);
}

static const char fenced_why[] = "fenced: this host's RADOS client is blocklisted, another "
				 "host may own the volume now";

void core_check_lock(struct core *c)
{
	unsigned changes;
	bool holds;
	int rc;

	pthread_mutex_lock(&c->lock);
	changes = c->changes;
	holds = c->locked && (c->mode == RW || c->mode == TENTATIVE || c->mode == SETTLING);
	pthread_mutex_unlock(&c->lock);
	if (!holds)
		return;
	rc = c->ops->lock_held(c->image);
	pthread_mutex_lock(&c->lock);
	holds = changes == c->changes;
	pthread_mutex_unlock(&c->lock);
	if (rc == -ESHUTDOWN && holds)
		fail(c, fenced_why);
	else if (rc == -ENOLCK && holds)
		fail(c, "the exclusive lock was broken by another host");
}

/* --- requests --------------------------------------------------------------------------- */

static void complete(struct vold_io *io, int res)
{
	struct core *c = io->core;
	struct vold_io *failed = NULL;

	pthread_mutex_lock(&c->lock);
	if (io->patched) {
		if (res == 0 && c->overlay)
			overlay_read(c->overlay, io->offset, io->length, io->buf);
		if (--c->patches == 0)
			pthread_cond_broadcast(&c->quiet);
	}
	if (io->writing && --c->writes == 0)
		pthread_cond_broadcast(&c->quiet);
	if (res == -ESHUTDOWN)
		failed = fail_locked(c, fenced_why);
	if (c->mode == FAILED)
		res = -EIO;
	pthread_mutex_unlock(&c->lock);
	answer_all(failed, -EIO);
	io->done(io, res);
}

enum verdict { PASS, PARK, ANSWER };

/* With c->lock held: where a read goes. */
static enum verdict route_read(struct core *c, struct vold_io *io, int *res)
{
	c->reads_done++;
	c->read_bytes += io->length;
	if (c->mode == FAILED) {
		*res = -EIO;
		return ANSWER;
	}
	if (c->mode != TENTATIVE && c->mode != SETTLING)
		return PASS;
	switch (overlay_covers(c->overlay, io->offset, io->length)) {
	case OVERLAY_ALL:
		overlay_read(c->overlay, io->offset, io->length, io->buf);
		return ANSWER;
	case OVERLAY_PART:
		io->patched = true;
		c->patches++;
		return PASS;
	case OVERLAY_NONE:
		break;
	}
	return PASS;
}

static enum verdict route_tentative(struct core *c, struct vold_io *io, int *res)
{
	/* What waits goes first: a flush must not overtake a write that waits. */
	if (c->parked)
		return PARK;
	if (io->op == VOLD_FLUSH) {
		overlay_flush(c->overlay);
		return ANSWER;
	}
	*res = overlay_write(c->overlay, io->offset, io->length,
			     io->op == VOLD_ZERO ? NULL : io->buf);
	return *res == -ENOSPC ? PARK : ANSWER;
}

/* With c->lock held: where a write, zeroes or a flush goes. */
static enum verdict route_write(struct core *c, struct vold_io *io, int *res)
{
	c->writes_done += io->op != VOLD_FLUSH;
	c->flushes_done += io->op == VOLD_FLUSH;
	c->write_bytes += io->length;
	switch (c->mode) {
	case RW:
		io->writing = true;
		c->writes++;
		return PASS;
	case TENTATIVE:
		return route_tentative(c, io, res);
	case SETTLING:
	case DRAINING:
		return PARK;
	case RO:
	case STANDBY:
		*res = io->op == VOLD_FLUSH ? 0 : -EROFS;
		return ANSWER;
	case DEMOTED:
	case FAILED:
		break;
	}
	*res = -EIO;
	return ANSWER;
}

void core_submit(struct core *c, struct vold_io *io)
{
	enum verdict verdict;
	int res = 0;

	io->core = c;
	io->complete = complete;
	io->writing = io->patched = false;
	io->next = NULL;
	pthread_mutex_lock(&c->lock);
	if (io->op == VOLD_READ)
		verdict = route_read(c, io, &res);
	else
		verdict = route_write(c, io, &res);
	if (verdict == PARK) {
		*c->parked_end = io;
		c->parked_end = &io->next;
		c->nparked++;
	}
	pthread_mutex_unlock(&c->lock);
	if (verdict == ANSWER)
		io->done(io, res);
	else if (verdict == PASS)
		c->ops->submit(c->image, io);
}

static void submit_all(struct core *c, struct vold_io *list)
{
	while (list) {
		struct vold_io *next = list->next;

		core_submit(c, list);
		list = next;
	}
}

/* --- transitions -------------------------------------------------------------------------- */

static enum mode mode_get(struct core *c)
{
	enum mode mode;

	pthread_mutex_lock(&c->lock);
	mode = c->mode;
	pthread_mutex_unlock(&c->lock);
	return mode;
}

bool core_read_only(struct core *c)
{
	return mode_get(c) == RO;
}

/* From one mode to another, unless the volume failed meanwhile. */
static int mode_move(struct core *c, enum mode from, enum mode to, struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&c->lock);
	if (c->mode != from)
		rc = error_set(err, EIO, "the volume failed: %s", c->failure);
	else
		c->mode = to;
	c->changes++;
	pthread_mutex_unlock(&c->lock);
	return rc;
}

static int refuse(struct core *c, const char *what, struct error *err)
{
	enum mode mode = mode_get(c);

	if (mode == FAILED)
		return error_set(err, EIO, "cannot %s: the volume failed: %s", what, c->failure);
	return error_set(err, EINVAL, "cannot %s a volume in mode %s", what, mode_names[mode]);
}

static int take_lock(struct core *c, struct error *err)
{
	int rc = c->ops->lock(c->image, err);

	if (rc == 0) {
		pthread_mutex_lock(&c->lock);
		c->locked = true;
		c->changes++;
		pthread_mutex_unlock(&c->lock);
	}
	return rc;
}

/* Not locked is what the others see first: a check meanwhile must not call it lost. */
static int drop_lock(struct core *c, struct error *err)
{
	pthread_mutex_lock(&c->lock);
	c->locked = false;
	c->changes++;
	pthread_mutex_unlock(&c->lock);
	return c->ops->unlock(c->image, err);
}

static int promote(struct core *c, bool tentative, bool unlocked, struct error *err)
{
	enum mode mode = mode_get(c);
	struct overlay *ov = NULL;
	int rc;

	if (mode == (tentative ? TENTATIVE : RW))
		return 0;
	if (mode != STANDBY)
		return refuse(c, "promote", err);
	if (tentative) {
		ov = overlay_new(c->overlay_bytes);
		if (!ov)
			return error_set(err, ENOMEM, "no memory for an overlay of %llu bytes",
					 (unsigned long long)c->overlay_bytes);
	}
	rc = unlocked ? 0 : take_lock(c, err);
	if (rc == 0 && !tentative) {
		rc = c->ops->writer_set(c->image, c->mark, err);
		if (rc)
			drop_lock(c, NULL);
	}
	if (rc) {
		overlay_free(ov);
		return rc;
	}
	pthread_mutex_lock(&c->lock);
	c->overlay = ov;
	pthread_mutex_unlock(&c->lock);
	return mode_move(c, STANDBY, tentative ? TENTATIVE : RW, err);
}

int core_promote(struct core *c, bool tentative, bool unlocked, struct error *err)
{
	int rc;

	if (unlocked && !tentative)
		return error_set(err, EINVAL, "only a tentative promote can do without the lock");
	pthread_mutex_lock(&c->op_lock);
	rc = promote(c, tentative, unlocked, err);
	pthread_mutex_unlock(&c->op_lock);
	return rc;
}

static int claim(struct core *c, struct error *err)
{
	enum mode mode = mode_get(c);

	if (mode != TENTATIVE && mode != RW)
		return refuse(c, "claim", err);
	return c->locked ? 0 : take_lock(c, err);
}

int core_claim(struct core *c, struct error *err)
{
	int rc;

	pthread_mutex_lock(&c->op_lock);
	rc = claim(c, err);
	pthread_mutex_unlock(&c->op_lock);
	return rc;
}

/* Out of tentative or settling: the overlay goes when no read in flight needs it. */
static struct vold_io *leave_overlay(struct core *c, enum mode to)
{
	struct vold_io *list;

	pthread_mutex_lock(&c->lock);
	if (c->mode != FAILED)
		c->mode = to;
	c->changes++;
	while (c->patches)
		pthread_cond_wait(&c->quiet, &c->lock);
	overlay_free(c->overlay);
	c->overlay = NULL;
	list = take_parked(c);
	pthread_mutex_unlock(&c->lock);
	return list;
}

static int settle(struct core *c, struct error *err)
{
	enum mode mode = mode_get(c);
	int rc;

	if (mode == RW)
		return 0;
	if (mode != TENTATIVE)
		return refuse(c, "settle", err);
	rc = claim(c, err);
	if (rc == 0)
		rc = c->ops->writer_set(c->image, c->mark, err);
	if (rc)
		return error_wrap(err, "settling");
	rc = mode_move(c, TENTATIVE, SETTLING, err);
	if (rc)
		return rc;
	rc = own_drain(c->ops, c->image, c->overlay);
	if (rc) {
		error_sys(err, -rc, "settling: writing what was buffered");
		fail(c, "settling failed: what was buffered is not all in the image");
	}
	submit_all(c, leave_overlay(c, RW));
	return rc;
}

int core_settle(struct core *c, struct error *err)
{
	int rc;

	pthread_mutex_lock(&c->op_lock);
	rc = settle(c, err);
	pthread_mutex_unlock(&c->op_lock);
	return rc;
}

static int abandon(struct core *c, struct error *err)
{
	enum mode mode = mode_get(c);

	if (mode == STANDBY)
		return 0;
	if (mode != TENTATIVE)
		return refuse(c, "abandon", err);
	answer_all(leave_overlay(c, STANDBY), -EIO);
	return c->locked ? drop_lock(c, err) : 0;
}

int core_abandon(struct core *c, struct error *err)
{
	int rc;

	pthread_mutex_lock(&c->op_lock);
	rc = abandon(c, err);
	pthread_mutex_unlock(&c->op_lock);
	return rc;
}

/* Waits in draining until nothing flies to the image. */
static int drain(struct core *c, int64_t timeout_ns, struct error *err)
{
	int64_t deadline = clock_mono_ns() + timeout_ns;
	struct timespec ts = { .tv_sec = deadline / NS_PER_SEC, .tv_nsec = deadline % NS_PER_SEC };
	int rc = 0;

	pthread_mutex_lock(&c->lock);
	while (c->writes && c->mode == DRAINING && rc == 0)
		rc = pthread_cond_timedwait(&c->quiet, &c->lock, &ts);
	if (c->mode != DRAINING)
		rc = error_set(err, EIO, "the volume failed: %s", c->failure);
	else if (c->writes)
		rc = error_set(err, ETIMEDOUT, "%u writes are not acknowledged by the store yet",
			       c->writes);
	else
		rc = 0;
	pthread_mutex_unlock(&c->lock);
	return rc;
}

/* Ends draining: what waited goes on in the new mode. */
static void end_draining(struct core *c, enum mode to)
{
	struct vold_io *list;

	pthread_mutex_lock(&c->lock);
	if (c->mode == DRAINING)
		c->mode = to;
	c->changes++;
	list = take_parked(c);
	pthread_mutex_unlock(&c->lock);
	submit_all(c, list);
}

/* Closed to writes already. */
static int give_lock(struct core *c, struct error *err)
{
	int rc = drop_lock(c, err);

	if (rc == 0)
		return 0;
	/* Closed to writes, yet the lock may still be ours: then nothing has changed. */
	if (c->ops->lock_held(c->image) == 0) {
		c->locked = true;
		mode_move(c, DEMOTED, RW, NULL);
	} else {
		fail(c, "releasing the exclusive lock failed half-way");
	}
	return error_wrap(err, "demoting");
}

static int demote(struct core *c, int64_t timeout_ns, bool keep_lock, struct error *err)
{
	enum mode mode = mode_get(c);
	int rc;

	if (mode == DEMOTED && c->locked && !keep_lock)
		return give_lock(c, err);
	if (mode == DEMOTED || mode == STANDBY || mode == RO)
		return 0;
	if (mode != RW)
		return refuse(c, "demote", err);
	rc = mode_move(c, RW, DRAINING, err);
	if (rc)
		return rc;
	rc = drain(c, timeout_ns, err);
	if (rc == 0) {
		rc = own_drain(c->ops, c->image, NULL);
		if (rc)
			error_sys(err, -rc, "flushing");
	}
	if (rc) {
		end_draining(c, RW);
		return error_wrap(err, "demoting");
	}
	end_draining(c, DEMOTED);
	return keep_lock ? 0 : give_lock(c, err);
}

int core_demote(struct core *c, int64_t timeout_ns, bool keep_lock, struct error *err)
{
	int rc;

	pthread_mutex_lock(&c->op_lock);
	rc = demote(c, timeout_ns, keep_lock, err);
	pthread_mutex_unlock(&c->op_lock);
	return rc;
}

static int retake(struct core *c, struct error *err)
{
	CLEANUP_FREE char *mark = NULL;
	enum mode mode = mode_get(c);
	int rc;

	if (mode == RW)
		return 0;
	if (mode != DEMOTED)
		return refuse(c, "retake", err);
	rc = c->locked ? 0 : take_lock(c, err);
	if (rc)
		return error_wrap(err, "retaking");
	rc = c->ops->writer_get(c->image, &mark, err);
	if (rc == 0 && strcmp(mark, c->mark) != 0)
		rc = error_set(err, ESTALE,
			       "another host has written the volume since it was demoted here: "
			       "detach and attach it");
	if (rc) {
		drop_lock(c, NULL);
		return error_wrap(err, "retaking");
	}
	return mode_move(c, DEMOTED, RW, err);
}

int core_retake(struct core *c, struct error *err)
{
	int rc;

	pthread_mutex_lock(&c->op_lock);
	rc = retake(c, err);
	pthread_mutex_unlock(&c->op_lock);
	return rc;
}

/* --- maintenance ------------------------------------------------------------------------ */

int core_resize(struct core *c, uint64_t bytes, struct error *err)
{
	int rc;

	pthread_mutex_lock(&c->op_lock);
	if (mode_get(c) != RW)
		rc = refuse(c, "resize", err);
	else if (!c->ops->resize)
		rc = error_set(err, EOPNOTSUPP, "this kind of image cannot be resized");
	else
		rc = c->ops->resize(c->image, bytes, err);
	pthread_mutex_unlock(&c->op_lock);
	return rc;
}

int core_snapshot(struct core *c, const char *snap, bool create, struct error *err)
{
	int rc;

	pthread_mutex_lock(&c->op_lock);
	if (mode_get(c) != RW)
		rc = refuse(c, "change the snapshots of", err);
	else if (!c->ops->snapshot_create)
		rc = error_set(err, EOPNOTSUPP, "this kind of image has no snapshots");
	else if (create)
		rc = c->ops->snapshot_create(c->image, snap, err);
	else
		rc = c->ops->snapshot_remove(c->image, snap, err);
	pthread_mutex_unlock(&c->op_lock);
	return rc;
}

void core_describe(struct core *c, json_t *out)
{
	if (c->ops->describe)
		c->ops->describe(c->image, out);
}

json_t *core_status(struct core *c)
{
	json_t *out = json_object();

	pthread_mutex_lock(&c->lock);
	json_set_str(out, "mode", mode_names[c->mode == DRAINING ? RW : c->mode]);
	json_set_str(out, "error", c->mode == FAILED ? c->failure : NULL);
	json_set_str(out, "address", c->ops->address(c->image));
	json_set_int(out, "tentative_bytes", c->overlay ? (int64_t)overlay_bytes(c->overlay) : 0);
	json_set_int(out, "parked", (int64_t)c->nparked);
	json_set_int(out, "in_flight", c->writes);
	json_set_int(out, "reads", (int64_t)c->reads_done);
	json_set_int(out, "writes", (int64_t)c->writes_done);
	json_set_int(out, "flushes", (int64_t)c->flushes_done);
	json_set_int(out, "read_bytes", (int64_t)c->read_bytes);
	json_set_int(out, "write_bytes", (int64_t)c->write_bytes);
	pthread_mutex_unlock(&c->lock);
	return out;
}
