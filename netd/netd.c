/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening, closing and removing the host's network; networks; endpoints of other hosts.
 * Endpoints of this host are in endpoint.c, the hold queue in hold.c, NAT in nat.c.
 */
#include "netd/netd.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "netd/dns.h"
#include "netd/driver.h"
#include "netd/link.h"
#include "netd/state.h"

#define STATE_MAX (64u << 20)

const uint8_t netd_gw_mac[6] = { 0x02, 0xfe, 0x44, 0x00, 0x00, 0x01 };

int netd_save(struct netd *nd, struct error *err)
{
	CLEANUP_FREE char *text = json_text(nd->doc);

	if (file_write_atomic(nd->state_path, text, strlen(text), 0600, err) < 0)
		return error_wrap(err, "saving the network state");
	return 0;
}

static json_t *section(json_t *doc, const char *key, bool array)
{
	json_t *v = json_object_get(doc, key);

	if (array ? !json_is_array(v) : !json_is_object(v)) {
		v = array ? json_array() : json_object();
		json_object_set_new(doc, key, v);
	}
	return v;
}

static int load(struct netd *nd, struct error *err)
{
	if (access(nd->state_path, F_OK) == 0) {
		nd->doc = json_parse_file(nd->state_path, STATE_MAX, err);
		if (!nd->doc)
			return error_wrap(err, "reading the network state");
	} else {
		nd->doc = json_object();
		json_set_int(nd->doc, "schema", 1);
	}
	nd->networks = section(nd->doc, "networks", false);
	nd->endpoints = section(nd->doc, "endpoints", false);
	nd->ports = section(nd->doc, "ports", true);
	nd->sysctls = section(nd->doc, "sysctls", false);
	return 0;
}

/* Sets a host-wide sysctl and remembers what it was, for netd_shutdown(). */
static int host_sysctl(struct netd *nd, const char *path, const char *value, struct error *err)
{
	CLEANUP_FREE char *full = str_format("/proc/sys/net/%s", path);
	CLEANUP_FREE char *old = NULL;
	int r = file_read(full, 64, &old, NULL, err);

	if (r < 0)
		return r;
	old[strcspn(old, "\n")] = '\0';
	if (!strcmp(old, value))
		return 0;
	if (!json_object_get(nd->sysctls, path))
		json_set_str(nd->sysctls, path, old);
	return link_sysctl(value, err, "%s", path);
}

static int make_devices(struct netd *nd, struct error *err)
{
	struct link_veth gw = { .name = NETD_GW,
				.peer = NETD_GW_PEER,
				.mac = netd_gw_mac,
				.mtu = NETD_MTU,
				.peer_netns = -1 };
	int peer, r;

	if (link_index(NETD_VXLAN) < 0 &&
	    (r = link_add_vxlan(NETD_VXLAN, netd_gw_mac, NETD_VXLAN_PORT, err)) < 0)
		return r;
	if (link_index(NETD_GW) < 0 && (r = link_add_veth(&gw, err)) < 0)
		return r;
	nd->vxlan_ifindex = link_index(NETD_VXLAN);
	nd->gw_ifindex = link_index(NETD_GW);
	peer = link_index(NETD_GW_PEER);
	if (nd->vxlan_ifindex < 0 || nd->gw_ifindex < 0 || peer < 0)
		return error_set(err, ENODEV, "%s or %s vanished", NETD_VXLAN, NETD_GW);
	/* No router solicitations and the like from ferry's own devices. */
	link_sysctl("1", NULL, "ipv6/conf/%s/disable_ipv6", NETD_VXLAN);
	link_sysctl("1", NULL, "ipv6/conf/%s/disable_ipv6", NETD_GW_PEER);
	/* Loose: the way back to a client may leave through another interface. */
	if ((r = link_sysctl("2", err, "ipv4/conf/%s/rp_filter", NETD_GW)) < 0 ||
	    /* 127.0.0.1:PORT of the host itself reaches published ports. */
	    (r = link_sysctl("1", err, "ipv4/conf/%s/route_localnet", NETD_GW)) < 0 ||
	    (r = link_up(nd->vxlan_ifindex, false, err)) < 0 ||
	    (r = link_up(nd->gw_ifindex, false, err)) < 0 || (r = link_up(peer, false, err)) < 0)
		return r;
	return host_sysctl(nd, "ipv4/ip_forward", "1", err);
}

