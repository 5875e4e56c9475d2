/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flows with the outside, carried along in a migration: which host each returns through.
 * With them B sends the container's packets of an open connection to A, whose conntrack
 * knows the translation (a published port, or a masqueraded connection of the container).
 */
#include <arpa/inet.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"
#include "netd/state.h"

struct export
{
	json_t *out;
	const json_t *iface;
};

static int export_flow(void *ctx, const struct ferry_flow_key *key, uint32_t via)
{
	struct export *e = ctx;
	struct in_addr in = { htonl(via) };
	char peer[INET6_ADDRSTRLEN], local[INET6_ADDRSTRLEN], host[INET_ADDRSTRLEN];
	struct addr a, l;

	memcpy(a.b, key->peer, 16);
	memcpy(l.b, key->local, 16);
	addr_format(&a, peer);
	addr_format(&l, local);
	inet_ntop(AF_INET, &in, host, sizeof(host));
	json_array_append_new(e->out,
			      json_pack("{s:s, s:s, s:i, s:i, s:s, s:i, s:s}", "net",
					json_str(e->iface, "network", ""), "ip", local, "proto",
					key->proto, "port", ntohs(key->local_port), "peer", peer,
					"peer_port", ntohs(key->peer_port), "via", host));
	return 0;
}

int netd_flows_export(struct netd *nd, const char *id, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *list = json_array();
	json_t *ifaces, *iface;
	size_t i;
	int r = 0;

	pthread_mutex_lock(&nd->lock);
	ifaces = netd_interfaces(nd, id, err);
	json_array_foreach (ifaces, i, iface) {
		struct export e = { list, iface };
		struct addr addrs[2];
		int n = netd_iface_addrs(iface, addrs);

		for (int k = 0; k < n && r == 0; k++)
			r = datapath_flow_walk(nd->dp, netd_iface_vni(iface), &addrs[k],
					       export_flow, &e);
	}
	pthread_mutex_unlock(&nd->lock);
	if (!ifaces)
		return -ENOENT;
	if (r < 0)
		return error_sys(err, -r, "reading the flow map");
	*out = TAKE_PTR(list);
	return 0;
}

static int import_flow(struct netd *nd, const json_t *ifaces, const json_t *flow, struct error *err)
{
	struct ferry_flow_key key = { 0 };
	struct addr local, peer;
	int64_t proto = 0, port = 0, peer_port = 0;
	const json_t *iface;
	uint32_t via;
	size_t i;
	int r;

	if ((r = json_want_int(flow, "proto", true, 0, 255, &proto, err)) < 0 ||
	    (r = json_want_int(flow, "port", true, 0, 65535, &port, err)) < 0 ||
	    (r = json_want_int(flow, "peer_port", true, 0, 65535, &peer_port, err)) < 0 ||
	    (r = addr_parse(json_str(flow, "ip", ""), &local, "flow", err)) < 0 ||
	    (r = addr_parse(json_str(flow, "peer", ""), &peer, "flow", err)) < 0 ||
	    (r = host_ip_parse(json_str(flow, "via", ""), &via, err)) < 0)
		return r;
	memcpy(key.local, local.b, 16);
	memcpy(key.peer, peer.b, 16);
	key.proto = (uint8_t)proto;
	key.local_port = htons((uint16_t)port);
	key.peer_port = htons((uint16_t)peer_port);
	json_array_foreach (ifaces, i, iface) {
		struct addr addrs[2];
		int n = netd_iface_addrs(iface, addrs);

		if (strcmp(json_str(iface, "network", ""), json_str(flow, "net", "")))
			continue;
		if (memcmp(&addrs[0], &local, 16) && (n < 2 || memcmp(&addrs[1], &local, 16)))
			return error_set(err, EINVAL, "%s is not an address of the endpoint",
					 json_str(flow, "ip", ""));
		key.vni = netd_iface_vni(iface);
		return datapath_flow_set(nd->dp, &key, via, err);
	}
	return error_set(err, EINVAL, "the endpoint is not on network %s",
			 json_str(flow, "net", ""));
}

int netd_flows_import(struct netd *nd, const char *id, json_t *flows, struct error *err)
{
	json_t *ifaces, *flow;
	size_t i;
	int r = 0;

	pthread_mutex_lock(&nd->lock);
	ifaces = netd_interfaces(nd, id, err);
	if (!ifaces)
		r = -ENOENT;
	json_array_foreach (flows, i, flow)
		if (r == 0)
			r = import_flow(nd, ifaces, flow, err);
	pthread_mutex_unlock(&nd->lock);
	return r < 0 ? error_wrap(err, "importing flows of container %.64s", id) : 0;
}
