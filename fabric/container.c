/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creating a container: its document, made from Docker's create body. Nothing runs yet;
 * what was reserved (name, addresses, folders) is given back when a later step fails.
 */
#include <string.h>

#include "base/log.h"
#include "fabric/internal.h"

#define CREATE_TIMEOUT_NS 120000000000ll

static const char *const adjectives[] = { "amber", "bold",  "brisk",  "calm",  "clear",	 "deep",
					  "eager", "fair",  "firm",   "keen",  "level",	 "lucid",
					  "mild",  "neat",  "noble",  "open",  "placid", "quick",
					  "quiet", "salty", "steady", "swift", "tidal",	 "windy" };
static const char *const harbours[] = { "antwerp", "bergen",  "bilbao",	  "bremen", "cadiz",
					"calais",  "cork",    "danzig",	  "dover",  "genoa",
					"hamburg", "havre",   "kiel",	  "lisbon", "malmo",
					"naples",  "odessa",  "piraeus",  "porto",  "riga",
					"tallinn", "trieste", "valletta", "visby" };

/* --- volumes and binds ---------------------------------------------------------------------- */

struct create {
	struct fabric *f;
	const json_t *body;
	json_t *image, *docker; /* docker: the body, normalised: what the runtime gets */
	json_t *doc;
	char *id;
	json_t *volumes, *binds; /* borrowed from doc */
};

static bool has_mount_at(const struct create *c, const char *destination)
{
	json_t *v;
	size_t i;

	json_array_foreach (c->volumes, i, v)
		if (!strcmp(json_str(v, "destination", ""), destination))
			return true;
	json_array_foreach (c->binds, i, v)
		if (!strcmp(json_str(v, "destination", ""), destination))
			return true;
	return false;
}

static int add_mount(struct create *c, const char *source, const char *destination, bool rw,
		     const char *driver, struct error *err)
{
	CLEANUP_FREE char *name = NULL;
	int r;

	if (!destination || destination[0] != '/')
		return error_set(err, EINVAL,
				 "invalid mount path: '%s' mount path must be absolute",
				 destination ? destination : "");
	if (has_mount_at(c, destination))
		return error_set(err, EINVAL, "Duplicate mount point: %s", destination);
	if (source && source[0] == '/') {
		json_array_append_new(c->binds, json_pack("{s:s, s:s, s:b}", "source", source,
							  "destination", destination, "rw", rw));
		return 0;
	}
	if (source && *source && !str_is_name(source))
		return error_set(err, EINVAL,
				 "\"%s\" includes invalid characters for a volume name; a host "
				 "path must be absolute",
				 source);
	r = volume_ensure(c->f, source, driver, NULL, &name, err);
	if (r < 0)
		return error_wrap(err, "volume %s", source && *source ? source : "(anonymous)");
	json_array_append_new(c->volumes,
			      json_pack("{s:s, s:s, s:b, s:b}", "name", name, "destination",
					destination, "rw", rw, "anonymous", !source || !*source));
	return 0;
}

/* "source:destination[:options]", "destination" */
static int add_bind(struct create *c, const char *spec, struct error *err)
{
	CLEANUP_FREE char *copy = str_dup(spec);
	char *save = NULL;
	char *a = strtok_r(copy, ":", &save), *b = strtok_r(NULL, ":", &save);
	char *options = strtok_r(NULL, ":", &save);
	bool rw = true;

	if (!a || (save && *save))
		return error_set(err, EINVAL, "invalid volume specification: '%s'", spec);
	if (!b)
		return add_mount(c, NULL, a, true, NULL, err);
	for (char *o = options ? strtok_r(options, ",", &save) : NULL; o;
	     o = strtok_r(NULL, ",", &save)) {
		if (!strcmp(o, "ro"))
			rw = false;
		else if (strcmp(o, "rw") && strcmp(o, "z") && strcmp(o, "Z") &&
			 strcmp(o, "rprivate"))
			return error_set(err, EINVAL,
					 "invalid mode: '%s' of volume '%s'; ro and rw are known",
					 o, spec);
	}
	return add_mount(c, a, b, rw, NULL, err);
}

