/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of containers, in and out, wherever in the cluster they are; and images made of
 * them. Between hosts the archives go as streams of the RPC.
 */
#include <string.h>

#include "fabric/internal.h"

#define ASK_TIMEOUT_NS 10000000000ll

enum what { ARCHIVE, EXPORT, LAYER };
static const char *const what_names[] = { "archive", "export", "layer" };

static int read_here(struct fabric *f, const char *id, enum what what, const char *path, int fd,
		     struct error *err)
{
	if (what == EXPORT)
		return container_export(f->containers, id, fd, err);
	if (what == LAYER)
		return container_layer(f->containers, id, fd, err);
	return container_archive_get(f->containers, id, path, fd, err);
}

/* --- what other hosts ask for ----------------------------------------------------------- */

struct reading {
	struct fabric *f;
	const char *id, *path;
	enum what what;
};

static int write_files(void *ctx, int fd, struct error *err)
{
	const struct reading *g = ctx;

	return read_here(g->f, g->id, g->what, g->path, fd, err);
}

static int rpc_read(void *ctx, struct rpc_request *req, json_t *params, struct rpc_stream *stream,
		    json_t **result, struct error *err)
{
	struct reading g = { .f = ctx, .path = json_str(params, "path", "") };
	struct pump p = { .write = write_files, .ctx = &g };
	const char *what = NULL;
	int rd, r = json_want_str(params, "id", true, &g.id, err);

	(void)req;
	(void)result;
	if (!r)
		r = json_want_str(params, "what", true, &what, err);
	if (r < 0)
		return r;
	while (g.what < LAYER && strcmp(what_names[g.what], what))
		g.what++;
	r = pump_start(&p, &rd, err);
	if (r < 0)
		return r;
	return pump_end(&p, rd, rpc_stream_send_fd(stream, rd, NULL, err), err);
}

static int rpc_write(void *ctx, struct rpc_request *req, json_t *params, struct rpc_stream *stream,
		     json_t **result, struct error *err)
{
	struct fabric *f = ctx;
	struct pump p = { .write = pump_receive, .ctx = stream };
	const char *id = NULL;
	int rd, r = json_want_str(params, "id", true, &id, err);

	(void)req;
	(void)result;
	if (!r)
		r = pump_start(&p, &rd, err);
	if (r < 0)
		return r;
	r = container_archive_put(f->containers, id, json_str(params, "path", ""), rd,
				  json_bool(params, "keep_kind", false), err);
	return pump_end(&p, rd, r, err);
}

static int rpc_look(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		    struct error *err)
{
	struct fabric *f = ctx;
	const char *id = NULL, *path = json_str(params, "path", NULL);
	int r = json_want_str(params, "id", true, &id, err);

	(void)req;
	if (r < 0)
		return r;
	return path ? container_path_stat(f->containers, id, path, result, err)
		    : container_changes(f->containers, id, result, err);
}

const struct rpc_method files_methods[] = {
	{ "files.read", NULL, rpc_read, 0 },
	{ "files.write", NULL, rpc_write, 0 },
	{ "files.look", rpc_look, NULL, 0 },
	{ NULL, NULL, NULL, 0 },
};

/* --- for the API ------------------------------------------------------------------------- */

static int read_files(struct fabric *f, const char *ref, enum what what, const char *path, int fd,
		      struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL, *params = NULL;
	struct rpc_stream *stream = NULL;
	const char *id;
	int r = container_find(f, ref, &doc, err);

	if (r < 0)
		return r;
	id = json_str(doc, "id", "");
	if (container_is_local(f, doc))
		return read_here(f, id, what, path, fd, err);
	params = json_pack("{s:s, s:s, s:s*}", "id", id, "what", what_names[what], "path", path);
	r = rpc_stream_open(f->client, json_str(doc, "host", ""), "files.read", params, 0, &stream,
			    err);
	if (r < 0)
		return r;
	r = rpc_stream_receive_fd(stream, fd, NULL, err);
	if (r < 0) {
		rpc_stream_close(stream);
		return r;
	}
	return rpc_stream_finish(stream, NULL, err);
}

int fabric_archive_get(struct fabric *f, const char *ref, const char *path, int fd,
		       struct error *err)
{
	return read_files(f, ref, ARCHIVE, path, fd, err);
}

int fabric_container_export(struct fabric *f, const char *ref, int fd, struct error *err)
{
	return read_files(f, ref, EXPORT, NULL, fd, err);
}

