/* SPDX-License-Identifier: Apache-2.0 */
/* ferry pull and ferry push; logins are those of `docker login` (its config.json). */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "api/cli/cli.h"
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

#define CONFIG_MAX (1u << 20)
#define HUB	   "https://index.docker.io/v1/"

/* --- the login ------------------------------------------------------------------------ */

static json_t *docker_config(void)
{
	const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
	CLEANUP_FREE char *path = dir && *dir
					  ? str_format("%s/config.json", dir)
					  : str_format("%s/.docker/config.json", home ? home : "");

	return json_parse_file(path, CONFIG_MAX, NULL);
}

/* The registry of an image name, as config.json calls it (caller frees). */
static char *registry_of(const char *name)
{
	size_t n = strcspn(name, "/");

	if (!name[n] ||
	    (!memchr(name, '.', n) && !memchr(name, ':', n) &&
	     strncmp(name, "localhost/", n + 1) != 0) ||
	    str_starts(name, "docker.io/"))
		return str_dup(HUB);
	return str_format("%.*s", (int)n, name);
}

/* "user:password" in base64 to its two halves; false: it is not that. */
static bool split_auth(const char *auth, json_t *login)
{
	size_t len = strlen(auth);
	CLEANUP_FREE char *plain = mem_zalloc(len + 4);
	char *colon;

	if (len % 4 ||
	    EVP_DecodeBlock((unsigned char *)plain, (const unsigned char *)auth, (int)len) < 0)
		return false;
	colon = strchr(plain, ':');
	if (!colon)
		return false;
	*colon = '\0';
	json_set_str(login, "username", plain);
	json_set_str(login, "password", colon + 1);
	return true;
}

/* The header that carries the login for this image, where there is one. */
static void use_login(const char *name)
{
	CLEANUP_JSON json_t *config = docker_config(), *login = NULL;
	CLEANUP_FREE char *registry = registry_of(name), *text = NULL, *coded = NULL, *line = NULL;
	const json_t *entry = json_object_get(json_object_get(config, "auths"), registry);
	const char *auth = json_str(entry, "auth", ""),
		   *token = json_str(entry, "identitytoken", NULL);

	login = json_pack("{s:s}", "serveraddress", registry);
	if (token)
		json_set_str(login, "identitytoken", token);
	if (!split_auth(auth, login) && !token)
		return;
	text = json_text(login);
	coded = base64_encode(text);
	for (char *p = coded; *p; p++)
		*p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
	line = str_format("X-Registry-Auth: %s", coded);
	client_set_header(line);
}

/* --- progress -------------------------------------------------------------------------- */

struct view {
	bool quiet, terminal;
	int status;
};

static int show(void *ctx, json_t *line)
{
	struct view *v = ctx;
	const json_t *detail = json_object_get(line, "progressDetail");
	const char *status = json_str(line, "status", NULL), *error = json_str(line, "error", NULL);
	const char *id = json_str(line, "id", NULL);
	int64_t total = json_int(detail, "total", 0);

	if (error) {
		fprintf(stderr, "ferry: %s\n", error);
		v->status = 1;
		return 0;
	}
	if (!status || v->quiet)
		return 0;
	if (total && !v->terminal)
		return 0;
	if (total)
		printf("\r%s: %s %3d %%", id ? id : "", status,
		       (int)(json_int(detail, "current", 0) * 100 / total));
	else
		printf("%s%s%s%s\n", v->terminal ? "\r\033[K" : "", id ? id : "", id ? ": " : "",
		       status);
	fflush(stdout);
	return 0;
}

static int carry(const char *verb, const char *path, const char *name, bool quiet)
{
	struct view v = { .quiet = quiet, .terminal = isatty(1) };
	struct error err = { 0 };

	use_login(name);
	if (client_lines("POST", path, NULL, show, &v, &err) < 0)
		return fail(&err);
	if (!v.status && quiet && !strcmp(verb, "pull"))
		puts(name);
	return v.status;
}

static int options_of(const char *verb, const char *usage, int argc, char **argv, bool *quiet,
		      const char **platform)
{
	static const struct option options[] = { { "quiet", no_argument, NULL, 'q' },
						 { "platform", required_argument, NULL, 'p' },
						 { "help", no_argument, NULL, 'h' },
						 { NULL, 0, NULL, 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "q", options, NULL)) != -1) {
		if (c == 'q')
			*quiet = true;
		else if (c == 'p' && platform)
			*platform = optarg;
		else if (c == 'h')
			return puts(usage) < 0 ? 1 : -1;
		else
			return usage_error(verb, "that option is not known");
	}
	return optind + 1 == argc ? 0 : usage_error(verb, "give the name of one image");
}

int cmd_pull(int argc, char **argv)
{
	CLEANUP_BUF struct buf path = { 0 };
	CLEANUP_FREE char *name = NULL;
	const char *platform = NULL;
	bool quiet = false;
	int r = options_of(
		"ferry pull",
		"Usage: ferry pull [-q] [--platform linux/ARCH] NAME[:TAG|@sha256:DIGEST]", argc,
		argv, &quiet, &platform);

	if (r)
		return r < 0 ? 0 : r;
	name = client_escape(argv[optind]);
	buf_addf(&path, "/images/create?fromImage=%s", name);
	if (platform) {
		CLEANUP_FREE char *p = client_escape(platform);

		buf_addf(&path, "&platform=%s", p);
	}
	return carry("pull", path.data, argv[optind], quiet);
}

int cmd_push(int argc, char **argv)
{
	CLEANUP_FREE char *path = NULL;
	bool quiet = false;
	int r = options_of("ferry push", "Usage: ferry push [-q] NAME[:TAG]", argc, argv, &quiet,
			   NULL);

	if (r)
		return r < 0 ? 0 : r;
	path = str_format("/images/%s/push", argv[optind]);
	return carry("push", path, argv[optind], quiet);
}
