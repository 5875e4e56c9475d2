/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents of checkpoints: finding, showing, removing them with all that belongs to them,
 * and the intents that say what a host is at. The layout is in checkpoint_internal.h.
 * They are read from the store, not from the mirror: they are few and seldom asked for.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "fabric/checkpoint_internal.h"

#define SNAPSHOT_TIMEOUT_NS 60000000000ll

char *checkpoint_key(const char *container, const char *name)
{
	return str_format("checkpoints/%s.%s", container, name);
}

static int by_age(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	int64_t p = json_int(x, "created_ns", 0), q = json_int(y, "created_ns", 0);

	return p < q ? -1 : p > q;
}

/* All that are not on their way out, oldest first. */
static int list_all(struct fabric *f, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *all = NULL;
	json_t **sorted, *doc;
	size_t i, n = 0;
	int r = store_list_values(f->store, "checkpoints/", &all, err);

	if (r < 0)
		return error_wrap(err, "listing checkpoints");
	sorted = mem_zalloc((json_array_size(all) + 1) * sizeof(*sorted));
	json_array_foreach (all, i, doc)
		if (!json_object_get(doc, "removing"))
			sorted[n++] = doc;
	qsort(sorted, n, sizeof(*sorted), by_age);
	*out = json_array();
	for (i = 0; i < n; i++)
		json_array_append(*out, sorted[i]);
	free(sorted);
	return 0;
}

static bool is_named(const json_t *doc, const char *ref)
{
	const char *colon = strchr(ref, ':'), *name = json_str(doc, "name", "");
	const char *owner = json_str(doc, "container_name", "");
	size_t n = colon ? (size_t)(colon - ref) : 0;

	if (!colon)
		return !strcmp(name, ref) || !strcmp(json_str(doc, "id", ""), ref);
	return !strcmp(name, colon + 1) && n &&
	       ((strlen(owner) == n && !strncmp(owner, ref, n)) ||
		!strncmp(json_str(doc, "container", ""), ref, n));
}

int checkpoint_find(struct fabric *f, const char *ref, json_t **doc, struct error *err)
{
	CLEANUP_JSON json_t *all = NULL;
	const json_t *found = NULL;
	json_t *d;
	size_t i;
	int r = list_all(f, &all, err);

	if (r < 0)
		return r;
	json_array_foreach (all, i, d) {
		if (!is_named(d, ref))
			continue;
		if (found)
			return error_set(err, EINVAL,
					 "containers %s and %s both have a checkpoint %s; say "
					 "which, as %s:%s",
					 json_str(found, "container_name", ""),
					 json_str(d, "container_name", ""), ref,
					 json_str(d, "container_name", ""), ref);
		found = d;
	}
	if (!found)
		return error_set(err, ENOENT, "No such checkpoint: %s", ref);
	*doc = json_incref((json_t *)(uintptr_t)found);
	return 0;
}

/* --- showing -------------------------------------------------------------------------- */

