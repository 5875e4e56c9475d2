/* SPDX-License-Identifier: Apache-2.0 */
/* ferry host ls | join */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "api/cli/cli.h"
#include "base/cleanup.h"
#include "base/json.h"

static int help(void)
{
	puts("Usage: ferry host ls [--format table|json]\n"
	     "       ferry host join ADDRESS[:PORT] --token TOKEN\n"
	     "                       make this host a member of the cluster that ADDRESS is in");
	return 0;
}

static int list(int argc, char **argv)
{
	static const struct column columns[] = {
		{ "NAME", "Name", NULL },
		{ "ADDRESS", "Address", NULL },
		{ "STATE", "State", NULL },
		{ "CPUS", "Cpus", NULL },
		{ "MEMORY", "MemoryBytes", show_bytes },
		{ "KERNEL", "Kernel", NULL },
		{ "CONTAINERS", "Containers", NULL },
	};
	CLEANUP_JSON json_t *out = NULL;
	struct error err = { 0 };
	const char *format;
	int status = ls_format("host", argc, argv, &format);

	if (status)
		return status;
	if (client_call("GET", "/ferry/v1/hosts", NULL, &out, &err) < 0)
		return fail(&err);
	return print_rows(format, out, columns, sizeof(columns) / sizeof(columns[0]));
}

static int join(int argc, char **argv)
{
	static const struct option options[] = { { "token", required_argument, NULL, 't' },
						 { NULL, 0, NULL, 0 } };
	CLEANUP_JSON json_t *body = NULL;
	CLEANUP_JSON json_t *out = NULL;
	struct error err = { 0 };
	const char *token = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c != 't')
			return usage_error("ferry host", "that option is not known");
		token = optarg;
	}
	if (optind != argc - 1)
		return usage_error("ferry host", "join takes the address of a host of the cluster");
	if (!token)
		return usage_error(
			"ferry host",
			"join needs --token; 'ferry cluster token' on that host prints one");
	body = json_pack("{s:s, s:s}", "address", argv[optind], "token", token);
	if (client_call("POST", "/ferry/v1/hosts/join", body, &out, &err) < 0)
		return fail(&err);
	printf("Host %s has joined cluster %s.\n", json_str(out, "Host", ""),
	       json_str(out, "Name", ""));
	return 0;
}

int cmd_host(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "--help";

	if (!strcmp(verb, "--help") || !strcmp(verb, "-h"))
		return help();
	if (!strcmp(verb, "ls"))
		return list(argc - 1, argv + 1);
	if (!strcmp(verb, "join"))
		return join(argc - 1, argv + 1);
	return usage_error("ferry host", "unknown command %s", verb);
}
