/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request as a handler sees it, and the ways to answer it. The server (api/server.c)
 * has parsed path, query and body before; the handler runs in the connection's own
 * thread and may block. A handler answers once.
 */
#ifndef FERRY_API_REQUEST_H
#define FERRY_API_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/query.h"
#include "api/route.h"
#include "base/error.h"
#include "fabric/fabric.h"

struct server;
struct MHD_Connection;
struct MHD_Response;
struct upload;
struct hijack;

struct request {
	struct server *server;
	struct fabric *fabric;
	struct MHD_Connection *connection;
	const struct route *route; /* NULL: none fits */
	int version;		   /* minor number: 47 for /v1.47 */
	char *arg;		   /* what stood at {} of the route; NULL */
	struct query query;
	json_t *json;	  /* the parsed body; NULL where there is none */
	json_t *uploaded; /* outcome of the route's upload function */

	/* The server's own: */
	struct buf *body;
	bool body_too_big;
	struct upload *upload;
	struct hijack *hijack; /* until the connection has been upgraded */
	int status;	       /* of the refusal that was decided before the body was read */
	struct error refusal;
	struct MHD_Response *response;
	int response_status;
};

/* The value of a header of the request; NULL where it was not sent. */
const char *request_header(const struct request *req, const char *name);

/* --- plain answers ------------------------------------------------------------------- */

/* Answers with JSON; the reference is taken over. */
int reply_json(struct request *req, int status, json_t *body);
/* Answers without a body (204, 304, …). */
int reply_empty(struct request *req, int status);
/* Answers with text of that type; it is copied. */
int reply_text(struct request *req, int status, const char *type, const char *text, size_t len);
/* Answers {"message"} with another status than the errno would give. 0. */
int reply_error(struct request *req, int status, const struct error *err);
/* 0 and "answered", or the error as it is: `return reply_done(req, r, 204);` */
int reply_done(struct request *req, int r, int status);
/* Any libmicrohttpd response, taken over. */
void reply_response(struct request *req, int status, struct MHD_Response *response);
/* A header of the answer that was just made. */
void reply_header(struct request *req, const char *name, const char *value);

/* --- streams ---------------------------------------------------------------------------- */

/*
 * A chunked answer that a function of its own thread writes. The producer writes with
 * feed_write() (or straight into feed_fd()), which fails with -EPIPE once the client
 * has gone; one that waits for something else asks feed_gone() now and then. It ends
 * the answer by returning; what it returns matters only before it wrote anything.
 */
struct feed;
typedef int feed_producer(struct feed *s, void *ctx, struct error *err);

struct feed_options {
	const char *type; /* Content-Type */
	feed_producer *produce;
	void *ctx;
	void (*free_ctx)(void *ctx); /* may be NULL; called when both sides are done */
	void (*on_gone)(void *ctx);  /* may be NULL: the client has gone, wake the producer */
	/*
	 * How long the headers may wait for the first byte: a producer that fails in this
	 * time without a byte written is answered as an error. 0: headers go out at once;
	 * negative: as long as it takes.
	 */
	int settle_ms;
};
/* options->ctx is taken over in every case. */
int reply_feed(struct request *req, const struct feed_options *options, struct error *err);
int feed_write(struct feed *s, const void *data, size_t len);
/* One JSON document and a newline. */
int feed_write_json(struct feed *s, const json_t *j);
int feed_fd(const struct feed *s);
struct fabric *feed_fabric(const struct feed *s);
/* Waits up to that long; true: nobody reads any more, or the daemon stops. */
bool feed_gone(const struct feed *s, int wait_ms);

/*
 * Hijacking: the connection leaves HTTP ("101") and its bytes go to and from a socket of
 * the container's stdio (frames: runtime/container/shim.h). Where the client did not ask
 * for an upgrade the output comes as a chunked answer, and there is no input.
 */
struct hijack_options {
	int sock; /* taken over; or -1 and `open` */
	/*
	 * Gives the socket once the client has its 101: some clients lose what comes together
	 * with it. An error is then text on the stream, as Docker does it.
	 */
	int (*open)(struct fabric *f, const char *arg, int *sock, struct error *err);
	const char *arg; /* copied */
	bool tty, input;
};
int reply_hijack(struct request *req, const struct hijack_options *options, struct error *err);

/* For the server: a hijack that never came to be, because the client went away before. */
void hijack_free(struct hijack *h);

/* The eventfd that becomes readable when the daemon stops. */
int request_stop_fd(const struct request *req);

#endif
