/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routes: which function answers which method and path. Tables of struct route are in
 * api/docker/ and api/ferry/; the first row that fits wins, so rows without a parameter
 * stand before those with one. Matching is pure; what is called is the server's business.
 */
#ifndef FERRY_API_ROUTE_H
#define FERRY_API_ROUTE_H

#include <stdbool.h>

#include "base/error.h"

struct request;

/* What a route takes as the body of the request. */
enum route_body {
	BODY_NONE,     /* ignored */
	BODY_JSON,     /* a JSON object: request.json */
	BODY_OPTIONAL, /* a JSON object or nothing */
	BODY_UPLOAD,   /* streamed: the server gives it to `upload` in a thread, unbuffered */
};

/*
 * Answers a request by one of the reply functions of api/request.h and returns 0, or
 * returns -errno with err set: the server then answers with {"message"} and the status
 * of that errno.
 */
typedef int route_handler(struct request *req, struct error *err);

/* Reads the body from fd to its end and leaves its outcome in req->uploaded. */
typedef int route_upload(struct request *req, int fd, struct error *err);

struct route {
	const char *method;
	/*
	 * "/containers/{}/json": {} is one path segment; "/images/{*}/json": {*} is one or
	 * more, because names of images hold slashes. At most one of them in a pattern; or two
	 * {}, the second at its end: what stood at both comes with a slash between.
	 */
	const char *pattern;
	route_handler *handler;
	enum route_body body;
	route_upload *upload;
	const char *refusal; /* the sentence of a route that answers 501; no handler then */
};

/* True where path fits; *arg is then what stood at {} (caller frees), NULL without one. */
bool route_match(const char *pattern, const char *path, char **arg);

/*
 * Takes "/v1.47" off the front of a path. *rest is what follows ("/info"), *minor 47, or
 * the newest where the path has no version. -EINVAL with Docker's message for versions
 * that are not served.
 */
int route_version(const char *path, const char **rest, int *minor, struct error *err);

#define API_VERSION_MAX	      "1.47"
#define API_VERSION_MIN	      "1.24"
#define API_VERSION_MAX_MINOR 47
#define API_VERSION_MIN_MINOR 24

#endif
