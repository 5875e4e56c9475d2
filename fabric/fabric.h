/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fabric: containers, volumes, networks, images and hosts of the whole cluster,
 * as the API and the CLI see them. It is the only part that knows runtime, volumes
 * and netd together. Documents (fabric/document.h) in the store say what should be;
 * the host that a container's document names does the work. Every call here may be
 * made on any host: what belongs to another one is sent there over RPC.
 *
 * JSON that goes in and comes out has the shape of the Docker Engine API where Docker
 * has one. `json_t **out` are new references, the caller's to release. All functions
 * return 0 or a negative errno with `err` set, and are safe to call from any thread;
 * they block.
 */
#ifndef FERRY_FABRIC_FABRIC_H
#define FERRY_FABRIC_FABRIC_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct fabric;
struct event_bus; /* fabric/event.h: the API subscribes to it */

/* What ferryd reads from its command line and /etc/ferry/ferry.json. Strings are copied. */
struct fabric_config {
	const char *host;      /* this host's name; NULL: the hostname */
	const char *address;   /* address other hosts reach it at; NULL: one host alone */
	const char *run_dir;   /* /run/ferry */
	const char *state_dir; /* /var/lib/ferry */
	const char *bin_dir;   /* where ferry-oci, ferry-shim, ferry-vold, ferry-checkpoint are */
	const char *cgroup_parent; /* "ferry" */
	int64_t memory_bytes;	   /* for all containers here, when one wants to come; 0: any */
	/* As in struct image_registries; borrowed until fabric_close(). */
	const char *const *insecure_registries, *const *registry_mirrors;
	const char *registry_certs;
	const char *ceph_conf, *ceph_user, *ceph_pool, *ceph_state_pool; /* NULL: no Ceph */
};

/*
 * Opens stores and parts, joins the cluster if this host is a member, finds running
 * containers again and finishes or undoes interrupted migrations. Starts the threads
 * that watch documents.
 */
int fabric_open(const struct fabric_config *config, struct fabric **out, struct error *err);

/* Stops the threads. Containers, volumes and networks go on. */
void fabric_close(struct fabric *f);

struct event_bus *fabric_events(struct fabric *f);
const char *fabric_host(const struct fabric *f);

/* --- cluster and hosts -------------------------------------------------------------- */

/* Makes this host the first of a new cluster. EALREADY where it is in one. */
int fabric_cluster_init(struct fabric *f, json_t **out, struct error *err);
/* {"Id","Host","Hosts","Store",...} ; ENOENT where there is no cluster. */
int fabric_cluster_info(struct fabric *f, json_t **out, struct error *err);
/* A join token: {"Token","Expires"} */
int fabric_cluster_token(struct fabric *f, int64_t ttl_s, json_t **out, struct error *err);
/* Joins this host to the cluster that answers at `address` ("10.0.0.1" or with :port). */
int fabric_cluster_join(struct fabric *f, const char *address, const char *token, json_t **out,
			struct error *err);
/* [{"Name","Address","State","Cpus","MemoryBytes","Kernel","Containers",...}] */
int fabric_host_list(struct fabric *f, json_t **out, struct error *err);

/* --- images -------------------------------------------------------------------------- */

int fabric_image_load(struct fabric *f, int fd, json_t **names, struct error *err);
int fabric_image_list(struct fabric *f, json_t **out, struct error *err);
int fabric_image_inspect(struct fabric *f, const char *ref, json_t **out, struct error *err);
int fabric_image_history(struct fabric *f, const char *ref, json_t **out, struct error *err);
int fabric_image_tag(struct fabric *f, const char *ref, const char *name, struct error *err);
/* EBUSY where a container uses it, unless force; [{"Untagged"},{"Deleted"}] */
int fabric_image_remove(struct fabric *f, const char *ref, bool force, json_t **out,
			struct error *err);
int fabric_image_save(struct fabric *f, const char *const *refs, size_t n, int fd,
		      struct error *err);

/* Between this host and a registry; runtime/image/image.h has the lines and results. */
struct fabric_transfer {
	const json_t *login; /* Docker's AuthConfig; NULL: nobody */
	const char *arch;    /* NULL: the host's */
	void (*progress)(void *ctx, json_t *line);
	bool (*stop)(void *ctx);
	void *ctx;
};
/* Layers that another host of the cluster has come from there. */
int fabric_image_pull(struct fabric *f, const char *ref, const struct fabric_transfer *t,
		      json_t **result, struct error *err);
int fabric_image_push(struct fabric *f, const char *ref, const struct fabric_transfer *t,
		      json_t **result, struct error *err);
int fabric_image_distribution(struct fabric *f, const char *ref, const json_t *login, json_t **out,
			      struct error *err);
/* EACCES: the registry at `host` does not take this login. */
int fabric_image_login(struct fabric *f, const char *host, const json_t *login, struct error *err);

