/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of huge pages travels: private and shared, of memfds and System V segments, what
 * changes between rounds, with each dirty tracker; and a destination without free huge pages
 * says so while the source runs. The pool of this machine is raised for it and put back;
 * where it cannot be, all of it is skipped.
 */
#include <errno.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/shm.h>

#include "tests/unit/checkpoint/harness.h"

#define HUGE   (2ul << 20)
#define NEEDED 40 /* pages: what any of the programs uses, on both sides */
#define POOL   "/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define SMALL  4096

static unsigned long pool_read(const char *name)
{
	char path[128];
	CLEANUP_FREE char *text = NULL;

	snprintf(path, sizeof(path), POOL "%s", name);
	return file_read(path, 64, &text, NULL, NULL) == 0 ? strtoul(text, NULL, 10) : 0;
}

static void pool_set(unsigned long n)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", n);
	file_write_str(POOL "nr_hugepages", text, NULL);
}

static unsigned long pool_free(void)
{
	unsigned long unused = pool_read("free_hugepages"), kept = pool_read("resv_hugepages");

	return unused > kept ? unused - kept : 0;
}

static bool pool_has(unsigned long n)
{
	for (int i = 0; i < 50 && pool_free() < n; i++) {
		pool_set(pool_read("nr_hugepages") + n - pool_free());
		usleep(20000);
	}
	return pool_free() >= n;
}

