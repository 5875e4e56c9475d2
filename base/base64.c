/* SPDX-License-Identifier: Apache-2.0 */
/* Base64; base64.h is the contract. */
#include "base/base64.h"

#include <openssl/evp.h>
#include <string.h>

#include "base/str.h"

char *base64_encode(const char *text)
{
	size_t len = strlen(text);
	char *out = mem_zalloc((len + 2) / 3 * 4 + 1);

	EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)text, (int)len);
	return out;
}
