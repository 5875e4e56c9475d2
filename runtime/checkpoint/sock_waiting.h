/* SPDX-License-Identifier: Apache-2.0 */
/* Between sock_accept.c and sock_half_open.c: connections that accept.bpf.c makes. */
#ifndef FERRY_CHECKPOINT_SOCK_WAITING_H
#define FERRY_CHECKPOINT_SOCK_WAITING_H

#include "runtime/checkpoint/sock_common.h"

#define TCX_INGRESS 46 /* BPF_TCX_INGRESS; libbpf 1.1 does not know it */

/* As in accept.bpf.c. */
struct waiting_key {
	uint8_t peer[16], local[16];
	uint16_t peer_port, local_port; /* network order */
};
struct waiting_value {
	/* struct bpf_tcp_req_attrs */
	uint32_t rcv_tsval, rcv_tsecr;
	uint16_t mss;
	uint8_t rcv_wscale, snd_wscale;
	uint8_t ecn_ok, wscale_ok, sack_ok, tstamp_ok, usec_ts_ok;
	uint8_t reserved[3];
	uint32_t seq, ack;
};

bool waiting_is_whole(const Cks__TcpPending *p);
/* `seq`: of the packet that makes it. */
void waiting_of(const Cks__TcpPending *p, uint32_t seq, struct waiting_key *k,
		struct waiting_value *v);
/* For restore_in_netns(): 0, or -EOPNOTSUPP where net.ipv4.tcp_syncookies is off. */
int waiting_cookies_are_on(void *arg);

#endif
