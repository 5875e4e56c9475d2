/* SPDX-License-Identifier: Apache-2.0 */
/* Query parameters as Docker reads them; see query.h. */
#include <string.h>
#include <strings.h>
#include <time.h>

#include "api/query.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

#define FILTERS_MAX_BYTES 65536

void query_add(struct query *q, const char *key, const char *value)
{
	q->pairs = mem_grow(q->pairs, q->n + 1, sizeof(q->pairs[0]));
	q->pairs[q->n].key = str_dup(key);
	q->pairs[q->n].value = str_dup(value ? value : "");
	q->n++;
}

void query_free(struct query *q)
{
	for (size_t i = 0; i < q->n; i++) {
		free(q->pairs[i].key);
		free(q->pairs[i].value);
	}
	free(q->pairs);
	q->pairs = NULL;
	q->n = 0;
}

const char *query_str(const struct query *q, const char *key)
{
	for (size_t i = 0; i < q->n; i++)
		if (!strcmp(q->pairs[i].key, key))
			return q->pairs[i].value[0] ? q->pairs[i].value : NULL;
	return NULL;
}

bool query_bool_or(const struct query *q, const char *key, bool dflt)
{
	const char *v = query_str(q, key);

	if (!v)
		return dflt;
	return strcasecmp(v, "0") && strcasecmp(v, "no") && strcasecmp(v, "false") &&
	       strcasecmp(v, "none");
}

bool query_bool(const struct query *q, const char *key)
{
	return query_bool_or(q, key, false);
}

int query_int(const struct query *q, const char *key, int64_t min, int64_t max, int64_t *out,
	      struct error *err)
{
	const char *v = query_str(q, key);

	if (!v || str_to_i64(v, min, max, out) == 0)
		return 0;
	return error_set(err, EINVAL, "parameter %s: \"%.100s\" is not a number from %lld to %lld",
			 key, v, (long long)min, (long long)max);
}

