/* SPDX-License-Identifier: Apache-2.0 */
/* ferryd's configuration; see config.h. The command line wins over the file. */
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/config.h"
#include "api/version.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

#define CONFIG_FILE	 "/etc/ferry/ferry.json"
#define CONFIG_MAX_BYTES (1 << 20)

static const char help[] =
	"Usage: ferryd [OPTION]...\n"
	"The ferry daemon: runs containers, serves the Docker Engine API and /ferry/v1.\n"
	"\n"
	"  -H, --socket PATH    listen on this unix socket (default: RUN/ferry.sock)\n"
	"      --config FILE    configuration (default: " CONFIG_FILE ", which may be missing)\n"
	"      --run-dir DIR    sockets and state that a reboot clears (default: /run/ferry)\n"
	"      --state-dir DIR  images, containers, local volumes (default: /var/lib/ferry)\n"
	"      --bin-dir DIR    where ferry-oci, ferry-shim, ferry-vold and ferry-checkpoint are\n"
	"                       (default: the folder of ferryd itself)\n"
	"      --host NAME      this host's name in the cluster (default: the host name)\n"
	"      --version        print the version\n"
	"      --help           print this\n"
	"\n"
	"Configuration, all fields optional:\n"
	"  {\"host\": \"a\", \"address\": \"10.0.0.1\", \"cgroup_parent\": \"ferry\",\n"
	"   \"memory_bytes\": \"4g\",\n"
	"   \"insecure_registries\": [\"10.0.0.9:5000\"], \"registry_mirrors\": "
	"[\"https://mirror\"],\n"
	"   \"registry_certs\": \"/etc/ferry/certs.d\",\n"
	"   \"ceph\": {\"conf\": \"/etc/ceph/ceph.conf\", \"user\": \"ferry\", \"pool\": "
	"\"ferry\",\n"
	"            \"state_pool\": \"ferry-state\"}}\n"
	"\n"
	"SIGTERM and SIGINT stop the daemon; containers, volumes and networks go on.\n";

static void set(char **field, const char *value)
{
	free(*field);
	*field = str_dup(value);
}

static int read_options(struct config *c, int argc, char **argv, enum config_action *action,
			struct error *err)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 'H' },
		{ "config", required_argument, NULL, 'c' },
		{ "run-dir", required_argument, NULL, 'r' },
		{ "state-dir", required_argument, NULL, 's' },
		{ "bin-dir", required_argument, NULL, 'b' },
		{ "host", required_argument, NULL, 'n' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int o;

	opterr = 0;
	while ((o = getopt_long(argc, argv, ":H:", options, NULL)) != -1) {
		switch (o) {
		case 'H':
			set(&c->socket, str_starts(optarg, "unix://") ? optarg + 7 : optarg);
			break;
		case 'c':
			set(&c->file, optarg);
			break;
		case 'r':
			set(&c->run_dir, optarg);
			break;
		case 's':
			set(&c->state_dir, optarg);
			break;
		case 'b':
			set(&c->bin_dir, optarg);
			break;
		case 'n':
			set(&c->host, optarg);
			break;
		case 'v':
			puts("ferryd " FERRY_VERSION);
			*action = CONFIG_EXIT;
			return 0;
		case 'h':
			fputs(help, stdout);
			*action = CONFIG_EXIT;
			return 0;
		case ':':
			return error_set(err, EINVAL, "option %s needs a value; see ferryd --help",
					 argv[optind - 1]);
		default:
			return error_set(err, EINVAL, "unknown option %s; see ferryd --help",
					 argv[optind - 1]);
		}
	}
	if (optind < argc)
		return error_set(err, EINVAL, "unexpected argument \"%s\"; see ferryd --help",
				 argv[optind]);
	return 0;
}

static int want(const json_t *obj, const char *key, const char **out, struct error *err)
{
	int r = json_want_str(obj, key, false, out, err);

	if (!r && *out && !**out)
		*out = NULL;
	return r;
}

/* A misspelt field would silently change what the daemon does. */
static int check_keys(const json_t *obj, const char *const known[], struct error *err)
{
	const char *key;
	json_t *v;

	json_object_foreach ((json_t *)(uintptr_t)obj, key, v) {
		size_t i = 0;

		while (known[i] && strcmp(known[i], key))
			i++;
		if (!known[i])
			return error_set(err, EINVAL, "unknown field \"%s\"", key);
	}
	return 0;
}

static int read_ceph(struct config *c, const json_t *ceph, struct error *err)
{
	static const char *const known[] = { "conf", "user", "pool", "state_pool", NULL };
	int r;

	if (!ceph || json_is_null(ceph))
		return 0;
	if (!json_is_object(ceph))
		return error_set(err, EINVAL, "field \"ceph\" must be an object");
	r = check_keys(ceph, known, err);
	if (!r)
		r = want(ceph, "conf", &c->fabric.ceph_conf, err);
	if (!r)
		r = want(ceph, "user", &c->fabric.ceph_user, err);
	if (!r)
		r = want(ceph, "pool", &c->fabric.ceph_pool, err);
	if (!r)
		r = want(ceph, "state_pool", &c->fabric.ceph_state_pool, err);
	return r < 0 ? error_wrap(err, "ceph") : 0;
}

