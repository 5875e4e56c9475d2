/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cluster's state: JSON documents under keys, changed by compare-and-swap.
 *
 *	key      "collection/name" or deeper, "containers/3f2a…"; parts of [A-Za-z0-9_.-]
 *	value    a JSON object; "schema": 1 is added where it is missing. Whoever changes a
 *	         document changes the one he read, so fields he does not know survive
 *	version  opaque, never 0, grows with every write of a document, and is not used again
 *	         after a delete: comparing it suffices to know that nothing has changed
 *
 * Two drivers keep this contract, and one conformance test runs on both
 * (tests/unit/fabric/test_store.c): `rados` (omap in a replicated pool; any number of
 * hosts) and `embedded` (one SQLite file; one host).
 *
 * Errors that every call may give: -ETIMEDOUT (the cluster did not answer in time; a write
 * may have happened or may even happen later: see store_put()), -EHOSTUNREACH, -EINVAL for
 * a malformed key. No call blocks for longer than the configured timeout.
 *
 * A store may be used by any number of threads. No lock is held while a driver waits for
 * the network.
 */
#ifndef FERRY_FABRIC_STORE_H
#define FERRY_FABRIC_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct store;

struct store_config {
	const char *driver;    /* "embedded" or "rados" */
	const char *path;      /* embedded: the database file */
	const char *ceph_conf; /* rados: NULL: /etc/ceph/ceph.conf */
	const char *ceph_user; /* rados: "admin", without "client."; NULL: admin */
	const char *pool;      /* rados: the state pool; must exist, replicated */
	const char *space;     /* rados: namespace in the pool; NULL: "ferry" */
	int64_t timeout_ns;    /* rados: for one operation; 0: 10 s */
	int64_t relist_ns;     /* how often watches compare with a listing; 0: 5 s */
	bool create_pool;      /* rados: make the pool where it is missing */
};

/* Opens a store. 0; -ENOENT (no such pool), -ETIMEDOUT, -EACCES … */
int store_open(const struct store_config *config, struct store **out, struct error *err);

/* Ends watches (waits for a running callback), frees. Leases are left to lapse. */
void store_close(struct store *s);

#define STORE_ABSENT ((uint64_t)0) /* expected: there is no such document */
#define STORE_ANY    UINT64_MAX	   /* expected: do not care */

/*
 * One document: *value is a new reference, *version its version (both may be NULL).
 * -ENOENT where there is none.
 */
int store_get(struct store *s, const char *key, json_t **value, uint64_t *version,
	      struct error *err);

struct store_entry {
	char *key;
	json_t *value;
	uint64_t version;
};

/*
 * All documents whose key begins with `prefix` ("containers/"; "" for everything, slow),
 * in order of their keys. Each document is consistent by itself, the list is no snapshot.
 * Free with store_list_free(). None at all is 0 with *n == 0.
 */
int store_list(struct store *s, const char *prefix, struct store_entry **out, size_t *n,
	       struct error *err);
void store_list_free(struct store_entry *entries, size_t n);

/* The same as a JSON array of the values alone. */
int store_list_values(struct store *s, const char *prefix, json_t **array, struct error *err);

/*
 * Writes a document if its version is still `expected` (STORE_ABSENT, STORE_ANY, or what
 * store_get() gave). *new_version (may be NULL) is the version it has now. `value` is
 * borrowed, must be an object, and is not changed. -ECANCELED: the document is another
 * one by now (or exists, or is gone); read it again.
 * After -ETIMEDOUT it is unknown whether the write took place, and it may still take
 * place later. To know for sure write again with the same `expected`: exactly one of the
 * two succeeds, and if the second gives -ECANCELED, reading shows who won.
 */
int store_put(struct store *s, const char *key, json_t *value, uint64_t expected,
	      uint64_t *new_version, struct error *err);

/* Deletes if the version is `expected` (STORE_ANY: whatever it is). -ENOENT, -ECANCELED. */
int store_delete(struct store *s, const char *key, uint64_t expected, struct error *err);

/*
 * Read, change, write, again where somebody was quicker. `change` edits the document in
 * place (a deep copy) and returns 0 to write it, 1 to leave it as it is, or -errno with
 * err set to give up. It may run several times, so it must not do anything else.
 * *value (may be NULL): the document as it is afterwards, a new reference.
 */
typedef int store_change_fn(void *ctx, json_t *document, struct error *err);
int store_update(struct store *s, const char *key, store_change_fn *change, void *ctx,
		 json_t **value, struct error *err);

/*
 * Watches all keys that begin with `prefix` (a whole collection: "hosts/"). `fn` first gets
 * every document there is, then every change: value NULL for a deleted one (version 0).
 * It runs in a thread of the store, one call at a time for all watches of the store: be
 * quick; the store may be used inside, except store_unwatch() and store_close().
 * Changes may be coalesced: the newest state is always delivered, states in between
 * perhaps not; a document deleted and made again may be seen as changed. A change is
 * usually seen within milliseconds (notify) and at the latest after relist_ns.
 * The value is borrowed for the time of the call.
 */
struct store_watch;
typedef void store_watch_fn(void *ctx, const char *key, json_t *value, uint64_t version);
int store_watch(struct store *s, const char *prefix, store_watch_fn *fn, void *ctx,
		struct store_watch **out, struct error *err);

/* Afterwards fn is not called any more (waits for a running call). NULL is fine. */
void store_unwatch(struct store_watch *w);

/*
 * Leases: at most one owner holds a lease at a time; it lapses `ttl_ns` after the last
 * acquire or renew, by the clock of the store (an OSD's, not a host's). Names as the parts
 * of a key. *epoch (may be NULL) counts the acquisitions of this lease: whoever has a
 * greater one came later.
 */

/*
 * Takes a free or lapsed lease, or takes one again which this owner (a restarted daemon)
 * holds already: a new epoch in both cases. -EBUSY: another holds it, named in err.
 */
int store_lease_acquire(struct store *s, const char *name, const char *owner, int64_t ttl_ns,
			uint64_t *epoch, struct error *err);

/* Holds it for another ttl_ns. -ESTALE: it has lapsed or is another's: acquire it again. */
int store_lease_renew(struct store *s, const char *name, const char *owner, int64_t ttl_ns,
		      struct error *err);

/* Gives it up. -ESTALE where it was not ours any more. */
int store_lease_release(struct store *s, const char *name, const char *owner, struct error *err);

/* Who holds it now (caller frees; either may be NULL). -ENOENT: nobody. */
int store_lease_get(struct store *s, const char *name, char **owner, uint64_t *epoch,
		    struct error *err);

/*
 * store_put() by the holder of a lease only: -ESTALE where this store handle does not hold
 * `lease` any more by its own monotonic clock, or where a later holder (greater epoch) has
 * written, by store_put_leased(), a document of the same object. On `embedded` the lease
 * is checked in the same transaction. So a holder that slept through its lease cannot
 * overwrite its successor's work; `expected` should be given as well.
 */
int store_put_leased(struct store *s, const char *lease, const char *key, json_t *value,
		     uint64_t expected, uint64_t *new_version, struct error *err);

#endif
