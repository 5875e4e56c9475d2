/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The datapath, four tc programs. None needs a process: all state is in pinned maps.
 *
 *   from_container  ingress of each host-side veth: what a container sends
 *   from_overlay    ingress of ferry.vx: what other hosts send
 *   from_host       egress of ferry.gw: what this host's stack sends into the overlay
 *   from_hold       ingress of a hold tap: what netd replays
 *
 * The one idea: every host-side device bears the same gateway MAC and every neighbour
 * query is answered with it. A frame's destination is thus always "the host side", its
 * packet type always HOST, and bpf_redirect_peer hands it to the container's stack with
 * no rewriting; nothing a container has cached changes when somebody moves.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "netd/bpf/maps.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define TC_ACT_OK	   0
#define TC_ACT_SHOT	   2
#define BPF_F_INGRESS	   1ULL
#define BPF_F_ZERO_CSUM_TX (1ULL << 1)
#define BPF_ANY		   0
#define BPF_F_NO_PREALLOC  1
#define ETH_HLEN	   14
#define ETH_P_IP	   0x0800
#define ETH_P_ARP	   0x0806
#define ETH_P_IPV6	   0x86dd
#define OUTER_TTL	   64
#define NEXTHDR_ICMP	   58

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ferry_config);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ferry_config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct ferry_ep_key);
	__type(value, struct ferry_ep);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ferry_endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct ferry_port);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ferry_ports SEC(".maps");

/* All subnets of the overlay on this host → VNI. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct ferry_subnet_key);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ferry_subnets SEC(".maps");

/* Flows between a container here and the outside → the host they return through. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct ferry_flow_key);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ferry_flows SEC(".maps");

/*
 * By ifindex of the tap: frames put into its queue (counted here), frames of these that
 * have arrived in the container's stack (written by netd). Equal: the queue is empty.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ferry_queued SEC(".maps"), ferry_replayed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FERRY_DROP_MAX);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ferry_drops SEC(".maps");

struct packet {
	__u8 src[16], dst[16];
	__be16 sport, dport;
	__u8 proto, v6;
	__u8 syn; /* TCP SYN without ACK: the start of a new flow */
	__u8 icmp_type;
};

static __always_inline int drop(__u32 why)
{
	__u64 *n = bpf_map_lookup_elem(&ferry_drops, &why);

	if (n)
		*n += 1;
	return TC_ACT_SHOT;
}

static __always_inline struct ferry_config *this_host(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ferry_config, &zero);
}

static __always_inline void mapped(__u8 *out, __be32 ip4)
{
	__builtin_memset(out, 0, 10);
	out[10] = 0xff;
	out[11] = 0xff;
	__builtin_memcpy(out + 12, &ip4, 4);
}

static __always_inline bool same_ip(const __u8 *a, const __u8 *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3];
}

/* Addresses, protocol and ports; 0, or -1 for what is neither IPv4 nor IPv6. */
static __always_inline int parse(struct __sk_buff *skb, struct packet *p)
{
	__u32 l4 = ETH_HLEN;
	__be16 ports[2] = { 0, 0 };
	__u8 flags = 0;

	__builtin_memset(p, 0, sizeof(*p));
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) < 0)
			return -1;
		mapped(p->src, ip.saddr);
		mapped(p->dst, ip.daddr);
		p->proto = ip.protocol;
		if (ip.frag_off & bpf_htons(0x1fff))
			return 0;
		l4 += ip.ihl * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip6;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip6, sizeof(ip6)) < 0)
			return -1;
		__builtin_memcpy(p->src, &ip6.saddr, 16);
		__builtin_memcpy(p->dst, &ip6.daddr, 16);
		p->proto = ip6.nexthdr;
		p->v6 = 1;
		l4 += sizeof(ip6);
	} else {
		return -1;
	}
	if (p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP) {
		if (bpf_skb_load_bytes(skb, l4, ports, 4) < 0)
			return 0;
		p->sport = ports[0];
		p->dport = ports[1];
		if (p->proto == IPPROTO_TCP && !bpf_skb_load_bytes(skb, l4 + 13, &flags, 1))
			p->syn = (flags & 0x12) == 0x02;
	} else if (p->proto == IPPROTO_ICMP || p->proto == NEXTHDR_ICMP) {
		if (!bpf_skb_load_bytes(skb, l4, &flags, 1))
			p->icmp_type = flags;
		if (!bpf_skb_load_bytes(skb, l4 + 4, ports, 2))
			p->sport = p->dport = ports[0];
	}
	return 0;
}

