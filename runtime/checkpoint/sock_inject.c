/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handmade packets. Some state of a socket can only be made by a packet that arrives: the
 * end of the peer's stream, the acknowledgement of our own, a datagram in a queue. A raw
 * socket with the IP header included sends it to the socket's own address: that route is
 * local, so the packet goes through lo and up again, whatever its source address says,
 * and meets no reverse path filter, because a route is attached to it already.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/sock_common.h"

#ifndef IPV6_HDRINCL
#define IPV6_HDRINCL 36
#endif

static int raw4 = -1, raw6 = -1;

struct pair {
	bool v6;
	struct in_addr from4, to4;
	struct in6_addr from6, to6;
};

/* IPv4-mapped addresses travel in IPv4 packets. */
static int pair_load(const Cks__Address *from, const Cks__Address *to, struct pair *p,
		     struct error *err)
{
	struct in6_addr t6 = { 0 };

	memset(p, 0, sizeof(*p));
	if (!sock_address_is_whole(from) || !sock_address_is_whole(to))
		return error_set(err, EBADMSG, "a damaged socket address");
	if (to->family == AF_INET6) {
		memcpy(&t6, to->ip.data, 16);
		p->v6 = !IN6_IS_ADDR_V4MAPPED(&t6);
	}
	if (p->v6 && from->ip.len != 16)
		return error_set(err, EBADMSG, "a packet from an IPv4 to an IPv6 address");
	if (p->v6) {
		memcpy(&p->from6, from->ip.data, 16);
		p->to6 = t6;
	} else {
		memcpy(&p->from4, from->ip.data + (from->ip.len == 16 ? 12 : 0), 4);
		memcpy(&p->to4, to->ip.data + (to->ip.len == 16 ? 12 : 0), 4);
	}
	return 0;
}

