/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers as they are shown: Docker's inspect and list JSON, made from the document,
 * the image and, on the owning host, what its manager says.
 */
#include <string.h>
#include <time.h>

#include "fabric/internal.h"

#define SHOW_TIMEOUT_NS 10000000000ll

int fabric_container_resolve(struct fabric *f, const char *ref, char id[65], struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	int r = container_find(f, ref, &doc, err);

	if (!r)
		snprintf(id, 65, "%s", json_str(doc, "id", ""));
	return r;
}

/* --- inspect ---------------------------------------------------------------------------------- */

static void rfc3339(int64_t ns, char out[64])
{
	time_t t = (time_t)(ns / 1000000000);
	struct tm tm;
	size_t n;

	gmtime_r(&t, &tm);
	n = strftime(out, 64, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, 64 - n, ".%09lldZ", (long long)(ns % 1000000000));
}

static json_t *state_json(const json_t *doc, const json_t *live)
{
	const json_t *s = live ? live : json_object_get(doc, "state");
	const char *status = json_str(s, "Status", "created");
	bool paused = !strcmp(status, "paused"), running = paused || !strcmp(status, "running");

	return json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:I, s:I, s:s, s:s, s:s}", "Status",
			 status, "Running", running, "Paused", paused, "Restarting", 0, "OOMKilled",
			 json_bool(s, "OOMKilled", false), "Dead", 0, "Pid",
			 (json_int_t)(running ? json_int(s, "Pid", 0) : 0), "ExitCode",
			 (json_int_t)json_int(s, "ExitCode", 0), "Error", json_str(s, "Error", ""),
			 "StartedAt", json_str(s, "StartedAt", "0001-01-01T00:00:00Z"),
			 "FinishedAt", json_str(s, "FinishedAt", "0001-01-01T00:00:00Z"));
}

static json_t *mounts_json(struct fabric *f, const json_t *doc)
{
	json_t *out = json_array(), *v;
	size_t i;

	json_array_foreach (json_object_get(doc, "volumes"), i, v) {
		CLEANUP_FREE char *source =
			str_format("%s/volumes/%s", f->run_dir, json_str(v, "name", ""));

		json_array_append_new(
			out,
			json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:s}", "Type", "volume",
				  "Name", json_str(v, "name", ""), "Source", source, "Destination",
				  json_str(v, "destination", ""), "Driver",
				  json_str(v, "driver", f->ceph_pool ? "rbd" : "local"), "Mode",
				  "z", "RW", json_bool(v, "rw", true), "Propagation", ""));
	}
	json_array_foreach (json_object_get(doc, "binds"), i, v)
		json_array_append_new(out, json_pack("{s:s, s:s, s:s, s:s, s:b, s:s}", "Type",
						     "bind", "Source", json_str(v, "source", ""),
						     "Destination", json_str(v, "destination", ""),
						     "Mode", "", "RW", json_bool(v, "rw", true),
						     "Propagation", "rprivate"));
	return out;
}

/* {"80/tcp":[{"HostIp","HostPort"}]}; chosen ports are netd's. */
static json_t *ports_json(struct fabric *f, const json_t *doc)
{
	CLEANUP_JSON json_t *published = NULL;
	json_t *out = json_object(), *p;
	const char *spec;
	size_t i;

	json_object_foreach (json_at(doc, "docker.ExposedPorts"), spec, p)
		json_object_set_new(out, spec, json_null());
	if (!container_is_up(doc))
		return out;
	if (container_is_local(f, doc))
		netd_publish_list(f->netd, &published, NULL);
	json_array_foreach (published ? published : json_object_get(doc, "ports"), i, p) {
		CLEANUP_FREE char *key = str_format("%lld/%s", (long long)json_int(p, "port", 0),
						    json_str(p, "proto", "tcp"));
		CLEANUP_FREE char *port =
			str_format("%lld", (long long)json_int(p, "host_port", 0));
		const char *ip = json_str(p, "host_ip", "");
		json_t *list;

		if (published && strcmp(json_str(p, "id", ""), json_str(doc, "id", "")))
			continue;
		list = json_object_get(out, key);
		if (!json_is_array(list)) {
			list = json_array();
			json_object_set_new(out, key, list);
		}
		json_array_append_new(list, json_pack("{s:s, s:s}", "HostIp", *ip ? ip : "0.0.0.0",
						      "HostPort", port));
	}
	return out;
}

