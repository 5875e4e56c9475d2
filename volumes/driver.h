/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a volume driver provides. A driver makes images and turns one into a block device
 * on this host; everything that is the same for all drivers (names, file systems, mounts,
 * freezing, one caller at a time per volume) is done above it, in volume.c and mount.c.
 *
 * A driver keeps its own truth (RBD images with their metadata; files): there is no list
 * of volumes besides. What this host has attached is kept in struct attachment, which
 * volume.c saves in run_dir/vold/NAME.json and gives back after a restart of ferryd.
 *
 * Every function pointer may be NULL except those marked with !; volume.c then refuses
 * with a message made from `why_not` ("driver local keeps volumes on one host").
 */
#ifndef FERRY_VOLUMES_DRIVER_H
#define FERRY_VOLUMES_DRIVER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "volumes/volume.h"

/* What volume_create() was asked for, checked. */
struct volume_spec {
	uint64_t size_bytes; /* multiple of 4,096 */
	const char *fs;	     /* "ext4", "xfs", "none" */
	json_t *labels;	     /* object of strings; borrowed */
	json_t *features;    /* array of strings, or NULL */
	const char *data_pool;
};

/* What a driver knows about one volume, wherever it is attached. Freed by volume_info_free. */
struct volume_info {
	uint64_t size_bytes;
	char *fs;
	bool formatted;	     /* the file system has been made */
	char *created;	     /* RFC 3339 */
	json_t *labels;	     /* object */
	char *owner_host;    /* who may write; NULL: nobody */
	char *owner_address; /* its RADOS client */
	json_t *attachments; /* [{"host","mode","address"}..] */
};
void volume_info_free(struct volume_info *info);

/* One attached volume on this host. Strings are owned by it. */
struct attachment {
	char *name, *driver;
	char *device;  /* "/dev/loop3" */
	char *mode;    /* as of the last operation; the driver's status() is the truth */
	char *address; /* RADOS client of the vold; NULL */
	char *fs;      /* as in struct volume_info: mounting then needs no question */
	bool formatted;
	pid_t pid;	     /* vold; 0: none, or it was starting when ferryd died */
	uint64_t start_time; /* of pid, in ticks since boot: names the process for good */
	bool frozen;	     /* FIFREEZE was done and not undone */
};
void attachment_free(struct attachment *a);

struct volume_driver {
	const char *name;
	const char *scope;   /* Docker's: "global" or "local" */
	const char *why_not; /* end of the sentence "cannot X volume V: " */

	/* ! State of the driver; config outlives it. */
	int (*open)(const struct volumes_config *config, void **state, struct error *err);
	void (*close)(void *state);

	/* ! Life. create: the image without a file system. */
	int (*create)(void *state, const char *name, const struct volume_spec *spec,
		      struct error *err);
	int (*formatted)(void *state, const char *name, struct error *err); /* ! note that */
	int (*remove)(void *state, const char *name, struct error *err);
	/* ! -ENOENT without a message made up: "No such volume: x". full: lock and watchers. */
	int (*info)(void *state, const char *name, bool full, struct volume_info *out,
		    struct error *err);
	/* ! Array of names. */
	int (*list)(void *state, json_t **names, struct error *err);
	/* a: the attachment to this host when it is rw, else NULL. */
	int (*resize)(void *state, const char *name, const struct attachment *a,
		      uint64_t size_bytes, struct error *err);

	int (*snapshot_create)(void *state, const char *name, const struct attachment *a,
			       const char *snap, struct error *err);
	int (*snapshot_list)(void *state, const char *name, json_t **out, struct error *err);
	int (*snapshot_remove)(void *state, const char *name, const struct attachment *a,
			       const char *snap, bool detach, struct error *err);
	int (*snapshot_clones)(void *state, const char *name, const char *snap, json_t **out,
			       struct error *err);
	int (*snapshot_rollback)(void *state, const char *name, const char *snap,
				 struct error *err);
	int (*clone)(void *state, const char *name, const char *snap, const char *clone,
		     struct error *err);

	/* ! Fills device, mode, address, fs, formatted, pid, start_time of *a. ENOENT. */
	int (*attach)(void *state, enum volume_mode mode, struct attachment *a, struct error *err);
	/* ! The file system is unmounted, or `dead`: clean up after a vold that died. */
	int (*detach)(void *state, struct attachment *a, bool dead, struct error *err);
	/*
	 * ! {"mode","error","tentative_bytes",..}. A vold that is gone: mode "failed" and
	 * "dead": true. Completes *a where pid is still 0.
	 */
	int (*status)(void *state, struct attachment *a, json_t **out, struct error *err);
	int (*promote)(void *state, struct attachment *a, bool tentative, struct error *err);
	/* The content is final, the lock stays; tentative without the lock; the lock. */
	int (*quiesce)(void *state, struct attachment *a, struct error *err);
	int (*preview)(void *state, struct attachment *a, struct error *err);
	int (*claim)(void *state, struct attachment *a, struct error *err);
	int (*settle)(void *state, struct attachment *a, struct error *err);
	int (*abandon)(void *state, struct attachment *a, struct error *err);
	int (*demote)(void *state, struct attachment *a, struct error *err);
	int (*retake)(void *state, struct attachment *a, struct error *err);
	int (*fence)(void *state, const char *host, struct error *err);
};

extern const struct volume_driver volume_driver_rbd;
extern const struct volume_driver volume_driver_local;

#endif
