/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links, addresses and routes over rtnetlink, in the calling thread's net namespace.
 * Every function returns 0 or -errno with err set.
 */
#ifndef FERRY_NETD_LINK_H
#define FERRY_NETD_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "netd/addr.h"

/* The index of an interface, or -errno (-ENODEV). */
int link_index(const char *name);

/* One VXLAN device for all networks: external (the VNI comes from tc), no learning. */
int link_add_vxlan(const char *name, const uint8_t mac[6], uint16_t port, struct error *err);

struct link_veth {
	const char *name, *peer;
	const uint8_t *mac, *peer_mac; /* peer_mac NULL: random */
	uint32_t mtu;
	int peer_netns; /* fd; -1: the same */
};
int link_add_veth(const struct link_veth *veth, struct error *err);

/* Sets what is given: mac NULL, txqlen 0, mtu 0 mean "leave". */
int link_set(int ifindex, const uint8_t *mac, uint32_t mtu, uint32_t txqlen, struct error *err);
/* Up, with or without ARP and ND. */
int link_up(int ifindex, bool arp, struct error *err);
/* -ENODEV is success. */
int link_del(const char *name, struct error *err);

struct link_stats {
	uint64_t rx_packets, rx_bytes, rx_dropped, tx_packets, tx_bytes, tx_dropped;
};
int link_stats(int ifindex, struct link_stats *out, struct error *err);

/* EEXIST is success; no duplicate address detection. */
int link_addr_add(int ifindex, const struct addr *a, unsigned int prefix, struct error *err);
int link_addr_del(int ifindex, const struct addr *a, unsigned int prefix, struct error *err);
/* dst NULL: default route. via, src may be NULL. An equal route is replaced. */
int link_route_add(int ifindex, const struct subnet *dst, const struct addr *via,
		   const struct addr *src, struct error *err);
int link_route_del(int ifindex, const struct subnet *dst, struct error *err);

/* Writes /proc/sys/net/PATH of the thread's namespace. */
int link_sysctl(const char *value, struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
