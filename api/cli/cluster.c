/* SPDX-License-Identifier: Apache-2.0 */
/* ferry cluster init | info | token */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "api/cli/cli.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

static int help(void)
{
	puts("Usage: ferry cluster init            make this host the first of a cluster\n"
	     "       ferry cluster info            show the cluster\n"
	     "       ferry cluster token [--ttl 1h] [--quiet]\n"
	     "                                     a token with which hosts join");
	return 0;
}

static int info(const char *method, const char *path)
{
	CLEANUP_JSON json_t *out = NULL;
	struct error err = { 0 };

	if (client_call(method, path, NULL, &out, &err) < 0)
		return fail(&err);
	printf("Cluster:  %s (%s)\nHost:     %s at %s:%lld\nStore:    %s\nHosts:    %zu\n",
	       json_str(out, "Name", ""), json_str(out, "Id", ""), json_str(out, "Host", ""),
	       json_str(out, "Address", ""), (long long)json_int(out, "Port", 0),
	       json_str(out, "Store", ""), json_array_size(json_object_get(out, "Hosts")));
	return 0;
}

static int token(int argc, char **argv)
{
	static const struct option options[] = { { "ttl", required_argument, NULL, 't' },
						 { "quiet", no_argument, NULL, 'q' },
						 { NULL, 0, NULL, 0 } };
	CLEANUP_JSON json_t *body = json_object();
	CLEANUP_JSON json_t *out = NULL;
	struct error err = { 0 };
	int64_t ns = 0;
	bool quiet = false;
	int c;

	while ((c = getopt_long(argc, argv, "q", options, NULL)) != -1) {
		if (c == 'q')
			quiet = true;
		else if (c != 't' || str_to_duration_ns(optarg, &ns) < 0 || ns < 1000000000)
			return usage_error("ferry cluster", "--ttl takes a time such as 1h or 30m");
	}
	if (ns)
		json_set_int(body, "ttl_s", ns / 1000000000);
	if (client_call("POST", "/ferry/v1/cluster/token", body, &out, &err) < 0)
		return fail(&err);
	if (quiet)
		puts(json_str(out, "Token", ""));
	else
		printf("On the host that shall join:\n\n    ferry host join %s:%lld --token %s\n",
		       json_str(out, "Address", ""), (long long)json_int(out, "Port", 0),
		       json_str(out, "Token", ""));
	return 0;
}

int cmd_cluster(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "--help";

	if (!strcmp(verb, "--help") || !strcmp(verb, "-h"))
		return help();
	if (!strcmp(verb, "init"))
		return info("POST", "/ferry/v1/cluster/init");
	if (!strcmp(verb, "info"))
		return info("GET", "/ferry/v1/cluster");
	if (!strcmp(verb, "token"))
		return token(argc - 1, argv + 1);
	return usage_error("ferry cluster", "unknown command %s", verb);
}
