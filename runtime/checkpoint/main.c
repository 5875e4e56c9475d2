/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ferry-checkpoint: the engine of one side of one migration. ferryd starts it with a
 * control socket as descriptor 3; control.h says what is spoken there. By hand it shows
 * what a checkpoint holds.
 */
#include <getopt.h>
#include <stdio.h>
#include <sys/socket.h>

#include "runtime/checkpoint/control.h"
#include "runtime/checkpoint/file.h"

static int usage(FILE *to, int status)
{
	fprintf(to,
		"usage: ferry-checkpoint                            started by ferryd, control "
		"socket "
		"as descriptor 3\n"
		"       ferry-checkpoint --inspect FILE [--ca FILE]  what a checkpoint holds; with "
		"the CA also\n"
		"                                                   whether its signature is "
		"good\n");
	return status;
}

static int inspect(const char *path, const char *ca)
{
	struct error err = { 0 };
	json_t *out = NULL;
	int r = file_inspect(path, ca, &out, &err);

	if (out) {
		json_dumpf(out, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(out);
	}
	if (r < 0)
		fprintf(stderr, "ferry-checkpoint: %s: %s\n", path, err.msg);
	return r < 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' },
						 { "inspect", required_argument, NULL, 'i' },
						 { "ca", required_argument, NULL, 'c' },
						 { 0 } };
	const char *file = NULL, *ca = NULL;
	int type, c;
	socklen_t len = sizeof(type);

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'h')
			return usage(stdout, 0);
		if (c == 'i')
			file = optarg;
		else if (c == 'c')
			ca = optarg;
		else
			return usage(stderr, 2);
	}
	if (optind != argc || (ca && !file))
		return usage(stderr, 2);
	if (file)
		return inspect(file, ca);
	if (getsockopt(CONTROL_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
		fprintf(stderr,
			"ferry-checkpoint: descriptor 3 is no socket; ferryd starts this\n");
		return 2;
	}
	return control_serve(CONTROL_FD);
}
