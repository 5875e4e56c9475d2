/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: what a client can put into the API's own parsers. The input's lines are a
 * path, a query value, filters; all of it together is also taken for the shim's frames,
 * in two cuts that must give the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/frames.h"
#include "api/query.h"
#include "api/route.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_path(const char *path)
{
	static const char *const patterns[] = { "/_ping",	    "/containers/{}/json",
						"/images/{*}/json", "/images/{*}",
						"/volumes/{}",	    "/exec/{}/start" };
	struct error err = { 0 };
	const char *rest = NULL;
	int minor = 0;

	if (route_version(path, &rest, &minor, &err) < 0) {
		if (!err.code || !err.msg[0])
			abort(); /* a refusal has a reason */
		return;
	}
	if (rest < path || rest > path + strlen(path) || minor < API_VERSION_MIN_MINOR ||
	    minor > API_VERSION_MAX_MINOR)
		abort();
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		CLEANUP_FREE char *arg = NULL;
		bool fits = route_match(patterns[i], rest, &arg);

		if (!fits && arg)
			abort();
		if (fits && strchr(patterns[i], '{')) {
			if (!arg || !*arg || !strstr(rest, arg))
				abort();
			if (!strchr(patterns[i], '*') && strchr(arg, '/'))
				abort();
		}
	}
}

static void check_value(const char *value)
{
	struct query q = { 0 };
	struct error err = { 0 };
	int64_t n = 5, t = 5;

	query_add(&q, "k", value);
	query_add(&q, "k", NULL);
	query_bool(&q, "k");
	if (query_int(&q, "k", -10, 10, &n, &err) == 0 && (n < -10 || n > 10))
		abort();
	if (query_time_ns(&q, "k", &t, &err) == 0 && t < 0)
		abort();
	query_free(&q);
}

static void check_filters(const char *text)
{
	CLEANUP_JSON json_t *filters = NULL;
	CLEANUP_JSON json_t *labels = json_pack("{s:s}", "a", "b");
	struct error err = { 0 };
	json_t *values, *v;
	const char *key;
	size_t i;

	if (filters_parse(text, &filters, &err) < 0) {
		if (filters || !err.msg[0])
			abort();
		return;
	}
	json_object_foreach (filters, key, values) {
		json_array_foreach (values, i, v)
			if (!json_is_string(v))
				abort();
		filter_allows(filters, key, "a");
		filter_allows_part(filters, key, "a");
		filter_allows_labels(filters, key, labels);
		filter_bool(filters, key, NULL);
	}
}

static void check_frames(const uint8_t *data, size_t size)
{
	for (int strip = 0; strip < 2; strip++) {
		struct frames whole = { .strip = strip }, cut = { .strip = strip };
		CLEANUP_BUF struct buf a = { 0 };
		CLEANUP_BUF struct buf b = { 0 };

		frames_feed(&whole, data, size, &a);
		for (size_t i = 0; i < size; i += 3)
			frames_feed(&cut, data + i, size - i < 3 ? size - i : 3, &b);
		if (a.len != b.len || (a.len && memcmp(a.data, b.data, a.len)) || a.len > size)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *text = mem_zalloc(size + 1);
	char *path = text, *value, *filters;

	check_frames(data, size);
	memcpy(text, data, size);
	value = strchr(path, '\n');
	if (value)
		*value++ = '\0';
	filters = value ? strchr(value, '\n') : NULL;
	if (filters)
		*filters++ = '\0';
	check_path(path);
	if (value)
		check_value(value);
	if (filters)
		check_filters(filters);
	return 0;
}
