/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Choosing addresses. Pure functions: what is used comes from the caller (the cluster's
 * store), who also makes the choice stick by compare-and-swap.
 */
#include <arpa/inet.h>
#include <jansson.h>
#include <string.h>

#include "base/str.h"
#include "netd/addr.h"
#include "netd/netd.h"

static void addr_add(struct addr *a, uint64_t n)
{
	for (int i = 15; i >= 0 && n; i--) {
		n += a->b[i];
		a->b[i] = (uint8_t)n;
		n >>= 8;
	}
}

static char *addr_text(const struct addr *a)
{
	char text[INET6_ADDRSTRLEN];

	addr_format(a, text);
	return str_dup(text);
}

static bool is_used(json_t *used, const struct addr *a)
{
	struct addr other;
	json_t *value;
	size_t i;

	json_array_foreach (used, i, value)
		if (json_is_string(value) &&
		    addr_parse(json_string_value(value), &other, "used", NULL) == 0 &&
		    !memcmp(&other, a, sizeof(other)))
			return true;
	return false;
}

/* Numbers of the first and last address that may be given. */
static void bounds(const struct subnet *s, uint64_t *first, uint64_t *last)
{
	unsigned int bits = 128 - subnet_prefix128(s);

	*first = 1;
	if (bits == 0)
		*first = *last = 0;
	else if (bits == 1)
		*first = 0, *last = 1; /* RFC 3021, RFC 6164: no network address */
	else if (bits >= 48)
		*last = (1ULL << 48) - 2;
	else
		*last = (1ULL << bits) - (s->v6 ? 1 : 2);
}

int ipam_gateway(const char *subnet, char **ip, struct error *err)
{
	struct subnet s;
	uint64_t first, last;
	int r = subnet_parse(subnet, &s, err);

	if (r < 0)
		return r;
	bounds(&s, &first, &last);
	addr_add(&s.addr, first);
	*ip = addr_text(&s.addr);
	return 0;
}

int ipam_pick(const char *subnet, json_t *used, const char *wanted, char **ip, struct error *err)
{
	struct subnet s;
	struct addr a;
	uint64_t first, last;
	int r = subnet_parse(subnet, &s, err);

	if (r < 0)
		return r;
	bounds(&s, &first, &last);
	if (wanted && *wanted) {
		struct addr network = s.addr, end = s.addr;

		r = addr_parse(wanted, &a, "wanted address", err);
		if (r < 0)
			return r;
		if (!subnet_contains(&s, &a))
			return error_set(err, EINVAL, "address %s is not in subnet %s", wanted,
					 subnet);
		addr_add(&end, last + 1);
		if ((first && !memcmp(&a, &network, sizeof(a))) ||
		    (!s.v6 && first && !memcmp(&a, &end, sizeof(a))))
			return error_set(err, EINVAL,
					 "address %s is the network or broadcast "
					 "address of %s",
					 wanted, subnet);
		if (is_used(used, &a))
			return error_set(err, EADDRINUSE, "Address already in use: %s", wanted);
		*ip = addr_text(&a);
		return 0;
	}
	/* The lowest free one: at most as many steps as there are used addresses. */
	for (uint64_t n = first ? first + 1 : 0; n <= last; n++) {
		a = s.addr;
		addr_add(&a, n);
		if (is_used(used, &a))
			continue;
		*ip = addr_text(&a);
		return 0;
	}
	return error_set(
		err, ENOSPC,
		"all addresses of subnet %s are in use; remove containers or make a larger network",
		subnet);
}

int ipam_pick_subnet(json_t *used, char **subnet, struct error *err)
{
	for (unsigned int n = 0; n < 8 * 256; n++) {
		char text[32];
		struct subnet s, other;
		json_t *value;
		bool taken = false;
		size_t i;

		snprintf(text, sizeof(text), "10.%u.%u.0/24", 88 + n / 256, n % 256);
		if (subnet_parse(text, &s, err) < 0)
			return -EINVAL;
		json_array_foreach (used, i, value)
			if (json_is_string(value) &&
			    subnet_parse(json_string_value(value), &other, NULL) == 0 &&
			    subnet_overlaps(&s, &other))
				taken = true;
		if (taken)
			continue;
		*subnet = str_dup(text);
		return 0;
	}
	return error_set(err, ENOSPC,
			 "no free /24 is left in 10.88.0.0/13; "
			 "give the network a subnet of its own");
}
