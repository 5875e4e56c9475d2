/* SPDX-License-Identifier: Apache-2.0 */
/* What the store knows, in Docker's shape: get, list, history, layer folders. */
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/image/ref.h"
#include "runtime/image/store.h"

#define NEVER "0001-01-01T00:00:00Z"

/* Reads the index under the lock, which *lock keeps until it is closed. */
static json_t *index_locked(struct image_store *s, int *lock, struct error *err)
{
	*lock = image_store_lock(s, false, err);
	return *lock < 0 ? NULL : image_index_read(s, err);
}

/* The short forms of a list of whole names, which is taken over. */
static json_t *shortened(json_t *list)
{
	CLEANUP_JSON json_t *whole = list;
	json_t *out = json_array(), *v;
	size_t i;

	json_array_foreach (whole, i, v) {
		CLEANUP_FREE char *shown = image_ref_short(json_string_value(v));

		json_array_append_new(out, json_string(shown));
	}
	return out;
}

static const json_t *chains_of(const json_t *index, const char *id)
{
	return json_object_get(json_object_get(json_object_get(index, "images"), id), "layers");
}

static int64_t layer_size(const json_t *index, const json_t *chain)
{
	const char *key = json_string_value(chain);

	return key ? json_int(json_object_get(json_object_get(index, "layers"), key), "size", 0)
		   : 0;
}

static int64_t size_of(const json_t *index, const char *id)
{
	int64_t sum = 0;
	const json_t *v;
	size_t i;

	json_array_foreach (chains_of(index, id), i, v)
		sum += layer_size(index, v);
	return sum;
}

/* RFC 3339 to seconds since 1970; 0 where it cannot be read. */
static int64_t seconds(const char *text)
{
	struct tm tm = { 0 };
	const char *p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	int64_t off = 0;
	int h, m;

	if (!p)
		return 0;
	if (*p == '.')
		p += 1 + strspn(p + 1, "0123456789");
	if ((*p == '+' || *p == '-') && sscanf(p + 1, "%2d:%2d", &h, &m) == 2)
		off = (*p == '+' ? 1 : -1) * (h * 3600 + m * 60);
	return (int64_t)timegm(&tm) - off;
}

static void copy_str(json_t *out, const char *key, const json_t *in, const char *from)
{
	json_set_str(out, key, json_str(in, from, ""));
}

static json_t *inspect(struct image_store *s, const json_t *index, const char *id,
		       struct error *err)
{
	CLEANUP_JSON json_t *doc = image_config_read(s, id, err);
	CLEANUP_FREE char *full = str_format("sha256:%s", id);
	json_t *out, *config, *diffs;

	if (!doc)
		return NULL;
	config = json_object_get(doc, "config");
	diffs = json_at(doc, "rootfs.diff_ids");
	out = json_pack("{s:s, s:o, s:o, s:s, s:I}", "Id", full, "RepoTags",
			shortened(image_names(index, id)), "RepoDigests",
			shortened(image_digests(index, id)), "Parent", "", "Size",
			(json_int_t)size_of(index, id));
	copy_str(out, "Comment", doc, "comment");
	json_set_str(out, "Created", json_str(doc, "created", NEVER));
	copy_str(out, "DockerVersion", doc, "docker_version");
	copy_str(out, "Author", doc, "author");
	copy_str(out, "Architecture", doc, "architecture");
	copy_str(out, "Os", doc, "os");
	if (json_str(doc, "variant", NULL))
		copy_str(out, "Variant", doc, "variant");
	json_object_set_new(out, "Config",
			    json_is_object(config) ? json_deep_copy(config) : json_object());
	json_object_set_new(out, "RootFS",
			    json_pack("{s:s, s:o}", "Type", "layers", "Layers",
				      json_is_array(diffs) ? json_deep_copy(diffs) : json_array()));
	json_object_set_new(out, "GraphDriver",
			    json_pack("{s:s, s:{}}", "Name", "overlay2", "Data"));
	json_object_set_new(out, "Metadata", json_pack("{s:s}", "LastTagTime", NEVER));
	return out;
}

int image_get(struct image_store *s, const char *ref, json_t **out, struct error *err)
{
	CLEANUP_CLOSE int lock = -1;
	CLEANUP_JSON json_t *index = index_locked(s, &lock, err);
	const char *id;
	int r;

	*out = NULL;
	if (!index)
		return err ? -err->code : -EIO;
	r = image_resolve(index, ref, &id, NULL, err);
	if (r < 0)
		return r;
	*out = inspect(s, index, id, err);
	return *out ? 0 : error_wrap(err, "image %s", ref);
}

