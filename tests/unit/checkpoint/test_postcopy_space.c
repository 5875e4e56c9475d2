/* SPDX-License-Identifier: Apache-2.0 */
/* Where pages of the source lie in a process that maps, moves, drops and forks: against a model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/checkpoint/postcopy.h"

#define PAGES 256
#define BASE  0x100000ull

/* For each page of the process: which page of the source it is (0: none), still missing? */
struct model {
	uint64_t src[PAGES];
	bool missing[PAGES]; /* by page of the process */
};

static uint64_t address(uint64_t page)
{
	return BASE + page * PAGE;
}

static void assert_same(struct late_space *s, const struct model *m)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < PAGES; i++) {
		const struct late_seg *g = late_space_find(s, address(i));
		uint64_t src = g ? g->src + (address(i) - g->start) : 0, at = 0;

		assert_int_equal(src, m->src[i]);
		if (!src)
			continue;
		assert_int_equal(pageset_has(&s->missing, src), m->missing[i]);
		n += m->missing[i];
		assert_true(late_space_place(s, 0, src, 1, &at) == 1);
		assert_int_equal(at, address(i));
	}
	assert_int_equal(n, s->nmissing);
	for (size_t i = 1; i < s->nsegs; i++)
		assert_true(s->segs[i - 1].end <= s->segs[i].start);
}

static void one_step(struct late_space *s, struct model *m)
{
	uint64_t a = (uint64_t)rand() % PAGES, n = 1 + (uint64_t)rand() % (PAGES - a);
	uint64_t b = (uint64_t)rand() % PAGES;
	struct model was = *m;

	switch (rand() % 4) {
	case 0: /* munmap */
		late_space_cut(s, address(a), address(a + n));
		for (uint64_t i = a; i < a + n; i++)
			m->src[i] = m->missing[i] = 0;
		break;
	case 1: /* madvise */
		late_space_clear(s, address(a), address(a + n));
		for (uint64_t i = a; i < a + n; i++)
			m->missing[i] = false;
		break;
	case 2: /* mremap to a place that does not overlap */
		n = n > 16 ? 16 : n;
		n = b + n > PAGES ? PAGES - b : n;
		if (a < b + n && b < a + n)
			return;
		late_space_move(s, address(a), address(b), n * PAGE);
		for (uint64_t i = 0; i < n; i++) {
			m->src[b + i] = was.src[a + i];
			m->missing[b + i] = was.missing[a + i];
			m->src[a + i] = m->missing[a + i] = 0;
		}
		break;
	case 3: /* a page comes */
		if (!m->src[a])
			return;
		late_mark(&s->missing, &s->nmissing, m->src[a], 1, false);
		m->missing[a] = false;
		break;
	}
}

static void test_space_is_what_the_process_made_of_it(void **state)
{
	(void)state;
	for (unsigned int seed = 1; seed <= 100; seed++) {
		struct late_space s = { .vpid = 1 }, child = { 0 };
		struct model m = { 0 }, of_child;

		srand(seed);
		for (uint64_t i = 0; i < PAGES; i += 64) {
			late_space_add(&s, address(i), address(i + 60), address(i), 0);
			late_mark(&s.missing, &s.nmissing, address(i), 50, true);
			for (uint64_t k = 0; k < 60; k++) {
				m.src[i + k] = address(i + k);
				m.missing[i + k] = k < 50;
			}
		}
		assert_same(&s, &m);
		for (int i = 0; i < 20; i++)
			one_step(&s, &m);
		assert_same(&s, &m);
		late_space_fork(&child, &s);
		of_child = m;
		for (int i = 0; i < 20; i++) {
			one_step(&s, &m);
			one_step(&child, &of_child);
		}
		assert_same(&s, &m);
		assert_same(&child, &of_child);
		late_space_free(&s);
		late_space_free(&child);
	}
}

static void test_shared_memory_mapped_twice_is_found_in_both_places(void **state)
{
	struct late_space s = { .vpid = 1 };
	const struct late_seg *g;
	uint64_t at;

	(void)state;
	late_space_add(&s, address(0), address(8), 0, 7);
	late_space_add(&s, address(20), address(24), address(20), 0);
	late_space_double(&s, address(2), address(16));
	g = late_space_find(&s, address(17));
	assert_non_null(g);
	assert_int_equal(g->object, 7);
	assert_int_equal(g->src + (address(17) - g->start), 3 * PAGE);
	/* No farther than what is known to be something else. */
	assert_int_equal(late_space_find(&s, address(20))->object, 0);
	/* Given up in one place, it is found in the other one. */
	late_space_cut(&s, address(0), address(8));
	assert_true(late_space_place(&s, 7, 3 * PAGE, 1, &at) == 1);
	assert_int_equal(at, address(17));
	/* What madvise(2) does to a mapping leaves the object as it is. */
	late_space_clear(&s, address(16), address(20));
	assert_non_null(late_space_find(&s, address(17)));
	late_space_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_space_is_what_the_process_made_of_it),
		cmocka_unit_test(test_shared_memory_mapped_twice_is_found_in_both_places),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