static int attach_devices(struct netd *nd, struct error *err)
{
	struct ferry_config c = {
		.version = FERRY_MAPS_VERSION,
		.underlay = nd->underlay,
		.vxlan_ifindex = (uint32_t)nd->vxlan_ifindex,
		.gw_ifindex = (uint32_t)nd->gw_ifindex,
	};
	int r;

	memcpy(c.gw_mac, netd_gw_mac, 6);
	r = datapath_config_set(nd->dp, &c, err);
	if (r == 0)
		r = datapath_attach(nd->dp, DATAPATH_OVERLAY, nd->vxlan_ifindex, NETD_VXLAN, err);
	if (r == 0)
		r = datapath_attach(nd->dp, DATAPATH_HOST, nd->gw_ifindex, NETD_GW, err);
	return r;
}

static int network_enable(struct netd *nd, const json_t *network, struct error *err);

int netd_open(const struct netd_config *config, struct netd **out, struct error *err)
{
	struct netd *nd = mem_zalloc(sizeof(*nd));
	const char *id;
	json_t *network;
	int r;

	pthread_mutex_init(&nd->lock, NULL);
	pthread_cond_init(&nd->released, NULL);
	nd->host = str_dup(config->host ? config->host : "");
	nd->dir = str_format("%s/netd", config->run_dir);
	nd->netns_dir = str_format("%s/netns", config->run_dir);
	nd->state_path = str_format("%s/state.json", nd->dir);
	r = host_ip_parse(config->underlay_ip, &nd->underlay, err);
	if (r == 0)
		r = addr_parse(config->underlay_ip, &nd->underlay_addr, "underlay", err);
	if (r == 0)
		r = dir_make(nd->dir, 0700, err);
	if (r == 0)
		r = dir_make(nd->netns_dir, 0755, err);
	if (r == 0)
		r = load(nd, err);
	if (r == 0)
		r = datapath_open(config->bpffs, &nd->dp, err);
	if (r == 0)
		r = make_devices(nd, err);
	if (r == 0)
		r = attach_devices(nd, err);
	if (r == 0)
		r = dns_server_start(config->resolv_conf, &nd->dns, err);
	if (r == 0) {
		json_object_foreach (nd->networks, id, network)
			if (r == 0)
				r = network_enable(nd, network, err);
	}
	if (r == 0)
		r = endpoint_reopen_all(nd, err);
	if (r == 0)
		r = nat_apply(nd, err);
	if (r == 0)
		r = netd_save(nd, err);
	if (r == 0)
		r = hold_finisher_start(nd, err);
	if (r < 0) {
		netd_close(nd);
		return error_wrap(err, "opening the network");
	}
	*out = nd;
	return 0;
}

void netd_close(struct netd *nd)
{
	if (!nd)
		return;
	hold_finisher_stop(nd);
	dns_server_stop(nd->dns);
	hold_forget_all(nd);
	datapath_close(nd->dp);
	json_decref(nd->doc);
	free(nd->host);
	free(nd->dir);
	free(nd->netns_dir);
	free(nd->state_path);
	pthread_cond_destroy(&nd->released);
	pthread_mutex_destroy(&nd->lock);
	free(nd);
}

static int shutdown_locked(struct netd *nd, struct error *err)
{
	const char *path;
	json_t *value;
	int r, result;

	result = endpoint_remove_all(nd, err);
	json_object_clear(nd->networks);
	json_array_clear(nd->ports);
	if ((r = nat_remove(nd, result ? NULL : err)) < 0 && !result)
		result = r;
	if ((r = link_del(NETD_GW, result ? NULL : err)) < 0 && !result)
		result = r;
	if ((r = link_del(NETD_VXLAN, result ? NULL : err)) < 0 && !result)
		result = r;
	if ((r = datapath_remove(nd->dp, result ? NULL : err)) < 0 && !result)
		result = r;
	json_object_foreach (nd->sysctls, path, value)
		link_sysctl(json_string_value(value), NULL, "%s", path);
	json_object_clear(nd->sysctls);
	if ((r = dir_remove(nd->dir, result ? NULL : err)) < 0 && !result)
		result = r;
	rmdir(nd->netns_dir);
	return result;
}

