/* SPDX-License-Identifier: Apache-2.0 */
/* ferry-oci state and list: looking without touching. */
#include <dirent.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"
#include "runtime/oci/oci.h"

int cmd_state(const struct global *g, int argc, char **argv, int *status, struct error *err)
{
	CLEANUP_STATE struct state s = { 0 };
	CLEANUP_FREE char *text = NULL;
	const char *is;
	int r;

	(void)status;
	if (argc != 2)
		return usage(err, "state ID");
	r = state_load(g, argv[1], &s, err);
	if (r < 0)
		return r;
	is = state_status(g, &s);
	text = state_text(&s, is, strcmp(is, "stopped") ? s.pid : 0);
	printf("%s\n", text);
	return 0;
}

int cmd_list(const struct global *g, int argc, char **argv, int *status, struct error *err)
{
	static const struct option longs[] = { { "format", required_argument, 0, 'f' },
					       { "quiet", no_argument, 0, 'q' },
					       { 0 } };
	CLEANUP_CLOSEDIR DIR *d = opendir(g->root);
	CLEANUP_JSON json_t *all = json_array();
	CLEANUP_FREE char *text = NULL;
	bool json = false, quiet = false;
	struct dirent *e;
	int c;

	(void)status;
	while ((c = getopt_long(argc, argv, "f:q", longs, NULL)) != -1) {
		if (c == 'q')
			quiet = true;
		else if (c == 'f' && (!strcmp(optarg, "json") || !strcmp(optarg, "table")))
			json = optarg[0] == 'j';
		else
			return usage(err, "list [--format table|json] [--quiet]");
	}
	if (!json && !quiet)
		printf("%-40s %-10s %-10s %s\n", "ID", "PID", "STATUS", "BUNDLE");
	while (d && (e = readdir(d))) {
		CLEANUP_STATE struct state s = { 0 };
		const char *is;
		pid_t pid;

		if (e->d_name[0] == '.' || state_load(g, e->d_name, &s, NULL) < 0)
			continue;
		is = state_status(g, &s);
		pid = strcmp(is, "stopped") ? s.pid : 0;
		if (json) {
			CLEANUP_FREE char *one = state_text(&s, is, pid);

			json_array_append_new(all, json_loads(one, 0, NULL));
		} else if (quiet) {
			printf("%s\n", s.id);
		} else {
			printf("%-40s %-10d %-10s %s\n", s.id, pid, is, s.bundle);
		}
	}
	if (json) {
		text = json_text(all);
		printf("%s\n", text);
	}
	return 0;
}
