/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints: a running container with its memory, its writable layer and its volumes as
 * they all were at one instant, kept; and containers made from one. Part of fabric.h's
 * contract: the API includes this too.
 *
 * A checkpoint is named by its id, by its name where only one container has one so
 * named, or as "CONTAINER:NAME".
 */
#ifndef FERRY_FABRIC_CHECKPOINT_H
#define FERRY_FABRIC_CHECKPOINT_H

#include "fabric/fabric.h"

/* Data of a checkpoint that --output took out of the cluster is in a file: "exported". */

/*
 * Freezes the container once; in that freeze its memory, writable layer and volumes
 * (snapshots) are taken. Without `leave_running` it is killed afterwards and is exited.
 * On failure it runs on, and nothing is left. *out: what fabric_checkpoint_inspect() gives,
 * with "PauseNs", "TotalNs" and "Rounds". Progress: {"State":"CHECK|COPY|FREEZE|KEEP|STOP"} and the
 * rounds of fabric_migrate().
 * EEXIST: it has one of this name. EPROTO: something of it cannot be kept. ENOSPC.
 */
int fabric_checkpoint_create(struct fabric *f, const char *container, const char *name,
			     bool leave_running, fabric_progress *progress, void *ctx, json_t **out,
			     struct error *err);

/*
 * [{"Id","Name","Container","ContainerId","CreatedAt","Image","Bytes","Place":"rados|file|
 * exported","Host" (where it was taken),"Volumes":[{"Name","Destination","Snapshot"}]}],
 * oldest first. container NULL: all.
 */
int fabric_checkpoint_list(struct fabric *f, const char *container, json_t **out,
			   struct error *err);
/* The same of one, and "Engine": what `ferry-checkpoint --inspect` says. */
int fabric_checkpoint_inspect(struct fabric *f, const char *ref, json_t **out, struct error *err);

/* With its snapshots. EBUSY, with their names, while volumes are clones of these. */
int fabric_checkpoint_remove(struct fabric *f, const char *ref, struct error *err);

/*
 * As one file into fd: what fabric_restore_file() takes. fabric_checkpoint_exported(): it is
 * safely there, so the bytes that the cluster keeps go; the document stays (as "exported")
 * as long as there are snapshots to be removed with it.
 */
int fabric_checkpoint_export(struct fabric *f, const char *ref, int fd, struct error *err);
int fabric_checkpoint_exported(struct fabric *f, const char *ref, struct error *err);

struct fabric_restore_options {
	const char *name; /* of the new container; NULL: the old one again */
	const char *host; /* NULL: this host */
	bool rollback;	  /* the volumes themselves go back, instead of clones of them */
};
/*
 * A container from a checkpoint. With a name: a new one with an id, addresses and volumes
 * of its own; its connections are reset. Without: the old container, which must be stopped
 * or gone, under its name, id and addresses, with its connections. *out: {"Container",
 * "Id","Host","Checkpoint","TotalNs","Volumes":[{"Name","From"}],"Addresses":[…]}.
 * Progress: {"State":"CHECK|FETCH|VOLUMES|BUILD|COMMIT"}. On failure nothing is changed.
 */
int fabric_restore(struct fabric *f, const char *ref, const struct fabric_restore_options *options,
		   fabric_progress *progress, void *ctx, json_t **out, struct error *err);
/* The same from a file (to its end). EKEYREJECTED: not signed by a host of this cluster. */
int fabric_restore_file(struct fabric *f, int fd, const struct fabric_restore_options *options,
			fabric_progress *progress, void *ctx, json_t **out, struct error *err);

/*
 * A running container forked: a checkpoint that leaves it running, restored under a new name
 * (NULL: NAME-clone), and removed.
 */
int fabric_clone(struct fabric *f, const char *container,
		 const struct fabric_restore_options *options, fabric_progress *progress, void *ctx,
		 json_t **out, struct error *err);

#endif
