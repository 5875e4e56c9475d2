/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoints of this host: a netns per container, a veth pair per network it is on. An
 * interface is in one of these states, in its document and in the endpoint map:
 *
 *   standby ──hold──► hold ──release──► (releasing) ──► local ──forward──► forward
 *      └─ the map still names another host                └──hold──► hold      │
 *         or nothing                       local ◄───────forward(NULL)─────────┘
 */
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "netd/dns.h"
#include "netd/link.h"
#include "netd/netns.h"
#include "netd/state.h"

json_t *netd_interfaces(struct netd *nd, const char *id, struct error *err)
{
	json_t *ep = json_object_get(nd->endpoints, id);

	if (!ep) {
		error_set(err, ENOENT, "container %.64s has no network endpoint on host %s", id,
			  nd->host);
		return NULL;
	}
	return json_object_get(ep, "interfaces");
}

uint32_t netd_iface_vni(const json_t *iface)
{
	return (uint32_t)json_int(iface, "vni", 0);
}

int netd_iface_addrs(const json_t *iface, struct addr out[2])
{
	const char *ip6 = json_str(iface, "ip6", "");

	memset(out, 0, 2 * sizeof(*out));
	addr_parse(json_str(iface, "ip4", ""), &out[0], "", NULL);
	return *ip6 && addr_parse(ip6, &out[1], "", NULL) == 0 ? 2 : 1;
}

int netd_iface_map(struct netd *nd, const json_t *iface, enum ferry_state state, uint32_t host,
		   struct error *err)
{
	struct ferry_ep ep = { .state = state, .host = host };
	int ifindex = link_index(json_str(iface, "host_ifname", ""));
	int tap = link_index(json_str(iface, "tap", ""));
	struct addr addrs[2];
	int n = netd_iface_addrs(iface, addrs), r;

	ep.ifindex = ifindex > 0 ? (uint32_t)ifindex : 0;
	ep.hold_ifindex = tap > 0 ? (uint32_t)tap : 0;
	if ((r = mac_parse(json_str(iface, "mac", ""), ep.mac, err)) < 0)
		return r;
	for (int i = 0; i < n; i++)
		if ((r = datapath_ep_set(nd->dp, netd_iface_vni(iface), &addrs[i], &ep, err)) < 0)
			return r;
	return 0;
}

/* Interface names are limited to 15 bytes: a hash of what must be unique. */
static char *iface_name(const char *prefix, const char *id, const char *network)
{
	uint64_t h = 14695981039346656037ULL; /* FNV-1a */

	for (int part = 0; part < 2; part++) {
		for (const char *p = part ? network : id; *p; p++)
			h = (h ^ (unsigned char)*p) * 1099511628211ULL;
		h = (h ^ 0xff) * 1099511628211ULL;
	}
	return str_format("%s%013llx", prefix, (unsigned long long)h & 0xfffffffffffffULL);
}

/* --- inside the namespace --------------------------------------------------------------- */

struct setup {
	const json_t *iface, *network;
	bool default_route;
};

static int setup_namespace(void *ctx, struct error *err)
{
	(void)ctx;
	/* As Docker: ping without privilege, and any port for any user. */
	link_sysctl("0 2147483647", NULL, "ipv4/ping_group_range");
	link_sysctl("0", NULL, "ipv4/ip_unprivileged_port_start");
	return link_up(link_index("lo"), true, err);
}

