/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets under other addresses; sock_addresses.h tells what happens to which. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/sock_addresses.h"

#define MAX_ADDRESSES 1024

/* IPv4 as an IPv4-mapped IPv6 address, which is how programs may hold it as well. */
struct ip {
	uint8_t b[16];
};

struct addresses {
	struct {
		struct ip old, new;
	} * pair;
	size_t npairs;
	bool drop;
	struct ip *here; /* what the namespace has */
	size_t nhere;
	bool asked;
};

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

static bool ip_of(const void *data, size_t len, struct ip *out)
{
	if (len == 4) {
		memcpy(out->b, mapped, 12);
		memcpy(out->b + 12, data, 4);
	} else if (len == 16) {
		memcpy(out->b, data, 16);
	}
	return len == 4 || len == 16;
}

static bool is_v4(const struct ip *a)
{
	return memcmp(a->b, mapped, 12) == 0;
}

static bool same(const struct ip *a, const struct ip *b)
{
	return memcmp(a->b, b->b, 16) == 0;
}

static bool parse_ip(const json_t *j, struct ip *out)
{
	const char *text = json_string_value(j);
	uint8_t raw[16];

	if (text && inet_pton(AF_INET, text, raw) == 1)
		return ip_of(raw, 4, out);
	return text && inet_pton(AF_INET6, text, raw) == 1 && ip_of(raw, 16, out);
}

int sock_addresses_parse(json_t *args, struct addresses **out, struct error *err)
{
	const char *connections = json_string_value(json_object_get(args, "connections"));
	json_t *list = json_object_get(args, "addresses"), *e;
	struct addresses *a;
	size_t i;

	if (connections && strcmp(connections, "keep") != 0 && strcmp(connections, "drop") != 0)
		return error_set(err, EINVAL, "connections are kept or dropped, not \"%s\"",
				 connections);
	if (json_array_size(list) > MAX_ADDRESSES)
		return error_set(err, EINVAL, "more than %d addresses", MAX_ADDRESSES);
	if (!json_array_size(list) && (!connections || strcmp(connections, "keep") == 0))
		return 0;
	a = mem_zalloc(sizeof(*a));
	a->drop = connections && strcmp(connections, "drop") == 0;
	a->pair = mem_zalloc((json_array_size(list) + 1) * sizeof(*a->pair));
	json_array_foreach (list, i, e) {
		if (!parse_ip(json_object_get(e, "old"), &a->pair[i].old) ||
		    !parse_ip(json_object_get(e, "new"), &a->pair[i].new) ||
		    is_v4(&a->pair[i].old) != is_v4(&a->pair[i].new)) {
			sock_addresses_free(a);
			return error_set(err, EINVAL,
					 "address %zu is no pair of an old and a new one", i);
		}
		a->npairs++;
	}
	*out = a;
	return 0;
}

void sock_addresses_free(struct addresses *a)
{
	if (!a)
		return;
	free(a->pair);
	free(a->here);
	free(a);
}

void sock_address_move(struct restore *r, Cks__Address *m)
{
	const struct addresses *a = r ? r->addresses : NULL;
	struct ip ip;

	if (!a || !m || !ip_of(m->ip.data, m->ip.len, &ip))
		return;
	for (size_t i = 0; i < a->npairs; i++)
		if (same(&ip, &a->pair[i].old)) {
			memcpy(m->ip.data, a->pair[i].new.b + (m->ip.len == 4 ? 12 : 0), m->ip.len);
			return;
		}
}

/* The address of the interface that multicast goes out of. */
static void move_option(struct restore *r, Cks__Option *o)
{
	Cks__Address m = CKS__ADDRESS__INIT;

	if (o->level != IPPROTO_IP || o->name != IP_MULTICAST_IF || o->value.len != 4)
		return;
	m.family = AF_INET;
	m.ip = o->value;
	sock_address_move(r, &m);
}

void sock_options_move(struct restore *r, Cks__Option *const *o, size_t n)
{
	for (size_t i = 0; i < n; i++)
		move_option(r, o[i]);
}

void sock_common_move(struct restore *r, Cks__Common *c)
{
	sock_address_move(r, c->local);
	sock_address_move(r, c->peer);
	sock_options_move(r, c->options, c->n_options);
}

/* Inside the namespace. */
static int list_addresses(void *arg)
{
	struct addresses *a = arg;
	struct ifaddrs *list, *e;

	if (getifaddrs(&list) < 0)
		return -errno;
	for (e = list; e; e = e->ifa_next) {
		const union sock_addr *s = (const union sock_addr *)e->ifa_addr;
		struct ip ip;

		if (s && s->sa.sa_family == AF_INET)
			ip_of(&s->in.sin_addr, 4, &ip);
		else if (s && s->sa.sa_family == AF_INET6)
			ip_of(&s->in6.sin6_addr, 16, &ip);
		else
			continue;
		a->here = mem_grow(a->here, a->nhere + 1, sizeof(*a->here));
		a->here[a->nhere++] = ip;
	}
	freeifaddrs(list);
	return 0;
}

static bool is_loopback(const struct ip *ip)
{
	return is_v4(ip) ? ip->b[12] == 127 : IN6_IS_ADDR_LOOPBACK(ip->b);
}

bool sock_peer_dropped(struct restore *r, const Cks__Address *peer)
{
	struct addresses *a = r ? r->addresses : NULL;
	struct ip ip;

	if (!a || !a->drop || !peer || !ip_of(peer->ip.data, peer->ip.len, &ip) || is_loopback(&ip))
		return false;
	if (!a->asked) {
		a->asked = true;
		restore_in_netns(r, list_addresses, a, NULL);
	}
	for (size_t i = 0; i < a->npairs; i++)
		if (same(&ip, &a->pair[i].old))
			return false;
	/* where an address has moved away, whoever has it now is somebody else */
	for (size_t i = 0; i < a->nhere; i++)
		if (same(&ip, &a->here[i])) {
			for (size_t k = 0; k < a->npairs; k++)
				if (same(&ip, &a->pair[k].new))
					return true;
			return false;
		}
	return true;
}
