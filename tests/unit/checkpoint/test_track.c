/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty trackers, each by name, where the running kernel has it: memory is changed
 * between rounds of the pre-copy in all the ways that leave no trace in one bit or the
 * other, and after the move every page must be what it was (--verify compares them all, and
 * the program its own).
 */
#include <sys/utsname.h>

#include "tests/unit/checkpoint/harness.h"

#define MIB   (1ul << 20)
#define BLOCK (4 * MIB) /* two page tables, moved whole by mremap(2) */
#define STEPS 6

static struct trial trial;

static int teardown(void **state)
{
	(void)state;
	if (trial.dir[0])
		trial_clean(&trial);
	memset(&trial, 0, sizeof(trial));
	return 0;
}

/* --- the program --------------------------------------------------------------------------- */
static uint8_t *block(void)
{
	uint8_t *p =
		mmap(NULL, 2 * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : (uint8_t *)(((uintptr_t)p + BLOCK - 1) & ~(BLOCK - 1));
}

static void fill(uint8_t *p, uint64_t seed)
{
	for (size_t i = 0; i < BLOCK; i += 8) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(p + i, &seed, 8);
	}
}

static uint64_t sum(const uint8_t *p)
{
	uint64_t s = 0, v;

	for (size_t i = 0; i < BLOCK; i += 8) {
		memcpy(&v, p + i, 8);
		s = (s << 7 | s >> 57) ^ v;
	}
	return s;
}

static void await_step(struct trial *t, const char *what, int n)
{
	char name[32];

	snprintf(name, sizeof(name), "%s%d", what, n);
	for (int i = 0; i < 60000 && !trial_told(t, name); i++)
		usleep(1000);
}

/* Two blocks change places, and nobody writes. */
static int swap(uint8_t *a, uint8_t *b)
{
	uint8_t *c = block();

	if (!c)
		return -1;
	return mremap(a, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, c) == c &&
			       mremap(b, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, a) == a &&
			       mremap(c, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, b) == b
		       ? 0
		       : -1;
}

static int changer(struct trial *t)
{
	uint8_t *p[4];
	uint64_t want[4], was;
	pid_t child = 0;
	int status, bad = 0;

	for (int i = 0; i < 4; i++) {
		p[i] = block();
		if (!p[i])
			return 10;
		fill(p[i], (uint64_t)i + 1);
		want[i] = sum(p[i]);
	}
	trial_ready(t);
	for (int step = 1; step <= STEPS; step++) {
		char did[32];

		await_step(t, "step", step);
		switch (step) {
		case 1:
			if (swap(p[0], p[1]) < 0)
				return 11;
			was = want[0];
			want[0] = want[1];
			want[1] = was;
			break;
		case 2: /* single bytes here and there */
			for (size_t i = 0; i < BLOCK; i += 7 * 4096)
				p[2][i]++;
			want[2] = sum(p[2]);
			break;
		case 3: /* pages become zero without a write */
			madvise(p[3] + MIB, 2 * MIB, MADV_DONTNEED);
			want[3] = sum(p[3]);
			break;
		case 4: /* a copy of everything, of which the tracker has seen nothing */
			child = fork();
			if (child == 0) {
				trial_await(t);
				for (int i = 0; i < 4; i++)
					bad |= sum(p[i]) != want[i];
				_exit(bad ? 1 : 0);
			}
			break;
		case 5: /* there and back again, with a write where it was in between */
			if (swap(p[0], p[1]) < 0)
				return 12;
			p[0][12345]++;
			p[1][MIB + 5]++;
			if (swap(p[0], p[1]) < 0)
				return 13;
			want[0] = sum(p[0]);
			want[1] = sum(p[1]);
			break;
		default: /* another area at the same place, with other protection */
			if (mmap(p[2], BLOCK, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
				 0) != p[2])
				return 14;
			p[2][MIB]++;
			mprotect(p[2], BLOCK, PROT_READ);
			want[2] = sum(p[2]);
			break;
		}
		/* The child keeps what it was born with. */
		snprintf(did, sizeof(did), "did%d", step);
		trial_touch(t, did);
	}
	trial_await(t);
	for (int i = 0; i < 4; i++)
		if (sum(p[i]) != want[i])
			bad |= 1 << i;
	if (waitpid(child, &status, 0) != child || status)
		bad |= 64;
	return bad;
}

