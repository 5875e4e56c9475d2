/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last look at private memory (mem_last.c): whatever a large process did to its memory
 * between a round of the pre-copy and the freeze, every page is on the other side what it was
 * here. The program makes areas of all kinds, changes each in its own way when it is told to,
 * and knows of each page what it should hold; --verify compares them once more.
 */
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "runtime/checkpoint/track.h"
#include "tests/unit/checkpoint/harness.h"

#define MIB	      (1ul << 20)
#define AREA	      (4 * MIB) /* two page tables */
#define PAGES	      (AREA / PAGE)
#define GUARD_INSTALL 102
#define GUARD_REMOVE  103
#define ANYTHING      0xffu /* this page is not looked at */

enum kind {
	IDLE,
	WRITTEN,
	HOLES,
	DROPPED,
	DROPPED_IN_PART,
	MOVED,
	MOVED_AWAY,
	ANEW,
	ANEW_WRITTEN,
	GROWN,
	HUGE,
	GUARDED,
	OF_A_FILE,
	OF_A_MEMFD,
	PROTECTED,
	KINDS
};

struct area {
	uint8_t *p;
	uint8_t want[PAGES]; /* first and last byte of each page; 0: zeros */
};
static struct area areas[KINDS];

/* --- the program ----------------------------------------------------------------------------- */
static uint8_t *aligned(void)
{
	uint8_t *p =
		mmap(NULL, 2 * AREA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : (uint8_t *)(((uintptr_t)p + AREA - 1) & ~(AREA - 1));
}

static void put(struct area *a, size_t page, uint8_t tag)
{
	a->p[page * PAGE] = a->p[page * PAGE + PAGE - 1] = tag;
	a->want[page] = tag;
}

static void put_all(struct area *a, size_t from, size_t to, size_t step, uint8_t tag)
{
	for (size_t i = from; i < to; i += step)
		put(a, i, tag);
}

/* Reads in a way that no compiler leaves out. */
static uint8_t look(const struct area *a, size_t page)
{
	return *(const volatile uint8_t *)(a->p + page * PAGE);
}

static void drop(struct area *a, size_t from, size_t to, uint8_t tag)
{
	madvise(a->p + from * PAGE, (to - from) * PAGE, MADV_DONTNEED);
	memset(a->want + from, tag, to - from);
}

static uint8_t *map_at(uint8_t *at, size_t len, int flags, int fd)
{
	return mmap(at, len, PROT_READ | PROT_WRITE, flags | (at ? MAP_FIXED : 0), fd, 0);
}

static bool make_file(struct trial *t, struct area *a, bool memfd)
{
	CLEANUP_FREE char *path = str_format("%s/mapped", t->dir);
	CLEANUP_CLOSE int fd = memfd ? memfd_create("mapped", MFD_CLOEXEC)
				     : open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	uint8_t page[PAGE];

	for (size_t i = 0; i < PAGES; i++) {
		memset(page, 0x40 + (int)(i % 50), sizeof(page));
		if (write(fd, page, sizeof(page)) != (ssize_t)sizeof(page))
			return false;
		a->want[i] = page[0];
	}
	a->p = map_at(a->p, AREA, MAP_PRIVATE, fd);
	put_all(a, 0, 100, 1, 7);
	for (size_t i = 100; i < 200; i++)
		look(a, i);
	return a->p != MAP_FAILED;
}

static bool make(struct trial *t)
{
	for (int i = 0; i < KINDS; i++) {
		struct area *a = &areas[i];

		a->p = aligned();
		if (!a->p)
			return false;
		if (i == OF_A_FILE || i == OF_A_MEMFD) {
			if (!make_file(t, a, i == OF_A_MEMFD))
				return false;
			continue;
		}
		if (map_at(a->p, AREA, MAP_PRIVATE | MAP_ANONYMOUS, -1) != a->p)
			return false;
		madvise(a->p, AREA, i == HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
		if (i == GROWN) {
			put_all(a, 0, PAGES / 2, 1, 1);
			map_at(a->p + AREA / 2, AREA / 2, MAP_SHARED | MAP_ANONYMOUS, -1);
			continue;
		}
		put_all(a, 0, PAGES, i == HOLES ? 2 : 1, (uint8_t)(i + 1));
		if (i == GUARDED)
			for (size_t k = 5; k < 10; k += 4) /* 5 and 9 */
				if (madvise(a->p + k * PAGE, PAGE, GUARD_INSTALL) == 0)
					a->want[k] = ANYTHING;
	}
	return true;
}

static int file_pages(struct area *a)
{
	for (size_t i = 0; i < 30; i++)
		drop(a, i, i + 1, 0x40 + (uint8_t)(i % 50));
	for (size_t i = 10; i < 20; i++)
		if (look(a, i) != a->want[i])
			return 1;
	put(a, 25, 99);
	put(a, 150, 98); /* was read before, and was the file's */
	put(a, 300, 97);
	return 0;
}

static int change(struct area *a, int kind)
{
	uint8_t *to;

	switch (kind) {
	case WRITTEN:
		put_all(a, 0, PAGES, 3, 101);
		break;
	case HOLES:
		put_all(a, 1, PAGES, 32, 102);
		return look(a, 3) + look(a, 5);
	case DROPPED:
		drop(a, 0, PAGES, 0);
		break;
	case DROPPED_IN_PART:
		drop(a, 100, 900, 0);
		put(a, 200, 103);
		return look(a, 150);
	case MOVED:
		to = aligned();
		to = mremap(a->p, AREA, AREA, MREMAP_MAYMOVE | MREMAP_FIXED, to);
		if (to == MAP_FAILED)
			return 1;
		a->p = to;
		break;
	case MOVED_AWAY: /* the old place stays, and is empty */
		to = mremap(a->p, AREA, AREA, MREMAP_MAYMOVE | 4 /* MREMAP_DONTUNMAP */, NULL);
		if (to == MAP_FAILED)
			return 1;
		for (size_t i = 0; i < PAGES; i++)
			if (to[i * PAGE] != a->want[i])
				return 2;
		memset(a->want, 0, sizeof(a->want));
		break;
	case ANEW:
	case ANEW_WRITTEN:
		munmap(a->p, AREA);
		if (map_at(a->p, AREA, MAP_PRIVATE | MAP_ANONYMOUS, -1) != a->p)
			return 1;
		memset(a->want, 0, sizeof(a->want));
		if (kind == ANEW_WRITTEN)
			put_all(a, 7, PAGES, 50, 104);
		break;
	case GROWN:
		munmap(a->p + AREA / 2, AREA / 2);
		if (mremap(a->p, AREA / 2, AREA, 0) != a->p)
			return 1;
		put_all(a, PAGES / 2, PAGES, 7, 105);
		break;
	case HUGE:
		drop(a, 0, PAGES / 2, 0);
		put(a, PAGES / 2 + 3, 106);
		break;
	case GUARDED:
		if (madvise(a->p + 700 * PAGE, PAGE, GUARD_INSTALL) == 0)
			a->want[700] = ANYTHING;
		if (madvise(a->p + 5 * PAGE, PAGE, GUARD_REMOVE) == 0)
			a->want[5] = 0;
		break;
	case OF_A_FILE:
	case OF_A_MEMFD:
		return file_pages(a);
	case PROTECTED:
		put(a, 1, 107);
		return mprotect(a->p, AREA / 4, PROT_READ) |
		       mprotect(a->p + AREA / 4, AREA / 4, PROT_NONE);
	default:
		break;
	}
	return 0;
}

/* write(2) from a guard page fails, a program's own access would end it. */
static bool faults(const uint8_t *p, const int pipe[2])
{
	uint8_t byte;
	ssize_t n = write(pipe[1], p, 1);

	return n == 1 ? read(pipe[0], &byte, 1) != 1 : errno == EFAULT;
}

static int right(const struct area *a, int kind)
{
	int pair[2], bad = 0;

	if (pipe(pair) < 0)
		return 1;
	if (kind == PROTECTED)
		mprotect(a->p, AREA, PROT_READ);
	for (size_t i = 0; i < PAGES && !bad; i++) {
		const uint8_t *p = a->p + i * PAGE;

		bad = a->want[i] == ANYTHING ? !faults(p, pair)
					     : p[0] != a->want[i] || p[PAGE - 1] != a->want[i];
		if (bad)
			fprintf(stderr, "# area %d page %zu: %u and not %u\n", kind, i,
				faults(p, pair) ? ANYTHING : p[0], a->want[i]);
	}
	close(pair[0]);
	close(pair[1]);
	return bad;
}

static int changing(struct trial *t)
{
	int r = make(t) ? 0 : 90;

	trial_ready(t);
	while (!trial_told(t, "change"))
		usleep(1000);
	for (int i = 0; i < KINDS && r == 0; i++)
		r = change(&areas[i], i) ? 60 + i : 0;
	trial_touch(t, "changed");
	trial_await(t);
	for (int i = 0; i < KINDS && r == 0; i++)
		r = right(&areas[i], i) ? 10 + i : 0;
	return r;
}

/* --- moves --------------------------------------------------------------------------------------
 */
static bool has_changed(struct trial *t)
{
	return trial_told(t, "changed");
}

static int changes(struct trial *t)
{
	trial_touch(t, "change");
	trial_sleep_until(has_changed, t);
	return trial_told(t, "changed") ? 0 : -1;
}

/* As if it had been tried, and had failed at the last moment. */
static int in_vain(struct trial *t)
{
	int r = trial_precopy(t), status;

	if (r == 0)
		r = trial_step(t, true, "freeze", NULL, NULL);
	if (r == 0)
		r = trial_step(t, true, "dump", NULL, NULL);
	if (r == 0)
		r = trial_step(t, true, "resume", NULL, NULL);
	if (r == 0)
		r = trial_step(t, false, "abort", NULL, NULL);
	control_client_close(&t->ca);
	control_client_close(&t->cb);
	waitpid(t->engine_a, &status, 0);
	waitpid(t->engine_b, &status, 0);
	waitpid(t->b, &status, 0);
	t->engine_a = t->engine_b = t->b = 0;
	if (r == 0)
		trial_connect(t);
	return r;
}

static void move(bool tried_before, int rounds_after)
{
	struct trial t = { .program = changing };
	int r, status = -1;

	trial_start(&t);
	trial_connect(&t);
	r = tried_before ? in_vain(&t) : 0;
	if (r == 0)
		r = trial_precopy(&t);
	if (r == 0)
		r = changes(&t);
	for (int i = 0; i < rounds_after && r == 0; i++)
		r = trial_precopy(&t);
	t.no_precopy = true;
	if (r == 0)
		r = trial_migrate(&t);
	if (r == 0)
		status = trial_finish(&t);
	trial_clean(&t);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
}

static void test_nothing_changed_before_the_freeze_is_lost(void **state)
{
	(void)state;
	move(false, 0);
}

static void test_nothing_changed_between_rounds_is_lost(void **state)
{
	(void)state;
	move(false, 1);
}

static void test_nothing_is_lost_after_a_move_that_failed(void **state)
{
	(void)state;
	move(true, 0);
}

/* --- the kernel's answers
 * -------------------------------------------------------------------------- */
struct seen {
	const uint8_t *p;
	size_t n, twice, wrong;
	uint8_t pages[8192];
};

static int see(void *ctx, uint64_t start, uint64_t end, int what)
{
	struct seen *s = ctx;

	(void)what;
	for (; start < end; start += PAGE) {
		size_t page = (start - (uintptr_t)s->p) / PAGE;

		s->n++;
		s->wrong += page >= sizeof(s->pages) || page % 2;
		s->twice += page < sizeof(s->pages) && s->pages[page]++;
	}
	return 0;
}

static void assert_each_once(const struct seen *s, size_t n)
{
	assert_int_equal(s->n, n);
	assert_int_equal(s->twice, 0);
	assert_int_equal(s->wrong, 0);
}

/* Every other page of 2n is there: n regions, more than the kernel's own buffer (512) and
 * ours hold. */
static void test_regions_of_a_scan_are_shown_once_each(void **state)
{
	static const size_t counts[] = { 1, 511, 512, 513, 1023, 1024, 1025, 1536, 2048, 3000 };
	struct task t = { .pid = getpid(),
			  .pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC) };
	static struct seen s;

	(void)state;
	for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); k++) {
		size_t n = counts[k], len = 2 * n * PAGE;
		uint8_t *p =
			mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		int r;

		assert_true(p != MAP_FAILED);
		madvise(p, len, MADV_NOHUGEPAGE);
		for (size_t i = 0; i < n; i++)
			p[2 * i * PAGE] = 1;
		s = (struct seen){ .p = p };
		r = pages_scan_plain(&t, (uintptr_t)p, (uintptr_t)p + len, see, &s);
		munmap(p, len);
		if (r == -ENOTTY) /* before 6.7 */
			break;
		assert_int_equal(r, 0);
		assert_each_once(&s, n);
	}
	close(t.pagemap_fd);
}