static json_t *network_entry(struct fabric *f, const json_t *doc, const json_t *ep)
{
	CLEANUP_FREE char *key = str_format("networks/%s", json_str(ep, "network", ""));
	CLEANUP_JSON json_t *net = document_cached(f, key);
	const char *slash = strchr(json_str(net, "subnet", "/24"), '/');
	bool up = container_is_up(doc);

	return json_pack(
		"{s:n, s:n, s:O, s:s, s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:i}", "IPAMConfig",
		"Links", "Aliases", json_object_get(ep, "aliases"), "NetworkID",
		json_str(ep, "network", ""), "EndpointID", up ? json_str(doc, "id", "") : "",
		"Gateway", up ? json_str(net, "gateway", "") : "", "IPAddress",
		up ? json_str(ep, "ip", "") : "", "MacAddress", up ? json_str(ep, "mac", "") : "",
		"IPPrefixLen", up && slash ? atoi(slash + 1) : 0, "IPv6Gateway", "",
		"GlobalIPv6Address", "", "GlobalIPv6PrefixLen", 0);
}

static json_t *networks_json(struct fabric *f, const json_t *doc)
{
	json_t *out = json_object(), *ep;
	size_t i;

	json_array_foreach (json_object_get(doc, "endpoints"), i, ep)
		json_object_set_new(out, json_str(ep, "network_name", "?"),
				    network_entry(f, doc, ep));
	return out;
}

/* The create body's Config with the image's values where it leaves them open. */
static json_t *config_json(struct fabric *f, const json_t *doc)
{
	static const char *const inherited[] = { "Cmd",	    "Entrypoint",   "WorkingDir", "User",
						 "Volumes", "ExposedPorts", "StopSignal" };
	CLEANUP_JSON json_t *image = NULL;
	json_t *config = json_copy(json_object_get(doc, "docker")), *labels, *env = json_array();
	json_t *from, *v;
	size_t i;

	json_object_del(config, "HostConfig");
	json_object_del(config, "NetworkingConfig");
	image_get(f->images, json_str(doc, "image", ""), &image, NULL);
	from = json_object_get(image, "Config");
	for (i = 0; i < sizeof(inherited) / sizeof(inherited[0]); i++) {
		v = json_object_get(config, inherited[i]);
		if ((!v || json_is_null(v) || (json_is_string(v) && !*json_string_value(v))) &&
		    json_object_get(from, inherited[i]))
			json_object_set(config, inherited[i], json_object_get(from, inherited[i]));
	}
	if (json_is_array(json_object_get(config, "Env")))
		json_array_extend(env, json_object_get(config, "Env"));
	json_array_foreach (json_object_get(from, "Env"), i, v) {
		const char *text = json_is_string(v) ? json_string_value(v) : "";
		size_t k, n = strcspn(text, "=") + 1;
		bool there = false;
		json_t *mine;

		json_array_foreach (env, k, mine)
			there |= json_is_string(mine) && !strncmp(json_string_value(mine), text, n);
		if (!there)
			json_array_append(env, v);
	}
	json_object_set_new(config, "Env", env);
	labels = json_object();
	json_object_update(labels, json_object_get(from, "Labels"));
	json_object_update(labels, json_object_get(config, "Labels"));
	json_object_set(labels, "ferry.host", json_object_get(doc, "host"));
	json_object_set_new(config, "Labels", labels);
	if (!*json_str(config, "Hostname", ""))
		json_object_set_new(config, "Hostname", json_stringn(json_str(doc, "id", ""), 12));
	return config;
}