static int add_mount_object(struct create *c, const json_t *m, struct error *err)
{
	const char *type = json_str(m, "Type", "volume"), *target = json_str(m, "Target", NULL);
	json_t *tmpfs, *host_config = json_object_get(c->docker, "HostConfig");

	if (!strcmp(type, "tmpfs")) {
		CLEANUP_FREE char *options = NULL;
		int64_t size = 0;
		json_t *o = json_object_get(m, "TmpfsOptions");

		if (!target || target[0] != '/')
			return error_set(err, EINVAL, "a tmpfs mount needs an absolute target");
		size = json_int(o, "SizeBytes", 0);
		options = size > 0 ? str_format("size=%lld", (long long)size) : str_dup("");
		tmpfs = json_object_get(host_config, "Tmpfs");
		if (!json_is_object(tmpfs)) {
			tmpfs = json_object();
			json_object_set_new(host_config, "Tmpfs", tmpfs);
		}
		json_set_str(tmpfs, target, options);
		return 0;
	}
	if (strcmp(type, "volume") && strcmp(type, "bind"))
		return error_set(err, EINVAL,
				 "mount type \"%s\" is not known; use volume, bind or tmpfs", type);
	if (!strcmp(type, "bind") && json_str(m, "Source", "")[0] != '/')
		return error_set(err, EINVAL,
				 "the source of a bind mount must be an absolute path");
	return add_mount(c, json_str(m, "Source", ""), target, !json_bool(m, "ReadOnly", false),
			 json_str(json_at(m, "VolumeOptions.DriverConfig"), "Name", NULL), err);
}

