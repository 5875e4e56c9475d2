/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where this kernel keeps what, in the structs of a TCP socket: by the names of its BTF.
 *
 * Two sockets whose fields behind an option are equal have the same value of the option.
 * Which fields these are is a table here; names that changed between versions of Linux
 * stand side by side, and all of them that there are count. An option that is not in the
 * table, or none of whose fields this kernel has, is not known: getsockopt must tell.
 * test_sock_idle.c sets each option and looks whether the fields notice.
 */
#include "runtime/checkpoint/sock_fields.h"

#include <bpf/btf.h>
#include <linux/in6.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* --- by name ------------------------------------------------------------------------------ */
static const struct btf_type *resolved(const struct btf *btf, uint32_t id)
{
	int n = btf__resolve_type(btf, id);

	return n < 0 ? NULL : btf__type_by_id(btf, (uint32_t)n);
}

/* Member `name` (of length len) of struct t, which begins `base` bits after the outermost. */
static bool member(const struct btf *btf, const struct btf_type *t, uint32_t base, const char *name,
		   size_t len, uint32_t *bit, uint32_t *bits, uint32_t *type)
{
	const struct btf_member *m = btf_members(t);

	for (uint32_t i = 0; i < btf_vlen(t); i++, m++) {
		const char *own = btf__name_by_offset(btf, m->name_off);
		uint32_t at = base + btf_member_bit_offset(t, i);
		const struct btf_type *inner;

		if (own && strncmp(own, name, len) == 0 && !own[len]) {
			*bit = at;
			*bits = btf_member_bitfield_size(t, i);
			*type = m->type;
			return true;
		}
		inner = own && *own ? NULL : resolved(btf, m->type);
		if (inner && btf_is_composite(inner) &&
		    member(btf, inner, at, name, len, bit, bits, type))
			return true;
	}
	return false;
}

bool sock_field_find(const struct btf *btf, const char *path, struct sock_field *out)
{
	size_t len = strcspn(path, ".");
	uint32_t bit = 0, bits = 0, type;
	int64_t bytes;
	char name[64];
	int id;

	memset(out, 0, sizeof(*out));
	snprintf(name, sizeof(name), "%.*s", (int)len, path);
	id = btf__find_by_name_kind(btf, name, BTF_KIND_STRUCT);
	if (id < 0)
		return false;
	type = (uint32_t)id;
	while (path[len] == '.') {
		const struct btf_type *t = resolved(btf, type);

		path += len + 1;
		len = strcspn(path, ".");
		if (!t || !btf_is_composite(t) ||
		    !member(btf, t, bit, path, len, &bit, &bits, &type))
			return false;
	}
	bytes = bits ? (bit % 8 + bits + 7) / 8 : btf__resolve_size(btf, type);
	if (bytes <= 0 || bytes > UINT16_MAX)
		return false;
	out->at = bit / 8;
	out->bytes = (uint16_t)bytes;
	/* one that crosses bytes counts with all that is in them */
	if (bits && bytes == 1) {
		out->shift = (uint8_t)(bit % 8);
		out->bits = (uint8_t)bits;
	}
	return true;
}

uint64_t sock_field_read(const struct sock_field *f, const uint8_t *base)
{
	uint64_t v = 0;

	memcpy(&v, base + f->at, f->bytes < sizeof(v) ? f->bytes : sizeof(v));
	return f->bits ? v >> f->shift & ((1u << f->bits) - 1) : v;
}

/* --- options ---------------------------------------------------------------------------------
 */
/*
 * Fields divided by spaces; of "a|b" there need be one. A struct's part in the name of a
 * field says where it is: inet_connection_sock, inet_sock, sock and sock_common all lie at the
 * beginning of tcp_sock. "socket" is what comes with each connection (idle.h).
 */
