/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the fabric share among themselves; nobody else includes it.
 *
 * Documents (all with "schema": 1):
 *   containers/ID     {"id","name","host","created","image","image_ref","docker":{create body},
 *                      "volumes":[{"name","destination","rw"}], "binds":[{"source",
 *                      "destination","rw"}], "endpoints":[{"network","network_name","vni","ip",
 *                      "mac","aliases"}], "ports":[{"proto","port","host_ip","host_port"}],
 *                      "state":{"Status","ExitCode","StartedAt","FinishedAt","exits",…},
 *                      "desired":"running|stopped", "migration":{"id","to"} or absent}
 *                     and "restored": id of the restore that made it, or absent.
 *                     `host` decides who owns the container; it changes once in a
 *                     migration, by compare-and-swap: the commit point.
 *   names/NAME        {"id"}: reserves a container's name
 *   networks/ID       {"id","name","vni","subnet","gateway","driver",…}
 *   network-names/N   {"id"}
 *   ipam/networks     {"used":{ID:{"vni","subnet"}}}
 *   ipam/net-ID       {"used":{IP:container id}}
 *   checkpoints/…, checkpoint-intents/…   see checkpoint_internal.h
 *
 * Locks: `lock` guards the mirror, the table of operations and the pointers to the store;
 * it is never held across I/O. An *operation* (op_begin) is what serialises the changes
 * of one container on this host; it may last as long as a migration.
 */
#ifndef FERRY_FABRIC_INTERNAL_H
#define FERRY_FABRIC_INTERNAL_H

#include <pthread.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/cluster.h"
#include "fabric/event.h"
#include "fabric/fabric.h"
#include "fabric/host.h"
#include "fabric/rpc.h"
#include "fabric/store.h"
#include "netd/netd.h"
#include "runtime/container/container.h"
#include "runtime/image/image.h"
#include "volumes/volume.h"

struct operation {
	struct operation *next;
	char id[65];
	const char *what; /* "starting", "migrating" … */
};

struct incoming; /* fabric/migrate_dest.c */

struct fabric {
	char *host, *address, *run_dir, *state_dir, *bin_dir, *cgroup_parent;
	char *ceph_conf, *ceph_user, *ceph_pool, *ceph_state_pool;
	int64_t memory_bytes; /* for containers in all; 0: no bound but the host's own */

	struct store *store;	 /* the cluster's, or this host's own */
	struct cluster *cluster; /* NULL: one host alone */
	struct rpc_server *server;
	struct rpc_client *client;
	struct hosts *hosts;
	struct store_watch *watch_containers, *watch_networks;
	struct event_bus *events;

	struct container_manager *containers;
	struct image_store *images;
	struct image_registries registries;
	struct volumes *volumes;
	struct netd *netd;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* a document or an operation changed */
	json_t *docs;		/* key → document, as last seen; documents are never edited */
	json_t *versions;	/* key → version; kept when a document is deleted */
	struct operation *operations;
	struct incoming *incoming;
	struct fabric_waiter *waiters; /* wait.c */
	json_t *outgoing;	       /* migration id → what fabric_migration_list() shows */
	json_t *late;		       /* containers here whose memory still comes → from where */
	json_t *intents;	       /* ids of checkpoints and restores being worked on here */
	bool closing;
};

/* --- document.c ------------------------------------------------------------------------ */

/* Writes a new document; -EEXIST where there is one. */
int document_new(struct fabric *f, const char *key, json_t *doc, struct error *err);
/* Read, change, write with compare-and-swap; see store_change_fn. *value may be NULL. */
int document_change(struct fabric *f, const char *key, store_change_fn *change, void *ctx,
		    json_t **value, struct error *err);
/*
 * The same on the mirror's copy, without reading first: one round trip where that is the
 * newest, else as document_change().
 */
int document_change_known(struct fabric *f, const char *key, store_change_fn *change, void *ctx,
			  struct error *err);
