/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to a registry: one libcurl handle, authentication on demand, redirects of
 * blobs to where they are stored; registry.h is the contract.
 */
#include "runtime/image/registry.h"

#include <ctype.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "runtime/image/digest.h"
#include "runtime/image/registry_auth.h"
#include "runtime/image/registry_request.h"

#define CONNECT_S  15L
#define STALLED_S  60L /* less than a byte a second for so long */
#define ANSWER_MAX (1u << 20)
#define EITHER	   "https-or-http://"
#define DOCKER_HUB "registry-1.docker.io"

void registry_answer_free(struct registry_answer *a)
{
	buf_free(&a->body);
	free(a->type);
	free(a->location);
	free(a->range);
	free(a->challenge);
	free(a->digest);
}

/* --- what libcurl calls -------------------------------------------------------------- */

static bool is_error(const struct registry_answer *a)
{
	long status = 0;

	curl_easy_getinfo(a->r->curl, CURLINFO_RESPONSE_CODE, &status);
	return status != (a->resumed ? 206 : 200);
}

static size_t on_body(char *p, size_t one, size_t n, void *ctx)
{
	struct registry_answer *a = ctx;

	(void)one;
	if (a->fd >= 0 && !is_error(a)) {
		if (n > a->left) {
			a->beyond = true;
			return 0;
		}
		a->left -= n;
		a->write_error = -fd_write_all(a->fd, p, n);
		return a->write_error ? 0 : n;
	}
	if (a->body.len + n > a->max) {
		a->too_much = true;
		return 0;
	}
	buf_add(&a->body, p, n);
	return n;
}

static void keep_header(const char *line, size_t n, const char *name, char **out)
{
	size_t len = strlen(name);

	if (n <= len || strncasecmp(line, name, len) != 0)
		return;
	line += len;
	n -= len;
	while (n && isspace((unsigned char)*line))
		line++, n--;
	while (n && isspace((unsigned char)line[n - 1]))
		n--;
	free(*out);
	*out = str_format("%.*s", (int)n, line);
}

static size_t on_header(char *p, size_t one, size_t n, void *ctx)
{
	struct registry_answer *a = ctx;

	(void)one;
	keep_header(p, n, "content-type:", &a->type);
	keep_header(p, n, "location:", &a->location);
	keep_header(p, n, "range:", &a->range);
	keep_header(p, n, "www-authenticate:", &a->challenge);
	keep_header(p, n, "docker-content-digest:", &a->digest);
	return n;
}

static size_t on_read(char *p, size_t one, size_t n, void *ctx)
{
	struct registry_request *q = ctx;
	ssize_t got;

	if (n * one > q->size)
		n = (size_t)q->size;
	got = n ? pread(q->fd, p, n, (off_t)q->offset) : 0;
	if (got < 0)
		return CURL_READFUNC_ABORT;
	q->offset += (uint64_t)got;
	q->size -= (uint64_t)got;
	return (size_t)got;
}

static int on_progress(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
		       curl_off_t up)
{
	struct registry *r = ctx;

	(void)down_total;
	(void)up_total;
	return r->tick && r->tick(r->tick_ctx, (uint64_t)(down > up ? down : up));
}

/* --- one request --------------------------------------------------------------------- */

bool registry_is_transient(int code)
{
	return code == ECONNREFUSED || code == EHOSTUNREACH || code == ECONNRESET ||
	       code == ETIMEDOUT || code == EAGAIN;
}

static int curl_errno(CURLcode code)
{
	switch (code) {
	case CURLE_COULDNT_CONNECT:
		return ECONNREFUSED;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return EHOSTUNREACH;
	case CURLE_OPERATION_TIMEDOUT:
		return ETIMEDOUT;
	case CURLE_ABORTED_BY_CALLBACK:
		return ECANCELED;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
		return EKEYREJECTED;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
	case CURLE_TOO_MANY_REDIRECTS:
	case CURLE_WEIRD_SERVER_REPLY:
		return EPROTO;
	default:
		return ECONNRESET;
	}
}

static char *cert_file(const struct registry *r, const char *name)
{
	char *path = r->certs ? str_format("%s/%s", r->certs, name) : NULL;

	if (path && access(path, R_OK) < 0)
		free(TAKE_PTR(path));
	return path;
}

