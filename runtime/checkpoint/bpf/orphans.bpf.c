// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// TCP sockets of a network namespace that no descriptor leads to: connections that were
// closed and still send (with what they have not delivered), those in TIME_WAIT, and
// handshakes that are not complete. One pass over the kernel's table, nothing is changed.
//
// Data lies in pages; struct page* -> address is page * 64 + page_delta, a constant of the
// running kernel that `calibrate_port` finds: a socket there has a page with known content
// and frame number in its send queue (sock_orphan.c).
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "orphans.h"

#define AF_INET6 10

char arena[ORPHAN_ARENA + ORPHAN_CHUNK];
struct orphan found[ORPHAN_MAX];
struct orphan_piece pieces[ORPHAN_PIECES];
__u32 nfound, npieces, used;
__u32 skip;    // so many were taken before
__u32 full;    // there is more: come again
__u32 failed;  // orphans whose data cannot be read
__u32 tw_skipped;
__u32 urgent; // connections that have sent urgent data which is not acknowledged
__u32 tw_max_age_ms;
__u64 page_delta;
__u32 calibrate_port, page_bytes;
__u64 calibrate_pfn, calibrate_magic[2];

__u64 hz; // of jiffies

// Kernels with TCP-AO have it.
struct tcp_sock___ao {
	void *ao_info;
} __attribute__((preserve_access_index));

struct walk {
	__u64 skb, list, data, shinfo;
	__u32 fragment, offset, fragments, headlen;
	__u32 open, queue, bad;
};
// Not on the stack: verifiers before 6.7 look at one turn of bpf_loop() alone, believe that
// what is known in the first holds in all, and remove the rest of step().
static struct walk walk;

static __always_inline __u64 read64(__u64 at)
{
	__u64 v = 0;

	bpf_probe_read_kernel(&v, sizeof(v), (void *)at);
	return v;
}

// The verifier lets nobody compute with a pointer that it knows.
static __always_inline __u64 number_of(const void *p)
{
	const void *volatile copy = p;

	return read64((__u64)&copy);
}

// struct rb_node: parent and colour, right, left; it lies at the start of a sk_buff
static __noinline __u64 rb_leftmost(__u64 n)
{
	for (int i = 0; i < 64 && n; i++) {
		__u64 left = read64(n + 16);

		if (!left)
			break;
		n = left;
	}
	return n;
}

static __noinline __u64 rb_after(__u64 n)
{
	__u64 right = read64(n + 8);

	if (right)
		return rb_leftmost(right);
	for (int i = 0; i < 64; i++) {
		__u64 parent = read64(n) & ~3ull;

		if (!parent || read64(parent + 8) != n)
			return parent;
		n = parent;
	}
	return 0;
}

static __always_inline void open_skb(struct walk *w)
{
	struct sk_buff *skb = (struct sk_buff *)w->skb;
	struct tcp_skb_cb *cb = (struct tcp_skb_cb *)((__u64)skb + bpf_core_field_offset(skb->cb));
	__u32 len = BPF_CORE_READ(skb, len), data_len = BPF_CORE_READ(skb, data_len);
	struct skb_shared_info *info;
	__u32 n = npieces;

	w->headlen = len - data_len;
	w->data = (__u64)BPF_CORE_READ(skb, data);
	info = (struct skb_shared_info *)((__u64)BPF_CORE_READ(skb, head) +
					  BPF_CORE_READ(skb, end));
	w->shinfo = (__u64)info;
	w->fragments = BPF_CORE_READ(info, nr_frags);
	w->fragment = w->offset = 0;
	w->open = 1;
	if (n >= ORPHAN_PIECES) {
		full = 1;
		return;
	}
	pieces[n].seq = BPF_CORE_READ(cb, seq);
	pieces[n].len = 0;
	pieces[n].at = used;
	npieces = n + 1;
}

static __always_inline void fragment_at(struct walk *w, __u64 *from, __u32 *size)
{
	// skb_frag_t, and the struct bio_vec it was before 6.9
	struct {
		__u64 page;
		__u32 len, offset;
	} f = {};
	__u64 at = w->shinfo + bpf_core_field_offset(struct skb_shared_info, frags);

	if (!w->fragment) {
		*from = w->data;
		*size = w->headlen;
		return;
	}
	bpf_probe_read_kernel(&f, sizeof(f), (void *)(at + (w->fragment - 1) * sizeof(f)));
	if (f.page & 1 || !page_delta)
		w->bad = 1;
	*from = f.page * 64 + page_delta + f.offset;
	*size = f.len;
}

