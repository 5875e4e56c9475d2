/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Query parameters as Docker reads them: booleans that are true unless they say no,
 * times in seconds with a fraction, filters in the old and the new JSON form. Pure; no
 * HTTP here, the server fills the pairs in.
 */
#ifndef FERRY_API_QUERY_H
#define FERRY_API_QUERY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct query {
	struct query_pair {
		char *key, *value;
	} * pairs;
	size_t n;
};

/* Adds a pair (copied); a NULL value, as in "?all", becomes the empty string. */
void query_add(struct query *q, const char *key, const char *value);
void query_free(struct query *q);

/* The first value of a key; NULL where it is missing or empty. Belongs to the query. */
const char *query_str(const struct query *q, const char *key);

/* Docker's rule: missing, "", 0, no, false and none (any case) are false, the rest true. */
bool query_bool(const struct query *q, const char *key);
/* The same with a default for a missing or empty one. */
bool query_bool_or(const struct query *q, const char *key, bool dflt);

/* An integer in [min, max]; missing: *out stays. 0 or -EINVAL with a message. */
int query_int(const struct query *q, const char *key, int64_t min, int64_t max, int64_t *out,
	      struct error *err);

/* "1764348000", "1764348000.5" or RFC 3339 in UTC, as ns since the epoch; missing: *out stays. */
int query_time_ns(const struct query *q, const char *key, int64_t *out, struct error *err);

/*
 * The parameter "filters" as {"key":["value",…]}, whatever form it came in ("old":
 * {"key":{"value":true}}); *out is NULL where there is none. -EINVAL.
 */
int query_filters(const struct query *q, json_t **out, struct error *err);
int filters_parse(const char *text, json_t **out, struct error *err);

/* The same; -EINVAL "invalid filter 'x'" where a key is not among the `known` (NULL-ended). */
int query_filters_known(const struct query *q, const char *const known[], json_t **out,
			struct error *err);

/* True where the filter is not given, or one of its values equals `value`. */
bool filter_allows(const json_t *filters, const char *key, const char *value);
/* The same where `value` need only contain one of them. */
bool filter_allows_part(const json_t *filters, const char *key, const char *value);
/* True where every "label" of the filter ("k" or "k=v") is in `labels`. */
bool filter_allows_labels(const json_t *filters, const char *key, const json_t *labels);
/* A boolean filter such as dangling: 1 or 0, -1 where it is not given, -EINVAL. */
int filter_bool(const json_t *filters, const char *key, struct error *err);

#endif
