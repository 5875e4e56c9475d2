/* SPDX-License-Identifier: Apache-2.0 */
/* What goes on for a while: logs, attach, wait and stats of containers, and events. */
#include <string.h>

#include "api/docker/docker.h"
#include "api/frames.h"
#include "api/request.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/event.h"

/* A stream that fails in this time is answered with the error. */
#define SETTLE_MS 500

/* --- logs ------------------------------------------------------------------------------------- */

struct logs {
	char id[65];
	bool tty;
	struct fabric_log_options options;
	struct feed *stream;
};

static int logs_sink(void *ctx, int stream, const void *data, size_t len)
{
	struct logs *l = ctx;
	CLEANUP_BUF struct buf b = { 0 };

	if (!len)
		return feed_gone(l->stream, 0);
	if (l->tty)
		return feed_write(l->stream, data, len);
	frames_add(&b, stream, data, len);
	return feed_write(l->stream, b.data, b.len);
}

static int logs_produce(struct feed *s, void *ctx, struct error *err)
{
	struct logs *l = ctx;

	l->stream = s;
	return fabric_container_logs(feed_fabric(s), l->id, &l->options, logs_sink, l, err);
}

static int logs_options(const struct request *req, struct fabric_log_options *o, struct error *err)
{
	const char *tail = query_str(&req->query, "tail");
	int64_t n = -1;
	int r;

	o->follow = query_bool(&req->query, "follow");
	o->out = query_bool(&req->query, "stdout");
	o->err = query_bool(&req->query, "stderr");
	o->timestamps = query_bool(&req->query, "timestamps");
	if (!o->out && !o->err)
		return error_set(err, EINVAL,
				 "Bad parameters: you must choose at least one stream");
	r = query_time_ns(&req->query, "since", &o->since_ns, err);
	if (!r)
		r = query_time_ns(&req->query, "until", &o->until_ns, err);
	/* Docker takes what is no number for "all". */
	if (!r && tail && strcmp(tail, "all") && str_to_i64(tail, 0, INT32_MAX, &n) < 0)
		n = -1;
	o->tail = (long)n;
	return r;
}

static int logs(struct request *req, struct error *err)
{
	CLEANUP_FREE struct logs *l = mem_zalloc(sizeof(*l));
	CLEANUP_JSON json_t *c = NULL;
	struct feed_options o = { .produce = logs_produce,
				  .free_ctx = free,
				  .settle_ms = SETTLE_MS };
	int r = logs_options(req, &l->options, err);

	if (!r)
		r = fabric_container_inspect(req->fabric, req->arg, &c, err);
	if (r < 0)
		return r;
	snprintf(l->id, sizeof(l->id), "%s", json_str(c, "Id", ""));
	l->tty = json_is_true(json_at(c, "Config.Tty"));
	o.type = !l->tty && req->version >= 42 ? "application/vnd.docker.multiplexed-stream"
					       : "application/vnd.docker.raw-stream";
	o.ctx = TAKE_PTR(l);
	return reply_feed(req, &o, err);
}

/* --- attach ------------------------------------------------------------------------- */

static int attach(struct request *req, struct error *err)
{
	struct fabric_attach what = {
		.in = query_bool(&req->query, "stdin"),
		.out = query_bool(&req->query, "stdout"),
		.err = query_bool(&req->query, "stderr"),
		.logs = query_bool(&req->query, "logs"),
	};
	CLEANUP_JSON json_t *c = NULL;
	struct hijack_options o = { .sock = -1 };
	int r = fabric_container_inspect(req->fabric, req->arg, &c, err);

	if (r < 0)
		return r;
	if (json_is_true(json_at(c, "State.Paused")))
		return error_set(err, EBUSY,
				 "container %s is paused, unpause the container before attach",
				 req->arg);
	what.in = what.in && json_is_true(json_at(c, "Config.OpenStdin"));
	if (!query_bool(&req->query, "stream") && !what.logs)
		return error_set(
			err, EINVAL,
			"Bad parameters: either the stream or the logs parameter must be true");
	o.input = what.in;
	r = fabric_container_attach(req->fabric, json_str(c, "Id", ""), &what, &o.sock, &o.tty,
				    err);
	return r < 0 ? r : reply_hijack(req, &o, err);
}

/* --- wait --------------------------------------------------------------------------- */

static int wait_produce(struct feed *s, void *ctx, struct error *err)
{
	CLEANUP_JSON json_t *out = NULL;
	int code = 0, r = fabric_wait_for(ctx, &code, err);

	if (r < 0)
		return r;
	out = json_pack("{s:i}", "StatusCode", code);
	return feed_write_json(s, out);
}

static void wait_gone(void *ctx)
{
	fabric_wait_cancel(ctx);
}

static void wait_free(void *ctx)
{
	fabric_wait_end(ctx);
}

