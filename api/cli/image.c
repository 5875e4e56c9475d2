/* SPDX-License-Identifier: Apache-2.0 */
/* ferry image load | ls */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "api/cli/cli.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

static int show(void *ctx, json_t *line)
{
	const char *text = json_str(line, "stream", NULL), *error = json_str(line, "error", NULL);

	if (text)
		fputs(text, stdout);
	if (error) {
		fprintf(stderr, "ferry: %s\n", error);
		*(int *)ctx = 1;
	}
	return 0;
}

static char *first_tag(const json_t *tags)
{
	const char *tag = json_string_value(json_array_get(tags, 0));

	return str_dup(tag ? tag : "<none>");
}

static int list(int argc, char **argv)
{
	static const struct column columns[] = { { "IMAGE", "RepoTags", first_tag },
						 { "ID", "Id", NULL },
						 { "SIZE", "Size", show_bytes } };
	CLEANUP_JSON json_t *out = NULL;
	struct error err = { 0 };
	const char *format;
	int status = ls_format("image", argc, argv, &format);

	if (status)
		return status;
	if (client_call("GET", "/images/json", NULL, &out, &err) < 0)
		return fail(&err);
	return print_rows(format, out, columns, sizeof(columns) / sizeof(columns[0]));
}

int cmd_image(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "--help";
	struct error err = { 0 };
	int status = 0;

	if (!strcmp(verb, "ls"))
		return list(argc - 1, argv + 1);
	if (!strcmp(verb, "load") && argc == 3) {
		if (client_upload("/images/load", argv[2], show, &status, &err) < 0)
			return fail(&err);
		return status;
	}
	if (!strcmp(verb, "--help") || !strcmp(verb, "-h"))
		return puts("Usage: ferry image load FILE | -\n"
			    "       ferry image ls [--format table|json]") < 0;
	return usage_error("ferry image", "that is not how it is used");
}