/* --- the tests ------------------------------------------------------------------------------- */
static bool has(const char *tracker)
{
	return strcmp(tracker, "none") == 0 || getenv(tracker) != NULL;
}

static json_t *rounds(const char *tracker)
{
	return json_pack("{s:I,s:I,s:s,s:s}", "downtime_ns", (json_int_t)200000000, "timeout_ns",
			 (json_int_t)20000000000, "on_timeout", "go", "tracker", tracker);
}

static void changes_between_rounds_arrive(const char *tracker)
{
	struct trial *t = &trial;
	const char *used;
	int r, status = -1;

	t->program = changer;
	trial_start(t);
	trial_connect(t);
	r = trial_step(t, true, "precopy", rounds(tracker), &t->precopied);
	assert_int_equal(r, 0);
	used = json_string_value(json_object_get(t->precopied, "tracker"));
	assert_string_equal(used, tracker);
	for (int step = 1; step <= STEPS && r == 0; step++) {
		char name[32];

		snprintf(name, sizeof(name), "step%d", step);
		trial_touch(t, name);
		await_step(t, "did", step);
		r = trial_step(t, true, "precopy", rounds(tracker), &t->precopied);
	}
	assert_int_equal(r, 0);
	t->no_precopy = true;
	r = trial_migrate(t);
	if (r == 0)
		status = trial_finish(t);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
}

static void test_uffd_misses_nothing(void **state)
{
	(void)state;
	changes_between_rounds_arrive("uffd");
}

static void test_softdirty_misses_nothing(void **state)
{
	(void)state;
	changes_between_rounds_arrive("softdirty");
}

static void test_without_a_tracker_everything_is_left_for_the_freeze(void **state)
{
	(void)state;
	changes_between_rounds_arrive("none");
	assert_int_equal(json_integer_value(json_object_get(trial.precopied, "rounds")), STEPS + 1);
}

static int writer(struct trial *t)
{
	uint8_t *p[2] = { block(), block() };

	if (!p[0] || !p[1])
		return 10;
	fill(p[0], 1);
	fill(p[1], 2);
	trial_ready(t);
	/* The second block is written to all the time, the first never. */
	for (uint64_t n = 0; !trial_told(t, "go"); n++)
		p[1][n * 4096 % BLOCK] = (uint8_t)n;
	return p[0][0] == 0 && p[0][1] == 0 ? 1 : 0;
}

/* A tracker that tells nothing apart would pass the tests above, and be of no use. */
static void untouched_memory_travels_once(const char *tracker)
{
	struct trial *t = &trial;
	json_int_t bytes[3];
	int status = -1, r = 0;

	t->program = writer;
	trial_start(t);
	trial_connect(t);
	for (int i = 0; i < 3 && r == 0; i++) {
		r = trial_step(t, true, "precopy", rounds(tracker), &t->precopied);
		bytes[i] = json_integer_value(json_object_get(t->precopied, "bytes"));
	}
	assert_int_equal(r, 0);
	t->no_precopy = true;
	r = trial_migrate(t);
	if (r == 0)
		status = trial_finish(t);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
	/* All of it went in the first rounds; later ones hold the second block at most. */
	assert_true(bytes[0] > (json_int_t)(2 * BLOCK));
	assert_true(json_integer_value(json_object_get(t->dumped, "bytes")) <
		    (json_int_t)(BLOCK + BLOCK / 2));
}

static void test_uffd_sends_untouched_memory_once(void **state)
{
	(void)state;
	untouched_memory_travels_once("uffd");
}

static void test_softdirty_sends_untouched_memory_once(void **state)
{
	(void)state;
	untouched_memory_travels_once("softdirty");
}

