/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of rpc: parsing, sending, receiving, errors as JSON. rpc.h draws the format. */
#include <endian.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/rpc_wire.h"

/* Kind and body length of a frame from its header. */
static int read_header(const unsigned char h[RPC_HEADER], size_t max_json, char *kind, size_t *len,
		       struct error *err)
{
	uint32_t n = (uint32_t)h[0] << 24 | (uint32_t)h[1] << 16 | (uint32_t)h[2] << 8 | h[3];

	*kind = (char)h[4];
	if (n == 0)
		return error_set(err, EBADMSG, "a frame without a kind");
	*len = n - 1;
	switch (*kind) {
	case 'J':
		if (*len == 0 || *len > max_json)
			return error_set(err, EBADMSG, "a JSON frame of %zu bytes (1 to %zu)", *len,
					 max_json);
		return 0;
	case 'D':
		if (*len == 0 || *len > RPC_MAX_DATA)
			return error_set(err, EBADMSG, "a data frame of %zu bytes (1 to %u)", *len,
					 RPC_MAX_DATA);
		return 0;
	case 'E':
		if (*len != 0)
			return error_set(err, EBADMSG, "an end frame with %zu bytes", *len);
		return 0;
	default:
		return error_set(err, EBADMSG, "a frame of unknown kind 0x%02x", h[4]);
	}
}

static int read_body(struct rpc_frame *f, struct error *err)
{
	struct error why = { 0 };

	f->json = NULL;
	if (f->kind != 'J')
		return 0;
	f->json = json_parse(f->body, f->len, "the frame", &why);
	if (!f->json)
		return error_set(err, EBADMSG, "%s", why.msg);
	if (!json_is_object(f->json)) {
		json_decref(f->json);
		f->json = NULL;
		return error_set(err, EBADMSG, "the frame is no JSON object");
	}
	return 0;
}

ssize_t rpc_frame_parse(const void *buf, size_t len, struct rpc_frame *out, struct error *err)
{
	int r;

	memset(out, 0, sizeof(*out));
	if (len < RPC_HEADER)
		return 0;
	r = read_header(buf, RPC_MAX_JSON, &out->kind, &out->len, err);
	if (r < 0)
		return r;
	if (len - RPC_HEADER < out->len)
		return 0;
	out->body = (const char *)buf + RPC_HEADER;
	r = read_body(out, err);
	return r < 0 ? r : (ssize_t)(RPC_HEADER + out->len);
}

void rpc_wire_init(struct rpc_wire *w, struct tls *tls)
{
	w->tls = tls;
	w->max_json = RPC_MAX_JSON;
	pthread_mutex_init(&w->write_lock, NULL);
}

void rpc_wire_done(struct rpc_wire *w)
{
	tls_close(w->tls);
	w->tls = NULL;
	pthread_mutex_destroy(&w->write_lock);
}

int rpc_wire_send(struct rpc_wire *w, char kind, const void *body, size_t len, int64_t timeout_ns,
		  struct error *err)
{
	uint32_t n = htobe32((uint32_t)len + 1);
	char small[4096 + RPC_HEADER];
	int r;

	memcpy(small, &n, sizeof(n));
	small[4] = kind;
	pthread_mutex_lock(&w->write_lock);
	if (len <= 4096) { /* one TLS record, one segment */
		if (len)
			memcpy(small + RPC_HEADER, body, len);
		r = tls_write(w->tls, small, RPC_HEADER + len, timeout_ns, err);
	} else {
		r = tls_write(w->tls, small, RPC_HEADER, timeout_ns, err);
		if (r == 0)
			r = tls_write(w->tls, body, len, timeout_ns, err);
	}
	pthread_mutex_unlock(&w->write_lock);
	return r;
}

int rpc_wire_send_json(struct rpc_wire *w, const json_t *j, int64_t timeout_ns, struct error *err)
{
	CLEANUP_FREE char *text = json_text(j);
	size_t len = strlen(text);

	if (len > RPC_MAX_JSON)
		return error_set(err, EFBIG, "a message of %zu bytes is too large (%u)", len,
				 RPC_MAX_JSON);
	return rpc_wire_send(w, 'J', text, len, timeout_ns, err);
}

int rpc_wire_receive(struct rpc_wire *w, int64_t timeout_ns, struct rpc_received *out,
		     struct error *err)
{
	unsigned char header[RPC_HEADER];
	int r;

	memset(out, 0, sizeof(*out));
	r = tls_read(w->tls, header, sizeof(header), timeout_ns, err);
	if (r < 0)
		return r;
	r = read_header(header, w->max_json, &out->frame.kind, &out->frame.len, err);
	if (r < 0)
		return r;
	out->memory = mem_zalloc(out->frame.len + 1);
	out->frame.body = out->memory;
	if (out->frame.len)
		r = tls_read(w->tls, out->memory, out->frame.len, timeout_ns, err);
	if (r == -ENODATA)
		r = error_set(err, ECONNRESET, "the connection ended inside a frame");
	if (r == 0)
		r = read_body(&out->frame, err);
	if (r < 0)
		rpc_received_free(out);
	return r;
}

void rpc_received_free(struct rpc_received *r)
{
	json_decref(r->frame.json);
	free(r->memory);
	memset(r, 0, sizeof(*r));
}

json_t *rpc_error_to_json(int r, const struct error *err)
{
	json_t *j = json_object(), *e = json_object(), *message = json_string(err->msg);

	json_set_int(e, "errno", r < 0 ? -r : EIO);
	/* A message may hold bytes that are no UTF-8 (file names); JSON cannot. */
	json_object_set_new(e, "message",
			    message ? message : json_string("(a message that is not UTF-8)"));
	json_object_set_new(j, "error", e);
	return j;
}

int rpc_error_from_json(const json_t *reply, const char *who, struct error *err)
{
	const json_t *e = json_object_get(reply, "error");
	int64_t code = json_int(e, "errno", EIO);

	if (code < 1 || code > 4095)
		code = EIO;
	return error_set(err, (int)code, "host %s: %s", who, json_str(e, "message", "failed"));
}

int64_t rpc_left(int64_t deadline_ns)
{
	int64_t left = deadline_ns - clock_mono_ns();

	return left > 0 ? left : 1;
}

json_t *rpc_request_json(const char *method, json_t *params, bool stream)
{
	json_t *j = json_object();

	json_set_str(j, "method", method);
	if (params)
		json_object_set(j, "params", params);
	else
		json_object_set_new(j, "params", json_object());
	if (stream)
		json_set_bool(j, "stream", true);
	return j;
}
