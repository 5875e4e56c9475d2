/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests and blobs of a repository, both ways; registry.h is the contract. */
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/image/digest.h"
#include "runtime/image/registry_request.h"

#define CHUNK_TRIES 5
#define MANIFESTS                                                                                  \
	"Accept: application/vnd.oci.image.index.v1+json, "                                        \
	"application/vnd.oci.image.manifest.v1+json, "                                             \
	"application/vnd.docker.distribution.manifest.list.v2+json, "                              \
	"application/vnd.docker.distribution.manifest.v2+json"

/* --- manifests ----------------------------------------------------------------------- */

int registry_manifest(struct registry *r, const char *ref, size_t max, char **text, size_t *len,
		      char **type, struct error *err)
{
	CLEANUP_ANSWER struct registry_answer a = { .fd = -1, .max = max };
	CLEANUP_FREE char *url = str_format("%s/v2/%s/manifests/%s", r->base, r->path, ref);
	struct registry_request q = {
		.method = "GET", .url = url, .headers = { MANIFESTS }, .fd = -1, .with_body = true
	};
	const char *want = image_digest_hex(ref);
	char hex[IMAGE_HEX_LEN + 1];
	int e = registry_send(r, &q, &a, err);

	if (e == 0 && a.status != 200) {
		CLEANUP_FREE char *what = str_format("%s of %s", ref, r->path);

		e = registry_refused(r, &a, what, err);
	}
	if (e < 0)
		return e;
	image_hash_of(a.body.data ? a.body.data : "", a.body.len, hex);
	if (!want && a.digest && image_digest_hex(a.digest))
		want = image_digest_hex(a.digest);
	if (want && strcmp(want, hex) != 0)
		return error_set(err, EBADMSG,
				 "manifest sha256:%s of %s: wrong digest, its content is sha256:%s",
				 want, r->path, hex);
	*len = a.body.len;
	buf_add(&a.body, "", 0);
	*text = TAKE_PTR(a.body.data);
	a.body.len = a.body.cap = 0;
	*type = a.type ? TAKE_PTR(a.type) : str_dup("");
	(*type)[strcspn(*type, "; ")] = '\0';
	return 0;
}

int registry_put_manifest(struct registry *r, const char *ref, const char *text, const char *type,
			  struct error *err)
{
	CLEANUP_ANSWER struct registry_answer a = { .fd = -1 };
	CLEANUP_FREE char *url = str_format("%s/v2/%s/manifests/%s", r->base, r->path, ref);
	CLEANUP_FREE char *header = str_format("Content-Type: %s", type);
	struct registry_request q = {
		.method = "PUT", .url = url, .headers = { header }, .body = text, .fd = -1
	};
	int e = registry_send(r, &q, &a, err);

	return e < 0 || (a.status >= 200 && a.status < 300)
		       ? e
		       : registry_refused(r, &a, "the manifest", err);
}

/* --- blobs ---------------------------------------------------------------------------- */

int registry_blob(struct registry *r, const char *hex, uint64_t offset, uint64_t size, int fd,
		  struct error *err)
{
	CLEANUP_FREE char *url = str_format("%s/v2/%s/blobs/sha256:%s", r->base, r->path, hex);
	CLEANUP_FREE char *range = str_format("Range: bytes=%llu-", (unsigned long long)offset);
	CLEANUP_ANSWER struct registry_answer a = { .fd = fd,
						    .left = size - offset,
						    .resumed = offset > 0 };
	struct registry_request q = { .method = "GET",
				      .url = url,
				      .headers = { offset ? range : NULL },
				      .fd = -1,
				      .with_body = true };
	int e = registry_send(r, &q, &a, err);

	/* A whole answer where a part was asked for goes to the body, and may be too much. */
	if (offset && (e == -EFBIG || (e == 0 && a.status == 200)))
		return error_set(err, ERANGE, "registry %s sends blobs from their begin only",
				 r->host);
	if (e == 0 && a.status != (offset ? 206 : 200)) {
		CLEANUP_FREE char *what = str_format("blob sha256:%s", hex);

		return registry_refused(r, &a, what, err);
	}
	if (e == 0 && a.left)
		return error_set(err, ECONNRESET, "registry %s sent too little", r->host);
	return e;
}

int registry_has_blob(struct registry *r, const char *hex, struct error *err)
{
	CLEANUP_FREE char *url = str_format("%s/v2/%s/blobs/sha256:%s", r->base, r->path, hex);
	CLEANUP_ANSWER struct registry_answer a = { .fd = -1 };
	struct registry_request q = { .method = "HEAD", .url = url, .fd = -1 };
	int e = registry_send(r, &q, &a, err);

	if (e < 0)
		return e;
	if (a.status == 404)
		return 0;
	/* 3xx: it is somewhere else, but it is. */
	return a.status >= 200 && a.status < 400
		       ? 1
		       : registry_refused(r, &a, "asking for a layer", err);
}

