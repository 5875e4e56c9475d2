/* SPDX-License-Identifier: Apache-2.0 */
/* Where this kernel keeps what, in the structs of a TCP socket; see sock_fields.c. */
#ifndef FERRY_CHECKPOINT_SOCK_FIELDS_H
#define FERRY_CHECKPOINT_SOCK_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct btf;

struct sock_field {
	uint32_t at;	     /* bytes from the struct's beginning */
	uint16_t bytes;	     /* 0: this kernel has no such field */
	uint8_t shift, bits; /* of a bit field within a byte; else bits is 0 */
};

/*
 * Finds "struct.member.member" (members of anonymous structs and unions count as their
 * parent's). False: there is none.
 */
bool sock_field_find(const struct btf *btf, const char *path, struct sock_field *out);

/* As a number, of at most 8 bytes; 0 where there is no such field. */
uint64_t sock_field_read(const struct sock_field *f, const uint8_t *base);

/*
 * The fields that hold socket option `name` of an IPv4 or IPv6 TCP connection: their places,
 * and whether they are in struct ipv6_pinfo instead of struct tcp_sock. How many, at most
 * `cap`; -1: it is not known where this kernel keeps it, and getsockopt must tell.
 */
struct option_field {
	struct sock_field f;
	bool v6;
};
int sock_option_fields(const struct btf *btf, int level, int name, struct option_field *out,
		       size_t cap);

#endif