int fabric_archive_put(struct fabric *f, const char *ref, const char *path, int fd, bool keep_kind,
		       struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL, *params = NULL;
	struct rpc_stream *stream = NULL;
	int r = container_find(f, ref, &doc, err);

	if (r < 0)
		return r;
	if (container_is_local(f, doc))
		return container_archive_put(f->containers, json_str(doc, "id", ""), path, fd,
					     keep_kind, err);
	params = json_pack("{s:s, s:s, s:b}", "id", json_str(doc, "id", ""), "path", path,
			   "keep_kind", keep_kind);
	r = rpc_stream_open(f->client, json_str(doc, "host", ""), "files.write", params, 0, &stream,
			    err);
	if (r < 0)
		return r;
	/* What the other side says of the archive matters more than that it reads no more. */
	rpc_stream_send_fd(stream, fd, NULL, NULL);
	return rpc_stream_finish(stream, NULL, err);
}

static int look(struct fabric *f, const char *ref, const char *path, json_t **out,
		struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL, *params = NULL;
	const char *id;
	int r = container_find(f, ref, &doc, err);

	if (r < 0)
		return r;
	id = json_str(doc, "id", "");
	if (container_is_local(f, doc))
		return path ? container_path_stat(f->containers, id, path, out, err)
			    : container_changes(f->containers, id, out, err);
	params = json_pack("{s:s, s:s*}", "id", id, "path", path);
	return rpc_call(f->client, json_str(doc, "host", ""), "files.look", params, ASK_TIMEOUT_NS,
			out, err);
}

int fabric_archive_stat(struct fabric *f, const char *ref, const char *path, json_t **out,
			struct error *err)
{
	return look(f, ref, path, out, err);
}

int fabric_container_changes(struct fabric *f, const char *ref, json_t **out, struct error *err)
{
	return look(f, ref, NULL, out, err);
}

/* --- images of containers ---------------------------------------------------------------- */

struct layer_of {
	struct fabric *f;
	const char *ref;
};

static int write_layer(void *ctx, int fd, struct error *err)
{
	const struct layer_of *y = ctx;

	return read_files(y->f, y->ref, LAYER, NULL, fd, err);
}

static int commit(struct fabric *f, const char *ref, const struct image_change *change, char **id,
		  struct error *err)
{
	struct layer_of y = { f, ref };
	struct pump p = { .write = write_layer, .ctx = &y };
	int rd, layer, r = pump_start(&p, &rd, err);

	if (r < 0)
		return r;
	r = image_commit(f->images, change, rd, id, err);
	layer = pump_join(&p, rd);
	/* A layer that broke off is no tar either, but the reason is better. */
	return layer < 0 && layer != -EPIPE ? error_set(err, -layer, "%s", p.err.msg) : r;
}

int fabric_container_commit(struct fabric *f, const char *ref, const struct fabric_commit *c,
			    char **id, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL, *image = NULL;
	bool paused = false;
	int r = container_find(f, ref, &doc, err);

	*id = NULL;
	if (r == 0)
		r = image_ensure(f, json_str(doc, "image", ""), json_str(doc, "host", NULL), &image,
				 err);
	if (r < 0)
		return r;
	if (c->pause && container_is_up(doc))
		paused = fabric_container_pause(f, json_str(doc, "id", ""), NULL) == 0;
	r = commit(f, json_str(doc, "id", ""),
		   &(struct image_change){ .parent = json_str(doc, "image", NULL),
					   .name = c->name,
					   .config = c->config,
					   .author = c->author,
					   .comment = c->comment,
					   .container = json_str(doc, "id", NULL),
					   .created_by = c->created_by },
		   id, err);
	if (paused)
		fabric_container_unpause(f, json_str(doc, "id", ""), NULL);
	if (r == 0)
		event_publish(f->events, "container", "commit", json_str(doc, "id", ""), NULL);
	return r;
}

int fabric_image_import(struct fabric *f, const struct fabric_commit *c, int fd, char **id,
			struct error *err)
{
	const struct image_change change = { .name = c->name,
					     .config = c->config,
					     .comment = c->comment,
					     .created_by = c->created_by };
	int r = image_commit(f->images, &change, fd, id, err);

	if (r == 0)
		event_publish(f->events, "image", "import", *id, NULL);
	return r;
}
