/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images from and to registries: pull, push, login, and what a registry has. Progress is
 * Docker's: one JSON document a line, errors among them once the first line is out.
 */
#include <openssl/evp.h>
#include <string.h>

#include "api/docker/docker.h"
#include "api/request.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

#define LOGIN_MAX 65536

/* --- X-Registry-Auth ------------------------------------------------------------------ */

/* Base64 with either alphabet, padded or not (caller frees); NULL: it is none. */
static char *decode(const char *text)
{
	size_t len = strcspn(text, "="), padded = (len + 3) / 4 * 4;
	CLEANUP_FREE char *std = mem_zalloc(padded + 1);
	char *out = mem_zalloc(padded + 1);
	int n;

	for (size_t i = 0; i < padded; i++)
		std[i] = i >= len ? '=' : text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
	n = EVP_DecodeBlock((unsigned char *)out, (const unsigned char *)std, (int)padded);
	if (n < 0 || len % 4 == 1) {
		free(out);
		return NULL;
	}
	out[n - (int)(padded - len)] = '\0';
	return out;
}

/* *login stays NULL where the client gave none. */
static int read_login(const struct request *req, json_t **login, struct error *err)
{
	const char *header = request_header(req, "X-Registry-Auth");
	CLEANUP_FREE char *text = NULL;

	*login = NULL;
	if (!header || !*header)
		return 0;
	text = strlen(header) <= LOGIN_MAX ? decode(header) : NULL;
	if (text)
		*login = json_parse(text, strlen(text), "X-Registry-Auth", NULL);
	if (!json_is_object(*login)) {
		json_decref(TAKE_PTR(*login));
		return error_set(err, EINVAL,
				 "header X-Registry-Auth must be a JSON object in base64url");
	}
	return 0;
}

/* --- progress -------------------------------------------------------------------------- */

struct job {
	char *ref, *arch;
	json_t *login;
	bool push;
	struct feed *feed;
	bool told; /* the first line is out */
};

static void job_free(void *ctx)
{
	struct job *j = ctx;

	free(j->ref);
	free(j->arch);
	json_decref(j->login);
	free(j);
}

static void tell(void *ctx, json_t *line)
{
	struct job *j = ctx;

	j->told = true;
	feed_write_json(j->feed, line); /* a client that has gone is seen by gone() */
}

static void tell_status(struct job *j, const char *id, const char *fmt, const char *what)
{
	CLEANUP_BUF struct buf b = { 0 };
	CLEANUP_JSON json_t *line = NULL;
	const char *at = strstr(fmt, "%s");

	buf_addf(&b, "%.*s%s%s", (int)(at - fmt), fmt, what, at + 2);
	line = json_pack("{s:s}", "status", b.data);
	if (id)
		json_set_str(line, "id", id);
	tell(j, line);
}

static bool gone(void *ctx)
{
	const struct job *j = ctx;

	return feed_gone(j->feed, 0);
}

/* What went wrong behind the first line is a line as well. */
static int ended(struct job *j, int r, const struct error *err)
{
	CLEANUP_JSON json_t *line = NULL;

	if (r >= 0 || !j->told)
		return r;
	line = json_pack("{s:{s:s}, s:s}", "errorDetail", "message", err->msg, "error", err->msg);
	tell(j, line);
	return 0;
}

static int produce(struct feed *s, void *ctx, struct error *err)
{
	struct job *j = ctx;
	struct fabric_transfer t = {
		.login = j->login, .arch = j->arch, .progress = tell, .stop = gone, .ctx = j
	};
	CLEANUP_JSON json_t *result = NULL;
	int r;

	j->feed = s;
	if (j->push)
		return ended(j, fabric_image_push(feed_fabric(s), j->ref, &t, &result, err), err);
	r = fabric_image_pull(feed_fabric(s), j->ref, &t, &result, err);
	if (r == 0) {
		tell_status(j, NULL, "Digest: %s", json_str(result, "Digest", ""));
		tell_status(j, NULL,
			    json_bool(result, "New", false)
				    ? "Status: Downloaded newer image for %s"
				    : "Status: Image is up to date for %s",
			    j->ref);
	}
	return ended(j, r, err);
}

