/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's surroundings on this host: volumes attached and mounted, endpoints and
 * ports, and the processes; and all of it taken away again. Every step may be repeated.
 */
#include <signal.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "fabric/internal.h"

/* --- volumes -------------------------------------------------------------------------------- */

int container_volumes_up(struct fabric *f, const json_t *doc, struct error *err)
{
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(doc, "volumes"), i, v) {
		const char *name = json_str(v, "name", "");
		CLEANUP_FREE char *path = NULL;
		int r = volume_attach(f->volumes, name, VOLUME_RW, err);

		if (!r)
			r = volume_mount(f->volumes, name, &path, err);
		if (r < 0) {
			container_volumes_down(f, doc, NULL);
			return error_wrap(err, "attaching volume %s", name);
		}
	}
	return 0;
}

static bool volume_in_use(struct fabric *f, const char *name, const char *except)
{
	CLEANUP_JSON json_t *all = documents_cached(f, "containers/");
	json_t *c, *v;
	size_t i, k;

	json_array_foreach (all, i, c) {
		if (!container_is_local(f, c) || !container_is_up(c) ||
		    !strcmp(json_str(c, "id", ""), except))
			continue;
		json_array_foreach (json_object_get(c, "volumes"), k, v)
			if (!strcmp(json_str(v, "name", ""), name))
				return true;
	}
	return false;
}

int container_volumes_down(struct fabric *f, const json_t *doc, struct error *err)
{
	json_t *v;
	size_t i;
	int first = 0;

	json_array_foreach (json_object_get(doc, "volumes"), i, v) {
		const char *name = json_str(v, "name", "");
		struct error why = { 0 };
		int r;

		if (volume_in_use(f, name, json_str(doc, "id", "")))
			continue;
		r = volume_detach(f->volumes, name, &why);
		if (r < 0 && r != -ENOENT && !first)
			first = error_set(err, -r, "detaching volume %s: %.800s", name, why.msg);
	}
	return first;
}

/* --- endpoints and ports --------------------------------------------------------------------- */

static int one_endpoint(struct fabric *f, const json_t *doc, const json_t *ep, bool hold,
			char **netns, struct error *err)
{
	CLEANUP_FREE char *key = str_format("networks/%s", json_str(ep, "network", ""));
	CLEANUP_JSON json_t *net = document_cached(f, key);
	struct netd_endpoint e = {
		.id = json_str(doc, "id", ""),
		.network = json_str(ep, "network", ""),
		.ip4 = json_str(ep, "ip", ""),
		.mac = json_str(ep, "mac", NULL),
		.hold = hold,
	};
	int r;

	if (!net) {
		r = document_get(f, key, &net, err);
		if (r < 0)
			return error_wrap(err, "network %s", json_str(ep, "network_name", ""));
	}
	r = netd_network_add(f->netd, net, err);
	return r < 0 ? r : netd_endpoint_add(f->netd, &e, netns, err);
}

int container_endpoints_up(struct fabric *f, const json_t *doc, bool hold, char **netns,
			   struct error *err)
{
	const char *mode = json_str(doc, "network_mode", "bridge");
	char *path = NULL;
	json_t *ep;
	size_t i;

	*netns = NULL;
	if (!strcmp(mode, "host"))
		return 0;
	if (!strcmp(mode, "none")) {
		struct netd_endpoint e = { .id = json_str(doc, "id", "") };

		return netd_endpoint_add(f->netd, &e, netns, err);
	}
	json_array_foreach (json_object_get(doc, "endpoints"), i, ep) {
		int r;

		free(path);
		path = NULL;
		r = one_endpoint(f, doc, ep, hold, &path, err);
		if (r < 0) {
			free(path);
			netd_endpoint_remove(f->netd, json_str(doc, "id", ""), NULL);
			return error_wrap(err, "endpoint of container %s",
					  json_str(doc, "name", ""));
		}
	}
	*netns = path;
	return 0;
}

void container_endpoints_down(struct fabric *f, const json_t *doc)
{
	const char *id = json_str(doc, "id", "");
	struct error err = { 0 };

	if (netd_unpublish(f->netd, id, NULL, NULL, 0, &err) < 0 ||
	    netd_endpoint_remove(f->netd, id, &err) < 0)
		log_warn("container %.12s: %s", id, err.msg);
}

int container_publish(struct fabric *f, const json_t *doc, struct error *err)
{
	const char *id = json_str(doc, "id", "");
	json_t *p;
	size_t i;

	json_array_foreach (json_object_get(doc, "ports"), i, p) {
		uint16_t host_port = (uint16_t)json_int(p, "host_port", 0);
		int r = netd_publish(f->netd, id, NULL, json_str(p, "proto", "tcp"),
				     json_str(p, "host_ip", ""), &host_port,
				     (uint16_t)json_int(p, "port", 0), err);

		if (r < 0) {
			netd_unpublish(f->netd, id, NULL, NULL, 0, NULL);
			return error_wrap(err, "publishing port %lld",
					  (long long)json_int(p, "host_port", 0));
		}
	}
	return 0;
}

