// SPDX-License-Identifier: Apache-2.0
/*
 * Drives the volumes library from shell tests, as one host of several on this machine:
 *
 *   volctl --run-dir D --state-dir D --host H [--vold PATH] [--conf F --user U --pool P] OP ARG...
 *
 * Prints JSON or a path where an operation gives one. Several operations in one call are
 * separated by "then"; each is timed with --times (milliseconds on stderr). Exit status 1
 * and the message on stderr when one fails.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "volumes/volume.h"

static int op_create(struct volumes *vs, char *argv[], struct error *err)
{
	CLEANUP_JSON json_t *opts = NULL;

	if (argv[1]) {
		opts = json_parse(argv[1], strlen(argv[1]), "options", err);
		if (!opts)
			return -EINVAL;
	}
	return volume_create(vs, argv[1] ? argv[2] : NULL, argv[0], opts, err);
}

static int print(json_t *json)
{
	CLEANUP_FREE char *text = json_text(json);

	puts(text);
	json_decref(json);
	return 0;
}

static int op_list(struct volumes *vs, char *argv[], struct error *err)
{
	json_t *out = NULL;
	int rc = volume_list(vs, &out, err);

	(void)argv;
	return rc ? rc : print(out);
}

static int op_inspect(struct volumes *vs, char *argv[], struct error *err)
{
	json_t *out = NULL;
	int rc = volume_inspect(vs, argv[0], &out, err);

	return rc ? rc : print(out);
}

static int op_attach(struct volumes *vs, char *argv[], struct error *err)
{
	const char *mode = argv[1] ? argv[1] : "rw";

	return volume_attach(vs, argv[0],
			     strcmp(mode, "ro") == 0	    ? VOLUME_RO
			     : strcmp(mode, "standby") == 0 ? VOLUME_STANDBY
							    : VOLUME_RW,
			     err);
}

static int op_device(struct volumes *vs, char *argv[], struct error *err)
{
	CLEANUP_FREE char *device = NULL;
	int rc = volume_device(vs, argv[0], &device, err);

	if (rc == 0)
		puts(device);
	return rc;
}

static int op_mount(struct volumes *vs, char *argv[], struct error *err)
{
	CLEANUP_FREE char *path = NULL;
	int rc = volume_mount(vs, argv[0], &path, err);

	if (rc == 0)
		puts(path);
	return rc;
}

static int op_promote(struct volumes *vs, char *argv[], struct error *err)
{
	return volume_promote(vs, argv[0], argv[1] && strcmp(argv[1], "tentative") == 0, err);
}

static int op_resize(struct volumes *vs, char *argv[], struct error *err)
{
	uint64_t size = 0;

	if (!argv[1] || str_to_bytes(argv[1], &size))
		return error_set(err, EINVAL, "resize NAME SIZE");
	return volume_resize(vs, argv[0], size, err);
}

static int op_snapshots(struct volumes *vs, char *argv[], struct error *err)
{
	json_t *out = NULL;
	int rc = volume_snapshot_list(vs, argv[0], &out, err);

	return rc ? rc : print(out);
}

static int op_snapshot_remove(struct volumes *vs, char *argv[], struct error *err)
{
	if (!argv[0] || !argv[1])
		return error_set(err, EINVAL, "snapshot-remove NAME SNAPSHOT");
	return volume_snapshot_remove(vs, argv[0], argv[1], false, err);
}

static int op_clone(struct volumes *vs, char *argv[], struct error *err)
{
	if (!argv[1] || !argv[2])
		return error_set(err, EINVAL, "clone NAME SNAPSHOT CLONE");
	return volume_clone(vs, argv[0], argv[1], argv[2], err);
}

typedef int simple_fn(struct volumes *vs, const char *name, struct error *err);
typedef int snap_fn(struct volumes *vs, const char *name, const char *snap, struct error *err);

static const struct {
	const char *name;
	int (*run)(struct volumes *vs, char *argv[], struct error *err);
	simple_fn *simple;
	snap_fn *snap;
} ops[] = {
	{ "create", op_create, NULL, NULL },
	{ "remove", NULL, volume_remove, NULL },
	{ "list", op_list, NULL, NULL },
	{ "inspect", op_inspect, NULL, NULL },
	{ "attach", op_attach, NULL, NULL },
	{ "detach", NULL, volume_detach, NULL },
	{ "device", op_device, NULL, NULL },
	{ "mount", op_mount, NULL, NULL },
	{ "unmount", NULL, volume_unmount, NULL },
	{ "sync", NULL, volume_sync, NULL },
	{ "freeze", NULL, volume_freeze, NULL },
	{ "thaw", NULL, volume_thaw, NULL },
	{ "demote", NULL, volume_demote, NULL },
	{ "quiesce", NULL, volume_quiesce, NULL },
	{ "preview", NULL, volume_preview, NULL },
	{ "claim", NULL, volume_claim, NULL },
	{ "retake", NULL, volume_retake, NULL },
	{ "promote", op_promote, NULL, NULL },
	{ "settle", NULL, volume_settle, NULL },
	{ "abandon", NULL, volume_abandon, NULL },
	{ "fence", NULL, volume_fence, NULL },
	{ "resize", op_resize, NULL, NULL },
	{ "snapshot", NULL, NULL, volume_snapshot_create },
	{ "snapshots", op_snapshots, NULL, NULL },
	{ "snapshot-remove", op_snapshot_remove, NULL, NULL },
	{ "rollback", NULL, NULL, volume_snapshot_rollback },
	{ "clone", op_clone, NULL, NULL },
};

/* argv: OP ARG..., NULL-terminated, and at least two NULLs behind. */
static int run(struct volumes *vs, char *argv[], struct error *err)
{
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		if (strcmp(ops[i].name, argv[0]) != 0)
			continue;
		if (ops[i].run)
			return ops[i].run(vs, argv + 1, err);
		if (ops[i].snap)
			return ops[i].snap(vs, argv[1], argv[2] ? argv[2] : "", err);
		return ops[i].simple(vs, argv[1], err);
	}
	return error_set(err, EINVAL, "unknown operation %s", argv[0]);
}