static int inspect_here(struct fabric *f, const json_t *doc, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *live = NULL;
	CLEANUP_FREE char *name = str_format("/%s", json_str(doc, "name", ""));
	json_t *networks = networks_json(f, doc), *host_config, *first = NULL, *j;
	char created[64];
	void *iter;

	if (container_is_local(f, doc) &&
	    container_inspect(f->containers, json_str(doc, "id", ""), &live, err) < 0)
		error_clear(err); /* being made or removed: the document is what there is */
	rfc3339(json_int(doc, "created_ns", 0), created);
	iter = json_object_iter(networks);
	if (iter)
		first = json_object_iter_value(iter);
	host_config = json_copy(json_at(doc, "docker.HostConfig"));
	json_set_str(host_config, "NetworkMode", json_str(doc, "network_mode", "bridge"));
	/* Clients but the CLI leave these out and read them all the same. */
	if (!*json_str(json_object_get(host_config, "LogConfig"), "Type", ""))
		json_object_set_new(host_config, "LogConfig",
				    json_pack("{s:s, s:{}}", "Type", "json-file", "Config"));
	if (!json_is_object(json_object_get(host_config, "RestartPolicy")))
		json_object_set_new(host_config, "RestartPolicy",
				    json_pack("{s:s, s:i}", "Name", "no", "MaximumRetryCount", 0));
	j = json_pack("{s:s, s:s, s:s, s:o, s:s, s:s, s:i, s:s, s:s, s:s, s:s, s:o, s:o}", "Id",
		      json_str(doc, "id", ""), "Created", created, "Name", name, "State",
		      state_json(doc, live), "Image", json_str(doc, "image", ""), "Driver",
		      "overlay2", "RestartCount", 0, "Platform", "linux", "MountLabel", "",
		      "ProcessLabel", "", "AppArmorProfile", "", "HostConfig", host_config,
		      "Mounts", mounts_json(f, doc));
	json_set_str(j, "Path", json_str(live, "Path", ""));
	json_object_set_new(j, "Args",
			    json_is_array(json_object_get(live, "Args"))
				    ? json_incref(json_object_get(live, "Args"))
				    : json_array());
	json_set_str(j, "LogPath", json_str(live, "LogPath", ""));
	json_set_str(j, "ResolvConfPath", "");
	json_set_str(j, "HostnamePath", "");
	json_set_str(j, "HostsPath", "");
	json_object_set_new(j, "ExecIDs",
			    json_array_size(json_object_get(live, "ExecIDs"))
				    ? json_incref(json_object_get(live, "ExecIDs"))
				    : json_null());
	json_object_set_new(j, "GraphDriver",
			    json_pack("{s:s, s:{s:s, s:s}}", "Name", "overlay2", "Data",
				      "MergedDir", json_str(live, "Rootfs", ""), "UpperDir",
				      json_str(live, "Upper", "")));
	json_object_set_new(j, "Config", config_json(f, doc));
	json_object_set_new(
		j, "NetworkSettings",
		json_pack("{s:s, s:s, s:b, s:o, s:s, s:s, s:s, s:i, s:s, s:s, s:s, s:o}", "Bridge",
			  "", "SandboxID", json_str(doc, "id", ""), "HairpinMode", 0, "Ports",
			  ports_json(f, doc), "SandboxKey", json_str(live, "Netns", ""),
			  "EndpointID", json_str(first, "EndpointID", ""), "Gateway",
			  json_str(first, "Gateway", ""), "IPPrefixLen",
			  (int)json_int(first, "IPPrefixLen", 0), "IPAddress",
			  json_str(first, "IPAddress", ""), "IPv6Gateway", "", "MacAddress",
			  json_str(first, "MacAddress", ""), "Networks", networks));
	json_object_set_new(j, "Ferry",
			    json_pack("{s:s, s:O*}", "Host", json_str(doc, "host", ""), "Migration",
				      json_object_get(doc, "migration")));
	*out = j;
	return 0;
}

int fabric_container_inspect(struct fabric *f, const char *ref, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	int r = container_find(f, ref, &doc, err);

	if (r < 0)
		return r;
	if (!container_is_local(f, doc) &&
	    !container_forward(f, doc, "inspect", NULL, SHOW_TIMEOUT_NS, out, NULL))
		return 0;
	return inspect_here(f, doc, out, err); /* a host that does not answer: what we know */
}

/* --- list --------------------------------------------------------------------------- */

