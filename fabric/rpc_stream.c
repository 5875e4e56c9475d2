/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of rpc: raw bytes both ways during a call. One reader and one writer at a time on
 * each end, as tls.h allows. rpc.h is the contract.
 */
#include <poll.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/rpc_wire.h"

#define CHUNK	 (256u << 10)
#define DRAIN_NS (10ll * 1000000000)

void rpc_stream_init(struct rpc_stream *st, struct rpc_wire *wire, const char *peer,
		     int64_t timeout_ns, bool caller)
{
	memset(st, 0, sizeof(*st));
	st->wire = wire;
	st->peer = str_dup(peer ? peer : "?");
	st->timeout_ns = timeout_ns > 0 ? timeout_ns : RPC_TIMEOUT_NS;
	st->caller = caller;
	pthread_mutex_init(&st->read_lock, NULL);
}

void rpc_stream_done(struct rpc_stream *st)
{
	if (st->got_any)
		rpc_received_free(&st->got);
	json_decref(st->final);
	pthread_mutex_destroy(&st->read_lock);
	free(st->peer);
}

int rpc_stream_open(struct rpc_client *c, const char *host, const char *method, json_t *params,
		    int64_t timeout_ns, struct rpc_stream **out, struct error *err)
{
	int64_t wait_ns = timeout_ns > 0 ? timeout_ns : RPC_TIMEOUT_NS;
	CLEANUP_JSON json_t *request = rpc_request_json(method, params, true);
	struct rpc_stream *st;
	struct rpc_wire *wire;
	struct tls *tls;
	int r = rpc_client_connect(c, host, clock_mono_ns() + wait_ns, &tls, err);

	if (r < 0)
		return r;
	wire = mem_zalloc(sizeof(*wire));
	rpc_wire_init(wire, tls);
	r = rpc_wire_send_json(wire, request, wait_ns, err);
	if (r < 0) {
		rpc_wire_done(wire);
		free(wire);
		error_wrap(err, "host %s", host);
		return r;
	}
	st = mem_zalloc(sizeof(*st));
	rpc_stream_init(st, wire, host, wait_ns, true);
	*out = st;
	return 0;
}

/* --- receiving ---------------------------------------------------------------------- */

/* The next frame into the stream: bytes, the end, or the result. Read lock held. */
static int receive(struct rpc_stream *st, struct error *err)
{
	struct rpc_received got;
	int r = rpc_wire_receive(st->wire, st->timeout_ns, &got, err);

	if (r < 0) {
		error_wrap(err, "stream with host %s", st->peer);
		return r;
	}
	switch (got.frame.kind) {
	case 'D':
		if (st->end_seen) {
			rpc_received_free(&got);
			return error_set(err, EBADMSG, "host %s sent bytes behind the end",
					 st->peer);
		}
		st->got = got;
		st->got_at = 0;
		st->got_any = true;
		return 0;
	case 'E':
		st->end_seen = true;
		break;
	default:
		if (st->caller && !st->final && !json_object_get(got.frame.json, "progress")) {
			st->final = json_incref(got.frame.json);
			st->end_seen = true;
		} else if (!st->caller) {
			rpc_received_free(&got);
			return error_set(err, EBADMSG, "host %s sent JSON in a stream", st->peer);
		}
		break;
	}
	rpc_received_free(&got);
	return 0;
}

ssize_t rpc_stream_read(struct rpc_stream *st, void *buf, size_t len, struct error *err)
{
	ssize_t n = 0;
	int r = 0;

	pthread_mutex_lock(&st->read_lock);
	while (!st->got_any && !st->end_seen && r == 0)
		r = receive(st, err);
	if (r == 0 && st->got_any) {
		size_t left = st->got.frame.len - st->got_at;

		n = (ssize_t)(left < len ? left : len);
		memcpy(buf, st->got.memory + st->got_at, (size_t)n);
		st->got_at += (size_t)n;
		if (st->got_at == st->got.frame.len) {
			rpc_received_free(&st->got);
			st->got_any = false;
		}
	} else if (r == 0 && st->final && json_object_get(st->final, "error")) {
		r = rpc_error_from_json(st->final, st->peer, err);
	}
	pthread_mutex_unlock(&st->read_lock);
	return r < 0 ? r : n;
}

/* --- sending ------------------------------------------------------------------------ */

/*
 * Whether the callee has ended the call already: then there is no use in sending more. Looks
 * only where no reader is at it, which would notice by itself.
 */
