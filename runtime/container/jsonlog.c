/* SPDX-License-Identifier: Apache-2.0 */
/* Writing and reading Docker's json-file log; jsonlog.h is the contract. */
#include "runtime/container/jsonlog.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"

char *time_format(int64_t ns)
{
	time_t s = (time_t)(ns / 1000000000);
	char text[40];
	struct tm tm;

	gmtime_r(&s, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	return str_format("%s.%09lldZ", text, (long long)(ns % 1000000000));
}

int time_parse(const char *text, int64_t *ns)
{
	struct tm tm = { 0 };
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	int64_t frac = 0, unit = 100000000;

	if (!end)
		return -EINVAL;
	if (*end == '.')
		for (end++; *end >= '0' && *end <= '9'; end++, unit /= 10)
			frac += (*end - '0') * unit;
	if (strcmp(end, "Z") != 0)
		return -EINVAL;
	*ns = (int64_t)timegm(&tm) * 1000000000 + frac;
	return 0;
}

/* Length of the valid UTF-8 sequence at p (RFC 3629), 0 for none. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
	size_t len = p[0] < 0x80   ? 1
		     : p[0] < 0xc2 ? 0
		     : p[0] < 0xe0 ? 2
		     : p[0] < 0xf0 ? 3
		     : p[0] < 0xf5 ? 4
				   : 0;

	if (!len || len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

void jsonlog_format(struct buf *out, int stream, const char *p, size_t n, int64_t time_ns)
{
	CLEANUP_BUF struct buf clean = { 0 };
	CLEANUP_FREE char *when = time_format(time_ns), *text = NULL;
	CLEANUP_JSON json_t *j = json_object();

	buf_add(&clean, "", 0);
	for (size_t i = 0; i < n;) {
		size_t len = utf8_len((const unsigned char *)p + i, n - i);

		if (len)
			buf_add(&clean, p + i, len);
		else
			buf_add(&clean, "\xef\xbf\xbd", 3); /* U+FFFD, as Docker does */
		i += len ? len : 1;
	}
	json_object_set_new(j, "log", json_stringn_nocheck(clean.data, clean.len));
	json_set_str(j, "stream", stream == 2 ? "stderr" : "stdout");
	json_set_str(j, "time", when);
	text = json_text(j);
	buf_add(out, text, strlen(text));
	buf_add(out, "\n", 1);
}

static void entry(struct jsonlog *l, struct buf *out, int stream)
{
	struct buf *b = &l->part[stream];

	jsonlog_format(out, stream, b->data, b->len, l->part_ns[stream]);
	b->len = 0;
}

void jsonlog_add(struct jsonlog *l, int stream, const void *data, size_t n)
{
	CLEANUP_BUF struct buf out = { 0 };
	struct buf *b = &l->part[stream];
	const char *p = data;
	int64_t now = clock_real_ns();

	while (n) {
		size_t room = JSONLOG_PIECE - b->len, take = n < room ? n : room;
		const char *nl = memchr(p, '\n', take);

		if (nl)
			take = (size_t)(nl - p) + 1;
		if (!b->len)
			l->part_ns[stream] = now;
		buf_add(b, p, take);
		p += take;
		n -= take;
		if (nl || b->len >= JSONLOG_PIECE)
			entry(l, &out, stream);
	}
	if (out.len && l->fd >= 0)
		(void)fd_write_all(l->fd, out.data, out.len);
}

void jsonlog_flush(struct jsonlog *l, int stream)
{
	CLEANUP_BUF struct buf out = { 0 };

	if (l->part[stream].len) {
		entry(l, &out, stream);
		if (l->fd >= 0)
			(void)fd_write_all(l->fd, out.data, out.len);
	}
	buf_free(&l->part[stream]);
}

int jsonlog_parse(const char *line, size_t n, int *stream, char **text, size_t *len,
		  int64_t *time_ns)
{
	CLEANUP_JSON json_t *j = json_loadb(line, n, JSON_ALLOW_NUL, NULL);
	const json_t *log = json_object_get(j, "log");
	const char *kind = json_str(j, "stream", ""), *when = json_str(j, "time", "");

	if (!json_is_string(log) || (strcmp(kind, "stdout") != 0 && strcmp(kind, "stderr") != 0) ||
	    time_parse(when, time_ns) < 0)
		return -EINVAL;
	*stream = kind[3] == 'e' ? 2 : 1;
	*len = json_string_length(log);
	*text = mem_zalloc(*len + 1);
	memcpy(*text, json_string_value(log), *len);
	return 0;
}
