/* SPDX-License-Identifier: Apache-2.0 */
/* ferry ps: the containers of the cluster and where they run. */
#include <getopt.h>
#include <stdio.h>

#include "api/cli/cli.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

static char *first_name(const json_t *names)
{
	const char *name = json_string_value(json_array_get(names, 0));

	return str_dup(name && name[0] == '/' ? name + 1 : name ? name : "");
}

static char *short_id(const json_t *id)
{
	return str_format("%.12s", json_is_string(id) ? json_string_value(id) : "");
}

/* The dot in the label's name would be taken for a path, so the host is lifted out. */
static void lift_host(json_t *rows)
{
	json_t *row;
	size_t i;

	json_array_foreach (rows, i, row)
		json_set_str(row, "Host",
			     json_str(json_object_get(row, "Labels"), "ferry.host", ""));
}

int cmd_ps(int argc, char **argv)
{
	static const struct option options[] = { { "all", no_argument, NULL, 'a' },
						 { "format", required_argument, NULL, 'f' },
						 { "help", no_argument, NULL, 'h' },
						 { NULL, 0, NULL, 0 } };
	static const struct column columns[] = {
		{ "CONTAINER ID", "Id", short_id }, { "NAME", "Names", first_name },
		{ "IMAGE", "Image", NULL },	    { "HOST", "Host", NULL },
		{ "STATUS", "Status", NULL },
	};
	CLEANUP_JSON json_t *out = NULL;
	struct error err = { 0 };
	const char *format = NULL;
	bool all = false;
	int c;

	while ((c = getopt_long(argc, argv, "a", options, NULL)) != -1) {
		if (c == 'a')
			all = true;
		else if (c == 'f')
			format = optarg;
		else if (c == 'h')
			return puts("Usage: ferry ps [-a] [--format table|json]") < 0;
		else
			return usage_error("ferry ps", "that option is not known");
	}
	if (client_call("GET", all ? "/containers/json?all=1" : "/containers/json", NULL, &out,
			&err) < 0)
		return fail(&err);
	lift_host(out);
	return print_rows(format, out, columns, sizeof(columns) / sizeof(columns[0]));
}
