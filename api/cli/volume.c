/* SPDX-License-Identifier: Apache-2.0 */
/* ferry volume create | ls | inspect | rm */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/cli/cli.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

static int help(void)
{
	puts("Usage: ferry volume create [NAME] [--driver rbd|local] [--size 10g] [--fs "
	     "ext4|xfs|none]\n"
	     "       ferry volume ls [--format table|json]\n"
	     "       ferry volume inspect NAME\n"
	     "       ferry volume rm NAME...");
	return 0;
}

static int create(int argc, char **argv)
{
	static const struct option options[] = { { "driver", required_argument, NULL, 'd' },
						 { "size", required_argument, NULL, 's' },
						 { "fs", required_argument, NULL, 'f' },
						 { NULL, 0, NULL, 0 } };
	CLEANUP_JSON json_t *body = json_pack("{s:{}}", "DriverOpts");
	CLEANUP_JSON json_t *out = NULL;
	json_t *opts = json_object_get(body, "DriverOpts");
	struct error err = { 0 };
	int c;

	while ((c = getopt_long(argc, argv, "d:", options, NULL)) != -1) {
		if (c == 'd')
			json_set_str(body, "Driver", optarg);
		else if (c == 's')
			json_set_str(opts, "size", optarg);
		else if (c == 'f')
			json_set_str(opts, "fs", optarg);
		else
			return usage_error("ferry volume", "that option is not known");
	}
	if (optind < argc - 1)
		return usage_error("ferry volume", "create takes one name");
	if (optind < argc)
		json_set_str(body, "Name", argv[optind]);
	if (client_call("POST", "/volumes/create", body, &out, &err) < 0)
		return fail(&err);
	puts(json_str(out, "Name", ""));
	return 0;
}

static int list(int argc, char **argv)
{
	static const struct column columns[] = { { "NAME", "Name", NULL },
						 { "DRIVER", "Driver", NULL },
						 { "SIZE", "Status.size_bytes", show_bytes },
						 { "FS", "Status.fs", NULL } };
	CLEANUP_JSON json_t *out = NULL;
	struct error err = { 0 };
	const char *format;
	int status = ls_format("volume", argc, argv, &format);

	if (status)
		return status;
	if (client_call("GET", "/volumes", NULL, &out, &err) < 0)
		return fail(&err);
	return print_rows(format, json_object_get(out, "Volumes"), columns,
			  sizeof(columns) / sizeof(columns[0]));
}

int cmd_volume(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "--help";

	if (!strcmp(verb, "create"))
		return create(argc - 1, argv + 1);
	if (!strcmp(verb, "ls"))
		return list(argc - 1, argv + 1);
	if (!strcmp(verb, "inspect"))
		return cmd_each("volume", "GET", argc - 1, argv + 1);
	if (!strcmp(verb, "rm"))
		return cmd_each("volume", "DELETE", argc - 1, argv + 1);
	if (!strcmp(verb, "--help") || !strcmp(verb, "-h"))
		return help();
	return usage_error("ferry volume", "unknown command %s", verb);
}