// One piece of one queue at a time: what was sent (a tree), then what was not (a list).
static long step(__u32 index, void *arg)
{
	struct walk *w = &walk;
	__u64 from = 0;
	__u32 size = 0, at;
	__u64 n;

	if (full || w->bad)
		return 1;
	if (!w->skb) {
		if (w->queue)
			return 1;
		w->queue = 1;
		w->skb = read64(w->list);
		if (w->skb == w->list)
			w->skb = 0;
		return 0;
	}
	if (!w->open) {
		open_skb(w);
		return 0;
	}
	fragment_at(w, &from, &size);
	if (w->offset >= size) {
		w->offset = 0;
		if (++w->fragment <= w->fragments)
			return 0;
		w->open = 0;
		w->skb = w->queue ? read64(w->skb) : rb_after(w->skb);
		if (w->queue && w->skb == w->list)
			w->skb = 0;
		return 0;
	}
	n = size - w->offset;
	if (n > ORPHAN_CHUNK)
		n = ORPHAN_CHUNK;
	asm volatile("" : "+r"(n)); // or the bound is forgotten
	if (n > ORPHAN_CHUNK)
		return 1;
	if (used + n > ORPHAN_ARENA) {
		full = 1;
		return 1;
	}
	if (bpf_probe_read_kernel(&arena[used & (ORPHAN_ARENA - 1)], n,
				  (void *)(from + w->offset)))
		w->bad = 1;
	w->offset += n;
	used += n;
	at = npieces - 1;
	if (at < ORPHAN_PIECES)
		pieces[at].len += n;
	return 0;
}

static long search(__u32 k, void *arg)
{
	__u64 base = *(__u64 *)arg - ((__u64)k << 30);
	__u64 got[2] = {};

	bpf_probe_read_kernel(got, sizeof(got), (void *)(base + calibrate_pfn * 4096));
	if (got[0] != calibrate_magic[0] || got[1] != calibrate_magic[1])
		return 0;
	*(__u64 *)arg = base;
	return 1;
}

static __always_inline void calibrate(struct sock *sk)
{
	__u64 list = number_of(sk) + bpf_core_field_offset(struct sock, sk_write_queue);
	__u64 skb = read64(list), shinfo, page, base = skb & ~((1ull << 30) - 1);

	page_bytes = bpf_core_type_size(struct page);
	if (skb == list || page_bytes != 64)
		return;
	shinfo = (__u64)BPF_CORE_READ((struct sk_buff *)skb, head) +
		 BPF_CORE_READ((struct sk_buff *)skb, end);
	page = read64(shinfo + bpf_core_field_offset(struct skb_shared_info, frags));
	if (bpf_loop(1 << 17, search, &base, 0) < 1 << 17 && page)
		page_delta = base + calibrate_pfn * 4096 - page * 64;
}

static __always_inline struct orphan *fresh(struct sock_common *c)
{
	__u32 n = nfound;
	struct orphan *o;

	if (n >= ORPHAN_MAX) {
		full = 1;
		return NULL;
	}
	o = &found[n];
	__builtin_memset(o, 0, sizeof(*o));
	o->family = c->skc_family;
	o->state = c->skc_state;
	o->device = c->skc_bound_dev_if;
	o->local_port = c->skc_num;
	o->peer_port = c->skc_dport;
	if (c->skc_family == AF_INET6) {
		bpf_probe_read_kernel(o->local, 16, &c->skc_v6_rcv_saddr);
		bpf_probe_read_kernel(o->peer, 16, &c->skc_v6_daddr);
	} else {
		bpf_probe_read_kernel(o->local, 4, &c->skc_rcv_saddr);
		bpf_probe_read_kernel(o->peer, 4, &c->skc_daddr);
	}
	return o;
}

static __always_inline __u32 clock_of(int usec)
{
	__u64 ns = bpf_ktime_get_ns();

	return usec ? ns / 1000 : ns / 1000000;
}

