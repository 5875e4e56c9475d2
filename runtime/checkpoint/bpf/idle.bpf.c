// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Established TCP connections of a network namespace in whose queues nothing waits, as the
// kernel has them: sock_idle.c knows what is where in them. One pass over the kernel's
// table, each socket locked, nothing is changed.
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "idle.h"

#define AF_INET6 10

// Connections of the kinds that sock_orphan.c looks for, or with urgent data on its way.
__u32 others;

// Not on the stack, which is small; one pass at a time.
struct idle_head head;
char tcp[IDLE_TCP_MAX];
char v6[IDLE_V6_MAX];

#define ROUNDED(type) ((bpf_core_type_size(type) + 7) & ~7ull)

SEC("iter/tcp")
int idle(struct bpf_iter__tcp *ctx)
{
	struct sock_common *c = ctx->sk_common;
	const volatile struct socket_alloc *file;
	struct ipv6_pinfo *np;
	struct tcp_sock *t;
	struct socket *s;
	__u8 state;
	__u32 tcp_bytes = bpf_core_type_size(struct tcp_sock);
	__u32 v6_bytes = bpf_core_type_size(struct ipv6_pinfo);

	if (!c)
		return 0;
	state = c->skc_state;
	if (state == BPF_TCP_LISTEN || state == BPF_TCP_CLOSE || state == BPF_TCP_SYN_SENT)
		return 0;
	if (state != BPF_TCP_ESTABLISHED && state != BPF_TCP_CLOSE_WAIT) {
		others++;
		return 0;
	}
	t = bpf_skc_to_tcp_sock(c);
	if (!t)
		return 0;
	if ((__s32)(t->snd_up - t->snd_una) > 0)
		others++;
	if (state != BPF_TCP_ESTABLISHED || tcp_bytes > IDLE_TCP_MAX || v6_bytes > IDLE_V6_MAX ||
	    t->write_seq != t->snd_una || t->copied_seq != t->rcv_nxt)
		return 0;
	/* an error, or a notice for MSG_ERRQUEUE */
	if (BPF_CORE_READ((struct sock *)t, sk_err) ||
	    BPF_CORE_READ((struct sock *)t, sk_error_queue.qlen))
		return 0;
	s = BPF_CORE_READ((struct sock *)t, sk_socket);
	if (!s)
		return 0;
	file = (void *)s; // begins with the socket
	head.ino = BPF_CORE_READ((struct socket_alloc *)file, vfs_inode.i_ino);
	head.socket_flags = BPF_CORE_READ(s, flags);
	head.now_ns = bpf_ktime_get_ns();
	head.tcp_bytes = tcp_bytes;
	head.v6_bytes = 0;
	if (bpf_probe_read_kernel(tcp, bpf_core_type_size(struct tcp_sock), t))
		return 0;
	if (c->skc_family == AF_INET6) {
		np = BPF_CORE_READ((struct inet_sock *)t, pinet6);
		if (bpf_probe_read_kernel(v6, bpf_core_type_size(struct ipv6_pinfo), np))
			return 0;
		head.v6_bytes = v6_bytes;
	}
	bpf_seq_write(ctx->meta->seq, &head, sizeof(head));
	bpf_seq_write(ctx->meta->seq, tcp, ROUNDED(struct tcp_sock));
	if (head.v6_bytes)
		bpf_seq_write(ctx->meta->seq, v6, ROUNDED(struct ipv6_pinfo));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
