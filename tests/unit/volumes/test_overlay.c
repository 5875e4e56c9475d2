// SPDX-License-Identifier: Apache-2.0
/* The overlay of a tentative promote, against a model that is a plain array. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "volumes/vold/backend.h"
#include "volumes/vold/overlay.h"

#define BLOCKS 64
#define SIZE   (BLOCKS * VOLD_BLOCK)

static char pattern[SIZE];

static void fill(char *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1103515245u + 12345u;
		p[i] = (char)(seed >> 16);
	}
}

struct replay {
	char image[SIZE];
	unsigned writes, barriers;
	unsigned order[256]; /* first block of each write; 1000: barrier */
	unsigned n;
};

static int replay_write(void *ctx, uint64_t offset, size_t length, void *data)
{
	struct replay *r = ctx;

	assert_true(offset + length <= SIZE);
	if (data)
		memcpy(r->image + offset, data, length);
	else
		memset(r->image + offset, 0, length);
	r->writes++;
	if (r->n < 256)
		r->order[r->n++] = (unsigned)(offset / VOLD_BLOCK);
	return 0;
}

static int replay_barrier(void *ctx)
{
	struct replay *r = ctx;

	r->barriers++;
	if (r->n < 256)
		r->order[r->n++] = 1000;
	return 0;
}

static int replay_fail(void *ctx, uint64_t offset, size_t length, void *data)
{
	(void)offset, (void)length, (void)data;
	++*(int *)ctx;
	return -EIO;
}

static void test_reads_see_what_was_written(void **state)
{
	struct overlay *ov = overlay_new(1 << 20);
	char *buf = malloc(SIZE);

	(void)state;
	memset(buf, 'x', SIZE);
	assert_int_equal(overlay_covers(ov, 0, SIZE), OVERLAY_NONE);
	assert_int_equal(overlay_write(ov, 2 * VOLD_BLOCK, 2 * VOLD_BLOCK, pattern), 0);
	assert_int_equal(overlay_covers(ov, 2 * VOLD_BLOCK, 2 * VOLD_BLOCK), OVERLAY_ALL);
	assert_int_equal(overlay_covers(ov, VOLD_BLOCK, 2 * VOLD_BLOCK), OVERLAY_PART);
	assert_int_equal(overlay_covers(ov, 4 * VOLD_BLOCK, VOLD_BLOCK), OVERLAY_NONE);
	overlay_read(ov, 0, SIZE, buf);
	assert_int_equal(buf[2 * VOLD_BLOCK - 1], 'x');
	assert_memory_equal(buf + 2 * VOLD_BLOCK, pattern, 2 * VOLD_BLOCK);
	assert_int_equal(buf[4 * VOLD_BLOCK], 'x');
	overlay_read(ov, 2 * VOLD_BLOCK + 100, 50, buf);
	assert_memory_equal(buf, pattern + 100, 50);
	overlay_free(ov);
	free(buf);
}

static void test_zeroes_hide_what_was_there(void **state)
{
	struct overlay *ov = overlay_new(1 << 20);
	char buf[VOLD_BLOCK], zero[VOLD_BLOCK] = { 0 };

	(void)state;
	assert_int_equal(overlay_write(ov, 0, VOLD_BLOCK, pattern), 0);
	assert_int_equal(overlay_write(ov, 0, VOLD_BLOCK, NULL), 0);
	memset(buf, 'x', sizeof(buf));
	overlay_read(ov, 0, VOLD_BLOCK, buf);
	assert_memory_equal(buf, zero, VOLD_BLOCK);
	assert_int_equal(overlay_write(ov, 0, VOLD_BLOCK, pattern), 0);
	overlay_read(ov, 0, VOLD_BLOCK, buf);
	assert_memory_equal(buf, pattern, VOLD_BLOCK);
	overlay_free(ov);
}

static void test_drain_keeps_the_order_of_flushes(void **state)
{
	struct overlay *ov = overlay_new(1 << 20);
	struct replay *r = calloc(1, sizeof(*r));
	struct overlay_sink sink = { replay_write, replay_barrier, r };
	static const unsigned order[] = { 5, 9, 1000, 5, 1000 };

	(void)state;
	overlay_flush(ov); /* nothing yet: closes nothing */
	overlay_write(ov, 5 * VOLD_BLOCK, VOLD_BLOCK, pattern);
	overlay_write(ov, 9 * VOLD_BLOCK, VOLD_BLOCK, pattern);
	overlay_flush(ov);
	overlay_flush(ov);
	overlay_write(ov, 5 * VOLD_BLOCK, VOLD_BLOCK, pattern + VOLD_BLOCK);
	assert_int_equal(overlay_bytes(ov), 2 * VOLD_BLOCK);
	assert_int_equal(overlay_drain(ov, &sink), 0);
	assert_int_equal(r->n, 5);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(r->order[i], order[i]);
	assert_memory_equal(r->image + 5 * VOLD_BLOCK, pattern + VOLD_BLOCK, VOLD_BLOCK);
	overlay_free(ov);
	free(r);
}

