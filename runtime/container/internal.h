/* SPDX-License-Identifier: Apache-2.0 */
/* The manager's own structures; only files of this folder include it. */
#ifndef FERRY_CONTAINER_INTERNAL_H
#define FERRY_CONTAINER_INTERNAL_H

#include <pthread.h>

#include "base/error.h"
#include "base/json.h"
#include "runtime/container/container.h"

enum status { CREATED, STARTING, RUNNING, EXITED };

/* An attach that came before the start: the other end of what the caller holds. */
struct pending {
	struct pending *next;
	int fd;
	bool in, out, err;
};

struct container {
	struct container *next;
	char *id;
	unsigned refs; /* under m->lock */
	bool removed;
	pthread_mutex_t op; /* start, remove, update, rename: one at a time; before m->lock */
	/* Below: under m->lock. doc is what container.json holds. */
	json_t *doc;
	enum status status;
	bool stub;
	pid_t pid;
	uint64_t ticks; /* start time of pid */
	json_t *stdio;
	unsigned long ends; /* how often it has ended */
	bool unreported;    /* its end has yet to be told by the exit callback */
	int watch;	    /* connection to the shim on which its end shows; -1 */
	struct pending *pending;
};

struct exec {
	struct exec *next;
	char *id, *container;
	json_t *config;
	bool started, done;
	int exit_code;
	pid_t pid;
};

struct container_manager {
	char *run_dir, *state_dir, *oci, *shim, *parent, *oci_root;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct container *containers;
	struct exec *execs;
	container_exit_fn *on_exit;
	void *on_exit_ctx;
	pthread_t watcher;
	int wake, epoll;
	bool stopping;
};

/* Finds and takes a reference; ENOENT "No such container". Give it back with put(). */
struct container *container_get(struct container_manager *m, const char *id, struct error *err);
void container_put(struct container_manager *m, struct container *c);

char *container_dir(const struct container_manager *m, const char *id, const char *file);
char *container_run(const struct container_manager *m, const char *id, const char *file);
char *container_cgroup(const struct container_manager *m, const char *id);

/* Writes container.json; m->lock is held. */
int container_save(struct container_manager *m, struct container *c, struct error *err);

/* life.c: the container has ended: status, cleanup, callback. From the watcher. */
/* Has it ever been started? Then what is left of it has ended, else it is as created. */
bool container_has_run(const struct container *c);
void container_ended(struct container_manager *m, struct container *c);
/* life.c: ferry-oci delete --force, and the rootfs is unmounted. */
int container_cleanup(struct container_manager *m, const char *id, struct error *err);
void container_drop_pending(struct container *c);
void container_set_now(json_t *doc, const char *key);
int container_write_file(const char *path, const char *text, struct error *err);
/* Runs ferry-oci with these arguments (NULL-terminated). */
int container_oci(struct container_manager *m, const char *const args[], struct error *err);
/* manager.c: watches the shim of c from now on (takes the fd). */
void container_watch(struct container_manager *m, struct container *c, int fd);

/* client.c: talking to a shim. A connection, or -errno. */
int shim_connect(const struct container_manager *m, const char *id, struct error *err);
/* Sends a request, with `fd` attached where it is not -1 (takes req). */
int shim_send(int sock, json_t *req, int fd, struct error *err);
/* The answer to it; a refusal becomes err. */
int shim_answer(int sock, json_t **out, struct error *err);
int shim_resize(struct container_manager *m, const char *id, const char *proc, unsigned rows,
		unsigned cols, struct error *err);
int shim_ask(int sock, json_t *req, json_t **out, struct error *err);

/* rootfs.c */
int rootfs_mount(struct container_manager *m, const char *id, const json_t *lower,
		 struct error *err);
int rootfs_unmount(struct container_manager *m, const char *id, struct error *err);
int rootfs_copy_up(const char *rootfs, const struct container_mount *mount, struct error *err);

/* inspect.c: a file of the container's group in the hierarchy of a v1 controller, or "" for
 * v2 (caller frees; NULL where there is none). */
char *group_file(const char *controller, const char *path, const char *file);
char *group_read(const char *controller, const char *path, const char *file);
bool group_frozen(const char *path);

#endif