#define FLAGS "sock_common.skc_flags"
#define INET  "inet_sock.inet_flags|"
#define CMSG  INET "inet_sock.cmsg_flags"
static const struct {
	int level, name;
	const char *fields;
} known[] = {
	{ SOL_SOCKET, SO_REUSEPORT, "sock_common.skc_reuseport" },
	{ SOL_SOCKET, SO_MARK, "sock.sk_mark" },
	{ SOL_SOCKET, SO_DONTROUTE, FLAGS },
	{ SOL_SOCKET, SO_BROADCAST, FLAGS },
	{ SOL_SOCKET, SO_KEEPALIVE, FLAGS },
	{ SOL_SOCKET, SO_OOBINLINE, FLAGS },
	{ SOL_SOCKET, SO_NO_CHECK, "sock.sk_no_check_tx" },
	{ SOL_SOCKET, SO_LINGER, FLAGS " sock.sk_lingertime" },
	{ SOL_SOCKET, SO_RCVLOWAT, "sock.sk_rcvlowat" },
	{ SOL_SOCKET, SO_RCVTIMEO_OLD, "sock.sk_rcvtimeo" },
	{ SOL_SOCKET, SO_SNDTIMEO_OLD, "sock.sk_sndtimeo" },
	{ SOL_SOCKET, SO_PASSSEC, "socket|sock.sk_scm_security" },
	{ SOL_SOCKET, SO_TIMESTAMP_OLD, FLAGS },
	{ SOL_SOCKET, SO_TIMESTAMPNS_OLD, FLAGS },
	{ SOL_SOCKET, SO_TIMESTAMPING_OLD, FLAGS " sock.sk_tsflags|sock.sk_bind_phc" },
	{ SOL_SOCKET, SO_TIMESTAMP_NEW, FLAGS },
	{ SOL_SOCKET, SO_TIMESTAMPNS_NEW, FLAGS },
	{ SOL_SOCKET, SO_RXQ_OVFL, FLAGS },
	{ SOL_SOCKET, SO_WIFI_STATUS, FLAGS },
	{ SOL_SOCKET, SO_NOFCS, FLAGS },
	{ SOL_SOCKET, SO_SELECT_ERR_QUEUE, FLAGS },
	{ SOL_SOCKET, SO_BUSY_POLL, "sock.sk_ll_usec" },
	{ SOL_SOCKET, 69 /* SO_PREFER_BUSY_POLL */, "sock.sk_prefer_busy_poll" },
	{ SOL_SOCKET, 70 /* SO_BUSY_POLL_BUDGET */, "sock.sk_busy_poll_budget" },
	{ SOL_SOCKET, SO_MAX_PACING_RATE, "sock.sk_max_pacing_rate" },
	{ SOL_SOCKET, 75 /* SO_RCVMARK */, FLAGS },
	{ SOL_SOCKET, SO_PRIORITY, "sock.sk_priority" },
	{ IPPROTO_IP, IP_FREEBIND, INET "inet_sock.freebind" },
	{ IPPROTO_IP, IP_TRANSPARENT, INET "inet_sock.transparent" },
	{ IPPROTO_IP, IP_OPTIONS, "inet_sock.inet_opt" },
	{ IPPROTO_IP, IP_TOS, "inet_sock.tos" },
	{ IPPROTO_IP, IP_TTL, "inet_sock.uc_ttl" },
	{ IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, INET "inet_sock.bind_address_no_port" },
	{ IPPROTO_IP, 51 /* IP_LOCAL_PORT_RANGE */, "inet_sock.local_port_range" },
	{ IPPROTO_IP, IP_MTU_DISCOVER, "inet_sock.pmtudisc" },
	{ IPPROTO_IP, IP_RECVERR, INET "inet_sock.recverr" },
	{ IPPROTO_IP, IP_PKTINFO, CMSG },
	{ IPPROTO_IP, IP_RECVTTL, CMSG },
	{ IPPROTO_IP, IP_RECVTOS, CMSG },
	{ IPPROTO_IP, IP_RECVOPTS, CMSG },
	{ IPPROTO_IP, IP_RETOPTS, CMSG },
	{ IPPROTO_IP, IP_PASSSEC, CMSG },
	{ IPPROTO_IP, IP_RECVORIGDSTADDR, CMSG },
	{ IPPROTO_IP, IP_RECVFRAGSIZE, CMSG },
	{ IPPROTO_IP, IP_MINTTL, "inet_sock.min_ttl" },
	{ IPPROTO_IP, IP_UNICAST_IF, "inet_sock.uc_index" },
	{ IPPROTO_IPV6, IPV6_V6ONLY, "sock_common.skc_ipv6only" },
	{ IPPROTO_IPV6, IPV6_FREEBIND, INET "inet_sock.freebind" },
	{ IPPROTO_IPV6, IPV6_TRANSPARENT, INET "inet_sock.transparent" },
	{ IPPROTO_IPV6, IPV6_UNICAST_HOPS, "ipv6_pinfo.hop_limit" },
	{ IPPROTO_IPV6, IPV6_TCLASS, "ipv6_pinfo.tclass" },
	{ IPPROTO_IPV6, IPV6_MTU_DISCOVER, "ipv6_pinfo.pmtudisc" },
	{ IPPROTO_IPV6, IPV6_RECVERR, INET "ipv6_pinfo.recverr" },
	{ IPPROTO_IPV6, IPV6_RECVPKTINFO, "ipv6_pinfo.rxopt" },
	{ IPPROTO_IPV6, IPV6_RECVHOPLIMIT, "ipv6_pinfo.rxopt" },
	{ IPPROTO_IPV6, IPV6_RECVTCLASS, "ipv6_pinfo.rxopt" },
	{ IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, "ipv6_pinfo.rxopt" },
	{ IPPROTO_IPV6, IPV6_RECVFRAGSIZE, "ipv6_pinfo.rxopt" },
	{ IPPROTO_IPV6, IPV6_RECVPATHMTU, "ipv6_pinfo.rxopt" },
	{ IPPROTO_IPV6, IPV6_DONTFRAG, INET "ipv6_pinfo.dontfrag" },
	{ IPPROTO_IPV6, IPV6_MINHOPCOUNT, "ipv6_pinfo.min_hopcount" },
	{ IPPROTO_IPV6, IPV6_AUTOFLOWLABEL,
	  INET "ipv6_pinfo.autoflowlabel|ipv6_pinfo.autoflowlabel_set" },
	{ IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, "ipv6_pinfo.srcprefs" },
	{ IPPROTO_IPV6, 33 /* IPV6_FLOWINFO_SEND */, INET "ipv6_pinfo.sndflow" },
	{ IPPROTO_IPV6, IPV6_UNICAST_IF, "ipv6_pinfo.ucast_oif" },
	{ IPPROTO_TCP, TCP_CONGESTION, "inet_connection_sock.icsk_ca_ops" },
	{ IPPROTO_TCP, TCP_NODELAY, "tcp_sock.nonagle" },
	{ IPPROTO_TCP, TCP_CORK, "tcp_sock.nonagle" },
	{ IPPROTO_TCP, TCP_KEEPIDLE, "tcp_sock.keepalive_time" },
	{ IPPROTO_TCP, TCP_KEEPINTVL, "tcp_sock.keepalive_intvl" },
	{ IPPROTO_TCP, TCP_KEEPCNT, "tcp_sock.keepalive_probes" },
	{ IPPROTO_TCP, TCP_SYNCNT, "inet_connection_sock.icsk_syn_retries" },
	{ IPPROTO_TCP, TCP_LINGER2, "tcp_sock.linger2" },
	{ IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, "tcp_sock.thin_lto" },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, "inet_connection_sock.icsk_user_timeout" },
	{ IPPROTO_TCP, TCP_NOTSENT_LOWAT, "tcp_sock.notsent_lowat" },
	{ IPPROTO_TCP, TCP_INQ, "tcp_sock.recvmsg_inq" },
	{ IPPROTO_TCP, 37 /* TCP_TX_DELAY */, "tcp_sock.tcp_tx_delay" },
	{ IPPROTO_TCP, 44 /* TCP_RTO_MAX_MS */, "inet_connection_sock.icsk_rto_max" },
	{ IPPROTO_TCP, 45 /* TCP_RTO_MIN_US */, "inet_connection_sock.icsk_rto_min" },
	{ IPPROTO_TCP, 46 /* TCP_DELACK_MAX_US */, "inet_connection_sock.icsk_delack_max" },
};

