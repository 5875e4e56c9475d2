/* SPDX-License-Identifier: Apache-2.0 */
/* ferry checkpoint create | ls | inspect | rm */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/cli/cli.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"

static int help(void)
{
	puts("Usage: ferry checkpoint create [OPTIONS] CONTAINER NAME\n"
	     "       ferry checkpoint ls [--format table|json]\n"
	     "       ferry checkpoint inspect CHECKPOINT...\n"
	     "       ferry checkpoint rm CHECKPOINT...\n\n"
	     "Keeps a running container: memory, files and volumes of one instant. CHECKPOINT is "
	     "an\n"
	     "id, a name, or CONTAINER:NAME.\n\n"
	     "  --leave-running       it goes on; else it is stopped, to be restored\n"
	     "  --output, -o FILE     into a file (- for stdout) instead of the cluster; snapshots "
	     "of\n"
	     "                        volumes stay in the cluster\n"
	     "  --quiet, -q           no progress\n"
	     "  --format json         every progress document and the summary as JSON lines");
	return 0;
}

/* --- output ----------------------------------------------------------------------------- */

/* Where a checkpoint goes: stdout, or beside FILE until it is whole. */
struct output {
	const char *file;
	char *part;
	int fd;
	char end[8]; /* the last bytes that came */
	struct error err;
};

static int take(void *ctx, const char *data, size_t len)
{
	struct output *o = ctx;
	size_t keep = len < sizeof(o->end) ? len : sizeof(o->end);
	int r = fd_write_all(o->fd, data, len);

	if (r < 0) {
		error_sys(&o->err, -r, "writing %s", o->file);
		return 1;
	}
	memmove(o->end, o->end + keep, sizeof(o->end) - keep);
	memcpy(o->end + sizeof(o->end) - keep, data + len - keep, keep);
	return 0;
}

static int publish(struct output *o, struct error *err)
{
	if (memcmp(o->end, "FERRYCK1", sizeof(o->end)))
		return error_set(err, EIO, "ferryd hung up before all of it had come");
	if (!o->part)
		return 0;
	if (fsync(o->fd) < 0 || rename(o->part, o->file) < 0)
		return error_sys(err, errno, "writing %s", o->file);
	free(TAKE_PTR(o->part));
	return 0;
}

/* Out of the cluster into the file. Only when it is safe there the cluster's own goes. */
static int put_out(const char *id, const char *file, struct error *err)
{
	CLEANUP_FREE char *path = str_format("/ferry/v1/checkpoints/%s/data", id);
	struct output o = { .file = file, .fd = 1 };
	int r;

	if (strcmp(file, "-")) {
		o.part = str_format("%s.XXXXXX", file);
		o.fd = mkstemp(o.part);
		if (o.fd < 0) {
			r = error_sys(err, errno, "making %s", file);
			free(o.part);
			return r;
		}
	}
	r = client_bytes("GET", path, NULL, take, &o, err);
	if (o.err.code) {
		*err = o.err;
		r = -err->code;
	}
	if (!r)
		r = publish(&o, err);
	if (o.part)
		unlink(o.part);
	free(o.part);
	if (o.fd > 2)
		close(o.fd);
	if (!r)
		r = client_call("DELETE", path, NULL, NULL, err);
	return r < 0 ? error_wrap(err, "the checkpoint %s stays in the cluster", id) : 0;
}

static int create(int argc, char **argv)
{
	static const struct option options[] = { { "leave-running", no_argument, NULL, 'l' },
						 { "output", required_argument, NULL, 'o' },
						 { "quiet", no_argument, NULL, 'q' },
						 { "format", required_argument, NULL, 'f' },
						 { NULL, 0, NULL, 0 } };
	CLEANUP_JSON json_t *body = json_object();
	CLEANUP_JSON json_t *summary = NULL;
	const char *output = NULL;
	struct job_view v = { 0 };
	struct error err = { 0 };
	int c, status;

	while ((c = getopt_long(argc, argv, "o:q", options, NULL)) != -1) {
		if (c == 'l')
			json_set_bool(body, "leave_running", true);
		else if (c == 'o')
			output = optarg;
		else if (c == 'q')
			v.quiet = true;
		else if (c == 'f' && !strcmp(optarg, "json"))
			v.json = true;
		else
			return usage_error("ferry checkpoint",
					   "that option is not known or has no such value");
	}
	if (argc - optind != 2)
		return usage_error("ferry checkpoint", "create takes a container and a name");
	if (output && !strcmp(output, "-") && v.json)
		return usage_error("ferry checkpoint", "--output - and --format json do not go "
						       "together");
	json_set_str(body, "container", argv[optind]);
	json_set_str(body, "name", argv[optind + 1]);
	status = job_run("/ferry/v1/checkpoints", body, &v, &summary);
	if (status)
		return status;
	if (output && put_out(json_str(summary, "Id", ""), output, &err) < 0)
		return fail(&err);
	if (!v.json && !output)
		puts(json_str(summary, "Id", ""));
	if (!v.json && !v.quiet) {
		CLEANUP_FREE char *bytes = bytes_text((double)json_int(summary, "Bytes", 0));
		CLEANUP_FREE char *pause = ns_text((double)json_int(summary, "PauseNs", 0));

		if (json_int(summary, "PauseNs", 0))
			fprintf(stderr, "%s, the container stood still for %s\n", bytes, pause);
		else
			fprintf(stderr, "%s, the container is stopped\n", bytes);
	}
	return 0;
}

/* --- the others --------------------------------------------------------------------------- */

static char *volume_names(const json_t *volumes)
{
	CLEANUP_BUF struct buf b = { 0 };
	json_t *v;
	size_t i;

	buf_add(&b, "", 0);
	json_array_foreach (volumes, i, v)
		buf_addf(&b, "%s%s", i ? "," : "", json_str(v, "Name", ""));
	return TAKE_PTR(b.data);
}

static int list(int argc, char **argv)
{
	static const struct column columns[] = { { "NAME", "Name", NULL },
						 { "CONTAINER", "Container", NULL },
						 { "CREATED", "CreatedAt", NULL },
						 { "SIZE", "Bytes", show_bytes },
						 { "PLACE", "Place", NULL },
						 { "IMAGE", "Image", NULL },
						 { "VOLUMES", "Volumes", volume_names } };
	CLEANUP_JSON json_t *out = NULL;
	struct error err = { 0 };
	const char *format;
	int status = ls_format("checkpoint", argc, argv, &format);

	if (status)
		return status;
	if (client_call("GET", "/ferry/v1/checkpoints", NULL, &out, &err) < 0)
		return fail(&err);
	return print_rows(format, out, columns, sizeof(columns) / sizeof(columns[0]));
}

int cmd_checkpoint(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "--help";

	if (!strcmp(verb, "create"))
		return create(argc - 1, argv + 1);
	if (!strcmp(verb, "ls"))
		return list(argc - 1, argv + 1);
	if ((!strcmp(verb, "inspect") || !strcmp(verb, "rm")) && argc < 3)
		return usage_error("ferry checkpoint", "%s takes a checkpoint", verb);
	if (!strcmp(verb, "inspect"))
		return cmd_each("ferry/v1/checkpoint", "GET", argc - 1, argv + 1);
	if (!strcmp(verb, "rm"))
		return cmd_each("ferry/v1/checkpoint", "DELETE", argc - 1, argv + 1);
	if (!strcmp(verb, "--help") || !strcmp(verb, "-h"))
		return help();
	return usage_error("ferry checkpoint", "unknown command %s", verb);
}
