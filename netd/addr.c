/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing and comparing of addresses and subnets; nothing here touches the system. */
#include "netd/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

static const uint8_t v4_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

bool addr_is_v4(const struct addr *a)
{
	return !memcmp(a->b, v4_prefix, sizeof(v4_prefix));
}

int addr_parse(const char *text, struct addr *out, const char *what, struct error *err)
{
	memcpy(out->b, v4_prefix, sizeof(v4_prefix));
	if (text && inet_pton(AF_INET, text, out->b + 12) == 1)
		return 0;
	if (text && inet_pton(AF_INET6, text, out->b) == 1 && !addr_is_v4(out))
		return 0;
	return error_set(err, EINVAL, "%s: \"%s\" is not an IP address", what, text ? text : "");
}

void addr_format(const struct addr *a, char *out)
{
	if (addr_is_v4(a))
		inet_ntop(AF_INET, a->b + 12, out, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, a->b, out, INET6_ADDRSTRLEN);
}

unsigned int subnet_prefix128(const struct subnet *s)
{
	return s->v6 ? s->prefix : s->prefix + 96;
}

static bool equal_bits(const struct addr *a, const struct addr *b, unsigned int bits)
{
	unsigned int bytes = bits / 8, rest = bits % 8;

	if (memcmp(a->b, b->b, bytes))
		return false;
	return !rest || !((a->b[bytes] ^ b->b[bytes]) >> (8 - rest));
}

int subnet_parse(const char *text, struct subnet *out, struct error *err)
{
	const char *slash = text ? strchr(text, '/') : NULL;
	char ip[INET6_ADDRSTRLEN];
	uint64_t prefix;

	if (!slash || (size_t)(slash - text) >= sizeof(ip))
		return error_set(err, EINVAL, "\"%s\" is not a subnet; write it as 10.88.1.0/24",
				 text ? text : "");
	memcpy(ip, text, (size_t)(slash - text));
	ip[slash - text] = '\0';
	if (addr_parse(ip, &out->addr, "subnet", err) < 0)
		return error_wrap(err, "subnet %s", text);
	out->v6 = !addr_is_v4(&out->addr);
	if (str_to_u64(slash + 1, out->v6 ? 128 : 32, &prefix) < 0)
		return error_set(err, EINVAL,
				 "subnet %s: the prefix length is not a number in "
				 "0..%d",
				 text, out->v6 ? 128 : 32);
	out->prefix = (unsigned int)prefix;
	for (unsigned int bit = subnet_prefix128(out); bit < 128; bit++)
		if (out->addr.b[bit / 8] & (0x80 >> (bit % 8)))
			return error_set(err, EINVAL, "subnet %s has host bits set", text);
	return 0;
}

bool subnet_contains(const struct subnet *s, const struct addr *a)
{
	return s->v6 == !addr_is_v4(a) && equal_bits(&s->addr, a, subnet_prefix128(s));
}

bool subnet_overlaps(const struct subnet *a, const struct subnet *b)
{
	unsigned int x = subnet_prefix128(a), y = subnet_prefix128(b);

	return a->v6 == b->v6 && equal_bits(&a->addr, &b->addr, x < y ? x : y);
}

int mac_parse(const char *text, uint8_t mac[6], struct error *err)
{
	int n = 0;

	if (!text ||
	    sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2],
		   &mac[3], &mac[4], &mac[5], &n) != 6 ||
	    n != 17 || text[n] || mac[0] & 1)
		return error_set(err, EINVAL, "\"%s\" is not a unicast MAC address",
				 text ? text : "");
	return 0;
}

int host_ip_parse(const char *text, uint32_t *out, struct error *err)
{
	struct in_addr in;

	if (!text || inet_pton(AF_INET, text, &in) != 1)
		return error_set(err, EINVAL, "host address \"%s\" is not an IPv4 address",
				 text ? text : "");
	*out = ntohl(in.s_addr);
	return 0;
}