/* Fresh from the store. */
int document_get(struct fabric *f, const char *key, json_t **value, struct error *err);
/* Deletes; a missing one is fine. */
int document_delete(struct fabric *f, const char *key, struct error *err);
/* The mirror's copy, NULL where there is none; new reference, not to be edited. */
json_t *document_cached(struct fabric *f, const char *key);
/* The mirror's documents below a prefix, an array with new references. */
json_t *documents_cached(struct fabric *f, const char *prefix);
/* What a watch delivered; gives the previous document (new reference or NULL). */
json_t *mirror_put(struct fabric *f, const char *key, json_t *value, uint64_t version);
/* Begins to keep the mirror; call once a store. */
int mirror_watch(struct fabric *f, struct error *err);
void mirror_unwatch(struct fabric *f);

/* A container's document by name, id or beginning of an id (new reference). */
int container_find(struct fabric *f, const char *ref, json_t **doc, struct error *err);
char *container_key(const char *id);
bool container_is_local(const struct fabric *f, const json_t *doc);
/* "running" or "paused". */
bool container_is_up(const json_t *doc);
const char *container_status(const json_t *doc);

/* --- operation.c ------------------------------------------------------------------------ */

/*
 * Begins an operation on a container of this host. Waits for a short one to end; where it
 * is migrating gives -EBUSY at once, saying so, unless `wait` is true.
 */
int op_begin(struct fabric *f, const char *id, const char *what, bool wait, struct error *err);
void op_end(struct fabric *f, const char *id);

/*
 * Progress of an operation that another host does: what comes with the call goes to the
 * caller's function (a rpc_progress_fn; ctx is a struct progress_relay), and, over there,
 * into the call (a fabric_progress; ctx is the struct rpc_request).
 */
struct progress_relay {
	fabric_progress *progress; /* NULL: nobody wants it */
	void *ctx;
};
void progress_relay(void *ctx, json_t *body);
void progress_send(void *ctx, const json_t *progress);

/* --- container.c, lifecycle.c, inspect.c ---------------------------------------------- */

/* Sends an operation to the host that owns the container. */
int container_forward(struct fabric *f, const json_t *doc, const char *op, json_t *args,
		      int64_t timeout_ns, json_t **result, struct error *err);
extern const struct rpc_method container_methods[], container_create_methods[];

/* Volumes attached and mounted / taken down again; mounts into *mounts (see container.h). */
int container_volumes_up(struct fabric *f, const json_t *doc, struct error *err);
int container_volumes_down(struct fabric *f, const json_t *doc, struct error *err);
/* Networks and endpoints of this host; *netns is NULL for the host's network. */
int container_endpoints_up(struct fabric *f, const json_t *doc, bool hold, char **netns,
			   struct error *err);
void container_endpoints_down(struct fabric *f, const json_t *doc);
int container_publish(struct fabric *f, const json_t *doc, struct error *err);
/* Starts the processes; with `stub` a skeleton for the checkpoint engine. */
int container_launch(struct fabric *f, const json_t *doc, const char *netns, bool stub,
		     const struct container_time_offsets *offsets, pid_t *init, struct error *err);
/* names/NAME, for that container; EEXIST in Docker's words. */
int container_reserve_name(struct fabric *f, const char *name, const char *id, struct error *err);
/* Makes the container known to this host's manager (its folders, the image's layers). */
int container_materialise(struct fabric *f, const json_t *doc, struct error *err);
/* Writes what the manager says of a container of ours into its document. */
int container_state_save(struct fabric *f, const char *id, const char *desired, struct error *err);
/* Called when a container of ours has ended: takes everything down, writes the state. */
void container_take_down(struct fabric *f, const char *id, int exit_code);
/* container_exit_fn of the manager. */
void container_on_ended(void *ctx, const char *id, int exit_code);
/* Everything of a container off this host; the document is left alone. */
void container_unmake(struct fabric *f, const json_t *doc);
/* Publishes a container event. */
void container_event(struct fabric *f, const json_t *doc, const char *action, const char *extra_key,
		     const char *extra_value);

/* --- wait.c ------------------------------------------------------------------------------ */

/* With the lock held, before a document enters or leaves (NULL) the mirror. */
void waiters_see(struct fabric *f, const char *key, const json_t *doc);

/* --- image.c ----------------------------------------------------------------------------- */

