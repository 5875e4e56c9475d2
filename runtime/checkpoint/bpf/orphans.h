/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What orphans.bpf.c tells sock_orphan.c: a socket that no descriptor leads to. */
#ifndef FERRY_CHECKPOINT_BPF_ORPHANS_H
#define FERRY_CHECKPOINT_BPF_ORPHANS_H

#define ORPHAN_ARENA  (16u << 20) /* content of send queues, a power of two */
#define ORPHAN_CHUNK  16384u
#define ORPHAN_MAX    4096u
#define ORPHAN_PIECES 65536u

struct orphan {
	__u8 local[16], peer[16]; /* IPv4 in the first four bytes */
	__u16 family;
	__u16 local_port, peer_port; /* host order; network order */
	__u8 state, substate;	     /* TCP_*; of TIME_WAIT: FIN_WAIT2 or itself */
	__u8 wscale_ok, snd_wscale, rcv_wscale, sack, tstamp, tos;
	__u8 bad, pad; /* its data cannot be read */
	__s32 device, linger2, sndbuf, rcvbuf;
	__u32 uid, mark, priority, user_timeout;
	__u32 rcv_nxt, write_seq, snd_una, snd_nxt, mss;
	__u32 snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup;
	__u32 timestamp, ts_recent; /* as TCP_TIMESTAMP gives it; the peer's last */
	__u32 piece, npieces;
};

struct orphan_piece {
	__u32 seq, len, at; /* in the arena */
};

/* What a socket has that no call tells. */
#define HIDDEN_MAX     4096u
#define HIDDEN_MD5     1u
#define HIDDEN_AO      2u
#define HIDDEN_PROGRAM 4u /* of SO_ATTACH_REUSEPORT_* */

struct hidden {
	__u64 ino;
	__u32 what, pad;
};

#endif
