/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image behind a vold. "rbd:POOL/NAME" is the real one; "file:PATH" is a file, for
 * tests and for a file on a shared file system, whose lock is a file lock.
 *
 * The lock is never taken or given away by itself: lock() and unlock() alone move it, so
 * nobody can steal it by writing. The writer mark is a short text kept beside the image
 * that names who could write it last.
 */
#ifndef FERRY_VOLUMES_VOLD_IMAGE_H
#define FERRY_VOLUMES_VOLD_IMAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "volumes/vold/backend.h"

struct vold_options {
	const char *name; /* of the volume */
	const char *host;
	const char *image;		   /* "rbd:POOL/NAME", "file:PATH" */
	const char *mode;		   /* "rw", "ro", "standby" */
	const char *ceph_conf, *ceph_user; /* NULL: the usual ones */
	const char *backend;		   /* NULL: probe */
	const char *socket;		   /* path of the control socket */
	uint64_t overlay_bytes;
};

struct image;

struct image_ops {
	int (*open)(const struct vold_options *o, struct image **out, struct error *err);
	void (*close)(struct image *im);
	/* Size in bytes, asked afresh. */
	int (*size)(struct image *im, uint64_t *bytes, struct error *err);
	/* Starts a request; calls io->complete(io, 0 or -errno) from any thread, once. */
	void (*submit)(struct image *im, struct vold_io *io);
	/* The exclusive lock. EBUSY names who has it. Holding it already: 0. */
	int (*lock)(struct image *im, struct error *err);
	int (*unlock)(struct image *im, struct error *err);
	/* 0: still ours; -ENOLCK: lost; -ESHUTDOWN: fenced; other: cannot tell right now. */
	int (*lock_held)(struct image *im);
	/* What only the owner of the lock can do to an image; NULL: the image cannot. */
	int (*resize)(struct image *im, uint64_t bytes, struct error *err);
	int (*snapshot_create)(struct image *im, const char *snap, struct error *err);
	int (*snapshot_remove)(struct image *im, const char *snap, struct error *err);
	const char *(*address)(struct image *im); /* RADOS client address; NULL */
	/* Adds "fs" and "formatted" as the driver noted them at the image. NULL: no notes. */
	void (*describe)(struct image *im, json_t *out);
	int (*writer_set)(struct image *im, const char *mark, struct error *err);
	/* *mark: caller frees; "" when there is none. */
	int (*writer_get)(struct image *im, char **mark, struct error *err);
};

extern const struct image_ops image_rbd, image_file;

#endif
