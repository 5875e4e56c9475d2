/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers on one host: from Docker's create body to a running process and back.
 * This header is the contract; fabric and api use nothing else of this folder except
 * shim.h, which documents the frames on the sockets handed out here.
 *
 *     state_dir/containers/ID/   container.json (what it is), bundle/config.json,
 *                                upper/ work/ rootfs/ (overlay), ID-json.log, exit.json,
 *                                hostname hosts resolv.conf (bound into /etc)
 *     run_dir/containers/ID/     shim.sock, pid files
 *     run_dir/oci/ID/            ferry-oci's state
 *
 * One ferry-shim per started container is the parent of its init and outlives this
 * process. container_manager_open() finds everything again: containers that ran go on
 * running, those that ended meanwhile have their true exit status.
 *
 * The manager knows one host only: names, networks, restart policies, health checks and
 * who owns a container are the caller's. An id is what the caller gave to
 * container_create(), whole, never a prefix.
 *
 * Threads: every function may be called from any thread at any time. One lock guards
 * the table of containers and is never held while a process is waited for; starting,
 * removing and updating one container are serialised by a lock of its own.
 *
 * Errors: 0 or a negative errno with one sentence in `err`. ENOENT: "No such container:
 * x". EINVAL: something the create body asks for that ferry does not honour, named.
 * EBUSY/EALREADY: the container is not in the state the call needs.
 */
#ifndef FERRY_CONTAINER_H
#define FERRY_CONTAINER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct container_manager;

struct container_config {
	const char *run_dir;	   /* /run/ferry */
	const char *state_dir;	   /* /var/lib/ferry */
	const char *oci_path;	   /* the ferry-oci program */
	const char *shim_path;	   /* the ferry-shim program */
	const char *cgroup_parent; /* "ferry": containers live in /ferry/ID of every hierarchy */
};

/* Opens the folders, reads all containers, reconnects to their shims. Strings are copied. */
int container_manager_open(const struct container_config *config, struct container_manager **out,
			   struct error *err);
/* Leaves all containers running and frees everything; no other call may be running. */
void container_manager_close(struct container_manager *m);

/*
 * Called from a manager thread, without locks, once for each container that ends, after
 * its exit status is on disk and its rootfs is unmounted. Also called for containers
 * that ended while nobody watched, soon after container_on_exit(). One callback a manager.
 */
typedef void container_exit_fn(void *ctx, const char *id, int exit_code);
int container_on_exit(struct container_manager *m, container_exit_fn *fn, void *ctx);

/* --- life ---------------------------------------------------------------------------- */

/*
 * Checks and stores a container; nothing is mounted or started.
 * docker: the body of POST /containers/create (Config fields with HostConfig inside; the
 *   parts that belong to others are accepted and ignored here: NetworkingConfig, and in
 *   HostConfig NetworkMode, PortBindings, RestartPolicy, Binds, Mounts, VolumesFrom, …:
 *   volumes come as container_start_params.mounts).
 * image: what image_get() gives (its "Id" and "Config" are used); borrowed, as is docker.
 * lower: unpacked layers for overlayfs, topmost first (image_lower_dirs()).
 * name: shown in inspect, and the default hostname is the first 12 characters of the id.
 * EEXIST: the id is there already.
 */
int container_create(struct container_manager *m, const char *id, const char *name, json_t *docker,
		     json_t *image, char *const *lower, size_t nlower, struct error *err);

/*
 * The same checks without creating anything, for an API that wants to say "bad request"
 * before it pulls, places or migrates. Pure.
 */
int container_check(json_t *docker, json_t *image, struct error *err);

struct container_mount {
	const char *source;	 /* on the host: a mounted volume's folder, a folder, a file */
	const char *destination; /* absolute, inside; made when missing */
	bool readonly;
	/*
	 * An empty source folder (lost+found aside) is first filled with what the image has
	 * at destination, owner and mode of the folder itself included, as Docker does for
	 * new volumes. Never with stub.
	 */
	bool copy_up;
};

struct container_time_offsets {
	bool set; /* false: the clocks of this host (a time namespace is made all the same) */
	/* Added to this host's *initial* clocks, as in /proc/PID/timens_offsets. */
	int64_t mono_ns, boot_ns;
};