/* "a|b" from *at on; its fields appended. False: none of them is there. */
static bool group(const struct btf *btf, const char *at, size_t len, struct option_field *out,
		  size_t cap, size_t *n)
{
	bool any = false;

	for (size_t i = 0, k; i < len; i += k + 1) {
		struct sock_field f;
		char one[96];

		k = strcspn(at + i, "| ");
		k = k < len - i ? k : len - i;
		snprintf(one, sizeof(one), "%.*s", (int)k, at + i);
		if (strcmp(one, "socket") == 0) {
			any = true;
		} else if (*n < cap && sock_field_find(btf, one, &f)) {
			out[*n].f = f;
			out[(*n)++].v6 = strncmp(one, "ipv6_pinfo.", 11) == 0;
			any = true;
		}
	}
	return any;
}

int sock_option_fields(const struct btf *btf, int level, int name, struct option_field *out,
		       size_t cap)
{
	const char *fields = NULL;
	size_t n = 0;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && !fields; i++)
		if (known[i].level == level && known[i].name == name)
			fields = known[i].fields;
	if (!fields)
		return -1;
	for (size_t len; *fields; fields += len + (fields[len] == ' ')) {
		len = strcspn(fields, " ");
		if (!group(btf, fields, len, out, cap, &n))
			return -1;
	}
	return (int)n;
}