/* The image is on this host afterwards: fetched from another host where it is missing. */
int image_ensure(struct fabric *f, const char *ref, const char *from_host, json_t **image,
		 struct error *err);
extern const struct rpc_method image_methods[];
extern const struct rpc_method image_registry_methods[];
extern const struct rpc_method files_methods[];

/* --- network.c, follow.c ------------------------------------------------------------------ */

/* The network "bridge", made when it is needed first. */
int network_default(struct fabric *f, json_t **out, struct error *err);
int network_find(struct fabric *f, const char *ref, json_t **doc, struct error *err);
/* An address for a container (wanted may be NULL), reserved until network_address_free(). */
int network_address_take(struct fabric *f, const json_t *network, const char *container,
			 const char *wanted, char **ip, struct error *err);
void network_address_free(struct fabric *f, const char *network_id, const char *ip);
/* A host's underlay address (caller frees), NULL where it is unknown. */
char *network_host_address(struct fabric *f, const char *host);
/* What netd must know of a container's document that was `before` and is `after`. */
void network_follow(struct fabric *f, const json_t *before, const json_t *after);
/* Points all other hosts (but `except`) at the host that gets the endpoints' packets now. */
void network_repoint(struct fabric *f, const json_t *doc, const char *to_host, const char *except);
/* Whom network_repoint() would tell: names of live hosts (new reference), NULL: none known. */
json_t *network_others(struct fabric *f, const char *to_host, const char *except);
/* Tells these. */
void network_repoint_at(struct fabric *f, const json_t *doc, const char *to_host,
			const json_t *others);
int network_lookup(void *ctx, const char *network_id, const char *name, json_t **ips);
extern const struct rpc_method network_methods[];

/* --- volume.c ----------------------------------------------------------------------------- */

/* Makes a volume with the default driver unless it exists. name NULL: 64 hex digits. */
int volume_ensure(struct fabric *f, const char *name, const char *driver, json_t *opts, char **out,
		  struct error *err);

/* Offsets of the time namespace this daemon itself is in (ns); zero on real hosts. */
void fabric_clock_offsets(int64_t *mono, int64_t *boot);

/* --- admit.c ------------------------------------------------------------------------- */

/* Bytes of a container on this host that a migration has to carry: anonymous memory, tmpfs. */
int64_t memory_to_carry(struct fabric *f, const char *id);
/* May a container that uses so much come here? ENOMEM with both figures and the remedy. */
int memory_admit(struct fabric *f, int64_t need_bytes, struct error *err);
/* Has this CPU every state component (XCR0) of that one? EPROTO. */
int cpu_admit(struct fabric *f, uint64_t xsave_mask, struct error *err);

/* --- migrate*.c ----------------------------------------------------------------------------- */

extern const struct rpc_method migrate_methods[];
/* Whoever took part in a migration that was cut decides by the store how it ends. */
void migrate_recover(struct fabric *f);
/* Why a container that has just ended was killed in post-copy, once; NULL: it was not. */
char *migrate_take_note(struct fabric *f, const char *container);
/* A document changed: an incoming migration that it no longer names is given up. */
void migrate_watch(struct fabric *f, const json_t *doc);

/* --- pump.c ------------------------------------------------------------------------------ */

/*
 * A pipe whose writing end a thread serves, so that both sides can block. The caller sets
 * `write` and `ctx`, and reads from *rd, which pump_join() or pump_end() closes: a writer
 * that is still at it gets EPIPE.
 */
struct pump {
	int (*write)(void *ctx, int fd, struct error *err);
	void *ctx;
	/* pump.c's own, and the outcome: */
	int fd, result;
	pthread_t thread;
	struct error err;
};
int pump_start(struct pump *p, int *rd, struct error *err);
/* For `write`: what comes by the RPC stream `ctx`. */
int pump_receive(void *ctx, int fd, struct error *err);
/* What the writer returned; its sentence is in p->err. */
int pump_join(struct pump *p, int rd);
/* The same where the reader's own result `r` (err is set) comes first. 0, or what failed. */
int pump_end(struct pump *p, int rd, int r, struct error *err);

#endif
