/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the containers are: every host keeps its datapath pointed at the host that a
 * container's document names, is told directly when a migration turns packets around
 * before the document changes, and answers names from the same documents.
 */
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "fabric/internal.h"

#define REPOINT_TIMEOUT_NS 2000000000ll
#define HOSTS_MAX	   64

static const char *up_on(const json_t *doc)
{
	return doc && container_is_up(doc) ? json_str(doc, "host", NULL) : NULL;
}

char *network_host_address(struct fabric *f, const char *host)
{
	char *address = NULL;
	uint16_t port;

	if (!strcmp(host, f->host))
		return str_dup(f->address);
	if (!f->cluster || host_resolve(f->store, host, &address, &port, NULL) < 0)
		return NULL;
	return address;
}

static void set_remote(struct fabric *f, const json_t *doc, const char *host)
{
	CLEANUP_FREE char *address = host ? network_host_address(f, host) : NULL;
	json_t *ep;
	size_t i;

	json_array_foreach (json_object_get(doc, "endpoints"), i, ep) {
		uint32_t vni = (uint32_t)json_int(ep, "vni", 0);
		struct error err = { 0 };
		int r;

		if (address)
			r = netd_remote_set(f->netd, vni, json_str(ep, "ip", ""),
					    json_str(ep, "mac", ""), address, &err);
		else
			r = netd_remote_remove(f->netd, vni, json_str(ep, "ip", ""), &err);
		if (r < 0 && r != -EEXIST && r != -ENOENT)
			log_warn("endpoint %s of %s: %s", json_str(ep, "ip", ""),
				 json_str(doc, "name", ""), err.msg);
	}
}

/*
 * Acts only where the place of a container has changed: a document that is written for
 * another reason while packets are already pointed at the destination of a migration
 * must not turn them back.
 */
void network_follow(struct fabric *f, const json_t *before, const json_t *after)
{
	const char *was = up_on(before), *is = up_on(after);

	if (!f->netd || (!was && !is) || (was && is && !strcmp(was, is)))
		return;
	if (is && strcmp(is, f->host))
		set_remote(f, after, is);
	else if (!is && strcmp(was, f->host))
		set_remote(f, before, NULL);
}

/* Late news of a migration after which the container has moved on. */
static bool is_stale(struct fabric *f, const char *id, const char *from, const char *to)
{
	CLEANUP_FREE char *key = container_key(id);
	CLEANUP_JSON json_t *doc = document_cached(f, key);
	const char *is = up_on(doc);

	return is && from && strcmp(is, from) && strcmp(is, to);
}

static int rpc_repoint(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		       struct error *err)
{
	struct fabric *f = ctx;
	const char *host = NULL, *id = NULL;
	int r = json_want_str(params, "host", true, &host, err);

	(void)result;
	if (!r)
		r = json_want_str(params, "id", true, &id, err);
	if (r < 0)
		return r;
	if (!is_stale(f, id, rpc_request_peer(req), host))
		set_remote(f, params, host);
	return 0;
}

const struct rpc_method network_methods[] = {
	{ "network.repoint", rpc_repoint, NULL, 0 },
	{ NULL, NULL, NULL, 0 },
};

struct repoint {
	struct fabric *f;
	const char *host;
	json_t *params;
};

static void *repoint_one(void *arg)
{
	struct repoint *p = arg;
	struct error err = { 0 };

	if (rpc_call(p->f->client, p->host, "network.repoint", p->params, REPOINT_TIMEOUT_NS, NULL,
		     &err) < 0)
		log_warn("host %s was not told of the move, its packets take the way over the old "
			 "host: %s",
			 p->host, err.msg);
	return NULL;
}

json_t *network_others(struct fabric *f, const char *to_host, const char *except)
{
	CLEANUP_JSON json_t *hosts = NULL;
	json_t *others, *h;
	size_t i;

	if (!f->cluster || host_list(f->store, &hosts, NULL) < 0)
		return NULL;
	others = json_array();
	json_array_foreach (hosts, i, h) {
		const char *name = json_str(h, "name", "");

		if (strcmp(name, f->host) && strcmp(name, to_host) &&
		    (!except || strcmp(name, except)) && json_bool(h, "alive", false))
			json_array_append_new(others, json_string(name));
	}
	return others;
}

void network_repoint_at(struct fabric *f, const json_t *doc, const char *to_host,
			const json_t *others)
{
	CLEANUP_JSON json_t *params = json_pack(
		"{s:s, s:s, s:s, s:O}", "host", to_host, "id", json_str(doc, "id", ""), "name",
		json_str(doc, "name", ""), "endpoints", json_object_get(doc, "endpoints"));
	struct repoint jobs[HOSTS_MAX];
	pthread_t threads[HOSTS_MAX];
	size_t i, n = 0;
	json_t *name;

	json_array_foreach (others, i, name) {
		if (n == HOSTS_MAX)
			break;
		jobs[n] = (struct repoint){ f, json_string_value(name), params };
		if (!pthread_create(&threads[n], NULL, repoint_one, &jobs[n]))
			n++;
	}
	for (i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

void network_repoint(struct fabric *f, const json_t *doc, const char *to_host, const char *except)
{
	CLEANUP_JSON json_t *others = network_others(f, to_host, except);

	network_repoint_at(f, doc, to_host, others);
}

/* --- names -------------------------------------------------------------------------- */

static bool answers_to(const json_t *container, const json_t *ep, const char *name)
{
	json_t *alias;
	size_t i;

	if (!strcasecmp(json_str(container, "name", ""), name) ||
	    (strlen(name) >= 12 && str_starts(json_str(container, "id", ""), name)))
		return true;
	json_array_foreach (json_object_get(ep, "aliases"), i, alias)
		if (json_is_string(alias) && !strcasecmp(json_string_value(alias), name))
			return true;
	return false;
}

int network_lookup(void *ctx, const char *network_id, const char *name, json_t **ips)
{
	struct fabric *f = ctx;
	CLEANUP_JSON json_t *all = documents_cached(f, "containers/");
	CLEANUP_JSON json_t *found = json_array();
	json_t *c, *ep;
	size_t i, k;

	json_array_foreach (all, i, c) {
		if (!container_is_up(c))
			continue;
		json_array_foreach (json_object_get(c, "endpoints"), k, ep) {
			if (strcmp(json_str(ep, "network", ""), network_id))
				continue;
			if (answers_to(c, ep, name))
				json_array_append(found, json_object_get(ep, "ip"));
			else if (!strcmp(json_str(ep, "ip", ""), name))
				json_array_append(found, json_object_get(c, "name"));
		}
	}
	if (!json_array_size(found))
		return -ENOENT;
	*ips = TAKE_PTR(found);
	return 0;
}
