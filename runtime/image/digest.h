/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 as images use it: lower-case hex of 64 digits, "sha256:" in front in documents. */
#ifndef FERRY_RUNTIME_IMAGE_DIGEST_H
#define FERRY_RUNTIME_IMAGE_DIGEST_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>

#define IMAGE_HEX_LEN 64

struct image_hash {
	EVP_MD_CTX *ctx;
};
void image_hash_begin(struct image_hash *h);
void image_hash_add(struct image_hash *h, const void *p, size_t n);
/* The digest as hex; the hash is used up. */
void image_hash_end(struct image_hash *h, char hex[IMAGE_HEX_LEN + 1]);
/* Frees a hash that was not ended; fine after the end, too. */
void image_hash_free(struct image_hash *h);
#define CLEANUP_HASH __attribute__((cleanup(image_hash_free)))

/* Digest of one buffer. */
void image_hash_of(const void *p, size_t n, char hex[IMAGE_HEX_LEN + 1]);

/* True for exactly 64 lower-case hex digits. */
bool image_is_hex(const char *s);

/* The hex behind "sha256:", or NULL where `s` is no valid sha256 digest. */
const char *image_digest_hex(const char *s);

/* Chain id of a layer (OCI image spec, "Layer ChainID"); parent NULL for the lowest. */
void image_chain_id(const char *parent, const char *diff, char hex[IMAGE_HEX_LEN + 1]);

#endif
