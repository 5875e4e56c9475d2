/* SPDX-License-Identifier: Apache-2.0 */
/* Strings: growing buffers, formatting, strict numbers, hex, names. */
#ifndef FERRY_BASE_STR_H
#define FERRY_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A fresh formatted string (caller frees). Aborts where memory runs out. */
char *str_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* strdup() that aborts where memory runs out; NULL stays NULL. */
char *str_dup(const char *s);

/* calloc() that aborts where memory runs out. */
void *mem_zalloc(size_t n);

/* realloc() for `count` elements of `size` bytes; aborts on overflow or no memory. */
void *mem_grow(void *p, size_t count, size_t size);

bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);

/*
 * The whole of `s` as a decimal number (hexadecimal in the x form) in [min, max].
 * 0, or -EINVAL / -ERANGE.
 */
int str_to_i64(const char *s, int64_t min, int64_t max, int64_t *out);
int str_to_u64(const char *s, uint64_t max, uint64_t *out);
int str_to_u64x(const char *s, uint64_t max, uint64_t *out);

/*
 * A size with an optional suffix b, k, m, g, t (powers of 1,024; "10GiB" and "10gb"
 * are taken as well), as Docker reads it. 0 or -EINVAL / -ERANGE.
 */
int str_to_bytes(const char *s, uint64_t *out);

/* A Go duration ("1m30s", "50ms"), or plain seconds, in nanoseconds. 0 or -EINVAL. */
int str_to_duration_ns(const char *s, int64_t *out);

/* Lower-case hex of n bytes into out (2n + 1 bytes). */
void str_hex(char *out, const void *bytes, size_t n);

/* n random bytes as hex (caller frees): ids of containers, migrations, tokens. */
char *str_random_hex(size_t n);

/* Docker's rule for names: [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 255 bytes. */
bool str_is_name(const char *s);

/* Growing byte buffer; all zero is a valid empty one. */
struct buf {
	char *data; /* NUL-terminated once anything was added */
	size_t len, cap;
};
void buf_add(struct buf *b, const void *p, size_t n);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_free(struct buf *b);
#define CLEANUP_BUF __attribute__((cleanup(buf_free)))

#endif
