/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the registry client: a connection, a request, its answer. Not for other parts. */
#ifndef FERRY_RUNTIME_IMAGE_REGISTRY_REQUEST_H
#define FERRY_RUNTIME_IMAGE_REGISTRY_REQUEST_H

#include <curl/curl.h>

#include "base/str.h"
#include "runtime/image/registry.h"
#include "runtime/image/registry_auth.h"

struct registry {
	CURL *curl;
	const struct image_login *login;
	char *host, *path, *base; /* base: "https://HOST", once it is known */
	char *certs;		  /* folder of its certificates, or NULL */
	bool insecure, push;
	char *from; /* another repository that tokens are to cover as well, or NULL */
	struct registry_challenge challenge;
	char *authorization; /* "Bearer ...", or NULL */
	registry_tick *tick;
	void *tick_ctx;
};

struct registry_answer {
	long status;
	struct buf body;
	size_t max;
	bool too_much; /* an answer above max */
	bool beyond;   /* a blob above left */
	char *type, *location, *range, *challenge, *digest;
	/* the body goes here instead, if the status is 200 or 206 */
	struct registry *r;
	int fd, write_error;
	uint64_t left; /* that may still come */
	bool resumed;  /* only 206 will do */
};

struct registry_request {
	const char *method, *url;
	const char *headers[4]; /* NULL-terminated */
	const char *body;	/* or NULL */
	int fd;			/* body of `size` bytes from `offset` on; -1: none */
	uint64_t offset, size;
	bool anonymous; /* no Authorization */
	bool with_body; /* HEAD otherwise */
};

void registry_answer_free(struct registry_answer *a);
#define CLEANUP_ANSWER __attribute__((cleanup(registry_answer_free)))

/*
 * Sends a request, with authentication when the registry asks for it. 0 when an answer
 * came, whatever its status.
 */
int registry_send(struct registry *r, const struct registry_request *q, struct registry_answer *a,
		  struct error *err);

/* The error for an answer of the wrong status; `what` was wanted. */
int registry_refused(const struct registry *r, const struct registry_answer *a, const char *what,
		     struct error *err);

#endif
