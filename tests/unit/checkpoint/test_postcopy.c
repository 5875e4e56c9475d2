/* SPDX-License-Identifier: Apache-2.0 */
/* Post-copy: a program runs on before its memory has come, and never sees anything else. */
#include <errno.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "tests/unit/checkpoint/harness.h"

#define MIB  (1ul << 20)
#define SIZE (32 * MIB)
#define STEP 0x9e3779b97f4a7c15ull

static uint64_t *map(size_t n, int flags)
{
	return mmap(NULL, n, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
}

/* Each word tells where it lies. */
static void fill(uint64_t *p, size_t n, uint64_t salt)
{
	for (size_t i = 0; i < n / 8; i++)
		p[i] = salt + i * STEP;
}

static bool holds(const uint64_t *p, size_t n, uint64_t salt)
{
	for (size_t i = 0; i < n / 8; i++)
		if (p[i] != salt + i * STEP)
			return false;
	return true;
}

/* A migration up to a program that runs without its memory. */
static int begin(struct trial *t)
{
	json_t *arm = json_object();
	int r;

	if (!t->engine_b)
		trial_connect(t);
	r = t->no_precopy ? 0 : trial_precopy(t);
	if (r == 0)
		r = trial_step(t, true, "freeze", NULL, NULL);
	json_object_set_new(arm, "socket", json_sprintf("%s/socket-b", t->dir));
	json_object_set_new(arm, "note", json_sprintf("%s/note", t->dir));
	if (r == 0)
		r = trial_step(t, true, "dump",
			       json_pack("{s:b,s:b,s:o}", "verify", !t->no_verify, "postcopy", 1,
					 "socket", json_sprintf("%s/socket-a", t->dir)),
			       &t->dumped);
	if (r == 0)
		r = trial_step(t, false, "wait_restored", NULL, &t->restored);
	if (r == 0)
		r = trial_step(t, false, "arm", json_incref(arm), NULL);
	if (r == 0 && t->arg)
		kill(t->engine_a, SIGSTOP);
	if (r == 0)
		r = trial_step(t, false, "run", NULL, NULL);
	json_decref(arm);
	t->migrated = r == 0;
	return r;
}

static json_int_t figure(json_t *j, const char *name)
{
	return json_integer_value(json_object_get(j, name));
}

/* Waits for all of the memory, then for the program's end; its exit status. */
static int end(struct trial *t, json_t **source, json_t **dest)
{
	int r = trial_step(t, true, "wait_memory", NULL, source);

	if (r == 0)
		r = trial_step(t, false, "wait_memory", NULL, dest);
	if (r == 0)
		r = trial_step(t, true, "kill", NULL, NULL);
	return r ? r : trial_finish(t);
}

static bool has_done(struct trial *t)
{
	return trial_told(t, "done");
}

static bool has_changed(struct trial *t)
{
	return trial_told(t, "changed");
}

/* Start, run without memory, tell it to go on, all comes, it ends well. */
static void run(struct trial *t, bool faults)
{
	json_t *source = NULL, *dest = NULL;
	int r, status = -1;

	trial_start(t);
	r = begin(t);
	if (r == 0) {
		trial_touch(t, "go");
		status = end(t, &source, &dest);
	}
	trial_clean(t);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
	assert_true(figure(source, "pages") > 0);
	if (faults) {
		assert_true(figure(source, "faults") > 0);
		assert_true(figure(source, "median_ns") > 0);
		assert_true(figure(source, "max_ns") >= figure(source, "median_ns"));
	}
	assert_int_equal(figure(source, "faults"), figure(dest, "faults"));
	json_decref(source);
	json_decref(dest);
}

/* The program changes its memory after the pre-copy, and the source's engine stands still. */
static int begin_changed(struct trial *t)
{
	int r;

	trial_start(t);
	trial_connect(t);
	r = trial_precopy(t);
	t->no_precopy = true;
	t->arg = t;
	trial_touch(t, "change");
	trial_sleep_until(has_changed, t);
	return r ? r : begin(t);
}

/*
 * The same, but the program changes its memory after the pre-copy (it waits for "change",
 * says "changed"), and the source's engine stands still until the program has done what it
 * can do without that memory (it says "done"), or hangs on a page of it.
 */
static void run_against_nothing(struct trial *t)
{
	json_t *source = NULL, *dest = NULL;
	int r, status = -1;

	r = begin_changed(t);
	if (r == 0) {
		trial_touch(t, "go");
		for (int i = 0; i < 500 && !has_done(t); i++)
			usleep(2000);
		kill(t->engine_a, SIGCONT);
		status = end(t, &source, &dest);
	}
	trial_clean(t);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
	assert_true(figure(source, "pages") > 0);
	json_decref(source);
	json_decref(dest);
}

/* Says that the memory is changed, and waits until it runs without it. */
static void changed(struct trial *t)
{
	trial_touch(t, "changed");
	trial_await(t);
}

static void wait_change(struct trial *t)
{
	trial_ready(t);
	while (!trial_told(t, "change"))
		usleep(2000);
}

/* --- private memory ----------------------------------------------------------------------- */
static int private(struct trial *t)
{
	uint64_t *p = map(SIZE, MAP_PRIVATE), *sparse = map(SIZE, MAP_PRIVATE);

	fill(p, SIZE, 1);
	for (size_t i = 0; i < SIZE / 8; i += 4 * 512)
		sparse[i] = i;
	trial_ready(t);
	trial_await(t);
	/* Backwards, against the order in which it is sent. */
	for (size_t i = SIZE / MIB; i-- > 0;)
		if (!holds(p + i * MIB / 8, MIB, 1 + i * MIB / 8 * STEP))
			return 1;
	for (size_t i = 0; i < SIZE / 8; i++)
		if (sparse[i] != (i % (4 * 512) ? 0 : i))
			return 2;
	return 0;
}

/* What a program does to memory that has not come. */
static int giving_up(struct trial *t)
{
	uint64_t *keep = map(4 * MIB, MAP_PRIVATE), *gone = map(4 * MIB, MAP_PRIVATE);
	uint64_t *drop = map(4 * MIB, MAP_PRIVATE), *move = map(4 * MIB, MAP_PRIVATE), *to;
	uint64_t *over = map(4 * MIB, MAP_PRIVATE), *none = map(MIB, MAP_PRIVATE), *fresh;

	wait_change(t);
	fill(keep, 4 * MIB, 1);
	fill(gone, 4 * MIB, 2);
	fill(drop, 4 * MIB, 3);
	fill(move, 4 * MIB, 4);
	fill(over, 4 * MIB, 5);
	fill(none, MIB, 6);
	changed(t);
	madvise(drop, 2 * MIB, MADV_DONTNEED);
	munmap(gone + MIB / 8, 2 * MIB);
	/* A part of it elsewhere, longer, in place of another area. */
	to = mremap(move + MIB / 8, 2 * MIB, 3 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED,
		    over + MIB / 8);
	mprotect(keep + MIB / 8, MIB, PROT_READ);
	fresh = mmap(none, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		     0);
	trial_touch(t, "done");
	if (to != over + MIB / 8 || fresh != none)
		return 1;
	for (size_t i = 0; i < MIB / 8; i++)
		if (fresh[i])
			return 2;
	for (size_t i = 0; i < 2 * MIB / 8; i++)
		if (drop[i])
			return 3;
	if (!holds(drop + 2 * MIB / 8, 2 * MIB, 3 + 2 * MIB / 8 * STEP))
		return 4;
	if (!holds(to, 2 * MIB, 4 + MIB / 8 * STEP))
		return 5;
	for (size_t i = 2 * MIB / 8; i < 3 * MIB / 8; i++)
		if (to[i])
			return 6;
	if (!holds(over, MIB, 5) || !holds(move, MIB, 4) ||
	    !holds(move + 3 * MIB / 8, MIB, 4 + 3 * MIB / 8 * STEP))
		return 7;
	if (!holds(gone, MIB, 2) || !holds(gone + 3 * MIB / 8, MIB, 2 + 3 * MIB / 8 * STEP))
		return 8;
	return holds(keep, 4 * MIB, 1) ? 0 : 9;
}

static void test_unmapped_dropped_and_moved_memory_is_what_the_program_made_it(void **state)
{
	struct trial t = { .program = giving_up };

	(void)state;
	run_against_nothing(&t);
}

/* Children, and their children, of a process whose memory has not come. */
static int forking(struct trial *t)
{
	uint64_t *p = map(8 * MIB, MAP_PRIVATE);
	pid_t kids[4];
	int status, bad = 0;

	wait_change(t);
	fill(p, 8 * MIB, 7);
	changed(t);
	for (int i = 0; i < 4; i++) {
		kids[i] = fork();
		if (kids[i])
			continue;
		/* Its own copy: what it writes is nobody else's. */
		p[(size_t)i * 512] = 1000 + (uint64_t)i;
		if (fork() == 0)
			_exit(p[(size_t)i * 512] == 1000 + (uint64_t)i &&
					      holds(p + 4 * MIB / 8, 4 * MIB,
						    7 + 4 * MIB / 8 * STEP)
				      ? 0
				      : 1);
		if (wait(&status) < 0 || status)
			_exit(2);
		munmap(p + MIB / 8, MIB);
		_exit(holds(p + 2 * MIB / 8, 6 * MIB, 7 + 2 * MIB / 8 * STEP) &&
				      p[(size_t)i * 512 + 1] == 7 + ((size_t)i * 512 + 1) * STEP
			      ? 0
			      : 3);
	}
	trial_touch(t, "done");
	for (int i = 0; i < 4; i++)
		bad |= kids[i] < 0 || waitpid(kids[i], &status, 0) < 0 || status;
	return !bad && holds(p, 8 * MIB, 7) ? 0 : 1;
}

static void test_forked_children_have_the_memory_too(void **state)
{
	struct trial t = { .program = forking };

	(void)state;
	run_against_nothing(&t);
}

#define THREADS 16
static uint64_t *shared_by_threads;

static void *touch_all(void *arg)
{
	size_t n = SIZE / 4096, i = (size_t)(uintptr_t)arg * n / THREADS, bad = 0;

	for (size_t k = 0; k < n; k++, i = (i + 1) % n)
		bad += shared_by_threads[i * 512] != 9 + i * 512 * STEP;
	return (void *)bad;
}

/* All at once, each from a place of its own; then all end, joined by way of their tids. */
static int threads(struct trial *t)
{
	pthread_t th[THREADS];
	size_t bad = 0;
	void *one;

	shared_by_threads = map(SIZE, MAP_PRIVATE);
	wait_change(t);
	fill(shared_by_threads, SIZE, 9);
	changed(t);
	for (size_t i = 0; i < THREADS; i++)
		if (pthread_create(&th[i], NULL, touch_all, (void *)i))
			return 2;
	trial_touch(t, "done");
	for (size_t i = 0; i < THREADS; i++) {
		pthread_join(th[i], &one);
		bad += (size_t)one;
	}
	return bad ? 1 : 0;
}

static void test_many_threads_touch_everything_at_once(void **state)
{
	struct trial t = { .program = threads };

	(void)state;
	run_against_nothing(&t);
}

/* The kernel reads from pages that have not come, and writes to them. */
static int kernel(struct trial *t)
{
	uint64_t *p = map(8 * MIB, MAP_PRIVATE), *q = map(8 * MIB, MAP_PRIVATE);
	struct iovec iov[2];
	char path[128];
	int fd, pair[2];

	snprintf(path, sizeof(path), "%s/file", t->dir);
	fd = open(path, O_CREAT | O_RDWR, 0600);
	if (fd < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return 1;
	wait_change(t);
	fill(p, 8 * MIB, 11);
	fill(q, 8 * MIB, 12);
	changed(t);
	iov[0] = (struct iovec){ p, 2 * MIB };
	iov[1] = (struct iovec){ p + 4 * MIB / 8, 2 * MIB };
	if (writev(fd, iov, 2) != 4 * MIB)
		return 2;
	/* Half a page: the other half must be the source's. */
	if (pread(fd, q + 256, 4 * MIB, 0) != 4 * MIB)
		return 3;
	if (!holds(q, 2048, 12) || !holds(q + 256, 2 * MIB, 11) ||
	    !holds(q + 256 + 2 * MIB / 8, 2 * MIB, 11 + 4 * MIB / 8 * STEP) ||
	    !holds(q + 256 + 4 * MIB / 8, 4 * MIB - 2048, 12 + (256 + 4 * MIB / 8) * STEP))
		return 4;
	if (write(pair[0], p + 6 * MIB / 8, 4096) != 4096 ||
	    read(pair[1], p + 7 * MIB / 8, 4096) != 4096)
		return 5;
	return holds(p + 7 * MIB / 8, 4096, 11 + 6 * MIB / 8 * STEP) && unlink(path) == 0 ? 0 : 6;
}

static void test_system_calls_on_missing_pages_wait_for_them(void **state)
{
	struct trial t = { .program = kernel };

	(void)state;
	run_against_nothing(&t);
}

static void *hold_and_end(void *arg)
{
	pthread_mutex_t *m = arg;

	pthread_mutex_lock(&m[0]);
	pthread_mutex_lock(&m[100]);
	while (!shared_by_threads[0])
		usleep(1000);
	return NULL; /* without unlocking */
}

/* A thread ends with robust mutexes held that the kernel must find in missing pages. */
static int robust(struct trial *t)
{
	pthread_mutex_t *m = (void *)map(MIB, MAP_PRIVATE);
	uint64_t *p = map(4 * MIB, MAP_PRIVATE);
	pthread_mutexattr_t a;
	pthread_t th;

	shared_by_threads = map(4096, MAP_SHARED);
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	for (int i = 0; i <= 200; i++)
		pthread_mutex_init(&m[i], &a);
	pthread_create(&th, NULL, hold_and_end, m);
	wait_change(t);
	fill(p, 4 * MIB, 1);
	for (int i = 150; i <= 200; i++)
		pthread_mutex_lock(&m[i]);
	changed(t);
	shared_by_threads[0] = 1;
	pthread_join(th, NULL);
	trial_touch(t, "done");
	if (pthread_mutex_lock(&m[0]) != EOWNERDEAD || pthread_mutex_lock(&m[100]) != EOWNERDEAD)
		return 1;
	return holds(p, 4 * MIB, 1) ? 0 : 2;
}

static void test_robust_mutexes_of_a_thread_that_ends_are_released(void **state)
{
	struct trial t = { .program = robust };

	(void)state;
	run_against_nothing(&t);
}

static void test_memory_comes_when_it_is_touched(void **state)
{
	struct trial t = { .program = private, .no_precopy = true };

	(void)state;
	run(&t, true);
}

/* --- shared memory ------------------------------------------------------------------------ */
/* Processes that share memory, one of them a mutex in it, all without it at first. */
static int sharing(struct trial *t)
{
	uint64_t *p = map(8 * MIB, MAP_SHARED), *own = map(MIB, MAP_PRIVATE), *m, *twice;
	volatile uint64_t *flags = (void *)map(4096, MAP_SHARED);
	pthread_mutex_t *mutex = (void *)(p + 6 * MIB / 8);
	int fd = memfd_create("fast", 0), status, bad = 0;
	pthread_mutexattr_t a;
	pid_t kids[4];

	if (fd < 0 || ftruncate(fd, 4 * MIB) < 0)
		return 1;
	/* Nothing but mappings is left of it; it lies in two places. */
	m = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	twice = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 2 * MIB);
	close(fd);
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	for (size_t i = 0; i < 4; i++) {
		kids[i] = fork();
		if (kids[i])
			continue;
		while (!flags[0])
			usleep(1000);
		if (i == 0)
			pthread_mutex_lock(mutex);
		flags[i + 1] = 1;
		trial_await(t);
		if (i == 0)
			_exit(0); /* with the mutex */
		if (!holds(p + (i % 2 ? 4 * MIB / 8 : 0), MIB,
			   21 + (i % 2 ? 4 * MIB / 8 * STEP : 0)))
			_exit(2);
		if (fork() == 0)
			_exit(holds(p, 6 * MIB, 21) && holds(m, 4 * MIB, 22) ? 0 : 3);
		if (wait(&status) < 0 || status || !holds(twice, 2 * MIB, 22 + 2 * MIB / 8 * STEP))
			_exit(4);
		_exit(holds(p, 6 * MIB, 21) ? 0 : 5);
	}
	wait_change(t);
	fill(p, 6 * MIB, 21);
	fill(m, 4 * MIB, 22);
	fill(own, MIB, 23);
	mprotect(p + 5 * MIB / 8, MIB, PROT_READ);
	pthread_mutex_init(mutex, &a);
	flags[0] = 1;
	for (size_t i = 0; i < 4; i++)
		while (!flags[i + 1])
			usleep(1000);
	changed(t);
	trial_touch(t, "done");
	for (size_t i = 0; i < 4; i++)
		bad |= waitpid(kids[i], &status, 0) != kids[i] || status;
	if (bad || pthread_mutex_lock(mutex) != EOWNERDEAD)
		return 6;
	if (mprotect(p + 5 * MIB / 8, MIB, PROT_READ | PROT_WRITE) < 0)
		return 9;
	for (size_t i = 0; i < MIB / 8; i++)
		if (p[7 * MIB / 8 + i])
			return 7;
	return holds(p, 6 * MIB, 21) && holds(m, 4 * MIB, 22) && holds(own, MIB, 23) ? 0 : 8;
}

static void test_shared_memory_comes_for_all_that_share_it(void **state)
{
	struct trial t = { .program = sharing };

	(void)state;
	run_against_nothing(&t);
}

/* --- what may go wrong -------------------------------------------------------------------- */
static int waiting(struct trial *t)
{
	uint64_t *p = map(4 * MIB, MAP_PRIVATE);

	wait_change(t);
	fill(p, 4 * MIB, 1);
	changed(t);
	trial_touch(t, "done");
	if (!holds(p, 4 * MIB, 1))
		trial_touch(t, "damaged");
	return 0;
}

static int ending(struct trial *t)
{
	uint64_t *p = map(4 * MIB, MAP_PRIVATE);

	wait_change(t);
	fill(p, 4 * MIB, 1);
	changed(t);
	trial_touch(t, "done");
	_exit(0);
}

static void test_program_may_end_before_its_memory_has_come(void **state)
{
	struct trial t = { .program = ending };

	(void)state;
	run_against_nothing(&t);
}

static bool has_ended(struct trial *t)
{
	siginfo_t si = { 0 };

	return waitid(P_PID, (id_t)t->b, &si, WNOHANG | WNOWAIT | WEXITED) == 0 && si.si_pid;
}

/* The program has been killed, has seen no page that was not the source's, and a note says why. */
static void assert_lost(struct trial *t, const char *why)
{
	CLEANUP_FREE char *note = NULL;
	CLEANUP_FREE char *path = str_format("%s/note", t->dir);
	int status = 0, noted;

	trial_sleep_until(has_ended, t);
	assert_int_equal(waitpid(t->b, &status, WNOHANG), t->b);
	t->b = 0;
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	noted = file_read(path, 4096, &note, NULL, NULL);
	assert_false(trial_told(t, "damaged"));
	assert_int_equal(noted, 0);
	assert_non_null(strstr(note, why));
}

static void test_source_that_is_lost_ends_the_program(void **state)
{
	struct trial t = { .program = waiting };
	int r, lost;

	(void)state;
	r = begin_changed(&t);
	trial_touch(&t, "go");
	kill(t.engine_a, SIGKILL);
	lost = r ? 0 : trial_step(&t, false, "wait_memory", NULL, NULL);
	if (r == 0)
		assert_lost(&t, "the source was lost");
	trial_clean(&t);
	assert_int_equal(r, 0);
	assert_int_equal(lost, -ECONNRESET);
}

/* The kernel would give it zeros. */
static void test_engine_that_dies_takes_the_program_along(void **state)
{
	struct trial t = { .program = waiting };
	int r;

	(void)state;
	r = begin_changed(&t);
	trial_touch(&t, "go");
	if (r == 0) {
		trial_sleep_until(has_done, &t);
		kill(t.engine_b, SIGKILL);
		assert_lost(&t, "the checkpoint engine of this host died");
	}
	kill(t.engine_a, SIGCONT);
	trial_clean(&t);
	assert_int_equal(r, 0);
}

/* Neither engine needs whoever controls it; the next one is told how it went. */
static void test_memory_comes_without_a_daemon(void **state)
{
	struct trial t = { .program = waiting };
	json_t *source = NULL, *dest = NULL;
	int r, status = -1;

	(void)state;
	r = begin_changed(&t);
	for (int k = 0; r == 0 && k < 2; k++) {
		CLEANUP_FREE char *path = str_format("%s/socket-%c", t.dir, k ? 'b' : 'a');
		struct control_client *c = k ? &t.cb : &t.ca;

		control_client_close(c);
		c->sock = fd_unix_connect(path, &t.err);
		r = c->sock < 0 ? c->sock : 0;
	}
	if (r == 0) {
		trial_touch(&t, "go");
		kill(t.engine_a, SIGCONT);
		status = end(&t, &source, &dest);
	}
	trial_clean(&t);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
	assert_true(figure(source, "pages") > 0);
	json_decref(source);
	json_decref(dest);
}

/* Before the commit everything is undone as ever. */
static void test_program_goes_on_at_the_source_if_it_is_undone(void **state)
{
	struct trial t = { .program = private, .no_precopy = true };
	int r, status = -1;

	(void)state;
	trial_start(&t);
	trial_connect(&t);
	r = trial_step(&t, true, "freeze", NULL, NULL);
	if (r == 0)
		r = trial_step(&t, true, "dump", json_pack("{s:b,s:b}", "verify", 1, "postcopy", 1),
			       &t.dumped);
	if (r == 0)
		r = trial_step(&t, false, "wait_restored", NULL, NULL);
	if (r == 0)
		r = trial_step(&t, false, "abort", NULL, NULL);
	if (r == 0)
		r = trial_step(&t, true, "resume", NULL, NULL);
	if (r == 0)
		status = trial_finish(&t);
	trial_clean(&t);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
}

int main(void)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_comes_when_it_is_touched),
		cmocka_unit_test(
			test_unmapped_dropped_and_moved_memory_is_what_the_program_made_it),
		cmocka_unit_test(test_forked_children_have_the_memory_too),
		cmocka_unit_test(test_many_threads_touch_everything_at_once),
		cmocka_unit_test(test_system_calls_on_missing_pages_wait_for_them),
		cmocka_unit_test(test_robust_mutexes_of_a_thread_that_ends_are_released),
		cmocka_unit_test(test_shared_memory_comes_for_all_that_share_it),
		cmocka_unit_test(test_program_may_end_before_its_memory_has_come),
		cmocka_unit_test(test_source_that_is_lost_ends_the_program),
		cmocka_unit_test(test_engine_that_dies_takes_the_program_along),
		cmocka_unit_test(test_memory_comes_without_a_daemon),
		cmocka_unit_test(test_program_goes_on_at_the_source_if_it_is_undone),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
