/* SPDX-License-Identifier: Apache-2.0 */
/* base/str.h and base/error.h: strict numbers, sizes, durations, wrapped errors. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/error.h"
#include "base/str.h"

static void test_sizes_are_read_as_docker_reads_them(void **state)
{
	uint64_t v = 0;

	(void)state;
	assert_int_equal(str_to_bytes("10", &v), 0);
	assert_int_equal(v, 10);
	assert_int_equal(str_to_bytes("10k", &v), 0);
	assert_int_equal(v, 10240);
	assert_int_equal(str_to_bytes("2GiB", &v), 0);
	assert_int_equal(v, 2ull << 30);
	assert_int_equal(str_to_bytes("1mb", &v), 0);
	assert_int_equal(v, 1 << 20);
	assert_int_equal(str_to_bytes("", &v), -EINVAL);
	assert_int_equal(str_to_bytes("-1", &v), -EINVAL);
	assert_int_equal(str_to_bytes("1x", &v), -EINVAL);
	assert_int_equal(str_to_bytes("99999999999999999999", &v), -ERANGE);
	assert_int_equal(str_to_bytes("18446744073709551615k", &v), -ERANGE);
}

static void test_numbers_are_whole_and_in_range(void **state)
{
	int64_t i = 0;
	uint64_t u = 0;

	(void)state;
	assert_int_equal(str_to_i64("-5", -10, 10, &i), 0);
	assert_int_equal(i, -5);
	assert_int_equal(str_to_i64("11", -10, 10, &i), -ERANGE);
	assert_int_equal(str_to_i64("5a", -10, 10, &i), -EINVAL);
	assert_int_equal(str_to_i64(" 5", -10, 10, &i), -EINVAL);
	assert_int_equal(str_to_u64("-1", 10, &u), -EINVAL);
	assert_int_equal(str_to_u64x("ff", 255, &u), 0);
	assert_int_equal(u, 255);
}

static void test_durations(void **state)
{
	int64_t ns = 0;

	(void)state;
	assert_int_equal(str_to_duration_ns("1m30s", &ns), 0);
	assert_int_equal(ns, 90000000000);
	assert_int_equal(str_to_duration_ns("50ms", &ns), 0);
	assert_int_equal(ns, 50000000);
	assert_int_equal(str_to_duration_ns("10", &ns), 0);
	assert_int_equal(ns, 10000000000);
	assert_int_equal(str_to_duration_ns("soon", &ns), -EINVAL);
}

static void test_errors_read_from_the_outside_in(void **state)
{
	struct error err = { 0 };

	(void)state;
	assert_int_equal(error_set(&err, EBUSY, "host %s holds its lock", "b"), -EBUSY);
	assert_int_equal(error_wrap(&err, "attaching volume %s", "db"), -EBUSY);
	assert_string_equal(err.msg, "attaching volume db: host b holds its lock");
	assert_int_equal(error_http_status(err.code), 409);
	assert_int_equal(error_exit_status(EINVAL), 2);
}

static void test_long_errors_are_cut_not_overrun(void **state)
{
	struct error err = { 0 };

	(void)state;
	for (int i = 0; i < 100; i++)
		error_wrap(&err, "context number %d that is quite long", i);
	assert_true(strlen(err.msg) < sizeof(err.msg));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes_are_read_as_docker_reads_them),
		cmocka_unit_test(test_numbers_are_whole_and_in_range),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_errors_read_from_the_outside_in),
		cmocka_unit_test(test_long_errors_are_cut_not_overrun),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
