/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands on things with names share: inspect, rm, and the option of ls. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "api/cli/cli.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

int cmd_each(const char *noun, const char *method, int argc, char **argv)
{
	CLEANUP_FREE char *command = str_format("ferry %s", noun);
	int status = 0;

	if (argc < 2)
		return usage_error(command, "%s takes a name", argv[0]);
	for (int i = 1; i < argc; i++) {
		CLEANUP_FREE char *name = client_escape(argv[i]);
		CLEANUP_FREE char *path = str_format("/%ss/%s", noun, name);
		CLEANUP_JSON json_t *out = NULL;
		struct error err = { 0 };

		if (client_call(method, path, NULL, &out, &err) < 0) {
			status = fail(&err);
		} else if (!strcmp(method, "GET")) {
			json_dumpf(out, stdout, JSON_INDENT(2));
			puts("");
		} else {
			puts(argv[i]);
		}
	}
	return status;
}

int ls_format(const char *noun, int argc, char **argv, const char **format)
{
	static const struct option options[] = { { "format", required_argument, NULL, 'f' },
						 { NULL, 0, NULL, 0 } };
	CLEANUP_FREE char *command = str_format("ferry %s", noun);
	int c;

	*format = NULL;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c != 'f')
			return usage_error(command, "ls has one option, --format table|json");
		*format = optarg;
	}
	if (optind < argc)
		return usage_error(command, "ls takes no names");
	return 0;
}
