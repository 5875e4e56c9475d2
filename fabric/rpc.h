/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls between the daemons of a cluster: JSON frames over TLS 1.3, one call at a time on
 * a connection, a thread for each connection on the serving side, a pool of idle
 * connections on the calling one.
 *
 *	frame    length (4 bytes, big endian, of what follows) · kind (1 byte) · body
 *	kind J   JSON object, at most RPC_MAX_JSON bytes
 *	kind D   raw bytes of a stream, 1 to RPC_MAX_DATA
 *	kind E   end of this side's bytes, empty
 *
 *	caller → callee   J {"method":"image.load","params":{…},"stream":false}
 *	callee → caller   J {"progress":{…}}           any number, during the call
 *	                  J {"result":{…}}             or
 *	                  J {"error":{"errno":16,"message":"…"}}
 *	a stream: after the request both sides send D frames and one E each; the callee's
 *	result or error comes last and ends it.
 *
 * Whoever sends something else is hung up on, with the reason in the log. Only hosts with
 * a certificate of the cluster's CA may call, but for methods marked RPC_ANONYMOUS.
 */
#ifndef FERRY_FABRIC_RPC_H
#define FERRY_FABRIC_RPC_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/tls.h"

#define RPC_PORT     7946
#define RPC_MAX_JSON (16u << 20)
#define RPC_MAX_DATA (1u << 20)

/* --- frames (pure; also what the fuzzer gets) ----------------------------------------- */

struct rpc_frame {
	char kind;	  /* 'J', 'D', 'E' */
	const void *body; /* points into the buffer */
	size_t len;
	json_t *json; /* J: new reference, caller decrefs; else NULL */
};

/*
 * One frame from the beginning of a buffer. The number of bytes it took, 0 where more
 * bytes are needed, or -EBADMSG with err set.
 */
ssize_t rpc_frame_parse(const void *buf, size_t len, struct rpc_frame *out, struct error *err);

/* --- serving --------------------------------------------------------------------------- */

struct rpc_server;
struct rpc_request; /* one call being served; valid until its handler returns */
struct rpc_stream;

/*
 * Serves one call in the connection's thread. *result: a new reference (NULL: {}).
 * 0, or -errno with err set: both travel to the caller.
 */
typedef int rpc_call_fn(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
			struct error *err);

/* The same with a stream of bytes both ways; need neither read nor write all. */
typedef int rpc_stream_fn(void *ctx, struct rpc_request *req, json_t *params,
			  struct rpc_stream *stream, json_t **result, struct error *err);

#define RPC_ANONYMOUS 1u /* may be called without a certificate */

struct rpc_method {
	const char *name;  /* NULL ends a table */
	rpc_call_fn *call; /* exactly one of the two */
	rpc_stream_fn *stream;
	unsigned flags;
};

/* A server; tables are added before it starts and must outlive it. */
int rpc_server_new(struct tls_ctx *tls, struct rpc_server **out, struct error *err);
void rpc_server_add(struct rpc_server *s, const struct rpc_method *methods, void *ctx);

/* Listens (address NULL: everywhere; port 0: any) and serves in threads of its own. */
int rpc_server_start(struct rpc_server *s, const char *address, uint16_t port, struct error *err);
uint16_t rpc_server_port(const struct rpc_server *s);

/* Hangs up on everybody, waits for running handlers, frees. NULL is fine. */
void rpc_server_stop(struct rpc_server *s);

/* rpc_server_new(), _add() and _start() in one. */
int rpc_serve(struct tls_ctx *tls, const char *address, uint16_t port,
	      const struct rpc_method *methods, void *ctx, struct rpc_server **out,
	      struct error *err);

/* Name of the calling host (from its certificate), NULL for an anonymous one; address. */
const char *rpc_request_peer(const struct rpc_request *req);
const char *rpc_request_address(const struct rpc_request *req);

/* Tells the caller how it goes (body borrowed). -errno: nobody listens any more. */
int rpc_progress(struct rpc_request *req, json_t *body);

