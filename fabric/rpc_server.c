/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serving side of rpc: one thread accepts, one thread serves each connection, calls one
 * after another. rpc.h is the contract.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/rpc_wire.h"

#define HANDSHAKE_NS	(10ll * 1000000000)
#define MAX_TABLES	16
#define MAX_CONNECTIONS 2048

struct connection {
	struct rpc_server *server;
	pthread_mutex_t lock; /* fd, against rpc_server_stop() */
	int fd;		      /* a duplicate of the connection's, for shutdown() only; -1: over */
	struct connection *next;
};

struct rpc_server {
	struct tls_ctx *tls;
	struct {
		const struct rpc_method *methods;
		void *ctx;
	} tables[MAX_TABLES]; /* fixed once started */
	size_t ntables;
	int listener;
	uint16_t port;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* connections, count, stop */
	pthread_cond_t ended;
	struct connection *connections;
	unsigned count;
	bool stop;
};

struct rpc_request {
	struct rpc_wire *wire;
	bool stream;
};

/* --- requests -------------------------------------------------------------------------------- */

const char *rpc_request_peer(const struct rpc_request *req)
{
	return tls_peer_name(req->wire->tls);
}

const char *rpc_request_address(const struct rpc_request *req)
{
	return tls_peer_address(req->wire->tls);
}

int rpc_progress(struct rpc_request *req, json_t *body)
{
	CLEANUP_JSON json_t *j = json_object();

	json_object_set(j, "progress", body);
	return rpc_wire_send_json(req->wire, j, RPC_TIMEOUT_NS, NULL);
}