/* --- processes ---------------------------------------------------------------------- */

static char *hosts_file(const json_t *doc, const char *hostname)
{
	CLEANUP_BUF struct buf b = { 0 };
	json_t *ep = json_array_get(json_object_get(doc, "endpoints"), 0), *e;
	size_t i;

	buf_addf(&b, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
	if (ep)
		buf_addf(&b, "%s\t%s\n", json_str(ep, "ip", ""), hostname);
	json_array_foreach (json_at(doc, "docker.HostConfig.ExtraHosts"), i, e) {
		const char *text = json_is_string(e) ? json_string_value(e) : "";
		const char *colon = strchr(text, ':');

		if (colon)
			buf_addf(&b, "%s\t%.*s\n", colon + 1, (int)(colon - text), text);
	}
	return TAKE_PTR(b.data);
}

static char *resolv_conf(const json_t *doc)
{
	CLEANUP_BUF struct buf b = { 0 };
	json_t *v;
	size_t i;

	buf_addf(&b, "nameserver 127.0.0.11\n");
	if (json_array_size(json_at(doc, "docker.HostConfig.DnsSearch"))) {
		buf_addf(&b, "search");
		json_array_foreach (json_at(doc, "docker.HostConfig.DnsSearch"), i, v)
			buf_addf(&b, " %s", json_is_string(v) ? json_string_value(v) : "");
		buf_addf(&b, "\n");
	}
	buf_addf(&b, "options ndots:0\n");
	return TAKE_PTR(b.data);
}

int container_launch(struct fabric *f, const json_t *doc, const char *netns, bool stub,
		     const struct container_time_offsets *offsets, pid_t *init, struct error *err)
{
	const char *id = json_str(doc, "id", "");
	const char *wanted = json_str(json_object_get(doc, "docker"), "Hostname", "");
	CLEANUP_FREE char *hostname = *wanted ? str_dup(wanted) : str_format("%.12s", id);
	bool connected = json_array_size(json_object_get(doc, "endpoints")) > 0;
	CLEANUP_FREE char *hosts = hosts_file(doc, hostname);
	CLEANUP_FREE char *resolv = connected ? resolv_conf(doc) : NULL;
	json_t *volumes = json_object_get(doc, "volumes"), *binds = json_object_get(doc, "binds");
	size_t nv = json_array_size(volumes), nb = json_array_size(binds), n = 0;
	CLEANUP_FREE struct container_mount *mounts = mem_zalloc((nv + nb) * sizeof(*mounts));
	struct container_start_params params = {
		.netns = netns,
		.hostname = hostname,
		.resolv_conf = resolv,
		.hosts = hosts,
		.mounts = mounts,
		.stub = stub,
	};
	char **paths = mem_zalloc((nv + 1) * sizeof(*paths));
	json_t *v;
	size_t i;
	int r;

	if (offsets) {
		params.time_offsets = *offsets;
	} else {
		/* This host's clocks; said in full, so that a migration knows what they were. */
		params.time_offsets.set = true;
		fabric_clock_offsets(&params.time_offsets.mono_ns, &params.time_offsets.boot_ns);
	}
	/* A stub's volumes come later, once the source has let go of them. */
	json_array_foreach (volumes, i, v) {
		if (stub)
			break;
		r = volume_mount(f->volumes, json_str(v, "name", ""), &paths[i], err);
		if (r < 0)
			goto out;
		mounts[n++] = (struct container_mount){ paths[i], json_str(v, "destination", ""),
							!json_bool(v, "rw", true), true };
	}
	json_array_foreach (binds, i, v)
		mounts[n++] = (struct container_mount){ json_str(v, "source", ""),
							json_str(v, "destination", ""),
							!json_bool(v, "rw", true), false };
	params.nmounts = n;
	r = container_start(f->containers, id, &params, init, err);
out:
	for (i = 0; i < nv; i++)
		free(paths[i]);
	free(paths);
	return r;
}

void container_unmake(struct fabric *f, const json_t *doc)
{
	const char *id = json_str(doc, "id", "");
	struct error err = { 0 };
	int code;

	container_kill(f->containers, id, SIGKILL, NULL);
	container_unpause(f->containers, id, NULL);
	container_wait(f->containers, id, &code, NULL);
	if (container_remove(f->containers, id, &err) < 0 && err.code != ENOENT)
		log_warn("removing container %.12s: %s", id, err.msg);
	container_endpoints_down(f, doc);
	error_clear(&err);
	if (container_volumes_down(f, doc, &err) < 0)
		log_warn("container %.12s: %s", id, err.msg);
}