/* False once the caller has hung up (it timed out, died): long work may stop early. */
bool rpc_request_alive(struct rpc_request *req);

/* --- calling ----------------------------------------------------------------------------- */

struct rpc_client;

/*
 * Where a host listens: *address (caller frees) and *port. 0 or -ENOENT with err set.
 * host_resolve() in fabric/host.h is the one over the store.
 */
typedef int rpc_resolve_fn(void *ctx, const char *host, char **address, uint16_t *port,
			   struct error *err);

/* A pool of connections; any number of threads may call through it. */
struct rpc_client *rpc_client_new(struct tls_ctx *tls, rpc_resolve_fn *resolve, void *ctx);
void rpc_client_free(struct rpc_client *c); /* no call may be running; NULL is fine */

/*
 * Calls a method on a host and waits for its result (new reference; may be NULL).
 * The called host must hold the certificate of that name. Errors of the callee come with
 * its errno and message, with "host b: " in front. -EHOSTUNREACH / -ECONNREFUSED: it was
 * not reached, nothing was done. -ETIMEDOUT, -ECONNRESET, -ENODATA: the connection failed
 * after the call was sent: the callee may have done it or not. A connection from the pool
 * that turns out to be closed before anything was sent is replaced quietly.
 * timeout_ns: for connecting and the whole call; 0: 30 s.
 */
int rpc_call(struct rpc_client *c, const char *host, const char *method, json_t *params,
	     int64_t timeout_ns, json_t **result, struct error *err);

/*
 * Makes idle connections to that host until there are `n`: for calls that must not wait for
 * a handshake. What fails is left to the calls themselves.
 */
void rpc_client_warm(struct rpc_client *c, const char *host, unsigned n, int64_t timeout_ns);

/* The same with progress events, given to fn (body borrowed) in the calling thread. */
typedef void rpc_progress_fn(void *ctx, json_t *body);
int rpc_call_progress(struct rpc_client *c, const char *host, const char *method, json_t *params,
		      int64_t timeout_ns, rpc_progress_fn *fn, void *ctx, json_t **result,
		      struct error *err);

/* One call to an address over a connection of its own, whatever the peer's name (join). */
int rpc_call_address(struct tls_ctx *tls, const char *address, uint16_t port, const char *method,
		     json_t *params, int64_t timeout_ns, json_t **result, struct error *err);

/* --- streams: both ends ------------------------------------------------------------------ */

/*
 * Opens a stream: a connection of its own. timeout_ns (0: 30 s) bounds connecting and
 * then every single wait (no byte moved for that long: -ETIMEDOUT), not the whole.
 * One thread may read while another writes. There is no buffering besides TCP's: if both
 * ends only write, both wait.
 */
int rpc_stream_open(struct rpc_client *c, const char *host, const char *method, json_t *params,
		    int64_t timeout_ns, struct rpc_stream **out, struct error *err);

/* Sends all bytes. Where the callee has failed meanwhile, its error is in the result. */
int rpc_stream_write(struct rpc_stream *st, const void *buf, size_t len, struct error *err);

/* Up to len bytes: the number, 0: the other side sends no more, -errno. */
ssize_t rpc_stream_read(struct rpc_stream *st, void *buf, size_t len, struct error *err);

/* No more bytes from this side. (The callee's is sent when its handler returns.) */
int rpc_stream_end(struct rpc_stream *st, struct error *err);

/* From a file descriptor to its end; to a file descriptor until the other side ends. */
int rpc_stream_send_fd(struct rpc_stream *st, int fd, uint64_t *bytes, struct error *err);
int rpc_stream_receive_fd(struct rpc_stream *st, int fd, uint64_t *bytes, struct error *err);

/*
 * Caller only: ends our side if that was not done, skips what was not read, waits for
 * the callee's result (new reference; may be NULL). Its error is ours. Frees the stream
 * in every case.
 */
int rpc_stream_finish(struct rpc_stream *st, json_t **result, struct error *err);

/* Caller only: hangs up without waiting for a result; frees. NULL is fine. */
void rpc_stream_close(struct rpc_stream *st);

#endif