int netd_shutdown(struct netd *nd, struct error *err)
{
	int r;

	hold_finisher_stop(nd);
	pthread_mutex_lock(&nd->lock);
	r = shutdown_locked(nd, err);
	pthread_mutex_unlock(&nd->lock);
	return r;
}

/* --- networks -------------------------------------------------------------------------- */

struct network {
	uint32_t vni;
	bool internal;
	struct subnet subnet[2]; /* IPv4, IPv6; the latter when n is 2 */
	struct addr gateway[2];
	int n;
};

static bool network_same(const struct network *a, const struct network *b)
{
	if (a->vni != b->vni || a->internal != b->internal || a->n != b->n)
		return false;
	for (int i = 0; i < a->n; i++)
		if (a->subnet[i].prefix != b->subnet[i].prefix ||
		    memcmp(&a->subnet[i].addr, &b->subnet[i].addr, sizeof(struct addr)) ||
		    memcmp(&a->gateway[i], &b->gateway[i], sizeof(struct addr)))
			return false;
	return true;
}

static int network_parse(const json_t *doc, struct network *out, struct error *err)
{
	static const char *const keys[2][2] = { { "subnet", "gateway" },
						{ "subnet6", "gateway6" } };
	const char *text = NULL, *driver = "overlay";
	int64_t vni = 0;
	int r;

	memset(out, 0, sizeof(*out));
	if ((r = json_want_str(doc, "id", true, &text, err)) < 0)
		return r;
	if (!str_is_name(text))
		return error_set(err, EINVAL, "\"%s\" is not a network id", text);
	if ((r = json_want_int(doc, "vni", true, 1, 16777215, &vni, err)) < 0 ||
	    (r = json_want_str(doc, "driver", false, &driver, err)) < 0)
		return r;
	if (!network_driver_find(driver))
		return error_set(err, ENOTSUP,
				 "network driver \"%s\" is not known here; ferry has "
				 "\"overlay\"",
				 driver);
	out->vni = (uint32_t)vni;
	out->internal = json_bool(doc, "internal", false);
	for (int i = 0; i < 2; i++) {
		CLEANUP_FREE char *first = NULL;
		const char *subnet = NULL, *gateway = NULL;

		if ((r = json_want_str(doc, keys[i][0], i == 0, &subnet, err)) < 0)
			return r;
		if (!subnet || !*subnet)
			break;
		if ((r = subnet_parse(subnet, &out->subnet[i], err)) < 0 ||
		    (r = ipam_gateway(subnet, &first, err)) < 0)
			return r;
		gateway = json_str(doc, keys[i][1], "");
		if ((r = addr_parse(*gateway ? gateway : first, &out->gateway[i], "gateway", err)) <
		    0)
			return r;
		if (out->subnet[i].v6 != (i == 1))
			return error_set(err, EINVAL, "%s: %s is of the other address family",
					 keys[i][0], subnet);
		if (!subnet_contains(&out->subnet[i], &out->gateway[i]))
			return error_set(err, EINVAL, "gateway %s is not in subnet %s", gateway,
					 subnet);
		out->n++;
	}
	return 0;
}

