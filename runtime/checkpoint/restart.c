/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls with a relative timeout, interrupted: poll, futex, nanosleep, clock_nanosleep. The
 * kernel notes where they end in the thread's restart block (include/linux/restart_block.h),
 * which no file shows and no call sets; registers hold the whole timeout. BPF reads it.
 *
 *   source       ERESTART_RESTARTBLOCK in rax ──► end, by the container's clock
 *   destination  thread enters the call, with end − now, a signal pending
 *                kernel: nothing yet, interrupted ──► a restart block of its own
 *                registers as they were, ERESTART_RESTARTBLOCK in rax
 *
 * When the thread runs, its kernel goes on by restart_syscall(2) as the source's would have:
 * the arguments in registers are the program's own. Nothing is waited for in the call that is
 * interrupted, and no event of a descriptor can end it: poll looks at descriptors of which
 * all are -1 meanwhile. What it writes is put back.
 *
 * A thread that was interrupted before (SIGSTOP, a look of ferry's) is in restart_syscall(2)
 * already, and its registers no longer tell which call that is: the block does.
 */
#include "runtime/checkpoint/restart.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/checkpoint/peek.h"

#define ERESTARTNOHAND	      514
#define ERESTART_RESTARTBLOCK 516
/* Less than this is rounded up: the call must not end while it is entered. */
#define LEAST_NS   10000000
#define POLLED_MAX 65536

/* --- clocks ----------------------------------------------------------------------------- */
/* What its time namespace adds to the kernel's clock; 0: our own. */
static int64_t offset_ns(pid_t pid, int clock)
{
	CLEANUP_FREE char *path = pid ? str_format("/proc/%d/timens_offsets", pid)
				      : str_dup("/proc/self/timens_offsets");
	CLEANUP_FREE char *text = NULL;
	const char *line;
	long long s, ns;

	if (file_read(path, 4096, &text, NULL, NULL) < 0)
		return 0; /* a kernel without time namespaces */
	line = strstr(text, clock == CLOCK_MONOTONIC ? "monotonic" : "boottime");
	if (!line || sscanf(line, "%*s %lld %lld", &s, &ns) != 2)
		return 0;
	return s * 1000000000 + ns;
}

/* --- source ------------------------------------------------------------------------------- */
void restart_prepare(void)
{
	peek_load(PEEK_RESTART, NULL);
}

static bool is_interrupted(const struct thread *th)
{
	return th->stopped && (long)th->regs.orig_rax >= 0 &&
	       (long)th->regs.rax == -ERESTART_RESTARTBLOCK;
}

static void note(struct thread *th, const struct peek_restart *p)
{
	const struct user_regs_struct *regs = &th->regs;
	struct thread_restart r = { .clock = CLOCK_MONOTONIC };

	if (str_starts(p->fn, "do_restart_poll")) {
		r.nr = SYS_poll;
		r.end_ns = p->poll_timed ? p->poll_s * 1000000000 + p->poll_ns : 0;
	} else if (str_starts(p->fn, "futex_wait_restart")) {
		r.nr = SYS_futex;
		/* FUTEX_WAIT_BITSET has a point in time in its arguments. */
		if ((regs->rsi & FUTEX_CMD_MASK) == FUTEX_WAIT)
			r.end_ns = p->futex_ns;
	} else if (str_starts(p->fn, "hrtimer_nanosleep_restart")) {
		/* The first argument is a structure, or a small number. */
		r.nr = regs->rdi < PAGE ? SYS_clock_nanosleep : SYS_nanosleep;
		r.clock = p->sleep_clock;
		if (r.clock == CLOCK_MONOTONIC || r.clock == CLOCK_BOOTTIME)
			r.end_ns = p->sleep_ns;
	} else if (str_starts(p->fn, "posix_cpu_nsleep_restart") ||
		   str_starts(p->fn, "alarm_timer_nsleep_restart")) {
		r.nr = SYS_clock_nanosleep;
	}
	th->restart = r;
}

static int found(void *ctx, const struct peek_record *rec, const void *data)
{
	struct task *t = ctx;
	struct peek_restart p;

	if (rec->pid != t->pid || rec->len != sizeof(p))
		return 0;
	memcpy(&p, data, sizeof(p));
	p.fn[sizeof(p.fn) - 1] = '\0';
	for (size_t i = 0; i < t->nthreads; i++)
		if (t->threads[i].tid == rec->tid && is_interrupted(&t->threads[i]))
			note(&t->threads[i], &p);
	return 0;
}

/* Without BPF: `mov $nr, %eax; syscall`, as most libraries have it. */
static void guess(struct thread *th)
{
	uint8_t code[7];
	int32_t nr;

	if (th->regs.orig_rax != SYS_restart_syscall || th->restart.nr ||
	    task_mem_read(th->task, th->regs.rip - sizeof(code), code, sizeof(code)) < 0 ||
	    code[0] != 0xb8 || code[5] != 0x0f || code[6] != 0x05)
		return;
	memcpy(&nr, code + 1, sizeof(nr));
	if (nr == SYS_poll || nr == SYS_futex || nr == SYS_nanosleep || nr == SYS_clock_nanosleep)
		th->restart.nr = nr;
}

void restart_look(struct dump *d)
{
	for (size_t i = 0; i < d->tasks.n; i++) {
		struct task *t = d->tasks.t[i];
		bool any = false;

		for (size_t k = 0; k < t->nthreads; k++) {
			t->threads[k].restart = (struct thread_restart){ 0 };
			any |= is_interrupted(&t->threads[k]);
		}
		if (!any)
			continue;
		peek_process(PEEK_RESTART, t->pid, found, t, NULL);
		for (size_t k = 0; k < t->nthreads; k++)
			if (is_interrupted(&t->threads[k]))
				guess(&t->threads[k]);
	}
}

void restart_dump(const struct dump *d, const struct thread *th, struct user_regs_struct *regs,
		  Ck__Thread *m)
{
	const struct thread_restart *r = &th->restart;

	if (!r->nr || !is_interrupted(th))
		return;
	regs->orig_rax = (unsigned long)r->nr;
	if (!r->end_ns)
		return;
	m->has_restart_ns = m->has_restart_clock = 1;
	m->restart_ns = (int64_t)r->end_ns + offset_ns(d->init_pid, r->clock);
	m->restart_clock = (uint32_t)r->clock;
}

/* --- destination ---------------------------------------------------------------------------- */
/* Memory of the task that a call writes to: as it was. */
static void put_back(struct thread *th, uint64_t at, const void *was, size_t len)
{
	if (len)
		remote_write(th->task, at, was, len);
}

static long enter_poll(struct thread *th, int64_t left)
{
	const struct user_regs_struct *g = &th->regs;
	size_t n = g->rsi, len = n * sizeof(struct pollfd);
	CLEANUP_FREE struct pollfd *was = NULL, *none = NULL;
	int64_t ms = (left + 999999) / 1000000;
	long r;

	if (n > POLLED_MAX)
		return -E2BIG;
	was = mem_zalloc(len + 1);
	none = mem_zalloc(len + 1);
	if (n && remote_read(th->task, g->rdi, was, len) < 0)
		return -EFAULT;
	for (size_t i = 0; i < n; i++)
		none[i].fd = -1;
	if (n && remote_write(th->task, g->rdi, none, len) < 0) {
		put_back(th, g->rdi, was, len);
		return -EFAULT;
	}
	r = thread_interrupted_syscall(th, SYS_poll, g->rdi, n,
				       (unsigned long)(ms < INT32_MAX ? ms : INT32_MAX), 0);
	put_back(th, g->rdi, was, len);
	return r;
}

/* What the kernel says is left of a sleep it writes for the program. */
static long enter_sleep(struct thread *th, unsigned long left_at)
{
	const struct user_regs_struct *g = &th->regs;
	bool plain = g->orig_rax == SYS_nanosleep;
	uint64_t rest_at = plain ? g->rsi : g->r10;
	struct timespec rest;
	long r;

	if (rest_at && remote_read(th->task, rest_at, &rest, sizeof(rest)) < 0)
		return -EFAULT;
	r = plain ? thread_interrupted_syscall(th, SYS_nanosleep, left_at, rest_at, 0, 0)
		  : thread_interrupted_syscall(th, SYS_clock_nanosleep, g->rdi, g->rsi, left_at,
					       rest_at);
	put_back(th, rest_at, &rest, rest_at ? sizeof(rest) : 0);
	return r;
}

void restart_enter(struct restore *r, struct thread *th, const Ck__Thread *m)
{
	const struct user_regs_struct *g = &th->regs;
	unsigned long at = remote_scratch(th->task);
	int clock = (int)m->restart_clock;
	struct timespec ts;
	int64_t left;
	long n = -ENOSYS;

	if (!m->has_restart_ns || (long)g->rax != -ERESTARTNOHAND || !at ||
	    (clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME) || clock_gettime(clock, &ts) < 0)
		return;
	left = ts.tv_sec * 1000000000ll + ts.tv_nsec - offset_ns(0, clock) +
	       offset_ns(r->init_pid, clock);
	left = m->restart_ns > left ? m->restart_ns - left : 0;
	left = left > LEAST_NS ? left : LEAST_NS;
	ts = (struct timespec){ left / 1000000000, left % 1000000000 };
	if (remote_write(th->task, at, &ts, sizeof(ts)) < 0)
		return;
	switch (g->orig_rax) {
	case SYS_poll:
		n = enter_poll(th, left);
		break;
	case SYS_futex:
		n = thread_interrupted_syscall(th, SYS_futex, g->rdi, g->rsi, g->rdx, at);
		break;
	case SYS_nanosleep:
	case SYS_clock_nanosleep:
		n = enter_sleep(th, at);
		break;
	}
	if (n == -ERESTART_RESTARTBLOCK)
		th->regs.rax = (unsigned long)-ERESTART_RESTARTBLOCK;
}