static void human(int64_t ns, char out[64])
{
	int64_t s = ns / 1000000000;

	if (s < 1)
		snprintf(out, 64, "Less than a second");
	else if (s < 60)
		snprintf(out, 64, "%lld second%s", (long long)s, s == 1 ? "" : "s");
	else if (s < 120)
		snprintf(out, 64, "About a minute");
	else if (s < 3600)
		snprintf(out, 64, "%lld minutes", (long long)s / 60);
	else if (s < 7200)
		snprintf(out, 64, "About an hour");
	else if (s < 48 * 3600)
		snprintf(out, 64, "%lld hours", (long long)s / 3600);
	else
		snprintf(out, 64, "%lld days", (long long)s / 86400);
}

static int64_t time_ns(const char *text)
{
	struct tm tm = { 0 };
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	return rest ? (int64_t)timegm(&tm) * 1000000000 : 0;
}

static char *status_text(const json_t *state)
{
	const char *status = json_str(state, "Status", "created");
	int64_t now = clock_real_ns();
	char since[64];

	if (!strcmp(status, "running") || !strcmp(status, "paused")) {
		human(now - time_ns(json_str(state, "StartedAt", "")), since);
		return str_format("Up %s%s", since, !strcmp(status, "paused") ? " (Paused)" : "");
	}
	if (!strcmp(status, "exited")) {
		human(now - time_ns(json_str(state, "FinishedAt", "")), since);
		return str_format("Exited (%lld) %s ago", (long long)json_int(state, "ExitCode", 0),
				  since);
	}
	return str_dup("Created");
}

static char *command_text(struct fabric *f, const json_t *doc)
{
	CLEANUP_JSON json_t *config = config_json(f, doc);
	CLEANUP_BUF struct buf b = { 0 };
	json_t *v;
	size_t i;

	buf_add(&b, "", 0);
	json_array_foreach (json_object_get(config, "Entrypoint"), i, v)
		buf_addf(&b, "%s%s", b.len ? " " : "", json_string_value(v));
	json_array_foreach (json_object_get(config, "Cmd"), i, v)
		buf_addf(&b, "%s%s", b.len ? " " : "", json_string_value(v));
	return TAKE_PTR(b.data);
}

static json_t *row_json(struct fabric *f, const json_t *doc)
{
	CLEANUP_FREE char *name = str_format("/%s", json_str(doc, "name", ""));
	CLEANUP_FREE char *status = status_text(json_object_get(doc, "state"));
	CLEANUP_FREE char *command = command_text(f, doc);
	CLEANUP_JSON json_t *by_port = ports_json(f, doc);
	json_t *labels = json_copy(json_at(doc, "docker.Labels")), *ports = json_array(), *list, *b;
	const char *spec;
	size_t i;

	if (!json_is_object(labels))
		labels = json_object();
	json_object_set(labels, "ferry.host", json_object_get(doc, "host"));
	json_object_foreach (by_port, spec, list) {
		const char *slash = strchr(spec, '/');
		json_int_t port = atoi(spec);

		if (!json_is_array(list))
			json_array_append_new(ports, json_pack("{s:I, s:s}", "PrivatePort", port,
							       "Type", slash ? slash + 1 : "tcp"));
		json_array_foreach (list, i, b)
			json_array_append_new(
				ports,
				json_pack("{s:s, s:I, s:I, s:s}", "IP", json_str(b, "HostIp", ""),
					  "PrivatePort", port, "PublicPort",
					  (json_int_t)atoi(json_str(b, "HostPort", "0")), "Type",
					  slash ? slash + 1 : "tcp"));
	}
	return json_pack(
		"{s:s, s:[s], s:s, s:s, s:s, s:I, s:o, s:s, s:s, s:o, s:{s:s}, s:{s:o}, s:o}", "Id",
		json_str(doc, "id", ""), "Names", name, "Image", json_str(doc, "image_ref", ""),
		"ImageID", json_str(doc, "image", ""), "Command", command, "Created",
		(json_int_t)(json_int(doc, "created_ns", 0) / 1000000000), "Ports", ports, "State",
		container_status(doc), "Status", status, "Labels", labels, "HostConfig",
		"NetworkMode", json_str(doc, "network_mode", "bridge"), "NetworkSettings",
		"Networks", networks_json(f, doc), "Mounts", mounts_json(f, doc));
}

