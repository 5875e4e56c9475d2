/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ferry run: docker's `run` for what scripts need, and --host. Without -d it shows the
 * container's output and leaves with its exit status; for a terminal or input use the
 * docker CLI.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/cli/cli.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

static int help(void)
{
	puts("Usage: ferry run [OPTIONS] IMAGE [COMMAND [ARG...]]\n\n"
	     "  -d, --detach           print the id and leave it running\n"
	     "      --rm               remove it when it ends\n"
	     "      --name NAME\n"
	     "      --host HOST        run it on that host of the cluster\n"
	     "  -e, --env NAME=VALUE\n"
	     "  -v, --volume NAME:/path[:ro]\n"
	     "  -p, --publish [IP:]HOSTPORT:PORT[/udp]\n"
	     "  -l, --label NAME=VALUE\n"
	     "  -u, --user USER\n"
	     "  -w, --workdir DIR\n"
	     "      --entrypoint PROGRAM\n"
	     "      --network NETWORK\n"
	     "  -m, --memory BYTES     such as 512m\n"
	     "      --cpus N           such as 1.5\n"
	     "      --restart no|always|on-failure[:N]|unless-stopped");
	return 0;
}

static json_t *sub(json_t *obj, const char *key, json_t *fresh)
{
	json_t *v = json_object_get(obj, key);

	if (v) {
		json_decref(fresh);
		return v;
	}
	json_object_set_new(obj, key, fresh);
	return fresh;
}

static int publish(json_t *body, const char *text)
{
	CLEANUP_FREE char *copy = str_dup(text);
	char *proto = strchr(copy, '/'), *port = strrchr(copy, ':'), *host_port, *ip = NULL;
	CLEANUP_FREE char *key = NULL;
	json_t *bindings;

	if (proto)
		*proto++ = '\0';
	if (!port)
		return -EINVAL;
	*port++ = '\0';
	host_port = strrchr(copy, ':');
	if (host_port) {
		*host_port++ = '\0';
		ip = copy;
	} else {
		host_port = copy;
	}
	key = str_format("%s/%s", port, proto ? proto : "tcp");
	bindings = sub(sub(body, "HostConfig", json_object()), "PortBindings", json_object());
	json_array_append_new(
		sub(bindings, key, json_array()),
		json_pack("{s:s, s:s}", "HostIp", ip ? ip : "", "HostPort", host_port));
	json_object_set_new(sub(body, "ExposedPorts", json_object()), key, json_object());
	return 0;
}

static int restart_policy(json_t *host_config, const char *text)
{
	CLEANUP_FREE char *name = str_dup(text);
	char *colon = strchr(name, ':');
	int64_t n = 0;

	if (colon) {
		*colon = '\0';
		if (str_to_i64(colon + 1, 0, 1000000, &n) < 0)
			return -EINVAL;
	}
	json_object_set_new(
		host_config, "RestartPolicy",
		json_pack("{s:s, s:I}", "Name", name, "MaximumRetryCount", (json_int_t)n));
	return 0;
}

enum { OPT_RM = 256, OPT_NAME, OPT_HOST, OPT_ENTRYPOINT, OPT_NETWORK, OPT_CPUS, OPT_RESTART };

struct run {
	json_t *body, *host_config;
	const char *name;
	bool detach;
};

static int option(struct run *r, int c, const char *arg)
{
	uint64_t bytes;
	char *eq, *end;
	double cpus;

	switch (c) {
	case 'd':
		r->detach = true;
		return 0;
	case 'e':
		json_array_append_new(sub(r->body, "Env", json_array()), json_string(arg));
		return 0;
	case 'v':
		json_array_append_new(sub(r->host_config, "Binds", json_array()), json_string(arg));
		return 0;
	case 'p':
		return publish(r->body, arg);
	case 'l': {
		CLEANUP_FREE char *copy = str_dup(arg);

		eq = strchr(copy, '=');
		if (eq)
			*eq++ = '\0';
		json_set_str(sub(r->body, "Labels", json_object()), copy, eq ? eq : "");
		return 0;
	}
	case 'u':
		json_set_str(r->body, "User", arg);
		return 0;
	case 'w':
		json_set_str(r->body, "WorkingDir", arg);
		return 0;
	case 'm':
		if (str_to_bytes(arg, &bytes) < 0)
			return -EINVAL;
		json_set_int(r->host_config, "Memory", (int64_t)bytes);
		return 0;
	case OPT_RM:
		json_set_bool(r->host_config, "AutoRemove", true);
		return 0;
	case OPT_NAME:
		r->name = arg;
		return 0;
	case OPT_HOST:
		json_set_str(sub(r->body, "Labels", json_object()), "ferry.host", arg);
		return 0;
	case OPT_ENTRYPOINT:
		json_array_append_new(sub(r->body, "Entrypoint", json_array()), json_string(arg));
		return 0;
	case OPT_NETWORK:
		json_set_str(r->host_config, "NetworkMode", arg);
		return 0;
	case OPT_CPUS:
		cpus = strtod(arg, &end);
		if (*end || !(cpus > 0 && cpus < 4096))
			return -EINVAL;
		json_set_int(r->host_config, "NanoCpus", (int64_t)(cpus * 1e9));
		return 0;
	case OPT_RESTART:
		return restart_policy(r->host_config, arg);
	default:
		return -EINVAL;
	}
}

