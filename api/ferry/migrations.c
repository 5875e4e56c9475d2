/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /ferry/v1/migrations: a migration is one request whose answer is a line of JSON per
 * step of progress and, last, {"summary":{…}} or {"error":{"message","status"}}. One that
 * is refused before anything was done has the status of its error, as everything else.
 * The migration goes on when its client goes away.
 */
#include <string.h>

#include "api/ferry/ferry.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"

int ferry_migration_list(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_migration_list(req->fabric, &out, err);

	return r < 0 ? r : reply_json(req, 200, out);
}

struct migration {
	char *container, *host;
	struct fabric_migrate_options options;
	struct feed *stream;
	bool begun; /* something was reported: the status line has been sent */
};

static void migration_free(void *ctx)
{
	struct migration *m = ctx;

	free(m->container);
	free(m->host);
	free(m);
}

static void on_progress(void *ctx, const json_t *progress)
{
	struct migration *m = ctx;

	/* fabric_migrate() reports the summary here, too; it is the last line, below. */
	if (json_object_get(progress, "BlackoutNs") || json_object_get(progress, "TotalNs"))
		return;
	m->begun = true;
	feed_write_json(m->stream, progress);
}

static int migration_produce(struct feed *s, void *ctx, struct error *err)
{
	struct migration *m = ctx;
	CLEANUP_JSON json_t *summary = NULL;
	CLEANUP_JSON json_t *line = NULL;
	int r;

	m->stream = s;
	r = fabric_migrate(feed_fabric(s), m->container, m->host, &m->options, on_progress, m,
			   &summary, err);
	if (r < 0 && !m->begun)
		return r;
	if (r < 0) {
		log_warn("migrating %s to %s: %s", m->container, m->host, err->msg);
		line = json_pack("{s:{s:s, s:i}}", "error", "message", err->msg, "status",
				 error_http_status(err->code ? err->code : -r));
	} else {
		line = json_pack("{s:O}", "summary", summary);
	}
	feed_write_json(s, line);
	return 0;
}

static int want_bool(const json_t *j, const char *key, bool dflt, bool *out, struct error *err)
{
	const json_t *v = json_object_get(j, key);

	*out = dflt;
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_boolean(v))
		return error_set(err, EINVAL, "field \"%s\" must be true or false", key);
	*out = json_is_true(v);
	return 0;
}

static int read_options(const json_t *j, struct fabric_migrate_options *o, struct error *err)
{
	const char *on_timeout = "refuse", *tracker = "auto";
	int64_t downtime_ms = 0, timeout_ms = 0, streams = 0;
	bool converge = true;
	int r = json_want_int(j, "downtime_ms", false, 0, 3600000, &downtime_ms, err);

	if (!r)
		r = json_want_int(j, "timeout_ms", false, 0, 7 * 86400000ll, &timeout_ms, err);
	if (!r)
		r = json_want_int(j, "streams", false, 0, 16, &streams, err);
	if (!r)
		r = json_want_str(j, "on_timeout", false, &on_timeout, err);
	if (!r)
		r = json_want_str(j, "tracker", false, &tracker, err);
	if (!r)
		r = want_bool(j, "verify", false, &o->verify, err);
	if (!r)
		r = want_bool(j, "check", false, &o->check, err);
	if (!r)
		r = want_bool(j, "postcopy", false, &o->postcopy, err);
	if (!r)
		r = want_bool(j, "auto_converge", true, &converge, err);
	if (r < 0)
		return r;
	if (strcmp(on_timeout, "refuse") && strcmp(on_timeout, "force") &&
	    strcmp(on_timeout, "postcopy"))
		return error_set(err, EINVAL,
				 "field \"on_timeout\" is \"refuse\", \"force\" or \"postcopy\", "
				 "not \"%.100s\"",
				 on_timeout);
	if (strcmp(tracker, "auto") && strcmp(tracker, "uffd") && strcmp(tracker, "softdirty") &&
	    strcmp(tracker, "none"))
		return error_set(err, EINVAL,
				 "field \"tracker\" is \"auto\", \"uffd\", \"softdirty\" or "
				 "\"none\", not \"%.100s\"",
				 tracker);
	if (strcmp(tracker, "auto"))
		snprintf(o->tracker, sizeof(o->tracker), "%s", tracker);
	o->downtime_ns = downtime_ms * 1000000;
	o->timeout_ns = timeout_ms * 1000000;
	o->streams = (int)streams;
	o->force_on_timeout = !strcmp(on_timeout, "force");
	o->late_on_timeout = !strcmp(on_timeout, "postcopy");
	o->no_auto_converge = !converge;
	return 0;
}

int ferry_migration_start(struct request *req, struct error *err)
{
	const char *container = NULL, *host = NULL;
	struct migration *m = mem_zalloc(sizeof(*m));
	struct feed_options o = { .type = "application/x-ndjson",
				  .produce = migration_produce,
				  .ctx = m,
				  .free_ctx = migration_free,
				  .settle_ms = -1 };
	int r = json_want_str(req->json, "container", true, &container, err);

	if (!r)
		r = json_want_str(req->json, "host", true, &host, err);
	if (!r)
		r = read_options(req->json, &m->options, err);
	if (r < 0) {
		migration_free(m);
		return r;
	}
	m->container = str_dup(container);
	m->host = str_dup(host);
	return reply_feed(req, &o, err);
}
