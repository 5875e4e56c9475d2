/* SPDX-License-Identifier: Apache-2.0 */
/* /images: the store of this host. What has to do with registries is in registry.c. */
#include <fnmatch.h>
#include <string.h>

#include "api/docker/docker.h"
#include "api/request.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

#define SAVE_MAX 256

/* --- looking ---------------------------------------------------------------------------------- */

/* Docker matches a pattern against the name with and without its tag. */
static bool tag_fits(const char *tag, const char *pattern)
{
	CLEANUP_FREE char *name = str_dup(tag);
	char *colon = strrchr(name, ':');

	if (fnmatch(pattern, tag, FNM_PATHNAME) == 0)
		return true;
	if (colon && !strchr(colon, '/'))
		*colon = '\0';
	return fnmatch(pattern, name, FNM_PATHNAME) == 0;
}

static bool reference_fits(const json_t *image, const json_t *filters)
{
	json_t *patterns = json_object_get(filters, "reference"), *p, *tag;
	size_t i, k;

	if (!json_array_size(patterns))
		return true;
	json_array_foreach (patterns, i, p)
		json_array_foreach (json_object_get(image, "RepoTags"), k, tag)
			if (tag_fits(json_string_value(tag), json_string_value(p)))
				return true;
	return false;
}

static int list(struct request *req, struct error *err)
{
	static const char *const known[] = { "reference", "dangling", "label", NULL };
	CLEANUP_JSON json_t *filters = NULL;
	CLEANUP_JSON json_t *images = NULL;
	json_t *image, *out;
	int r = query_filters_known(&req->query, known, &filters, err), dangling;
	size_t i;

	if (r < 0)
		return r;
	dangling = filter_bool(filters, "dangling", err);
	if (dangling < -1)
		return dangling;
	r = fabric_image_list(req->fabric, &images, err);
	if (r < 0)
		return r;
	out = json_array();
	json_array_foreach (images, i, image) {
		bool named = json_array_size(json_object_get(image, "RepoTags")) > 0;

		if (reference_fits(image, filters) && (dangling < 0 || dangling != named) &&
		    filter_allows_labels(filters, "label", json_object_get(image, "Labels")))
			json_array_append(out, image);
	}
	return reply_json(req, 200, out);
}

static int inspect(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_image_inspect(req->fabric, req->arg, &out, err);

	return r < 0 ? r : reply_json(req, 200, out);
}

static int history(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_image_history(req->fabric, req->arg, &out, err);

	return r < 0 ? r : reply_json(req, 200, out);
}

/* --- names -------------------------------------------------------------------------- */

static int tag(struct request *req, struct error *err)
{
	const char *repo = query_str(&req->query, "repo"), *name = query_str(&req->query, "tag");
	CLEANUP_FREE char *ref = NULL;

	if (!repo)
		return error_set(err, EINVAL, "parameter repo is missing");
	ref = name ? str_format("%s:%s", repo, name) : str_dup(repo);
	return reply_done(req, fabric_image_tag(req->fabric, req->arg, ref, err), 201);
}

static int remove_one(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_image_remove(req->fabric, req->arg, query_bool(&req->query, "force"), &out,
				    err);

	return r < 0 ? r : reply_json(req, 200, out);
}

static int prune(struct request *req, struct error *err)
{
	static const char *const known[] = { "dangling", "label", NULL };
	CLEANUP_JSON json_t *filters = NULL;
	CLEANUP_JSON json_t *images = NULL;
	json_t *image, *deleted = NULL;
	json_int_t freed = 0;
	int r = query_filters_known(&req->query, known, &filters, err), dangling;
	size_t i;

	if (r < 0)
		return r;
	dangling = filter_bool(filters, "dangling", err);
	if (dangling < -1)
		return dangling;
	r = fabric_image_list(req->fabric, &images, err);
	if (r < 0)
		return r;
	deleted = json_array();
	json_array_foreach (images, i, image) {
		CLEANUP_JSON json_t *gone = NULL;

		/* Unless dangling=false, only what has no name; images in use refuse to go. */
		if ((dangling && json_array_size(json_object_get(image, "RepoTags"))) ||
		    !filter_allows_labels(filters, "label", json_object_get(image, "Labels")))
			continue;
		if (fabric_image_remove(req->fabric, json_str(image, "Id", ""), true, &gone, NULL) <
		    0)
			continue;
		json_array_extend(deleted, gone);
		freed += json_int(image, "Size", 0);
	}
	return reply_json(
		req, 200,
		json_pack("{s:o, s:I}", "ImagesDeleted", deleted, "SpaceReclaimed", freed));
}

