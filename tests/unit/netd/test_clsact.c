/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels before 6.6 have no tcx: the same datapath attached by clsact. */
#include "tests/unit/netd/stage.h"

static void test_clsact_carries_local_and_remote_traffic(void **state)
{
	(void)state;
	expect_ping(HOST_A, "a1", "10.88.1.3", true);
	expect_ping(HOST_A, "a1", "10.88.1.4", true);
	serve(HOST_B, "b1", 7000);
	expect_tcp(HOST_A, "a1", "10.88.1.4", 7000, 512);
	DO(HOST_B, do_hold, "b1", "", 0, "", "");
	expect_ping(HOST_A, "a1", "10.88.1.4", false);
	DO(HOST_B, do_release, "b1", "", 0, "", "");
	expect_ping(HOST_A, "a1", "10.88.1.4", true);
}

static void test_clsact_survives_the_process(void **state)
{
	(void)state;
	host_kill(HOST_A);
	expect_ping(HOST_B, "b1", "10.88.1.2", true);
	host_start(HOST_A);
	host_do(HOST_A, open_netd, NULL, 0);
	expect_ping(HOST_A, "a1", "10.88.1.4", true);
	host_do(HOST_A, do_shutdown, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clsact_carries_local_and_remote_traffic),
		cmocka_unit_test(test_clsact_survives_the_process),
	};

	setenv("FERRY_NETD_CLSACT", "1", 1);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