struct container_start_params {
	const char *netns;	 /* path of a network namespace; NULL: the host's network */
	const char *hostname;	 /* NULL: Docker's Hostname field, else id[0..12] */
	const char *resolv_conf; /* contents; NULL: a copy of the host's */
	const char *hosts;	 /* contents; NULL: localhost lines, own hostname, ExtraHosts */
	const struct container_mount *mounts;
	size_t nmounts;
	bool stub; /* for a restore: init is `ferry-oci create --stub`, and stays "created" */
	struct container_time_offsets time_offsets;
};

/*
 * Mounts the root file system, starts shim and init; returns once init runs the user's
 * program (or, with stub, waits to be seized). Allowed in states created and exited.
 * init: its pid in this process's pid namespace. On failure nothing is left running or
 * mounted. The error of a program that is not there reads as Docker's, with err->code
 * ENOENT (docker exit status 127) or EACCES (126).
 */
int container_start(struct container_manager *m, const char *id,
		    const struct container_start_params *params, pid_t *init, struct error *err);

/*
 * The engine has turned the stub into the restored init. begin is called before that is let
 * run: from then on the container is "running", and an end, however soon, is its end. It
 * is quick: nothing is written.
 * container_adopt() does the rest (and the first, if need be) afterwards; both can be
 * repeated.
 */
int container_adopt_begin(struct container_manager *m, const char *id, struct error *err);
int container_adopt(struct container_manager *m, const char *id, struct error *err);

int container_kill(struct container_manager *m, const char *id, int signo, struct error *err);

/*
 * StopSignal, then SIGKILL after timeout_s (negative: the container's StopTimeout, else
 * 10). Returns when it has ended; 0 also when it was not running. A paused one is thawed.
 */
int container_stop(struct container_manager *m, const char *id, int timeout_s, struct error *err);

/* By the cgroup freezer; "paused" is also what a container frozen by the engine shows. */
int container_pause(struct container_manager *m, const char *id, struct error *err);
int container_unpause(struct container_manager *m, const char *id, struct error *err);

/* Blocks until it is not running (at once when it is not); Docker's exit code. */
int container_wait(struct container_manager *m, const char *id, int *exit_code, struct error *err);
/* Blocks until it ends the next time, also when it has yet to start ("next-exit"); a start
 * that fails counts as an end. */
int container_wait_next(struct container_manager *m, const char *id, int *exit_code,
			struct error *err);

/* Removes one that is not running (a half-built stub is killed), its files and cgroups. */
int container_remove(struct container_manager *m, const char *id, struct error *err);
int container_rename(struct container_manager *m, const char *id, const char *name,
		     struct error *err);
/* Body of POST /containers/ID/update: resource fields of HostConfig; others are refused. */
int container_update(struct container_manager *m, const char *id, json_t *resources,
		     struct error *err);

/* Why it ended, where somebody knows more than its exit code tells: State.Error. */
void container_set_error(struct container_manager *m, const char *id, const char *text);

/* --- looking ------------------------------------------------------------------------- */

/*
 * {"Id","Name","Status":"created|running|paused|exited","Pid" (0: none),"Stub","ExitCode",
 *  "Error","OOMKilled","CreatedAt","StartedAt","FinishedAt" (RFC 3339, "0001-01-01T00:00:00Z"
 *  for never),"Cgroup" ("/ferry/ID": below every v1 hierarchy and /sys/fs/cgroup/unified or
 *  the v2 root),"LogPath","Rootfs","Upper","Bundle","Tty","OpenStdin",
 *  "Stdio":[{"fd":0,"link":"/dev/null"|"pipe:[123]"|"/dev/pts/0"}, …3] (links of init's fds as
 *  /proc/PID/fd shows them; the first three "externals" of the checkpoint engine, [] when there
 *  is no shim),"TimeOffsets":{"mono_ns","boot_ns"},"Netns","Mounts":[{"Source","Destination",
 *  "RW"}],"Path","Args","Docker" (the create body),"Image" (id),"ExecIDs":[…]}
 */
int container_inspect(struct container_manager *m, const char *id, json_t **out, struct error *err);
int container_list(struct container_manager *m, json_t **ids, struct error *err);

/*
 * One sample: {"read","cpu":{"total_ns","user_ns","system_ns","throttled_periods",…},
 * "memory":{"usage","max_usage","limit","stats":{…}},"pids":{"current","limit"},"blkio":{…}}
 * in the shape of Docker's GET /containers/ID/stats ("cpu_stats", "memory_stats",
 * "pids_stats", "blkio_stats"), without networks and precpu_stats. Not running: empty stats.
 */
int container_stats(struct container_manager *m, const char *id, json_t **out, struct error *err);