static void set_tls(struct registry *r)
{
	CLEANUP_FREE char *ca = cert_file(r, "ca.crt");
	CLEANUP_FREE char *cert = cert_file(r, "client.cert");
	CLEANUP_FREE char *key = cert_file(r, "client.key");

	if (ca)
		curl_easy_setopt(r->curl, CURLOPT_CAINFO, ca);
	if (cert)
		curl_easy_setopt(r->curl, CURLOPT_SSLCERT, cert);
	if (key)
		curl_easy_setopt(r->curl, CURLOPT_SSLKEY, key);
	if (r->insecure) {
		curl_easy_setopt(r->curl, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(r->curl, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

static struct curl_slist *headers_of(const struct registry *r, const struct registry_request *q)
{
	struct curl_slist *list = NULL;
	CLEANUP_FREE char *auth = NULL;

	for (size_t i = 0; i < 4 && q->headers[i]; i++)
		list = curl_slist_append(list, q->headers[i]);
	if (r->authorization && !q->anonymous) {
		auth = str_format("Authorization: %s", r->authorization);
		list = curl_slist_append(list, auth);
	}
	return list;
}

static void set_options(struct registry *r, struct registry_request *q, struct registry_answer *a)
{
	CURL *c = r->curl;

	curl_easy_setopt(c, CURLOPT_URL, q->url);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "ferry");
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, r->insecure ? "http,https" : "https");
	curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, r->insecure ? "http,https" : "https");
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, q->with_body && q->fd < 0 ? 1L : 0L);
	curl_easy_setopt(c, CURLOPT_MAXREDIRS, 5L);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, STALLED_S);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, a);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, a);
	curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(c, CURLOPT_XFERINFODATA, r);
	curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
	set_tls(r);
	if (q->fd >= 0) {
		curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(c, CURLOPT_READDATA, q);
		curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->size);
	} else if (q->body) {
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(q->body));
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body);
	} else if (!q->with_body) {
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	}
	curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
}

static int transfer_error(const struct registry *r, const struct registry_answer *a, CURLcode code,
			  const char *why, struct error *err)
{
	if (a->write_error)
		return error_sys(err, a->write_error, "writing what registry %s sends", r->host);
	if (a->too_much || a->beyond)
		return error_set(err, a->beyond ? EBADMSG : EFBIG,
				 "registry %s sends more than it may", r->host);
	if (code == CURLE_ABORTED_BY_CALLBACK)
		return error_set(err, ECANCELED, "stopped");
	return error_set(err, curl_errno(code), "registry %s: %s", r->host,
			 *why ? why : curl_easy_strerror(code));
}

/* 0 when an answer came, whatever its status. */
static int send_once(struct registry *r, const struct registry_request *q,
		     struct registry_answer *a, struct error *err)
{
	char why[CURL_ERROR_SIZE] = "";
	struct registry_request own = *q;
	struct curl_slist *headers = headers_of(r, q);
	int fd = a->fd;
	size_t max = a->max ? a->max : ANSWER_MAX;
	uint64_t left = a->left;
	bool resumed = a->resumed;
	CURLcode code;

	registry_answer_free(a);
	*a = (struct registry_answer){
		.r = r, .fd = fd, .max = max, .left = left, .resumed = resumed
	};
	curl_easy_reset(r->curl); /* keeps the connection */
	curl_easy_setopt(r->curl, CURLOPT_ERRORBUFFER, why);
	set_options(r, &own, a);
	curl_easy_setopt(r->curl, CURLOPT_HTTPHEADER, headers);
	code = curl_easy_perform(r->curl);
	curl_slist_free_all(headers);
	if (code != CURLE_OK)
		return transfer_error(r, a, code, why, err);
	curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &a->status);
	return 0;
}

/* --- authentication ------------------------------------------------------------------ */

static void add_escaped(const struct registry *r, struct buf *b, const char *key, const char *value)
{
	char *escaped = curl_easy_escape(r->curl, value, 0);

	buf_addf(b, "%s%s=%s", b->len ? "&" : "", key, escaped ? escaped : "");
	curl_free(escaped);
}

static void add_scopes(const struct registry *r, struct buf *b)
{
	CLEANUP_FREE char *scope =
		str_format("repository:%s:%s", r->path, r->push ? "pull,push" : "pull");

	if (*r->path)
		add_escaped(r, b, "scope", scope);
	if (r->from) {
		CLEANUP_FREE char *other = str_format("repository:%s:pull", r->from);

		add_escaped(r, b, "scope", other);
	}
}

static int ask_token(struct registry *r, const struct registry_request *q, struct error *err)
{
	CLEANUP_ANSWER struct registry_answer a = { .fd = -1 };
	CLEANUP_FREE char *token = NULL;
	int e = send_once(r, q, &a, err);

	if (e < 0)
		return error_wrap(err, "asking for a token");
	if (a.status != 200) {
		CLEANUP_FREE char *said = registry_complaint(a.body.data, a.body.len, a.status);

		return error_set(err, a.status >= 500 || a.status == 429 ? EAGAIN : EACCES,
				 "the token server of registry %s refuses%s: %s", r->host,
				 r->login ? " this login" : "; 'docker login' may help", said);
	}
	e = registry_token_parse(a.body.data, a.body.len, &token, err);
	if (e < 0)
		return e;
	r->authorization = str_format("Bearer %s", token);
	return 0;
}

