/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: what registries and token servers answer. The first byte picks what it is. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/image/registry_auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void challenge(const char *text)
{
	struct registry_challenge c;
	struct error err = { 0 };

	if (registry_challenge_parse(text, &c, &err) < 0) {
		if (err.code <= 0 || c.realm || c.service)
			abort();
		return;
	}
	if (!c.basic && (!c.realm || !*c.realm))
		abort(); /* nobody could be asked */
	for (const char *p = c.realm; p && *p; p++)
		if ((unsigned char)*p < ' ')
			abort(); /* it goes into a URL */
	registry_challenge_free(&c);
}

static void token(const char *text, size_t len)
{
	CLEANUP_FREE char *t = NULL;
	struct error err = { 0 };

	if (registry_token_parse(text, len, &t, &err) < 0) {
		if (err.code <= 0 || t)
			abort();
		return;
	}
	if (strpbrk(t, "\r\n "))
		abort(); /* it goes into a header */
}

static void complaint(const char *text, size_t len)
{
	CLEANUP_FREE char *said = registry_complaint(text, len, 404);

	if (strlen(said) > 1000)
		abort();
	for (const char *p = said; *p; p++)
		if ((unsigned char)*p < ' ')
			abort(); /* it goes to a terminal */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *text = mem_zalloc(size + 1);

	if (!size)
		return 0;
	memcpy(text, data + 1, size - 1);
	if (data[0] == 'c')
		challenge(text);
	else if (data[0] == 't')
		token(text, size - 1);
	else
		complaint(text, size - 1);
	return 0;
}
