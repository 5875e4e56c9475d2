/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648 section 4), of OpenSSL. */
#ifndef FERRY_BASE_BASE64_H
#define FERRY_BASE_BASE64_H

/* A text in base64, padded, on one line (caller frees). */
char *base64_encode(const char *text);

#endif