static int start(struct request *req, struct job *j, struct error *err)
{
	struct feed_options o = { .type = "application/json",
				  .produce = produce,
				  .ctx = j,
				  .free_ctx = job_free,
				  .settle_ms = -1 };

	return reply_feed(req, &o, err);
}

/* --- routes ----------------------------------------------------------------------------- */

/* "linux/arm64/v8": what the image is to run on; containers are always Linux. */
static int read_platform(const struct request *req, char **arch, struct error *err)
{
	const char *platform = query_str(&req->query, "platform");

	if (!platform)
		return 0;
	if (!str_starts(platform, "linux/") || !platform[6])
		return error_set(err, EINVAL,
				 "platform \"%s\": ferry runs images for linux, give linux/ARCH",
				 platform);
	*arch = str_format("%.*s", (int)strcspn(platform + 6, "/"), platform + 6);
	return 0;
}

static int pull(struct request *req, struct error *err)
{
	const char *from = query_str(&req->query, "fromImage"), *t = query_str(&req->query, "tag");
	struct job *j;
	int r;

	if (query_str(&req->query, "fromSrc")) {
		CLEANUP_JSON json_t *line = json_pack("{s:O}", "status", req->uploaded);
		CLEANUP_FREE char *text = json_text(line);

		return reply_text(req, 200, "application/json", text, strlen(text));
	}
	if (!from)
		return error_set(err, EINVAL, "parameter fromImage is missing");
	j = mem_zalloc(sizeof(*j));
	j->ref = !t			    ? str_dup(from)
		 : str_starts(t, "sha256:") ? str_format("%s@%s", from, t)
					    : str_format("%s:%s", from, t);
	r = read_login(req, &j->login, err);
	if (!r)
		r = read_platform(req, &j->arch, err);
	if (r < 0) {
		job_free(j);
		return r;
	}
	return start(req, j, err);
}

static int push(struct request *req, struct error *err)
{
	const char *t = query_str(&req->query, "tag");
	struct job *j = mem_zalloc(sizeof(*j));
	int r;

	j->push = true;
	j->ref = t ? str_format("%s:%s", req->arg, t) : str_dup(req->arg);
	r = read_login(req, &j->login, err);
	if (r < 0) {
		job_free(j);
		return r;
	}
	return start(req, j, err);
}

/* "https://index.docker.io/v1/", "10.0.0.1:5000": the host. */
static char *host_of(const char *address)
{
	const char *slashes = strstr(address, "://");
	CLEANUP_FREE char *host = str_dup(slashes ? slashes + 3 : address);

	host[strcspn(host, "/")] = '\0';
	return !*host || !strcmp(host, "index.docker.io") ? str_dup("docker.io") : TAKE_PTR(host);
}

static int login(struct request *req, struct error *err)
{
	CLEANUP_FREE char *host = host_of(json_str(req->json, "serveraddress", ""));
	struct error why = { 0 };
	int r = fabric_image_login(req->fabric, host, req->json, &why);

	if (r == -EACCES)
		return reply_error(req, 401, &why);
	if (r < 0)
		return error_set(err, -r, "%s", why.msg);
	return reply_json(
		req, 200,
		json_pack("{s:s, s:s}", "Status", "Login Succeeded", "IdentityToken", ""));
}

static int distribution(struct request *req, struct error *err)
{
	CLEANUP_JSON json_t *auth = NULL;
	json_t *out = NULL;
	int r = read_login(req, &auth, err);

	if (!r)
		r = fabric_image_distribution(req->fabric, req->arg, auth, &out, err);
	return r < 0 ? r : reply_json(req, 200, out);
}

const struct route docker_registry_routes[] = {
	{ .method = "POST",
	  .pattern = "/images/create",
	  .handler = pull,
	  .body = BODY_UPLOAD,
	  .upload = docker_import_upload },
	{ .method = "POST", .pattern = "/images/{*}/push", .handler = push },
	{ .method = "POST", .pattern = "/auth", .handler = login, .body = BODY_JSON },
	{ .method = "GET", .pattern = "/distribution/{*}/json", .handler = distribution },
	{ .method = "GET",
	  .pattern = "/images/search",
	  .refusal = "searching is not possible: registries have no search that they agree on; "
		     "look at "
		     "the registry's own site" },
	{ 0 },
};
