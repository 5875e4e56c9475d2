/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What idle.bpf.c tells sock_idle.c of a connection: this, then `tcp_bytes` of its struct
 * tcp_sock, then `v6_bytes` of its struct ipv6_pinfo, each rounded up to 8. */
#ifndef FERRY_CHECKPOINT_BPF_IDLE_H
#define FERRY_CHECKPOINT_BPF_IDLE_H

#define IDLE_TCP_MAX 4096
#define IDLE_V6_MAX  512

struct idle_head {
	__u64 ino;	    /* of the socket's file */
	__u64 socket_flags; /* struct socket */
	__u64 now_ns;	    /* CLOCK_MONOTONIC */
	__u32 tcp_bytes, v6_bytes;
};

#endif
