/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the datapath (overlay.bpf.c) and netd share: keys and values of the pinned maps.
 * Includes nothing: vmlinux.h or linux/types.h comes before it. Addresses are 16 bytes in
 * network order, IPv4 as ::ffff:a.b.c.d; hosts are IPv4 in *host* byte order, as
 * bpf_tunnel_key wants them.
 */
#ifndef FERRY_NETD_BPF_MAPS_H
#define FERRY_NETD_BPF_MAPS_H

/* Bump when a layout changes: pins of another version are refused, not misread. */
#define FERRY_MAPS_VERSION 1

enum ferry_state {
	FERRY_LOCAL = 1,     /* deliver to `ifindex` */
	FERRY_HOLD = 2,	     /* queue in the tap `hold_ifindex` */
	FERRY_RELEASING = 3, /* as HOLD while the queue is not empty, then as LOCAL */
	FERRY_REMOTE = 4,    /* tunnel to `host` */
	FERRY_GATEWAY = 5,   /* the network's gateway: this host's stack */
};

struct ferry_ep_key {
	__u32 vni;
	__u8 ip[16];
};

struct ferry_ep {
	__u32 host;
	__u32 ifindex;	    /* host-side veth */
	__u32 hold_ifindex; /* tap */
	__u32 identity;	    /* for policies; 0: none */
	__u8 mac[6];
	__u8 state;
	__u8 pad;
};

#define FERRY_PORT_BLOCKED  1 /* drop all the container sends */
#define FERRY_PORT_INTERNAL 2 /* network without egress to the outside */

/* Of a host-side veth or tap, by ifindex. */
struct ferry_port {
	__u32 vni;
	__u32 flags;
	__u8 ip4[16];
	__u8 ip6[16]; /* zero: none */
	__u8 mac[6];
	__u8 pad[2];
};

struct ferry_subnet_key {
	__u32 prefixlen; /* 0..128 */
	__u8 ip[16];
};

struct ferry_flow_key {
	__u32 vni;
	__u8 local[16];
	__u8 peer[16];
	__u16 local_port; /* network order; ICMP echo: the identifier in both */
	__u16 peer_port;
	__u8 proto;
	__u8 pad[3];
};

/* The one element of the array `ferry_config`. */
struct ferry_config {
	__u32 version;
	__u32 underlay; /* this host */
	__u32 vxlan_ifindex;
	__u32 gw_ifindex;
	__u8 gw_mac[6];
	__u8 pad[2];
};

enum ferry_drop {
	FERRY_DROP_PORT,    /* interface netd does not know */
	FERRY_DROP_BLOCKED, /* egress blocked */
	FERRY_DROP_SPOOF,   /* source is not the container's */
	FERRY_DROP_PARSE,   /* neither ARP, IPv4 nor IPv6, or cut short */
	FERRY_DROP_UNKNOWN, /* no such endpoint in this network */
	FERRY_DROP_SCOPE,   /* multicast, loopback, another network */
	FERRY_DROP_LOOP,    /* would go back to the host it came from */
	FERRY_DROP_MAX,
};

#endif
