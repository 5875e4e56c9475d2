/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of rpc: frames on a TLS connection and the stream that both ends use. The contract
 * is rpc.h; server in rpc_server.c, caller in rpc_client.c, streams in rpc_stream.c.
 */
#ifndef FERRY_FABRIC_RPC_WIRE_H
#define FERRY_FABRIC_RPC_WIRE_H

#include <pthread.h>
#include <stdatomic.h>

#include "fabric/rpc.h"

#define RPC_HEADER     5
#define RPC_TIMEOUT_NS (30ll * 1000000000)
/* What somebody without a certificate may send in one frame. */
#define RPC_MAX_ANONYMOUS (64u << 10)

struct rpc_wire {
	struct tls *tls;
	pthread_mutex_t write_lock; /* a whole frame at a time */
	size_t max_json;	    /* of a frame that we take */
};

void rpc_wire_init(struct rpc_wire *w, struct tls *tls);
void rpc_wire_done(struct rpc_wire *w); /* closes the connection too */

/* Sends a frame; timeout_ns as in tls.h. */
int rpc_wire_send(struct rpc_wire *w, char kind, const void *body, size_t len, int64_t timeout_ns,
		  struct error *err);
int rpc_wire_send_json(struct rpc_wire *w, const json_t *j, int64_t timeout_ns, struct error *err);

/*
 * Receives a frame into memory of its own: free with rpc_received_free(). 0, -EBADMSG for a
 * malformed one, -ENODATA where the peer closed between frames, else as tls_read().
 */
struct rpc_received {
	struct rpc_frame frame;
	char *memory;
};
int rpc_wire_receive(struct rpc_wire *w, int64_t timeout_ns, struct rpc_received *out,
		     struct error *err);
void rpc_received_free(struct rpc_received *r);

/* {"error":{…}} of an error, and back: -errno with `who: message` in err. */
json_t *rpc_error_to_json(int r, const struct error *err);
int rpc_error_from_json(const json_t *reply, const char *who, struct error *err);

/* What is left until a deadline (CLOCK_MONOTONIC): at least 1, so never "for ever". */
int64_t rpc_left(int64_t deadline_ns);

/* Method and parameters as the first frame. */
json_t *rpc_request_json(const char *method, json_t *params, bool stream);

/* A connection to that host, checked to be of that name; error codes as rpc_call()'s. */
int rpc_client_connect(struct rpc_client *c, const char *host, int64_t deadline_ns,
		       struct tls **out, struct error *err);

struct rpc_stream {
	struct rpc_wire *wire;
	char *peer;		   /* for messages */
	int64_t timeout_ns;	   /* for one wait */
	bool caller;		   /* owns the wire */
	pthread_mutex_t read_lock; /* the fields below, receiving */
	struct rpc_received got;   /* D frame that is being read */
	size_t got_at;
	bool got_any;
	bool end_seen; /* no more bytes come */
	json_t *final; /* caller: the result or error */
	atomic_bool end_sent;
};

void rpc_stream_init(struct rpc_stream *st, struct rpc_wire *wire, const char *peer,
		     int64_t timeout_ns, bool caller);
void rpc_stream_done(struct rpc_stream *st);

/* Callee: after the handler; takes what the caller still sends, so that the result arrives. */
void rpc_stream_drain(struct rpc_stream *st);

#endif
