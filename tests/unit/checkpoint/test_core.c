/* SPDX-License-Identifier: Apache-2.0 */
/* Processes, threads, trees, signals, timers, credentials move from end to end. */
#include "tests/unit/checkpoint/harness.h"

static int private_memory(struct trial *t)
{
	enum { SIZE = 8 << 20 };
	unsigned char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *heap = malloc(100000);

	for (int i = 0; i < SIZE; i += 4096)
		memset(p + i, i / 4096 % 251, 4096);
	strcpy(heap, "on the heap");
	mprotect(p + (1 << 20), 4096, PROT_READ);
	mprotect(p + (2 << 20), 4096, PROT_NONE);
	trial_ready(t);
	trial_await(t);
	mprotect(p + (2 << 20), 4096, PROT_READ);
	for (int i = 0; i < SIZE; i += 4096)
		if (p[i] != i / 4096 % 251 || p[i + 4095] != i / 4096 % 251)
			return 1;
	return strcmp(heap, "on the heap") ? 2 : getpid() == 1 ? 0 : 3;
}

static void test_private_memory_arrives_whole(void **state)
{
	struct trial t = { .program = private_memory };

	(void)state;
	trial_run(&t, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_private_memory_arrives_whole),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
