/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls with a relative timeout go on where they were: none ends early or with EINTR, and none
 * begins anew, also where the process was interrupted before (SIGSTOP, a look of ferry's) and
 * its kernel is in restart_syscall(2). When they will end is read from the kernel on either
 * side (peek.h), so that no test waits for it.
 */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <time.h>

#include "runtime/checkpoint/peek.h"
#include "tests/unit/checkpoint/harness.h"

#define LONG_S	 1000
#define BEFORE_S 3 /* so long they have waited when they are moved; less is tolerated */
#define SECOND	 1000000000ll

enum { POLL, POLL_NONE, FUTEX, SLEEP, SLEEP_REST, CLOCK_SLEEP, CLOCK_SLEEP_REST, BOOT, KINDS };

static long call(int kind, int s)
{
	struct timespec ts = { s, 0 }, rest;
	struct pollfd p[3] = { { .fd = 0 }, { .fd = -1 }, { .fd = 1 } };
	uint32_t word = 7;
	long r = 0;

	switch (kind) {
	case POLL:
		r = poll(p, 3, s * 1000);
		/* Looked at with -1 in all of them meanwhile. */
		return p[0].fd == 0 && p[1].fd == -1 && p[2].fd == 1 ? r : -100;
	case POLL_NONE:
		return poll(NULL, 0, s * 1000);
	case FUTEX:
		r = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 7, &ts, NULL, 0);
		return r == -1 && errno == ETIMEDOUT ? 0 : -1;
	case SLEEP:
		return nanosleep(&ts, NULL);
	case SLEEP_REST:
		return nanosleep(&ts, &rest) || ts.tv_sec != s;
	case CLOCK_SLEEP:
		return clock_nanosleep(CLOCK_REALTIME, 0, &ts, NULL);
	case CLOCK_SLEEP_REST:
		return clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &rest);
	case BOOT:
		return clock_nanosleep(CLOCK_BOOTTIME, 0, &ts, NULL);
	}
	return -1;
}

/* --- none ends with EINTR ------------------------------------------------------------------- */
/* Each in a process of its own, whose main thread is stopped in pre-copy too. */
static void children(int s)
{
	for (int i = 0; i < KINDS; i++)
		if (fork() == 0) {
			char name[16];

			snprintf(name, sizeof(name), "wait%d", i);
			prctl(PR_SET_NAME, name);
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(call(i, s) == 0 ? 0 : 1 + i);
		}
	/* Until they wait. */
	usleep(300000);
}

static int all_end(struct trial *t)
{
	int status, bad = 0;

	children(4);
	trial_ready(t);
	trial_await(t);
	for (int i = 0; i < KINDS; i++)
		if (wait(&status) > 0 && status) {
			fprintf(stderr, "# kind %d failed\n", WEXITSTATUS(status) - 1);
			bad++;
		}
	return bad;
}

static void test_calls_that_were_interrupted_before_end_with_their_timeout(void **state)
{
	struct trial t = { .program = all_end };

	(void)state;
	trial_run(&t, 0);
}

/* --- when they end -----------------------------------------------------------------------------
 */
static int all_wait(struct trial *t)
{
	children(LONG_S);
	trial_ready(t);
	trial_await(t);
	return 0;
}

/* The child of `init` that waits so; 0: there is none. */
static pid_t child_of(pid_t init, int kind)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/task/%d/children", init, init);
	CLEANUP_FREE char *text = NULL, *wanted = str_format("wait%d\n", kind);
	char *end;

	if (file_read(path, 65536, &text, NULL, NULL) < 0)
		return 0;
	for (char *p = text;; p = end) {
		long pid = strtol(p, &end, 10);
		CLEANUP_FREE char *name_path = str_format("/proc/%ld/comm", pid);
		CLEANUP_FREE char *name = NULL;

		if (end == p)
			return 0;
		if (file_read(name_path, 64, &name, NULL, NULL) == 0 && strcmp(name, wanted) == 0)
			return (pid_t)pid;
	}
}