static int bearer(struct registry *r, struct error *err)
{
	const struct image_login *l = r->login;
	CLEANUP_BUF struct buf b = { 0 };
	CLEANUP_FREE char *url = NULL, *basic = NULL, *header = NULL;
	struct registry_request q = {
		.method = "GET", .fd = -1, .anonymous = true, .with_body = true
	};

	if (!str_starts(r->challenge.realm, "https://") &&
	    !(r->insecure && str_starts(r->challenge.realm, "http://")))
		return error_set(err, EPROTO,
				 "registry %s wants its tokens asked for without TLS, at %.200s",
				 r->host, r->challenge.realm);
	if (r->challenge.service)
		add_escaped(r, &b, "service", r->challenge.service);
	add_scopes(r, &b);
	if (l && l->identity_token) {
		add_escaped(r, &b, "grant_type", "refresh_token");
		add_escaped(r, &b, "client_id", "ferry");
		add_escaped(r, &b, "refresh_token", l->identity_token);
		q.method = "POST";
		q.body = b.data;
		q.url = r->challenge.realm;
		return ask_token(r, &q, err);
	}
	if (l && l->user && l->password) {
		add_escaped(r, &b, "account", l->user);
		basic = registry_basic(l->user, l->password);
		header = str_format("Authorization: %s", basic);
		q.headers[0] = header;
	}
	url = str_format("%s%c%s", r->challenge.realm, strchr(r->challenge.realm, '?') ? '&' : '?',
			 b.data ? b.data : "");
	q.url = url;
	return ask_token(r, &q, err);
}

static int authenticate(struct registry *r, const char *challenge, struct error *err)
{
	const struct image_login *l = r->login;
	int e;

	free(TAKE_PTR(r->authorization));
	registry_challenge_free(&r->challenge);
	if (l && l->registry_token) {
		r->authorization = str_format("Bearer %s", l->registry_token);
		return 0;
	}
	e = registry_challenge_parse(challenge, &r->challenge, err);
	if (e < 0)
		return e;
	if (!r->challenge.basic)
		return bearer(r, err);
	if (!l || !l->user || !l->password)
		return error_set(err, EACCES, "registry %s wants a login: 'docker login %s'",
				 r->host, r->host);
	r->authorization = registry_basic(l->user, l->password);
	return 0;
}

static bool same_challenge(const struct registry *r, const char *challenge)
{
	struct registry_challenge c;
	bool basic;

	if (registry_challenge_parse(challenge, &c, NULL) < 0)
		return true;
	basic = c.basic;
	registry_challenge_free(&c);
	return basic && r->authorization; /* the login itself is refused */
}

/* As send_once(), with authentication when the registry asks for it. */
int registry_send(struct registry *r, const struct registry_request *q, struct registry_answer *a,
		  struct error *err)
{
	int e = send_once(r, q, a, err);
	CLEANUP_FREE char *challenge = NULL;

	if (e < 0 || a->status != 401 || !a->challenge || same_challenge(r, a->challenge))
		return e;
	challenge = TAKE_PTR(a->challenge);
	e = authenticate(r, challenge, err);
	return e < 0 ? e : send_once(r, q, a, err);
}

int registry_refused(const struct registry *r, const struct registry_answer *a, const char *what,
		     struct error *err)
{
	CLEANUP_FREE char *said = registry_complaint(a->body.data, a->body.len, a->status);
	int code = a->status == 401 || a->status == 403	  ? EACCES
		   : a->status == 404			  ? ENOENT
		   : a->status == 416			  ? ERANGE
		   : a->status == 429 || a->status >= 500 ? EAGAIN
							  : EPROTO;

	return error_set(err, code, "%s: registry %s says: %s%s", what, r->host, said,
			 code == EACCES ? "; 'docker login' may help" : "");
}

/* --- opening ------------------------------------------------------------------------- */

static bool named(const char *const *list, const char *host)
{
	for (size_t i = 0; list && list[i]; i++)
		if (strcmp(list[i], host) == 0)
			return true;
	return false;
}

char **registry_urls(const struct image_registries *o, const char *host, bool push)
{
	bool hub = strcmp(host, "docker.io") == 0;
	size_t n = 0, mirrors = 0;
	char **urls;

	while (hub && !push && o && o->mirrors && o->mirrors[mirrors])
		mirrors++;
	urls = mem_zalloc((mirrors + 2) * sizeof(*urls));
	for (size_t i = 0; i < mirrors; i++) {
		const char *slashes = strstr(o->mirrors[i], "://");

		urls[n++] = slashes && named(o->insecure, slashes + 3)
				    ? str_format(EITHER "%s", slashes + 3)
				    : str_dup(o->mirrors[i]);
	}
	if (o && named(o->insecure, host))
		urls[n++] = str_format(EITHER "%s", host);
	else
		urls[n++] = str_format("https://%s", hub ? DOCKER_HUB : host);
	return urls;
}

