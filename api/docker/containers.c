/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /containers: what is answered at once. Streams (logs, attach, wait, stats) are in
 * streams.c. The fabric does the work; here are Docker's parameters, statuses and texts.
 */
#include <string.h>

#include "api/docker/docker.h"
#include "api/docker/usage.h"
#include "api/request.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"

/* --- looking ------------------------------------------------------------------------------- */

static int list(struct request *req, struct error *err)
{
	CLEANUP_JSON json_t *filters = NULL;
	CLEANUP_JSON json_t *rows = NULL;
	bool all = query_bool(&req->query, "all");
	int64_t limit = 0;
	json_t *row;
	size_t i;
	int r = query_filters(&req->query, &filters, err);

	if (!r)
		r = query_int(&req->query, "limit", -1, 1 << 20, &limit, err);
	if (!r)
		r = fabric_container_list(req->fabric, all || limit > 0, filters, &rows, err);
	if (r < 0)
		return r;
	while (limit > 0 && json_array_size(rows) > (size_t)limit)
		json_array_remove(rows, json_array_size(rows) - 1);
	if (query_bool(&req->query, "size"))
		json_array_foreach (rows, i, row)
			usage_add_container(req->fabric, row);
	return reply_json(req, 200, TAKE_PTR(rows));
}

static int inspect(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_container_inspect(req->fabric, req->arg, &out, err);

	if (r < 0)
		return r;
	if (query_bool(&req->query, "size"))
		usage_add_container(req->fabric, out);
	return reply_json(req, 200, out);
}

static int top(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_container_top(req->fabric, req->arg, query_str(&req->query, "ps_args"), &out,
				     err);

	return r < 0 ? r : reply_json(req, 200, out);
}

/* --- create and remove ----------------------------------------------------------------------- */

static int check_platform(const struct request *req, struct error *err)
{
	const char *platform = query_str(&req->query, "platform");

	if (!platform || !strcmp(platform, "linux") || !strcmp(platform, "linux/amd64") ||
	    str_starts(platform, "linux/amd64/"))
		return 0;
	return error_set(err, EINVAL, "platform %.100s is not this host's; it is linux/amd64",
			 platform);
}

static int create(struct request *req, struct error *err)
{
	const char *name = query_str(&req->query, "name");
	json_t *out = NULL;
	int r = check_platform(req, err);

	if (!r && name && name[0] == '/')
		name++;
	if (!r)
		r = fabric_container_create(req->fabric, name, req->json, &out, err);
	/* The CLI answers 404 by pulling the image: only the image's absence may be one. */
	if (r == -ENOENT && !str_starts(err->msg, "No such image"))
		return reply_error(req, 400, err);
	return r < 0 ? r : reply_json(req, 201, out);
}

static int remove_one(struct request *req, struct error *err)
{
	if (query_bool(&req->query, "link"))
		return error_set(err, EINVAL,
				 "links are not supported; containers of one network "
				 "find each other by name");
	return reply_done(req,
			  fabric_container_remove(req->fabric, req->arg,
						  query_bool(&req->query, "force"),
						  query_bool(&req->query, "v"), err),
			  204);
}

/* "until": a point in time, or a Go duration before now. */
static int until_ns(const json_t *filters, int64_t *out, struct error *err)
{
	json_t *values = json_object_get(filters, "until");
	struct query q = { 0 };
	const char *text;
	int64_t ago;
	int r = 0;

	*out = INT64_MAX;
	if (!json_array_size(values))
		return 0;
	text = json_string_value(json_array_get(values, 0));
	if (json_array_size(values) > 1)
		return error_set(err, EINVAL, "invalid filter 'until': more than one value");
	query_add(&q, "until", text);
	if (query_time_ns(&q, "until", out, NULL) < 0) {
		r = str_to_duration_ns(text, &ago);
		if (r < 0)
			error_set(err, EINVAL,
				  "invalid filter 'until=%.100s': neither a time nor a duration",
				  text);
		else
			*out = clock_real_ns() - ago;
	}
	query_free(&q);
	return r;
}

static int prune(struct request *req, struct error *err)
{
	static const char *const known[] = { "until", "label", "label!", NULL };
	static const char *const ended[] = { "created", "exited", "dead" };
	CLEANUP_JSON json_t *filters = NULL;
	CLEANUP_JSON json_t *rows = NULL;
	CLEANUP_JSON json_t *gone = json_array();
	int64_t until = 0, freed = 0;
	json_t *row;
	size_t i, k;
	int r = query_filters_known(&req->query, known, &filters, err);

	if (!r)
		r = until_ns(filters, &until, err);
	if (!r)
		r = fabric_container_list(req->fabric, true, NULL, &rows, err);
	if (r < 0)
		return r;
	json_array_foreach (rows, i, row) {
		const json_t *labels = json_object_get(row, "Labels");
		int64_t size;
		bool fits = false;

		for (k = 0; k < sizeof(ended) / sizeof(ended[0]); k++)
			fits |= !strcmp(json_str(row, "State", ""), ended[k]);
		if (!fits || json_int(row, "Created", 0) * 1000000000 >= until ||
		    !filter_allows_labels(filters, "label", labels) ||
		    (json_object_get(filters, "label!") &&
		     filter_allows_labels(filters, "label!", labels)))
			continue;
		usage_add_container(req->fabric, row);
		size = json_int(row, "SizeRw", 0);
		/* One that has just been started or removed stays out of it. */
		if (fabric_container_remove(req->fabric, json_str(row, "Id", ""), false, false,
					    NULL) < 0)
			continue;
		json_array_append(gone, json_object_get(row, "Id"));
		freed += size;
	}
	return reply_json(req, 200,
			  json_pack("{s:O, s:I}", "ContainersDeleted", gone, "SpaceReclaimed",
				    (json_int_t)freed));
}

