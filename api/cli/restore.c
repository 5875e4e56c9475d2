/* SPDX-License-Identifier: Apache-2.0 */
/* ferry restore and ferry clone, and what they share with ferry checkpoint create. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/cli/cli.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

/* --- jobs: progress lines, a summary -------------------------------------------------------- */

static void show_step(const json_t *line)
{
	if (json_object_get(line, "Round")) {
		CLEANUP_FREE char *sent = bytes_text((double)json_int(line, "SentBytes", 0));
		CLEANUP_FREE char *dirty = bytes_text((double)json_int(line, "DirtyBytes", 0));

		fprintf(stderr, "round %2lld: copied %s, changed since %s\n",
			(long long)json_int(line, "Round", 0), sent, dirty);
	} else {
		fprintf(stderr, "%s\n", json_str(line, "State", ""));
	}
}

static int on_line(void *ctx, json_t *line)
{
	struct job_view *v = ctx;
	const json_t *error = json_object_get(line, "error");

	if (v->json) {
		CLEANUP_FREE char *text = json_text(line);

		puts(text);
		fflush(stdout);
	}
	if (json_is_object(error)) {
		fprintf(stderr, "ferry: %s\n", json_str(error, "message", "it failed"));
		v->status = json_int(error, "status", 500) == 400 ? 2 : 1;
	} else if (json_object_get(line, "summary")) {
		v->summary = json_incref(json_object_get(line, "summary"));
	} else if (!v->quiet && !v->json) {
		show_step(line);
	}
	return 0;
}

static int job_end(struct job_view *v, json_t **summary)
{
	struct error err = { 0 };

	if (v->status)
		return v->status;
	if (!v->summary) {
		error_set(&err, EIO,
			  "ferryd hung up before it was done; 'ferry ps' and 'ferry "
			  "checkpoint ls' show what came of it");
		return fail(&err);
	}
	*summary = v->summary;
	return 0;
}

int job_run(const char *path, const json_t *body, struct job_view *v, json_t **summary)
{
	struct error err = { 0 };

	if (client_lines("POST", path, body, on_line, v, &err) < 0)
		return fail(&err);
	return job_end(v, summary);
}

/* --- restore, clone --------------------------------------------------------------------- */

static int restore_help(void)
{
	puts("Usage: ferry restore [OPTIONS] CHECKPOINT | FILE | -\n\n"
	     "Makes a container from a checkpoint, or from a file that 'ferry checkpoint create\n"
	     "--output' wrote (a path with a slash, or - for stdin).\n\n"
	     "  --name NAME     a new container, with its own id, addresses and volumes; its\n"
	     "                  connections are reset. Without: the old one again, which must be\n"
	     "                  stopped or gone, with its addresses and connections\n"
	     "  --host HOST     where (default: this host)\n"
	     "  --rollback      the volumes themselves go back, instead of clones of them\n"
	     "  --quiet, -q     no progress\n"
	     "  --format json   every progress document and the summary as JSON lines");
	return 0;
}

static int clone_help(void)
{
	puts("Usage: ferry clone [OPTIONS] CONTAINER\n\n"
	     "Forks a running container: a second one with a copy of its memory, files and "
	     "volumes,\n"
	     "and with its own id and addresses. The first one goes on.\n\n"
	     "  --name NAME     default: CONTAINER-clone\n"
	     "  --host HOST     where (default: this host)\n"
	     "  --quiet, -q     no progress\n"
	     "  --format json   every progress document and the summary as JSON lines");
	return 0;
}

static void show_summary(const json_t *s)
{
	CLEANUP_FREE char *total = ns_text((double)json_int(s, "TotalNs", 0));
	json_t *v;
	size_t i;

	printf("%s runs on %s\n", json_str(s, "Container", ""), json_str(s, "Host", ""));
	json_array_foreach (json_object_get(s, "Addresses"), i, v)
		printf("  address    %s\n", json_string_value(v));
	json_array_foreach (json_object_get(s, "Volumes"), i, v)
		if (strcmp(json_str(v, "Name", ""), json_str(v, "From", "")))
			printf("  volume     %s (of %s)\n", json_str(v, "Name", ""),
			       json_str(v, "From", ""));
		else
			printf("  volume     %s, rolled back\n", json_str(v, "Name", ""));
	printf("  total      %s\n", total);
	if (json_int(s, "PauseNs", 0)) {
		CLEANUP_FREE char *pause = ns_text((double)json_int(s, "PauseNs", 0));

		printf("  pause      %s (of the first one)\n", pause);
	}
}

static int restore_file(const char *file, const json_t *body, struct job_view *v, json_t **summary)
{
	CLEANUP_FREE char *name = client_escape(json_str(body, "name", ""));
	CLEANUP_FREE char *host = client_escape(json_str(body, "host", ""));
	CLEANUP_FREE char *path = str_format("/ferry/v1/restore/file?name=%s&host=%s&rollback=%d",
					     name, host, json_bool(body, "rollback", false));
	struct error err = { 0 };

	if (client_upload(path, file, on_line, v, &err) < 0)
		return fail(&err);
	return job_end(v, summary);
}

/* Options of both; the index of the first argument in *first. 0 or an exit status. */
static int options(const char *command, int argc, char **argv, json_t *body, struct job_view *v,
		   bool *wants_help)
{
	static const struct option known[] = { { "name", required_argument, NULL, 'n' },
					       { "host", required_argument, NULL, 'H' },
					       { "rollback", no_argument, NULL, 'r' },
					       { "quiet", no_argument, NULL, 'q' },
					       { "format", required_argument, NULL, 'f' },
					       { "help", no_argument, NULL, 'h' },
					       { NULL, 0, NULL, 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "qh", known, NULL)) != -1) {
		if (c == 'n')
			json_set_str(body, "name", optarg);
		else if (c == 'H')
			json_set_str(body, "host", optarg);
		else if (c == 'r' && !strcmp(command, "ferry restore"))
			json_set_bool(body, "rollback", true);
		else if (c == 'q')
			v->quiet = true;
		else if (c == 'h')
			*wants_help = true;
		else if (c == 'f' && !strcmp(optarg, "json"))
			v->json = true;
		else
			return usage_error(command,
					   "that option is not known or has no such value");
	}
	if (!*wants_help && argc - optind != 1)
		return usage_error(command, "one argument is needed");
	return 0;
}

int cmd_restore(int argc, char **argv)
{
	CLEANUP_JSON json_t *body = json_object();
	CLEANUP_JSON json_t *summary = NULL;
	struct job_view v = { 0 };
	bool wants_help = false;
	const char *what;
	int status = options("ferry restore", argc, argv, body, &v, &wants_help);

	if (status)
		return status;
	if (wants_help)
		return restore_help();
	what = argv[optind];
	json_set_str(body, "checkpoint", what);
	status = !strcmp(what, "-") || strchr(what, '/')
			 ? restore_file(what, body, &v, &summary)
			 : job_run("/ferry/v1/restore", body, &v, &summary);
	if (!status && !v.json)
		show_summary(summary);
	return status;
}

int cmd_clone(int argc, char **argv)
{
	CLEANUP_JSON json_t *body = json_object();
	CLEANUP_JSON json_t *summary = NULL;
	struct job_view v = { 0 };
	bool wants_help = false;
	int status = options("ferry clone", argc, argv, body, &v, &wants_help);

	if (status)
		return status;
	if (wants_help)
		return clone_help();
	json_set_str(body, "container", argv[optind]);
	status = job_run("/ferry/v1/clone", body, &v, &summary);
	if (!status && !v.json)
		show_summary(summary);
	return status;
}