static __always_inline struct ferry_ep *endpoint(__u32 vni, const __u8 *ip)
{
	struct ferry_ep_key key = { .vni = vni };

	__builtin_memcpy(key.ip, ip, 16);
	return bpf_map_lookup_elem(&ferry_endpoints, &key);
}

/* The VNI of the subnet the address is in, or 0. */
static __always_inline __u32 subnet_of(const __u8 *ip)
{
	struct ferry_subnet_key key = { .prefixlen = 128 };
	__u32 *vni;

	__builtin_memcpy(key.ip, ip, 16);
	vni = bpf_map_lookup_elem(&ferry_subnets, &key);
	return vni ? *vni : 0;
}

static __always_inline void flow_key(struct ferry_flow_key *key, __u32 vni, const struct packet *p,
				     bool outbound)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->vni = vni;
	key->proto = p->proto;
	__builtin_memcpy(key->local, outbound ? p->src : p->dst, 16);
	__builtin_memcpy(key->peer, outbound ? p->dst : p->src, 16);
	key->local_port = outbound ? p->sport : p->dport;
	key->peer_port = outbound ? p->dport : p->sport;
}

/* Remembers through which host the flow of an inbound packet returns. */
static __always_inline void flow_note(__u32 vni, const struct packet *p, __u32 via)
{
	struct ferry_flow_key key;
	__u32 *old;

	if (subnet_of(p->src))
		return;
	flow_key(&key, vni, p, false);
	old = bpf_map_lookup_elem(&ferry_flows, &key);
	if (!old || *old != via)
		bpf_map_update_elem(&ferry_flows, &key, &via, BPF_ANY);
}

static __always_inline int to_tunnel(struct __sk_buff *skb, const struct ferry_config *c, __u32 vni,
				     __u32 host, __u8 ttl)
{
	struct bpf_tunnel_key key;

	__builtin_memset(&key, 0, sizeof(key));
	key.tunnel_id = vni;
	key.remote_ipv4 = host;
	key.local_ipv4 = c->underlay;
	key.tunnel_ttl = ttl;
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), BPF_F_ZERO_CSUM_TX) < 0)
		return drop(FERRY_DROP_PARSE);
	return bpf_redirect(c->vxlan_ifindex, 0);
}

static __always_inline int to_stack(const struct ferry_config *c)
{
	return bpf_redirect(c->gw_ifindex, BPF_F_INGRESS);
}

/*
 * To the container. At ingress straight into its stack; from the egress hook, where
 * redirect_peer is not allowed, through the veth, which then checks the MAC address.
 */
static __always_inline int to_container(struct __sk_buff *skb, const struct ferry_ep *ep,
					bool ingress)
{
	if (ingress)
		return bpf_redirect_peer(ep->ifindex, 0);
	if (bpf_skb_store_bytes(skb, 0, ep->mac, 6, 0) < 0)
		return drop(FERRY_DROP_PARSE);
	return bpf_redirect(ep->ifindex, 0);
}

static __always_inline int deliver(struct __sk_buff *skb, const struct ferry_config *c, __u32 vni,
				   const struct ferry_ep *ep, bool ingress, __u32 sender, __u8 ttl)
{
	__u64 *queued, *replayed;
	__u32 tap = ep->hold_ifindex;

	switch (ep->state) {
	case FERRY_LOCAL:
		return to_container(skb, ep, ingress);
	case FERRY_HOLD:
	case FERRY_RELEASING:
		queued = bpf_map_lookup_elem(&ferry_queued, &tap);
		replayed = bpf_map_lookup_elem(&ferry_replayed, &tap);
		if (!queued || !replayed)
			return drop(FERRY_DROP_PORT);
		if (ep->state == FERRY_RELEASING &&
		    *(volatile __u64 *)queued == *(volatile __u64 *)replayed)
			return to_container(skb, ep, ingress);
		__sync_fetch_and_add(queued, 1);
		return bpf_redirect(tap, 0);
	case FERRY_REMOTE:
		if (ep->host == sender || ep->host == c->underlay || ttl < 2)
			return drop(FERRY_DROP_LOOP);
		return to_tunnel(skb, c, vni, ep->host, ttl);
	}
	return drop(FERRY_DROP_UNKNOWN);
}

