/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes: block devices with a file system that outlive containers and, with driver
 * `rbd`, follow them from host to host. This is the contract of the part: everything
 * above (fabric) uses only this header. Behind it are drivers (volumes/driver.h); the
 * driver `rbd` runs one ferry-vold process per attached volume, which survives ferryd.
 *
 *            attach RW                    freeze, demote
 *   detached ─────────► rw ─────────────────────────────► demoted (no write lands)
 *      │   attach RO ─► ro                ◄──── retake ────┘
 *      │                                   then thaw
 *      └─ attach STANDBY ─► standby ── promote ──────────► rw
 *                              │  ▲
 *             promote tentative▼  │abandon
 *                            tentative ──── settle ──────► rw
 *
 * A hand-over in the blackout of a migration:
 *   A: volume_sync (during pre-copy), volume_freeze, volume_demote
 *   B: volume_promote(tentative), volume_mount
 * or, in less time, the lock changing hands while B mounts:
 *   A: volume_freeze, volume_quiesce ┬─────────────────► volume_demote ─┐
 *   B:                               └► volume_preview, volume_mount    └► volume_claim
 *   commit:  B: volume_settle          A: kill the tasks, volume_detach (it thaws,
 *                                         unmounts; nothing of it can be written)
 *   undo:    B: volume_unmount, volume_abandon, volume_detach
 *            A: volume_retake, volume_thaw
 *
 * Any call may come from any thread; calls about one volume are serialised, calls about
 * different volumes run at the same time. Attach, mount, freeze, demote, promote, settle,
 * abandon, thaw, unmount and detach are idempotent: what is already so succeeds. There
 * is no count of users: who lets several containers use one volume counts them.
 * All functions return 0 or -errno with `err` set; json_t * outputs are new references,
 * char * outputs are freed by the caller.
 */
#ifndef FERRY_VOLUMES_VOLUME_H
#define FERRY_VOLUMES_VOLUME_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct volumes; /* one per ferryd */

struct volumes_config {
	const char *run_dir;   /* "/run/ferry": sockets and state of running volds, mounts */
	const char *state_dir; /* "/var/lib/ferry": files of driver local */
	const char *vold_path; /* ferry-vold; NULL: beside the running program, else in PATH */
	const char *host;      /* name of this host, unique in the cluster */
	const char *ceph_conf; /* NULL: /etc/ceph/ceph.conf */
	const char *ceph_user; /* "admin" of client.admin; NULL: admin */
	const char *pool;      /* NULL: no Ceph, only driver local */
};

/* Modes of attachment. */
enum volume_mode {
	VOLUME_RW,	/* exclusive: the lock is taken */
	VOLUME_RO,	/* read-only, shared with other hosts that read */
	VOLUME_STANDBY, /* device present, no lock, reads allowed: ready to be promoted */
};

/*
 * Finds again what runs: volds of an earlier ferryd (run_dir/vold/NAME.json) are simply
 * reconnected. Does not wait for Ceph: it is dialled at the first call that needs it.
 */
int volumes_open(const struct volumes_config *config, struct volumes **out, struct error *err);
/* Frees the handle; running volds and mounts stay as they are. NULL is fine. */
void volumes_close(struct volumes *vs);

/* --- life of a volume ------------------------------------------------------------- */

/*
 * driver: "rbd", "local", NULL for the default (rbd with a pool, else local). opts (may be
 * NULL): "size" ("10GiB" or bytes; default 10GiB, thin), "fs" (ext4, xfs, none; default
 * ext4), "labels" {..}; rbd alone: "features" (["object-map","fast-diff","journaling"]
 * beyond layering,exclusive-lock), "data_pool". Also taken as Docker's DriverOpts, i.e.
 * strings. Makes the file system as well. EEXIST, EINVAL (names the option).
 */
int volume_create(struct volumes *vs, const char *driver, const char *name, json_t *opts,
		  struct error *err);
/* Refuses (EBUSY, names the host) while attached anywhere, or while snapshots exist. */
int volume_remove(struct volumes *vs, const char *name, struct error *err);
/* Array of what volume_inspect() gives, without the parts that ask each volume's lock. */
int volume_list(struct volumes *vs, json_t **out, struct error *err);
/*
 * Docker's Volume object: Name, Driver, Mountpoint, CreatedAt, Labels, Options, Scope, and
 * Status: {"mode": here: "detached" "rw" "ro" "standby" "tentative" "settling" "demoted"
 * "failed", "error": why it failed, "mounted", "frozen", "device", "pid", "size_bytes",
 * "fs", "host": which host may write (null: none), "owner": its RADOS address,
 * "attachments": [{"host","mode","address"}..], "tentative_bytes"}. ENOENT: no such volume.
 */
int volume_inspect(struct volumes *vs, const char *name, json_t **out, struct error *err);
/* Grows (shrinking: EINVAL), attached here read-write or nowhere; the file system too. */
int volume_resize(struct volumes *vs, const char *name, uint64_t size_bytes, struct error *err);

