/* SPDX-License-Identifier: Apache-2.0 */
/*
 * North and south: egress masquerade and published ports, by the host's own nftables and
 * conntrack, in tables `ip ferry` and `ip6 ferry` that are rewritten whole in one
 * transaction. East-west traffic never comes here.
 *
 * A published port is a DNAT on the host that received the request; the packet then goes
 * out of ferry.gw, where BPF finds the endpoint wherever it runs. Its host notes the flow
 * (ferry_flows) and sends replies back to the host they came through, whose conntrack
 * undoes the translation: the client's address is kept, and a migration in between moves
 * nothing but the endpoint.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "netd/state.h"

/* The subnets of one family, comma-separated, in a set. */
static void add_set(struct netd *nd, struct buf *b, bool v6)
{
	const char *id, *sep = "";
	json_t *network;

	buf_addf(b, "\tset overlay { type %s; flags interval;", v6 ? "ipv6_addr" : "ipv4_addr");
	json_object_foreach (nd->networks, id, network) {
		const char *subnet = json_str(network, v6 ? "subnet6" : "subnet", "");

		if (!*subnet)
			continue;
		buf_addf(b, "%s %s", *sep ? sep : " elements = {", subnet);
		sep = ",";
	}
	buf_addf(b, "%s }\n", *sep ? " };" : "");
}

static void add_ports(struct netd *nd, struct buf *b, bool v6)
{
	json_t *port;
	size_t i;

	json_array_foreach (nd->ports, i, port) {
		const char *host_ip = json_str(port, "host_ip", ""), *ip = json_str(port, "ip", "");
		const char *family = v6 ? "ip6" : "ip";

		if (!strchr(ip, ':') == v6)
			continue;
		if (*host_ip)
			buf_addf(b, "\t\t%s daddr %s", family, host_ip);
		else
			buf_addf(b, "\t\tfib daddr type local");
		buf_addf(b, " %s dport %d dnat to %s%s%s:%d\n", json_str(port, "proto", ""),
			 (int)json_int(port, "host_port", 0), v6 ? "[" : "", ip, v6 ? "]" : "",
			 (int)json_int(port, "port", 0));
	}
}

static void add_table(struct netd *nd, struct buf *b, bool v6)
{
	const char *family = v6 ? "ip6" : "ip";
	char underlay[INET6_ADDRSTRLEN];

	addr_format(&nd->underlay_addr, underlay);
	buf_addf(b, "table %s ferry\ndelete table %s ferry\ntable %s ferry {\n", family, family,
		 family);
	add_set(nd, b, v6);
	/* The overlay's own packets, a port per flow, would only fill conntrack. */
	buf_addf(b,
		 "\tchain raw_in { type filter hook prerouting priority raw; "
		 "udp dport %d notrack; }\n"
		 "\tchain raw_out { type filter hook output priority raw; "
		 "udp dport %d notrack; }\n",
		 NETD_VXLAN_PORT, NETD_VXLAN_PORT);
	buf_addf(b, "\tchain prerouting {\n\t\ttype nat hook prerouting priority dstnat;\n");
	add_ports(nd, b, v6);
	buf_addf(b, "\t}\n\tchain output {\n\t\ttype nat hook output priority -100;\n");
	add_ports(nd, b, v6);
	buf_addf(b, "\t}\n\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat;\n");
	/*
	 * Towards a container from 127.0.0.1, or from a container through a published port:
	 * under this host's own address, so that the replies come back here.
	 */
	if (!v6)
		buf_addf(b,
			 "\t\toifname \"" NETD_GW "\" ip saddr 127.0.0.0/8 snat to %s\n"
			 "\t\toifname \"" NETD_GW "\" ip saddr @overlay ct status dnat "
			 "snat to %s\n",
			 underlay, underlay);
	buf_addf(b, "\t\toifname != \"" NETD_GW "\" %s saddr @overlay masquerade\n\t}\n}\n",
		 family);
}

static bool uses_v6(struct netd *nd)
{
	const char *id;
	json_t *network;

	json_object_foreach (nd->networks, id, network)
		if (*json_str(network, "subnet6", ""))
			return true;
	return false;
}

int nat_apply(struct netd *nd, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/ferry.nft", nd->dir);
	const char *const argv[] = { "nft", "-f", path, NULL };
	CLEANUP_BUF struct buf b = { 0 };
	int r;

	add_table(nd, &b, false);
	if (uses_v6(nd))
		add_table(nd, &b, true);
	else
		buf_addf(&b, "table ip6 ferry\ndelete table ip6 ferry\n");
	r = file_write_atomic(path, b.data, b.len, 0600, err);
	if (r == 0)
		r = process_run(argv, NULL, err);
	return r < 0 ? error_wrap(err, "setting up NAT") : 0;
}

int nat_remove(struct netd *nd, struct error *err)
{
	const char *const argv[] = { "nft",
				     "table ip ferry; delete table ip ferry; "
				     "table ip6 ferry; delete table ip6 ferry",
				     NULL };

	(void)nd;
	return process_run(argv, NULL, err) < 0 ? error_wrap(err, "removing NAT") : 0;
}

/* --- published ports -------------------------------------------------------------------- */

static const char *any_as_empty(const char *host_ip)
{
	if (!host_ip || !strcmp(host_ip, "0.0.0.0") || !strcmp(host_ip, "::"))
		return "";
	return host_ip;
}