static int watch_own(uint8_t *p, size_t len)
{
	struct uffdio_api api = { .api = UFFD_API, .features = 1 << 15 /* WP_ASYNC */ };
	struct uffdio_register reg = { .range = { (uintptr_t)p, len },
				       .mode = UFFDIO_REGISTER_MODE_WP };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* USER_MODE_ONLY */);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &reg) < 0)
		return -1;
	return fd;
}

static void find(struct seen *s, int fd, const uint8_t *p, size_t len)
{
	struct buf out = { 0 };
	const uint64_t *pairs;
	int r = tracker_uffd.find_written(fd, (uintptr_t)p, (uintptr_t)p + len, &out);

	pairs = (const uint64_t *)(void *)out.data;
	*s = (struct seen){ .p = p };
	for (size_t i = 0; i < out.len / sizeof(*pairs); i += 2)
		see(s, pairs[i], pairs[i + 1], 0);
	buf_free(&out);
	assert_int_equal(r, 0);
}

static void test_written_pages_are_found_once_each(void **state)
{
	enum { N = 3000 };
	size_t len = 2 * N * PAGE;
	struct task t = { .pid = getpid(),
			  .pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC) };
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static struct seen s;
	int fd, r;

	(void)state;
	if (!tracker_uffd.available() || !tracker_uffd.finds_written()) {
		close(t.pagemap_fd);
		munmap(p, len);
		print_message("# this kernel has another tracker\n");
		return;
	}
	madvise(p, len, MADV_NOHUGEPAGE);
	memset(p, 1, len);
	fd = watch_own(p, len);
	assert_true(fd >= 0);
	/* All of it is new; seen once, and no more. */
	s = (struct seen){ .p = p };
	r = tracker_uffd.scan(&t, (uintptr_t)p, (uintptr_t)p + len, true, see, &s);
	assert_int_equal(r, 0);
	assert_int_equal(s.n, 2 * N);
	find(&s, t.pagemap_fd, p, len);
	assert_int_equal(s.n, 0);
	for (size_t i = 0; i < N; i++)
		if (i % 3 == 0)
			madvise(p + 2 * i * PAGE, PAGE, MADV_DONTNEED);
		else
			p[2 * i * PAGE] = 2;
	find(&s, t.pagemap_fd, p, len);
	assert_each_once(&s, N);
	/* Those that are gone are no pages, and so not shown. */
	s = (struct seen){ .p = p };
	r = tracker_uffd.scan(&t, (uintptr_t)p, (uintptr_t)p + len, true, see, &s);
	assert_int_equal(r, 0);
	assert_each_once(&s, N - N / 3);
	s = (struct seen){ .p = p };
	r = tracker_uffd.scan_watched(&t, (uintptr_t)p, (uintptr_t)p + len, false, see, &s);
	assert_int_equal(r, 0);
	assert_int_equal(s.n, 2 * N - N / 3);
	s = (struct seen){ .p = p };
	r = tracker_uffd.scan_unwatched(&t, (uintptr_t)p, (uintptr_t)p + len, false, see, &s);
	assert_int_equal(r, 0);
	assert_int_equal(s.n, 0);
	close(fd);
	r = tracker_uffd.scan_unwatched(&t, (uintptr_t)p, (uintptr_t)p + len, false, see, &s);
	assert_int_equal(r, 0);
	assert_int_equal(s.n, 2 * N - N / 3);
	close(t.pagemap_fd);
	munmap(p, len);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_regions_of_a_scan_are_shown_once_each),
		cmocka_unit_test(test_written_pages_are_found_once_each),
		/* Sanitized programs cannot travel. */
		cmocka_unit_test(test_nothing_changed_before_the_freeze_is_lost),
		cmocka_unit_test(test_nothing_changed_between_rounds_is_lost),
		cmocka_unit_test(test_nothing_is_lost_after_a_move_that_failed),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return _cmocka_run_group_tests("tests", tests, TRIAL_SANITIZED ? 2 : 5, NULL, NULL);
}
