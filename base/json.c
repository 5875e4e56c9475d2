/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers over jansson; json.h is the contract. */
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

json_t *json_parse(const char *text, size_t len, const char *what, struct error *err)
{
	json_error_t je;
	json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);

	if (!j)
		error_set(err, EINVAL, "%s is no valid JSON: %s at line %d, column %d", what,
			  je.text, je.line, je.column);
	return j;
}

json_t *json_parse_file(const char *path, size_t max, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	size_t len;

	if (file_read(path, max, &text, &len, err) < 0)
		return NULL;
	return json_parse(text, len, path, err);
}

json_t *json_any_string(const char *s)
{
	json_t *j = json_string(s ? s : "");
	char *copy;

	if (j)
		return j;
	copy = str_dup(s);
	for (char *p = copy; *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	j = json_string(copy);
	free(copy);
	return j;
}

char *json_text(const json_t *j)
{
	char *s = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY);

	if (!s)
		abort();
	return s;
}

const char *json_str(const json_t *obj, const char *key, const char *dflt)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_string(v) ? json_string_value(v) : dflt;
}

int64_t json_int(const json_t *obj, const char *key, int64_t dflt)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_integer(v) ? json_integer_value(v) : dflt;
}

bool json_bool(const json_t *obj, const char *key, bool dflt)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_boolean(v) ? json_is_true(v) : dflt;
}

int json_want_str(const json_t *obj, const char *key, bool required, const char **out,
		  struct error *err)
{
	const json_t *v = json_object_get(obj, key);

	if (!v || json_is_null(v))
		return required ? error_set(err, EINVAL, "field \"%s\" is missing", key) : 0;
	if (!json_is_string(v))
		return error_set(err, EINVAL, "field \"%s\" must be a string", key);
	*out = json_string_value(v);
	return 0;
}

int json_want_int(const json_t *obj, const char *key, bool required, int64_t min, int64_t max,
		  int64_t *out, struct error *err)
{
	const json_t *v = json_object_get(obj, key);

	if (!v || json_is_null(v))
		return required ? error_set(err, EINVAL, "field \"%s\" is missing", key) : 0;
	if (!json_is_integer(v))
		return error_set(err, EINVAL, "field \"%s\" must be a whole number", key);
	if (json_integer_value(v) < min || json_integer_value(v) > max)
		return error_set(err, EINVAL, "field \"%s\" is %lld, outside %lld to %lld", key,
				 (long long)json_integer_value(v), (long long)min, (long long)max);
	*out = json_integer_value(v);
	return 0;
}

json_t *json_at(const json_t *obj, const char *path)
{
	CLEANUP_FREE char *copy = str_dup(path);
	char *save = NULL;
	const json_t *j = obj;

	for (char *key = strtok_r(copy, ".", &save); key && j; key = strtok_r(NULL, ".", &save))
		j = json_object_get(j, key);
	return (json_t *)(uintptr_t)j;
}

static void set_new(json_t *obj, const char *key, json_t *value)
{
	if (!value || json_object_set_new(obj, key, value) < 0)
		abort();
}

void json_set_str(json_t *obj, const char *key, const char *value)
{
	json_t *v;

	if (!value) {
		set_new(obj, key, json_null());
		return;
	}
	v = json_string(value);
	set_new(obj, key, v ? v : json_stringn_nocheck(value, strlen(value)));
}

void json_set_int(json_t *obj, const char *key, int64_t value)
{
	set_new(obj, key, json_integer(value));
}

void json_set_bool(json_t *obj, const char *key, bool value)
{
	set_new(obj, key, json_boolean(value));
}
