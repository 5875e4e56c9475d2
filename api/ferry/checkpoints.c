/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /ferry/v1/checkpoints, /ferry/v1/restore, /ferry/v1/clone. What takes long answers as a
 * migration does: a line of JSON a step, the last {"summary":{…}} or {"error":{…}}; what is
 * refused before anything was done has the status of its error. It goes on when its
 * client goes away.
 */
#include <string.h>

#include "api/ferry/ferry.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "fabric/checkpoint.h"

/* --- plain answers ------------------------------------------------------------------------ */

int ferry_checkpoint_list(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_checkpoint_list(req->fabric, query_str(&req->query, "container"), &out, err);

	return r < 0 ? r : reply_json(req, 200, out);
}

int ferry_checkpoint_inspect(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_checkpoint_inspect(req->fabric, req->arg, &out, err);

	return r < 0 ? r : reply_json(req, 200, out);
}

int ferry_checkpoint_remove(struct request *req, struct error *err)
{
	return reply_done(req, fabric_checkpoint_remove(req->fabric, req->arg, err), 204);
}

int ferry_checkpoint_drop_data(struct request *req, struct error *err)
{
	return reply_done(req, fabric_checkpoint_exported(req->fabric, req->arg, err), 204);
}

/* --- jobs ---------------------------------------------------------------------------- */

enum job_kind { JOB_CREATE, JOB_RESTORE, JOB_CLONE };

struct job {
	enum job_kind kind;
	char *what, *name, *host; /* container or checkpoint; the rest may be NULL */
	bool leave_running, rollback;
	struct feed *stream;
	bool begun; /* the status line has been sent */
};

static void job_free(void *ctx)
{
	struct job *j = ctx;

	free(j->what);
	free(j->name);
	free(j->host);
	free(j);
}

/* "CHECK" has done nothing yet: a refusal after it has its own status. */
static void on_progress(void *ctx, const json_t *progress)
{
	struct job *j = ctx;

	if (!strcmp(json_str(progress, "State", ""), "CHECK"))
		return;
	j->begun = true;
	feed_write_json(j->stream, progress);
}

static int run(struct job *j, struct fabric *f, json_t **out, struct error *err)
{
	struct fabric_restore_options o = { j->name, j->host, j->rollback };

	switch (j->kind) {
	case JOB_CREATE:
		return fabric_checkpoint_create(f, j->what, j->name, j->leave_running, on_progress,
						j, out, err);
	case JOB_RESTORE:
		return fabric_restore(f, j->what, &o, on_progress, j, out, err);
	case JOB_CLONE:
		return fabric_clone(f, j->what, &o, on_progress, j, out, err);
	}
	return -EINVAL;
}

static int job_produce(struct feed *s, void *ctx, struct error *err)
{
	struct job *j = ctx;
	CLEANUP_JSON json_t *summary = NULL;
	CLEANUP_JSON json_t *line = NULL;
	int r;

	j->stream = s;
	r = run(j, feed_fabric(s), &summary, err);
	if (r < 0 && !j->begun)
		return r;
	if (r < 0) {
		log_warn("%s: %s", j->what, err->msg);
		line = json_pack("{s:{s:s, s:i}}", "error", "message", err->msg, "status",
				 error_http_status(err->code ? err->code : -r));
	} else {
		line = json_pack("{s:O}", "summary", summary);
	}
	feed_write_json(s, line);
	return 0;
}

static int want_bool(const json_t *j, const char *key, bool *out, struct error *err)
{
	const json_t *v = json_object_get(j, key);

	if (v && !json_is_null(v) && !json_is_boolean(v))
		return error_set(err, EINVAL, "field \"%s\" must be true or false", key);
	*out = json_is_true(v);
	return 0;
}

static int start(struct request *req, enum job_kind kind, const char *what_key, struct error *err)
{
	const char *what = NULL, *name = NULL, *host = NULL;
	struct job *j = mem_zalloc(sizeof(*j));
	struct feed_options o = { .type = "application/x-ndjson",
				  .produce = job_produce,
				  .ctx = j,
				  .free_ctx = job_free,
				  .settle_ms = -1 };
	int r = json_want_str(req->json, what_key, true, &what, err);

	if (!r)
		r = json_want_str(req->json, "name", kind == JOB_CREATE, &name, err);
	if (!r)
		r = json_want_str(req->json, "host", false, &host, err);
	if (!r)
		r = want_bool(req->json, "leave_running", &j->leave_running, err);
	if (!r)
		r = want_bool(req->json, "rollback", &j->rollback, err);
	if (r < 0) {
		job_free(j);
		return r;
	}
	j->kind = kind;
	j->what = str_dup(what);
	j->name = name && *name ? str_dup(name) : NULL;
	j->host = host && *host ? str_dup(host) : NULL;
	return reply_feed(req, &o, err);
}

int ferry_checkpoint_create(struct request *req, struct error *err)
{
	return start(req, JOB_CREATE, "container", err);
}

int ferry_restore(struct request *req, struct error *err)
{
	return start(req, JOB_RESTORE, "checkpoint", err);
}

int ferry_clone(struct request *req, struct error *err)
{
	return start(req, JOB_CLONE, "container", err);
}

/* --- files ------------------------------------------------------------------------------ */

static int data_produce(struct feed *s, void *ctx, struct error *err)
{
	return fabric_checkpoint_export(feed_fabric(s), ctx, feed_fd(s), err);
}

/* One that is cut short lacks its last bytes, and is refused as a checkpoint. */
int ferry_checkpoint_data(struct request *req, struct error *err)
{
	struct feed_options o = { .type = "application/octet-stream",
				  .produce = data_produce,
				  .ctx = str_dup(req->arg),
				  .free_ctx = free,
				  .settle_ms = -1 };

	return reply_feed(req, &o, err);
}

int ferry_restore_upload(struct request *req, int fd, struct error *err)
{
	struct fabric_restore_options o = {
		.name = query_str(&req->query, "name"),
		.host = query_str(&req->query, "host"),
		.rollback = query_bool(&req->query, "rollback"),
	};

	return fabric_restore_file(req->fabric, fd, &o, NULL, NULL, &req->uploaded, err);
}

int ferry_restore_file(struct request *req, struct error *err)
{
	json_t *line = json_pack("{s:O}", "summary", req->uploaded);
	CLEANUP_FREE char *text = json_text(line);
	CLEANUP_BUF struct buf b = { 0 };

	(void)err;
	json_decref(line);
	buf_addf(&b, "%s\n", text);
	return reply_text(req, 200, "application/x-ndjson", b.data, b.len);
}