void registry_urls_free(char **urls)
{
	for (size_t i = 0; urls && urls[i]; i++)
		free(urls[i]);
	free(urls);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void curl_begin(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* Whether a registry answers at `base`, and how it wants to be spoken to. */
static int ping(struct registry *r, const char *scheme, struct error *err)
{
	CLEANUP_ANSWER struct registry_answer a = { .fd = -1 };
	CLEANUP_FREE char *url = NULL;
	struct registry_request q = { .method = "GET", .fd = -1, .with_body = true };
	int e;

	free(r->base);
	r->base = str_format("%s%s", scheme, r->host);
	url = str_format("%s/v2/", r->base);
	q.url = url;
	e = send_once(r, &q, &a, err);
	if (e < 0)
		return e;
	if (a.status == 401 && a.challenge)
		return authenticate(r, a.challenge, err);
	return a.status == 200 ? 0 : registry_refused(r, &a, "asking what it speaks", err);
}

/* 1: something there answers plain HTTP. */
static bool speaks_http(struct registry *r)
{
	CLEANUP_ANSWER struct registry_answer a = { .fd = -1 };
	CLEANUP_FREE char *url = str_format("http://%s/v2/", r->host);
	struct registry_request q = { .method = "GET", .url = url, .fd = -1, .anonymous = true };
	bool yes;

	r->insecure = true;
	yes = send_once(r, &q, &a, NULL) == 0;
	r->insecure = false;
	return yes;
}

static int connect_to(struct registry *r, const char *scheme, struct error *err)
{
	int e = ping(r, r->insecure ? "https://" : scheme, err);

	if (r->insecure && (e == -EPROTO || e == -ECONNREFUSED || e == -ECONNRESET)) {
		error_clear(err);
		return ping(r, "http://", err);
	}
	if (!r->insecure && e == -EPROTO && !r->challenge.realm && speaks_http(r))
		return error_set(err, EPROTO,
				 "registry %s does not speak TLS: if that is meant, name it in "
				 "\"insecure_registries\" of ferryd's configuration",
				 r->host);
	if (e == -EKEYREJECTED)
		return error_wrap(
			err,
			"its certificate is not trusted (put its CA into %s/ca.crt, or name "
			"the registry in \"insecure_registries\")",
			r->certs ? r->certs : "the certificates' folder");
	return e;
}

int registry_open(const struct image_registries *o, const struct image_login *login,
		  const char *url, const char *path, bool push, struct registry **out,
		  struct error *err)
{
	struct registry *r = mem_zalloc(sizeof(*r));
	const char *slashes = strstr(url, "://");
	CLEANUP_FREE char *scheme = NULL;
	int e;

	*out = NULL;
	pthread_once(&once, curl_begin);
	if (!slashes) {
		free(r);
		return error_set(err, EINVAL, "\"%s\" is no URL of a registry", url);
	}
	scheme = str_format("%.*s://", (int)(slashes - url), url);
	r->host = str_dup(slashes + 3);
	r->host[strcspn(r->host, "/")] = '\0';
	r->path = str_dup(path);
	r->login = login;
	r->push = push;
	r->insecure = strcmp(scheme, EITHER) == 0;
	if (o && o->certs)
		r->certs = str_format("%s/%s", o->certs,
				      strcmp(r->host, DOCKER_HUB) ? r->host : "docker.io");
	r->curl = curl_easy_init();
	if (!r->curl)
		abort();
	e = connect_to(r, scheme, err);
	if (e < 0)
		registry_close(r);
	else
		*out = r;
	return e;
}

void registry_close(struct registry *r)
{
	if (!r)
		return;
	curl_easy_cleanup(r->curl);
	registry_challenge_free(&r->challenge);
	free(r->host);
	free(r->path);
	free(r->base);
	free(r->certs);
	free(r->from);
	free(r->authorization);
	free(r);
}

int registry_check(struct registry *r, struct error *err)
{
	CLEANUP_ANSWER struct registry_answer a = { .fd = -1 };
	CLEANUP_FREE char *url = str_format("%s/v2/", r->base);
	struct registry_request q = { .method = "GET", .url = url, .fd = -1, .with_body = true };
	int e = registry_send(r, &q, &a, err);

	return e < 0 || a.status == 200 ? e : registry_refused(r, &a, "logging in", err);
}

void registry_watch(struct registry *r, registry_tick *tick, void *ctx)
{
	r->tick = tick;
	r->tick_ctx = ctx;
}
