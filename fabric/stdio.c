/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logs, attach, exec, stats, top, resize: what needs the host on which the container runs,
 * and the RPC method by which other hosts ask for what is no stream.
 */
#include <string.h>

#include "fabric/internal.h"

#define LOOK_TIMEOUT_NS 10000000000ll

/* A container that runs here, or an error that names the host to ask. */
static int find_here(struct fabric *f, const char *ref, const char *what, json_t **doc,
		     struct error *err)
{
	int r = container_find(f, ref, doc, err);

	if (r < 0 || container_is_local(f, *doc))
		return r;
	return error_set(err, EXDEV, "container %s runs on host %s; %s it there",
			 json_str(*doc, "name", ref), json_str(*doc, "host", ""), what);
}

int fabric_container_logs(struct fabric *f, const char *ref,
			  const struct fabric_log_options *options, fabric_log_sink *sink,
			  void *ctx, struct error *err)
{
	struct container_log_options o = {
		.follow = options->follow,
		.stdout_ = options->out,
		.stderr_ = options->err,
		.timestamps = options->timestamps,
		.since_ns = options->since_ns,
		.until_ns = options->until_ns,
		.tail = options->tail,
	};
	CLEANUP_JSON json_t *doc = NULL;
	int r = find_here(f, ref, "read the logs of", &doc, err);

	return r < 0 ? r
		     : container_logs(f->containers, json_str(doc, "id", ""), &o, sink, ctx, err);
}

int fabric_container_attach(struct fabric *f, const char *ref, const struct fabric_attach *what,
			    int *sock, bool *tty, struct error *err)
{
	struct container_attach_options o = { what->in, what->out, what->err, what->logs };
	CLEANUP_JSON json_t *doc = NULL;
	int r = find_here(f, ref, "attach to", &doc, err);

	if (r < 0)
		return r;
	*tty = json_is_true(json_at(doc, "docker.Tty"));
	return container_attach(f->containers, json_str(doc, "id", ""), &o, sock, err);
}

int fabric_exec_create(struct fabric *f, const char *ref, const json_t *body, json_t **out,
		       struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	CLEANUP_JSON json_t *copy = json_deep_copy(body);
	CLEANUP_FREE char *exec_id = NULL;
	int r = find_here(f, ref, "exec in", &doc, err);

	if (r < 0)
		return r;
	if (strcmp(container_status(doc), "running"))
		return error_set(err, EBUSY, "container %s is %s%s", json_str(doc, "id", ""),
				 strcmp(container_status(doc), "paused") ? "not running" : "paused",
				 strcmp(container_status(doc), "paused")
					 ? ""
					 : ", unpause the container before exec");
	r = container_exec_create(f->containers, json_str(doc, "id", ""), copy, &exec_id, err);
	if (r < 0)
		return r;
	container_event(f, doc, "exec_create", "execID", exec_id);
	*out = json_pack("{s:s}", "Id", exec_id);
	return 0;
}

int fabric_exec_start(struct fabric *f, const char *exec_id, int *sock, bool *tty,
		      struct error *err)
{
	CLEANUP_JSON json_t *exec = NULL;
	int r = container_exec_inspect(f->containers, exec_id, &exec, err);

	if (r < 0)
		return r;
	if (tty)
		*tty = json_is_true(json_at(exec, "ProcessConfig.tty"));
	return container_exec_start(f->containers, exec_id, sock, err);
}

int fabric_exec_resize(struct fabric *f, const char *exec_id, int rows, int cols, struct error *err)
{
	return container_exec_resize(f->containers, exec_id, (unsigned int)rows, (unsigned int)cols,
				     err);
}

int fabric_exec_inspect(struct fabric *f, const char *exec_id, json_t **out, struct error *err)
{
	return container_exec_inspect(f->containers, exec_id, out, err);
}

/* --- looks that other hosts may ask for ------------------------------------------------------- */

int fabric_container_stats(struct fabric *f, const char *ref, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	int r = container_find(f, ref, &doc, err);

	if (r < 0)
		return r;
	if (!container_is_local(f, doc))
		return container_forward(f, doc, "stats", NULL, LOOK_TIMEOUT_NS, out, err);
	r = container_stats(f->containers, json_str(doc, "id", ""), out, err);
	if (!r) {
		CLEANUP_FREE char *name = str_format("/%s", json_str(doc, "name", ""));

		json_set_str(*out, "name", name);
		json_set_str(*out, "id", json_str(doc, "id", ""));
	}
	return r;
}

int fabric_container_top(struct fabric *f, const char *ref, const char *ps_args, json_t **out,
			 struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	int r = container_find(f, ref, &doc, err);

	if (r < 0)
		return r;
	if (!container_is_local(f, doc)) {
		CLEANUP_JSON json_t *args = json_pack("{s:s*}", "ps_args", ps_args);

		return container_forward(f, doc, "top", args, LOOK_TIMEOUT_NS, out, err);
	}
	if (!container_is_up(doc))
		return error_set(err, EBUSY, "container %s is not running",
				 json_str(doc, "id", ""));
	return container_top(f->containers, json_str(doc, "id", ""), ps_args, out, err);
}

