/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of containers: archive (`docker cp`), export, changes (`docker diff`); and images
 * made of them: commit, import.
 */
#include <string.h>
#include <unistd.h>

#include "api/docker/docker.h"
#include "api/docker/instructions.h"
#include "api/request.h"
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

#define STAT_HEADER "X-Docker-Container-Path-Stat"

/* --- docker cp --------------------------------------------------------------------------- */

static int want_path(const struct request *req, const char **path, struct error *err)
{
	*path = query_str(&req->query, "path");
	return *path ? 0 : error_set(err, EINVAL, "missing parameter: path");
}

/* The stat of a path as Docker's header has it: JSON in base64 (caller frees). */
static char *stat_header(const json_t *stat)
{
	CLEANUP_FREE char *text = json_text(stat);

	return base64_encode(text);
}

/* *path, and the header that tells what is there (caller frees). */
static int look(struct request *req, const char **path, char **header, struct error *err)
{
	CLEANUP_JSON json_t *stat = NULL;
	int r = want_path(req, path, err);

	if (!r)
		r = fabric_archive_stat(req->fabric, req->arg, *path, &stat, err);
	if (!r)
		*header = stat_header(stat);
	return r;
}

static int archive_head(struct request *req, struct error *err)
{
	CLEANUP_FREE char *header = NULL;
	const char *path;
	int r = look(req, &path, &header, err);

	if (r < 0)
		return r;
	reply_empty(req, 200);
	reply_header(req, STAT_HEADER, header);
	return 0;
}

struct files {
	char *ref, *path;
};

static void files_free(void *ctx)
{
	struct files *f = ctx;

	free(f->ref);
	free(f->path);
	free(f);
}

static int files_produce(struct feed *s, void *ctx, struct error *err)
{
	const struct files *f = ctx;

	return f->path ? fabric_archive_get(feed_fabric(s), f->ref, f->path, feed_fd(s), err)
		       : fabric_container_export(feed_fabric(s), f->ref, feed_fd(s), err);
}

static int files_reply(struct request *req, const char *path, struct error *err)
{
	struct files *f = mem_zalloc(sizeof(*f));
	struct feed_options o = { .type = "application/x-tar",
				  .produce = files_produce,
				  .ctx = f,
				  .free_ctx = files_free,
				  .settle_ms = -1 };

	f->ref = str_dup(req->arg);
	f->path = str_dup(path);
	return reply_feed(req, &o, err);
}

static int archive_get(struct request *req, struct error *err)
{
	CLEANUP_FREE char *header = NULL;
	const char *path;
	int r = look(req, &path, &header, err);

	if (!r)
		r = files_reply(req, path, err);
	if (!r)
		reply_header(req, STAT_HEADER, header);
	return r;
}

static int archive_upload(struct request *req, int fd, struct error *err)
{
	const char *path;
	int r = want_path(req, &path, err);

	return r < 0 ? r
		     : fabric_archive_put(req->fabric, req->arg, path, fd,
					  query_bool(&req->query, "noOverwriteDirNonDir"), err);
}

static int archive_put(struct request *req, struct error *err)
{
	(void)err;
	return reply_empty(req, 200);
}

static int export(struct request *req, struct error *err)
{
	CLEANUP_JSON json_t *there = NULL;
	int r = fabric_container_inspect(req->fabric, req->arg, &there, err);

	return r < 0 ? r : files_reply(req, NULL, err);
}

static int changes(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_container_changes(req->fabric, req->arg, &out, err);

	return r < 0 ? r : reply_json(req, 200, out);
}

/* --- images -------------------------------------------------------------------------------- */

