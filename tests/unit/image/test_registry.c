/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What registries say, and names with digests. The client as a whole is tried out against
 * a real registry in tests/lab/22-registry.t.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/image/ref.h"
#include "runtime/image/registry.h"
#include "runtime/image/registry_auth.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_challenges_are_read(void **state)
{
	static const struct {
		const char *value, *realm, *service;
		bool basic;
	} good[] = {
		{ "Bearer realm=\"https://a/t\",service=\"s\"", "https://a/t", "s", false },
		{ "bearer service=s , realm=\"https://a/t\" ,scope=\"x:y:z\"", "https://a/t", "s",
		  false },
		{ "Basic realm=\"a \\\"quoted\\\" one\"", "a \"quoted\" one", NULL, true },
		{ "Negotiate, Basic realm=x", "x", NULL, true },
		{ "Digest realm=\"d\", Bearer realm=\"https://b\"", "https://b", NULL, false },
	};
	static const char *const bad[] = { "",
					   "Negotiate",
					   "Bearer",
					   "Bearer realm=\"\"",
					   "Bearer realm=\"open",
					   "Digest realm=x",
					   "=,=,;" };
	struct registry_challenge c;
	struct error err = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		if (registry_challenge_parse(good[i].value, &c, &err) < 0)
			fail_msg("%s: %s", good[i].value, err.msg);
		assert_int_equal(c.basic, good[i].basic);
		assert_string_equal(c.realm, good[i].realm);
		if (good[i].service)
			assert_string_equal(c.service, good[i].service);
		else
			assert_null(c.service);
		registry_challenge_free(&c);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (registry_challenge_parse(bad[i], &c, &err) != -EPROTO)
			fail_msg("taken: %s", bad[i]);
}

static void test_tokens_are_read(void **state)
{
	static const char *const bad[] = {
		"", "[]", "{}", "{\"token\":\"\"}", "{\"token\":1}", "{\"token\":\"a\\r\\nb\"}"
	};
	struct error err = { 0 };
	char *token;

	(void)state;
	assert_int_equal(registry_token_parse("{\"token\":\"t\"}", 13, &token, &err), 0);
	assert_string_equal(token, "t");
	free(token);
	assert_int_equal(registry_token_parse("{\"access_token\":\"a\"}", 20, &token, &err), 0);
	assert_string_equal(token, "a");
	free(token);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		if (registry_token_parse(bad[i], strlen(bad[i]), &token, &err) == 0)
			fail_msg("taken: %s", bad[i]);
		assert_null(token);
	}
}

static void test_complaints_are_short_and_printable(void **state)
{
	static const char json[] =
		"{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\\u001b[1m\"}]}";
	CLEANUP_FREE char *said = registry_complaint(json, strlen(json), 403);
	CLEANUP_FREE char *none = registry_complaint("<html>", 6, 502);

	(void)state;
	assert_string_equal(said, "no [1m (DENIED, HTTP status 403)");
	assert_string_equal(none, "HTTP status 502");
}

static void test_names_with_digests_are_taken_apart(void **state)
{
	CLEANUP_REF struct image_ref ref = { 0 };
	struct error err = { 0 };
	char *whole;

	(void)state;
	assert_int_equal(image_ref_parse("h:5000/a/b:1@sha256:" HEX, &ref, &err), 0);
	assert_string_equal(ref.host, "h:5000");
	assert_string_equal(ref.path, "a/b");
	assert_string_equal(ref.tag, "1");
	assert_string_equal(ref.digest, HEX);
	image_ref_free(&ref);
	assert_int_equal(image_ref_parse("redis@sha256:" HEX, &ref, &err), 0);
	assert_string_equal(ref.host, "docker.io");
	assert_string_equal(ref.path, "library/redis");
	assert_null(ref.tag);
	image_ref_free(&ref);
	assert_int_equal(image_ref_parse("redis@sha512:" HEX, &ref, &err), -EINVAL);
	assert_null(ref.host);
	assert_int_equal(image_ref_normalize("redis@sha256:" HEX, &whole, &err), -EINVAL);
}

static void test_registries_are_asked_in_order(void **state)
{
	static const char *const insecure[] = { "10.0.0.1:5000", "mirror.lan", NULL };
	static const char *const mirrors[] = { "https://m.example", "http://mirror.lan", NULL };
	const struct image_registries o = { insecure, mirrors, NULL };
	char **urls = registry_urls(&o, "docker.io", false);

	(void)state;
	assert_string_equal(urls[0], "https://m.example");
	assert_string_equal(urls[1], "https-or-http://mirror.lan");
	assert_string_equal(urls[2], "https://registry-1.docker.io");
	assert_null(urls[3]);
	registry_urls_free(urls);
	urls = registry_urls(&o, "docker.io", true); /* nothing is pushed to a mirror */
	assert_string_equal(urls[0], "https://registry-1.docker.io");
	assert_null(urls[1]);
	registry_urls_free(urls);
	urls = registry_urls(&o, "10.0.0.1:5000", false);
	assert_string_equal(urls[0], "https-or-http://10.0.0.1:5000");
	registry_urls_free(urls);
	urls = registry_urls(&o, "10.0.0.1:5001", false);
	assert_string_equal(urls[0], "https://10.0.0.1:5001");
	registry_urls_free(urls);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_challenges_are_read),
		cmocka_unit_test(test_tokens_are_read),
		cmocka_unit_test(test_complaints_are_short_and_printable),
		cmocka_unit_test(test_names_with_digests_are_taken_apart),
		cmocka_unit_test(test_registries_are_asked_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
