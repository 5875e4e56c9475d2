/* SPDX-License-Identifier: Apache-2.0 */
/* ferry-oci: an OCI runtime. Global options, then one of the commands of the table. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/oci/oci.h"
#include "runtime/oci/report.h"

static const struct {
	const char *name, *what;
	command_fn *run;
} commands[] = {
	{ "create", "make a container up to the point before its program runs", cmd_create },
	{ "start", "run the program of a created container", cmd_start },
	{ "run", "create, start and wait", cmd_run },
	{ "state", "print the state of a container", cmd_state },
	{ "kill", "send a signal to a container's first process", cmd_kill },
	{ "delete", "remove a stopped container", cmd_delete },
	{ "exec", "run another program in a running container", cmd_exec },
	{ "list", "list the containers below --root", cmd_list },
	{ "pause", "freeze all processes of a container", cmd_pause },
	{ "resume", "thaw them", cmd_resume },
	{ "update", "change resource limits", cmd_update },
	{ "ps", "list the processes of a container", cmd_ps },
	{ "adopt", "count a stub that was restored into as running", cmd_adopt },
	{ "features", "print what this runtime can do", cmd_features },
};

int usage(struct error *err, const char *text)
{
	return error_set(err, EINVAL, "usage: ferry-oci %s", text);
}

static void help(void)
{
	printf("usage: ferry-oci [--root DIR] [--log FILE] [--log-format text|json] COMMAND "
	       "...\n\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].what);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = { { "root", required_argument, 0, 'r' },
					       { "log", required_argument, 0, 'l' },
					       { "log-format", required_argument, 0, 'f' },
					       { "systemd-cgroup", no_argument, 0, 's' },
					       { "cgroup-manager", required_argument, 0, 'm' },
					       { "debug", no_argument, 0, 'd' },
					       { "help", no_argument, 0, 'h' },
					       { "version", no_argument, 0, 'v' },
					       { 0 } };
	struct global g = { .root = "/run/ferry/oci" };
	const char *log = NULL, *format = "text";
	struct error err = { 0 };
	bool systemd = false;
	int status = 0, r = 0, c;

	while ((c = getopt_long(argc, argv, "+hv", longs, NULL)) != -1) {
		switch (c) {
		case 'r':
			g.root = optarg;
			break;
		case 'l':
			log = optarg;
			break;
		case 'f':
			format = optarg;
			break;
		case 's':
			systemd = true;
			break;
		case 'm':
			systemd = !strcmp(optarg, "systemd");
			break;
		case 'd':
			break;
		case 'h':
			help();
			return 0;
		case 'v':
			printf("ferry-oci version 0.1.0\nspec: 1.2.0\n");
			return 0;
		default:
			return 2;
		}
	}
	if (strcmp(format, "text") != 0 && strcmp(format, "json") != 0)
		r = error_set(&err, EINVAL, "--log-format must be text or json");
	if (!r)
		r = report_open(log, !strcmp(format, "json"), &err);
	if (!r && systemd)
		r = error_set(
			&err, EOPNOTSUPP,
			"ferry-oci manages control groups by itself: leave out --systemd-cgroup "
			"(docker: native.cgroupdriver=cgroupfs, podman: "
			"--cgroup-manager=cgroupfs)");
	if (!r && optind == argc) {
		help();
		return 2;
	}
	if (!r) {
		const char *name = argv[optind];
		int n = argc - optind;
		char **rest = argv + optind;

		r = error_set(&err, EINVAL, "unknown command \"%s\"; see ferry-oci --help", name);
		for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
			if (strcmp(commands[i].name, name) != 0)
				continue;
			error_clear(&err);
			optind = 1;
			r = commands[i].run(&g, n, rest, &status, &err);
			break;
		}
	}
	if (r < 0) {
		report_error(&err);
		if (!strncmp(err.msg, "exec: ", 6))
			return err.code == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
		return 1;
	}
	return status;
}