/* {"Titles":[…],"Processes":[[…]…]}; ps_args NULL: "-ef". */
int container_top(struct container_manager *m, const char *id, const char *ps_args, json_t **out,
		  struct error *err);

struct container_log_options {
	bool follow; /* until the container ends */
	bool stdout_, stderr_;
	bool timestamps;	    /* RFC 3339 and a space in front of each line */
	int64_t since_ns, until_ns; /* CLOCK_REALTIME; 0: no bound */
	long tail;		    /* the last so many lines; negative: all */
};
/*
 * Calls sink(ctx, 1 or 2, bytes, n) per line, in order; a sink that returns non-zero ends
 * it with 0 (a client that went away). Follow also polls the sink with n = 0 about once a
 * second, so that a gone client is noticed.
 */
int container_logs(struct container_manager *m, const char *id,
		   const struct container_log_options *options,
		   int (*sink)(void *ctx, int stream, const void *p, size_t n), void *ctx,
		   struct error *err);

/* --- stdio --------------------------------------------------------------------------- */

struct container_attach_options {
	bool stdin_, stdout_, stderr_;
	bool logs; /* everything logged so far first */
};
/*
 * A connected stream socket in *sock (caller closes). Frames both ways as shim.h says;
 * frames of output are byte for byte Docker's multiplexed stream. Allowed before start: the
 * socket then comes alive with the container. EOF: it ended, and all output was delivered.
 */
int container_attach(struct container_manager *m, const char *id,
		     const struct container_attach_options *options, int *sock, struct error *err);
int container_resize(struct container_manager *m, const char *id, unsigned rows, unsigned cols,
		     struct error *err);

/* --- exec ---------------------------------------------------------------------------- */

/*
 * config: body of POST /containers/ID/exec (Cmd, Env, User, WorkingDir, Tty, Privileged,
 * AttachStdin, AttachStdout, AttachStderr). *exec_id: 64 hex digits (caller frees).
 */
int container_exec_create(struct container_manager *m, const char *id, json_t *config,
			  char **exec_id, struct error *err);
/*
 * Starts it. sock: frames as for attach, EOF when it ended; NULL: detached. ENOENT/EACCES:
 * program not found / not executable, as for container_start().
 */
int container_exec_start(struct container_manager *m, const char *exec_id, int *sock,
			 struct error *err);
/* {"ID","ContainerID","Running","ExitCode" (null: not ended),"Pid","ProcessConfig":{…},…} */
int container_exec_inspect(struct container_manager *m, const char *exec_id, json_t **out,
			   struct error *err);
int container_exec_resize(struct container_manager *m, const char *exec_id, unsigned rows,
			  unsigned cols, struct error *err);

/* --- mounts in a running container ----------------------------------------------------- */

/*
 * Clones the host's mount tree at `source` (open_tree) and moves it to `dest` (made when
 * missing, resolved inside the container's root) in the mount namespace of `pid`: for a
 * volume that can be mounted only after the stub exists. Needs no manager.
 */
int container_mount_into(pid_t pid, const char *source, const char *dest, bool readonly,
			 struct error *err);

/* --- files (files.c) ----------------------------------------------------------------- */

/*
 * Paths are Docker's: from the container's root, whatever they begin with; a trailing "/" or
 * "/." asks for the folder that a link leads to. In a running container they reach into
 * volumes, in a stopped one only into its own root, and it cannot start or be removed
 * while one of these is at work. ENOENT: "Could not find the file".
 */

/* {"name","size","mode" (of Go: os.FileMode),"mtime","linkTarget"} */
int container_path_stat(struct container_manager *m, const char *id, const char *path, json_t **out,
			struct error *err);
/* Writes what is at `path` to `fd` as a tar; unpacks the tar that comes from `fd` there. */
int container_archive_get(struct container_manager *m, const char *id, const char *path, int fd,
			  struct error *err);
/* keep_kind: EINVAL where a folder would be replaced by something else, or the reverse. */
int container_archive_put(struct container_manager *m, const char *id, const char *path, int fd,
			  bool keep_kind, struct error *err);
/* The root file system, without what is mounted in it, as a tar. */
int container_export(struct container_manager *m, const char *id, int fd, struct error *err);
/* What differs from the image, as a layer: a tar with whiteouts. */
int container_layer(struct container_manager *m, const char *id, int fd, struct error *err);
/* The same as [{"Path","Kind": 0 modified, 1 added, 2 deleted}]. */
int container_changes(struct container_manager *m, const char *id, json_t **out, struct error *err);

#endif
