// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Egress of lo in the container: drops everything while the sockets are being read, so
// that the two ends of a connection inside the container are read at one moment.
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#define TC_ACT_UNSPEC (-1)
#define TC_ACT_SHOT   2

volatile __u32 closed;
__u64 open_at_ns; // on kernels where the program outlives its engine: opens by itself

SEC("tc")
int lo_gate(struct __sk_buff *skb)
{
	if (!closed || (open_at_ns && bpf_ktime_get_ns() > open_at_ns))
		return TC_ACT_UNSPEC;
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
