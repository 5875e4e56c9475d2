/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the `rados` driver, shared by its three files: documents and connection
 * (store_rados.c), leases (store_rados_lease.c), watch and notify (store_rados_notify.c).
 *
 *	object doc.COLLECTION.NN   documents, spread over SHARDS objects by a hash of the key
 *	   omap v:KEY   version, decimal
 *	   omap d:KEY   version, newline, JSON text       (what lists and reads take)
 *	   omap f:LEASE greatest epoch that has written here under that lease
 *	object lease.NAME          cls_lock "ferry", cookie = owner; omap epoch
 *	object hub                 watched by every store, notified after every write
 */
#ifndef FERRY_FABRIC_STORE_RADOS_H
#define FERRY_FABRIC_STORE_RADOS_H

#include <rados/librados.h>

#include "fabric/store_driver.h"

struct rados_hub; /* store_rados_notify.c */

struct rados_impl {
	rados_t cluster;
	rados_ioctx_t io;
	char *pool;
	struct rados_hub *hub;
};

/* "20-digit epoch": compares as text as the number does. */
#define EPOCH_TEXT 21
void rados_epoch_text(char out[EPOCH_TEXT], uint64_t epoch);

/* An error of librados as a sentence: what was tried, and why it failed. -errno. */
int rados_failed(const struct rados_impl *ri, int r, struct error *err, const char *what,
		 const char *name);

/* One omap value of an object as fresh NUL-terminated text; NULL text where there is none. */
int rados_omap_text(struct rados_impl *ri, const char *object, const char *key, char **text,
		    size_t *len);

int rados_lease_acquire(void *impl, const char *name, const char *owner, int64_t ttl_ns,
			uint64_t *epoch, struct error *err);
int rados_lease_renew(void *impl, const char *name, const char *owner, int64_t ttl_ns,
		      struct error *err);
int rados_lease_release(void *impl, const char *name, const char *owner, struct error *err);
int rados_lease_get(void *impl, const char *name, char **owner, uint64_t *epoch, struct error *err);

/* Watches the hub in the background (again and again where that fails). */
struct rados_hub *rados_hub_start(struct rados_impl *ri, struct store *s);
void rados_hub_announce(struct rados_hub *hub, const char *key);
void rados_hub_stop(struct rados_hub *hub);

#endif