int registry_mount(struct registry *r, const char *hex, const char *from, struct error *err)
{
	CLEANUP_FREE char *escaped = NULL, *url = NULL;
	CLEANUP_ANSWER struct registry_answer a = { .fd = -1 };
	struct registry_request q = { .method = "POST", .body = "", .fd = -1 };
	char *e1;
	int e;

	if (!r->from || strcmp(r->from, from) != 0) { /* the token must cover it */
		free(r->from);
		r->from = str_dup(from);
		if (r->challenge.realm)
			free(TAKE_PTR(r->authorization));
	}
	e1 = curl_easy_escape(r->curl, from, 0);
	escaped = str_dup(e1 ? e1 : "");
	curl_free(e1);
	url = str_format("%s/v2/%s/blobs/uploads/?mount=sha256:%s&from=%s", r->base, r->path, hex,
			 escaped);
	q.url = url;
	e = registry_send(r, &q, &a, err);
	if (e < 0)
		return e;
	/* 202: an upload was begun instead; registries drop it in time. */
	return a.status == 201;
}

/* The URL that a Location header means. */
static char *absolute(const struct registry *r, const char *location)
{
	return *location == '/' ? str_format("%s%s", r->base, location) : str_dup(location);
}

static int begin_upload(struct registry *r, char **location, struct error *err)
{
	CLEANUP_FREE char *url = str_format("%s/v2/%s/blobs/uploads/", r->base, r->path);
	CLEANUP_ANSWER struct registry_answer a = { .fd = -1 };
	struct registry_request q = { .method = "POST", .url = url, .body = "", .fd = -1 };
	int e = registry_send(r, &q, &a, err);

	if (e < 0)
		return e;
	if (a.status != 202 || !a.location)
		return registry_refused(r, &a, "beginning an upload", err);
	*location = absolute(r, a.location);
	return 0;
}

/* How many bytes of an upload have arrived; *location is renewed. */
static int upload_state(struct registry *r, char **location, uint64_t *have, struct error *err)
{
	CLEANUP_ANSWER struct registry_answer a = { .fd = -1 };
	struct registry_request q = {
		.method = "GET", .url = *location, .fd = -1, .with_body = true
	};
	unsigned long long last = 0;
	int e = registry_send(r, &q, &a, err);

	if (e < 0)
		return e;
	if (a.status != 204)
		return registry_refused(r, &a, "asking how far an upload came", err);
	if (a.location) {
		free(*location);
		*location = absolute(r, a.location);
	}
	/* "0-499": 500 bytes. Nothing is told as "0-0" by most. */
	*have = a.range && sscanf(a.range, "0-%llu", &last) == 1 && last ? last + 1 : 0;
	return 0;
}

static int send_chunk(struct registry *r, char **location, int fd, uint64_t from, uint64_t size,
		      struct error *err)
{
	CLEANUP_ANSWER struct registry_answer a = { .fd = -1 };
	CLEANUP_FREE char *range = str_format("Content-Range: %llu-%llu", (unsigned long long)from,
					      (unsigned long long)(size ? size - 1 : 0));
	struct registry_request q = { .method = "PATCH",
				      .url = *location,
				      .headers = { "Content-Type: application/octet-stream", range,
						   "Expect:" },
				      .fd = fd,
				      .offset = from,
				      .size = size - from };
	int e = registry_send(r, &q, &a, err);

	if (e < 0)
		return e;
	if (a.status < 200 || a.status >= 300)
		return registry_refused(r, &a, "uploading a layer", err);
	if (a.location) {
		free(*location);
		*location = absolute(r, a.location);
	}
	return 0;
}

static int end_upload(struct registry *r, const char *location, const char *hex, struct error *err)
{
	CLEANUP_FREE char *url = str_format("%s%cdigest=sha256:%s", location,
					    strchr(location, '?') ? '&' : '?', hex);
	CLEANUP_ANSWER struct registry_answer a = { .fd = -1 };
	struct registry_request q = { .method = "PUT", .url = url, .body = "", .fd = -1 };
	int e = registry_send(r, &q, &a, err);

	return e < 0 || (a.status >= 200 && a.status < 300)
		       ? e
		       : registry_refused(r, &a, "ending an upload", err);
}

int registry_upload(struct registry *r, const char *hex, int fd, uint64_t size, struct error *err)
{
	CLEANUP_FREE char *location = NULL;
	uint64_t have = 0;
	int e = begin_upload(r, &location, err);

	for (int i = 0; e == 0 && have < size; i++) {
		struct error cut = { 0 };

		e = send_chunk(r, &location, fd, have, size, &cut);
		if (e == 0)
			break;
		if (!registry_is_transient(-e) || i == CHUNK_TRIES) {
			*err = cut;
			return e;
		}
		for (int k = 0; k < CHUNK_TRIES; k++) {
			usleep(200000u << k);
			e = upload_state(r, &location, &have, err);
			if (e == 0 || !registry_is_transient(-e))
				break;
		}
		if (e == -ENOENT) { /* it has forgotten the upload: from the begin */
			have = 0;
			free(TAKE_PTR(location));
			error_clear(err);
			e = begin_upload(r, &location, err);
		}
	}
	return e < 0 ? e : end_upload(r, location, hex, err);
}
