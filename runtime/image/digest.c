/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 over libcrypto; digest.h is the contract. */
#include "runtime/image/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

void image_hash_begin(struct image_hash *h)
{
	h->ctx = EVP_MD_CTX_new();
	if (!h->ctx || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1)
		abort();
}

void image_hash_add(struct image_hash *h, const void *p, size_t n)
{
	if (EVP_DigestUpdate(h->ctx, p, n) != 1)
		abort();
}

void image_hash_end(struct image_hash *h, char hex[IMAGE_HEX_LEN + 1])
{
	unsigned char md[EVP_MAX_MD_SIZE];

	if (EVP_DigestFinal_ex(h->ctx, md, NULL) != 1)
		abort();
	str_hex(hex, md, IMAGE_HEX_LEN / 2);
	image_hash_free(h);
}

void image_hash_free(struct image_hash *h)
{
	EVP_MD_CTX_free(h->ctx);
	h->ctx = NULL;
}

void image_hash_of(const void *p, size_t n, char hex[IMAGE_HEX_LEN + 1])
{
	struct image_hash h;

	image_hash_begin(&h);
	image_hash_add(&h, p, n);
	image_hash_end(&h, hex);
}

bool image_is_hex(const char *s)
{
	return strspn(s, "0123456789abcdef") == IMAGE_HEX_LEN && s[IMAGE_HEX_LEN] == '\0';
}

const char *image_digest_hex(const char *s)
{
	return str_starts(s, "sha256:") && image_is_hex(s + 7) ? s + 7 : NULL;
}

void image_chain_id(const char *parent, const char *diff, char hex[IMAGE_HEX_LEN + 1])
{
	char text[2 * (IMAGE_HEX_LEN + 8) + 1];
	int n;

	if (!parent) {
		memcpy(hex, diff, IMAGE_HEX_LEN + 1);
		return;
	}
	n = snprintf(text, sizeof(text), "sha256:%s sha256:%s", parent, diff);
	image_hash_of(text, (size_t)n, hex);
}
