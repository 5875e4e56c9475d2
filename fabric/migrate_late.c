/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy, the part of a migration in which the container runs at B already while memory
 * still comes from A, where it stands frozen and its engine only serves pages. It follows the
 * commit, so nothing is undone any more:
 *
 *   all has come        A kills its frozen processes and removes the rest (CLEANUP)
 *   a ferryd is killed  the engines go on without it; the restarted one knocks at the
 *                       engine's socket (migrate_socket()) and waits for the rest
 *   A, its engine, or   B's engine kills the container, because it has a part of its memory
 *   the link is lost    only; the reason is written to migrate_note() and from there into the
 *                       container's state and events
 *   B's engine dies     its guard process does the same
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "fabric/migrate.h"

char *migrate_note(struct fabric *f, const char *container)
{
	return str_format("%s/migrations/%.12s.lost", f->run_dir, container);
}

/* --- A ------------------------------------------------------------------------------ */

static void on_engine_event(void *ctx, json_t *event)
{
	struct migration *m = ctx;
	CLEANUP_JSON json_t *p = NULL;

	if (strcmp(json_str(event, "event", ""), "late") || !m->progress)
		return;
	p = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "State", "POSTCOPY", "Id", m->id,
		      "Container", json_str(m->doc, "name", ""), "LeftBytes",
		      (json_int_t)json_int(event, "left_bytes", 0), "LateBytes",
		      (json_int_t)json_int(event, "pages", 0) * 4096, "Wanted",
		      (json_int_t)json_int(event, "wanted", 0));
	m->progress(m->ctx, p);
}

int migration_serve(struct migration *m, struct error *err)
{
	CLEANUP_JSON json_t *answer = NULL;
	int r;

	m->engine->control.on_event = on_engine_event;
	m->engine->control.ctx = m;
	r = engine_call(m->engine, "wait_memory", NULL, &answer, err);
	m->engine->control.on_event = NULL;
	if (r < 0)
		return error_wrap(err,
				  "container %s ran on host %s without all of its memory, and the "
				  "rest cannot be sent: it is lost there ('ferry ps' shows)",
				  json_str(m->doc, "name", ""), m->to);
	m->late = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "Ns",
			    (json_int_t)json_int(answer, "ns", 0), "Bytes",
			    (json_int_t)json_int(answer, "pages", 0) * 4096, "Faults",
			    (json_int_t)json_int(answer, "faults", 0), "MedianNs",
			    (json_int_t)json_int(answer, "median_ns", 0), "MaxNs",
			    (json_int_t)json_int(answer, "max_ns", 0), "ZeroFaults",
			    (json_int_t)json_int(answer, "zeros", 0));
	return 0;
}

struct late {
	struct fabric *f;
	json_t *doc;
	struct engine *engine;
	char *from;
};

static void late_free(struct late *l)
{
	engine_free(l->engine);
	json_decref(l->doc);
	free(l->from);
	free(l);
}

static void start(void *(*fn)(void *), struct fabric *f, const json_t *doc, struct engine *e,
		  const char *from)
{
	struct late *l = mem_zalloc(sizeof(*l));
	pthread_t thread;

	l->f = f;
	l->doc = json_deep_copy(doc);
	l->engine = e;
	l->from = str_dup(from);
	if (pthread_create(&thread, NULL, fn, l))
		late_free(l);
	else
		pthread_detach(thread);
}

/* A restarted ferryd at A: the engine of the one before it serves. */
static void *source_thread(void *arg)
{
	struct late *l = arg;
	const char *id = json_str(l->doc, "id", ""), *name = json_str(l->doc, "name", "");
	CLEANUP_FREE char *path = migrate_socket(l->f, id);
	struct error err = { 0 };

	if (engine_call(l->engine, "wait_memory", NULL, NULL, &err) < 0)
		log_error("container %s, whose memory was here in part: %s", name, err.msg);
	else
		log_info("container %s: all of its memory is at host %s now", name,
			 json_str(l->doc, "host", ""));
	error_clear(&err);
	if (engine_call(l->engine, "kill", NULL, NULL, &err) < 0)
		log_warn("container %s: %s", name, err.msg);
	unlink(path);
	container_unmake(l->f, l->doc);
	late_free(l);
	return NULL;
}

bool migrate_serve_on(struct fabric *f, const json_t *doc)
{
	CLEANUP_FREE char *path = migrate_socket(f, json_str(doc, "id", ""));
	struct engine *e = NULL;

	if (engine_reach(path, &e, NULL) < 0) {
		unlink(path); /* of one that has come to its end without us */
		return false;
	}
	log_info("container %s runs on host %s, and a part of its memory is still here: serving it",
		 json_str(doc, "name", ""), json_str(doc, "host", ""));
	start(source_thread, f, doc, e, "");
	return true;
}

/* --- B ------------------------------------------------------------------------------ */

static void *dest_thread(void *arg)
{
	struct late *l = arg;
	const char *id = json_str(l->doc, "id", ""), *name = json_str(l->doc, "name", "");
	CLEANUP_FREE char *path = migrate_socket(l->f, id);
	struct error err = { 0 };

	if (engine_call(l->engine, "wait_memory", NULL, NULL, &err) < 0)
		log_error("container %s: %s", name, err.msg); /* see migrate_take_note() */
	else
		container_event(l->f, l->doc, "memory-complete", "from", l->from);
	unlink(path);
	pthread_mutex_lock(&l->f->lock);
	json_object_del(l->f->late, id);
	pthread_mutex_unlock(&l->f->lock);
	late_free(l);
	return NULL;
}

void migrate_watch_memory(struct fabric *f, const json_t *doc, struct engine *e, const char *from)
{
	pthread_mutex_lock(&f->lock);
	json_object_set_new(f->late, json_str(doc, "id", ""), json_string(from));
	pthread_mutex_unlock(&f->lock);
	start(dest_thread, f, doc, e, from);
}

void migrate_watch_on(struct fabric *f, const json_t *doc)
{
	CLEANUP_FREE char *path = migrate_socket(f, json_str(doc, "id", ""));
	struct engine *e = NULL;

	if (engine_reach(path, &e, NULL) < 0)
		unlink(path);
	else
		migrate_watch_memory(f, doc, e, "the host it came from");
}

int migrate_wait_whole(struct fabric *f, const json_t *doc, struct error *err)
{
	const char *id = json_str(doc, "id", ""), *from;
	int r = 0;

	pthread_mutex_lock(&f->lock);
	from = json_str(f->late, id, NULL);
	if (from)
		r = error_set(err, EBUSY,
			      "container %s is still receiving its memory from %s (post-copy); try "
			      "again when that is done",
			      json_str(doc, "name", ""), from);
	pthread_mutex_unlock(&f->lock);
	return r;
}

char *migrate_take_note(struct fabric *f, const char *container)
{
	CLEANUP_FREE char *path = migrate_note(f, container);
	char *text = NULL;

	if (file_read(path, 4096, &text, NULL, NULL) < 0)
		return NULL;
	unlink(path);
	return text;
}