static int add_mounts(struct create *c, struct error *err)
{
	json_t *host_config = json_object_get(c->docker, "HostConfig"), *v;
	const char *path;
	size_t i;
	int r;

	json_array_foreach (json_object_get(host_config, "Binds"), i, v) {
		r = json_is_string(v) ? add_bind(c, json_string_value(v), err)
				      : error_set(err, EINVAL, "\"Binds\" must hold strings");
		if (r < 0)
			return r;
	}
	json_array_foreach (json_object_get(host_config, "Mounts"), i, v) {
		r = add_mount_object(c, v, err);
		if (r < 0)
			return r;
	}
	json_object_foreach (json_object_get(c->docker, "Volumes"), path, v) {
		if (has_mount_at(c, path))
			continue;
		r = add_mount(c, NULL, path, true, NULL, err);
		if (r < 0)
			return r;
	}
	json_object_foreach (json_at(c->image, "Config.Volumes"), path, v) {
		if (has_mount_at(c, path) ||
		    json_object_get(json_object_get(host_config, "Tmpfs"), path))
			continue;
		r = add_mount(c, NULL, path, true, NULL, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- networks and ports ---------------------------------------------------------------------- */

static int add_endpoint(struct create *c, const char *ref, const json_t *config, struct error *err)
{
	CLEANUP_JSON json_t *net = NULL;
	CLEANUP_JSON json_t *aliases = json_array();
	CLEANUP_FREE char *ip = NULL, *mac = NULL;
	const char *wanted = json_str(json_object_get(config, "IPAMConfig"), "IPv4Address", NULL);
	unsigned int b[4];
	int r = strcmp(ref, "bridge") ? network_find(c->f, ref, &net, err)
				      : network_default(c->f, &net, err);

	if (r < 0)
		return r;
	r = network_address_take(c->f, net, c->id, wanted && *wanted ? wanted : NULL, &ip, err);
	if (r < 0)
		return r;
	if (sscanf(ip, "%u.%u.%u.%u", &b[0], &b[1], &b[2], &b[3]) != 4)
		return error_set(err, EPROTO, "network %s gave address %s", ref, ip);
	mac = str_format("02:42:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3]);
	if (json_is_array(json_object_get(config, "Aliases")))
		json_array_extend(aliases, json_object_get(config, "Aliases"));
	json_array_append_new(json_object_get(c->doc, "endpoints"),
			      json_pack("{s:s, s:s, s:I, s:s, s:s, s:O}", "network",
					json_str(net, "id", ""), "network_name",
					json_str(net, "name", ""), "vni",
					(json_int_t)json_int(net, "vni", 0), "ip", ip, "mac", mac,
					"aliases", aliases));
	return 0;
}

static int add_endpoints(struct create *c, struct error *err)
{
	const char *mode = json_str(json_object_get(c->docker, "HostConfig"), "NetworkMode", "");
	json_t *configs = json_at(c->docker, "NetworkingConfig.EndpointsConfig"), *config;
	const char *name;
	int r;

	if (!*mode || !strcmp(mode, "default"))
		mode = "bridge";
	if (str_starts(mode, "container:"))
		return error_set(err, EOPNOTSUPP,
				 "sharing another container's network (%s) is not supported; put "
				 "both on one network",
				 mode);
	json_set_str(c->doc, "network_mode", mode);
	if (!strcmp(mode, "host") || !strcmp(mode, "none"))
		return 0;
	r = add_endpoint(c, mode, json_object_get(configs, mode), err);
	if (r < 0)
		return r;
	json_object_foreach (configs, name, config) {
		if (!strcmp(name, mode) || !strcmp(name, "default"))
			continue;
		r = add_endpoint(c, name, config, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_port(struct create *c, const char *spec, const char *host_ip, const char *host_port,
		    struct error *err)
{
	CLEANUP_FREE char *copy = str_dup(spec);
	char *slash = strchr(copy, '/');
	const char *proto = slash ? slash + 1 : "tcp";
	int64_t port, on_host = 0;

	if (slash)
		*slash = '\0';
	if (str_to_i64(copy, 1, 65535, &port) < 0)
		return error_set(err, EINVAL, "invalid port specification: \"%s\"", spec);
	if (strcmp(proto, "tcp") && strcmp(proto, "udp"))
		return error_set(err, EINVAL, "port %s: only tcp and udp can be published", spec);
	if (host_port && *host_port && str_to_i64(host_port, 0, 65535, &on_host) < 0)
		return error_set(err, EINVAL, "invalid host port \"%s\" for %s", host_port, spec);
	if (!json_array_size(json_object_get(c->doc, "endpoints")))
		return error_set(err, EINVAL, "ports can be published only on a network; not on %s",
				 json_str(c->doc, "network_mode", ""));
	json_array_append_new(json_object_get(c->doc, "ports"),
			      json_pack("{s:s, s:I, s:s, s:I}", "proto", proto, "port",
					(json_int_t)port, "host_ip", host_ip ? host_ip : "",
					"host_port", (json_int_t)on_host));
	return 0;
}

static int add_ports(struct create *c, struct error *err)
{
	json_t *host_config = json_object_get(c->docker, "HostConfig"), *list, *b;
	const char *spec;
	size_t i;
	int r;

	json_object_foreach (json_object_get(host_config, "PortBindings"), spec, list) {
		json_array_foreach (list, i, b) {
			r = add_port(c, spec, json_str(b, "HostIp", ""),
				     json_str(b, "HostPort", ""), err);
			if (r < 0)
				return r;
		}
	}
	if (!json_bool(host_config, "PublishAllPorts", false))
		return 0;
	json_object_foreach (json_at(c->image, "Config.ExposedPorts"), spec, list) {
		if (json_object_get(json_object_get(host_config, "PortBindings"), spec))
			continue;
		r = add_port(c, spec, "", "", err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- the whole ---------------------------------------------------------------------- */

static void give_back(struct create *c)
{
	json_t *ep;
	size_t i;

	json_array_foreach (json_object_get(c->doc, "endpoints"), i, ep)
		network_address_free(c->f, json_str(ep, "network", ""), json_str(ep, "ip", ""));
}

int container_reserve_name(struct fabric *f, const char *name, const char *id, struct error *err)
{
	CLEANUP_FREE char *key = str_format("names/%s", name);
	CLEANUP_JSON json_t *doc = json_pack("{s:s}", "id", id);
	int r = document_new(f, key, doc, err);

	if (r == -EEXIST) {
		CLEANUP_JSON json_t *there = NULL;

		document_get(f, key, &there, NULL);
		return error_set(err, EEXIST,
				 "Conflict. The container name \"/%s\" is already in use by "
				 "container \"%s\". You have to remove (or rename) that container "
				 "to be able to reuse that name.",
				 name, json_str(there, "id", "?"));
	}
	return r;
}

static int make_up_name(struct fabric *f, const char *id, char **name, struct error *err)
{
	int r = -EEXIST;

	for (int i = 0; r == -EEXIST && i < 50; i++) {
		CLEANUP_FREE char *hex = str_random_hex(3);
		uint64_t n = 0;

		str_to_u64x(hex, 0xffffff, &n);
		free(*name);
		*name = str_format(i < 20 ? "%s_%s" : "%s_%s_%s", adjectives[n % 24],
				   harbours[(n >> 8) % 24], hex);
		r = container_reserve_name(f, *name, id, err);
	}
	return r;
}

int container_materialise(struct fabric *f, const json_t *doc, struct error *err)
{
	CLEANUP_JSON json_t *image = NULL;
	char **lower = NULL;
	size_t n = 0;
	int r = image_get(f->images, json_str(doc, "image", ""), &image, err);

	if (!r)
		r = image_lower_dirs(f->images, json_str(doc, "image", ""), &lower, &n, err);
	if (r < 0)
		return r;
	r = container_create(f->containers, json_str(doc, "id", ""), json_str(doc, "name", ""),
			     json_object_get(doc, "docker"), image, lower, n, err);
	image_dirs_free(lower, n);
	return r;
}

static int fill(struct create *c, struct error *err)
{
	int r = container_check(c->docker, c->image, err);

	if (!r)
		r = add_mounts(c, err);
	if (!r)
		r = add_endpoints(c, err);
	if (!r)
		r = add_ports(c, err);
	return r;
}

static int create_here(struct fabric *f, const char *name, const json_t *body, json_t **out,
		       struct error *err)
{
	const char *image_ref = NULL;
	CLEANUP_FREE char *id = str_random_hex(32), *made = str_dup(name), *key = NULL;
	CLEANUP_FREE char *name_key = NULL;
	CLEANUP_JSON json_t *image = NULL;
	CLEANUP_JSON json_t *docker = json_deep_copy(body);
	CLEANUP_JSON json_t *doc = NULL;
	struct create c = { .f = f, .body = body, .id = id, .docker = docker };
	int r = json_want_str(body, "Image", true, &image_ref, err);

	if (r < 0)
		return r;
	if (name && !str_is_name(name))
		return error_set(
			err, EINVAL,
			"Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
			name);
	if (!json_is_object(json_object_get(docker, "HostConfig")))
		json_object_set_new(docker, "HostConfig", json_object());
	r = image_ensure(f, image_ref, NULL, &image, err);
	if (r < 0)
		return r;
	r = name ? container_reserve_name(f, name, id, err) : make_up_name(f, id, &made, err);
	if (r < 0)
		return r;
	name_key = str_format("names/%s", made);
	doc = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:O, s:[], s:[], s:[], s:[], s:s, s:{s:s}}",
			"id", id, "name", made, "host", f->host, "image", json_str(image, "Id", ""),
			"image_ref", image_ref, "created_ns", (json_int_t)clock_real_ns(), "docker",
			docker, "volumes", "binds", "endpoints", "ports", "desired", "stopped",
			"state", "Status", "created");
	c.doc = doc;
	c.image = image;
	c.volumes = json_object_get(doc, "volumes");
	c.binds = json_object_get(doc, "binds");
	r = fill(&c, err);
	if (!r)
		r = container_materialise(f, doc, err);
	if (!r) {
		key = container_key(id);
		r = document_new(f, key, doc, err);
		if (r < 0)
			container_remove(f->containers, id, NULL);
	}
	if (r < 0) {
		give_back(&c);
		document_delete(f, name_key, NULL);
		return r;
	}
	container_event(f, doc, "create", NULL, NULL);
	*out = json_pack("{s:s, s:[]}", "Id", id, "Warnings");
	return 0;
}

static int rpc_create(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		      struct error *err)
{
	(void)req;
	return create_here(ctx, json_str(params, "name", NULL), json_object_get(params, "body"),
			   result, err);
}

/* A container asks for a host with the label "ferry.host". */
int fabric_container_create(struct fabric *f, const char *name, const json_t *body, json_t **out,
			    struct error *err)
{
	const char *host = json_str(json_object_get(body, "Labels"), "ferry.host", NULL);
	CLEANUP_JSON json_t *params = NULL;

	if (!json_is_object(body))
		return error_set(err, EINVAL, "the request body must be a JSON object");
	if (!host || !strcmp(host, f->host))
		return create_here(f, name, body, out, err);
	if (!f->client)
		return error_set(
			err, ENOENT,
			"unknown host %s: this host is in no cluster; see 'ferry cluster init'",
			host);
	params = json_pack("{s:s*, s:O}", "name", name, "body", body);
	return rpc_call(f->client, host, "container.create", params, CREATE_TIMEOUT_NS, out, err);
}

const struct rpc_method container_create_methods[] = {
	{ "container.create", rpc_create, NULL, 0 },
	{ NULL, NULL, NULL, 0 },
};

void container_event(struct fabric *f, const json_t *doc, const char *action, const char *extra_key,
		     const char *extra_value)
{
	CLEANUP_JSON json_t *attributes =
		json_pack("{s:s, s:s, s:s}", "name", json_str(doc, "name", ""), "image",
			  json_str(doc, "image_ref", ""), "ferry.host", json_str(doc, "host", ""));
	json_t *labels = json_at(doc, "docker.Labels"), *v;
	const char *k;

	json_object_foreach (labels, k, v)
		if (json_is_string(v))
			json_object_set(attributes, k, v);
	if (extra_key)
		json_set_str(attributes, extra_key, extra_value);
	event_publish(f->events, "container", action, json_str(doc, "id", ""), attributes);
}
