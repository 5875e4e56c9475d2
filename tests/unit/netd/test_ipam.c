/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing addresses, and parsing of addresses, subnets and MACs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "netd/addr.h"
#include "netd/netd.h"

static void expect(const char *subnet, json_t *used, const char *wanted, const char *ip)
{
	CLEANUP_FREE char *got = NULL;
	CLEANUP_JSON json_t *owned = used;
	struct error err = { 0 };

	assert_int_equal(ipam_pick(subnet, used, wanted, &got, &err), 0);
	assert_string_equal(got, ip);
}

static void refuse(const char *subnet, json_t *used, const char *wanted, int code)
{
	CLEANUP_JSON json_t *owned = used;
	struct error err = { 0 };
	char *got = NULL;

	assert_int_equal(ipam_pick(subnet, used, wanted, &got, &err), -code);
	assert_int_equal(err.code, code);
	assert_true(*err.msg);
	assert_null(got);
}

static void test_lowest_free_address_is_picked(void **state)
{
	(void)state;
	expect("10.88.1.0/24", NULL, NULL, "10.88.1.2");
	expect("10.88.1.0/24", json_pack("[s,s,s]", "10.88.1.1", "10.88.1.2", "10.88.1.4"), NULL,
	       "10.88.1.3");
	expect("10.88.0.0/16", json_pack("[s]", "10.88.0.2"), "", "10.88.0.3");
	expect("fd00:88::/64", json_pack("[s]", "fd00:88::2"), NULL, "fd00:88::3");
}

static void test_carries_over_byte_borders(void **state)
{
	json_t *used = json_array();

	(void)state;
	for (int i = 1; i < 256; i++)
		json_array_append_new(used, json_sprintf("10.88.0.%d", i));
	expect("10.88.0.0/16", used, NULL, "10.88.1.0");
}

static void test_wanted_address_is_given_or_refused(void **state)
{
	(void)state;
	expect("10.88.1.0/24", NULL, "10.88.1.200", "10.88.1.200");
	refuse("10.88.1.0/24", json_pack("[s]", "10.88.1.9"), "10.88.1.9", EADDRINUSE);
	refuse("10.88.1.0/24", NULL, "10.88.2.9", EINVAL);
	refuse("10.88.1.0/24", NULL, "10.88.1.0", EINVAL);
	refuse("10.88.1.0/24", NULL, "10.88.1.255", EINVAL);
	refuse("10.88.1.0/24", NULL, "fd00::1", EINVAL);
	refuse("10.88.1.0/24", NULL, "no address", EINVAL);
}

static void test_full_subnet_is_an_error(void **state)
{
	(void)state;
	expect("10.88.1.0/30", NULL, NULL, "10.88.1.2");
	refuse("10.88.1.0/30", json_pack("[s,s]", "10.88.1.1", "10.88.1.2"), NULL, ENOSPC);
	expect("10.88.1.4/31", json_pack("[s]", "10.88.1.4"), NULL, "10.88.1.5");
	expect("10.88.1.4/32", NULL, NULL, "10.88.1.4");
}

static void test_malformed_subnets_are_refused(void **state)
{
	static const char *const bad[] = { "",	   "10.88.1.0",	 "10.88.1.0/33", "10.88.1.1/24",
					   "x/24", "10.88.1.0/", "10.88.1.0/-1", "fd00::/129",
					   "/24" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		refuse(bad[i], NULL, NULL, EINVAL);
}

static void test_subnets_do_not_overlap(void **state)
{
	CLEANUP_JSON json_t *used =
		json_pack("[s,s,s]", "10.88.0.0/24", "10.88.0.0/16", "192.168.0.0/16");
	CLEANUP_FREE char *a = NULL, *b = NULL;

	(void)state;
	assert_int_equal(ipam_pick_subnet(NULL, &a, NULL), 0);
	assert_string_equal(a, "10.88.0.0/24");
	assert_int_equal(ipam_pick_subnet(used, &b, NULL), 0);
	assert_string_equal(b, "10.89.0.0/24");
}

static void test_no_subnet_left_is_an_error(void **state)
{
	CLEANUP_JSON json_t *used = json_pack("[s]", "10.0.0.0/8");
	struct error err = { 0 };
	char *subnet = NULL;

	(void)state;
	assert_int_equal(ipam_pick_subnet(used, &subnet, &err), -ENOSPC);
}

static void test_gateway_is_the_first_address(void **state)
{
	CLEANUP_FREE char *a = NULL, *b = NULL;

	(void)state;
	assert_int_equal(ipam_gateway("10.88.3.0/24", &a, NULL), 0);
	assert_string_equal(a, "10.88.3.1");
	assert_int_equal(ipam_gateway("fd00:88:3::/64", &b, NULL), 0);
	assert_string_equal(b, "fd00:88:3::1");
}

static void test_macs_are_checked(void **state)
{
	uint8_t mac[6];

	(void)state;
	assert_int_equal(mac_parse("02:42:0a:58:01:05", mac, NULL), 0);
	assert_int_equal(mac[5], 5);
	assert_int_equal(mac_parse("01:42:0a:58:01:05", mac, NULL), -EINVAL); /* multicast */
	assert_int_equal(mac_parse("02:42:0a:58:01", mac, NULL), -EINVAL);
	assert_int_equal(mac_parse("02:42:0a:58:01:05:06", mac, NULL), -EINVAL);
	assert_int_equal(mac_parse("2:42:a:58:1:5", mac, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lowest_free_address_is_picked),
		cmocka_unit_test(test_carries_over_byte_borders),
		cmocka_unit_test(test_wanted_address_is_given_or_refused),
		cmocka_unit_test(test_full_subnet_is_an_error),
		cmocka_unit_test(test_malformed_subnets_are_refused),
		cmocka_unit_test(test_subnets_do_not_overlap),
		cmocka_unit_test(test_no_subnet_left_is_an_error),
		cmocka_unit_test(test_gateway_is_the_first_address),
		cmocka_unit_test(test_macs_are_checked),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
