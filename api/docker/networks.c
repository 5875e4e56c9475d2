/* SPDX-License-Identifier: Apache-2.0 */
/* /networks: Docker's network API over the cluster's overlay networks. */
#include <string.h>

#include "api/docker/docker.h"
#include "api/request.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

static bool predefined(const json_t *n)
{
	const char *name = json_str(n, "Name", "");

	return !strcmp(name, "bridge") || !strcmp(name, "host") || !strcmp(name, "none");
}

static bool id_fits(const json_t *filters, const json_t *n)
{
	const json_t *ids = json_object_get(filters, "id");
	json_t *v;
	size_t i;

	if (!json_array_size(ids))
		return true;
	json_array_foreach (ids, i, v)
		if (str_starts(json_str(n, "Id", ""), json_string_value(v)))
			return true;
	return false;
}

static int list(struct request *req, struct error *err)
{
	static const char *const known[] = { "name",  "id",    "driver",   "type",
					     "scope", "label", "dangling", NULL };
	CLEANUP_JSON json_t *filters = NULL;
	CLEANUP_JSON json_t *networks = NULL;
	int r = query_filters_known(&req->query, known, &filters, err), dangling;
	json_t *n, *out;
	size_t i;

	if (r < 0)
		return r;
	dangling = filter_bool(filters, "dangling", err);
	if (dangling < -1)
		return dangling;
	r = fabric_network_list(req->fabric, &networks, err);
	if (r < 0)
		return r;
	out = json_array();
	json_array_foreach (networks, i, n) {
		bool idle = !predefined(n) && !json_object_size(json_object_get(n, "Containers"));

		if (filter_allows_part(filters, "name", json_str(n, "Name", "")) &&
		    id_fits(filters, n) &&
		    filter_allows(filters, "driver", json_str(n, "Driver", "")) &&
		    filter_allows(filters, "scope", json_str(n, "Scope", "")) &&
		    filter_allows(filters, "type", predefined(n) ? "builtin" : "custom") &&
		    filter_allows_labels(filters, "label", json_object_get(n, "Labels")) &&
		    (dangling < 0 || dangling == idle))
			json_array_append(out, n);
	}
	return reply_json(req, 200, out);
}

static int create(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_network_create(req->fabric, req->json, &out, err);

	return r < 0 ? r : reply_json(req, 201, out);
}

static int inspect(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_network_inspect(req->fabric, req->arg, &out, err);

	return r < 0 ? r : reply_json(req, 200, out);
}

static int remove_one(struct request *req, struct error *err)
{
	return reply_done(req, fabric_network_remove(req->fabric, req->arg, err), 204);
}

static int prune(struct request *req, struct error *err)
{
	static const char *const known[] = { "label", "label!", NULL };
	CLEANUP_JSON json_t *filters = NULL;
	CLEANUP_JSON json_t *networks = NULL;
	CLEANUP_JSON json_t *gone = json_array();
	int r = query_filters_known(&req->query, known, &filters, err);
	json_t *n;
	size_t i;

	if (!r)
		r = fabric_network_list(req->fabric, &networks, err);
	if (r < 0)
		return r;
	json_array_foreach (networks, i, n) {
		const json_t *labels = json_object_get(n, "Labels");

		if (predefined(n) || !filter_allows_labels(filters, "label", labels) ||
		    (json_object_get(filters, "label!") &&
		     filter_allows_labels(filters, "label!", labels)))
			continue;
		/* One that a container uses, running or not, refuses to go. */
		if (fabric_network_remove(req->fabric, json_str(n, "Id", ""), NULL) == 0)
			json_array_append(gone, json_object_get(n, "Name"));
	}
	return reply_json(req, 200, json_pack("{s:O}", "NetworksDeleted", gone));
}

#define NO_CONNECT                                                                                 \
	"a container's networks are chosen when it is created and cannot be changed later yet; "   \
	"create it anew with --network"

const struct route docker_network_routes[] = {
	{ .method = "GET", .pattern = "/networks", .handler = list },
	{ .method = "POST", .pattern = "/networks/create", .handler = create, .body = BODY_JSON },
	{ .method = "POST", .pattern = "/networks/prune", .handler = prune },
	{ .method = "POST", .pattern = "/networks/{}/connect", .refusal = NO_CONNECT },
	{ .method = "POST", .pattern = "/networks/{}/disconnect", .refusal = NO_CONNECT },
	{ .method = "GET", .pattern = "/networks/{}", .handler = inspect },
	{ .method = "DELETE", .pattern = "/networks/{}", .handler = remove_one },
	{ 0 },
};
