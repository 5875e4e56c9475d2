/* SPDX-License-Identifier: Apache-2.0 */
/* ferry migrate CONTAINER HOST: a progress line a round, and a summary. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/cli/cli.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

static int help(void)
{
	puts("Usage: ferry migrate [OPTIONS] CONTAINER HOST\n\n"
	     "Moves a container to another host. A running one goes on running, with its memory,\n"
	     "open files and connections; a stopped one is moved with its files.\n\n"
	     "  --downtime 50ms       how long it may stand still (predicted)\n"
	     "  --timeout 120s        how long memory may be copied beforehand\n"
	     "  --on-timeout refuse|force|postcopy\n"
	     "                        what to do when it changes memory faster than it is sent\n"
	     "  --postcopy            copy memory once, go over, and let the rest follow while it\n"
	     "                        runs there; the loss of this host or of the link until then\n"
	     "                        is the loss of the container\n"
	     "  --no-auto-converge    do not slow the container down so that copying catches up\n"
	     "  --tracker auto|uffd|softdirty|none\n"
	     "                        how written memory is found; auto: the best the kernel has\n"
	     "  --streams N           connections for memory, 1 to 16; else as many as are of use\n"
	     "  --verify              checksum memory, files and registers on both sides\n"
	     "  --check               only tell what would stand in the way\n"
	     "  --quiet, -q           no progress\n"
	     "  --format json         every progress document and the summary as JSON lines");
	return 0;
}

struct view {
	bool quiet, json;
	json_t *summary;
	int status;
};

static void show_round(const json_t *p)
{
	CLEANUP_FREE char *sent = bytes_text((double)json_int(p, "SentBytes", 0));
	CLEANUP_FREE char *rate = bytes_text((double)json_int(p, "RateBps", 0));
	CLEANUP_FREE char *dirty = bytes_text((double)json_int(p, "DirtyBytes", 0));
	CLEANUP_FREE char *dirty_rate = bytes_text((double)json_int(p, "DirtyRateBps", 0));
	CLEANUP_FREE char *predicted = ns_text((double)json_int(p, "PredictedNs", 0));

	fprintf(stderr, "round %2lld: sent %s at %s/s, dirty %s (%s/s), predicted blackout %s\n",
		(long long)json_int(p, "Round", 0), sent, rate, dirty, dirty_rate, predicted);
}

static void show_late(const json_t *p)
{
	CLEANUP_FREE char *left = bytes_text((double)json_int(p, "LeftBytes", 0));
	CLEANUP_FREE char *all = bytes_text((double)json_int(p, "LateBytes", 0));

	fprintf(stderr, "runs there: %s of %s still to come, %lld pages asked for\n", left, all,
		(long long)json_int(p, "Wanted", 0));
}

static int on_line(void *ctx, json_t *line)
{
	struct view *v = ctx;
	const json_t *error = json_object_get(line, "error");

	if (v->json) {
		CLEANUP_FREE char *text = json_text(line);

		puts(text);
		fflush(stdout);
	}
	if (json_is_object(error)) {
		fprintf(stderr, "ferry: %s\n", json_str(error, "message", "the migration failed"));
		v->status = json_int(error, "status", 500) == 400 ? 2 : 1;
	} else if (json_object_get(line, "summary")) {
		v->summary = json_incref(json_object_get(line, "summary"));
	} else if (!v->quiet && !v->json) {
		if (json_object_get(line, "Round"))
			show_round(line);
		else if (json_object_get(line, "Percent"))
			fprintf(stderr,
				"it changes memory too fast: %lld%% of its CPU time is taken\n",
				(long long)json_int(line, "Percent", 0));
		else if (json_object_get(line, "LeftBytes"))
			show_late(line);
		else
			fprintf(stderr, "%s%s%s\n", json_str(line, "State", ""),
				json_object_get(line, "Reason") ? ": " : "",
				json_str(line, "Reason", ""));
	}
	return 0;
}

static void show_split(const json_t *s, const char *name, const char *key)
{
	CLEANUP_FREE char *t = ns_text((double)json_int(s, key, 0));

	printf("    %-9s %s\n", name, t);
}

static void show_postcopy(const json_t *p)
{
	CLEANUP_FREE char *bytes = bytes_text((double)json_int(p, "Bytes", 0));
	CLEANUP_FREE char *ns = ns_text((double)json_int(p, "Ns", 0));
	CLEANUP_FREE char *median = ns_text((double)json_int(p, "MedianNs", 0));
	CLEANUP_FREE char *max = ns_text((double)json_int(p, "MaxNs", 0));

	printf("  post-copy  %s, in which it ran while %s followed\n", ns, bytes);
	printf("    waits    %lld for a page: median %s, at most %s\n",
	       (long long)json_int(p, "Faults", 0), median, max);
}

static void show_summary(const json_t *s)
{
	const json_t *split = json_object_get(s, "Split");
	CLEANUP_FREE char *total = ns_text((double)json_int(s, "TotalNs", 0));
	CLEANUP_FREE char *bytes = bytes_text((double)json_int(s, "Bytes", 0));
	CLEANUP_FREE char *blackout = ns_text((double)json_int(s, "BlackoutNs", 0));

	printf("%s moved from %s to %s\n", json_str(s, "Container", ""), json_str(s, "From", ""),
	       json_str(s, "To", ""));
	printf("  total      %s\n  bytes      %s\n", total, bytes);
	if (json_bool(s, "Cold", false))
		return;
	printf("  rounds     %lld\n  blackout   %s\n", (long long)json_int(s, "Rounds", 0),
	       blackout);
	show_split(split, "freeze", "FreezeNs");
	show_split(split, "storage", "StorageNs");
	show_split(split, "memory", "MemoryNs");
	show_split(split, "restore", "RestoreNs");
	show_split(split, "network", "NetworkNs");
	show_split(split, "commit", "CommitNs");
	show_split(split, "other", "OtherNs");
	if (json_object_get(s, "PostCopy"))
		show_postcopy(json_object_get(s, "PostCopy"));
	if (json_bool(s, "Verified", false))
		puts("  verified   every page, file and register set is the same on both sides");
}

/* The container as a whole has no process, and many obstacles no descriptor: "-". */
static char *show_pid(const json_t *value)
{
	json_int_t n = json_integer_value(value);

	return n > 0 ? str_format("%lld", (long long)n) : str_dup("-");
}