/* `docker run` starts the container once the header is there: the wait must have begun. */
static int wait_one(struct request *req, struct error *err)
{
	const char *condition = query_str(&req->query, "condition");
	enum fabric_wait until = FABRIC_WAIT_NOT_RUNNING;
	struct feed_options o = { .type = "application/json",
				  .produce = wait_produce,
				  .on_gone = wait_gone,
				  .free_ctx = wait_free };
	struct fabric_waiter *w;
	int r;

	if (condition && !strcmp(condition, "next-exit"))
		until = FABRIC_WAIT_NEXT_EXIT;
	else if (condition && !strcmp(condition, "removed"))
		until = FABRIC_WAIT_REMOVED;
	else if (condition && strcmp(condition, "not-running"))
		return error_set(err, EINVAL, "invalid condition: \"%.100s\"", condition);
	r = fabric_wait_begin(req->fabric, req->arg, until, &w, err);
	if (r < 0)
		return r;
	o.ctx = w;
	return reply_feed(req, &o, err);
}

/* --- stats -------------------------------------------------------------------------- */

struct stats {
	char id[65];
	bool stream, one_shot;
};

static json_t *no_sample(void)
{
	return json_pack("{s:{s:{s:i, s:i, s:i}, s:{s:i, s:i, s:i}}}", "cpu_stats", "cpu_usage",
			 "total_usage", 0, "usage_in_kernelmode", 0, "usage_in_usermode", 0,
			 "throttling_data", "periods", 0, "throttled_periods", 0, "throttled_time",
			 0);
}

/* Docker sends with each sample the CPU figures of the one before. */
static void link_samples(json_t *now, const json_t *before)
{
	json_object_set(now, "precpu_stats", json_object_get(before, "cpu_stats"));
	json_set_str(now, "preread", json_str(before, "read", "0001-01-01T00:00:00Z"));
	if (!json_object_get(now, "networks"))
		json_object_set_new(now, "networks", json_object());
}

static int stats_produce(struct feed *s, void *ctx, struct error *err)
{
	struct stats *st = ctx;
	CLEANUP_JSON json_t *before = no_sample();
	bool first = true;
	int r = 0;

	while (!r) {
		json_t *now = NULL;

		r = fabric_container_stats(feed_fabric(s), st->id, &now, err);
		if (r < 0)
			return r;
		link_samples(now, before);
		/* A single sample says nothing of the CPU; so the second is the first to go out. */
		if (st->stream || st->one_shot || !first)
			r = feed_write_json(s, now);
		json_decref(before);
		before = now;
		if (st->one_shot || (!st->stream && !first) || feed_gone(s, 1000))
			break;
		first = false;
	}
	return r;
}

static int stats(struct request *req, struct error *err)
{
	CLEANUP_FREE struct stats *st = mem_zalloc(sizeof(*st));
	struct feed_options o = { .type = "application/json",
				  .produce = stats_produce,
				  .free_ctx = free,
				  .settle_ms = SETTLE_MS };
	int r = fabric_container_resolve(req->fabric, req->arg, st->id, err);

	if (r < 0)
		return r;
	st->stream = query_bool_or(&req->query, "stream", true);
	st->one_shot = query_bool(&req->query, "one-shot");
	if (st->stream && st->one_shot)
		return error_set(err, EINVAL, "cannot have stream=true and one-shot=true");
	o.ctx = TAKE_PTR(st);
	return reply_feed(req, &o, err);
}

/* --- events ------------------------------------------------------------------------- */

static int events_produce(struct feed *s, void *ctx, struct error *err)
{
	for (;;) {
		json_t *event = NULL;
		int r = event_next(ctx, 500000000, &event);

		if (r == 1) {
			r = feed_write_json(s, event);
			json_decref(event);
			if (r < 0)
				return r;
		} else if (r == 0) {
			return 0;
		} else if (r != -ETIMEDOUT) {
			return error_set(err, -r, "the client reads events too slowly");
		} else if (feed_gone(s, 0)) {
			return 0;
		}
	}
}

static void events_gone(void *ctx)
{
	event_cancel(ctx);
}

static void events_free(void *ctx)
{
	event_unsubscribe(ctx);
}

static int events(struct request *req, struct error *err)
{
	struct feed_options o = { .type = "application/json",
				  .produce = events_produce,
				  .on_gone = events_gone,
				  .free_ctx = events_free };
	CLEANUP_JSON json_t *filters = NULL;
	struct event_sub *sub = NULL;
	int64_t since = 0, until = 0;
	int r = query_filters(&req->query, &filters, err);

	if (!r)
		r = query_time_ns(&req->query, "since", &since, err);
	if (!r)
		r = query_time_ns(&req->query, "until", &until, err);
	if (!r && since && until && until < since)
		r = error_set(err, EINVAL, "`since` time (%s) cannot be after `until` time (%s)",
			      query_str(&req->query, "since"), query_str(&req->query, "until"));
	if (!r)
		r = event_subscribe(fabric_events(req->fabric), filters, since, until, &sub, err);
	if (r < 0)
		return r;
	o.ctx = sub;
	return reply_feed(req, &o, err);
}

const struct route docker_stream_routes[] = {
	{ .method = "GET", .pattern = "/containers/{}/logs", .handler = logs },
	{ .method = "POST", .pattern = "/containers/{}/attach", .handler = attach },
	{ .method = "POST", .pattern = "/containers/{}/wait", .handler = wait_one },
	{ .method = "GET", .pattern = "/containers/{}/stats", .handler = stats },
	{ .method = "GET", .pattern = "/events", .handler = events },
	{ 0 },
};
