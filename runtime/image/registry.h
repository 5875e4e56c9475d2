/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of one repository at one registry (OCI distribution spec 1.1, Docker registry
 * HTTP API V2), by libcurl. A `struct registry` has one connection and belongs to one
 * thread; whoever works with several opens several.
 *
 * Errors: EACCES (the registry wants a login, or refuses this one), ENOENT (not there),
 * ECONNREFUSED, EHOSTUNREACH, ECONNRESET, ETIMEDOUT, EAGAIN (429 and 5xx), ECANCELED
 * (stop() said so), EPROTO (no registry answers there, or not as one), EBADMSG, EFBIG.
 */
#ifndef FERRY_RUNTIME_IMAGE_REGISTRY_H
#define FERRY_RUNTIME_IMAGE_REGISTRY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "runtime/image/image.h"

struct registry;

/* What a request has moved so far; true ends it with ECANCELED. */
typedef bool registry_tick(void *ctx, uint64_t bytes);

/*
 * URLs to try for images of `host` ("docker.io", "10.0.0.1:5000"), in order: mirrors (of
 * docker.io, not for a push), then the registry itself; free with registry_urls_free().
 */
char **registry_urls(const struct image_registries *o, const char *host, bool push);
void registry_urls_free(char **urls);

/*
 * Connects to one of these URLs for repository `path` and learns how it authenticates.
 * A URL "https-or-http://HOST" is that of an insecure registry. `login` may be NULL; both
 * are borrowed until registry_close().
 */
int registry_open(const struct image_registries *o, const struct image_login *login,
		  const char *url, const char *path, bool push, struct registry **out,
		  struct error *err);
void registry_close(struct registry *r);

/* Whether the registry takes the login. EACCES: it does not. */
int registry_check(struct registry *r, struct error *err);

/* Is asked while requests run. */
void registry_watch(struct registry *r, registry_tick *tick, void *ctx);

/*
 * The manifest or index named by a tag or "sha256:HEX", at most `max` bytes (caller frees
 * both). *type: its media type. Where a digest was asked for it is the digest of the text.
 */
int registry_manifest(struct registry *r, const char *ref, size_t max, char **text, size_t *len,
		      char **type, struct error *err);
int registry_put_manifest(struct registry *r, const char *ref, const char *text, const char *type,
			  struct error *err);

/*
 * The bytes of a blob from `offset` on, appended to `fd`. `size`: of the whole blob; more
 * than that gives EBADMSG. ERANGE: the registry cannot begin there.
 */
int registry_blob(struct registry *r, const char *hex, uint64_t offset, uint64_t size, int fd,
		  struct error *err);

/* 1: the repository has this blob; 0: not. */
int registry_has_blob(struct registry *r, const char *hex, struct error *err);

/* Takes the blob over from another repository of the registry. 1: done; 0: it will not. */
int registry_mount(struct registry *r, const char *hex, const char *from, struct error *err);

/* Uploads a blob of `size` bytes from `fd`; goes on where a cut upload stopped. */
int registry_upload(struct registry *r, const char *hex, int fd, uint64_t size, struct error *err);

/* True for errors after which trying again makes sense. */
bool registry_is_transient(int code);

#endif
