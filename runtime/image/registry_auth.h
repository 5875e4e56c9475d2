/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How registries authenticate: a challenge (RFC 9110 section 11.6.1) names Basic or
 * Bearer; for the latter a token is asked of its realm (distribution: "Token
 * Authentication"). What comes from the registry is not trusted.
 */
#ifndef FERRY_RUNTIME_IMAGE_REGISTRY_AUTH_H
#define FERRY_RUNTIME_IMAGE_REGISTRY_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "runtime/image/image.h"

struct registry_challenge {
	bool basic;
	char *realm, *service; /* of Bearer; service may be NULL */
};

/*
 * The first challenge in the value of a WWW-Authenticate header that can be answered.
 * EPROTO: there is none. Free with registry_challenge_free(), fine on zeroes.
 */
int registry_challenge_parse(const char *value, struct registry_challenge *c, struct error *err);
void registry_challenge_free(struct registry_challenge *c);

/* The token in a token server's answer (caller frees); EPROTO: there is none in it. */
int registry_token_parse(const char *text, size_t len, char **token, struct error *err);

/* The value of an Authorization header for Basic (caller frees). */
char *registry_basic(const char *user, const char *password);

/* What a registry says of an error, of its JSON or of its status alone (caller frees). */
char *registry_complaint(const char *text, size_t len, long status);

#endif
