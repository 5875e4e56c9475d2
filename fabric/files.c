/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of containers, in and out, wherever in the cluster they are; and images made of
 * them. Between hosts the archives go as streams of the RPC.
 */
#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
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

/* One end of a pipe served by a thread, so that files and RPC can both block. */
struct pump {
	struct fabric *f;
	struct rpc_stream *stream;
	const char *id, *path;
	enum what what;
	int fd; /* the thread closes it */
	int result;
	struct error err;
};

static void *read_thread(void *arg)
{
	struct pump *p = arg;

	p->result = read_here(p->f, p->id, p->what, p->path, p->fd, &p->err);
	close(p->fd);
	return NULL;
}

static void *receive_thread(void *arg)
{
	struct pump *p = arg;

	p->result = rpc_stream_receive_fd(p->stream, p->fd, NULL, &p->err);
	close(p->fd);
	return NULL;
}

/* A pipe whose writing end `run` serves in a thread; *rd is ours. */
static int pump_start(struct pump *p, void *(*run)(void *), pthread_t *thread, int *rd,
		      struct error *err)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_sys(err, errno, "making a pipe");
	p->fd = fds[1];
	r = pthread_create(thread, NULL, run, p);
	if (r) {
		close(fds[0]);
		close(fds[1]);
		return error_sys(err, r, "starting a thread");
	}
	*rd = fds[0];
	return 0;
}

static int pump_end(struct pump *p, pthread_t thread, int rd, int r, struct error *err)
{
	close(rd); /* one that still writes gets EPIPE */
	pthread_join(thread, NULL);
	if (r >= 0 && p->result < 0)
		return error_set(err, -p->result, "%s", p->err.msg);
	return r < 0 ? r : 0;
}

static int rpc_read(void *ctx, struct rpc_request *req, json_t *params, struct rpc_stream *stream,
		    json_t **result, struct error *err)
{
	struct pump p = { .f = ctx, .path = json_str(params, "path", "") };
	const char *what = NULL;
	pthread_t thread;
	int rd = -1, r = json_want_str(params, "id", true, &p.id, err);

	(void)req;
	(void)result;
	if (!r)
		r = json_want_str(params, "what", true, &what, err);
	if (r < 0)
		return r;
	while (p.what < LAYER && strcmp(what_names[p.what], what))
		p.what++;
	r = pump_start(&p, read_thread, &thread, &rd, err);
	if (r < 0)
		return r;
	r = rpc_stream_send_fd(stream, rd, NULL, err);
	return pump_end(&p, thread, rd, r, err);
}

static int rpc_write(void *ctx, struct rpc_request *req, json_t *params, struct rpc_stream *stream,
		     json_t **result, struct error *err)
{
	struct pump p = { .f = ctx, .stream = stream, .path = json_str(params, "path", "") };
	pthread_t thread;
	int rd = -1, r = json_want_str(params, "id", true, &p.id, err);

	(void)req;
	(void)result;
	if (!r)
		r = pump_start(&p, receive_thread, &thread, &rd, err);
	if (r < 0)
		return r;
	r = container_archive_put(p.f->containers, p.id, p.path, rd,
				  json_bool(params, "keep_kind", false), err);
	return pump_end(&p, thread, rd, r, err);
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

struct layer_pump {
	struct fabric *f;
	const char *ref;
	int fd, result;
	struct error err;
};

static void *layer_thread(void *arg)
{
	struct layer_pump *p = arg;

	p->result = read_files(p->f, p->ref, LAYER, NULL, p->fd, &p->err);
	close(p->fd);
	return NULL;
}

static int commit(struct fabric *f, const char *ref, const struct image_change *change, char **id,
		  struct error *err)
{
	struct layer_pump p = { .f = f, .ref = ref };
	pthread_t thread;
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_sys(err, errno, "making a pipe");
	p.fd = fds[1];
	r = pthread_create(&thread, NULL, layer_thread, &p);
	if (r) {
		close(fds[0]);
		close(fds[1]);
		return error_sys(err, r, "starting a thread");
	}
	r = image_commit(f->images, change, fds[0], id, err);
	close(fds[0]);
	pthread_join(thread, NULL);
	/* A layer that broke off is no tar either, but the reason is better. */
	return p.result < 0 && p.result != -EPIPE ? error_set(err, -p.result, "%s", p.err.msg) : r;
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