static uint8_t *map(size_t pages, int prot, int flags)
{
	return mmap(NULL, pages * HUGE, prot, flags | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
}

/* --- what must be there afterwards ----------------------------------------------------------- */
struct areas {
	uint8_t *priv, *fixed, *holes, *shared, *memfd, *over, *sysv;
	int fd, unmapped, id;
};

static bool make(struct areas *a)
{
	a->priv = map(3, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	a->fixed = map(1, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	a->holes = map(3, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE);
	a->shared = map(2, PROT_READ | PROT_WRITE, MAP_SHARED);
	a->fd = memfd_create("huge", MFD_HUGETLB | MFD_ALLOW_SEALING);
	a->unmapped = memfd_create("unmapped", MFD_HUGETLB);
	a->id = shmget(0x4711, HUGE + SMALL, IPC_CREAT | SHM_HUGETLB | 0600);
	if (a->priv == MAP_FAILED || a->fixed == MAP_FAILED || a->holes == MAP_FAILED ||
	    a->shared == MAP_FAILED || a->fd < 0 || a->unmapped < 0 || a->id < 0 ||
	    ftruncate(a->fd, 2 * HUGE) < 0 || ftruncate(a->unmapped, HUGE) < 0)
		return false;
	a->memfd = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
	a->over = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, a->fd, 0);
	a->sysv = shmat(a->id, NULL, 0);
	return a->memfd != MAP_FAILED && a->over != MAP_FAILED && a->sysv != (uint8_t *)-1;
}

static void fill(struct areas *a)
{
	uint8_t *p = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, a->unmapped, 0);

	memset(a->priv, 1, HUGE);
	a->priv[HUGE + 5 * SMALL] = 2;
	a->fixed[7] = 3;
	mprotect(a->fixed, HUGE, PROT_READ);
	a->holes[HUGE] = 4; /* a hole on either side */
	a->shared[HUGE + 1] = 5;
	memset(a->memfd, 6, SMALL);
	a->over[SMALL] = 7; /* this page is its own from now on, the file's others show no more */
	a->sysv[HUGE + HUGE - 1] = 8; /* behind the segment's size */
	p[9] = 9;
	munmap(p, HUGE);
}

static int check(const struct areas *a)
{
	uint8_t byte = 0;
	struct shmid_ds ds;

	for (size_t i = 0; i < HUGE; i += SMALL)
		if (a->priv[i] != 1)
			return 10;
	if (a->priv[HUGE + 5 * SMALL] != 2 || a->priv[HUGE] || a->priv[2 * HUGE])
		return 11;
	if (a->fixed[7] != 3 || a->fixed[8])
		return 12;
	if (a->holes[0] || a->holes[HUGE] != 4 || a->holes[2 * HUGE])
		return 13;
	if (a->shared[HUGE + 1] != 5 || a->shared[0])
		return 14;
	if (a->memfd[0] != 6 || a->memfd[SMALL] || a->memfd[HUGE])
		return 15;
	if (a->over[SMALL] != 7 || a->over[0] != 6)
		return 16;
	if (a->sysv[2 * HUGE - 1] != 8 || shmctl(a->id, IPC_STAT, &ds) < 0 ||
	    ds.shm_segsz != HUGE + SMALL)
		return 17;
	if (pread(a->unmapped, &byte, 1, 9) != 1 || byte != 9)
		return 18;
	return 0;
}

/* Whether maps still shows `addr` as one of huge pages, which cannot be unmapped in part. */
static bool is_huge(uint8_t *addr)
{
	return munmap(addr + SMALL, SMALL) < 0 && errno == EINVAL;
}

static int all_kinds(struct trial *t)
{
	struct areas a;
	int r, status;

	if (!make(&a))
		return 1;
	fill(&a);
	fcntl(a.fd, F_ADD_SEALS, F_SEAL_SHRINK);
	if (fork() == 0) {
		while (a.shared[0] != 77)
			usleep(1000);
		a.shared[HUGE] = 78;
		_exit(a.priv[0] == 1 ? 0 : 1);
	}
	trial_ready(t);
	trial_await(t);
	r = check(&a);
	if (r)
		return r;
	if (!is_huge(a.priv) || !is_huge(a.shared) || !is_huge(a.memfd) || !is_huge(a.over) ||
	    !is_huge(a.sysv))
		return 2;
	a.shared[0] = 77;
	if (wait(&status) < 0 || status || a.shared[HUGE] != 78)
		return 3;
	if (fcntl(a.fd, F_GET_SEALS) != F_SEAL_SHRINK || ftruncate(a.fd, HUGE) == 0)
		return 4;
	return mprotect(a.fixed, HUGE, PROT_READ | PROT_WRITE) < 0 ? 5 : 0;
}

static void test_memory_of_huge_pages_travels(void **state)
{
	struct trial t = { .program = all_kinds };

	(void)state;
	trial_run(&t, 0);
}

static void test_memory_of_huge_pages_travels_in_a_file(void **state)
{
	struct trial t = { .program = all_kinds };

	(void)state;
	setenv("TRIAL_FILE", "1", 1);
	trial_run(&t, 0);
	unsetenv("TRIAL_FILE");
}

/* --- changes between rounds -------------------------------------------------------------- */
static int changing(struct trial *t)
{
	struct areas a;
	uint8_t *gone = map(1, PROT_READ | PROT_WRITE, MAP_PRIVATE), *later;

	if (!make(&a) || gone == MAP_FAILED)
		return 1;
	memset(gone, 0xee, HUGE);
	memset(a.priv + HUGE, 0xee, 2 * HUGE);
	memset(a.holes, 0xee, HUGE);
	a.shared[HUGE] = 0xee;
	a.memfd[HUGE] = 0xee;
	a.sysv[SMALL] = 0xee;
	trial_ready(t);
	while (!trial_told(t, "change"))
		usleep(1000);
	munmap(gone, HUGE);
	later = map(1, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	later[3] = 33;
	memset(a.priv + HUGE, 0, HUGE);
	/* The one is read into being again, the other is not. */
	madvise(a.priv + 2 * HUGE, HUGE, MADV_DONTNEED);
	if (a.priv[2 * HUGE])
		return 3;
	madvise(a.holes, HUGE, MADV_DONTNEED);
	a.shared[HUGE] = 0;
	fallocate(a.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HUGE, HUGE);
	a.sysv[SMALL] = 0;
	fill(&a);
	trial_touch(t, "changed");
	trial_await(t);
	if (later[3] != 33 || later[0] || later[SMALL] || a.shared[HUGE] || a.sysv[SMALL])
		return 2;
	return check(&a);
}

static bool has_changed(struct trial *t)
{
	return trial_told(t, "changed");
}

static void changes_arrive(int (*program)(struct trial *t), const char *tracker)
{
	struct trial t = { .program = program };
	json_t *args =
		json_pack("{s:I,s:I,s:s,s:s}", "downtime_ns", (json_int_t)200000000, "timeout_ns",
			  (json_int_t)20000000000, "on_timeout", "go", "tracker", tracker);
	int r, status = -1;
	bool lacking;

	trial_start(&t);
	trial_connect(&t);
	r = trial_step(&t, true, "precopy", args, &t.precopied);
	lacking = r == -EOPNOTSUPP;
	if (r == 0) {
		trial_touch(&t, "change");
		trial_sleep_until(has_changed, &t);
		t.no_precopy = true;
		r = trial_migrate(&t);
	}
	if (r == 0)
		status = trial_finish(&t);
	trial_clean(&t);
	if (lacking) {
		print_message("# this kernel has no tracker %s\n", tracker);
		return;
	}
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
}

static void test_changes_between_rounds_arrive_with_each_tracker(void **state)
{
	(void)state;
	changes_arrive(changing, "auto");
	changes_arrive(changing, "softdirty");
	changes_arrive(changing, "none");
}

/* --- pages of 1 GiB, where the host has them ------------------------------------------------- */
#define GIB  (1ul << 30)
#define GIBS "/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages"

static int gigantic(struct trial *t)
{
	uint8_t *p = mmap(NULL, GIB, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 30 << 26 /* MAP_HUGE_1GB */,
			  -1, 0);

	if (p == MAP_FAILED)
		return 1;
	memset(p, 1, SMALL);
	memset(p + GIB / 2, 2, 2 * SMALL);
	trial_ready(t);
	while (!trial_told(t, "change"))
		usleep(1000);
	p[GIB / 2] = 3;
	p[GIB - 1] = 4;
	memset(p, 0, SMALL);
	trial_touch(t, "changed");
	trial_await(t);
	return p[0] || p[GIB / 2] != 3 || p[GIB / 2 + SMALL] != 2 || p[GIB - 1] != 4 ? 2 : 0;
}

static void test_pages_of_1_gib_travel(void **state)
{
	CLEANUP_FREE char *text = NULL;

	(void)state;
	if (file_read(GIBS, 64, &text, NULL, NULL) < 0 || strtoul(text, NULL, 10) < 2) {
		print_message("# this host has no free huge pages of 1 GiB\n");
		return;
	}
	changes_arrive(gigantic, "auto");
}

/* --- a destination that has too few ----------------------------------------------------------- */
#define MANY 12

static int greedy(struct trial *t)
{
	bool reserve = t->arg != NULL;
	uint8_t *p = map(MANY, PROT_READ | PROT_WRITE, MAP_PRIVATE | (reserve ? 0 : MAP_NORESERVE));

	if (p == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < MANY; i++)
		p[i * HUGE] = (uint8_t)i;
	trial_ready(t);
	trial_await(t);
	for (size_t i = 0; i < MANY; i++)
		if (p[i * HUGE] != i)
			return 2;
	return 0;
}

static void refused_for_lack(bool reserve)
{
	struct trial t = { .program = greedy, .arg = reserve ? &t : NULL };
	unsigned long before = pool_read("nr_hugepages");
	bool named, free_again = false;
	int r, status;

	assert_true(pool_has(MANY + 4));
	trial_start(&t);
	/* What is left is not enough for another one. */
	pool_set(pool_read("nr_hugepages") - pool_free() + 4);
	trial_connect(&t);
	r = trial_precopy(&t);
	named = strstr(t.err.msg, "huge pages of 2048 KiB") && strstr(t.err.msg, "nr_hugepages");
	if (!named)
		print_message("# %s\n", t.err.msg);
	status = trial_finish(&t);
	trial_clean(&t);
	for (int i = 0; i < 1000 && !free_again; i++) {
		free_again = pool_free() >= MANY + 4;
		usleep(10000);
	}
	pool_set(before);
	assert_true(r < 0);
	assert_true(named);
	assert_int_equal(status, 0);
	assert_true(free_again);
}

static void test_destination_without_huge_pages_says_so_in_precopy(void **state)
{
	(void)state;
	refused_for_lack(true);
	refused_for_lack(false);
}

int main(void)
{
	unsigned long before = pool_read("nr_hugepages");
	/* The pool is one for all that run here. */
	int lock = open("/tmp/ferry-hugepages.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0666), failed;

	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_of_huge_pages_travels),
		cmocka_unit_test(test_memory_of_huge_pages_travels_in_a_file),
		cmocka_unit_test(test_changes_between_rounds_arrive_with_each_tracker),
		cmocka_unit_test(test_pages_of_1_gib_travel),
		cmocka_unit_test(test_destination_without_huge_pages_says_so_in_precopy),
	};

	if (lock >= 0)
		flock(lock, LOCK_EX);
	before = pool_read("nr_hugepages");
	if (!pool_has(NEEDED)) {
		pool_set(before);
		puts("1..0 # SKIP this kernel gives no huge pages (vm.nr_hugepages)");
		return 0;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	pool_set(before);
	return failed;
}