static int idle(struct trial *t)
{
	trial_ready(t);
	trial_await(t);
	return 0;
}

static void test_a_tracker_that_is_not_there_is_refused(void **state)
{
	struct trial *t = &trial;
	int r, status;

	(void)state;
	t->program = idle;
	trial_start(t);
	trial_connect(t);
	r = control_call(&t->ca, "precopy", rounds("crystal ball"), NULL, &t->err);
	assert_int_equal(r, -EINVAL);
	for (int i = 0; i < 2; i++) {
		const char *name = i ? "softdirty" : "uffd";

		if (has(name))
			continue;
		r = control_call(&t->ca, "precopy", rounds(name), NULL, &t->err);
		assert_int_equal(r, -EOPNOTSUPP);
		assert_non_null(strstr(t->err.msg, "leave the choice to ferry"));
	}
	/* The choice of ferry works everywhere. */
	r = trial_step(t, true, "precopy", rounds("auto"), &t->precopied);
	assert_int_equal(r, 0);
	if (has("uffd"))
		assert_string_equal(json_string_value(json_object_get(t->precopied, "tracker")),
				    "uffd");
	else if (has("softdirty"))
		assert_string_equal(json_string_value(json_object_get(t->precopied, "tracker")),
				    "softdirty");
	t->no_precopy = true;
	r = trial_migrate(t);
	assert_int_equal(r, 0);
	status = trial_finish(t);
	assert_int_equal(status, 0);
}

/* What this kernel has, found without the engine: by its version and by trying a bit. */
static void probe(void)
{
	static uint8_t page[8192];
	uint8_t *p = (uint8_t *)(((uintptr_t)page + 4095) & ~4095ul);
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t before = 0, after = 0;
	off_t at = (off_t)((uintptr_t)p / 4096 * 8);
	struct utsname u;
	int a = 0, b = 0;

	uname(&u);
	if (sscanf(u.release, "%d.%d", &a, &b) == 2 && (a > 6 || (a == 6 && b >= 7)))
		setenv("uffd", "", 1);
	*(volatile uint8_t *)p = 1;
	if (file_write_str("/proc/self/clear_refs", "4", NULL) < 0 ||
	    pread(fd, &before, 8, at) != 8)
		before = ~0ull;
	*(volatile uint8_t *)p = 2;
	if (pread(fd, &after, 8, at) == 8 && !(before >> 55 & 1) && (after >> 55 & 1))
		setenv("softdirty", "", 1);
	close(fd);
}

int main(void)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest both[] = {
		cmocka_unit_test_teardown(test_without_a_tracker_everything_is_left_for_the_freeze,
					  teardown),
		cmocka_unit_test_teardown(test_a_tracker_that_is_not_there_is_refused, teardown),
	};
	const struct CMUnitTest uffd[] = {
		cmocka_unit_test_teardown(test_uffd_misses_nothing, teardown),
		cmocka_unit_test_teardown(test_uffd_sends_untouched_memory_once, teardown),
	};
	const struct CMUnitTest softdirty[] = {
		cmocka_unit_test_teardown(test_softdirty_misses_nothing, teardown),
		cmocka_unit_test_teardown(test_softdirty_sends_untouched_memory_once, teardown),
	};
	struct CMUnitTest tests[6];
	size_t n = 0;

	probe();
	memcpy(tests, both, sizeof(both));
	n += 2;
	if (has("uffd")) {
		memcpy(tests + n, uffd, sizeof(uffd));
		n += 2;
	} else {
		puts("# skip uffd: this kernel is older than 6.7");
	}
	if (has("softdirty")) {
		memcpy(tests + n, softdirty, sizeof(softdirty));
		n += 2;
	} else {
		puts("# skip softdirty: this kernel has no soft-dirty bits");
	}
	memset(tests + n, 0, (6 - n) * sizeof(*tests));
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return _cmocka_run_group_tests("tests", tests, n, NULL, NULL);
}