/* An image made here: of a container's changes, or of a tar of files. */
struct fabric_commit {
	const char *name; /* "name[:tag]"; NULL: none */
	const char *author, *comment, *created_by;
	const json_t *config; /* how it is run; NULL: as the image below */
	bool pause;	      /* the container stands still meanwhile */
};
int fabric_image_import(struct fabric *f, const struct fabric_commit *c, int fd, char **id,
			struct error *err);

/* --- containers ----------------------------------------------------------------------- */
/* `ref` is a name, an id, or an unambiguous beginning of an id. */

/*
 * body: POST /containers/create. name NULL: one is made up. Checks everything, makes
 * missing named volumes, reserves name, addresses and ports, and writes the document;
 * nothing runs yet. *out: {"Id","Warnings":[]}. ENOENT "No such image: x" where the
 * image is on no host of the cluster, EEXIST for a name in use.
 */
int fabric_container_create(struct fabric *f, const char *name, const json_t *body, json_t **out,
			    struct error *err);
/* 0 also where it runs already; *already then is true (may be NULL). */
int fabric_container_start(struct fabric *f, const char *ref, bool *already, struct error *err);
/* timeout_s < 0: the container's own (default 10). *already: it was not running. */
int fabric_container_stop(struct fabric *f, const char *ref, int timeout_s, bool *already,
			  struct error *err);
int fabric_container_restart(struct fabric *f, const char *ref, int timeout_s, struct error *err);
/* signal: "KILL", "SIGTERM", "15"; NULL: KILL. EBUSY (409) where it is not running. */
int fabric_container_kill(struct fabric *f, const char *ref, const char *signal, struct error *err);
int fabric_container_pause(struct fabric *f, const char *ref, struct error *err);
int fabric_container_unpause(struct fabric *f, const char *ref, struct error *err);
int fabric_container_rename(struct fabric *f, const char *ref, const char *name, struct error *err);
int fabric_container_remove(struct fabric *f, const char *ref, bool force, bool volumes,
			    struct error *err);
int fabric_container_update(struct fabric *f, const char *ref, const json_t *resources,
			    struct error *err);

enum fabric_wait { FABRIC_WAIT_NOT_RUNNING, FABRIC_WAIT_NEXT_EXIT, FABRIC_WAIT_REMOVED };
/* Blocks; follows the container to another host. */
int fabric_container_wait(struct fabric *f, const char *ref, enum fabric_wait until, int *exit_code,
			  struct error *err);
/*
 * The same in steps, for a caller that must know the wait has begun before it goes on, or
 * may give it up: begin (what happens from now on is seen), wait, end (frees). cancel may
 * come from any thread between begin and end: fabric_wait_for() then gives -ECANCELED.
 */
struct fabric_waiter;
int fabric_wait_begin(struct fabric *f, const char *ref, enum fabric_wait until,
		      struct fabric_waiter **out, struct error *err);
int fabric_wait_for(struct fabric_waiter *w, int *exit_code, struct error *err);
void fabric_wait_cancel(struct fabric_waiter *w);
void fabric_wait_end(struct fabric_waiter *w);
/*
 * The id a ref stands for (65 bytes), checked at once; so that a wait can flush its
 * headers before it blocks. ENOENT "No such container: x".
 */
int fabric_container_resolve(struct fabric *f, const char *ref, char id[65], struct error *err);

/* Docker's ContainerJSON / list rows, with "ferry.host" among the labels. */
int fabric_container_inspect(struct fabric *f, const char *ref, json_t **out, struct error *err);
/* filters: Docker's {"status":["running"],…} or NULL. */
int fabric_container_list(struct fabric *f, bool all, const json_t *filters, json_t **out,
			  struct error *err);
int fabric_container_stats(struct fabric *f, const char *ref, json_t **out, struct error *err);
/* Files: paths and results as in runtime/container/container.h. */
int fabric_archive_stat(struct fabric *f, const char *ref, const char *path, json_t **out,
			struct error *err);
int fabric_archive_get(struct fabric *f, const char *ref, const char *path, int fd,
		       struct error *err);
int fabric_archive_put(struct fabric *f, const char *ref, const char *path, int fd, bool keep_kind,
		       struct error *err);
int fabric_container_export(struct fabric *f, const char *ref, int fd, struct error *err);
int fabric_container_changes(struct fabric *f, const char *ref, json_t **out, struct error *err);
/* *id: "sha256:..." (caller frees). */
int fabric_container_commit(struct fabric *f, const char *ref, const struct fabric_commit *c,
			    char **id, struct error *err);
int fabric_container_top(struct fabric *f, const char *ref, const char *ps_args, json_t **out,
			 struct error *err);
int fabric_container_resize(struct fabric *f, const char *ref, int rows, int cols,
			    struct error *err);