static int setup_interface(void *ctx, struct error *err)
{
	const struct setup *s = ctx;
	const char *ifname = json_str(s->iface, "ifname", "");
	int ifindex = link_index(ifname), n, r;
	struct addr addrs[2];

	if (ifindex < 0)
		return error_sys(err, -ifindex, "interface %s", ifname);
	n = netd_iface_addrs(s->iface, addrs);
	if (n < 2)
		link_sysctl("1", NULL, "ipv6/conf/%s/disable_ipv6", ifname);
	else
		link_sysctl("0", NULL, "ipv6/conf/%s/accept_ra", ifname);
	if ((r = link_up(ifindex, true, err)) < 0)
		return r;
	for (int i = 0; i < n; i++) {
		struct subnet subnet;
		struct addr gateway;

		r = subnet_parse(json_str(s->network, i ? "subnet6" : "subnet", ""), &subnet, err);
		if (r == 0)
			r = link_addr_add(ifindex, &addrs[i], subnet.prefix, err);
		if (r == 0 && s->default_route) {
			r = addr_parse(json_str(s->iface, i ? "gateway6" : "gateway", ""), &gateway,
				       "gateway", err);
			if (r == 0)
				r = link_route_add(ifindex, NULL, &gateway, NULL, err);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- adding ------------------------------------------------------------------------------ */

static int gateway_text(const json_t *network, bool v6, json_t *iface, struct error *err)
{
	const char *gateway = json_str(network, v6 ? "gateway6" : "gateway", "");
	CLEANUP_FREE char *first = NULL;
	int r;

	if (!*gateway) {
		r = ipam_gateway(json_str(network, v6 ? "subnet6" : "subnet", ""), &first, err);
		if (r < 0)
			return r;
		gateway = first;
	}
	json_set_str(iface, v6 ? "gateway6" : "gateway", gateway);
	return 0;
}

static int check_address(const json_t *network, const char *ip, bool v6, struct error *err)
{
	const char *subnet = json_str(network, v6 ? "subnet6" : "subnet", "");
	struct subnet s;
	struct addr a;
	int r;

	if (!*subnet)
		return error_set(err, EINVAL, "network %s has no IPv6 subnet",
				 json_str(network, "name", json_str(network, "id", "")));
	if ((r = subnet_parse(subnet, &s, err)) < 0 ||
	    (r = addr_parse(ip, &a, "endpoint", err)) < 0)
		return r;
	return subnet_contains(&s, &a)
		       ? 0
		       : error_set(err, EINVAL, "address %s is not in subnet %s", ip, subnet);
}

static bool name_taken(const json_t *ifaces, const char *ifname)
{
	const json_t *iface;
	size_t i;

	json_array_foreach (ifaces, i, iface)
		if (!strcmp(json_str(iface, "ifname", ""), ifname))
			return true;
	return false;
}

/* The document of a new interface, checked. */
static json_t *describe(const struct netd_endpoint *ep, const json_t *network, const json_t *ifaces,
			struct error *err)
{
	CLEANUP_JSON json_t *iface = json_object();
	CLEANUP_FREE char *host_ifname = iface_name("fe", ep->id, ep->network);
	CLEANUP_FREE char *tap = iface_name("fh", ep->id, ep->network);
	char mac[24], ifname[IFNAMSIZ];
	uint8_t bytes[6];
	struct addr a;

	if (!ep->ip4) {
		error_set(err, EINVAL, "an endpoint on a network needs an IPv4 address");
		return NULL;
	}
	if (check_address(network, ep->ip4, false, err) < 0 ||
	    (ep->ip6 && *ep->ip6 && check_address(network, ep->ip6, true, err) < 0) ||
	    gateway_text(network, false, iface, err) < 0 ||
	    (ep->ip6 && *ep->ip6 && gateway_text(network, true, iface, err) < 0) ||
	    (ep->mac && *ep->mac && mac_parse(ep->mac, bytes, err) < 0))
		return NULL;
	addr_parse(ep->ip4, &a, "endpoint", NULL);
	snprintf(mac, sizeof(mac), "02:42:%02x:%02x:%02x:%02x", a.b[12], a.b[13], a.b[14], a.b[15]);
	if (ep->ifname) {
		if (strlen(ep->ifname) >= IFNAMSIZ || !str_is_name(ep->ifname)) {
			error_set(err, EINVAL, "\"%s\" is not an interface name", ep->ifname);
			return NULL;
		}
		snprintf(ifname, sizeof(ifname), "%s", ep->ifname);
	} else {
		unsigned int n = 0;

		do
			snprintf(ifname, sizeof(ifname), "eth%u", n++);
		while (name_taken(ifaces, ifname));
	}
	if (name_taken(ifaces, ifname)) {
		error_set(err, EEXIST, "container %.64s has an interface %s", ep->id, ifname);
		return NULL;
	}
	json_set_str(iface, "network", ep->network);
	json_set_int(iface, "vni", json_int(network, "vni", 0));
	json_set_str(iface, "ifname", ifname);
	json_set_str(iface, "ip4", ep->ip4);
	if (ep->ip6 && *ep->ip6)
		json_set_str(iface, "ip6", ep->ip6);
	json_set_str(iface, "mac", ep->mac && *ep->mac ? ep->mac : mac);
	json_set_str(iface, "host_ifname", host_ifname);
	json_set_str(iface, "tap", tap);
	json_set_str(iface, "state", "standby");
	json_set_bool(iface, "blocked", false);
	json_set_int(iface, "queue_frames", ep->queue_frames ? (int64_t)ep->queue_frames : 16384);
	return TAKE_PTR(iface);
}

static void fill_port(const json_t *iface, const json_t *network, struct ferry_port *port)
{
	struct addr addrs[2];
	int n = netd_iface_addrs(iface, addrs);

	memset(port, 0, sizeof(*port));
	port->vni = netd_iface_vni(iface);
	port->flags = (json_bool(iface, "blocked", false) ? FERRY_PORT_BLOCKED : 0) |
		      (json_bool(network, "internal", false) ? FERRY_PORT_INTERNAL : 0);
	memcpy(port->ip4, addrs[0].b, 16);
	if (n > 1)
		memcpy(port->ip6, addrs[1].b, 16);
	mac_parse(json_str(iface, "mac", ""), port->mac, NULL);
}

/* The veth pair and what hangs on it. Repeatable: a half-made one is made anew. */
static int iface_make(struct netd *nd, const char *netns, const json_t *iface,
		      const json_t *network, bool default_route, struct error *err)
{
	const char *host_ifname = json_str(iface, "host_ifname", "");
	CLEANUP_CLOSE int fd = open(netns, O_RDONLY | O_CLOEXEC);
	struct setup setup = { iface, network, default_route };
	struct ferry_port port;
	uint8_t mac[6];
	struct link_veth veth = { .name = host_ifname,
				  .peer = json_str(iface, "ifname", ""),
				  .mac = netd_gw_mac,
				  .peer_mac = mac,
				  .mtu = NETD_MTU,
				  .peer_netns = fd };
	int ifindex, r;

	if (fd < 0)
		return error_sys(err, errno, "opening net namespace %s", netns);
	fill_port(iface, network, &port);
	memcpy(mac, port.mac, 6);
	if ((r = link_del(host_ifname, err)) < 0 || (r = link_add_veth(&veth, err)) < 0)
		return r;
	ifindex = link_index(host_ifname);
	if (ifindex < 0)
		return error_sys(err, -ifindex, "interface %s", host_ifname);
	link_sysctl("1", NULL, "ipv6/conf/%s/disable_ipv6", host_ifname);
	if ((r = datapath_port_set(nd->dp, ifindex, &port, err)) < 0 ||
	    (r = datapath_attach(nd->dp, DATAPATH_CONTAINER, ifindex, host_ifname, err)) < 0 ||
	    (r = link_up(ifindex, false, err)) < 0)
		return r;
	return netns_run(netns, setup_interface, &setup, err);
}

/* Takes back all that iface_make and the map know. `keep_remote`: see netd_endpoint_remove. */
static void iface_remove(struct netd *nd, const json_t *iface)
{
	const char *host_ifname = json_str(iface, "host_ifname", "");
	int ifindex = link_index(host_ifname), n;
	struct addr addrs[2];
	struct ferry_ep ep;

	n = netd_iface_addrs(iface, addrs);
	for (int i = 0; i < n; i++) {
		uint32_t vni = netd_iface_vni(iface);

		if (datapath_ep_get(nd->dp, vni, &addrs[i], &ep) == 0 && ep.state != FERRY_REMOTE)
			datapath_ep_del(nd->dp, vni, &addrs[i]);
		datapath_flow_flush(nd->dp, vni, &addrs[i]);
	}
	hold_close(nd, iface);
	datapath_detach(nd->dp, host_ifname);
	if (ifindex > 0)
		datapath_port_del(nd->dp, ifindex);
	link_del(host_ifname, NULL);
}

static int dns_sync(struct netd *nd, const char *id, const json_t *ep, struct error *err)
{
	CLEANUP_JSON json_t *networks = json_array();
	const json_t *iface;
	size_t i;

	json_array_foreach (json_object_get(ep, "interfaces"), i, iface)
		json_array_append(networks, json_object_get(iface, "network"));
	if (!json_array_size(networks)) {
		dns_server_remove(nd->dns, id);
		return 0;
	}
	return dns_server_add(nd->dns, id, json_str(ep, "netns", ""), networks,
			      json_object_get(ep, "dns"), err);
}

static int namespace_make(struct netd *nd, const struct netd_endpoint *ep, json_t **out,
			  struct error *err)
{
	CLEANUP_FREE char *netns = str_format("%s/%s", nd->netns_dir, ep->id);
	json_t *doc = json_object_get(nd->endpoints, ep->id);
	int r;

	*out = doc;
	if (doc)
		return 0;
	if (!str_is_name(ep->id))
		return error_set(err, EINVAL, "\"%s\" is not a container id", ep->id);
	if ((r = netns_make(netns, err)) < 0 ||
	    (r = netns_run(netns, setup_namespace, NULL, err)) < 0) {
		netns_remove(netns, NULL);
		return r;
	}
	doc = json_object();
	json_set_str(doc, "netns", netns);
	json_object_set_new(doc, "interfaces", json_array());
	if (ep->dns && ep->dns[0]) {
		json_t *dns = json_array();

		for (size_t i = 0; ep->dns[i]; i++)
			json_array_append_new(dns, json_string(ep->dns[i]));
		json_object_set_new(doc, "dns", dns);
	}
	json_object_set_new(nd->endpoints, ep->id, doc);
	*out = doc;
	return 0;
}

static int iface_start(struct netd *nd, json_t *iface, bool hold, struct error *err)
{
	struct addr addrs[2];
	struct ferry_ep old;
	int r;

	netd_iface_addrs(iface, addrs);
	if (!hold) {
		json_set_str(iface, "state", "local");
		return netd_iface_map(nd, iface, FERRY_LOCAL, 0, err);
	}
	if ((r = hold_open(nd, iface, err)) < 0)
		return r;
	if (datapath_ep_get(nd->dp, netd_iface_vni(iface), &addrs[0], &old) == 0 &&
	    old.state == FERRY_REMOTE)
		return 0; /* standby: clients here still talk to the source */
	json_set_str(iface, "state", "hold");
	return netd_iface_map(nd, iface, FERRY_HOLD, 0, err);
}

static int same_iface(const json_t *iface, const struct netd_endpoint *ep, struct error *err)
{
	if (strcmp(json_str(iface, "ip4", ""), ep->ip4 ? ep->ip4 : "") ||
	    strcmp(json_str(iface, "ip6", ""), ep->ip6 ? ep->ip6 : ""))
		return error_set(err, EEXIST, "container %.64s is on network %s with address %s",
				 ep->id, ep->network, json_str(iface, "ip4", ""));
	return 0;
}

/* The container whose endpoint has an address of the new interface, or NULL. */
static const char *address_owner(struct netd *nd, const json_t *iface)
{
	struct addr mine[2], theirs[2];
	int n = netd_iface_addrs(iface, mine);
	const json_t *ep, *other;
	const char *id;
	size_t i;

	json_object_foreach (nd->endpoints, id, ep)
		json_array_foreach (json_object_get(ep, "interfaces"), i, other) {
			if (netd_iface_vni(other) != netd_iface_vni(iface))
				continue;
			if (netd_iface_addrs(other, theirs) < 1)
				continue;
			if (!memcmp(&mine[0], &theirs[0], sizeof(mine[0])) ||
			    (n > 1 && !memcmp(&mine[1], &theirs[1], sizeof(mine[1]))))
				return id;
		}
	return NULL;
}

static int iface_add(struct netd *nd, const struct netd_endpoint *ep, json_t *doc,
		     struct error *err)
{
	json_t *network = json_object_get(nd->networks, ep->network), *old;
	json_t *ifaces = json_object_get(doc, "interfaces");
	CLEANUP_JSON json_t *iface = NULL;
	const char *owner;
	size_t i;
	int r;

	if (!network)
		return error_set(err, ENOENT, "network %s not found on host %s", ep->network,
				 nd->host);
	json_array_foreach (ifaces, i, old)
		if (!strcmp(json_str(old, "network", ""), ep->network))
			return same_iface(old, ep, err);
	iface = describe(ep, network, ifaces, err);
	if (!iface)
		return err ? -err->code : -EINVAL;
	owner = address_owner(nd, iface);
	if (owner)
		return error_set(err, EADDRINUSE, "address %s is in use by container %.64s",
				 ep->ip4, owner);
	json_array_append(ifaces, iface);
	/* On disk before it exists: after a crash it is found and made whole or removed. */
	r = netd_save(nd, err);
	if (r == 0)
		r = iface_make(nd, json_str(doc, "netns", ""), iface, network,
			       json_array_size(ifaces) == 1, err);
	if (r == 0)
		r = iface_start(nd, iface, ep->hold, err);
	if (r == 0)
		r = dns_sync(nd, ep->id, doc, err);
	if (r < 0) {
		iface_remove(nd, iface);
		json_array_remove(ifaces, json_array_size(ifaces) - 1);
		dns_sync(nd, ep->id, doc, NULL);
	}
	return r;
}

static int endpoint_remove_locked(struct netd *nd, const char *id, struct error *err)
{
	json_t *doc = json_object_get(nd->endpoints, id), *iface;
	size_t i;
	int r;

	if (!doc)
		return 0;
	dns_server_remove(nd->dns, id);
	json_array_foreach (json_object_get(doc, "interfaces"), i, iface)
		iface_remove(nd, iface);
	r = netns_remove(json_str(doc, "netns", ""), err);
	json_object_del(nd->endpoints, id);
	return r;
}

static int endpoint_add_locked(struct netd *nd, const struct netd_endpoint *ep, char **netns_path,
			       struct error *err)
{
	bool fresh = !json_object_get(nd->endpoints, ep->id);
	json_t *doc = NULL;
	int r = namespace_make(nd, ep, &doc, err);

	if (r == 0 && ep->network)
		r = iface_add(nd, ep, doc, err);
	if (r < 0) {
		if (fresh)
			endpoint_remove_locked(nd, ep->id, NULL);
		netd_save(nd, NULL);
		return r;
	}
	if (netns_path)
		*netns_path = str_dup(json_str(doc, "netns", ""));
	return netd_save(nd, err);
}

int netd_endpoint_add(struct netd *nd, const struct netd_endpoint *ep, char **netns_path,
		      struct error *err)
{
	int r;

	pthread_mutex_lock(&nd->lock);
	r = endpoint_add_locked(nd, ep, netns_path, err);
	pthread_mutex_unlock(&nd->lock);
	return r < 0 ? error_wrap(err, "endpoint of container %.64s", ep->id) : 0;
}

/* --- removing, listing ------------------------------------------------------------------- */

int netd_endpoint_remove(struct netd *nd, const char *id, struct error *err)
{
	int r;

	pthread_mutex_lock(&nd->lock);
	r = endpoint_remove_locked(nd, id, err);
	if (r == 0)
		r = netd_save(nd, err);
	pthread_mutex_unlock(&nd->lock);
	return r;
}

int netd_endpoint_disconnect(struct netd *nd, const char *id, const char *network,
			     struct error *err)
{
	json_t *doc, *iface;
	size_t i;
	int r = 0;

	pthread_mutex_lock(&nd->lock);
	doc = json_object_get(nd->endpoints, id);
	json_array_foreach (json_object_get(doc, "interfaces"), i, iface)
		if (!strcmp(json_str(iface, "network", ""), network)) {
			iface_remove(nd, iface);
			json_array_remove(json_object_get(doc, "interfaces"), i);
			r = dns_sync(nd, id, doc, err);
			if (r == 0)
				r = netd_save(nd, err);
			break;
		}
	pthread_mutex_unlock(&nd->lock);
	return r;
}

int endpoint_remove_all(struct netd *nd, struct error *err)
{
	int result = 0, r;

	while (json_object_size(nd->endpoints)) {
		CLEANUP_FREE char *id =
			str_dup(json_object_iter_key(json_object_iter(nd->endpoints)));

		r = endpoint_remove_locked(nd, id, result ? NULL : err);
		if (r < 0 && !result)
			result = r;
	}
	return result;
}

int netd_endpoint_list(struct netd *nd, json_t **out, struct error *err)
{
	const char *id;
	json_t *doc;

	(void)err;
	pthread_mutex_lock(&nd->lock);
	*out = json_array();
	json_object_foreach (nd->endpoints, id, doc)
		json_array_append_new(*out, json_string(id));
	pthread_mutex_unlock(&nd->lock);
	return 0;
}

static void inspect_iface(struct netd *nd, json_t *iface)
{
	const json_t *network = json_object_get(nd->networks, json_str(iface, "network", ""));
	int ifindex = link_index(json_str(iface, "host_ifname", ""));
	struct link_stats s = { 0 };
	struct subnet subnet;

	if (subnet_parse(json_str(network, "subnet", ""), &subnet, NULL) == 0)
		json_set_int(iface, "prefix", subnet.prefix);
	if (ifindex > 0)
		link_stats(ifindex, &s, NULL);
	/* Seen from the container: what the host side sends is what it receives. */
	json_set_int(iface, "rx_packets", (int64_t)s.tx_packets);
	json_set_int(iface, "rx_bytes", (int64_t)s.tx_bytes);
	json_set_int(iface, "rx_dropped", (int64_t)s.tx_dropped);
	json_set_int(iface, "tx_packets", (int64_t)s.rx_packets);
	json_set_int(iface, "tx_bytes", (int64_t)s.rx_bytes);
	json_set_int(iface, "tx_dropped", (int64_t)s.rx_dropped);
	json_set_int(iface, "held_frames", (int64_t)hold_frames(nd, iface));
}

int netd_endpoint_inspect(struct netd *nd, const char *id, json_t **out, struct error *err)
{
	json_t *doc, *iface;
	size_t i;
	int r = 0;

	pthread_mutex_lock(&nd->lock);
	if (netd_interfaces(nd, id, err)) {
		doc = json_deep_copy(json_object_get(nd->endpoints, id));
		json_set_str(doc, "id", id);
		json_array_foreach (json_object_get(doc, "interfaces"), i, iface)
			inspect_iface(nd, iface);
		*out = doc;
	} else {
		r = -ENOENT;
	}
	pthread_mutex_unlock(&nd->lock);
	return r;
}

/* --- after a restart ---------------------------------------------------------------------- */

static int iface_reopen(struct netd *nd, json_t *iface, struct error *err)
{
	const char *host_ifname = json_str(iface, "host_ifname", "");
	const char *state = json_str(iface, "state", "");
	int ifindex = link_index(host_ifname), r;

	r = datapath_attach(nd->dp, DATAPATH_CONTAINER, ifindex, host_ifname, err);
	if (r < 0)
		return r;
	if (!strcmp(state, "standby") || !strcmp(state, "hold") || !strcmp(state, "releasing"))
		r = hold_open(nd, iface, err);
	if (r == 0 && !strcmp(state, "releasing"))
		r = hold_release(nd, iface, err);
	return r;
}

int endpoint_reopen_all(struct netd *nd, struct error *err)
{
	const char *id;
	json_t *doc, *iface;
	void *next;
	size_t i;

	json_object_foreach_safe (nd->endpoints, next, id, doc) {
		json_t *ifaces = json_object_get(doc, "interfaces");

		/* The process died between writing the document and making the interface,
		 * or the namespace is gone (the host restarted). */
		for (i = json_array_size(ifaces); i-- > 0;) {
			iface = json_array_get(ifaces, i);
			if (link_index(json_str(iface, "host_ifname", "")) > 0)
				continue;
			log_warn("container %.64s: interface %s is gone, forgetting it", id,
				 json_str(iface, "ifname", ""));
			iface_remove(nd, iface);
			json_array_remove(ifaces, i);
		}
		if (access(json_str(doc, "netns", ""), F_OK) < 0) {
			endpoint_remove_locked(nd, id, NULL);
			continue;
		}
		json_array_foreach (ifaces, i, iface)
			if (iface_reopen(nd, iface, err) < 0)
				return error_wrap(err, "endpoint of container %.64s", id);
		if (dns_sync(nd, id, doc, err) < 0)
			return error_wrap(err, "endpoint of container %.64s", id);
	}
	return 0;
}

/* --- migration ------------------------------------------------------------------------------ */

typedef int iface_fn(struct netd *nd, json_t *iface, void *arg, struct error *err);

static int each_iface(struct netd *nd, const char *id, iface_fn *fn, void *arg, struct error *err)
{
	json_t *ifaces, *iface;
	size_t i;
	int r = 0;

	pthread_mutex_lock(&nd->lock);
	ifaces = netd_interfaces(nd, id, err);
	if (!ifaces)
		r = -ENOENT;
	json_array_foreach (ifaces, i, iface)
		if (r == 0)
			r = fn(nd, iface, arg, err);
	if (r == 0)
		r = netd_save(nd, err);
	pthread_mutex_unlock(&nd->lock);
	return r;
}

static int do_hold(struct netd *nd, json_t *iface, void *arg, struct error *err)
{
	int r;

	(void)arg;
	if (!strcmp(json_str(iface, "state", ""), "hold"))
		return 0;
	if ((r = hold_open(nd, iface, err)) < 0)
		return r;
	json_set_str(iface, "state", "hold");
	return netd_iface_map(nd, iface, FERRY_HOLD, 0, err);
}

int netd_hold(struct netd *nd, const char *id, struct error *err)
{
	int r = each_iface(nd, id, do_hold, NULL, err);

	return r < 0 ? error_wrap(err, "holding container %.64s", id) : 0;
}

static int do_release(struct netd *nd, json_t *iface, void *arg, struct error *err)
{
	const char *state = json_str(iface, "state", "");
	int r;

	(void)arg;
	if (!strcmp(state, "local") || !strcmp(state, "releasing"))
		return 0;
	if (!strcmp(state, "hold"))
		return hold_release(nd, iface, err);
	if ((r = netd_iface_map(nd, iface, FERRY_LOCAL, 0, err)) < 0)
		return r;
	hold_close(nd, iface);
	json_set_str(iface, "state", "local");
	json_object_del(iface, "forward_to");
	return 0;
}

int netd_release(struct netd *nd, const char *id, struct error *err)
{
	int r = each_iface(nd, id, do_release, NULL, err);

	return r < 0 ? error_wrap(err, "releasing container %.64s", id) : 0;
}

static int do_block(struct netd *nd, json_t *iface, void *arg, struct error *err)
{
	const json_t *network = json_object_get(nd->networks, json_str(iface, "network", ""));
	int ifindex = link_index(json_str(iface, "host_ifname", ""));
	struct ferry_port port;

	json_set_bool(iface, "blocked", *(const bool *)arg);
	if (ifindex < 0)
		return error_sys(err, -ifindex, "interface %s", json_str(iface, "ifname", ""));
	fill_port(iface, network, &port);
	return datapath_port_set(nd->dp, ifindex, &port, err);
}

int netd_block_egress(struct netd *nd, const char *id, bool on, struct error *err)
{
	int r = each_iface(nd, id, do_block, &on, err);

	return r < 0 ? error_wrap(err, "blocking egress of container %.64s", id) : 0;
}

static int do_forward(struct netd *nd, json_t *iface, void *arg, struct error *err)
{
	const char *host_ip = arg;
	uint32_t host = 0;
	int r;

	if (!host_ip) {
		/* A held or prepared endpoint becomes local by netd_release() alone. */
		if (strcmp(json_str(iface, "state", ""), "forward"))
			return 0;
		json_set_str(iface, "state", "local");
		json_object_del(iface, "forward_to");
		return netd_iface_map(nd, iface, FERRY_LOCAL, 0, err);
	}
	if ((r = host_ip_parse(host_ip, &host, err)) < 0)
		return r;
	if (host == nd->underlay)
		return error_set(err, EINVAL, "%s is this host itself", host_ip);
	json_set_str(iface, "state", "forward");
	json_set_str(iface, "forward_to", host_ip);
	if ((r = netd_iface_map(nd, iface, FERRY_REMOTE, host, err)) < 0)
		return r;
	hold_drain(nd, iface);
	hold_close(nd, iface);
	return 0;
}

int netd_forward(struct netd *nd, const char *id, const char *host_ip, struct error *err)
{
	int r = each_iface(nd, id, do_forward, (void *)(uintptr_t)host_ip, err);

	return r < 0 ? error_wrap(err, "forwarding container %.64s", id) : 0;
}
