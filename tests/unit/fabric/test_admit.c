/* SPDX-License-Identifier: Apache-2.0 */
/* What a destination looks at before anything is begun: memory and CPU. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/str.h"
#include "fabric/host.h"
#include "fabric/internal.h"

static uint64_t own_mask(void)
{
	CLEANUP_JSON json_t *facts = host_facts();
	uint64_t mask = 0;

	assert_int_equal(str_to_u64x(json_str(facts, "xsave_mask", "0x") + 2, UINT64_MAX, &mask),
			 0);
	assert_true(mask != 0);
	return mask;
}

static void test_cpu_without_a_feature_is_refused(void **state)
{
	struct fabric f = { .host = (char *)(uintptr_t) "b" };
	struct error err = { 0 };
	uint64_t mask = own_mask();

	(void)state;
	assert_int_equal(cpu_admit(&f, mask, &err), 0);
	assert_int_equal(cpu_admit(&f, mask & 3, &err), 0);
	assert_int_equal(cpu_admit(&f, 0, &err), 0);
	assert_int_equal(cpu_admit(&f, mask | 1ull << 62, &err), -EPROTO);
	assert_non_null(strstr(err.msg, "CPU of host b lacks features"));
	assert_non_null(strstr(err.msg, "choose another host"));
}

static void test_more_memory_than_the_host_has_is_refused(void **state)
{
	struct fabric f = { .host = (char *)(uintptr_t) "b" };
	struct error err = { 0 };

	(void)state;
	assert_int_equal(memory_admit(&f, 4096, &err), 0);
	assert_int_equal(memory_admit(&f, INT64_MAX - 1, &err), -ENOMEM);
	assert_non_null(strstr(err.msg, "host b has"));
	assert_non_null(strstr(err.msg, "choose another host"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpu_without_a_feature_is_refused),
		cmocka_unit_test(test_more_memory_than_the_host_has_is_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