struct look {
	pid_t pid;
	int kind;
	int64_t end_ns;
};

static int note(void *ctx, const struct peek_record *r, const void *data)
{
	struct look *l = ctx;
	const struct peek_restart *p = data;

	if (r->tid != l->pid)
		return 0;
	if (strcmp(p->fn, "do_restart_poll") == 0 && l->kind <= POLL_NONE)
		l->end_ns = (int64_t)(p->poll_s * SECOND + p->poll_ns);
	/* While it waits on, the name is taken away. */
	if (l->kind == FUTEX && (strcmp(p->fn, "futex_wait_restart") == 0 ||
				 strcmp(p->fn, "do_no_restart_syscall") == 0))
		l->end_ns = (int64_t)p->futex_ns;
	if (strcmp(p->fn, "hrtimer_nanosleep_restart") == 0 && l->kind >= SLEEP)
		l->end_ns = (int64_t)p->sleep_ns;
	return 0;
}

/* When the call of each kind ends, by this host's clock; false: the kernel does not tell. */
static bool look_self(pid_t init, int64_t end_ns[KINDS])
{
	if (peek_load(PEEK_RESTART, NULL) < 0)
		return false;
	for (int i = 0; i < KINDS; i++) {
		struct look l = { child_of(init, i), i, 0 };

		for (int k = 0; k < 5000 && !l.end_ns && l.pid; k++) {
			if (k)
				usleep(2000);
			if (peek_process(PEEK_RESTART, l.pid, note, &l, NULL) < 0)
				return false;
		}
		end_ns[i] = l.end_ns;
	}
	return true;
}

/* By a child: the test programs are made from this process, and must not inherit BPF. */
static bool look(pid_t init, int64_t end_ns[KINDS])
{
	size_t len = KINDS * sizeof(*end_ns);
	int p[2], status = -1;
	bool read_all;
	pid_t pid;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0)
		_exit(!look_self(init, end_ns) || write(p[1], end_ns, len) != (ssize_t)len);
	close(p[1]);
	read_all = fd_read_all(p[0], end_ns, len) == 0;
	close(p[0]);
	return process_wait(pid, &status) == 0 && status == 0 && read_all;
}

/* So that the kernel notes when they end. */
static void interrupt_all(pid_t init)
{
	for (int i = 0; i < KINDS; i++) {
		pid_t pid = child_of(init, i);

		assert_true(pid > 0);
		kill(pid, SIGSTOP);
		kill(pid, SIGCONT);
	}
}

static void keep_their_ends(bool precopy)
{
	struct trial t = { .program = all_wait, .no_precopy = !precopy };
	int64_t before[KINDS], after[KINDS] = { 0 };
	int r = 0;
	bool told;

	trial_start(&t);
	interrupt_all(t.a);
	told = look(t.a, before);
	if (told) {
		sleep(BEFORE_S);
		r = trial_migrate(&t);
		told = r == 0 && look(t.b, after);
	}
	trial_clean(&t);
	assert_int_equal(r, 0);
	if (!told) {
		print_message("# this kernel's state cannot be read with BPF\n");
		return;
	}
	for (int i = 0; i < KINDS; i++) {
		if (!before[i] || after[i] < before[i] || after[i] >= before[i] + BEFORE_S * SECOND)
			print_message("# kind %d ended at %lld, and does at %lld\n", i,
				      (long long)before[i], (long long)after[i]);
		assert_true(before[i] > 0);
		/* Never early, and not anew: that would be later by what had passed. */
		assert_true(after[i] >= before[i]);
		assert_true(after[i] < before[i] + BEFORE_S * SECOND);
	}
}

static void test_a_timeout_ends_when_it_would_have(void **state)
{
	(void)state;
	keep_their_ends(true);
	keep_their_ends(false);
}

int main(void)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls_that_were_interrupted_before_end_with_their_timeout),
		cmocka_unit_test(test_a_timeout_ends_when_it_would_have),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
