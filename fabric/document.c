/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents in the store, and a mirror of them in memory. Reads that show things (list,
 * inspect, names) come from the mirror, which watches keep a few milliseconds behind the
 * store; whatever changes a document reads it fresh and writes with compare-and-swap, and
 * puts what it wrote into the mirror at once, so a host always sees its own writes.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "fabric/internal.h"

#define CHANGE_TRIES 64

json_t *mirror_put(struct fabric *f, const char *key, json_t *value, uint64_t version)
{
	json_t *previous;
	uint64_t seen;

	pthread_mutex_lock(&f->lock);
	previous = json_incref(json_object_get(f->docs, key));
	seen = (uint64_t)json_int(f->versions, key, 0);
	if (!value) {
		waiters_see(f, key, NULL);
		json_object_del(f->docs, key);
	} else if (version > seen || version == STORE_ANY) {
		waiters_see(f, key, value);
		json_object_set(f->docs, key, value);
		json_set_int(f->versions, key, (int64_t)version);
	}
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
	return previous;
}

static void watched(void *ctx, const char *key, json_t *value, uint64_t version)
{
	struct fabric *f = ctx;
	CLEANUP_JSON json_t *copy = value ? json_deep_copy(value) : NULL;
	CLEANUP_JSON json_t *before = mirror_put(f, key, copy, version);

	if (!str_starts(key, "containers/"))
		return;
	network_follow(f, before, copy);
	if (copy)
		migrate_watch(f, copy);
}

/* Everything there is now: a watch brings it too, but only some time later. */
static int mirror_fill(struct fabric *f, const char *prefix, struct error *err)
{
	struct store_entry *entries = NULL;
	size_t n = 0;
	int r = store_list(f->store, prefix, &entries, &n, err);

	if (r < 0)
		return error_wrap(err, "reading %s", prefix);
	for (size_t i = 0; i < n; i++)
		watched(f, entries[i].key, entries[i].value, entries[i].version);
	store_list_free(entries, n);
	return 0;
}

int mirror_watch(struct fabric *f, struct error *err)
{
	int r = store_watch(f->store, "networks/", watched, f, &f->watch_networks, err);

	if (r < 0)
		return error_wrap(err, "watching networks");
	r = store_watch(f->store, "containers/", watched, f, &f->watch_containers, err);
	if (r < 0)
		return error_wrap(err, "watching containers");
	r = mirror_fill(f, "networks/", err);
	return r < 0 ? r : mirror_fill(f, "containers/", err);
}

void mirror_unwatch(struct fabric *f)
{
	store_unwatch(f->watch_containers);
	store_unwatch(f->watch_networks);
	f->watch_containers = f->watch_networks = NULL;
}

/* What this host wrote itself has the same consequences as what it hears of. */
static void written(struct fabric *f, const char *key, json_t *value, uint64_t version)
{
	CLEANUP_JSON json_t *before = mirror_put(f, key, value, version);

	if (str_starts(key, "containers/"))
		network_follow(f, before, value);
}

int document_new(struct fabric *f, const char *key, json_t *doc, struct error *err)
{
	CLEANUP_JSON json_t *copy = json_deep_copy(doc);
	uint64_t version;
	int r;

	json_set_int(copy, "schema", 1);
	r = store_put(f->store, key, copy, STORE_ABSENT, &version, err);
	if (r == -ECANCELED)
		return error_set(err, EEXIST, "%s exists already", key);
	if (r < 0)
		return r;
	written(f, key, copy, version);
	return 0;
}