static __always_inline void take_orphan(struct sock_common *c, struct tcp_sock *t)
{
	struct sock *sk = (struct sock *)t;
	__u32 data_before = used, pieces_before = npieces, usec = 0;
	struct orphan *o;

	if (skip) {
		skip--;
		return;
	}
	o = fresh(c);
	if (!o)
		return;
	o->uid = sk->sk_uid.val;
	o->mark = sk->sk_mark;
	o->priority = sk->sk_priority;
	o->sndbuf = sk->sk_sndbuf;
	o->rcvbuf = sk->sk_rcvbuf;
	o->tos = BPF_CORE_READ((struct inet_sock *)sk, tos);
	o->user_timeout = BPF_CORE_READ(t, inet_conn.icsk_user_timeout);
	o->linger2 = BPF_CORE_READ(t, linger2);
	o->rcv_nxt = t->rcv_nxt;
	o->write_seq = t->write_seq;
	o->snd_una = t->snd_una;
	o->snd_nxt = t->snd_nxt;
	o->snd_wl1 = t->snd_wl1;
	o->snd_wnd = t->snd_wnd;
	o->max_window = t->max_window;
	o->rcv_wnd = t->rcv_wnd;
	o->rcv_wup = t->rcv_wup;
	o->mss = t->rx_opt.mss_clamp;
	o->wscale_ok = BPF_CORE_READ_BITFIELD_PROBED(t, rx_opt.wscale_ok);
	o->snd_wscale = BPF_CORE_READ_BITFIELD_PROBED(t, rx_opt.snd_wscale);
	o->rcv_wscale = BPF_CORE_READ_BITFIELD_PROBED(t, rx_opt.rcv_wscale);
	o->sack = BPF_CORE_READ_BITFIELD_PROBED(t, rx_opt.sack_ok) != 0;
	o->tstamp = BPF_CORE_READ_BITFIELD_PROBED(t, rx_opt.tstamp_ok);
	if (bpf_core_field_exists(t->tcp_usec_ts))
		usec = BPF_CORE_READ_BITFIELD_PROBED(t, tcp_usec_ts);
	o->timestamp = (clock_of(usec) + t->tsoffset) & ~1u;
	o->timestamp |= usec;
	o->piece = npieces;
	walk = (struct walk){ .list = number_of(sk) +
				      bpf_core_field_offset(struct sock, sk_write_queue) };
	walk.skb = rb_leftmost((__u64)BPF_CORE_READ(sk, tcp_rtx_queue.rb_node));
	bpf_loop(1 << 20, step, NULL, 0);
	if (full) { // this one comes whole the next time
		used = data_before;
		npieces = pieces_before;
		return;
	}
	o->npieces = npieces - o->piece;
	o->bad = walk.bad;
	nfound++;
}

static __always_inline void take_timewait(struct sock_common *c)
{
	struct tcp_timewait_sock *tw = bpf_skc_to_tcp_timewait_sock(c);
	__u32 usec = 0, age = 0;
	struct orphan *o;
	long left;

	if (!tw)
		return;
	left = (long)BPF_CORE_READ(tw, tw_sk.tw_timer.expires) - (long)bpf_jiffies64();
	if (hz && left < (long)(60 * hz))
		age = (60 * hz - (__u64)left) * 1000 / hz;
	if (age > tw_max_age_ms) {
		tw_skipped++;
		return;
	}
	if (skip) {
		skip--;
		return;
	}
	o = fresh(c);
	if (!o)
		return;
	o->substate = BPF_CORE_READ(tw, tw_sk.tw_substate);
	o->rcv_nxt = c->skc_tw_rcv_nxt;
	o->write_seq = c->skc_tw_snd_nxt;
	o->snd_una = o->snd_nxt = o->write_seq;
	o->rcv_wnd = BPF_CORE_READ(tw, tw_rcv_wnd);
	o->rcv_wup = o->rcv_nxt;
	o->snd_wl1 = o->rcv_nxt - 1;
	o->rcv_wscale = BPF_CORE_READ(tw, tw_sk.tw_rcv_wscale);
	o->ts_recent = BPF_CORE_READ(tw, tw_ts_recent);
	o->tstamp = BPF_CORE_READ(tw, tw_ts_recent_stamp) != 0;
	if (bpf_core_field_exists(tw->tw_sk.tw_usec_ts))
		usec = BPF_CORE_READ_BITFIELD_PROBED(tw, tw_sk.tw_usec_ts);
	o->timestamp = (clock_of(usec) + BPF_CORE_READ(tw, tw_ts_offset)) & ~1u;
	o->timestamp |= usec;
	nfound++;
}