static bool callee_ended(struct rpc_stream *st)
{
	struct pollfd p = { .fd = tls_fd(st->wire->tls), .events = POLLIN };
	bool ended;

	if (!st->caller || pthread_mutex_trylock(&st->read_lock) != 0)
		return false;
	while (!st->final && !st->got_any &&
	       (tls_pending(st->wire->tls) > 0 || poll(&p, 1, 0) == 1))
		if (receive(st, NULL) < 0)
			break;
	ended = st->final != NULL;
	pthread_mutex_unlock(&st->read_lock);
	return ended;
}

int rpc_stream_write(struct rpc_stream *st, const void *buf, size_t len, struct error *err)
{
	size_t done = 0;

	while (done < len) {
		size_t n = len - done < RPC_MAX_DATA ? len - done : RPC_MAX_DATA;
		int r;

		if (callee_ended(st))
			return error_set(err, EPIPE, "host %s has ended the call", st->peer);
		r = rpc_wire_send(st->wire, 'D', (const char *)buf + done, n, st->timeout_ns, err);
		if (r < 0) {
			error_wrap(err, "stream to host %s", st->peer);
			return r;
		}
		done += n;
	}
	return 0;
}

int rpc_stream_end(struct rpc_stream *st, struct error *err)
{
	if (atomic_exchange(&st->end_sent, true))
		return 0;
	return rpc_wire_send(st->wire, 'E', NULL, 0, st->timeout_ns, err);
}

int rpc_stream_send_fd(struct rpc_stream *st, int fd, uint64_t *bytes, struct error *err)
{
	CLEANUP_FREE char *block = mem_zalloc(CHUNK);
	uint64_t total = 0;
	int r = 0;

	while (r == 0) {
		ssize_t n = read(fd, block, CHUNK);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_sys(err, errno, "reading what is to be sent to host %s",
					 st->peer);
		if (n == 0)
			break;
		r = rpc_stream_write(st, block, (size_t)n, err);
		total += (uint64_t)n;
	}
	if (bytes)
		*bytes = total;
	return r;
}

int rpc_stream_receive_fd(struct rpc_stream *st, int fd, uint64_t *bytes, struct error *err)
{
	CLEANUP_FREE char *block = mem_zalloc(CHUNK);
	uint64_t total = 0;
	ssize_t n;

	while ((n = rpc_stream_read(st, block, CHUNK, err)) > 0) {
		int r = fd_write_all(fd, block, (size_t)n);

		if (r < 0)
			return error_sys(err, -r, "writing what came from host %s", st->peer);
		total += (uint64_t)n;
	}
	if (bytes)
		*bytes = total;
	return (int)n;
}

/* --- the end ------------------------------------------------------------------------ */

/* Throws away what has come. 0 once something else than bytes came. Read lock held. */
static int skip(struct rpc_stream *st, struct error *err)
{
	if (st->got_any) {
		rpc_received_free(&st->got);
		st->got_any = false;
	}
	return receive(st, err);
}

void rpc_stream_drain(struct rpc_stream *st)
{
	int64_t deadline_ns = clock_mono_ns() + DRAIN_NS;

	/* Closing with unread bytes would reset the connection and lose the result. */
	pthread_mutex_lock(&st->read_lock);
	st->timeout_ns = DRAIN_NS;
	while (clock_mono_ns() < deadline_ns && skip(st, NULL) == 0)
		;
	pthread_mutex_unlock(&st->read_lock);
}

static void free_stream(struct rpc_stream *st)
{
	rpc_wire_done(st->wire);
	free(st->wire);
	rpc_stream_done(st);
	free(st);
}

int rpc_stream_finish(struct rpc_stream *st, json_t **result, struct error *err)
{
	const json_t *value;
	int r;

	/* Where this fails the reason is what the callee says, or that it says nothing. */
	rpc_stream_end(st, NULL);
	pthread_mutex_lock(&st->read_lock);
	r = 0;
	while (!st->final && r == 0)
		r = skip(st, err);
	pthread_mutex_unlock(&st->read_lock);
	if (r == 0) {
		value = json_object_get(st->final, "result");
		if (!value)
			r = rpc_error_from_json(st->final, st->peer, err);
		else if (result)
			*result = json_incref((json_t *)(uintptr_t)value);
	}
	free_stream(st);
	return r;
}

void rpc_stream_close(struct rpc_stream *st)
{
	if (!st)
		return;
	tls_abort(st->wire->tls);
	free_stream(st);
}