static uint32_t sum(uint32_t s, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (; len > 1; p += 2, len -= 2)
		s += (uint32_t)p[0] << 8 | p[1];
	if (len)
		s += (uint32_t)p[0] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

/* Of the pseudo header and the transport part; in network order. */
static uint16_t checksum(const struct pair *p, int protocol, const void *data, size_t len)
{
	uint32_t s = (uint32_t)protocol + (uint32_t)(len & 0xffff) + (uint32_t)(len >> 16);

	if (p->v6) {
		s = sum(s, &p->from6, 16);
		s = sum(s, &p->to6, 16);
	} else {
		s = sum(s, &p->from4, 4);
		s = sum(s, &p->to4, 4);
	}
	return htons((uint16_t)~sum(s, data, len));
}

static int raw_open(struct restore *r, bool v6, struct error *err)
{
	int *fd = v6 ? &raw6 : &raw4, one = 1;
	CLEANUP_CLOSE int n = -1;

	if (*fd >= 0)
		return *fd;
	n = sock_pool_take(r, v6 ? AF_INET6 : AF_INET, SOCK_RAW, IPPROTO_RAW, err);
	if (n < 0)
		return n;
	if (v6 && setsockopt(n, IPPROTO_IPV6, IPV6_HDRINCL, &one, sizeof(one)) < 0)
		return error_sys(err, errno, "a raw socket with headers of one's own");
	fcntl(n, F_SETFL, 0);
	return *fd = TAKE_FD(n);
}

void sock_inject_close(void)
{
	if (raw4 >= 0)
		close(TAKE_FD(raw4));
	if (raw6 >= 0)
		close(TAKE_FD(raw6));
}

/* `segment` is the transport part with its checksum. */
static int raw_send(struct restore *r, const struct pair *p, const Cks__Address *to, int protocol,
		    const void *segment, size_t len, struct error *err)
{
	union {
		struct iphdr v4;
		struct ip6_hdr v6;
	} h = { 0 };
	union sock_addr a = { 0 };
	struct iovec iov[2] = { { &h, p->v6 ? sizeof(h.v6) : sizeof(h.v4) },
				{ (void *)(uintptr_t)segment, len } };
	struct msghdr m = { .msg_name = &a, .msg_iov = iov, .msg_iovlen = 2 };
	int fd = raw_open(r, p->v6, err), n;

	if (fd < 0)
		return fd;
	if (p->v6) {
		h.v6.ip6_vfc = 6 << 4;
		h.v6.ip6_plen = htons((uint16_t)len);
		h.v6.ip6_nxt = (uint8_t)protocol;
		h.v6.ip6_hlim = 64;
		h.v6.ip6_src = p->from6;
		h.v6.ip6_dst = p->to6;
		n = sock_address_load(fd, to, &a, err);
		if (n < 0)
			return n;
		a.in6.sin6_port = 0;
		m.msg_namelen = sizeof(a.in6);
	} else {
		h.v4.version = 4;
		h.v4.ihl = 5;
		h.v4.tot_len = htons((uint16_t)(sizeof(h.v4) + len));
		h.v4.ttl = 64;
		h.v4.protocol = (uint8_t)protocol;
		h.v4.saddr = p->from4.s_addr;
		h.v4.daddr = p->to4.s_addr;
		a.in.sin_family = AF_INET;
		a.in.sin_addr = p->to4;
		m.msg_namelen = sizeof(a.in);
	}
	if (sendmsg(fd, &m, 0) < 0)
		return error_sys(err, errno, "putting a packet on lo (is it up?)");
	return 0;
}

int sock_inject_tcp(struct restore *r, const struct sock_packet *p, struct error *err)
{
	CLEANUP_BUF struct buf b = { 0 };
	struct tcphdr t = { 0 };
	struct pair a;
	int n = pair_load(p->from, p->to, &a, err);

	if (n < 0)
		return n;
	t.source = htons((uint16_t)p->from->port);
	t.dest = htons((uint16_t)p->to->port);
	t.seq = htonl(p->seq);
	t.ack_seq = htonl(p->ack);
	t.th_flags = p->flags;
	t.doff = (unsigned int)(5 + p->options_len / 4) & 15;
	t.window = htons(p->window);
	buf_add(&b, &t, sizeof(t));
	if (p->options_len)
		buf_add(&b, p->options, p->options_len);
	if (p->len)
		buf_add(&b, p->data, p->len);
	t.check = checksum(&a, IPPROTO_TCP, b.data, b.len);
	memcpy(b.data, &t, sizeof(t));
	return raw_send(r, &a, p->to, IPPROTO_TCP, b.data, b.len, err);
}

int sock_inject_udp(struct restore *r, int protocol, const struct sock_packet *p, struct error *err)
{
	CLEANUP_BUF struct buf b = { 0 };
	struct udphdr u = { 0 };
	struct pair a;
	int n = pair_load(p->from, p->to, &a, err);

	if (n < 0)
		return n;
	u.source = htons((uint16_t)p->from->port);
	u.dest = htons((uint16_t)p->to->port);
	u.len = htons((uint16_t)(sizeof(u) + p->len));
	buf_add(&b, &u, sizeof(u));
	if (p->len)
		buf_add(&b, p->data, p->len);
	u.check = checksum(&a, protocol, b.data, b.len);
	if (!u.check)
		u.check = 0xffff;
	memcpy(b.data, &u, sizeof(u));
	return raw_send(r, &a, p->to, protocol, b.data, b.len, err);
}

/* The head of the datagram that was sent, as an ICMP message quotes it. */
static void quote(struct buf *b, const struct pair *p, int protocol, const struct udphdr *u)
{
	union {
		struct iphdr v4;
		struct ip6_hdr v6;
	} h = { 0 };

	if (p->v6) {
		h.v6.ip6_vfc = 6 << 4;
		h.v6.ip6_plen = htons(sizeof(*u));
		h.v6.ip6_nxt = (uint8_t)protocol;
		h.v6.ip6_hlim = 64;
		h.v6.ip6_src = p->to6;
		h.v6.ip6_dst = p->from6;
		buf_add(b, &h.v6, sizeof(h.v6));
	} else {
		h.v4.version = 4;
		h.v4.ihl = 5;
		h.v4.tot_len = htons(sizeof(h.v4) + sizeof(*u));
		h.v4.ttl = 64;
		h.v4.protocol = (uint8_t)protocol;
		h.v4.saddr = p->to4.s_addr;
		h.v4.daddr = p->from4.s_addr;
		buf_add(b, &h.v4, sizeof(h.v4));
	}
	buf_add(b, u, sizeof(*u));
}

int sock_inject_unreachable(struct restore *r, int protocol, const Cks__Address *from,
			    const Cks__Address *to, uint8_t code, struct error *err)
{
	CLEANUP_BUF struct buf b = { 0 };
	struct udphdr u = { .len = htons(sizeof(u)) };
	struct icmphdr i = { .code = code };
	struct pair p;
	uint16_t check;
	int n = pair_load(from, to, &p, err);

	if (n < 0)
		return n;
	u.source = htons((uint16_t)to->port);
	u.dest = htons((uint16_t)from->port);
	/* both kinds begin with type, code, checksum and four bytes without meaning here */
	i.type = p.v6 ? ICMP6_DST_UNREACH : ICMP_DEST_UNREACH;
	buf_add(&b, &i, sizeof(i));
	quote(&b, &p, protocol, &u);
	check = p.v6 ? checksum(&p, IPPROTO_ICMPV6, b.data, b.len)
		     : htons((uint16_t)~sum(0, b.data, b.len));
	memcpy(b.data + offsetof(struct icmphdr, checksum), &check, sizeof(check));
	return raw_send(r, &p, to, p.v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, b.data, b.len, err);
}
