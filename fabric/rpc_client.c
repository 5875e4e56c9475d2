/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calling side of rpc: a pool of idle connections, calls over them. rpc.h is the contract.
 *
 * When is a call done again? Only where the callee cannot have begun it: nobody could be
 * reached, or the request was not sent whole. A connection that breaks later is an error
 * of the caller's to judge.
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/rpc_wire.h"

#define MAX_IDLE 64 /* connections, to all hosts together */

struct idle {
	char *host;
	struct tls *tls;
	struct idle *next;
};

struct rpc_client {
	struct tls_ctx *tls;
	rpc_resolve_fn *resolve;
	void *ctx;
	pthread_mutex_t lock; /* idle, newest first */
	struct idle *idle;
};

struct rpc_client *rpc_client_new(struct tls_ctx *tls, rpc_resolve_fn *resolve, void *ctx)
{
	struct rpc_client *c = mem_zalloc(sizeof(*c));

	c->tls = tls;
	c->resolve = resolve;
	c->ctx = ctx;
	pthread_mutex_init(&c->lock, NULL);
	return c;
}

static void free_idle(struct idle *i)
{
	tls_close(i->tls);
	free(i->host);
	free(i);
}

void rpc_client_free(struct rpc_client *c)
{
	if (!c)
		return;
	while (c->idle) {
		struct idle *i = c->idle;

		c->idle = i->next;
		free_idle(i);
	}
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* --- connections ------------------------------------------------------------------------------ */

/* An idle connection to that host that looks alive, or NULL. */
static struct tls *take_idle(struct rpc_client *c, const char *host)
{
	for (;;) {
		struct idle **p, *i;
		struct tls *tls;

		pthread_mutex_lock(&c->lock);
		for (p = &c->idle; *p && strcmp((*p)->host, host) != 0; p = &(*p)->next)
			;
		i = *p;
		if (i)
			*p = i->next;
		pthread_mutex_unlock(&c->lock);
		if (!i)
			return NULL;
		tls = TAKE_PTR(i->tls);
		if (tls_idle_ok(tls)) {
			free_idle(i);
			return tls;
		}
		tls_close(tls);
		free_idle(i);
	}
}

static void put_idle(struct rpc_client *c, const char *host, struct tls *tls)
{
	struct idle *i = mem_zalloc(sizeof(*i)), *old = NULL;
	struct idle **p;
	unsigned n = 0;

	i->host = str_dup(host);
	i->tls = tls;
	pthread_mutex_lock(&c->lock);
	i->next = c->idle;
	c->idle = i;
	for (p = &c->idle; *p && n < MAX_IDLE; p = &(*p)->next)
		n++;
	old = *p; /* at most one is too many */
	*p = NULL;
	pthread_mutex_unlock(&c->lock);
	if (old)
		free_idle(old);
}

int rpc_client_connect(struct rpc_client *c, const char *host, int64_t deadline_ns,
		       struct tls **out, struct error *err)
{
	CLEANUP_FREE char *address = NULL;
	CLEANUP_TLS struct tls *tls = NULL;
	uint16_t port = 0;
	int r = c->resolve(c->ctx, host, &address, &port, err);

	if (r < 0)
		return r;
	r = tls_connect(c->tls, address, port, rpc_left(deadline_ns), &tls, err);
	if (r == -ETIMEDOUT) /* so that a timeout always means: perhaps it was done */
		return error_set(err, EHOSTUNREACH,
				 "host %s (%s port %u) does not answer; is ferryd running there, "
				 "and the port open?",
				 host, address, port);
	if (r < 0) {
		error_wrap(err, "host %s", host);
		return r;
	}
	if (!tls_peer_name(tls) || strcmp(tls_peer_name(tls), host) != 0)
		return error_set(err, EKEYREJECTED,
				 "at %s port %u host %s was expected, but it is "
				 "host %s: is its address in the host's document right?",
				 address, port, host, tls_peer_name(tls));
	*out = TAKE_PTR(tls);
	return 0;
}

static unsigned count_idle(struct rpc_client *c, const char *host)
{
	unsigned n = 0;

	pthread_mutex_lock(&c->lock);
	for (struct idle *i = c->idle; i; i = i->next)
		n += strcmp(i->host, host) == 0;
	pthread_mutex_unlock(&c->lock);
	return n;
}

void rpc_client_warm(struct rpc_client *c, const char *host, unsigned n, int64_t timeout_ns)
{
	int64_t deadline_ns = clock_mono_ns() + timeout_ns;

	for (unsigned have = count_idle(c, host); have < n; have++) {
		struct tls *tls;

		if (rpc_client_connect(c, host, deadline_ns, &tls, NULL) < 0)
			return;
		put_idle(c, host, tls);
	}
}

/* --- calls -------------------------------------------------------------------------- */

/* Reads progress and the result. 0 or the callee's error; *broken: the connection is no good. */
static int await(struct rpc_wire *w, const char *host, int64_t deadline_ns, rpc_progress_fn *fn,
		 void *ctx, json_t **result, bool *broken, struct error *err)
{
	for (;;) {
		struct rpc_received got;
		json_t *progress, *value;
		int r = rpc_wire_receive(w, rpc_left(deadline_ns), &got, err);

		*broken = true;
		if (r < 0)
			return r;
		progress = json_object_get(got.frame.json, "progress");
		value = json_object_get(got.frame.json, "result");
		if (progress) {
			if (fn)
				fn(ctx, progress);
			rpc_received_free(&got);
			continue;
		}
		if (value) {
			*broken = false;
			if (result)
				*result = json_incref(value);
			r = 0;
		} else if (json_object_get(got.frame.json, "error")) {
			*broken = false;
			r = rpc_error_from_json(got.frame.json, host, err);
		} else {
			r = error_set(err, EBADMSG,
				      "host %s answered with something else than a "
				      "result",
				      host);
		}
		rpc_received_free(&got);
		return r;
	}
}

/* A connection that failed during a call, told so that the user sees which call. */
static int say_broken(int r, const char *host, const json_t *request, struct error *err)
{
	const char *method = json_str(request, "method", "");

	switch (-r) {
	case ETIMEDOUT:
		return error_set(err, ETIMEDOUT, "host %s: %s: no answer in time", host, method);
	case ENODATA:
		return error_set(err, ECONNRESET, "host %s: %s: hung up before the answer", host,
				 method);
	default:
		return r;
	}
}

/* One attempt over one connection, which is closed or goes to the pool (c may be NULL). */
static int call_over(struct rpc_client *c, struct tls *tls, const char *host, const json_t *request,
		     int64_t deadline_ns, rpc_progress_fn *fn, void *ctx, json_t **result,
		     bool *unsent, struct error *err)
{
	struct rpc_wire w;
	bool broken = true;
	int r;

	rpc_wire_init(&w, tls);
	r = rpc_wire_send_json(&w, request, rpc_left(deadline_ns), err);
	*unsent = r < 0;
	if (r == 0)
		r = await(&w, host, deadline_ns, fn, ctx, result, &broken, err);
	if (r < 0 && *unsent && r == -ETIMEDOUT)
		r = error_set(err, EHOSTUNREACH, "host %s takes no more requests", host);
	else if (r < 0 && broken && !*unsent)
		r = say_broken(r, host, request, err);
	if (!broken && c) {
		put_idle(c, host, w.tls);
		w.tls = NULL;
	}
	rpc_wire_done(&w);
	return r;
}

int rpc_call_progress(struct rpc_client *c, const char *host, const char *method, json_t *params,
		      int64_t timeout_ns, rpc_progress_fn *fn, void *ctx, json_t **result,
		      struct error *err)
{
	int64_t deadline_ns = clock_mono_ns() + (timeout_ns > 0 ? timeout_ns : RPC_TIMEOUT_NS);
	CLEANUP_JSON json_t *request = rpc_request_json(method, params, false);
	struct tls *tls = take_idle(c, host);
	bool unsent = true;
	int r;

	if (tls) {
		r = call_over(c, tls, host, request, deadline_ns, fn, ctx, result, &unsent, err);
		if (!unsent || r == -EFBIG)
			return r;
		error_clear(err);
	}
	r = rpc_client_connect(c, host, deadline_ns, &tls, err);
	if (r < 0)
		return r;
	return call_over(c, tls, host, request, deadline_ns, fn, ctx, result, &unsent, err);
}

int rpc_call(struct rpc_client *c, const char *host, const char *method, json_t *params,
	     int64_t timeout_ns, json_t **result, struct error *err)
{
	return rpc_call_progress(c, host, method, params, timeout_ns, NULL, NULL, result, err);
}

int rpc_call_address(struct tls_ctx *ctx, const char *address, uint16_t port, const char *method,
		     json_t *params, int64_t timeout_ns, json_t **result, struct error *err)
{
	int64_t deadline_ns = clock_mono_ns() + (timeout_ns > 0 ? timeout_ns : RPC_TIMEOUT_NS);
	CLEANUP_JSON json_t *request = rpc_request_json(method, params, false);
	struct tls *tls;
	bool unsent;
	int r = tls_connect(ctx, address, port, rpc_left(deadline_ns), &tls, err);

	if (r < 0)
		return r;
	return call_over(NULL, tls, address, request, deadline_ns, NULL, NULL, result, &unsent,
			 err);
}