static int newest_first(const void *a, const void *b)
{
	int64_t x = json_int(*(json_t *const *)a, "Created", 0);
	int64_t y = json_int(*(json_t *const *)b, "Created", 0);

	if (x != y)
		return x < y ? 1 : -1;
	return strcmp(json_str(*(json_t *const *)a, "Id", ""),
		      json_str(*(json_t *const *)b, "Id", ""));
}

int image_list(struct image_store *s, json_t **out, struct error *err)
{
	CLEANUP_CLOSE int lock = -1;
	CLEANUP_JSON json_t *index = index_locked(s, &lock, err), *sorted = json_array();
	json_t *images, *v, **rows;
	const char *id;
	size_t n = 0;
	int r = 0;

	*out = NULL;
	if (!index)
		return err ? -err->code : -EIO;
	images = json_object_get(index, "images");
	rows = mem_zalloc((json_object_size(images) + 1) * sizeof(json_t *));
	json_object_foreach (images, id, v) {
		CLEANUP_JSON json_t *one = inspect(s, index, id, err);
		json_t *labels;

		if (!one) {
			r = error_wrap(err, "image sha256:%s", id);
			break;
		}
		labels = json_at(one, "Config.Labels");
		rows[n++] =
			json_pack("{s:O, s:s, s:O, s:O, s:I, s:O, s:i, s:o, s:i}", "Id",
				  json_object_get(one, "Id"), "ParentId", "", "RepoTags",
				  json_object_get(one, "RepoTags"), "RepoDigests",
				  json_object_get(one, "RepoDigests"), "Created",
				  (json_int_t)seconds(json_str(one, "Created", NEVER)), "Size",
				  json_object_get(one, "Size"), "SharedSize", -1, "Labels",
				  json_is_object(labels) ? json_deep_copy(labels) : json_object(),
				  "Containers", -1);
	}
	qsort(rows, n, sizeof(*rows), newest_first);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(sorted, rows[i]);
	free(rows);
	if (r == 0)
		*out = TAKE_PTR(sorted);
	return r;
}

int image_history(struct image_store *s, const char *ref, json_t **out, struct error *err)
{
	CLEANUP_CLOSE int lock = -1;
	CLEANUP_JSON json_t *index = index_locked(s, &lock, err), *doc = NULL, *rows = json_array();
	const json_t *history, *h;
	const char *id;
	size_t i, layer = 0;
	int r;

	*out = NULL;
	if (!index)
		return err ? -err->code : -EIO;
	r = image_resolve(index, ref, &id, NULL, err);
	if (r < 0)
		return r;
	doc = image_config_read(s, id, err);
	if (!doc)
		return error_wrap(err, "image %s", ref);
	history = json_object_get(doc, "history");
	json_array_foreach (history, i, h) {
		int64_t size = 0;

		if (!json_bool(h, "empty_layer", false))
			size = layer_size(index, json_array_get(chains_of(index, id), layer++));
		json_array_insert_new(
			rows, 0,
			json_pack("{s:s, s:I, s:s, s:[], s:I, s:s}", "Id", "<missing>", "Created",
				  (json_int_t)seconds(json_str(h, "created", NEVER)), "CreatedBy",
				  json_str(h, "created_by", ""), "Tags", "Size", (json_int_t)size,
				  "Comment", json_str(h, "comment", "")));
	}
	if (json_array_size(rows)) {
		CLEANUP_FREE char *full = str_format("sha256:%s", id);

		json_set_str(json_array_get(rows, 0), "Id", full);
		json_object_set_new(json_array_get(rows, 0), "Tags",
				    shortened(image_names(index, id)));
	}
	*out = TAKE_PTR(rows);
	return 0;
}

int image_lower_dirs(struct image_store *s, const char *ref, char ***dirs, size_t *n,
		     struct error *err)
{
	CLEANUP_CLOSE int lock = -1;
	CLEANUP_JSON json_t *index = index_locked(s, &lock, err);
	const json_t *chains;
	const char *id;
	int r;

	*dirs = NULL;
	*n = 0;
	if (!index)
		return err ? -err->code : -EIO;
	r = image_resolve(index, ref, &id, NULL, err);
	if (r < 0)
		return r;
	chains = chains_of(index, id);
	*dirs = mem_zalloc((json_array_size(chains) + 1) * sizeof(char *));
	for (size_t i = json_array_size(chains); i > 0; i--)
		(*dirs)[(*n)++] = str_format("%s/layers/%s/fs", s->root,
					     json_string_value(json_array_get(chains, i - 1)));
	return 0;
}

void image_dirs_free(char **dirs, size_t n)
{
	for (size_t i = 0; dirs && i < n; i++)
		free(dirs[i]);
	free(dirs);
}
