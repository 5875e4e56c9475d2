/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of driver rbd share: rbd.c (images), rbd_attach.c, rbd_fence.c. */
#ifndef FERRY_VOLUMES_RBD_H
#define FERRY_VOLUMES_RBD_H

#include <pthread.h>

#include "volumes/ceph.h"
#include "volumes/driver.h"

struct rbd_driver {
	const struct volumes_config *config;
	char *vold_path;
	pthread_mutex_t lock; /* connecting */
	bool connected;
	struct ceph ceph;
};

/* Dials Ceph at the first use. */
int rbd_connect(struct rbd_driver *d, struct error *err);
/* "No such volume: x" with ENOENT. */
int rbd_image_open(struct rbd_driver *d, const char *name, bool read_only, rbd_image_t *image,
		   struct error *err);

int rbd_driver_attach(void *state, enum volume_mode mode, struct attachment *a, struct error *err);
int rbd_driver_detach(void *state, struct attachment *a, bool dead, struct error *err);
int rbd_driver_status(void *state, struct attachment *a, json_t **out, struct error *err);
int rbd_driver_promote(void *state, struct attachment *a, bool tentative, struct error *err);
int rbd_driver_quiesce(void *state, struct attachment *a, struct error *err);
int rbd_driver_preview(void *state, struct attachment *a, struct error *err);
int rbd_driver_claim(void *state, struct attachment *a, struct error *err);
int rbd_driver_settle(void *state, struct attachment *a, struct error *err);
int rbd_driver_abandon(void *state, struct attachment *a, struct error *err);
int rbd_driver_demote(void *state, struct attachment *a, struct error *err);
int rbd_driver_retake(void *state, struct attachment *a, struct error *err);
/* A request to the vold of an attached volume; `request` is stolen. */
int rbd_vold(struct rbd_driver *d, const struct attachment *a, json_t *request, json_t **answer,
	     struct error *err);

int rbd_driver_fence(void *state, const char *host, struct error *err);
/*
 * Shuts out RADOS clients of this host that belong to no process any more (volume NULL:
 * of all volumes that are not attached here): blocklist, lock, registry.
 */
int rbd_clear_dead(struct rbd_driver *d, const char *volume, struct error *err);

#endif
