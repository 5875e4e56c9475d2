/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP to ferryd over its unix socket, by libcurl. */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/cli/cli.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

#define ANSWER_MAX (64u << 20)

static const char *socket_path;

void client_set_socket(const char *path)
{
	socket_path = str_starts(path, "unix://") ? path + 7 : path;
}

static char *more_header;

void client_set_header(const char *line)
{
	free(more_header);
	more_header = str_dup(line);
}

static const char *the_socket(void)
{
	const char *env = getenv("FERRY_SOCKET");

	return socket_path ? socket_path : env && *env ? env : "/run/ferry/ferry.sock";
}

struct transfer {
	CURL *curl;
	struct buf answer; /* whole answer, or what is not a whole line yet */
	client_line_fn *line;
	client_bytes_fn *bytes;
	void *ctx;
	bool ended; /* by the callback */
};

static int feed_lines(struct transfer *t)
{
	char *start = t->answer.data, *nl;

	while (!t->ended &&
	       (nl = memchr(start, '\n', t->answer.len - (size_t)(start - t->answer.data)))) {
		CLEANUP_JSON json_t *j = json_loadb(start, (size_t)(nl - start), 0, NULL);

		if (j && t->line(t->ctx, j))
			t->ended = true;
		start = nl + 1;
	}
	t->answer.len -= (size_t)(start - t->answer.data);
	memmove(t->answer.data, start, t->answer.len);
	return t->ended;
}

static size_t received(char *data, size_t size, size_t n, void *ctx)
{
	struct transfer *t = ctx;
	size_t len = size * n;
	long status = 0;

	curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status < 400 && t->bytes) {
		t->ended = t->bytes(t->ctx, data, len) != 0;
		return t->ended ? 0 : len;
	}
	if (t->answer.len + len > ANSWER_MAX)
		return 0;
	buf_add(&t->answer, data, len);
	if (status < 400 && t->line && feed_lines(t))
		return 0;
	return len;
}

static int errno_of(long status)
{
	switch (status) {
	case 400:
		return EINVAL;
	case 403:
		return EPERM;
	case 404:
		return ENOENT;
	case 409:
		return EBUSY;
	case 501:
		return ENOSYS;
	case 503:
		return EAGAIN;
	default:
		return EIO;
	}
}

static int finish(struct transfer *t, CURLcode code, struct error *err)
{
	long status = 0;

	curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
	if (code != CURLE_OK && !t->ended) {
		if (code == CURLE_COULDNT_CONNECT)
			return error_set(err, ECONNREFUSED,
					 "cannot reach ferryd at %s; is it running?", the_socket());
		return error_set(err, EIO, "talking to ferryd: %s", curl_easy_strerror(code));
	}
	if (status >= 400) {
		CLEANUP_JSON json_t *j =
			json_loadb(t->answer.data ? t->answer.data : "", t->answer.len, 0, NULL);

		return error_set(err, errno_of(status), "%s",
				 json_str(j, "message", "ferryd answered with an error"));
	}
	return 0;
}

static int perform(struct transfer *t, const char *method, const char *path, const json_t *body,
		   FILE *upload, struct error *err)
{
	CLEANUP_FREE char *url = str_format("http://ferry%s", path);
	CLEANUP_FREE char *text = body ? json_text(body) : NULL;
	struct curl_slist *headers = NULL;
	int r;

	t->curl = curl_easy_init();
	if (!t->curl)
		return error_set(err, ENOMEM, "starting libcurl");
	headers = curl_slist_append(headers, upload ? "Content-Type: application/x-tar"
						    : "Content-Type: application/json");
	headers = curl_slist_append(headers, "Expect:");
	if (more_header)
		headers = curl_slist_append(headers, more_header);
	curl_easy_setopt(t->curl, CURLOPT_UNIX_SOCKET_PATH, the_socket());
	curl_easy_setopt(t->curl, CURLOPT_URL, url);
	curl_easy_setopt(t->curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(t->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, received);
	curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
	if (upload) {
		curl_easy_setopt(t->curl, CURLOPT_POST, 1L);
		headers = curl_slist_append(headers, "Transfer-Encoding: chunked");
		curl_easy_setopt(t->curl, CURLOPT_READDATA, upload);
	} else if (text || !strcmp(method, "POST")) {
		curl_easy_setopt(t->curl, CURLOPT_POSTFIELDS, text ? text : "");
	}
	r = finish(t, curl_easy_perform(t->curl), err);
	curl_slist_free_all(headers);
	curl_easy_cleanup(t->curl);
	return r;
}

int client_call(const char *method, const char *path, const json_t *body, json_t **out,
		struct error *err)
{
	struct transfer t = { 0 };
	int r = perform(&t, method, path, body, NULL, err);

	if (!r && out) {
		*out = t.answer.len
			       ? json_parse(t.answer.data, t.answer.len, "ferryd's answer", err)
			       : json_object();
		r = *out ? 0 : -EINVAL;
	}
	buf_free(&t.answer);
	return r;
}

int client_lines(const char *method, const char *path, const json_t *body, client_line_fn *fn,
		 void *ctx, struct error *err)
{
	struct transfer t = { .line = fn, .ctx = ctx };
	int r = perform(&t, method, path, body, NULL, err);

	buf_free(&t.answer);
	return r;
}

int client_bytes(const char *method, const char *path, const json_t *body, client_bytes_fn *fn,
		 void *ctx, struct error *err)
{
	struct transfer t = { .bytes = fn, .ctx = ctx };
	int r = perform(&t, method, path, body, NULL, err);

	buf_free(&t.answer);
	return r;
}

int client_upload(const char *path, const char *file, client_line_fn *fn, void *ctx,
		  struct error *err)
{
	struct transfer t = { .line = fn, .ctx = ctx };
	CLEANUP_FCLOSE FILE *f = !strcmp(file, "-") ? fdopen(0, "r") : fopen(file, "r");
	int r;

	if (!f)
		return error_sys(err, errno, "opening %s", file);
	r = perform(&t, "POST", path, NULL, f, err);
	buf_free(&t.answer);
	return r;
}

char *client_escape(const char *text)
{
	char *escaped = curl_easy_escape(NULL, text, 0);
	char *copy = str_dup(escaped ? escaped : "");

	curl_free(escaped);
	return copy;
}
