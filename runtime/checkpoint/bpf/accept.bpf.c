// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Ingress of lo in the container: an acknowledgement made by hand whose addresses are in
// `waiting` becomes a connection in the accept queue of the listener it is for, with the
// packet's sequence numbers and the options in the map. On the other interfaces the same
// is done with the real acknowledgement of a handshake that began on another host. A packet
// that is not the first after the handshake must not begin a stream. Kernel 6.9 and newer.
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define TC_ACT_UNSPEC (-1)
#define TC_ACT_SHOT   2
#define ETH_HLEN      14

/* struct bpf_tcp_req_attrs, which the kernel of the machine that builds may not have. */
struct request_attrs {
	__u32 rcv_tsval, rcv_tsecr;
	__u16 mss;
	__u8 rcv_wscale, snd_wscale;
	__u8 ecn_ok, wscale_ok, sack_ok, tstamp_ok, usec_ts_ok;
	__u8 reserved[3];
};

struct waiting_key {
	__u8 peer[16]; // an IPv4 address in the first four
	__u8 local[16];
	__be16 peer_port, local_port;
};

struct waiting_value {
	struct request_attrs attrs;
	__u32 seq, ack; // of the packet
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct waiting_key);
	__type(value, struct waiting_value);
} waiting SEC(".maps");

__u64 assigned;
__s32 last_error;

extern int bpf_sk_assign_tcp_reqsk(struct __sk_buff *skb, struct sock *sk,
				   struct request_attrs *attrs, int attrs__sz) __ksym;

SEC("tc")
int accept_again(struct __sk_buff *skb)
{
	struct bpf_sock_tuple t = {};
	struct waiting_key key = {};
	struct waiting_value *found;
	struct request_attrs attrs;
	struct bpf_sock *sk;
	struct tcp_sock *listener;
	struct tcphdr tcp;
	struct iphdr ip;
	struct ipv6hdr ip6;
	__u32 len;
	int r;

	if (skb->protocol == bpf_htons(0x0800)) {
		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.ihl != 5 ||
		    ip.protocol != 6 ||
		    bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(ip), &tcp, sizeof(tcp)))
			return TC_ACT_UNSPEC;
		__builtin_memcpy(key.peer, &ip.saddr, 4);
		__builtin_memcpy(key.local, &ip.daddr, 4);
		t.ipv4.saddr = ip.saddr;
		t.ipv4.daddr = ip.daddr;
		t.ipv4.sport = tcp.source;
		t.ipv4.dport = tcp.dest;
		len = sizeof(t.ipv4);
	} else if (skb->protocol == bpf_htons(0x86dd)) {
		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip6, sizeof(ip6)) || ip6.nexthdr != 6 ||
		    bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(ip6), &tcp, sizeof(tcp)))
			return TC_ACT_UNSPEC;
		__builtin_memcpy(key.peer, &ip6.saddr, 16);
		__builtin_memcpy(key.local, &ip6.daddr, 16);
		__builtin_memcpy(t.ipv6.saddr, &ip6.saddr, 16);
		__builtin_memcpy(t.ipv6.daddr, &ip6.daddr, 16);
		t.ipv6.sport = tcp.source;
		t.ipv6.dport = tcp.dest;
		len = sizeof(t.ipv6);
	} else {
		return TC_ACT_UNSPEC;
	}
	if (!tcp.ack || tcp.syn || tcp.rst || tcp.fin)
		return TC_ACT_UNSPEC;
	key.peer_port = tcp.source;
	key.local_port = tcp.dest;
	found = bpf_map_lookup_elem(&waiting, &key);
	if (!found || bpf_ntohl(tcp.seq) != found->seq || bpf_ntohl(tcp.ack_seq) != found->ack)
		return TC_ACT_UNSPEC;
	attrs = found->attrs;
	sk = bpf_skc_lookup_tcp(skb, &t, len, -1, 0);
	if (!sk)
		return TC_ACT_SHOT;
	if (sk->state != BPF_TCP_LISTEN) {
		bpf_sk_release(sk);
		return TC_ACT_UNSPEC;
	}
	listener = bpf_skc_to_tcp_sock(sk);
	r = listener ? bpf_sk_assign_tcp_reqsk(skb, (struct sock *)listener, &attrs, sizeof(attrs)) : -1;
	bpf_sk_release(sk);
	if (r < 0) {
		last_error = r;
		return TC_ACT_SHOT;
	}
	__sync_fetch_and_add(&assigned, 1);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
