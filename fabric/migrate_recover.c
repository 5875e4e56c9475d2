/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a restart of ferryd: migrations that were cut. The document says who owns the
 * container, and what is found on this host says which side it was:
 *
 *   document names us, a migration in it     we were the source before the commit: the
 *                                            migration is taken out of the document, so B
 *                                            cannot commit any more, then undone here
 *   document names us, we have a stub        we were the destination, committed: go on
 *                                            (post-copy: wait for the rest of its memory)
 *   document names another, we have it       source after the commit, or a skeleton of a
 *                                            destination before it: all of it away (post-copy:
 *                                            when the engine, which serves on, is done)
 *
 * The engines of the dead ferryd have undone or ended what they were doing when their
 * control socket closed (runtime/checkpoint/control.h), but for an armed one, which waits.
 */
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "fabric/migrate.h"

static int clear_migration(void *ctx, json_t *doc, struct error *err)
{
	struct fabric *f = ctx;

	(void)err;
	if (strcmp(json_str(doc, "host", ""), f->host))
		return 1;
	return json_object_del(doc, "migration") < 0 ? 1 : 0;
}

static void roll_back(struct fabric *f, const json_t *doc, const char *from)
{
	const char *id = json_str(doc, "id", "");
	CLEANUP_FREE char *path = migrate_socket(f, id);
	CLEANUP_JSON json_t *live = NULL;
	struct engine *e = NULL;
	struct error err = { 0 };

	log_info("container %s: undoing the migration that was cut", json_str(doc, "name", ""));
	if (container_is_up(doc))
		migrate_take_back(f, doc, from);
	/* One that has left pages for post-copy outlives its ferryd: it knows what to undo. */
	if (!engine_reach(path, &e, NULL)) {
		if (engine_call(e, "resume", NULL, NULL, &err) < 0)
			log_warn("container %s: %s", json_str(doc, "name", ""), err.msg);
	} else if (container_is_up(doc) && !container_inspect(f->containers, id, &live, NULL) &&
		   migrate_resume_anew(f, live, &err) < 0) {
		log_warn("container %s: %s", json_str(doc, "name", ""), err.msg);
	}
	engine_free(e);
	unlink(path);
	error_clear(&err);
	if (container_is_up(doc) && container_unpause(f->containers, id, &err) < 0)
		log_debug("container %.12s: %s", id, err.msg);
}

static void recover_ours(struct fabric *f, const json_t *doc)
{
	const char *id = json_str(doc, "id", "");
	CLEANUP_FREE char *key = container_key(id);
	CLEANUP_JSON json_t *fresh = NULL;
	CLEANUP_JSON json_t *live = NULL;
	struct error err = { 0 };

	if (json_object_get(doc, "migration")) {
		while (document_change(f, key, clear_migration, f, &fresh, &err) < 0) {
			log_warn("container %s: asking the store who owns it: %s",
				 json_str(doc, "name", ""), err.msg);
			clock_sleep_ns(500000000);
		}
		if (container_is_local(f, fresh))
			roll_back(f, fresh,
				  json_str(json_object_get(doc, "migration"), "to", NULL));
		else if (!migrate_serve_on(f, fresh))
			container_unmake(f, fresh);
		return;
	}
	if (container_inspect(f->containers, id, &live, NULL) < 0)
		return;
	if (json_bool(live, "Stub", false) && container_is_up(doc)) {
		log_info("container %s: the migration to this host was committed; going on with it",
			 json_str(doc, "name", ""));
		migrate_roll_forward(f, doc);
	} else if (container_is_up(doc)) {
		json_t *v;
		size_t i;

		/* Adopted, but cut before the volumes were settled or the packets released. */
		json_array_foreach (json_object_get(doc, "volumes"), i, v)
			volume_settle(f->volumes, json_str(v, "name", ""), NULL);
		if (json_array_size(json_object_get(doc, "endpoints")))
			netd_release(f->netd, id, NULL);
		migrate_watch_on(f, doc);
	}
}

void migrate_recover(struct fabric *f)
{
	CLEANUP_JSON json_t *docs = documents_cached(f, "containers/");
	CLEANUP_JSON json_t *known = NULL;
	json_t *doc, *id;
	size_t i;

	json_array_foreach (docs, i, doc)
		if (container_is_local(f, doc))
			recover_ours(f, doc);
	if (container_list(f->containers, &known, NULL) < 0)
		return;
	json_array_foreach (known, i, id) {
		CLEANUP_FREE char *key = container_key(json_string_value(id));
		CLEANUP_JSON json_t *live = NULL;
		CLEANUP_JSON json_t *fresh = NULL;

		if (document_get(f, key, &fresh, NULL) < 0 || container_is_local(f, fresh) ||
		    container_inspect(f->containers, json_string_value(id), &live, NULL) < 0)
			continue;
		if (!json_bool(live, "Stub", false) && migrate_serve_on(f, fresh))
			continue;
		log_info("container %s belongs to host %s: removing what is left of it here",
			 json_str(fresh, "name", ""), json_str(fresh, "host", ""));
		if (json_bool(live, "Stub", false))
			migrate_drop_skeleton(f, fresh, json_str(fresh, "host", ""));
		else
			container_unmake(f, fresh);
	}
}
