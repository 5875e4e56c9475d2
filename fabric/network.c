/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks of the cluster: documents with a VNI and a subnet, and addresses handed out by
 * compare-and-swap. Where the containers are is fabric/follow.c's business.
 */
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "fabric/internal.h"

#define BRIDGE_SUBNET "10.95.0.0/16" /* of the default network, Docker's "bridge" */
#define VNI_FIRST     100
#define VNI_LAST      16777215

int network_find(struct fabric *f, const char *ref, json_t **doc, struct error *err)
{
	CLEANUP_JSON json_t *all = documents_cached(f, "networks/");
	json_t *d, *found = NULL;
	size_t i, matches = 0;

	json_array_foreach (all, i, d) {
		if (!strcmp(json_str(d, "name", ""), ref) || !strcmp(json_str(d, "id", ""), ref)) {
			*doc = json_incref(d);
			return 0;
		}
		if (*ref && str_starts(json_str(d, "id", ""), ref)) {
			found = d;
			matches++;
		}
	}
	if (matches > 1)
		return error_set(err, EINVAL, "%s is the beginning of %zu network ids", ref,
				 matches);
	if (!found)
		return error_set(err, ENOENT, "network %s not found", ref);
	*doc = json_incref(found);
	return 0;
}

/* --- VNI and subnet of a new network ---------------------------------------------------- */

struct claim {
	const char *id, *subnet; /* subnet: wanted; NULL: any */
	int64_t vni;
	char *got;
};

static bool parse_subnet(const char *s, uint32_t *ip, unsigned int *prefix)
{
	unsigned int x[4];

	if (sscanf(s, "%u.%u.%u.%u/%u", &x[0], &x[1], &x[2], &x[3], prefix) != 5)
		return false;
	*ip = x[0] << 24 | x[1] << 16 | x[2] << 8 | x[3];
	return true;
}

static bool subnets_overlap(const char *a, const char *b)
{
	unsigned int pa, pb, n;
	uint32_t ia, ib, mask;

	if (!parse_subnet(a, &ia, &pa) || !parse_subnet(b, &ib, &pb))
		return false;
	n = pa < pb ? pa : pb;
	mask = n ? ~0u << (32 - n) : 0;
	return (ia & mask) == (ib & mask);
}

static int64_t free_vni(const json_t *used)
{
	for (int64_t vni = VNI_FIRST; vni <= VNI_LAST; vni++) {
		bool taken = false;
		const char *id;
		json_t *entry;

		json_object_foreach ((json_t *)(uintptr_t)used, id, entry)
			taken |= json_int(entry, "vni", 0) == vni;
		if (!taken)
			return vni;
	}
	return 0;
}

static int claim_subnet(void *ctx, json_t *doc, struct error *err)
{
	struct claim *c = ctx;
	json_t *used = json_object_get(doc, "used"), *entry;
	CLEANUP_JSON json_t *subnets = json_pack("[s]", BRIDGE_SUBNET);
	const char *id;
	int r;

	json_object_foreach (used, id, entry) {
		const char *subnet = json_str(entry, "subnet", "");

		if (c->subnet && subnets_overlap(subnet, c->subnet))
			return error_set(err, EEXIST,
					 "subnet %s overlaps %s of network %.12s; choose another",
					 c->subnet, subnet, id);
		json_array_append_new(subnets, json_string(subnet));
	}
	free(c->got);
	c->got = str_dup(c->subnet);
	if (!c->got) {
		r = ipam_pick_subnet(subnets, &c->got, err);
		if (r < 0)
			return r;
	}
	c->vni = free_vni(used);
	if (!c->vni)
		return error_set(err, ENOSPC, "all network numbers are in use; remove a network");
	json_object_set_new(used, c->id,
			    json_pack("{s:I, s:s}", "vni", (json_int_t)c->vni, "subnet", c->got));
	return 0;
}

static int unclaim(void *ctx, json_t *doc, struct error *err)
{
	(void)err;
	return json_object_del(json_object_get(doc, "used"), ctx) < 0 ? 1 : 0;
}

