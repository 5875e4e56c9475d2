/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of checkpoints and restores share.
 *
 * Documents (schema 1):
 *   checkpoints/CONTAINER.NAME  {"id","name","container","container_name","host","created_ns",
 *        "place":"rados|file|exported","bytes","image","image_ref","memory_bytes",
 *        "xsave_mask","clocks","stdio","doc" (the container's document), "volumes":[{"name",
 *        "destination","snapshot"}],"engine",…; "removing": host that removes it, or absent}
 *      Written last: until it is there, all else is rubbish.
 *   checkpoint-intents/ID       {"id","kind":"create|restore|clone","host",…}
 *      Written first, by the host that does the work, and removed last: what to undo, or to
 *      finish, when that host's ferryd was killed in between (checkpoint_recover.c).
 */
#ifndef FERRY_FABRIC_CHECKPOINT_INTERNAL_H
#define FERRY_FABRIC_CHECKPOINT_INTERNAL_H

#include "fabric/blob.h"
#include "fabric/checkpoint.h"
#include "fabric/engine.h"
#include "fabric/internal.h"
#include "fabric/migrate.h"

#define CHECKPOINT_NAME_MAX 128

/* --- checkpoint_doc.c ----------------------------------------------------------------- */

char *checkpoint_key(const char *container, const char *name);
/* From the store (new reference). ENOENT; EINVAL where a name is of several. */
int checkpoint_find(struct fabric *f, const char *ref, json_t **doc, struct error *err);
/* As it is shown. */
json_t *checkpoint_show(const json_t *doc, bool engine);

/* Intents: written, and known to be this process's own business until intent_end(). */
int intent_begin(struct fabric *f, json_t *intent, struct error *err);
int intent_update(struct fabric *f, json_t *intent, struct error *err);
/* done: the document goes as well; else the next checkpoint_sweep() deals with it. */
void intent_end(struct fabric *f, const json_t *intent, bool done);

/* A snapshot goes, asked for where the volume's lock is; what is not there is fine. */
int checkpoint_snapshot_drop(struct fabric *f, const char *volume, const char *snapshot,
			     bool detach, struct error *err);
/* Bytes, snapshots (detach: from their clones), document. */
int checkpoint_discard(struct fabric *f, const json_t *doc, bool detach, struct error *err);

/* --- spool: files of this process while it works (checkpoint_file.c) ------------------------ */

/* A fresh file in STATE/checkpoints/spool (emptied at each start); *path: caller frees. */
int spool_new(struct fabric *f, const char *id, char **path, struct error *err);
void spool_remove(char **path);
#define CLEANUP_SPOOL __attribute__((cleanup(spool_remove)))

/*
 * A checkpoint as one file: the engine's stream, then the document, signed together with the
 * stream's hash. write: into fd. read: from fd into the spool file `path`, of which the
 * stream is left; *doc is what was signed. EKEYREJECTED, EBADMSG.
 */
int checkpoint_file_write(struct fabric *f, const json_t *doc, int fd, struct error *err);
int checkpoint_file_read(struct fabric *f, int fd, const char *path, json_t **doc,
			 struct error *err);

rpc_call_fn checkpoint_rpc_create;

/* --- checkpoint.c ------------------------------------------------------------------------- */

/* With packets, volumes and tasks as they were before the freeze; undo, also after a restart. */
void checkpoint_let_go(struct fabric *f, const json_t *doc);

/* --- restore_build.c ------------------------------------------------------------------------ */

/* Who asks for a container to be built on this host. */
struct restore_order {
	const char *id;		  /* of the restore: 16 hex digits */
	const char *container;	  /* id that the container has or gets */
	const json_t *checkpoint; /* its document */
	const char *name;	  /* of the new container; NULL: the old one */
	const char *spool;	  /* where the stream is already; NULL: fetched */
	const json_t *mark;	  /* the old container's document, marked with `id`; NULL: gone */
	bool rollback;
};
int restore_build_here(struct fabric *f, const struct restore_order *order,
		       fabric_progress *progress, void *ctx, json_t **out, struct error *err);
/* The undo of what an intent says, or the rest of what was committed. */
int restore_recover(struct fabric *f, const json_t *intent, struct error *err);

/* --- checkpoint_recover.c --------------------------------------------------------------------- */

/* Undoes or finishes what this host began and nobody works on. */
void checkpoint_sweep(struct fabric *f);
/* At the start, before migrations are recovered. */
void checkpoint_recover(struct fabric *f);

extern const struct rpc_method checkpoint_methods[], restore_methods[];

#endif