static __always_inline void take_request(struct sock_common *c)
{
	struct tcp_request_sock *q = bpf_skc_to_tcp_request_sock(c);
	__u32 usec = 0;
	struct orphan *o;

	if (!q)
		return;
	if (skip) {
		skip--;
		return;
	}
	o = fresh(c);
	if (!o)
		return;
	o->rcv_nxt = BPF_CORE_READ(q, rcv_isn) + 1;
	o->write_seq = BPF_CORE_READ(q, snt_isn) + 1;
	o->mss = BPF_CORE_READ(q, req.req.mss);
	o->ts_recent = BPF_CORE_READ(q, req.req.ts_recent);
	o->wscale_ok = BPF_CORE_READ_BITFIELD_PROBED(q, req.wscale_ok);
	o->snd_wscale = BPF_CORE_READ_BITFIELD_PROBED(q, req.snd_wscale);
	o->rcv_wscale = BPF_CORE_READ_BITFIELD_PROBED(q, req.rcv_wscale);
	o->sack = BPF_CORE_READ_BITFIELD_PROBED(q, req.sack_ok);
	o->tstamp = BPF_CORE_READ_BITFIELD_PROBED(q, req.tstamp_ok);
	if (bpf_core_field_exists(q->req_usec_ts))
		usec = BPF_CORE_READ(q, req_usec_ts);
	o->timestamp = (clock_of(usec) + BPF_CORE_READ(q, ts_off)) & ~1u;
	o->timestamp |= usec;
	nfound++;
}

SEC("iter/tcp")
int orphans(struct bpf_iter__tcp *ctx)
{
	struct sock_common *c = ctx->sk_common;
	struct tcp_sock *t;
	struct sock *sk;
	__u8 state;

	if (!c || full)
		return 0;
	state = c->skc_state;
	if (calibrate_port) {
		t = c->skc_num == calibrate_port ? bpf_skc_to_tcp_sock(c) : NULL;
		if (t && state == BPF_TCP_ESTABLISHED && !page_delta)
			calibrate((struct sock *)t);
		return 0;
	}
	if (state == BPF_TCP_TIME_WAIT) {
		take_timewait(c);
		return 0;
	}
	if (state == BPF_TCP_NEW_SYN_RECV) {
		take_request(c);
		return 0;
	}
	t = bpf_skc_to_tcp_sock(c);
	if (t && state != BPF_TCP_LISTEN && state != BPF_TCP_SYN_SENT &&
	    (__s32)(t->snd_up - t->snd_una) > 0)
		urgent++;
	if (state != BPF_TCP_FIN_WAIT1 && state != BPF_TCP_FIN_WAIT2 &&
	    state != BPF_TCP_CLOSING && state != BPF_TCP_LAST_ACK)
		return 0;
	sk = (struct sock *)t;
	if (t && !sk->sk_socket)
		take_orphan(c, t);
	return 0;
}

// What sockets with a descriptor have that no call tells: by inode.
struct hidden hidden[HIDDEN_MAX];
__u32 nhidden;

static __always_inline void note_hidden(struct sock *sk, __u32 what)
{
	struct socket *s = sk->sk_socket;
	struct sock_reuseport *group = sk->sk_reuseport_cb;
	struct socket_alloc *a;
	__u32 n = nhidden;

	if (group && BPF_CORE_READ(group, prog))
		what |= HIDDEN_PROGRAM;
	if (!what || !s || n >= HIDDEN_MAX)
		return;
	a = (struct socket_alloc *)number_of(s); // begins with the socket
	hidden[n].ino = BPF_CORE_READ(a, vfs_inode.i_ino);
	hidden[n].what = what;
	nhidden = n + 1;
}

SEC("iter/tcp")
int hidden_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *c = ctx->sk_common;
	struct tcp_sock *t;
	__u32 what = 0;

	if (!c || c->skc_state == BPF_TCP_TIME_WAIT || c->skc_state == BPF_TCP_NEW_SYN_RECV)
		return 0;
	t = bpf_skc_to_tcp_sock(c);
	if (!t)
		return 0;
	if (bpf_core_field_exists(t->md5sig_info) && t->md5sig_info)
		what |= HIDDEN_MD5;
	if (bpf_core_field_exists(((struct tcp_sock___ao *)t)->ao_info) &&
	    BPF_CORE_READ((struct tcp_sock___ao *)t, ao_info))
		what |= HIDDEN_AO;
	note_hidden((struct sock *)t, what);
	return 0;
}

SEC("iter/udp")
int hidden_udp(struct bpf_iter__udp *ctx)
{
	struct udp_sock *u = ctx->udp_sk;

	if (u)
		note_hidden((struct sock *)u, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