static int ensure_used(struct fabric *f, const char *key, struct error *err)
{
	CLEANUP_JSON json_t *there = NULL;
	CLEANUP_JSON json_t *empty = json_pack("{s:{}}", "used");
	int r = document_get(f, key, &there, err);

	if (r != -ENOENT)
		return r;
	r = document_new(f, key, empty, err);
	return r == -EEXIST ? 0 : r;
}

static int add_network(struct fabric *f, const char *name, const char *subnet, const char *gateway,
		       const json_t *body, json_t **out, struct error *err)
{
	CLEANUP_FREE char *id = str_random_hex(32);
	CLEANUP_FREE char *name_key = str_format("network-names/%s", name);
	CLEANUP_FREE char *key = str_format("networks/%s", id);
	CLEANUP_FREE char *gw = str_dup(gateway);
	CLEANUP_JSON json_t *doc = NULL;
	CLEANUP_JSON json_t *name_doc = json_pack("{s:s}", "id", id);
	struct claim claim = { .id = id, .subnet = subnet };
	int r = document_new(f, name_key, name_doc, err);

	if (r == -EEXIST)
		return error_set(err, EEXIST, "network with name %s already exists", name);
	if (r < 0)
		return r;
	r = ensure_used(f, "ipam/networks", err);
	if (!r)
		r = document_change(f, "ipam/networks", claim_subnet, &claim, NULL, err);
	if (!r && !gw)
		r = ipam_gateway(claim.got, &gw, err);
	if (!r) {
		doc = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:b, s:I, s:O*, s:O*}", "id", id,
				"name", name, "vni", (json_int_t)claim.vni, "subnet", claim.got,
				"gateway", gw, "driver", "overlay", "internal",
				json_bool(body, "Internal", false), "created_ns",
				(json_int_t)clock_real_ns(), "labels",
				json_object_get(body, "Labels"), "options",
				json_object_get(body, "Options"));
		r = document_new(f, key, doc, err);
	}
	free(claim.got);
	if (r < 0) {
		document_delete(f, name_key, NULL);
		document_change(f, "ipam/networks", unclaim, id, NULL, NULL);
		return r;
	}
	event_publish(f->events, "network", "create", id, NULL);
	*out = TAKE_PTR(doc);
	return 0;
}

int network_default(struct fabric *f, json_t **out, struct error *err)
{
	int r = network_find(f, "bridge", out, NULL);

	if (!r)
		return 0;
	r = add_network(f, "bridge", BRIDGE_SUBNET, NULL, NULL, out, err);
	for (int i = 0; r == -EEXIST && i < 250; i++) {
		/* Another host was quicker: its document is on the way here. */
		clock_sleep_ns(20000000);
		if (!network_find(f, "bridge", out, NULL))
			return 0;
	}
	return r;
}

static int check_driver(const char *name, const char *driver, const json_t *body, struct error *err)
{
	if (!str_is_name(name))
		return error_set(
			err, EINVAL,
			"invalid network name \"%s\": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
			name);
	if (!strcmp(name, "host") || !strcmp(name, "none") || !strcmp(name, "default"))
		return error_set(err, EPERM, "operation is not permitted on predefined %s network",
				 name);
	if (driver && *driver && strcmp(driver, "overlay") && strcmp(driver, "bridge"))
		return error_set(err, ENOENT,
				 "network driver \"%s\" is not there; ferry's is \"overlay\"",
				 driver);
	if (json_bool(body, "EnableIPv6", false))
		return error_set(
			err, EOPNOTSUPP,
			"IPv6 addresses are not handed out yet; create the network without --ipv6");
	return 0;
}