int volume_snapshot_create(struct volumes *vs, const char *name, const char *snap,
			   struct error *err);
/* [{"Name","CreatedAt","size_bytes"}..], oldest first. */
int volume_snapshot_list(struct volumes *vs, const char *name, json_t **out, struct error *err);
/*
 * EBUSY, with their names, while clones hang on it; with `detach` it goes all the same: Ceph
 * keeps what the clones need of it out of sight, until the last of them is gone.
 */
int volume_snapshot_remove(struct volumes *vs, const char *name, const char *snap, bool detach,
			   struct error *err);
/* Names of the volumes that are clones of a snapshot (NULL: of any one, hidden ones too). */
int volume_snapshot_clones(struct volumes *vs, const char *name, const char *snap, json_t **out,
			   struct error *err);
/* Only while the volume is attached nowhere (EBUSY). */
int volume_snapshot_rollback(struct volumes *vs, const char *name, const char *snap,
			     struct error *err);
/* A new, independent volume `clone` with the content of name@snap (copy-on-write). */
int volume_clone(struct volumes *vs, const char *name, const char *snap, const char *clone,
		 struct error *err);

/* --- attachment to this host -------------------------------------------------------- */

/*
 * RW: EBUSY naming the host while another one holds the lock or reads. Already attached
 * in that mode: 0; in another mode: EBUSY.
 */
int volume_attach(struct volumes *vs, const char *name, enum volume_mode mode, struct error *err);
/*
 * Unmounts when mounted, ends the vold, releases the lock. EBUSY while a file system is
 * still in use on a volume that may write; demoted, standby, tentative (abandoned first)
 * or failed volumes are always taken down: nothing of them can be written. Cleans what a
 * killed vold left. Not attached: 0.
 */
int volume_detach(struct volumes *vs, const char *name, struct error *err);
/* Path of the block device ("/dev/loop3"). EINVAL while not attached. */
int volume_device(struct volumes *vs, const char *name, char **device, struct error *err);

/*
 * Mounts at run_dir/volumes/NAME (RO and standby: not standby; RO read-only). fs=none:
 * EINVAL (use volume_device). volume_unmount: EBUSY while something uses it.
 */
int volume_mount(struct volumes *vs, const char *name, char **path, struct error *err);
int volume_unmount(struct volumes *vs, const char *name, struct error *err);

/* syncfs(2), so that little is left to write when it is frozen. */
int volume_sync(struct volumes *vs, const char *name, struct error *err);
/*
 * FIFREEZE: afterwards the file system is clean on disk, acknowledged by Ceph, and every
 * write waits for volume_thaw(). Cheap again and again; thaw of what is not frozen: 0.
 */
int volume_freeze(struct volumes *vs, const char *name, struct error *err);
int volume_thaw(struct volumes *vs, const char *name, struct error *err);

/* --- hand-over ------------------------------------------------------------------------ */

/*
 * rw → demoted: in-flight writes are drained and flushed, the lock is released; from the
 * return on no write of this host reaches the image until volume_retake(). When it fails
 * the volume is rw as before (or failed, see inspect).
 */
int volume_demote(struct volumes *vs, const char *name, struct error *err);
/*
 * As volume_demote(), but the lock is kept until that is called: the content is final, and
 * another host may volume_preview() it meanwhile. volume_retake() leads back.
 */
int volume_quiesce(struct volumes *vs, const char *name, struct error *err);
/*
 * demoted → rw: takes the lock again. ESTALE when another host has written in between
 * (what this host caches is then wrong: detach and attach), EBUSY while it still may.
 */
int volume_retake(struct volumes *vs, const char *name, struct error *err);

/*
 * standby → rw, or tentative: takes the lock and drops what this host has cached of the
 * device. Tentative: everything written stays in the vold's memory (a bounded overlay;
 * past the bound writes wait) until volume_settle() or volume_abandon(); flushes are
 * acknowledged at once. EBUSY while another host holds the lock.
 */
int volume_promote(struct volumes *vs, const char *name, bool tentative, struct error *err);
/*
 * standby → tentative without the lock, of a volume that another host has quiesced: only the
 * caller knows that it is, so this needs its word. volume_claim() then takes the lock (EBUSY
 * while the other host has it still) and must have succeeded before the commit.
 */
int volume_preview(struct volumes *vs, const char *name, struct error *err);
int volume_claim(struct volumes *vs, const char *name, struct error *err);
/* tentative → rw: what was buffered is written in order and flushed. rw: 0. */
int volume_settle(struct volumes *vs, const char *name, struct error *err);
/* tentative → standby: what was buffered is dropped, the lock released. Unmount first. */
int volume_abandon(struct volumes *vs, const char *name, struct error *err);

/*
 * After it returned, no write of `host` reaches any volume: all its RADOS clients are
 * blocklisted for 20 years and their locks broken. A host that has only been paused finds
 * its volumes failed (EIO). Unknown host or nothing to fence: 0. Own host: EINVAL.
 */
int volume_fence(struct volumes *vs, const char *host, struct error *err);

#endif
