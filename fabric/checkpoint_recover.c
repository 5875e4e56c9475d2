/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a killed ferryd, or an undo that did not get through, has left of checkpoints and
 * restores: told by the intents of this host, and by documents that were being removed.
 *
 *   create   document there: it is kept; a container that was to be stopped is stopped
 *            no document:    snapshots and bytes go; the container runs on
 *   restore  see restore_recover()
 *   clone    its checkpoint goes
 *
 * A file: the spool holds nothing that outlives a daemon.
 */
#include <signal.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "fabric/checkpoint_internal.h"

/* Does the freezer hold it, although nobody has paused it? */
static bool is_held(struct fabric *f, const json_t *doc)
{
	CLEANUP_JSON json_t *live = NULL;

	return container_is_local(f, doc) && !strcmp(container_status(doc), "running") &&
	       !container_inspect(f->containers, json_str(doc, "id", ""), &live, NULL) &&
	       !strcmp(json_str(live, "Status", ""), "paused");
}

/* The engine of the dead ferryd has let go of its tasks; the freezer may hold them still. */
static void run_on(struct fabric *f, const json_t *doc)
{
	if (!container_is_local(f, doc))
		return;
	checkpoint_let_go(f, doc);
	container_unpause(f->containers, json_str(doc, "id", ""), NULL);
}

static int set_stopped(void *ctx, json_t *doc, struct error *err)
{
	(void)ctx;
	(void)err;
	json_set_str(doc, "desired", "stopped");
	return 0;
}

static int recover_create(struct fabric *f, const json_t *intent, bool start, struct error *err)
{
	const char *id = json_str(intent, "id", "-"),
		   *container = json_str(intent, "container", "");
	CLEANUP_FREE char *key = checkpoint_key(container, json_str(intent, "name", ""));
	CLEANUP_FREE char *owner_key = container_key(container);
	CLEANUP_JSON json_t *kept = NULL;
	CLEANUP_JSON json_t *owner = NULL;
	bool committed;
	json_t *v;
	size_t i;
	int r = store_get(f->store, key, &kept, NULL, err);

	if (r < 0 && r != -ENOENT)
		return r;
	error_clear(err);
	committed = !r && !strcmp(json_str(kept, "id", ""), id);
	document_get(f, owner_key, &owner, NULL);
	/* Later on, this process's own undo has done that part. */
	if (start && owner && committed && json_bool(intent, "stop", false)) {
		if (is_held(f, owner)) {
			log_info("container %s: stopping it, its checkpoint %s is kept",
				 json_str(owner, "name", ""), json_str(intent, "name", ""));
			document_change(f, owner_key, set_stopped, NULL, NULL, NULL);
			container_kill(f->containers, container, SIGKILL, NULL);
		}
	} else if (start && owner) {
		run_on(f, owner);
	}
	if (committed)
		return 0;
	log_info("checkpoint %s was cut: removing what there is of it",
		 json_str(intent, "name", ""));
	json_array_foreach (json_object_get(intent, "volumes"), i, v) {
		r = checkpoint_snapshot_drop(f, json_str(v, "name", ""),
					     json_str(v, "snapshot", ""), true, err);
		if (r < 0)
			return r;
	}
	return blob_remove(f, id, err);
}

static int recover_clone(struct fabric *f, const json_t *intent, struct error *err)
{
	const char *key = json_str(intent, "key", "checkpoints/-");
	CLEANUP_JSON json_t *doc = NULL;
	int r = store_get(f->store, key, &doc, NULL, err);

	if (r == -ENOENT) {
		error_clear(err);
		return 0;
	}
	return r < 0 ? r : checkpoint_discard(f, doc, true, err);
}

/* Claims it, so that two threads do not undo the same; false where somebody works on it. */
static bool claim(struct fabric *f, const char *id)
{
	bool mine;

	pthread_mutex_lock(&f->lock);
	mine = !json_object_get(f->intents, id);
	if (mine)
		json_object_set_new(f->intents, id, json_true());
	pthread_mutex_unlock(&f->lock);
	return mine;
}

static void recover_one(struct fabric *f, const json_t *listed, bool start)
{
	const char *kind = json_str(listed, "kind", "");
	CLEANUP_FREE char *key = str_format("checkpoint-intents/%s", json_str(listed, "id", "-"));
	CLEANUP_JSON json_t *intent = NULL;
	struct error err = { 0 };
	int r;

	if (strcmp(json_str(listed, "host", ""), f->host) || !claim(f, json_str(listed, "id", "-")))
		return;
	/* It may have come to its end since it was listed. */
	if (store_get(f->store, key, &intent, NULL, NULL) < 0) {
		intent_end(f, listed, false);
		return;
	}
	r = !strcmp(kind, "create")    ? recover_create(f, intent, start, &err)
	    : !strcmp(kind, "restore") ? restore_recover(f, intent, &err)
				       : recover_clone(f, intent, &err);
	if (r < 0)
		log_warn("cleaning up after a %s that was cut: %s; tried again later", kind,
			 err.msg);
	intent_end(f, intent, !r);
}

static void sweep(struct fabric *f, bool start)
{
	CLEANUP_JSON json_t *intents = NULL;
	CLEANUP_JSON json_t *docs = NULL;
	struct error err = { 0 };
	json_t *v;
	size_t i;

	if (store_list_values(f->store, "checkpoint-intents/", &intents, &err) < 0 ||
	    store_list_values(f->store, "checkpoints/", &docs, &err) < 0) {
		log_warn("looking for what was left of checkpoints: %s", err.msg);
		return;
	}
	json_array_foreach (intents, i, v)
		recover_one(f, v, start);
	json_array_foreach (docs, i, v) {
		error_clear(&err);
		if (!strcmp(json_str(v, "removing", ""), f->host) &&
		    checkpoint_discard(f, v, false, &err) < 0)
			log_warn("checkpoint %s: %s", json_str(v, "name", ""), err.msg);
	}
}

void checkpoint_sweep(struct fabric *f)
{
	sweep(f, false);
}

void checkpoint_recover(struct fabric *f)
{
	CLEANUP_FREE char *spool = str_format("%s/checkpoints/spool", f->state_dir);

	dir_remove(spool, NULL);
	sweep(f, true);
}