int fabric_network_create(struct fabric *f, const json_t *body, json_t **out, struct error *err)
{
	const char *name = NULL, *driver = NULL, *subnet = NULL, *gateway = NULL;
	CLEANUP_JSON json_t *doc = NULL;
	CLEANUP_JSON json_t *def = NULL;
	json_t *ipam = json_at(body, "IPAM.Config");
	int r = json_want_str(body, "Name", true, &name, err);

	if (!r)
		r = json_want_str(body, "Driver", false, &driver, err);
	if (!r)
		r = check_driver(name, driver, body, err);
	if (r < 0)
		return r;
	if (json_array_size(ipam) > 1)
		return error_set(err, EINVAL, "a network has one IPv4 subnet; %zu were given",
				 json_array_size(ipam));
	if (json_array_size(ipam)) {
		const json_t *c = json_array_get(ipam, 0);
		CLEANUP_FREE char *probe = NULL;

		r = json_want_str(c, "Subnet", false, &subnet, err);
		if (!r)
			r = json_want_str(c, "Gateway", false, &gateway, err);
		if (r < 0)
			return r;
		subnet = subnet && *subnet ? subnet : NULL;
		gateway = gateway && *gateway ? gateway : NULL;
		if (!subnet && gateway)
			return error_set(err, EINVAL,
					 "a gateway needs a subnet; give --subnet too");
		r = subnet ? ipam_gateway(subnet, &probe, err) : 0;
		if (r < 0)
			return r;
	}
	r = network_default(f, &def, err); /* its subnet is taken first */
	if (!r)
		r = add_network(f, name, subnet, gateway, body, &doc, err);
	if (r < 0)
		return r;
	*out = json_pack("{s:s, s:s}", "Id", json_str(doc, "id", ""), "Warning", "");
	return 0;
}

/* --- showing ---------------------------------------------------------------------------------- */

static json_t *predefined(const char *name, const char *driver)
{
	return json_pack(
		"{s:s, s:s, s:s, s:s, s:b, s:{s:s, s:{}, s:[]}, s:b, s:{}, s:{}, s:{}, s:s}",
		"Name", name, "Id", name, "Driver", driver, "Scope", "local", "EnableIPv6", 0,
		"IPAM", "Driver", "default", "Options", "Config", "Internal", 0, "Containers",
		"Options", "Labels", "Created", "0001-01-01T00:00:00Z");
}

static json_t *members_of(struct fabric *f, const char *id, const char *slash)
{
	CLEANUP_JSON json_t *containers = documents_cached(f, "containers/");
	json_t *members = json_object(), *c, *ep;
	size_t i, k;

	json_array_foreach (containers, i, c) {
		json_array_foreach (json_object_get(c, "endpoints"), k, ep) {
			CLEANUP_FREE char *ip = str_format("%s%s", json_str(ep, "ip", ""), slash);

			if (strcmp(json_str(ep, "network", ""), id) || !container_is_up(c))
				continue;
			json_object_set_new(members, json_str(c, "id", "?"),
					    json_pack("{s:s, s:s, s:s, s:s, s:s}", "Name",
						      json_str(c, "name", ""), "EndpointID",
						      json_str(c, "id", ""), "MacAddress",
						      json_str(ep, "mac", ""), "IPv4Address", ip,
						      "IPv6Address", ""));
		}
	}
	return members;
}

static json_t *object_or_empty(const json_t *n, const char *key)
{
	json_t *o = json_object_get(n, key);

	return json_is_object(o) ? json_incref(o) : json_object();
}

static json_t *network_json(struct fabric *f, const json_t *n)
{
	time_t t = (time_t)(json_int(n, "created_ns", 0) / 1000000000);
	const char *id = json_str(n, "id", ""), *slash = strchr(json_str(n, "subnet", "/"), '/');
	char when[64];
	struct tm tm;
	json_t *j;

	gmtime_r(&t, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:{s:s, s:{}, s:[{s:s, s:s}]}, s:b, s:o}",
		      "Name", json_str(n, "name", ""), "Id", id, "Created", when, "Scope", "swarm",
		      "Driver", "overlay", "EnableIPv6", 0, "IPAM", "Driver", "default", "Options",
		      "Config", "Subnet", json_str(n, "subnet", ""), "Gateway",
		      json_str(n, "gateway", ""), "Internal", json_bool(n, "internal", false),
		      "Containers", members_of(f, id, slash ? slash : ""));
	json_set_bool(j, "Attachable", true);
	json_set_bool(j, "Ingress", false);
	json_set_bool(j, "ConfigOnly", false);
	json_object_set_new(j, "Labels", object_or_empty(n, "labels"));
	json_object_set_new(j, "Options", object_or_empty(n, "options"));
	return j;
}