static void test_neighbours_drain_in_one_piece(void **state)
{
	struct overlay *ov = overlay_new(4 << 20);
	struct replay *r = calloc(1, sizeof(*r));
	struct overlay_sink sink = { replay_write, replay_barrier, r };

	(void)state;
	for (unsigned i = 0; i < BLOCKS; i++)
		overlay_write(ov, i * VOLD_BLOCK, VOLD_BLOCK, pattern + i * VOLD_BLOCK);
	assert_int_equal(overlay_drain(ov, &sink), 0);
	assert_int_equal(r->writes, 1);
	assert_memory_equal(r->image, pattern, SIZE);
	overlay_free(ov);
	free(r);
}

static void test_full_overlay_keeps_nothing_of_a_write(void **state)
{
	struct overlay *ov = overlay_new(1 << 20); /* 256 blocks */
	char *big = calloc(1, VOLD_MAX_IO);
	uint64_t before;

	(void)state;
	assert_int_equal(overlay_write(ov, 0, VOLD_MAX_IO - VOLD_BLOCK, big), 0);
	before = overlay_bytes(ov);
	assert_int_equal(overlay_write(ov, 1 << 20, 2 * VOLD_BLOCK, big), -ENOSPC);
	assert_int_equal(overlay_bytes(ov), before);
	assert_int_equal(overlay_covers(ov, 1 << 20, 2 * VOLD_BLOCK), OVERLAY_NONE);
	/* What is there already can be written again in the same epoch. */
	assert_int_equal(overlay_write(ov, 0, VOLD_BLOCK, pattern), 0);
	assert_int_equal(overlay_write(ov, 0, 1ull << 40, NULL), -ENOSPC);
	overlay_free(ov);
	free(big);
}

static void test_unaligned_writes_are_refused(void **state)
{
	struct overlay *ov = overlay_new(1 << 20);

	(void)state;
	assert_int_equal(overlay_write(ov, 1, VOLD_BLOCK, pattern), -EINVAL);
	assert_int_equal(overlay_write(ov, 0, 100, pattern), -EINVAL);
	overlay_free(ov);
}

static void test_drain_stops_at_the_first_error(void **state)
{
	struct overlay *ov = overlay_new(1 << 20);
	int calls = 0;
	struct overlay_sink sink = { replay_fail, replay_barrier, &calls };

	(void)state;
	overlay_write(ov, 0, VOLD_BLOCK, pattern);
	overlay_write(ov, 8 * VOLD_BLOCK, VOLD_BLOCK, pattern);
	assert_int_equal(overlay_drain(ov, &sink), -EIO);
	assert_int_equal(calls, 1);
	overlay_free(ov);
}

static void test_random_operations_equal_the_model(void **state)
{
	struct overlay *ov = overlay_new(16 << 20);
	struct replay *r = calloc(1, sizeof(*r));
	struct overlay_sink sink = { replay_write, replay_barrier, r };
	char *model = calloc(1, SIZE), *buf = calloc(1, SIZE);

	(void)state;
	srandom(7);
	for (int i = 0; i < 2000; i++) {
		unsigned block = (unsigned)random() % BLOCKS;
		unsigned n = 1 + (unsigned)random() % 8, from = (unsigned)random() % (BLOCKS - 8);

		if (block + n > BLOCKS)
			n = BLOCKS - block;
		switch (random() % 5) {
		case 0:
			overlay_flush(ov);
			break;
		case 1:
			if (overlay_write(ov, block * VOLD_BLOCK, n * VOLD_BLOCK, NULL) == 0)
				memset(model + block * VOLD_BLOCK, 0, n * VOLD_BLOCK);
			break;
		default:
			if (overlay_write(ov, block * VOLD_BLOCK, n * VOLD_BLOCK,
					  pattern + from * VOLD_BLOCK) == 0)
				memcpy(model + block * VOLD_BLOCK, pattern + from * VOLD_BLOCK,
				       n * VOLD_BLOCK);
		}
	}
	overlay_read(ov, 0, SIZE, buf);
	assert_memory_equal(buf, model, SIZE);
	assert_int_equal(overlay_drain(ov, &sink), 0);
	assert_memory_equal(r->image, model, SIZE);
	overlay_free(ov);
	free(r);
	free(model);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_see_what_was_written),
		cmocka_unit_test(test_zeroes_hide_what_was_there),
		cmocka_unit_test(test_drain_keeps_the_order_of_flushes),
		cmocka_unit_test(test_neighbours_drain_in_one_piece),
		cmocka_unit_test(test_full_overlay_keeps_nothing_of_a_write),
		cmocka_unit_test(test_unaligned_writes_are_refused),
		cmocka_unit_test(test_drain_stops_at_the_first_error),
		cmocka_unit_test(test_random_operations_equal_the_model),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	fill(pattern, sizeof(pattern), 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