static bool same_port(const json_t *port, const char *proto, const char *host_ip,
		      uint16_t host_port)
{
	return !strcmp(json_str(port, "proto", ""), proto) &&
	       !strcmp(json_str(port, "host_ip", ""), host_ip) &&
	       json_int(port, "host_port", 0) == host_port;
}

static bool clashes(const json_t *port, const char *proto, const char *host_ip, uint16_t host_port)
{
	const char *other = json_str(port, "host_ip", "");

	return !strcmp(json_str(port, "proto", ""), proto) &&
	       json_int(port, "host_port", 0) == host_port &&
	       (!*other || !*host_ip || !strcmp(other, host_ip));
}

/* Binds the port for a moment: is it free, or which is? */
static int probe_port(const char *proto, const char *host_ip, uint16_t *port, struct error *err)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(*port) };
	bool tcp = !strcmp(proto, "tcp");
	CLEANUP_CLOSE int fd = socket(AF_INET, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(sin);
	int one = 1;

	if (fd < 0)
		return error_sys(err, errno, "opening a socket");
	if (*host_ip && inet_pton(AF_INET, host_ip, &sin.sin_addr) != 1)
		return error_set(err, EINVAL, "host address \"%s\" is not an IPv4 address",
				 host_ip);
	if (tcp)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 || (tcp && listen(fd, 1) < 0))
		return error_sys(err, errno, "port %s:%u/%s of this host cannot be published",
				 *host_ip ? host_ip : "0.0.0.0", *port, proto);
	if (getsockname(fd, (struct sockaddr *)&sin, &len) == 0)
		*port = ntohs(sin.sin_port);
	return 0;
}

static int publish_locked(struct netd *nd, const char *id, const char *ip, const char *proto,
			  const char *host_ip, uint16_t *host_port, uint16_t port,
			  struct error *err)
{
	uint16_t chosen = *host_port;
	struct addr a;
	json_t *other;
	size_t i;
	int r;

	if (!proto || (strcmp(proto, "tcp") && strcmp(proto, "udp")))
		return error_set(err, EINVAL,
				 "protocol \"%s\" cannot be published; tcp and udp can",
				 proto ? proto : "");
	if (!port)
		return error_set(err, EINVAL, "container port 0 cannot be published");
	if (!ip) {
		json_t *ifaces = netd_interfaces(nd, id, err);

		if (!ifaces)
			return -ENOENT;
		ip = json_str(json_array_get(ifaces, 0), "ip4", "");
	}
	if ((r = addr_parse(ip, &a, "container address", err)) < 0)
		return r;
	json_array_foreach (nd->ports, i, other) {
		if (!chosen || !clashes(other, proto, host_ip, chosen))
			continue;
		if (same_port(other, proto, host_ip, chosen) &&
		    !strcmp(json_str(other, "id", ""), id) &&
		    !strcmp(json_str(other, "ip", ""), ip) && json_int(other, "port", 0) == port)
			return 0;
		return error_set(err, EADDRINUSE,
				 "port %u/%s of this host is published already, "
				 "by container %s",
				 chosen, proto, json_str(other, "id", "?"));
	}
	if ((r = probe_port(proto, host_ip, &chosen, err)) < 0)
		return r;
	other = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i}", "id", id, "ip", ip, "proto", proto,
			  "host_ip", host_ip, "host_port", chosen, "port", port);
	json_array_append_new(nd->ports, other);
	r = nat_apply(nd, err);
	if (r == 0)
		r = netd_save(nd, err);
	if (r < 0) {
		json_array_remove(nd->ports, json_array_size(nd->ports) - 1);
		return r;
	}
	*host_port = chosen;
	return 0;
}

int netd_publish(struct netd *nd, const char *id, const char *ip, const char *proto,
		 const char *host_ip, uint16_t *host_port, uint16_t port, struct error *err)
{
	int r;

	pthread_mutex_lock(&nd->lock);
	r = publish_locked(nd, id, ip, proto, any_as_empty(host_ip), host_port, port, err);
	pthread_mutex_unlock(&nd->lock);
	return r < 0 ? error_wrap(err, "publishing port %u of container %.64s", port, id) : 0;
}

int netd_unpublish(struct netd *nd, const char *id, const char *proto, const char *host_ip,
		   uint16_t host_port, struct error *err)
{
	bool changed = false;
	int r = 0;

	pthread_mutex_lock(&nd->lock);
	for (size_t i = json_array_size(nd->ports); i-- > 0;) {
		const json_t *port = json_array_get(nd->ports, i);

		if (strcmp(json_str(port, "id", ""), id) ||
		    (proto && !same_port(port, proto, any_as_empty(host_ip), host_port)))
			continue;
		json_array_remove(nd->ports, i);
		changed = true;
	}
	if (changed)
		r = nat_apply(nd, err);
	if (changed && r == 0)
		r = netd_save(nd, err);
	pthread_mutex_unlock(&nd->lock);
	return r;
}

int netd_publish_list(struct netd *nd, json_t **out, struct error *err)
{
	(void)err;
	pthread_mutex_lock(&nd->lock);
	*out = json_deep_copy(nd->ports);
	pthread_mutex_unlock(&nd->lock);
	return 0;
}