static int time_from_rfc3339(const char *v, int64_t *out)
{
	struct tm tm = { 0 };
	const char *rest = strptime(v, "%Y-%m-%dT%H:%M:%S", &tm);
	time_t t;

	if (!rest)
		return -EINVAL;
	if (*rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	if (strcmp(rest, "Z") && strcmp(rest, "+00:00"))
		return -EINVAL;
	t = timegm(&tm);
	if (t < 0 || t > INT64_MAX / 1000000000 - 1)
		return -EINVAL;
	*out = (int64_t)t * 1000000000;
	return 0;
}

static int time_from_seconds(const char *v, int64_t *out)
{
	CLEANUP_FREE char *copy = str_dup(v);
	char *dot = strchr(copy, '.'), digits[10] = "000000000";
	int64_t seconds, fraction;

	if (dot) {
		size_t n = strlen(dot + 1);

		*dot = '\0';
		memcpy(digits, dot + 1, n < 9 ? n : 9);
	}
	if (str_to_i64(copy, 0, INT64_MAX / 1000000000 - 1, &seconds) < 0 ||
	    strspn(digits, "0123456789") != 9 || str_to_i64(digits, 0, 999999999, &fraction) < 0)
		return -EINVAL;
	*out = seconds * 1000000000 + fraction;
	return 0;
}

int query_time_ns(const struct query *q, const char *key, int64_t *out, struct error *err)
{
	const char *v = query_str(q, key);

	if (!v || time_from_seconds(v, out) == 0 || time_from_rfc3339(v, out) == 0)
		return 0;
	return error_set(err, EINVAL,
			 "parameter %s: \"%.100s\" is neither seconds since 1970 nor an RFC 3339 "
			 "time in UTC",
			 key, v);
}

/* One key's values: ["a","b"] or {"a":true,"b":false}. NULL for anything else. */
static json_t *filter_values(const json_t *given)
{
	CLEANUP_JSON json_t *list = json_array();
	const char *text;
	json_t *v;
	size_t i;

	if (json_is_array(given)) {
		json_array_foreach (given, i, v) {
			if (!json_is_string(v))
				return NULL;
			json_array_append(list, v);
		}
	} else if (json_is_object(given)) {
		json_object_foreach ((json_t *)(uintptr_t)given, text, v) {
			if (!json_is_boolean(v))
				return NULL;
			if (json_is_true(v))
				json_array_append_new(list, json_string(text));
		}
	} else {
		return NULL;
	}
	return TAKE_PTR(list);
}

int filters_parse(const char *text, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *given = NULL;
	CLEANUP_JSON json_t *filters = json_object();
	const char *key;
	json_t *v;

	if (strlen(text) > FILTERS_MAX_BYTES)
		return error_set(err, EINVAL, "invalid filter: longer than %d bytes",
				 FILTERS_MAX_BYTES);
	given = json_parse(text, strlen(text), "filters", err);
	if (!given)
		return error_wrap(err, "invalid filter");
	if (!json_is_object(given))
		return error_set(err, EINVAL, "invalid filter: it must be a JSON object");
	json_object_foreach (given, key, v) {
		json_t *values = filter_values(v);

		if (!values)
			return error_set(
				err, EINVAL,
				"invalid filter '%.100s': its values must be a list of strings",
				key);
		json_object_set_new(filters, key, values);
	}
	*out = json_object_size(filters) ? TAKE_PTR(filters) : NULL;
	return 0;
}

int query_filters(const struct query *q, json_t **out, struct error *err)
{
	const char *text = query_str(q, "filters");

	*out = NULL;
	return text ? filters_parse(text, out, err) : 0;
}

static int filters_check(const json_t *filters, const char *const known[], struct error *err)
{
	const char *key;
	json_t *v;

	json_object_foreach ((json_t *)(uintptr_t)filters, key, v) {
		size_t i = 0;

		while (known[i] && strcmp(known[i], key))
			i++;
		if (!known[i])
			return error_set(err, EINVAL, "invalid filter '%.100s'", key);
	}
	return 0;
}

int query_filters_known(const struct query *q, const char *const known[], json_t **out,
			struct error *err)
{
	int r = query_filters(q, out, err);

	return r < 0 ? r : filters_check(*out, known, err);
}

bool filter_allows(const json_t *filters, const char *key, const char *value)
{
	const json_t *values = json_object_get(filters, key);
	json_t *v;
	size_t i;

	if (!json_array_size(values))
		return true;
	json_array_foreach (values, i, v)
		if (!strcmp(json_string_value(v), value))
			return true;
	return false;
}

bool filter_allows_part(const json_t *filters, const char *key, const char *value)
{
	const json_t *values = json_object_get(filters, key);
	json_t *v;
	size_t i;

	if (!json_array_size(values))
		return true;
	json_array_foreach (values, i, v)
		if (strstr(value, json_string_value(v)))
			return true;
	return false;
}

bool filter_allows_labels(const json_t *filters, const char *key, const json_t *labels)
{
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(filters, key), i, v) {
		CLEANUP_FREE char *name = str_dup(json_string_value(v));
		char *eq = strchr(name, '=');
		const char *have;

		if (eq)
			*eq = '\0';
		have = json_str(labels, name, NULL);
		if (!have || (eq && strcmp(have, eq + 1)))
			return false;
	}
	return true;
}

int filter_bool(const json_t *filters, const char *key, struct error *err)
{
	const json_t *values = json_object_get(filters, key);
	const char *v;

	if (!json_array_size(values))
		return -1;
	v = json_string_value(json_array_get(values, 0));
	if (json_array_size(values) == 1 && (!strcmp(v, "true") || !strcmp(v, "1")))
		return 1;
	if (json_array_size(values) == 1 && (!strcmp(v, "false") || !strcmp(v, "0")))
		return 0;
	return error_set(err, EINVAL, "invalid filter '%s=%.100s': it is true or false", key, v);
}
