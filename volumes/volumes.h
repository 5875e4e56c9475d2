/* SPDX-License-Identifier: Apache-2.0 */
/* What volume.c, attach.c and handover.c share; not for others. */
#ifndef FERRY_VOLUMES_VOLUMES_H
#define FERRY_VOLUMES_VOLUMES_H

#include <pthread.h>

#include "volumes/attachment.h"
#include "volumes/driver.h"
#include "volumes/volume.h"

struct volume_entry {
	char *name;
	pthread_mutex_t lock; /* one operation on a volume at a time */
	struct volume_entry *next;
};

struct volumes {
	struct volumes_config config; /* owned strings */
	const struct volume_driver *drivers[3];
	void *states[3];
	size_t ndrivers;
	pthread_mutex_t lock; /* entries */
	struct volume_entry *entries;
};

/*
 * An operation on one volume: its lock, its driver, its attachment. Start with volume_op_begin(),
 * end with volume_op_end() whatever it returned; CLEANUP_OP does.
 */
struct op {
	struct volumes *vs;
	const char *name;
	struct volume_entry *entry;
	const struct volume_driver *driver; /* NULL: see op_driver() */
	void *state;
	bool attached;
	struct attachment a;
};

/* Locks the volume and loads its attachment where there is one. EINVAL: a bad name. */
int volume_op_begin(struct op *op, struct volumes *vs, const char *name, struct error *err);
void volume_op_end(struct op *op);
#define CLEANUP_OP __attribute__((cleanup(volume_op_end)))
/* As volume_op_begin(), and it must be attached here (EINVAL). */
int volume_op_begin_attached(struct op *op, struct volumes *vs, const char *name,
			     struct error *err);
/* Finds the driver that has the volume, and what it knows of it. ENOENT. */
int op_find(struct op *op, bool full, struct volume_info *info, struct error *err);
/* "cannot WHAT volume X: WHY NOT", EOPNOTSUPP. */
int op_refuse(const struct op *op, const char *what, struct error *err);
/* Saves the attachment with a new mode. */
int op_set_mode(struct op *op, const char *mode, struct error *err);

/* Mode as the driver sees it now (caller frees); *dead: its vold is gone. */
int op_status(struct op *op, char **mode, bool *dead, json_t **status, struct error *err);

/* run_dir/volumes/NAME (caller frees). */
char *volume_path(const struct volumes *vs, const char *name);

/* Attach and detach with the lock held: create formats through them. */
int attach_locked(struct op *op, enum volume_mode mode, struct error *err);
int detach_locked(struct op *op, struct error *err);

#endif
