/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Docker's checkpoints (experimental there): /containers/ID/checkpoints, and starting from
 * one. They are ferry's own: with the volumes, and known to the whole cluster.
 */
#include <string.h>

#include "api/docker/docker.h"
#include "api/request.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"
#include "fabric/checkpoint.h"

static int no_folder(const char *folder, struct error *err)
{
	if (!folder || !*folder)
		return 0;
	return error_set(err, EINVAL,
			 "checkpoints are kept in the cluster, not in a folder of the host; 'ferry "
			 "checkpoint create --output FILE' writes one into a file");
}

static int list(struct request *req, struct error *err)
{
	CLEANUP_JSON json_t *all = NULL;
	json_t *out, *c;
	size_t i;
	int r = no_folder(query_str(&req->query, "dir"), err);

	if (!r)
		r = fabric_checkpoint_list(req->fabric, req->arg, &all, err);
	if (r < 0)
		return r;
	out = json_array();
	json_array_foreach (all, i, c)
		json_array_append_new(out, json_pack("{s:s}", "Name", json_str(c, "Name", "")));
	return reply_json(req, 200, out);
}

static int create(struct request *req, struct error *err)
{
	const char *name = NULL, *folder = NULL;
	CLEANUP_JSON json_t *out = NULL;
	int r = json_want_str(req->json, "CheckpointID", true, &name, err);

	if (!r)
		r = json_want_str(req->json, "CheckpointDir", false, &folder, err);
	if (!r)
		r = no_folder(folder, err);
	if (!r)
		r = fabric_checkpoint_create(req->fabric, req->arg, name,
					     !json_bool(req->json, "Exit", false), NULL, NULL, &out,
					     err);
	return reply_done(req, r, 201);
}

/* "CONTAINER/NAME" */
static int remove_one(struct request *req, struct error *err)
{
	char id[65], *slash = strchr(req->arg, '/');
	CLEANUP_FREE char *ref = NULL;
	int r = no_folder(query_str(&req->query, "dir"), err);

	*slash = '\0';
	if (!r)
		r = fabric_container_resolve(req->fabric, req->arg, id, err);
	if (r < 0)
		return r;
	ref = str_format("%s:%s", id, slash + 1);
	return reply_done(req, fabric_checkpoint_remove(req->fabric, ref, err), 204);
}

/* On the host where the container is. */
int docker_start_from(struct request *req, const char *id, struct error *err)
{
	CLEANUP_FREE char *ref = NULL;
	CLEANUP_JSON json_t *c = NULL;
	CLEANUP_JSON json_t *out = NULL;
	struct fabric_restore_options o = { 0 };
	int r = no_folder(query_str(&req->query, "checkpoint-dir"), err);

	if (!r)
		r = fabric_container_inspect(req->fabric, id, &c, err);
	if (r < 0)
		return r;
	ref = str_format("%s:%s", id, query_str(&req->query, "checkpoint"));
	o.host = json_str(json_object_get(c, "Ferry"), "Host", NULL);
	return reply_done(req, fabric_restore(req->fabric, ref, &o, NULL, NULL, &out, err), 204);
}

const struct route docker_checkpoint_routes[] = {
	{ .method = "GET", .pattern = "/containers/{}/checkpoints", .handler = list },
	{ .method = "POST",
	  .pattern = "/containers/{}/checkpoints",
	  .handler = create,
	  .body = BODY_JSON },
	{ .method = "DELETE", .pattern = "/containers/{}/checkpoints/{}", .handler = remove_one },
	{ 0 },
};
