/* SPDX-License-Identifier: Apache-2.0 */
/* Challenges, tokens and complaints of registries; registry_auth.h is the contract. */
#include "runtime/image/registry_auth.h"

#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

#define TOKEN_CHARS "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define BLANK	    " \t"
#define MAX_HEADER  8192

void registry_challenge_free(struct registry_challenge *c)
{
	free(c->realm);
	free(c->service);
	memset(c, 0, sizeof(*c));
}

/* A token or quoted string at *p (caller frees); NULL where there is neither. */
static char *take_value(const char **p)
{
	CLEANUP_BUF struct buf b = { 0 };
	size_t n;

	if (**p != '"') {
		n = strspn(*p, TOKEN_CHARS);
		buf_add(&b, *p, n);
		*p += n;
		return n ? TAKE_PTR(b.data) : NULL;
	}
	buf_add(&b, "", 0);
	for (const char *s = *p + 1; *s; s++) {
		if (*s == '"') {
			*p = s + 1;
			return TAKE_PTR(b.data);
		}
		if (*s == '\\' && s[1])
			s++;
		if ((unsigned char)*s < ' ')
			return NULL;
		buf_add(&b, s, 1);
	}
	return NULL;
}

/* NAME=VALUE at *p, with blanks around; false (and *p as it was) where there is none. */
static bool take_param(const char **p, char **name, char **value)
{
	const char *s = *p + strspn(*p, BLANK ",");
	size_t n = strspn(s, TOKEN_CHARS);
	const char *eq = s + n + strspn(s + n, BLANK);

	if (!n || *eq != '=')
		return false;
	eq += 1 + strspn(eq + 1, BLANK);
	*value = take_value(&eq);
	if (!*value)
		return false;
	*name = str_format("%.*s", (int)n, s);
	*p = eq;
	return true;
}

static void keep(struct registry_challenge *c, const char *name, char **value)
{
	char **field = !strcasecmp(name, "realm")     ? &c->realm
		       : !strcasecmp(name, "service") ? &c->service
						      : NULL;

	if (!field)
		return;
	free(*field);
	*field = TAKE_PTR(*value);
}

int registry_challenge_parse(const char *value, struct registry_challenge *c, struct error *err)
{
	const char *p = value;

	memset(c, 0, sizeof(*c));
	while (strlen(value) <= MAX_HEADER) {
		size_t n;
		bool bearer, basic;

		p += strspn(p, BLANK ",");
		n = strspn(p, TOKEN_CHARS);
		if (!n)
			break;
		bearer = n == 6 && strncasecmp(p, "Bearer", n) == 0;
		basic = n == 5 && strncasecmp(p, "Basic", n) == 0;
		p += n;
		for (char *name, *v; take_param(&p, &name, &v); free(name), free(v))
			keep(c, name, &v);
		if (basic || (bearer && c->realm && *c->realm)) {
			c->basic = basic;
			return 0;
		}
		registry_challenge_free(c);
	}
	registry_challenge_free(c);
	return error_set(err, EPROTO,
			 "the registry asks for an authentication that ferry does not know "
			 "(%.200s); it knows Basic and Bearer",
			 value);
}

int registry_token_parse(const char *text, size_t len, char **token, struct error *err)
{
	CLEANUP_JSON json_t *doc = json_parse(text, len, "the answer of the token server", err);
	const char *t;

	*token = NULL;
	if (!doc)
		return -err->code;
	t = json_str(doc, "token", NULL);
	if (!t || !*t)
		t = json_str(doc, "access_token", NULL);
	if (!t || !*t)
		return error_set(err, EPROTO, "the token server's answer holds no token");
	for (const char *p = t; *p; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 127)
			return error_set(err, EPROTO,
					 "the token server's token holds characters that no header "
					 "may hold");
	*token = str_dup(t);
	return 0;
}

char *registry_basic(const char *user, const char *password)
{
	CLEANUP_FREE char *plain = str_format("%s:%s", user, password);
	CLEANUP_FREE char *coded = base64_encode(plain);

	OPENSSL_cleanse(plain, strlen(plain));
	return str_format("Basic %s", coded);
}

/* Printable and short: it goes to a terminal. */
static char *printable(const char *text, size_t max)
{
	size_t len = strnlen(text, max);
	char *out = mem_zalloc(len + 1);

	for (size_t i = 0; i < len; i++)
		out[i] = (unsigned char)text[i] < ' ' || text[i] == 127 ? ' ' : text[i];
	return out;
}

char *registry_complaint(const char *text, size_t len, long status)
{
	CLEANUP_JSON json_t *doc = len ? json_parse(text, len, "answer", NULL) : NULL;
	const json_t *first = json_array_get(json_object_get(doc, "errors"), 0);
	const char *code = json_str(first, "code", ""), *message = json_str(first, "message", NULL);

	if (!message)
		message = json_str(doc, "details", json_str(doc, "message", NULL));
	if (message && *message) {
		CLEANUP_FREE char *shown = printable(message, 300);
		CLEANUP_FREE char *kind = printable(code, 60);

		return *kind ? str_format("%s (%s, HTTP status %ld)", shown, kind, status)
			     : str_format("%s (HTTP status %ld)", shown, status);
	}
	return str_format("HTTP status %ld", status);
}