struct fabric_log_options {
	bool follow, out, err, timestamps;
	int64_t since_ns, until_ns; /* 0: no bound */
	long tail;		    /* -1: all */
};
/* stream: 1 stdout, 2 stderr; a sink that returns non-zero ends it. */
typedef int fabric_log_sink(void *ctx, int stream, const void *data, size_t len);
int fabric_container_logs(struct fabric *f, const char *ref,
			  const struct fabric_log_options *options, fabric_log_sink *sink,
			  void *ctx, struct error *err);

struct fabric_attach {
	bool in, out, err, logs;
};
/*
 * A connected socket to the container's stdio with the frames that
 * runtime/container/shim.h describes (or the raw stream where it has a tty: *tty).
 * Only on the host where the container runs; EXDEV with a message naming the host else.
 */
int fabric_container_attach(struct fabric *f, const char *ref, const struct fabric_attach *what,
			    int *sock, bool *tty, struct error *err);

/* body: POST /containers/x/exec. *out: {"Id"} */
int fabric_exec_create(struct fabric *f, const char *ref, const json_t *body, json_t **out,
		       struct error *err);
/* Starts it; sock NULL: detached. */
int fabric_exec_start(struct fabric *f, const char *exec_id, int *sock, bool *tty,
		      struct error *err);
int fabric_exec_resize(struct fabric *f, const char *exec_id, int rows, int cols,
		       struct error *err);
int fabric_exec_inspect(struct fabric *f, const char *exec_id, json_t **out, struct error *err);

/* --- volumes -------------------------------------------------------------------------- */

/* body: {"Name","Driver","DriverOpts":{"size":"10g","fs":"ext4"},"Labels"} */
int fabric_volume_create(struct fabric *f, const json_t *body, json_t **out, struct error *err);
int fabric_volume_list(struct fabric *f, json_t **out, struct error *err);
int fabric_volume_inspect(struct fabric *f, const char *name, json_t **out, struct error *err);
int fabric_volume_remove(struct fabric *f, const char *name, bool force, struct error *err);

/* --- networks ------------------------------------------------------------------------- */

/* body: {"Name","Driver","IPAM":{"Config":[{"Subnet","Gateway"}]},"Labels","Options"} ; *out:
 * {"Id","Warning"} */
int fabric_network_create(struct fabric *f, const json_t *body, json_t **out, struct error *err);
int fabric_network_list(struct fabric *f, json_t **out, struct error *err);
int fabric_network_inspect(struct fabric *f, const char *ref, json_t **out, struct error *err);
int fabric_network_remove(struct fabric *f, const char *ref, struct error *err);

/* --- migration ------------------------------------------------------------------------ */

struct fabric_migrate_options {
	int64_t downtime_ns;   /* blackout budget; 0: 50 ms */
	int64_t timeout_ns;    /* of pre-copy; 0: 120 s */
	bool force_on_timeout; /* --on-timeout=force: go on although it does not converge */
	bool postcopy;	       /* run at the destination after one round; the rest follows */
	bool late_on_timeout;  /* --on-timeout=postcopy: the same where rounds do not help */
	bool no_auto_converge; /* do not throttle the container */
	bool verify;	       /* checksum everything on both sides before the commit */
	bool check;	       /* only preflight */
	int streams;	       /* connections for memory; 0: as many as are of use */
	char tracker[12];      /* dirty tracker ("uffd", "softdirty", "none"); "": the best */
};
/*
 * Called in the caller's thread with progress documents:
 *   {"State":"PRECOPY","Round":1,"SentBytes","RateBps","DirtyBytes","DirtyRateBps","PredictedNs"}
 *   {"State":"THROTTLE","Percent"}: auto-converge takes that part of its CPU time
 *   {"State":"POSTCOPY","LeftBytes","LateBytes","Wanted"}
 * and at last the summary, which is also *out:
 *   {"Id","Container","From","To","TotalNs","Rounds","Bytes","MemoryBytes","BlackoutNs",
 *    "Split":{"FreezeNs","StorageNs","MemoryNs","RestoreNs","NetworkNs","CommitNs","OtherNs"},
 *    "Verified":bool,"Cold":bool,
 *    "PostCopy":{"Ns","Bytes","Faults","MedianNs","MaxNs","ZeroFaults"} where it was,
 *    "Engine":{"dump":{…},"restore":{…}}}: the engines' own timings, see control.h
 * Of the split, Storage and Memory are side by side; with the longer of them all the others
 * add up to the blackout. Other is what has no name: messages, waiting for a processor.
 */
typedef void fabric_progress(void *ctx, const json_t *progress);
int fabric_migrate(struct fabric *f, const char *ref, const char *host,
		   const struct fabric_migrate_options *options, fabric_progress *progress,
		   void *ctx, json_t **out, struct error *err);
/* [{"Id","Container","From","To","State","Started"}] that are under way. */
int fabric_migration_list(struct fabric *f, json_t **out, struct error *err);

/* {"Containers","ContainersRunning","Images","Driver",...} for GET /info. */
int fabric_info(struct fabric *f, json_t **out, struct error *err);

#endif
