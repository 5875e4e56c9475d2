/* SPDX-License-Identifier: Apache-2.0 */
/* /volumes: Docker's volume API over the cluster's volumes. */
#include <string.h>

#include "api/docker/docker.h"
#include "api/request.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

static bool in_use(const json_t *containers, const char *name)
{
	json_t *c, *m;
	size_t i, k;

	json_array_foreach (containers, i, c)
		json_array_foreach (json_object_get(c, "Mounts"), k, m)
			if (!strcmp(json_str(m, "Name", ""), name))
				return true;
	return false;
}

static int list(struct request *req, struct error *err)
{
	static const char *const known[] = { "name", "driver", "label", "dangling", NULL };
	CLEANUP_JSON json_t *filters = NULL;
	CLEANUP_JSON json_t *volumes = NULL;
	CLEANUP_JSON json_t *containers = NULL;
	CLEANUP_JSON json_t *out = json_array();
	int r = query_filters_known(&req->query, known, &filters, err), dangling;
	json_t *v;
	size_t i;

	if (r < 0)
		return r;
	dangling = filter_bool(filters, "dangling", err);
	if (dangling < -1)
		return dangling;
	r = fabric_volume_list(req->fabric, &volumes, err);
	if (!r && dangling >= 0)
		r = fabric_container_list(req->fabric, true, NULL, &containers, err);
	if (r < 0)
		return r;
	json_array_foreach (volumes, i, v) {
		const char *name = json_str(v, "Name", "");

		if (filter_allows_part(filters, "name", name) &&
		    filter_allows(filters, "driver", json_str(v, "Driver", "")) &&
		    filter_allows_labels(filters, "label", json_object_get(v, "Labels")) &&
		    (dangling < 0 || dangling == !in_use(containers, name)))
			json_array_append(out, v);
	}
	return reply_json(req, 200, json_pack("{s:O, s:n}", "Volumes", out, "Warnings"));
}

static int create(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_volume_create(req->fabric, req->json, &out, err);

	return r < 0 ? r : reply_json(req, 201, out);
}

static int inspect(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_volume_inspect(req->fabric, req->arg, &out, err);

	return r < 0 ? r : reply_json(req, 200, out);
}

static int remove_one(struct request *req, struct error *err)
{
	return reply_done(
		req,
		fabric_volume_remove(req->fabric, req->arg, query_bool(&req->query, "force"), err),
		204);
}

/* Volumes that got their name from ferry, for a container that named none. */
static bool is_anonymous(const char *name)
{
	return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64;
}

static int prune(struct request *req, struct error *err)
{
	static const char *const known[] = { "label", "label!", "all", NULL };
	CLEANUP_JSON json_t *filters = NULL;
	CLEANUP_JSON json_t *volumes = NULL;
	CLEANUP_JSON json_t *gone = json_array();
	int r = query_filters_known(&req->query, known, &filters, err), all;
	json_t *v;
	size_t i;

	if (r < 0)
		return r;
	all = filter_bool(filters, "all", err);
	if (all < -1)
		return all;
	/* Before API 1.42 named volumes were pruned as well. */
	all = all > 0 || (all < 0 && req->version < 42);
	r = fabric_volume_list(req->fabric, &volumes, err);
	if (r < 0)
		return r;
	json_array_foreach (volumes, i, v) {
		const char *name = json_str(v, "Name", "");
		const json_t *labels = json_object_get(v, "Labels");

		if ((!all && !is_anonymous(name)) ||
		    !filter_allows_labels(filters, "label", labels) ||
		    (json_object_get(filters, "label!") &&
		     filter_allows_labels(filters, "label!", labels)))
			continue;
		/* One in use refuses to go. */
		if (fabric_volume_remove(req->fabric, name, false, NULL) == 0)
			json_array_append_new(gone, json_string(name));
	}
	return reply_json(req, 200,
			  json_pack("{s:O, s:i}", "VolumesDeleted", gone, "SpaceReclaimed", 0));
}

const struct route docker_volume_routes[] = {
	{ .method = "GET", .pattern = "/volumes", .handler = list },
	{ .method = "POST", .pattern = "/volumes/create", .handler = create, .body = BODY_JSON },
	{ .method = "POST", .pattern = "/volumes/prune", .handler = prune },
	{ .method = "GET", .pattern = "/volumes/{}", .handler = inspect },
	{ .method = "DELETE", .pattern = "/volumes/{}", .handler = remove_one },
	{ 0 },
};