int document_change(struct fabric *f, const char *key, store_change_fn *change, void *ctx,
		    json_t **value, struct error *err)
{
	for (int i = 0; i < CHANGE_TRIES; i++) {
		CLEANUP_JSON json_t *old = NULL;
		CLEANUP_JSON json_t *doc = NULL;
		uint64_t version, now;
		int r = store_get(f->store, key, &old, &version, err);

		if (r < 0)
			return r;
		doc = json_deep_copy(old);
		r = change(ctx, doc, err);
		if (r < 0)
			return r;
		if (r == 0) {
			r = store_put(f->store, key, doc, version, &now, err);
			if (r == -ECANCELED)
				continue;
			if (r < 0)
				return r;
			written(f, key, doc, now);
		} else {
			written(f, key, doc, version);
		}
		if (value)
			*value = TAKE_PTR(doc);
		return 0;
	}
	return error_set(err, EBUSY, "%s is being changed by others all the time; try again", key);
}

int document_change_known(struct fabric *f, const char *key, store_change_fn *change, void *ctx,
			  struct error *err)
{
	CLEANUP_JSON json_t *known = NULL;
	CLEANUP_JSON json_t *doc = NULL;
	uint64_t version, now;
	int r;

	pthread_mutex_lock(&f->lock);
	known = json_incref(json_object_get(f->docs, key));
	version = (uint64_t)json_int(f->versions, key, 0);
	pthread_mutex_unlock(&f->lock);
	doc = known ? json_deep_copy(known) : NULL;
	/* What an old copy is refused for may be in order by now. */
	if (!doc || version == STORE_ABSENT || version == STORE_ANY || change(ctx, doc, NULL))
		return document_change(f, key, change, ctx, NULL, err);
	r = store_put(f->store, key, doc, version, &now, err);
	if (r == -ECANCELED) {
		error_clear(err);
		return document_change(f, key, change, ctx, NULL, err);
	}
	if (r == 0)
		written(f, key, doc, now);
	return r;
}

int document_get(struct fabric *f, const char *key, json_t **value, struct error *err)
{
	return store_get(f->store, key, value, NULL, err);
}

int document_delete(struct fabric *f, const char *key, struct error *err)
{
	int r = store_delete(f->store, key, STORE_ANY, err);

	if (r < 0 && r != -ENOENT)
		return r;
	error_clear(err);
	written(f, key, NULL, 0);
	return 0;
}

json_t *document_cached(struct fabric *f, const char *key)
{
	json_t *doc;

	pthread_mutex_lock(&f->lock);
	doc = json_incref(json_object_get(f->docs, key));
	pthread_mutex_unlock(&f->lock);
	return doc;
}

json_t *documents_cached(struct fabric *f, const char *prefix)
{
	json_t *all = json_array(), *doc;
	const char *key;

	pthread_mutex_lock(&f->lock);
	json_object_foreach (f->docs, key, doc)
		if (str_starts(key, prefix))
			json_array_append(all, doc);
	pthread_mutex_unlock(&f->lock);
	return all;
}

char *container_key(const char *id)
{
	return str_format("containers/%s", id);
}

bool container_is_local(const struct fabric *f, const json_t *doc)
{
	return strcmp(json_str(doc, "host", ""), f->host) == 0;
}

const char *container_status(const json_t *doc)
{
	return json_str(json_object_get(doc, "state"), "Status", "created");
}

bool container_is_up(const json_t *doc)
{
	const char *status = container_status(doc);

	return !strcmp(status, "running") || !strcmp(status, "paused");
}

int container_find(struct fabric *f, const char *ref, json_t **doc, struct error *err)
{
	CLEANUP_JSON json_t *all = documents_cached(f, "containers/");
	json_t *found = NULL, *d;
	size_t i, matches = 0;

	if (ref[0] == '/')
		ref++;
	json_array_foreach (all, i, d) {
		if (!strcmp(json_str(d, "name", ""), ref) || !strcmp(json_str(d, "id", ""), ref)) {
			found = d;
			matches = 1;
			break;
		}
		if (*ref && str_starts(json_str(d, "id", ""), ref)) {
			found = d;
			matches++;
		}
	}
	if (matches > 1)
		return error_set(err, EINVAL,
				 "%s is the beginning of %zu container ids; give more of it", ref,
				 matches);
	if (!found)
		return error_set(err, ENOENT, "No such container: %s", ref);
	*doc = json_incref(found);
	return 0;
}
