/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers over jansson: reading fields with checks, parsing with a readable error. */
#ifndef FERRY_BASE_JSON_H
#define FERRY_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

static inline void cleanup_json(json_t **j)
{
	json_decref(*j);
}
#define CLEANUP_JSON __attribute__((cleanup(cleanup_json)))

/*
 * Parses one JSON document of `len` bytes; duplicate keys and trailing bytes are
 * errors. Returns a new reference, or NULL with err set (EINVAL, line and column).
 * `what` names the document in the message ("config.json", "request body").
 */
json_t *json_parse(const char *text, size_t len, const char *what, struct error *err);

/* As json_parse(), from a file of at most `max` bytes. */
json_t *json_parse_file(const char *path, size_t max, struct error *err);

/*
 * A JSON string of bytes from outside (file names, names of processes), which need not be
 * UTF-8: then what is above ASCII becomes '?', where json_string() and json_pack() would give
 * NULL. NULL is taken for "".
 */
json_t *json_any_string(const char *s);

/* Compact text of `j` (caller frees). */
char *json_text(const json_t *j);

/*
 * Fields of an object with a default: a missing field, null, or one of another type
 * gives the default. The string belongs to the document.
 */
const char *json_str(const json_t *obj, const char *key, const char *dflt);
int64_t json_int(const json_t *obj, const char *key, int64_t dflt);
bool json_bool(const json_t *obj, const char *key, bool dflt);

/*
 * Required or typed fields of a document from outside: 0, or -EINVAL with a message
 * that names the field. A missing optional field leaves *out as it was.
 */
int json_want_str(const json_t *obj, const char *key, bool required, const char **out,
		  struct error *err);
int json_want_int(const json_t *obj, const char *key, bool required, int64_t min, int64_t max,
		  int64_t *out, struct error *err);

/* The value at a path of keys, "a.b.c"; NULL where there is none (borrowed). */
json_t *json_at(const json_t *obj, const char *path);

/* Sets a string field; a NULL value sets JSON null. */
void json_set_str(json_t *obj, const char *key, const char *value);
void json_set_int(json_t *obj, const char *key, int64_t value);
void json_set_bool(json_t *obj, const char *key, bool value);

#endif