/* Answers "who has" for what exists in the network, the container's own address apart. */
static __always_inline int answer_arp(struct __sk_buff *skb, const struct ferry_config *c,
				      const struct ferry_port *port)
{
	struct {
		__u8 eth_dst[6], eth_src[6];
		__be16 eth_type, hw, proto;
		__u8 hw_len, proto_len;
		__be16 op;
		__u8 sha[6], spa[4], tha[6], tpa[4];
	} __attribute__((packed)) f;
	__u8 ip[16], addr[4];
	__be32 target;

	if (bpf_skb_load_bytes(skb, 0, &f, sizeof(f)) < 0 || f.op != bpf_htons(1))
		return drop(FERRY_DROP_PARSE);
	__builtin_memcpy(&target, f.tpa, 4);
	mapped(ip, target);
	if (same_ip(ip, port->ip4) || !endpoint(port->vni, ip))
		return drop(FERRY_DROP_UNKNOWN);
	__builtin_memcpy(f.eth_dst, f.eth_src, 6);
	__builtin_memcpy(f.eth_src, c->gw_mac, 6);
	f.op = bpf_htons(2);
	__builtin_memcpy(f.tha, f.sha, 6);
	__builtin_memcpy(addr, f.spa, 4);
	__builtin_memcpy(f.spa, f.tpa, 4);
	__builtin_memcpy(f.tpa, addr, 4);
	__builtin_memcpy(f.sha, c->gw_mac, 6);
	if (bpf_skb_store_bytes(skb, 0, &f, sizeof(f), 0) < 0)
		return drop(FERRY_DROP_PARSE);
	return bpf_redirect(skb->ifindex, 0);
}

#define ND_SOLICIT   135
#define ND_ADVERTISE 136

/* The same for IPv6 (RFC 4861 7.2.4); duplicate address detection gets no answer. */
static __always_inline int answer_nd(struct __sk_buff *skb, const struct ferry_config *c,
				     const struct ferry_port *port, const struct packet *p)
{
	struct {
		__u8 src[16], dst[16];
		__be32 len, next;
		__u8 type, code;
		__be16 sum;
		__be32 flags;
		__u8 target[16], opt_type, opt_len, opt_mac[6];
	} m;
	struct {
		__u8 eth_dst[6], eth_src[6];
		__be16 eth_type;
		__be32 version;
		__be16 len;
		__u8 next, hops;
	} __attribute__((packed)) h;
	__u32 sum;

	__builtin_memset(&m, 0, sizeof(m));
	if (bpf_skb_load_bytes(skb, 0, &h, sizeof(h)) < 0 ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + 48, m.target, 16) < 0)
		return drop(FERRY_DROP_PARSE);
	if (!same_ip(p->src, port->ip6) || same_ip(m.target, port->ip6) ||
	    !endpoint(port->vni, m.target))
		return drop(FERRY_DROP_UNKNOWN);
	__builtin_memcpy(m.src, m.target, 16);
	__builtin_memcpy(m.dst, p->src, 16);
	m.len = bpf_htonl(32);
	m.next = bpf_htonl(NEXTHDR_ICMP);
	m.type = ND_ADVERTISE;
	m.flags = bpf_htonl(0xe0000000); /* router, solicited, override */
	m.opt_type = 2;
	m.opt_len = 1;
	__builtin_memcpy(m.opt_mac, c->gw_mac, 6);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&m, sizeof(m), 0);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	m.sum = (__be16)~sum;
	__builtin_memcpy(h.eth_dst, h.eth_src, 6);
	__builtin_memcpy(h.eth_src, c->gw_mac, 6);
	h.len = bpf_htons(32);
	h.hops = 255;
	if (bpf_skb_change_tail(skb, ETH_HLEN + 40 + 32, 0) < 0 ||
	    bpf_skb_store_bytes(skb, 0, &h, sizeof(h), 0) < 0 ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + 8, m.src, 32, 0) < 0 ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + 40, &m.type, 32, 0) < 0)
		return drop(FERRY_DROP_PARSE);
	return bpf_redirect(skb->ifindex, 0);
}

/* Multicast, broadcast, loopback, link-local: never leaves the container's link. */
static __always_inline bool out_of_scope(const struct packet *p)
{
	if (p->v6)
		return p->dst[0] == 0xff || (p->dst[0] == 0xfe && (p->dst[1] & 0xc0) == 0x80) ||
		       (p->dst[0] == 0 && p->dst[1] == 0);
	return p->dst[12] >= 224 || p->dst[12] == 127 || p->dst[12] == 0 ||
	       (p->dst[12] == 169 && p->dst[13] == 254);
}

