/* SPDX-License-Identifier: Apache-2.0 */
/* Text from outside becomes JSON, whatever bytes it has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"

static void test_no_text_is_lost_for_its_encoding(void **state)
{
	static const char *const in[] = { "plain", "caf\xc3\xa9", "caf\xe9", "\xff/x", "", NULL };
	static const char *const out[] = { "plain", "caf\xc3\xa9", "caf?", "?/x", "", "" };

	(void)state;
	for (size_t i = 0; i < sizeof(in) / sizeof(in[0]); i++) {
		CLEANUP_JSON json_t *j = json_any_string(in[i]);

		assert_string_equal(json_string_value(j), out[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_text_is_lost_for_its_encoding),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