static int parse(struct run *r, int argc, char **argv)
{
	static const struct option options[] = {
		{ "detach", no_argument, NULL, 'd' },
		{ "rm", no_argument, NULL, OPT_RM },
		{ "name", required_argument, NULL, OPT_NAME },
		{ "host", required_argument, NULL, OPT_HOST },
		{ "env", required_argument, NULL, 'e' },
		{ "volume", required_argument, NULL, 'v' },
		{ "publish", required_argument, NULL, 'p' },
		{ "label", required_argument, NULL, 'l' },
		{ "user", required_argument, NULL, 'u' },
		{ "workdir", required_argument, NULL, 'w' },
		{ "entrypoint", required_argument, NULL, OPT_ENTRYPOINT },
		{ "network", required_argument, NULL, OPT_NETWORK },
		{ "memory", required_argument, NULL, 'm' },
		{ "cpus", required_argument, NULL, OPT_CPUS },
		{ "restart", required_argument, NULL, OPT_RESTART },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	json_t *cmd;
	int c;

	/* "+": what follows the image belongs to the container. */
	while ((c = getopt_long(argc, argv, "+de:v:p:l:u:w:m:h", options, NULL)) != -1) {
		if (c == 'h') {
			help();
			exit(0);
		}
		if (option(r, c, optarg) < 0)
			return usage_error("ferry run",
					   optarg ? "\"%s\" is no value for that option"
						  : "that option is not known",
					   optarg);
	}
	if (optind >= argc)
		return usage_error("ferry run", "an image is needed");
	json_set_str(r->body, "Image", argv[optind]);
	if (optind + 1 < argc) {
		cmd = sub(r->body, "Cmd", json_array());
		for (int i = optind + 1; i < argc; i++)
			json_array_append_new(cmd, json_string(argv[i]));
	}
	return 0;
}

/* Docker's multiplexed stream: stream number, three zeros, length, bytes. */
struct demux {
	struct buf b;
};

static int on_bytes(void *ctx, const char *data, size_t len)
{
	struct demux *d = ctx;
	size_t at = 0;

	buf_add(&d->b, data, len);
	while (d->b.len - at >= 8) {
		const unsigned char *h = (const unsigned char *)d->b.data + at;
		size_t n = (size_t)h[4] << 24 | (size_t)h[5] << 16 | (size_t)h[6] << 8 | h[7];

		if (d->b.len - at - 8 < n)
			break;
		fwrite(h + 8, 1, n, h[0] == 2 ? stderr : stdout);
		at += 8 + n;
	}
	fflush(stdout);
	memmove(d->b.data, d->b.data + at, d->b.len - at);
	d->b.len -= at;
	return 0;
}

static int follow(const char *id)
{
	CLEANUP_FREE char *logs = str_format("/containers/%s/logs?follow=1&stdout=1&stderr=1", id);
	CLEANUP_FREE char *wait = str_format("/containers/%s/wait", id);
	CLEANUP_JSON json_t *out = NULL;
	struct demux d = { 0 };
	struct error err = { 0 };
	int r = client_bytes("GET", logs, NULL, on_bytes, &d, &err);

	buf_free(&d.b);
	if (!r)
		r = client_call("POST", wait, NULL, &out, &err);
	return r < 0 ? fail(&err) : (int)json_int(out, "StatusCode", 1);
}

int cmd_run(int argc, char **argv)
{
	CLEANUP_JSON json_t *body = json_pack("{s:{}}", "HostConfig");
	CLEANUP_JSON json_t *out = NULL;
	CLEANUP_FREE char *name = NULL, *path = NULL, *start = NULL, *remove = NULL;
	struct run r = { .body = body, .host_config = json_object_get(body, "HostConfig") };
	struct error err = { 0 };
	bool auto_remove;
	int status = parse(&r, argc, argv);

	if (status)
		return status;
	/* Output is read from the log, which must outlive the container for a moment. */
	auto_remove = json_bool(r.host_config, "AutoRemove", false);
	if (!r.detach)
		json_object_del(r.host_config, "AutoRemove");
	name = client_escape(r.name ? r.name : "");
	path = r.name ? str_format("/containers/create?name=%s", name)
		      : str_dup("/containers/create");
	if (client_call("POST", path, body, &out, &err) < 0)
		return fail(&err) == 2 ? 2 : 125;
	start = str_format("/containers/%s/start", json_str(out, "Id", ""));
	remove = str_format("/containers/%s?force=1&v=1", json_str(out, "Id", ""));
	if (client_call("POST", start, NULL, NULL, &err) < 0) {
		status = fail(&err);
		if (auto_remove)
			client_call("DELETE", remove, NULL, NULL, NULL);
		return status == 2 ? 2 : 125;
	}
	if (r.detach) {
		puts(json_str(out, "Id", ""));
		return 0;
	}
	status = follow(json_str(out, "Id", ""));
	if (auto_remove)
		client_call("DELETE", remove, NULL, NULL, NULL);
	return status;
}
