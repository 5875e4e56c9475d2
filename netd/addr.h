/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses as the datapath keeps them: 16 bytes, IPv4 mapped (::ffff:a.b.c.d). */
#ifndef FERRY_NETD_ADDR_H
#define FERRY_NETD_ADDR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct addr {
	uint8_t b[16];
};

struct subnet {
	struct addr addr;    /* host bits are zero */
	unsigned int prefix; /* as written: 0..32 or 0..128 */
	bool v6;
};

bool addr_is_v4(const struct addr *a);
/* Text to address; `what` names it in the message. 0 or -EINVAL. */
int addr_parse(const char *text, struct addr *out, const char *what, struct error *err);
/* Address to text; out has at least INET6_ADDRSTRLEN (46) bytes. */
void addr_format(const struct addr *a, char *out);

/* "10.88.1.0/24" with all host bits zero. 0 or -EINVAL. */
int subnet_parse(const char *text, struct subnet *out, struct error *err);
/* Prefix length on the 128 bits of struct addr. */
unsigned int subnet_prefix128(const struct subnet *s);
bool subnet_contains(const struct subnet *s, const struct addr *a);
bool subnet_overlaps(const struct subnet *a, const struct subnet *b);

/* "02:42:0a:58:01:05" to six bytes; multicast and zero are refused. 0 or -EINVAL. */
int mac_parse(const char *text, uint8_t mac[6], struct error *err);

/* An IPv4 address in host byte order. 0 or -EINVAL. */
int host_ip_parse(const char *text, uint32_t *out, struct error *err);

#endif