int fabric_network_list(struct fabric *f, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *def = NULL;
	CLEANUP_JSON json_t *all = NULL;
	json_t *n;
	size_t i;
	int r = network_default(f, &def, err);

	if (r < 0)
		return r;
	all = documents_cached(f, "networks/");
	*out = json_array();
	json_array_foreach (all, i, n)
		json_array_append_new(*out, network_json(f, n));
	json_array_append_new(*out, predefined("host", "host"));
	json_array_append_new(*out, predefined("none", "null"));
	return 0;
}

int fabric_network_inspect(struct fabric *f, const char *ref, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	int r;

	if (!strcmp(ref, "host") || !strcmp(ref, "none")) {
		*out = predefined(ref, strcmp(ref, "host") ? "null" : "host");
		return 0;
	}
	r = strcmp(ref, "bridge") ? network_find(f, ref, &doc, err) : network_default(f, &doc, err);
	if (r < 0)
		return r;
	*out = network_json(f, doc);
	return 0;
}

int fabric_network_remove(struct fabric *f, const char *ref, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	CLEANUP_JSON json_t *containers = documents_cached(f, "containers/");
	CLEANUP_FREE char *key = NULL, *name_key = NULL, *ipam_key = NULL, *id = NULL;
	json_t *c, *ep;
	size_t i, k;
	int r;

	if (!strcmp(ref, "bridge") || !strcmp(ref, "host") || !strcmp(ref, "none"))
		return error_set(err, EPERM, "%s is a pre-defined network and cannot be removed",
				 ref);
	r = network_find(f, ref, &doc, err);
	if (r < 0)
		return r;
	id = str_dup(json_str(doc, "id", ""));
	json_array_foreach (containers, i, c)
		json_array_foreach (json_object_get(c, "endpoints"), k, ep)
			if (!strcmp(json_str(ep, "network", ""), id))
				return error_set(err, EBUSY,
						 "network %s has active endpoints: container %s "
						 "uses it; remove that first",
						 json_str(doc, "name", ""),
						 json_str(c, "name", ""));
	key = str_format("networks/%s", id);
	name_key = str_format("network-names/%s", json_str(doc, "name", ""));
	ipam_key = str_format("ipam/net-%s", id);
	r = document_delete(f, key, err);
	if (!r)
		r = document_delete(f, name_key, err);
	if (!r)
		r = document_delete(f, ipam_key, err);
	if (r < 0)
		return r;
	document_change(f, "ipam/networks", unclaim, id, NULL, NULL);
	netd_network_remove(f->netd, id, NULL);
	event_publish(f->events, "network", "destroy", id, NULL);
	return 0;
}

/* --- addresses ------------------------------------------------------------------------------ */

struct address {
	const char *subnet, *gateway, *wanted, *container;
	char *got;
};

static int take_address(void *ctx, json_t *doc, struct error *err)
{
	struct address *a = ctx;
	json_t *used = json_object_get(doc, "used"), *v;
	CLEANUP_JSON json_t *list = json_pack("[s]", a->gateway);
	const char *ip;
	int r;

	json_object_foreach (used, ip, v)
		json_array_append_new(list, json_string(ip));
	free(a->got);
	a->got = NULL;
	r = ipam_pick(a->subnet, list, a->wanted, &a->got, err);
	if (r < 0)
		return r;
	json_object_set_new(used, a->got, json_string(a->container));
	return 0;
}

int network_address_take(struct fabric *f, const json_t *network, const char *container,
			 const char *wanted, char **ip, struct error *err)
{
	CLEANUP_FREE char *key = str_format("ipam/net-%s", json_str(network, "id", ""));
	struct address a = { json_str(network, "subnet", ""), json_str(network, "gateway", ""),
			     wanted, container, NULL };
	int r = ensure_used(f, key, err);

	if (!r)
		r = document_change(f, key, take_address, &a, NULL, err);
	if (r < 0) {
		free(a.got);
		return error_wrap(err, "network %s", json_str(network, "name", ""));
	}
	*ip = a.got;
	return 0;
}

void network_address_free(struct fabric *f, const char *network_id, const char *ip)
{
	CLEANUP_FREE char *key = str_format("ipam/net-%s", network_id);
	CLEANUP_FREE char *copy = str_dup(ip);
	struct error err = { 0 };

	if (document_change(f, key, unclaim, copy, NULL, &err) < 0 && err.code != ENOENT)
		log_warn("address %s stays reserved: %s", ip, err.msg);
}