json_t *checkpoint_show(const json_t *doc, bool engine)
{
	json_t *volumes = json_array(), *v, *out;
	time_t t = (time_t)(json_int(doc, "created_ns", 0) / 1000000000);
	char when[64];
	struct tm tm;
	size_t i;

	gmtime_r(&t, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	json_array_foreach (json_object_get(doc, "volumes"), i, v)
		json_array_append_new(volumes,
				      json_pack("{s:s, s:s, s:s}", "Name", json_str(v, "name", ""),
						"Destination", json_str(v, "destination", ""),
						"Snapshot", json_str(v, "snapshot", "")));
	out = json_pack(
		"{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:o}", "Id",
		json_str(doc, "id", ""), "Name", json_str(doc, "name", ""), "Container",
		json_str(doc, "container_name", ""), "ContainerId", json_str(doc, "container", ""),
		"CreatedAt", when, "Image", json_str(doc, "image_ref", ""), "Bytes",
		(json_int_t)json_int(doc, "bytes", 0), "MemoryBytes",
		(json_int_t)json_int(doc, "memory_bytes", 0), "Place", json_str(doc, "place", ""),
		"Host", json_str(doc, "host", ""), "Volumes", volumes);
	if (engine && json_object_get(doc, "engine"))
		json_object_set(out, "Engine", json_object_get(doc, "engine"));
	return out;
}

int fabric_checkpoint_list(struct fabric *f, const char *container, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *all = NULL;
	CLEANUP_JSON json_t *owner = NULL;
	json_t *doc;
	size_t i;
	int r = container ? container_find(f, container, &owner, err) : 0;

	if (!r)
		r = list_all(f, &all, err);
	if (r < 0)
		return r;
	*out = json_array();
	json_array_foreach (all, i, doc)
		if (!owner || !strcmp(json_str(doc, "container", ""), json_str(owner, "id", "-")))
			json_array_append_new(*out, checkpoint_show(doc, false));
	return 0;
}

int fabric_checkpoint_inspect(struct fabric *f, const char *ref, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	int r = checkpoint_find(f, ref, &doc, err);

	if (!r)
		*out = checkpoint_show(doc, true);
	return r;
}

/* --- intents ---------------------------------------------------------------------------- */

static char *intent_key(const json_t *intent)
{
	return str_format("checkpoint-intents/%s", json_str(intent, "id", "-"));
}

static void set_busy(struct fabric *f, const json_t *intent, bool busy)
{
	const char *id = json_str(intent, "id", "-");

	pthread_mutex_lock(&f->lock);
	if (busy)
		json_object_set_new(f->intents, id, json_true());
	else
		json_object_del(f->intents, id);
	pthread_mutex_unlock(&f->lock);
}

int intent_begin(struct fabric *f, json_t *intent, struct error *err)
{
	CLEANUP_FREE char *key = intent_key(intent);
	int r;

	set_busy(f, intent, true);
	r = store_put(f->store, key, intent, STORE_ABSENT, NULL, err);
	if (r < 0)
		set_busy(f, intent, false); /* one that was written all the same is swept */
	return r;
}

int intent_update(struct fabric *f, json_t *intent, struct error *err)
{
	CLEANUP_FREE char *key = intent_key(intent);

	return store_put(f->store, key, intent, STORE_ANY, NULL, err);
}

void intent_end(struct fabric *f, const json_t *intent, bool done)
{
	CLEANUP_FREE char *key = intent_key(intent);
	struct error err = { 0 };

	if (done && store_delete(f->store, key, STORE_ANY, &err) < 0 && err.code != ENOENT)
		log_warn("%s stays until the next sweep: %s", key, err.msg);
	set_busy(f, intent, false);
}

/* --- removing --------------------------------------------------------------------------- */

int checkpoint_snapshot_drop(struct fabric *f, const char *volume, const char *snapshot,
			     bool detach, struct error *err)
{
	CLEANUP_JSON json_t *there = NULL;
	CLEANUP_JSON json_t *params = NULL;
	const char *host;
	int r = volume_inspect(f->volumes, volume, &there, err);

	if (!r) {
		host = json_str(json_object_get(there, "Status"), "host", NULL);
		if (!host || !strcmp(host, f->host) || !f->client) {
			r = volume_snapshot_remove(f->volumes, volume, snapshot, detach, err);
		} else {
			params = json_pack("{s:s, s:s, s:b}", "volume", volume, "snapshot",
					   snapshot, "detach", detach);
			r = rpc_call(f->client, host, "checkpoint.snapshot_drop", params,
				     SNAPSHOT_TIMEOUT_NS, NULL, err);
		}
	}
	if (r != -ENOENT)
		return r;
	error_clear(err);
	return 0;
}

static int rpc_snapshot_drop(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
			     struct error *err)
{
	struct fabric *f = ctx;
	const char *volume = NULL, *snapshot = NULL;
	int r = json_want_str(params, "volume", true, &volume, err);

	(void)req;
	(void)result;
	if (!r)
		r = json_want_str(params, "snapshot", true, &snapshot, err);
	if (!r)
		r = volume_snapshot_remove(f->volumes, volume, snapshot,
					   json_bool(params, "detach", false), err);
	return r;
}

static int mark_removing(void *ctx, json_t *doc, struct error *err)
{
	const json_t *want = ctx;

	if (strcmp(json_str(doc, "id", ""), json_str(want, "id", "-")))
		return error_set(err, ENOENT, "No such checkpoint: %s", json_str(want, "name", ""));
	if (json_object_get(doc, "removing"))
		return 1;
	json_set_str(doc, "removing", json_str(want, "by", ""));
	return 0;
}

int checkpoint_discard(struct fabric *f, const json_t *doc, bool detach, struct error *err)
{
	CLEANUP_FREE char *key =
		checkpoint_key(json_str(doc, "container", ""), json_str(doc, "name", ""));
	CLEANUP_JSON json_t *copy = json_deep_copy(doc);
	json_t *v;
	size_t i;
	int r;

	json_set_str(copy, "by", f->host);
	r = store_update(f->store, key, mark_removing, copy, NULL, err);

	if (!r && strcmp(json_str(doc, "place", ""), "exported"))
		r = blob_remove(f, json_str(doc, "id", "-"), err);
	json_array_foreach (json_object_get(doc, "volumes"), i, v)
		if (!r)
			r = checkpoint_snapshot_drop(f, json_str(v, "name", ""),
						     json_str(v, "snapshot", ""), detach, err);
	if (!r)
		r = store_delete(f->store, key, STORE_ANY, err);
	if (r == -ENOENT) { /* somebody else was quicker */
		error_clear(err);
		return 0;
	}
	return r;
}

/* Which volumes would lose what they are made of? */
static int refuse_clones(struct fabric *f, const json_t *doc, struct error *err)
{
	CLEANUP_BUF struct buf names = { 0 };
	json_t *v, *clone;
	size_t i, k;

	json_array_foreach (json_object_get(doc, "volumes"), i, v) {
		CLEANUP_JSON json_t *clones = NULL;
		int r = volume_snapshot_clones(f->volumes, json_str(v, "name", ""),
					       json_str(v, "snapshot", ""), &clones, err);

		if (r == -ENOENT) {
			error_clear(err);
			continue;
		}
		if (r < 0)
			return r;
		json_array_foreach (clones, k, clone)
			buf_addf(&names, "%s%s", names.len ? ", " : "", json_string_value(clone));
	}
	if (!names.len)
		return 0;
	return error_set(
		err, EBUSY,
		"checkpoint %s is what these volumes are cloned from: %s; remove them first",
		json_str(doc, "name", ""), names.data);
}

int fabric_checkpoint_remove(struct fabric *f, const char *ref, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	int r;

	checkpoint_sweep(f);
	r = checkpoint_find(f, ref, &doc, err);
	if (!r)
		r = refuse_clones(f, doc, err);
	if (!r)
		r = checkpoint_discard(f, doc, false, err);
	if (!r)
		event_publish(f->events, "checkpoint", "destroy", json_str(doc, "id", ""), NULL);
	return r;
}

static int mark_exported(void *ctx, json_t *doc, struct error *err)
{
	(void)ctx;
	(void)err;
	json_set_str(doc, "place", "exported");
	return 0;
}

int fabric_checkpoint_exported(struct fabric *f, const char *ref, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	CLEANUP_FREE char *key = NULL;
	int r = checkpoint_find(f, ref, &doc, err);

	if (r < 0)
		return r;
	if (!json_array_size(json_object_get(doc, "volumes")))
		return checkpoint_discard(f, doc, false, err);
	key = checkpoint_key(json_str(doc, "container", ""), json_str(doc, "name", ""));
	r = store_update(f->store, key, mark_exported, NULL, NULL, err);
	return r < 0 ? r : blob_remove(f, json_str(doc, "id", "-"), err);
}

const struct rpc_method checkpoint_methods[] = {
	{ "checkpoint.create", checkpoint_rpc_create, NULL, 0 },
	{ "checkpoint.snapshot_drop", rpc_snapshot_drop, NULL, 0 },
	{ NULL, NULL, NULL, 0 },
};