/* A number of bytes, or a string with a unit ("4g"). */
static int read_memory(struct config *c, const json_t *v, struct error *err)
{
	uint64_t bytes = 0;

	if (!v || json_is_null(v))
		return 0;
	if (json_is_integer(v) && json_integer_value(v) > 0)
		bytes = (uint64_t)json_integer_value(v);
	else if (json_is_string(v) && str_to_bytes(json_string_value(v), &bytes) < 0)
		bytes = 0;
	if (!bytes || bytes > INT64_MAX)
		return error_set(err, EINVAL,
				 "field \"memory_bytes\" must be a number of bytes, or a size such "
				 "as \"4g\"");
	c->fabric.memory_bytes = (int64_t)bytes;
	return 0;
}

/* A list of strings, NULL-terminated (caller frees the list, not the strings). */
static int read_list(const json_t *obj, const char *key, const char ***out, struct error *err)
{
	const json_t *list = json_object_get(obj, key), *v;
	size_t i;

	free(*out);
	*out = mem_zalloc((json_array_size(list) + 1) * sizeof(**out));
	if (list && !json_is_null(list) && !json_is_array(list))
		return error_set(err, EINVAL, "field \"%s\" must be a list", key);
	json_array_foreach (list, i, v) {
		(*out)[i] = json_string_value(v);
		if (!(*out)[i] || !*(*out)[i])
			return error_set(err, EINVAL, "field \"%s\" must be a list of strings",
					 key);
	}
	return 0;
}

static int read_registries(struct config *c, struct error *err)
{
	struct fabric_config *f = &c->fabric;
	int r = read_list(c->json, "insecure_registries", &c->insecure_registries, err);

	if (!r)
		r = read_list(c->json, "registry_mirrors", &c->registry_mirrors, err);
	if (!r)
		r = want(c->json, "registry_certs", &f->registry_certs, err);
	for (size_t i = 0; !r && c->registry_mirrors[i]; i++)
		if (!str_starts(c->registry_mirrors[i], "https://") &&
		    !str_starts(c->registry_mirrors[i], "http://"))
			return error_set(err, EINVAL,
					 "field \"registry_mirrors\": \"%s\" is no URL; give "
					 "https://HOST",
					 c->registry_mirrors[i]);
	f->insecure_registries = c->insecure_registries;
	f->registry_mirrors = c->registry_mirrors;
	return r;
}

static int read_file(struct config *c, struct error *err)
{
	static const char *const known[] = { "host",
					     "address",
					     "cgroup_parent",
					     "memory_bytes",
					     "ceph",
					     "insecure_registries",
					     "registry_mirrors",
					     "registry_certs",
					     NULL };
	const char *path = c->file ? c->file : CONFIG_FILE, *host = NULL;
	int r;

	if (!c->file && access(path, F_OK))
		return 0;
	c->json = json_parse_file(path, CONFIG_MAX_BYTES, err);
	if (!c->json)
		return error_wrap(err, "reading the configuration");
	if (!json_is_object(c->json))
		return error_set(err, EINVAL, "%s must hold a JSON object", path);
	r = check_keys(c->json, known, err);
	if (!r)
		r = want(c->json, "host", &host, err);
	if (!r)
		r = want(c->json, "address", &c->fabric.address, err);
	if (!r)
		r = want(c->json, "cgroup_parent", &c->fabric.cgroup_parent, err);
	if (!r)
		r = read_memory(c, json_object_get(c->json, "memory_bytes"), err);
	if (!r)
		r = read_registries(c, err);
	if (!r)
		r = read_ceph(c, json_object_get(c->json, "ceph"), err);
	if (r < 0)
		return error_wrap(err, "%s", path);
	if (host && !c->host)
		set(&c->host, host);
	return 0;
}

/* The folder of the running program. */
static int own_folder(char **out, struct error *err)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash;

	if (n < 0)
		return error_sys(err, errno, "reading /proc/self/exe");
	path[n] = '\0';
	slash = strrchr(path, '/');
	if (slash)
		*slash = '\0';
	set(out, path);
	return 0;
}

int config_read(struct config *c, int argc, char **argv, enum config_action *action,
		struct error *err)
{
	int r;

	*action = CONFIG_RUN;
	r = read_options(c, argc, argv, action, err);
	if (r < 0 || *action == CONFIG_EXIT)
		return r;
	r = read_file(c, err);
	if (!r && !c->bin_dir)
		r = own_folder(&c->bin_dir, err);
	if (r < 0)
		return r;
	if (!c->run_dir)
		set(&c->run_dir, "/run/ferry");
	if (!c->state_dir)
		set(&c->state_dir, "/var/lib/ferry");
	if (!c->socket)
		c->socket = str_format("%s/ferry.sock", c->run_dir);
	c->fabric.host = c->host;
	c->fabric.run_dir = c->run_dir;
	c->fabric.state_dir = c->state_dir;
	c->fabric.bin_dir = c->bin_dir;
	if (!c->fabric.registry_certs)
		c->fabric.registry_certs = "/etc/ferry/certs.d";
	if (!c->fabric.cgroup_parent)
		c->fabric.cgroup_parent = "ferry";
	return 0;
}

void config_free(struct config *c)
{
	json_decref(c->json);
	free(c->insecure_registries);
	free(c->registry_mirrors);
	free(c->file);
	free(c->run_dir);
	free(c->state_dir);
	free(c->bin_dir);
	free(c->host);
	free(c->socket);
}