bool rpc_request_alive(struct rpc_request *req)
{
	struct pollfd p = { .fd = tls_fd(req->wire->tls), .events = POLLRDHUP };

	if (!req->stream) /* the caller has nothing to say until it gets its result */
		return tls_idle_ok(req->wire->tls);
	return poll(&p, 1, 0) == 0 || !(p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* --- serving a call --------------------------------------------------------------------------- */

static const struct rpc_method *find_method(struct rpc_server *s, const char *name, void **ctx)
{
	for (size_t i = 0; i < s->ntables; i++)
		for (const struct rpc_method *m = s->tables[i].methods; m->name; m++)
			if (!strcmp(m->name, name)) {
				*ctx = s->tables[i].ctx;
				return m;
			}
	return NULL;
}

static int run_method(const struct rpc_method *m, void *ctx, struct rpc_request *req,
		      json_t *params, json_t **result, struct error *err)
{
	struct rpc_stream st;
	int r;

	if (!m->stream)
		return m->call(ctx, req, params, result, err);
	rpc_stream_init(&st, req->wire, rpc_request_peer(req), RPC_TIMEOUT_NS, false);
	r = m->stream(ctx, req, params, &st, result, err);
	if (r == 0)
		rpc_stream_end(&st, NULL);
	rpc_stream_done(&st);
	return r;
}

/* Answers one request. -errno: the connection is of no more use. */
static int serve_request(struct rpc_server *s, struct rpc_wire *wire, json_t *request,
			 struct error *err)
{
	struct rpc_request req = { .wire = wire, .stream = json_bool(request, "stream", false) };
	CLEANUP_JSON json_t *result = NULL, *reply = NULL;
	const char *name = json_str(request, "method", NULL);
	json_t *params = json_object_get(request, "params");
	const struct rpc_method *m;
	struct error why = { 0 };
	void *ctx = NULL;
	int r;

	if (!name || (params && !json_is_object(params)))
		return error_set(err, EBADMSG, "a request without method or with bad params");
	m = find_method(s, name, &ctx);
	if (!m)
		r = error_set(&why, ENOSYS, "there is no method \"%.100s\" (an older ferryd?)",
			      name);
	else if (!tls_peer_name(wire->tls) && !(m->flags & RPC_ANONYMOUS))
		r = error_set(&why, EACCES, "method %s needs a certificate of the cluster", name);
	else if (req.stream != (m->stream != NULL))
		r = error_set(&why, EINVAL, "method %s is %sa stream", name,
			      m->stream ? "" : "not ");
	else
		r = run_method(m, ctx, &req, params, &result, &why);
	if (r < 0) {
		reply = rpc_error_to_json(r, &why);
	} else {
		reply = json_object();
		json_object_set_new(reply, "result", result ? json_incref(result) : json_object());
	}
	r = rpc_wire_send_json(wire, reply, RPC_TIMEOUT_NS, err);
	if (r == -EFBIG) {
		json_decref(reply);
		reply = rpc_error_to_json(r, err);
		r = rpc_wire_send_json(wire, reply, RPC_TIMEOUT_NS, err);
	}
	if (req.stream && r == 0) {
		struct rpc_stream st;

		rpc_stream_init(&st, wire, tls_peer_name(wire->tls), RPC_TIMEOUT_NS, false);
		rpc_stream_drain(&st);
		rpc_stream_done(&st);
		r = error_set(err, ENODATA, "the stream is over");
	}
	return r;
}

static void serve_requests(struct rpc_server *s, struct rpc_wire *wire)
{
	bool known = tls_peer_name(wire->tls) != NULL;
	int r = 0;

	wire->max_json = known ? RPC_MAX_JSON : RPC_MAX_ANONYMOUS;
	while (r == 0) {
		struct rpc_received got;
		struct error err = { 0 };

		/* A known host may keep its connection for as long as it likes. */
		r = rpc_wire_receive(wire, known ? 0 : HANDSHAKE_NS, &got, &err);
		if (r == 0 && got.frame.kind != 'J')
			r = error_set(&err, EBADMSG, "a frame of kind %c where a request was due",
				      got.frame.kind);
		if (r == 0)
			r = serve_request(s, wire, got.frame.json, &err);
		if (r == -EBADMSG)
			log_warn("rpc from %s: %s; hanging up",
				 known ? tls_peer_name(wire->tls) : tls_peer_address(wire->tls),
				 err.msg);
		rpc_received_free(&got);
	}
}

/* --- connections -------------------------------------------------------------------- */

static bool has_anonymous(const struct rpc_server *s)
{
	for (size_t i = 0; i < s->ntables; i++)
		for (const struct rpc_method *m = s->tables[i].methods; m->name; m++)
			if (m->flags & RPC_ANONYMOUS)
				return true;
	return false;
}

static void end_connection(struct connection *c)
{
	struct rpc_server *s = c->server;
	struct connection **p;

	pthread_mutex_lock(&s->lock);
	for (p = &s->connections; *p != c; p = &(*p)->next)
		;
	*p = c->next;
	s->count--;
	pthread_cond_broadcast(&s->ended);
	pthread_mutex_unlock(&s->lock);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static void close_socket(struct connection *c)
{
	pthread_mutex_lock(&c->lock);
	close(c->fd);
	c->fd = -1;
	pthread_mutex_unlock(&c->lock);
}

static void *connection_thread(void *arg)
{
	struct connection *c = arg;
	struct rpc_server *s = c->server;
	struct tls *tls = NULL;
	struct error err = { 0 };
	struct rpc_wire wire;
	int fd, r;

	fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 3);
	r = fd < 0 ? -errno : tls_accept(s->tls, fd, has_anonymous(s), HANDSHAKE_NS, &tls, &err);
	if (r == 0) {
		rpc_wire_init(&wire, tls);
		serve_requests(s, &wire);
		rpc_wire_done(&wire);
	} else if (r != -ECONNRESET) {
		log_warn("rpc: %s", err.msg);
	}
	close_socket(c);
	end_connection(c);
	return NULL;
}

static void start_connection(struct rpc_server *s, int fd)
{
	struct connection *c = mem_zalloc(sizeof(*c));
	pthread_attr_t attr;
	pthread_t t;
	bool refuse;

	c->server = s;
	c->fd = fd;
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_lock(&s->lock);
	refuse = s->stop || s->count >= MAX_CONNECTIONS;
	c->next = s->connections;
	s->connections = c;
	s->count++;
	pthread_mutex_unlock(&s->lock);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (refuse || pthread_create(&t, &attr, connection_thread, c) != 0) {
		log_warn("rpc: too many connections, hanging up on one");
		close_socket(c);
		end_connection(c);
	}
	pthread_attr_destroy(&attr);
}

static void *accept_thread(void *arg)
{
	struct rpc_server *s = arg;

	for (;;) {
		int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
		bool stop;

		pthread_mutex_lock(&s->lock);
		stop = s->stop;
		pthread_mutex_unlock(&s->lock);
		if (stop) {
			if (fd >= 0)
				close(fd);
			return NULL;
		}
		if (fd >= 0)
			start_connection(s, fd);
		else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			clock_sleep_ns(100000000); /* until some connection has ended */
	}
}

/* --- the server --------------------------------------------------------------------- */

int rpc_server_new(struct tls_ctx *tls, struct rpc_server **out, struct error *err)
{
	struct rpc_server *s = mem_zalloc(sizeof(*s));

	(void)err;
	s->tls = tls;
	s->listener = -1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->ended, NULL);
	*out = s;
	return 0;
}

void rpc_server_add(struct rpc_server *s, const struct rpc_method *methods, void *ctx)
{
	if (s->ntables == MAX_TABLES || s->started)
		abort(); /* a mistake in the program */
	s->tables[s->ntables].methods = methods;
	s->tables[s->ntables++].ctx = ctx;
}

int rpc_server_start(struct rpc_server *s, const char *address, uint16_t port, struct error *err)
{
	int r;

	s->listener = tls_listen(address, port, &s->port, err);
	if (s->listener < 0)
		return s->listener;
	r = pthread_create(&s->thread, NULL, accept_thread, s);
	if (r != 0) {
		close(s->listener);
		s->listener = -1;
		return error_sys(err, r, "starting a thread");
	}
	s->started = true;
	return 0;
}

uint16_t rpc_server_port(const struct rpc_server *s)
{
	return s->port;
}

void rpc_server_stop(struct rpc_server *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_mutex_unlock(&s->lock);
	if (s->started) {
		shutdown(s->listener, SHUT_RDWR); /* wakes accept4() */
		pthread_join(s->thread, NULL);
		close(s->listener);
	}
	pthread_mutex_lock(&s->lock);
	for (struct connection *c = s->connections; c; c = c->next) {
		pthread_mutex_lock(&c->lock);
		if (c->fd >= 0)
			shutdown(c->fd, SHUT_RDWR);
		pthread_mutex_unlock(&c->lock);
	}
	while (s->count > 0)
		pthread_cond_wait(&s->ended, &s->lock);
	pthread_mutex_unlock(&s->lock);
	pthread_cond_destroy(&s->ended);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int rpc_serve(struct tls_ctx *tls, const char *address, uint16_t port,
	      const struct rpc_method *methods, void *ctx, struct rpc_server **out,
	      struct error *err)
{
	struct rpc_server *s;
	int r = rpc_server_new(tls, &s, err);

	if (r < 0)
		return r;
	rpc_server_add(s, methods, ctx);
	r = rpc_server_start(s, address, port, err);
	if (r < 0) {
		rpc_server_stop(s);
		return r;
	}
	*out = s;
	return 0;
}