/* --- life --------------------------------------------------------------------------- */

/*
 * A start that failed. Docker removes a container that was to be removed at its end, and
 * `docker run --rm` waits for that.
 */
static void after_failed_start(struct request *req, const char *id)
{
	CLEANUP_JSON json_t *c = NULL;

	if (fabric_container_inspect(req->fabric, id, &c, NULL) == 0 &&
	    json_is_true(json_at(c, "HostConfig.AutoRemove")) &&
	    !json_is_true(json_at(c, "State.Running")))
		fabric_container_remove(req->fabric, id, true, true, NULL);
}

static int start(struct request *req, struct error *err)
{
	bool already = false;
	char id[65];
	int r = fabric_container_resolve(req->fabric, req->arg, id, err);

	if (r < 0)
		return r;
	if (query_str(&req->query, "checkpoint"))
		return docker_start_from(req, id, err);
	r = fabric_container_start(req->fabric, id, &already, err);
	if (r < 0) {
		after_failed_start(req, id);
		/* A program that is not there or cannot be run is the request's fault, not 404. */
		return r == -ENOENT || r == -EACCES || r == -EISDIR || r == -ENOTDIR
			       ? reply_error(req, 400, err)
			       : r;
	}
	return reply_empty(req, already ? 304 : 204);
}

static int timeout_of(struct request *req, int64_t *timeout_s, struct error *err)
{
	int r;

	*timeout_s = -1;
	r = query_int(&req->query, "t", -1, 1 << 30, timeout_s, err);
	if (!r && query_str(&req->query, "signal"))
		r = error_set(err, ENOSYS,
			      "stopping with another signal is not built yet; use kill with that "
			      "signal, or create the container with it as the stop signal");
	return r;
}

static int stop(struct request *req, struct error *err)
{
	bool already = false;
	int64_t timeout_s;
	int r = timeout_of(req, &timeout_s, err);

	if (!r)
		r = fabric_container_stop(req->fabric, req->arg, (int)timeout_s, &already, err);
	return reply_done(req, r, already ? 304 : 204);
}

static int restart(struct request *req, struct error *err)
{
	int64_t timeout_s;
	char id[65];
	int r = timeout_of(req, &timeout_s, err);

	if (!r)
		r = fabric_container_resolve(req->fabric, req->arg, id, err);
	if (r < 0)
		return r;
	r = fabric_container_restart(req->fabric, id, (int)timeout_s, err);
	if (r == -ENOENT || r == -EACCES)
		return reply_error(req, 400, err);
	return reply_done(req, r, 204);
}

static int kill_one(struct request *req, struct error *err)
{
	return reply_done(
		req,
		fabric_container_kill(req->fabric, req->arg, query_str(&req->query, "signal"), err),
		204);
}

static int pause_one(struct request *req, struct error *err)
{
	return reply_done(req, fabric_container_pause(req->fabric, req->arg, err), 204);
}

static int unpause_one(struct request *req, struct error *err)
{
	return reply_done(req, fabric_container_unpause(req->fabric, req->arg, err), 204);
}

static int rename_one(struct request *req, struct error *err)
{
	const char *name = query_str(&req->query, "name");

	if (!name)
		return error_set(err, EINVAL, "Neither old nor new names may be empty");
	return reply_done(req, fabric_container_rename(req->fabric, req->arg, name, err), 204);
}

static int update(struct request *req, struct error *err)
{
	int r = fabric_container_update(req->fabric, req->arg, req->json, err);

	return r < 0 ? r : reply_json(req, 200, json_pack("{s:[]}", "Warnings"));
}

static int resize(struct request *req, struct error *err)
{
	int64_t rows = 0, cols = 0;
	int r = query_int(&req->query, "h", 0, 65535, &rows, err);

	if (!r)
		r = query_int(&req->query, "w", 0, 65535, &cols, err);
	if (!r)
		r = fabric_container_resize(req->fabric, req->arg, (int)rows, (int)cols, err);
	return reply_done(req, r, 200);
}

const struct route docker_container_routes[] = {
	{ .method = "GET", .pattern = "/containers/json", .handler = list },
	{ .method = "POST", .pattern = "/containers/create", .handler = create, .body = BODY_JSON },
	{ .method = "POST", .pattern = "/containers/prune", .handler = prune },
	{ .method = "GET", .pattern = "/containers/{}/json", .handler = inspect },
	{ .method = "GET", .pattern = "/containers/{}/top", .handler = top },
	{ .method = "POST", .pattern = "/containers/{}/start", .handler = start },
	{ .method = "POST", .pattern = "/containers/{}/stop", .handler = stop },
	{ .method = "POST", .pattern = "/containers/{}/restart", .handler = restart },
	{ .method = "POST", .pattern = "/containers/{}/kill", .handler = kill_one },
	{ .method = "POST", .pattern = "/containers/{}/pause", .handler = pause_one },
	{ .method = "POST", .pattern = "/containers/{}/unpause", .handler = unpause_one },
	{ .method = "POST", .pattern = "/containers/{}/rename", .handler = rename_one },
	{ .method = "POST",
	  .pattern = "/containers/{}/update",
	  .handler = update,
	  .body = BODY_JSON },
	{ .method = "POST", .pattern = "/containers/{}/resize", .handler = resize },
	{ .method = "DELETE", .pattern = "/containers/{}", .handler = remove_one },
	{ 0 },
};
