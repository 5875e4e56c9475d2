/* SPDX-License-Identifier: Apache-2.0 */
/* `ferry`: picks the command out of a table. */
#include <stdio.h>
#include <string.h>

#include "api/cli/cli.h"
#include "base/log.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} commands[] = {
	{ "checkpoint", cmd_checkpoint, "keep a running container, list and remove what is kept" },
	{ "clone", cmd_clone, "fork a running container, volumes included" },
	{ "cluster", cmd_cluster, "make a cluster, show it, give out join tokens" },
	{ "events", cmd_events, "watch what happens" },
	{ "host", cmd_host, "list hosts, join a cluster" },
	{ "image", cmd_image, "load and list images" },
	{ "lab", cmd_lab, "bring up and take down a lab of hosts on this machine" },
	{ "migrate", cmd_migrate, "move a container to another host while it runs" },
	{ "network", cmd_network, "create, list, inspect and remove networks" },
	{ "ps", cmd_ps, "list the containers of the cluster" },
	{ "pull", cmd_pull, "fetch an image from its registry" },
	{ "push", cmd_push, "bring an image to its registry" },
	{ "restore", cmd_restore, "make a container from a checkpoint" },
	{ "run", cmd_run, "create and start a container" },
	{ "volume", cmd_volume, "create, list, inspect and remove volumes" },
};

#define COUNT (sizeof(commands) / sizeof(commands[0]))

static int help(FILE *to)
{
	fprintf(to, "Usage: ferry [--socket PATH] COMMAND [ARGUMENTS]\n\nCommands:\n");
	for (size_t i = 0; i < COUNT; i++)
		fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].help);
	fprintf(to, "\n'ferry COMMAND --help' explains a command. The docker CLI works as well:\n"
		    "  export DOCKER_HOST=unix:///run/ferry/ferry.sock\n");
	return to == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
	int i = 1;

	log_init("ferry");
	while (i < argc && argv[i][0] == '-') {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return help(stdout);
		if (!strcmp(argv[i], "--version")) {
			puts("ferry 0.1.0");
			return 0;
		}
		if ((!strcmp(argv[i], "--socket") || !strcmp(argv[i], "-H")) && i + 1 < argc) {
			client_set_socket(argv[i + 1]);
			i += 2;
			continue;
		}
		return usage_error("ferry", "unknown option %s", argv[i]);
	}
	if (i >= argc)
		return help(stderr);
	for (size_t c = 0; c < COUNT; c++)
		if (!strcmp(argv[i], commands[c].name))
			return commands[c].run(argc - i, argv + i);
	return usage_error("ferry", "unknown command %s", argv[i]);
}