SEC("tc")
int from_container(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, *via;
	struct ferry_config *c = this_host();
	struct ferry_port *port = bpf_map_lookup_elem(&ferry_ports, &ifindex);
	struct ferry_flow_key key;
	struct ferry_ep *ep;
	struct packet p;

	if (!c || !port)
		return drop(FERRY_DROP_PORT);
	if (port->flags & FERRY_PORT_BLOCKED)
		return drop(FERRY_DROP_BLOCKED);
	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return answer_arp(skb, c, port);
	if (parse(skb, &p) < 0)
		return drop(FERRY_DROP_PARSE);
	if (p.v6 && p.proto == NEXTHDR_ICMP && p.icmp_type == ND_SOLICIT)
		return answer_nd(skb, c, port, &p);
	if (!same_ip(p.src, p.v6 ? port->ip6 : port->ip4))
		return drop(FERRY_DROP_SPOOF);

	ep = endpoint(port->vni, p.dst);
	if (ep && ep->state != FERRY_GATEWAY)
		return deliver(skb, c, port->vni, ep, true, 0, OUTER_TTL);
	if (ep)
		return to_stack(c);
	if (out_of_scope(&p) || subnet_of(p.dst))
		return drop(FERRY_DROP_SCOPE);

	flow_key(&key, port->vni, &p, true);
	if (p.syn) {
		/* A new connection with the numbers of an old one: a stale entry would
		 * send it through a host that knows nothing of it. */
		bpf_map_delete_elem(&ferry_flows, &key);
	} else {
		via = bpf_map_lookup_elem(&ferry_flows, &key);
		if (via && *via != c->underlay)
			return to_tunnel(skb, c, port->vni, *via, OUTER_TTL);
		if (via)
			return to_stack(c);
	}
	if (port->flags & FERRY_PORT_INTERNAL)
		return drop(FERRY_DROP_SCOPE);
	return to_stack(c);
}

SEC("tc")
int from_overlay(struct __sk_buff *skb)
{
	struct ferry_config *c = this_host();
	struct bpf_tunnel_key key;
	struct ferry_ep *ep;
	struct packet p;

	if (!c || bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0) < 0)
		return drop(FERRY_DROP_PORT);
	if (parse(skb, &p) < 0)
		return drop(FERRY_DROP_PARSE);
	ep = endpoint(key.tunnel_id, p.dst);
	if (ep && ep->state != FERRY_GATEWAY) {
		flow_note(key.tunnel_id, &p, key.remote_ipv4);
		return deliver(skb, c, key.tunnel_id, ep, true, key.remote_ipv4,
			       key.tunnel_ttl - 1);
	}
	/* The way back of a flow that this host took in: out through its own stack. */
	if (ep || out_of_scope(&p) || subnet_of(p.dst))
		return drop(FERRY_DROP_UNKNOWN);
	if (subnet_of(p.src) != key.tunnel_id)
		return drop(FERRY_DROP_SPOOF);
	return to_stack(c);
}

SEC("tc")
int from_host(struct __sk_buff *skb)
{
	struct ferry_config *c = this_host();
	struct ferry_ep *ep;
	__u8 source = 2;
	struct packet p;
	__u32 vni;

	if (!c)
		return drop(FERRY_DROP_PORT);
	if (parse(skb, &p) < 0)
		return drop(FERRY_DROP_PARSE);
	vni = subnet_of(p.dst);
	if (!vni)
		return drop(FERRY_DROP_SCOPE);
	ep = endpoint(vni, p.dst);
	if (!ep || ep->state == FERRY_GATEWAY)
		return drop(FERRY_DROP_UNKNOWN);
	/* Not from the gateway MAC itself: a VXLAN device takes a frame that bears its own
	 * address as source for a loop and drops it (vxlan_set_mac()). */
	if (bpf_skb_store_bytes(skb, 11, &source, 1, 0) < 0)
		return drop(FERRY_DROP_PARSE);
	flow_note(vni, &p, c->underlay);
	return deliver(skb, c, vni, ep, false, 0, OUTER_TTL);
}

SEC("tc")
int from_hold(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct ferry_config *c = this_host();
	struct ferry_port *port = bpf_map_lookup_elem(&ferry_ports, &ifindex);
	struct ferry_ep *ep;
	struct packet p;

	if (!c || !port)
		return drop(FERRY_DROP_PORT);
	if (parse(skb, &p) < 0)
		return drop(FERRY_DROP_PARSE);
	ep = endpoint(port->vni, p.dst);
	if (!ep || ep->state == FERRY_GATEWAY)
		return drop(FERRY_DROP_UNKNOWN);
	if (ep->state == FERRY_REMOTE)
		return deliver(skb, c, port->vni, ep, true, 0, OUTER_TTL);
	return to_container(skb, ep, true);
}
