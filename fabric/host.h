/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts: their documents, their leases, and who notices that one is gone.
 *
 * "hosts/NAME": {"schema":1, "name", "address", "port", "boot_id", "incarnation",
 *	"kernel", "arch", "cpus", "memory_bytes", "xsave_mask":"0xe5", "xstate_size":2432,
 *	"features":{…}, "labels":{…}, "availability":"active"|"drain"|"pause",
 *	"state":"up"|"lost"|"down", "registered_at", "changed_at"}
 *
 *	            starts, registers                     lease lapsed, seen by the leader
 *	  (none) ──────────────────────► up ─────────────────────────────► lost
 *	                                 ▲                                  │ lapsed() gave 0:
 *	          registers again        │                                  ▼ fenced, taken over
 *	                                 └──────────────────────────────── down
 *
 * Every host renews the lease "host.NAME" (TTL 10 s). One host holds the lease "leader"; only
 * it looks for lapsed leases, marks the host lost and calls lapsed(), again and again until
 * that returns 0; then the host is down. A leader that dies in between is followed by one
 * that finds the host lost and goes on.
 *
 * A host that finds itself lost or down although it runs (it hung, or its link was cut) was
 * or may be being fenced: fenced() is called before it registers again. The boot id tells
 * a host that was restarted (nothing of it runs any more) from one that was only away.
 */
#ifndef FERRY_FABRIC_HOST_H
#define FERRY_FABRIC_HOST_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "fabric/store.h"

#define HOST_TTL_NS (10ll * 1000000000)

struct hosts;

struct hosts_config {
	struct store *store;
	const char *name, *address; /* of this host; copied */
	uint16_t port;
	json_t *features; /* added to "features" (borrowed, may be NULL) */
	int64_t ttl_ns;	  /* of the leases; 0: HOST_TTL_NS */

	/*
	 * All optional, called in the heartbeat's helper thread, one at a time; a slow one does
	 * not delay the heartbeat. `host` is the document (borrowed).
	 */
	void *ctx;
	/* Leader only: this host's lease lapsed. 0: fenced and taken over; -errno: again later. */
	int (*lapsed)(void *ctx, const char *name, json_t *host, struct error *err);
	/* We were declared lost or down: what we own may be another's by now. rebooted: no. */
	void (*fenced)(void *ctx, json_t *host);
	/* This host became the leader or is it no longer. */
	void (*leader)(void *ctx, bool is_leader);
};

/*
 * Registers this host and starts its heartbeat. *previous (may be NULL): its document as it
 * was before, a new reference, NULL where there was none; compare "boot_id" with
 * host_boot_id() to know a restart. -EBUSY: another live daemon holds this name's lease.
 */
int hosts_start(const struct hosts_config *config, struct hosts **out, json_t **previous,
		struct error *err);

/*
 * Ends the heartbeat; `leave` gives the leases up at once and marks the host down (a clean
 * shutdown with nothing left running); else they lapse or a restarted daemon takes them again.
 */
void hosts_stop(struct hosts *h, bool leave);

bool hosts_is_leader(struct hosts *h);

/* Whether this host's own lease is held, by its own monotonic clock. */
bool hosts_is_member(struct hosts *h);

/* All host documents, by name, each with "alive" (its lease is held); one; new references. */
int host_list(struct store *s, json_t **array, struct error *err);
int host_get(struct store *s, const char *name, json_t **host, struct error *err);

/* "active", "drain" (move everything away) or "pause" (place nothing new). -EINVAL, -ENOENT */
int host_set_availability(struct store *s, const char *name, const char *availability,
			  struct error *err);

/* Deletes the document of a host that is down. -EBUSY while its lease is held. */
int host_remove(struct store *s, const char *name, struct error *err);

/* rpc_resolve_fn over the store: ctx is the struct store. */
int host_resolve(void *store, const char *name, char **address, uint16_t *port, struct error *err);

/* This machine's facts as in the document (kernel, arch, cpus …); new reference. */
json_t *host_facts(void);

/* This boot's id (/proc/sys/kernel/random/boot_id), 36 characters. Caller frees. */
int host_boot_id(char **id, struct error *err);

#endif