/* Docker's filters: {"key":["a","b"]}, or {"key":{"a":true}} as old clients send them. */
static bool filter_any(const json_t *filters, const char *key,
		       bool (*matches)(const json_t *doc, const char *value), const json_t *doc)
{
	json_t *want = json_object_get(filters, key), *v;
	const char *text;
	size_t i;

	if (!want || (!json_array_size(want) && !json_object_size(want)))
		return true;
	json_array_foreach (want, i, v)
		if (json_is_string(v) && matches(doc, json_string_value(v)))
			return true;
	if (json_is_object(want))
		json_object_foreach (want, text, v)
			if (matches(doc, text))
				return true;
	return false;
}

static bool by_status(const json_t *doc, const char *v)
{
	return !strcmp(container_status(doc), v);
}

static bool by_name(const json_t *doc, const char *v)
{
	return strstr(json_str(doc, "name", ""), *v == '/' ? v + 1 : v) != NULL;
}

static bool by_id(const json_t *doc, const char *v)
{
	return str_starts(json_str(doc, "id", ""), v);
}

static bool by_ancestor(const json_t *doc, const char *v)
{
	return !strcmp(json_str(doc, "image_ref", ""), v) || strstr(json_str(doc, "image", ""), v);
}

static bool by_volume(const json_t *doc, const char *value)
{
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(doc, "volumes"), i, v)
		if (!strcmp(json_str(v, "name", ""), value) ||
		    !strcmp(json_str(v, "destination", ""), value))
			return true;
	return false;
}

static bool by_network(const json_t *doc, const char *value)
{
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(doc, "endpoints"), i, v)
		if (!strcmp(json_str(v, "network_name", ""), value) ||
		    str_starts(json_str(v, "network", ""), value))
			return true;
	return !strcmp(json_str(doc, "network_mode", ""), value);
}

static bool by_exited(const json_t *doc, const char *value)
{
	const json_t *state = json_object_get(doc, "state");

	return !strcmp(json_str(state, "Status", ""), "exited") &&
	       json_int(state, "ExitCode", -1) == atoi(value);
}

static bool by_label(const json_t *doc, const char *value)
{
	const json_t *labels = json_at(doc, "docker.Labels");
	CLEANUP_FREE char *key = str_dup(value);
	char *eq = strchr(key, '=');
	const char *have;

	if (eq)
		*eq = '\0';
	have = !strcmp(key, "ferry.host") ? json_str(doc, "host", NULL)
					  : json_str(labels, key, NULL);
	return have && (!eq || !strcmp(have, eq + 1));
}

static const struct {
	const char *key;
	bool (*matches)(const json_t *doc, const char *value);
} filters_known[] = {
	{ "status", by_status },     { "name", by_name },     { "id", by_id },
	{ "ancestor", by_ancestor }, { "volume", by_volume }, { "network", by_network },
	{ "exited", by_exited },     { "label", by_label },
};

static bool wanted(const json_t *doc, const json_t *filters)
{
	for (size_t i = 0; i < sizeof(filters_known) / sizeof(filters_known[0]); i++)
		if (!filter_any(filters, filters_known[i].key, filters_known[i].matches, doc))
			return false;
	return true;
}

int fabric_container_list(struct fabric *f, bool all, const json_t *filters, json_t **out,
			  struct error *err)
{
	CLEANUP_JSON json_t *docs = documents_cached(f, "containers/");
	json_t *doc, *v;
	const char *key;
	size_t i;

	json_object_foreach ((json_t *)(uintptr_t)filters, key, v) {
		bool known = false;

		for (i = 0; i < sizeof(filters_known) / sizeof(filters_known[0]); i++)
			known |= !strcmp(key, filters_known[i].key);
		if (!known)
			return error_set(err, EINVAL, "invalid filter '%s'", key);
	}
	all |= json_object_get(filters, "status") || json_object_get(filters, "exited");
	*out = json_array();
	json_array_foreach (docs, i, doc)
		if ((all || container_is_up(doc)) && wanted(doc, filters))
			json_array_insert_new(*out, 0, row_json(f, doc));
	return 0;
}
