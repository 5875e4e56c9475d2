/* SPDX-License-Identifier: Apache-2.0 */
/* ferry events: what happens on this host, as it happens. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/cli/cli.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

static int show(void *ctx, json_t *event)
{
	const json_t *actor = json_object_get(event, "Actor");
	time_t t = (time_t)json_int(event, "time", 0);
	char when[32];
	struct tm tm;

	if (ctx && !strcmp(ctx, "json")) {
		CLEANUP_FREE char *text = json_text(event);

		puts(text);
	} else {
		localtime_r(&t, &tm);
		strftime(when, sizeof(when), "%F %T", &tm);
		printf("%s %s %s %.12s (%s)\n", when, json_str(event, "Type", ""),
		       json_str(event, "Action", ""), json_str(actor, "ID", ""),
		       json_str(json_object_get(actor, "Attributes"), "name", ""));
	}
	fflush(stdout);
	return 0;
}

int cmd_events(int argc, char **argv)
{
	static const struct option options[] = { { "since", required_argument, NULL, 's' },
						 { "until", required_argument, NULL, 'u' },
						 { "format", required_argument, NULL, 'f' },
						 { "help", no_argument, NULL, 'h' },
						 { NULL, 0, NULL, 0 } };
	CLEANUP_BUF struct buf path = { 0 };
	struct error err = { 0 };
	char *format = NULL;
	int c;

	buf_addf(&path, "/events?x=1");
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			buf_addf(&path, "&since=%s", optarg);
		else if (c == 'u')
			buf_addf(&path, "&until=%s", optarg);
		else if (c == 'f')
			format = optarg;
		else if (c == 'h')
			return puts("Usage: ferry events [--since SECONDS] [--until SECONDS] "
				    "[--format json]") < 0;
		else
			return usage_error("ferry events", "that option is not known");
	}
	if (client_lines("GET", path.data, NULL, show, format, &err) < 0)
		return fail(&err);
	return 0;
}
