/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connecting to a Ceph cluster with the settings that volumes need, and fencing. Used by
 * ferry-vold and driver rbd.
 */
#ifndef FERRY_VOLUMES_CEPH_H
#define FERRY_VOLUMES_CEPH_H

#include <rados/librados.h>
#include <rbd/librbd.h>

#include "base/error.h"

struct ceph {
	rados_t cluster;
	rados_ioctx_t io;
	char *address; /* of this client, "10.0.0.1:0/1234567": what is blocklisted */
};

/* conf, user: NULL for /etc/ceph/ceph.conf, admin. ENOENT: no such pool. */
int ceph_connect(const char *conf, const char *user, const char *pool, struct ceph *out,
		 struct error *err);
void ceph_disconnect(struct ceph *c);

/*
 * Address of the client that holds the exclusive lock (caller frees), NULL: nobody.
 * -ESHUTDOWN: this client is blocklisted. A handle that was opened read-only tells what was
 * true when it was opened.
 */
int ceph_lock_owner(rbd_image_t image, char **address, struct error *err);

/*
 * Blocklists a client for 20 years (its own processes can outlive any shorter time in a
 * paused machine) and waits until this client knows the map that says so: an object that
 * this client reads or writes afterwards can no longer be changed by the other one.
 */
int ceph_blocklist(struct ceph *c, const char *address, struct error *err);

/* Breaks the lock that `address`, blocklisted before, holds. Held by nobody: 0. */
int ceph_lock_break(rbd_image_t image, const char *address, struct error *err);

/* EEXIST, ENOENT; remove: EBUSY while clones hang on it. */
int ceph_snapshot_create(rbd_image_t image, const char *snap, struct error *err);
int ceph_snapshot_remove(rbd_image_t image, const char *snap, struct error *err);

#endif
