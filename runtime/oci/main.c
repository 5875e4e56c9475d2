/* SPDX-License-Identifier: Apache-2.0 */
/* ferry-oci: an OCI runtime. Global options, then one of the commands of the table. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/oci/oci.h"
#include "runtime/oci/report.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

static const struct {
	const char *name, *what;
	command_fn *run;
	bool from_memory;
} commands[] = {
	{ "create", "make a container up to the point before its program runs", cmd_create, true },
	{ "start", "run the program of a created container", cmd_start, false },
	{ "run", "create, start and wait", cmd_run, true },
	{ "state", "print the state of a container", cmd_state, false },
	{ "kill", "send a signal to a container's first process", cmd_kill, false },
	{ "delete", "remove a stopped container", cmd_delete, false },
	{ "exec", "run another program in a running container", cmd_exec, true },
	{ "list", "list the containers below --root", cmd_list, false },
	{ "pause", "freeze all processes of a container", cmd_pause, false },
	{ "resume", "thaw them", cmd_resume, false },
	{ "update", "change resource limits", cmd_update, false },
	{ "ps", "list the processes of a container", cmd_ps, false },
	{ "adopt", "count a stub that was restored into as running", cmd_adopt, false },
	{ "features", "print what this runtime can do", cmd_features, false },
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

/*
 * A container can reach the program that makes it through /proc/self/exe, and could write
 * into the host's file once it runs no more (CVE-2019-5736). So whatever becomes, or enters,
 * a container runs from a sealed copy in memory; about 1 ms. Not so a stub, which runs no
 * code of the container before it is another program altogether.
 */
static int run_from_memory(char **argv, int first, struct error *err)
{
	CLEANUP_CLOSE int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), copy = -1;
	const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	struct stat st;
	ssize_t n = 1;

	for (int i = first; argv[i] && !strcmp(argv[first], "create"); i++)
		if (!strcmp(argv[i], "--stub"))
			return 0;
	if (self < 0 || fstat(self, &st) < 0)
		return error_sys(err, errno, "opening /proc/self/exe");
	if (fcntl(self, F_GET_SEALS) == seals)
		return 0;
	/* MFD_EXEC (Linux 6.3) is refused by older kernels, where it is the default. */
	copy = memfd_create("ferry-oci", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	if (copy < 0 && errno == EINVAL)
		copy = memfd_create("ferry-oci", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (copy < 0)
		return error_sys(err, errno, "making a memory file");
	for (off_t left = st.st_size; left > 0 && n > 0; left -= n)
		n = sendfile(copy, self, NULL, (size_t)left);
	if (n <= 0 || fcntl(copy, F_ADD_SEALS, seals) < 0)
		return error_sys(err, errno, "copying this program into memory");
	fexecve(copy, argv, environ);
	return error_sys(err, errno, "running this program from memory");
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
			r = commands[i].from_memory ? run_from_memory(argv, optind, &err) : 0;
			optind = 1;
			if (!r)
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
