/* SPDX-License-Identifier: Apache-2.0 */
/* ferry network create | ls | inspect | rm */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "api/cli/cli.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

static int help(void)
{
	puts("Usage: ferry network create NAME [--subnet 10.1.2.0/24] [--gateway 10.1.2.1] "
	     "[--internal]\n"
	     "       ferry network ls [--format table|json]\n"
	     "       ferry network inspect NAME\n"
	     "       ferry network rm NAME...");
	return 0;
}

static int create(int argc, char **argv)
{
	static const struct option options[] = { { "subnet", required_argument, NULL, 's' },
						 { "gateway", required_argument, NULL, 'g' },
						 { "internal", no_argument, NULL, 'i' },
						 { NULL, 0, NULL, 0 } };
	CLEANUP_JSON json_t *body = json_object();
	CLEANUP_JSON json_t *out = NULL;
	json_t *ipam = json_object();
	struct error err = { 0 };
	int c;

	json_object_set_new(body, "IPAM", json_pack("{s:[o]}", "Config", ipam));
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			json_set_str(ipam, "Subnet", optarg);
		else if (c == 'g')
			json_set_str(ipam, "Gateway", optarg);
		else if (c == 'i')
			json_set_bool(body, "Internal", true);
		else
			return usage_error("ferry network", "that option is not known");
	}
	if (optind != argc - 1)
		return usage_error("ferry network", "create takes one name");
	if (!json_object_size(ipam))
		json_object_del(body, "IPAM");
	json_set_str(body, "Name", argv[optind]);
	if (client_call("POST", "/networks/create", body, &out, &err) < 0)
		return fail(&err);
	puts(json_str(out, "Id", ""));
	return 0;
}

static char *subnet(const json_t *config)
{
	return str_dup(json_str(json_array_get(config, 0), "Subnet", ""));
}

static int list(int argc, char **argv)
{
	static const struct column columns[] = { { "NAME", "Name", NULL },
						 { "DRIVER", "Driver", NULL },
						 { "SUBNET", "IPAM.Config", subnet },
						 { "ID", "Id", NULL } };
	CLEANUP_JSON json_t *out = NULL;
	struct error err = { 0 };
	const char *format;
	int status = ls_format("network", argc, argv, &format);

	if (status)
		return status;
	if (client_call("GET", "/networks", NULL, &out, &err) < 0)
		return fail(&err);
	return print_rows(format, out, columns, sizeof(columns) / sizeof(columns[0]));
}

int cmd_network(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "--help";

	if (!strcmp(verb, "create"))
		return create(argc - 1, argv + 1);
	if (!strcmp(verb, "ls"))
		return list(argc - 1, argv + 1);
	if (!strcmp(verb, "inspect"))
		return cmd_each("network", "GET", argc - 1, argv + 1);
	if (!strcmp(verb, "rm"))
		return cmd_each("network", "DELETE", argc - 1, argv + 1);
	if (!strcmp(verb, "--help") || !strcmp(verb, "-h"))
		return help();
	return usage_error("ferry network", "unknown command %s", verb);
}