/* --- archives ----------------------------------------------------------------------- */

static int load_upload(struct request *req, int fd, struct error *err)
{
	return fabric_image_load(req->fabric, fd, &req->uploaded, err);
}

static int load(struct request *req, struct error *err)
{
	CLEANUP_BUF struct buf b = { 0 };
	json_t *name;
	size_t i;

	(void)err;
	buf_add(&b, "", 0);
	json_array_foreach (req->uploaded, i, name) {
		const char *n = json_string_value(name);
		CLEANUP_FREE char *line = str_format("Loaded image%s: %s\n",
						     str_starts(n, "sha256:") ? " ID" : "", n);
		CLEANUP_JSON json_t *message = json_pack("{s:s}", "stream", line);
		CLEANUP_FREE char *text = json_text(message);

		buf_addf(&b, "%s\r\n", text);
	}
	return reply_text(req, 200, "application/json", b.data, b.len);
}

struct save {
	char *refs[SAVE_MAX];
	size_t n;
};

static void save_free(void *ctx)
{
	struct save *s = ctx;

	for (size_t i = 0; i < s->n; i++)
		free(s->refs[i]);
	free(s);
}

static int save_produce(struct feed *s, void *ctx, struct error *err)
{
	struct save *save = ctx;

	return fabric_image_save(feed_fabric(s), (const char *const *)save->refs, save->n,
				 feed_fd(s), err);
}

static int save_reply(struct request *req, struct save *save, struct error *err)
{
	struct feed_options o = { .type = "application/x-tar",
				  .produce = save_produce,
				  .ctx = save,
				  .free_ctx = save_free,
				  .settle_ms = -1 };

	return reply_feed(req, &o, err);
}

static int save_one(struct request *req, struct error *err)
{
	struct save *save = mem_zalloc(sizeof(*save));

	save->refs[save->n++] = str_dup(req->arg);
	return save_reply(req, save, err);
}

/* ?names=a&names=b, or names=a,b */
static int save_many(struct request *req, struct error *err)
{
	struct save *save = mem_zalloc(sizeof(*save));

	for (size_t i = 0; i < req->query.n; i++) {
		CLEANUP_FREE char *copy = str_dup(req->query.pairs[i].value);
		char *rest = NULL, *name;

		if (strcmp(req->query.pairs[i].key, "names"))
			continue;
		for (name = strtok_r(copy, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
			if (save->n == SAVE_MAX) {
				save_free(save);
				return error_set(err, EINVAL, "more than %d images", SAVE_MAX);
			}
			save->refs[save->n++] = str_dup(name);
		}
	}
	if (!save->n) {
		save_free(save);
		return error_set(err, EINVAL, "parameter names is missing");
	}
	return save_reply(req, save, err);
}

const struct route docker_image_routes[] = {
	{ .method = "GET", .pattern = "/images/json", .handler = list },
	{ .method = "GET", .pattern = "/images/get", .handler = save_many },
	{ .method = "POST",
	  .pattern = "/images/load",
	  .handler = load,
	  .body = BODY_UPLOAD,
	  .upload = load_upload },
	{ .method = "POST", .pattern = "/images/prune", .handler = prune },
	{ .method = "GET", .pattern = "/images/{*}/json", .handler = inspect },
	{ .method = "GET", .pattern = "/images/{*}/history", .handler = history },
	{ .method = "GET", .pattern = "/images/{*}/get", .handler = save_one },
	{ .method = "POST", .pattern = "/images/{*}/tag", .handler = tag },
	{ .method = "DELETE", .pattern = "/images/{*}", .handler = remove_one },
	{ 0 },
};