/* Tells datapath and host stack of a network; safe to repeat. */
static int network_enable(struct netd *nd, const json_t *doc, struct error *err)
{
	struct ferry_ep gateway = { .state = FERRY_GATEWAY };
	struct network n;
	int r = network_parse(doc, &n, err);

	memcpy(gateway.mac, netd_gw_mac, 6);
	for (int i = 0; r == 0 && i < n.n; i++) {
		r = datapath_subnet_set(nd->dp, &n.subnet[i], n.vni, err);
		if (r == 0)
			r = datapath_ep_set(nd->dp, n.vni, &n.gateway[i], &gateway, err);
		if (r == 0)
			r = link_addr_add(nd->gw_ifindex, &n.gateway[i], i ? 128 : 32, err);
		/*
		 * This host's own packets bear its underlay address, which is unique in the
		 * cluster: the gateway's would be the same on all hosts.
		 */
		if (r == 0)
			r = link_route_add(nd->gw_ifindex, &n.subnet[i], NULL,
					   i ? NULL : &nd->underlay_addr, err);
		if (r == 0 && i)
			r = host_sysctl(nd, "ipv6/conf/all/forwarding", "1", err);
	}
	if (r < 0)
		return error_wrap(err, "network %s",
				  json_str(doc, "name", json_str(doc, "id", "?")));
	return 0;
}

static void network_disable(struct netd *nd, const struct network *n)
{
	for (int i = 0; i < n->n; i++) {
		link_route_del(nd->gw_ifindex, &n->subnet[i], NULL);
		link_addr_del(nd->gw_ifindex, &n->gateway[i], i ? 128 : 32, NULL);
		datapath_subnet_del(nd->dp, &n->subnet[i]);
	}
	datapath_ep_flush(nd->dp, n->vni);
}

static int check_overlap(struct netd *nd, const char *id, const struct network *n,
			 struct error *err)
{
	const char *other_id;
	json_t *doc;

	json_object_foreach (nd->networks, other_id, doc) {
		struct network o;

		if (network_parse(doc, &o, err) < 0)
			return -EINVAL;
		if (o.vni == n->vni)
			return error_set(err, EEXIST, "network %s: VNI %u is that of network %s",
					 id, n->vni, other_id);
		for (int i = 0; i < n->n && i < o.n; i++)
			if (subnet_overlaps(&n->subnet[i], &o.subnet[i]))
				return error_set(err, EEXIST,
						 "Pool overlaps with other one on this "
						 "address space: network %s, network %s",
						 id, other_id);
	}
	return 0;
}

static int network_add_locked(struct netd *nd, json_t *doc, struct error *err)
{
	struct network n, old;
	const char *id = json_str(doc, "id", "");
	json_t *known;
	int r = network_parse(doc, &n, err);

	if (r < 0)
		return r;
	known = json_object_get(nd->networks, id);
	if (known) {
		if (network_parse(known, &old, err) < 0)
			return -EINVAL;
		if (!network_same(&old, &n))
			return error_set(err, EEXIST, "network %s exists with other values", id);
		return 0;
	}
	if ((r = check_overlap(nd, id, &n, err)) < 0)
		return r;
	json_object_set_new(nd->networks, id, json_deep_copy(doc));
	r = network_enable(nd, doc, err);
	if (r == 0)
		r = nat_apply(nd, err);
	if (r == 0)
		r = netd_save(nd, err);
	if (r < 0) {
		network_disable(nd, &n);
		json_object_del(nd->networks, id);
	}
	return r;
}

int netd_network_add(struct netd *nd, json_t *network, struct error *err)
{
	int r;

	pthread_mutex_lock(&nd->lock);
	r = network_add_locked(nd, network, err);
	pthread_mutex_unlock(&nd->lock);
	return r;
}

static int network_remove_locked(struct netd *nd, const char *id, struct error *err)
{
	json_t *doc = json_object_get(nd->networks, id), *ep, *iface;
	const char *ep_id;
	struct network n;
	size_t i;
	int r;

	if (!doc)
		return 0;
	json_object_foreach (nd->endpoints, ep_id, ep)
		json_array_foreach (json_object_get(ep, "interfaces"), i, iface)
			if (!strcmp(json_str(iface, "network", ""), id))
				return error_set(err, EBUSY,
						 "network %s has active endpoints: "
						 "container %s",
						 json_str(doc, "name", id), ep_id);
	if ((r = network_parse(doc, &n, err)) < 0)
		return r;
	network_disable(nd, &n);
	json_object_del(nd->networks, id);
	if ((r = nat_apply(nd, err)) < 0)
		return r;
	return netd_save(nd, err);
}

