/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a driver of the store does, and what the store does for every driver.
 *
 * The driver keeps texts under keys with versions, and leases. Keys, documents and the
 * schema are checked before it is called; watches are the store's (store_watch.c): it lists
 * and reads through the driver and needs of it only hints: the driver calls store_hint()
 * when it hears that a key has changed elsewhere, and announce() tells the others.
 *
 * Every function may be called by several threads at once. Errors as in store.h.
 */
#ifndef FERRY_FABRIC_STORE_DRIVER_H
#define FERRY_FABRIC_STORE_DRIVER_H

#include <pthread.h>

#include "fabric/store.h"

/* A write is to land only if nobody with a greater epoch of this lease was here before. */
struct store_fence {
	const char *lease, *owner;
	uint64_t epoch;
};

typedef void store_emit_fn(void *ctx, const char *key, const char *text, size_t len,
			   uint64_t version);

struct store_driver {
	const char *name;
	int (*open)(struct store *s, const struct store_config *config, void **impl,
		    struct error *err);
	void (*close)(void *impl);
	int (*get)(void *impl, const char *key, store_emit_fn *emit, void *ctx, struct error *err);
	/* In any order; prefix "" or one that holds a whole collection or part of its name. */
	int (*list)(void *impl, const char *prefix, store_emit_fn *emit, void *ctx,
		    struct error *err);
	/* fence may be NULL. -ECANCELED: other version, -ESTALE: fenced. */
	int (*put)(void *impl, const char *key, const char *text, size_t len, uint64_t expected,
		   const struct store_fence *fence, uint64_t *version, struct error *err);
	int (*del)(void *impl, const char *key, uint64_t expected, struct error *err);
	/* Tells other hosts, in the background; never waits. NULL: there are none. */
	void (*announce)(void *impl, const char *key);
	int (*lease_acquire)(void *impl, const char *name, const char *owner, int64_t ttl_ns,
			     uint64_t *epoch, struct error *err);
	int (*lease_renew)(void *impl, const char *name, const char *owner, int64_t ttl_ns,
			   struct error *err);
	int (*lease_release)(void *impl, const char *name, const char *owner, struct error *err);
	int (*lease_get)(void *impl, const char *name, char **owner, uint64_t *epoch,
			 struct error *err);
};

extern const struct store_driver store_embedded, store_rados;

/* --- the store itself, shared by store.c and store_watch.c ------------------------------ */

struct store_lease { /* one that this handle has acquired */
	char *name, *owner;
	uint64_t epoch;
	int64_t until_mono_ns; /* by our clock, counted from before the acquire or renew */
	struct store_lease *next;
};

struct store_watches; /* store_watch.c */

struct store {
	const struct store_driver *driver;
	void *impl;
	pthread_mutex_t lease_lock; /* the list below; never held across a driver's call */
	struct store_lease *leases;
	struct store_watches *watches;
};

/* A key may have changed (NULL: anything may have): watches look. Never waits. */
void store_hint(struct store *s, const char *key);

struct store_watches *store_watches_new(struct store *s, int64_t relist_ns);
void store_watches_free(struct store_watches *w); /* no driver callback may come any more */
/* Ends the thread, but hints may still come. */
void store_watches_stop(struct store_watches *w);
void store_watches_hint(struct store_watches *w, const char *key);

#endif