/* Each value of `changes`, which may hold several lines. */
static int apply_changes(const struct request *req, json_t *config, struct error *err)
{
	for (size_t i = 0; i < req->query.n; i++) {
		CLEANUP_FREE char *text = str_dup(req->query.pairs[i].value);
		char *save = NULL;

		if (strcmp(req->query.pairs[i].key, "changes") != 0)
			continue;
		for (char *line = strtok_r(text, "\n", &save); line;
		     line = strtok_r(NULL, "\n", &save)) {
			int r = instruction_apply(config, line, err);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* "repo:tag" of the new image (caller frees); NULL: it gets no name. */
static char *new_name(const struct request *req)
{
	const char *repo = query_str(&req->query, "repo"), *tag = query_str(&req->query, "tag");

	return !repo ? NULL : tag ? str_format("%s:%s", repo, tag) : str_dup(repo);
}

/* What belongs to the container and not to how an image is run. */
static json_t *run_config(const json_t *container)
{
	static const char *const own[] = { "Hostname",	   "Domainname",       "AttachStdin",
					   "AttachStdout", "AttachStderr",     "Tty",
					   "OpenStdin",	   "StdinOnce",	       "Image",
					   "HostConfig",   "NetworkingConfig", "StopTimeout" };
	json_t *config = json_deep_copy(json_object_get(container, "Config"));

	if (!json_is_object(config)) {
		json_decref(config);
		config = json_object();
	}
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		json_object_del(config, own[i]);
	return config;
}

static int commit(struct request *req, struct error *err)
{
	const char *ref = query_str(&req->query, "container");
	CLEANUP_JSON json_t *container = NULL, *config = NULL;
	CLEANUP_FREE char *name = new_name(req), *id = NULL, *by = NULL;
	int r;

	if (!ref)
		return error_set(err, EINVAL, "missing parameter: container");
	r = fabric_container_inspect(req->fabric, ref, &container, err);
	if (r < 0)
		return r;
	config = run_config(container);
	if (json_is_object(req->json))
		json_object_update(config, req->json);
	r = apply_changes(req, config, err);
	if (r < 0)
		return r;
	by = json_text(json_object_get(config, "Cmd") ? json_object_get(config, "Cmd") : config);
	r = fabric_container_commit(
		req->fabric, ref,
		&(struct fabric_commit){ .name = name,
					 .author = query_str(&req->query, "author"),
					 .comment = query_str(&req->query, "comment"),
					 .created_by = by,
					 .config = config,
					 .pause = query_bool_or(&req->query, "pause", true) },
		&id, err);
	return r < 0 ? r : reply_json(req, 201, json_pack("{s:s}", "Id", id));
}

int docker_import_upload(struct request *req, int fd, struct error *err)
{
	const char *src = query_str(&req->query, "fromSrc");
	CLEANUP_JSON json_t *config = json_object();
	CLEANUP_FREE char *name = new_name(req), *id = NULL, *by = NULL;
	int r;

	if (!src)
		return 0; /* a pull: it has no body */
	if (strcmp(src, "-") != 0)
		return error_set(
			err, EINVAL,
			"ferry imports from standard input only; fetch it first: curl -L '%s' | "
			"docker import -",
			src);
	r = apply_changes(req, config, err);
	if (r < 0)
		return r;
	by = str_format("Imported from %s", src);
	r = fabric_image_import(
		req->fabric,
		&(struct fabric_commit){ .name = name,
					 .comment = query_str(&req->query, "message"),
					 .created_by = by,
					 .config = config },
		fd, &id, err);
	if (r == 0)
		req->uploaded = json_string(id);
	return r;
}

const struct route docker_archive_routes[] = {
	{ .method = "HEAD", .pattern = "/containers/{}/archive", .handler = archive_head },
	{ .method = "GET", .pattern = "/containers/{}/archive", .handler = archive_get },
	{ .method = "PUT",
	  .pattern = "/containers/{}/archive",
	  .handler = archive_put,
	  .body = BODY_UPLOAD,
	  .upload = archive_upload },
	{ .method = "GET", .pattern = "/containers/{}/export", .handler = export },
	{ .method = "GET", .pattern = "/containers/{}/changes", .handler = changes },
	{ .method = "POST", .pattern = "/commit", .handler = commit, .body = BODY_OPTIONAL },
	{ 0 },
};