int netd_network_remove(struct netd *nd, const char *id, struct error *err)
{
	int r;

	pthread_mutex_lock(&nd->lock);
	r = network_remove_locked(nd, id, err);
	pthread_mutex_unlock(&nd->lock);
	return r;
}

int netd_network_list(struct netd *nd, json_t **out, struct error *err)
{
	const char *id;
	json_t *doc;

	(void)err;
	pthread_mutex_lock(&nd->lock);
	*out = json_array();
	json_object_foreach (nd->networks, id, doc)
		json_array_append_new(*out, json_deep_copy(doc));
	pthread_mutex_unlock(&nd->lock);
	return 0;
}

/* --- endpoints of other hosts ---------------------------------------------------------- */

/* The local interface that has the address, or NULL. */
static json_t *local_iface(struct netd *nd, uint32_t vni, const struct addr *ip)
{
	const char *id;
	json_t *ep, *iface;
	size_t i;

	json_object_foreach (nd->endpoints, id, ep)
		json_array_foreach (json_object_get(ep, "interfaces"), i, iface) {
			struct addr a[2];
			int n = netd_iface_addrs(iface, a);

			if (netd_iface_vni(iface) == vni &&
			    (!memcmp(&a[0], ip, sizeof(*ip)) ||
			     (n > 1 && !memcmp(&a[1], ip, sizeof(*ip)))))
				return iface;
		}
	return NULL;
}

static int remote_set_locked(struct netd *nd, uint32_t vni, const char *ip, const char *mac,
			     const char *host_ip, struct error *err)
{
	struct ferry_ep ep = { .state = FERRY_REMOTE }, old;
	json_t *iface;
	struct addr a;
	int r;

	if (mac && !*mac)
		mac = NULL;
	if ((r = addr_parse(ip, &a, "endpoint", err)) < 0 ||
	    (r = host_ip_parse(host_ip, &ep.host, err)) < 0 ||
	    (mac && (r = mac_parse(mac, ep.mac, err)) < 0))
		return r;
	if (ep.host == nd->underlay)
		return 0;
	iface = local_iface(nd, vni, &a);
	if (iface) {
		const char *state = json_str(iface, "state", "");

		if (strcmp(state, "forward") && strcmp(state, "standby"))
			return error_set(err, EEXIST, "%s is an endpoint of this host (%s)", ip,
					 state);
		if (!strcmp(state, "forward")) {
			json_set_str(iface, "forward_to", host_ip);
			if ((r = netd_save(nd, err)) < 0)
				return r;
		}
	}
	if (datapath_ep_get(nd->dp, vni, &a, &old) == 0) {
		if (old.state == FERRY_GATEWAY)
			return error_set(err, EINVAL, "%s is the gateway of its network", ip);
		if (!mac)
			memcpy(ep.mac, old.mac, 6);
		ep.identity = old.identity;
		/* The ways of a local endpoint stay known: netd_forward(NULL) needs none, but
		 * frames on their way through the tap do. */
		ep.ifindex = old.ifindex;
		ep.hold_ifindex = old.hold_ifindex;
	}
	return datapath_ep_set(nd->dp, vni, &a, &ep, err);
}

int netd_remote_set(struct netd *nd, uint32_t vni, const char *ip, const char *mac,
		    const char *host_ip, struct error *err)
{
	int r;

	pthread_mutex_lock(&nd->lock);
	r = remote_set_locked(nd, vni, ip, mac, host_ip, err);
	pthread_mutex_unlock(&nd->lock);
	return r;
}

int netd_remote_remove(struct netd *nd, uint32_t vni, const char *ip, struct error *err)
{
	struct ferry_ep ep;
	struct addr a;
	int r = addr_parse(ip, &a, "endpoint", err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&nd->lock);
	if (datapath_ep_get(nd->dp, vni, &a, &ep) == 0 && ep.state == FERRY_REMOTE)
		datapath_ep_del(nd->dp, vni, &a);
	pthread_mutex_unlock(&nd->lock);
	return 0;
}

int netd_set_resolver(struct netd *nd, netd_lookup_fn *fn, void *ctx, struct error *err)
{
	(void)err;
	dns_server_set_resolver(nd->dns, fn, ctx);
	return 0;
}