static char *show_fd(const json_t *value)
{
	json_int_t n = json_integer_value(value);

	return n >= 0 ? str_format("%lld", (long long)n) : str_dup("-");
}

static void show_obstacles(const json_t *list)
{
	static const struct column columns[] = {
		{ "PID", "pid", show_pid },   { "FD", "fd", show_fd },
		{ "OBJECT", "object", NULL }, { "WHY", "why", NULL },
		{ "REMEDY", "remedy", NULL },
	};

	if (json_array_size(list))
		print_rows(NULL, list, columns, sizeof(columns) / sizeof(columns[0]));
	else
		puts("Nothing stands in the way.");
}

int cmd_migrate(int argc, char **argv)
{
	static const struct option options[] = {
		{ "downtime", required_argument, NULL, 'd' },
		{ "timeout", required_argument, NULL, 't' },
		{ "on-timeout", required_argument, NULL, 'o' },
		{ "postcopy", no_argument, NULL, 'p' },
		{ "no-auto-converge", no_argument, NULL, 'n' },
		{ "auto-converge", no_argument, NULL, 'a' },
		{ "tracker", required_argument, NULL, 'T' },
		{ "streams", required_argument, NULL, 's' },
		{ "verify", no_argument, NULL, 'v' },
		{ "check", no_argument, NULL, 'c' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "format", required_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	CLEANUP_JSON json_t *body = json_object();
	struct view v = { 0 };
	struct error err = { 0 };
	bool check = false;
	int64_t ns, n;
	int c;

	while ((c = getopt_long(argc, argv, "qh", options, NULL)) != -1) {
		if (c == 'h')
			return help();
		if (c == 'q')
			v.quiet = true;
		else if (c == 'v')
			json_set_bool(body, "verify", true);
		else if (c == 'n' || c == 'a')
			json_set_bool(body, "auto_converge", c == 'a');
		else if (c == 'p')
			json_set_bool(body, "postcopy", true);
		else if (c == 'c')
			json_set_bool(body, "check", check = true);
		else if (c == 'T')
			json_set_str(body, "tracker", optarg);
		else if (c == 's' && !str_to_i64(optarg, 1, 16, &n))
			json_set_int(body, "streams", n);
		else if (c == 'f' && !strcmp(optarg, "json"))
			v.json = true;
		else if (c == 'o' && (!strcmp(optarg, "force") || !strcmp(optarg, "refuse") ||
				      !strcmp(optarg, "postcopy")))
			json_set_str(body, "on_timeout", optarg);
		else if ((c == 'd' || c == 't') && !str_to_duration_ns(optarg, &ns) && ns > 0)
			json_set_int(body, c == 'd' ? "downtime_ms" : "timeout_ms",
				     ns < 1000000 ? 1 : ns / 1000000);
		else
			return usage_error("ferry migrate",
					   "that option is not known or has no such value");
	}
	if (argc - optind != 2)
		return usage_error("ferry migrate", "a container and a host are needed");
	json_set_str(body, "container", argv[optind]);
	json_set_str(body, "host", argv[optind + 1]);
	if (client_lines("POST", "/ferry/v1/migrations", body, on_line, &v, &err) < 0)
		return fail(&err);
	if (v.status)
		return v.status;
	if (!v.summary) {
		error_set(&err, EIO,
			  "ferryd hung up before the migration ended; 'ferry ps' tells where "
			  "the container runs");
		return fail(&err);
	}
	if (check) {
		const json_t *obstacles = json_object_get(v.summary, "Obstacles");

		if (!v.json)
			show_obstacles(obstacles);
		v.status = json_array_size(obstacles) ? 1 : 0;
	} else if (!v.json) {
		show_summary(v.summary);
	}
	json_decref(v.summary);
	return v.status;
}