int fabric_container_resize(struct fabric *f, const char *ref, int rows, int cols,
			    struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	int r = container_find(f, ref, &doc, err);

	if (r < 0)
		return r;
	if (!container_is_local(f, doc)) {
		CLEANUP_JSON json_t *args = json_pack("{s:i, s:i}", "rows", rows, "cols", cols);

		return container_forward(f, doc, "resize", args, LOOK_TIMEOUT_NS, NULL, err);
	}
	return container_resize(f->containers, json_str(doc, "id", ""), (unsigned int)rows,
				(unsigned int)cols, err);
}

/* --- container.op ------------------------------------------------------------------- */

static int op_start(struct fabric *f, const char *id, const json_t *args, json_t **result,
		    struct error *err)
{
	bool already;
	int r = fabric_container_start(f, id, &already, err);

	(void)args;
	*result = json_pack("{s:b}", "already", already);
	return r;
}

static int op_stop(struct fabric *f, const char *id, const json_t *args, json_t **result,
		   struct error *err)
{
	bool already;
	int r = fabric_container_stop(f, id, (int)json_int(args, "timeout", -1), &already, err);

	*result = json_pack("{s:b}", "already", already);
	return r;
}

static int op_kill(struct fabric *f, const char *id, const json_t *args, json_t **result,
		   struct error *err)
{
	(void)result;
	return fabric_container_kill(f, id, json_str(args, "signal", NULL), err);
}

static int op_pause(struct fabric *f, const char *id, const json_t *args, json_t **result,
		    struct error *err)
{
	(void)args;
	(void)result;
	return fabric_container_pause(f, id, err);
}

static int op_unpause(struct fabric *f, const char *id, const json_t *args, json_t **result,
		      struct error *err)
{
	(void)args;
	(void)result;
	return fabric_container_unpause(f, id, err);
}

static int op_update(struct fabric *f, const char *id, const json_t *args, json_t **result,
		     struct error *err)
{
	(void)result;
	return fabric_container_update(f, id, args, err);
}

static int op_remove(struct fabric *f, const char *id, const json_t *args, json_t **result,
		     struct error *err)
{
	(void)result;
	return fabric_container_remove(f, id, json_bool(args, "force", false),
				       json_bool(args, "volumes", false), err);
}

static int op_inspect(struct fabric *f, const char *id, const json_t *args, json_t **result,
		      struct error *err)
{
	(void)args;
	return fabric_container_inspect(f, id, result, err);
}

static int op_stats(struct fabric *f, const char *id, const json_t *args, json_t **result,
		    struct error *err)
{
	(void)args;
	return fabric_container_stats(f, id, result, err);
}

static int op_top(struct fabric *f, const char *id, const json_t *args, json_t **result,
		  struct error *err)
{
	return fabric_container_top(f, id, json_str(args, "ps_args", NULL), result, err);
}

static int op_resize(struct fabric *f, const char *id, const json_t *args, json_t **result,
		     struct error *err)
{
	(void)result;
	return fabric_container_resize(f, id, (int)json_int(args, "rows", 0),
				       (int)json_int(args, "cols", 0), err);
}

static const struct {
	const char *name;
	int (*run)(struct fabric *f, const char *id, const json_t *args, json_t **result,
		   struct error *err);
} ops[] = {
	{ "start", op_start },	 { "stop", op_stop },	    { "kill", op_kill },
	{ "pause", op_pause },	 { "unpause", op_unpause }, { "update", op_update },
	{ "remove", op_remove }, { "inspect", op_inspect }, { "stats", op_stats },
	{ "top", op_top },	 { "resize", op_resize },
};

static int rpc_op(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		  struct error *err)
{
	struct fabric *f = ctx;
	const char *op = NULL, *id = NULL;
	CLEANUP_JSON json_t *doc = NULL;
	CLEANUP_FREE char *key = NULL;
	int r = json_want_str(params, "op", true, &op, err);

	(void)req;
	if (!r)
		r = json_want_str(params, "id", true, &id, err);
	if (r < 0)
		return r;
	/* The caller's picture may be newer than ours; one hop is all there is. */
	key = container_key(id);
	r = document_get(f, key, &doc, err);
	if (r < 0)
		return r == -ENOENT ? error_set(err, ENOENT, "No such container: %s", id) : r;
	if (!container_is_local(f, doc))
		return error_set(err, EBUSY, "container %s has just moved to host %s; try again",
				 json_str(doc, "name", id), json_str(doc, "host", ""));
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (!strcmp(ops[i].name, op))
			return ops[i].run(f, id, json_object_get(params, "args"), result, err);
	return error_set(err, ENOSYS,
			 "operation \"%s\" is not known here; are all hosts of one version?", op);
}

const struct rpc_method container_methods[] = {
	{ "container.op", rpc_op, NULL, 0 },
	{ NULL, NULL, NULL, 0 },
};