static const struct option options[] = {
	{ "run-dir", required_argument, NULL, 'r' },
	{ "state-dir", required_argument, NULL, 's' },
	{ "host", required_argument, NULL, 'h' },
	{ "vold", required_argument, NULL, 'v' },
	{ "conf", required_argument, NULL, 'c' },
	{ "user", required_argument, NULL, 'u' },
	{ "pool", required_argument, NULL, 'p' },
	{ "times", no_argument, NULL, 't' },
	{ 0 },
};

static int run_all(struct volumes *vs, int argc, char *argv[], bool times)
{
	for (int i = 0; i < argc; i++) {
		char *args[16] = { NULL };
		struct error err = { 0 };
		int64_t start;
		int n = 0, rc;

		for (; i < argc && strcmp(argv[i], "then") != 0; i++)
			if (n < 10)
				args[n++] = argv[i];
		if (!n)
			continue;
		start = clock_mono_ns();
		rc = run(vs, args, &err);
		if (times)
			fprintf(stderr, "%s %.1f\n", args[0],
				(double)(clock_mono_ns() - start) / 1e6);
		if (rc) {
			fprintf(stderr, "volctl: %s\n", err.msg);
			return 1;
		}
	}
	return 0;
}

int main(int argc, char *argv[])
{
	struct volumes_config config = { .run_dir = "/run/ferry",
					 .state_dir = "/var/lib/ferry",
					 .host = "localhost" };
	struct volumes *vs = NULL;
	struct error err = { 0 };
	bool times = false;
	int c, status;

	log_init("volctl");
	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		switch (c) {
		case 'r':
			config.run_dir = optarg;
			break;
		case 's':
			config.state_dir = optarg;
			break;
		case 'h':
			config.host = optarg;
			break;
		case 'v':
			config.vold_path = optarg;
			break;
		case 'c':
			config.ceph_conf = optarg;
			break;
		case 'u':
			config.ceph_user = optarg;
			break;
		case 'p':
			config.pool = optarg;
			break;
		case 't':
			times = true;
			break;
		default:
			return 2;
		}
	}
	if (volumes_open(&config, &vs, &err)) {
		fprintf(stderr, "volctl: %s\n", err.msg);
		return 1;
	}
	status = run_all(vs, argc - optind, argv + optind, times);
	volumes_close(vs);
	return status;
}
