/* SPDX-License-Identifier: Apache-2.0 */
/* /exec: more programs in a running container. */
#include <string.h>

#include "api/docker/docker.h"
#include "api/request.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

static int create(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r;

	if (!json_array_size(json_object_get(req->json, "Cmd")))
		return error_set(err, EINVAL, "No exec command specified");
	r = fabric_exec_create(req->fabric, req->arg, req->json, &out, err);
	return r < 0 ? r : reply_json(req, 201, out);
}

static int open_exec(struct fabric *f, const char *id, int *sock, struct error *err)
{
	bool tty;

	return fabric_exec_start(f, id, sock, &tty, err);
}

/*
 * Docker answers 101 first and starts then; what goes wrong is text on the stream, and
 * the exit code (126, 127) is found by inspecting the exec. What can be known before is
 * an ordinary error.
 */
static int start_attached(struct request *req, const json_t *exec, struct error *err)
{
	struct hijack_options o = {
		.sock = -1,
		.open = open_exec,
		.arg = req->arg,
		.tty = json_is_true(json_at(exec, "ProcessConfig.tty")),
		.input = json_bool(exec, "OpenStdin", false),
	};
	CLEANUP_JSON json_t *c = NULL;
	const char *id = json_str(exec, "ContainerID", "");
	int r = fabric_container_inspect(req->fabric, id, &c, err);

	if (r < 0)
		return r;
	if (json_bool(exec, "Running", false) || json_is_integer(json_object_get(exec, "ExitCode")))
		return error_set(err, EBUSY, "exec %.12s has been started already", req->arg);
	if (strcmp(json_str(json_object_get(c, "State"), "Status", ""), "running"))
		return error_set(err, EBUSY, "container %s is %s", id,
				 json_str(json_object_get(c, "State"), "Status", "gone"));
	return reply_hijack(req, &o, err);
}

static int start(struct request *req, struct error *err)
{
	CLEANUP_JSON json_t *exec = NULL;
	int r = fabric_exec_inspect(req->fabric, req->arg, &exec, err);

	if (r < 0)
		return r;
	if (!json_bool(req->json, "Detach", false))
		return start_attached(req, exec, err);
	r = fabric_exec_start(req->fabric, req->arg, NULL, NULL, err);
	if (r == -ENOENT || r == -EACCES)
		return reply_error(req, 400, err);
	return reply_done(req, r, 200);
}

static int inspect(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_exec_inspect(req->fabric, req->arg, &out, err);

	return r < 0 ? r : reply_json(req, 200, out);
}

static int resize(struct request *req, struct error *err)
{
	int64_t rows = 0, cols = 0;
	int r = query_int(&req->query, "h", 0, 65535, &rows, err);

	if (!r)
		r = query_int(&req->query, "w", 0, 65535, &cols, err);
	if (!r)
		r = fabric_exec_resize(req->fabric, req->arg, (int)rows, (int)cols, err);
	return reply_done(req, r, 200);
}

const struct route docker_exec_routes[] = {
	{ .method = "POST",
	  .pattern = "/containers/{}/exec",
	  .handler = create,
	  .body = BODY_JSON },
	{ .method = "POST", .pattern = "/exec/{}/start", .handler = start, .body = BODY_OPTIONAL },
	{ .method = "POST", .pattern = "/exec/{}/resize", .handler = resize },
	{ .method = "GET", .pattern = "/exec/{}/json", .handler = inspect },
	{ 0 },
};
