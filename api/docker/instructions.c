/* SPDX-License-Identifier: Apache-2.0 */
/* Dockerfile instructions applied to a run config; instructions.h is the contract. */
#include "api/docker/instructions.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

#define MAX_LINE 65536

typedef int apply_fn(json_t *config, const char *key, const char *rest, struct error *err);

/* A word at *p, quotes taken off (caller frees); NULL at the end, or with err for an open quote. */
static char *take_word(const char **p, struct error *err)
{
	CLEANUP_BUF struct buf b = { 0 };
	const char *s = *p + strspn(*p, " \t");
	char quote = 0;

	if (!*s)
		return NULL;
	buf_add(&b, "", 0);
	for (; *s && (quote || !isspace((unsigned char)*s)); s++) {
		if (quote ? *s == quote : *s == '"' || *s == '\'') {
			quote = quote ? 0 : *s;
			continue;
		}
		if (*s == '\\' && quote != '\'' && s[1])
			s++;
		buf_add(&b, s, 1);
	}
	*p = s;
	if (quote) {
		error_set(err, EINVAL, "a %c is not closed", quote);
		return NULL;
	}
	return TAKE_PTR(b.data);
}

static json_t *string_list(const char *rest)
{
	json_t *list = *rest == '[' ? json_loads(rest, 0, NULL) : NULL;
	json_t *v;
	size_t i;

	json_array_foreach (list, i, v)
		if (!json_is_string(v)) {
			json_decref(list);
			return NULL;
		}
	return list;
}

/* ["a","b"], or a line for the shell. */
static int set_command(json_t *config, const char *key, const char *rest, struct error *err)
{
	json_t *list = string_list(rest);

	(void)err;
	if (!list)
		list = json_pack("[s, s, s]", "/bin/sh", "-c", rest);
	json_object_set_new(config, key, list);
	/* An entrypoint of its own makes the old arguments meaningless. */
	if (!strcmp(key, "Entrypoint"))
		json_object_del(config, "Cmd");
	return 0;
}

static int set_string(json_t *config, const char *key, const char *rest, struct error *err)
{
	(void)err;
	json_set_str(config, key, rest);
	return 0;
}

static int set_workdir(json_t *config, const char *key, const char *rest, struct error *err)
{
	const char *before = json_str(config, key, "");
	CLEANUP_FREE char *joined = str_format("%s/%s", strcmp(before, "/") ? before : "", rest);

	(void)err;
	json_set_str(config, key, *rest == '/' ? rest : joined);
	return 0;
}

static json_t *child(json_t *config, const char *key, bool list)
{
	json_t *v = json_object_get(config, key);

	if (list ? json_is_array(v) : json_is_object(v))
		return v;
	v = list ? json_array() : json_object();
	json_object_set_new(config, key, v);
	return v;
}

static void set_env(json_t *env, const char *name, const char *value)
{
	CLEANUP_FREE char *pair = str_format("%s=%s", name, value);
	size_t n = strlen(name), i;
	json_t *v;

	json_array_foreach (env, i, v)
		if (!strncmp(json_string_value(v), pair, n + 1)) {
			json_array_set_new(env, i, json_string(pair));
			return;
		}
	json_array_append_new(env, json_string(pair));
}

static void set_pair(json_t *config, const char *key, const char *name, const char *value)
{
	bool env = !strcmp(key, "Env");
	json_t *to = child(config, key, env);

	if (env)
		set_env(to, name, value);
	else
		json_set_str(to, name, value);
}

/* "A=b C=d", or the old "A rest of the line". */
static int set_pairs(json_t *config, const char *key, const char *rest, struct error *err)
{
	const char *p = rest;
	size_t first = strcspn(rest, " \t");
	char *word;

	if (!memchr(rest, '=', first)) {
		CLEANUP_FREE char *name = str_format("%.*s", (int)first, rest);
		const char *value = rest + first + strspn(rest + first, " \t");

		if (!*value)
			return error_set(err, EINVAL, "\"%s\" has no value", name);
		set_pair(config, key, name, value);
		return 0;
	}
	while ((word = take_word(&p, err))) {
		char *eq = strchr(word, '=');

		if (!eq || eq == word) {
			error_set(err, EINVAL, "\"%s\" is no NAME=VALUE", word);
			free(word);
			return -EINVAL;
		}
		*eq = '\0';
		set_pair(config, key, word, eq + 1);
		free(word);
	}
	return err->code ? -err->code : 0;
}

/* Names that are keys of an object: ports, folders. */
static int set_keys(json_t *config, const char *key, const char *rest, struct error *err)
{
	json_t *to = child(config, key, false), *list = string_list(rest), *v;
	bool ports = !strcmp(key, "ExposedPorts");
	const char *p = rest;
	char *word;
	size_t i;

	json_array_foreach (list, i, v)
		json_object_set_new(to, json_string_value(v), json_object());
	while (!list && (word = take_word(&p, err))) {
		CLEANUP_FREE char *port =
			str_format("%s%s", word, ports && !strchr(word, '/') ? "/tcp" : "");

		free(word);
		json_object_set_new(to, port, json_object());
	}
	json_decref(list);
	return err->code ? -err->code : 0;
}

static int add_trigger(json_t *config, const char *key, const char *rest, struct error *err)
{
	(void)err;
	json_array_append_new(child(config, key, true), json_string(rest));
	return 0;
}

static const struct {
	const char *name, *key;
	apply_fn *apply;
} instructions[] = {
	{ "CMD", "Cmd", set_command },
	{ "ENTRYPOINT", "Entrypoint", set_command },
	{ "ENV", "Env", set_pairs },
	{ "EXPOSE", "ExposedPorts", set_keys },
	{ "LABEL", "Labels", set_pairs },
	{ "ONBUILD", "OnBuild", add_trigger },
	{ "STOPSIGNAL", "StopSignal", set_string },
	{ "USER", "User", set_string },
	{ "VOLUME", "Volumes", set_keys },
	{ "WORKDIR", "WorkingDir", set_workdir },
};

int instruction_apply(json_t *config, const char *line, struct error *err)
{
	const char *p = line + strspn(line, " \t");
	size_t n = strcspn(p, " \t"), len;
	CLEANUP_FREE char *rest = NULL;
	struct error own = { 0 };
	int r;

	if (strlen(line) > MAX_LINE)
		return error_set(err, EINVAL, "an instruction of more than %d bytes", MAX_LINE);
	rest = str_dup(p + n + strspn(p + n, " \t"));
	for (len = strlen(rest); len && isspace((unsigned char)rest[len - 1]); len--)
		rest[len - 1] = '\0';
	for (size_t i = 0; i < sizeof(instructions) / sizeof(instructions[0]); i++) {
		if (strlen(instructions[i].name) != n ||
		    strncasecmp(p, instructions[i].name, n) != 0)
			continue;
		if (!*rest)
			return error_set(err, EINVAL, "%s requires at least one argument",
					 instructions[i].name);
		r = instructions[i].apply(config, instructions[i].key, rest, &own);
		return r < 0 ? error_set(err, EINVAL, "%s: %s", instructions[i].name, own.msg) : 0;
	}
	return error_set(
		err, EINVAL,
		"%.*s is not a valid change command; there are CMD, ENTRYPOINT, ENV, EXPOSE, "
		"LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR",
		(int)n, p);
}
