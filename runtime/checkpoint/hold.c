/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Source: stopping threads by ptrace, for an instant (to put in a tracker, to look for
 * changed pages) or for good (the freeze), and letting them go as they were.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/mem_aio.h"
#include "runtime/checkpoint/remote_guard.h"
#include "runtime/checkpoint/track.h"
#include "runtime/checkpoint/yield.h"

/* How long asynchronous requests are waited for while tasks stand still: at a look during
 * pre-copy, and at the freeze. */
#define AIO_PATIENCE_NS 50000000
#define AIO_FREEZE_NS	1000000000

/* New tasks are stopped until there are none; somebody who makes them without end is told. */
#define STOP_PATIENCE_NS 20000000000

#define SOURCE_OPTIONS PTRACE_O_SUSPEND_SECCOMP

/* Stops one process's leader for an instant and gives it a tracker. */
void dump_give_tracker(struct dump *d, struct task *t)
{
	struct thread *th = &t->threads[0];

	if (!tracker_chosen() || t->tracker || t->zombie || !t->nthreads || !t->syscall_ip)
		return;
	if (thread_seize(th, SOURCE_OPTIONS, NULL) < 0)
		return;
	t->outlives = true;
	if (thread_interrupt(th) == 0 && thread_wait_stop(th, NULL) == 0) {
		tracker_attach(t);
		if (t->vpid == 1 && !d->filters_known)
			d->filters_known = filters_read(th, &d->filters, NULL) == 0;
		guard_end_task(t);
		thread_detach(th);
	} else if (th->traced) {
		ptrace(PTRACE_DETACH, th->tid, NULL, NULL);
		th->traced = false;
	}
}

/* --- vfork ------------------------------------------------------------------------------- */
/* A parent waits in vfork() where no stop reaches it, until the child has left its memory. */
#define VFORK_PATIENCE_NS 5000000000

bool task_borrows_memory(const struct tasks *l, const struct task *t)
{
	const struct task *parent = tasks_by_vpid(l, t->vppid);

	return parent && parent != t && !t->zombie && !parent->zombie &&
	       syscall(SYS_kcmp, t->pid, parent->pid, KCMP_VM, 0, 0) == 0;
}

static bool has_stopped(const struct thread *th)
{
	siginfo_t si = { 0 };

	return waitid(P_PID, (id_t)th->tid, &si, WSTOPPED | WEXITED | WNOHANG | WNOWAIT | __WALL) <
		       0 ||
	       si.si_pid;
}

/* Children that have t's memory run on until t has stopped; then they are stopped again. */
static int wait_out_vfork(struct dump *d, struct thread *th, struct error *err)
{
	int64_t begin = clock_mono_ns(), now;
	bool released = false;
	int r = 0;

	while (!has_stopped(th)) {
		clock_sleep_ns(released ? 200000 : 20000);
		now = clock_mono_ns();
		if (now - begin > VFORK_PATIENCE_NS)
			return error_set(
				err, EBUSY,
				"process %d waits in the kernel and cannot be stopped (for "
				"a child made by vfork(), or for a disk): try again",
				th->task->vpid);
		for (size_t i = 0; i < d->tasks.n && !released && now - begin > 2000000; i++) {
			struct task *o = d->tasks.t[i];
			struct thread *c = &o->threads[0];

			if (o->vppid != th->task->vpid || !o->nthreads || !c->traced ||
			    !task_borrows_memory(&d->tasks, o))
				continue;
			released = true;
			if (c->stopped || thread_wait_stop(c, NULL) == 0)
				ptrace(PTRACE_CONT, c->tid, NULL, NULL);
			c->stopped = false;
		}
	}
	for (size_t i = 0; i < d->tasks.n && released && r == 0; i++) {
		struct task *o = d->tasks.t[i];
		struct error one = { 0 };

		if (o->vppid != th->task->vpid || !o->nthreads || !o->threads[0].traced ||
		    o->threads[0].stopped)
			continue;
		if (thread_interrupt(&o->threads[0]) == 0 &&
		    thread_wait_stop(&o->threads[0], &one) < 0 && one.code != ESRCH) {
			*err = one;
			r = -one.code;
		}
	}
	return r;
}

/* gone: how many ended before they could be stopped; the list is not true any more. */
static int stop_new(struct dump *d, size_t *stopped, size_t *gone, struct error *err)
{
	*stopped = *gone = 0;
	/* All are told first, so that they stop while we wait for the first. */
	for (size_t i = 0; i < d->tasks.n; i++)
		for (size_t k = 0; k < d->tasks.t[i]->nthreads; k++) {
			struct thread *th = &d->tasks.t[i]->threads[k];
			struct error one = { 0 };

			if (th->traced)
				continue;
			d->tasks.t[i]->outlives = true;
			if (thread_seize(th, SOURCE_OPTIONS, &one) < 0) {
				if (one.code == ESRCH) {
					(*gone)++;
					continue;
				}
				*err = one;
				return -one.code;
			}
			if (thread_interrupt(th) < 0)
				th->traced = false;
		}
	for (size_t i = 0; i < d->tasks.n; i++)
		for (size_t k = 0; k < d->tasks.t[i]->nthreads; k++) {
			struct thread *th = &d->tasks.t[i]->threads[k];
			struct error one = { 0 };

			if (!th->traced || th->stopped)
				continue;
			if (wait_out_vfork(d, th, &one) < 0 ||
			    (thread_wait_stop(th, &one) < 0 && one.code != ESRCH)) {
				*err = one;
				return -one.code;
			}
			(*stopped)++;
		}
	return 0;
}

int dump_freeze(struct dump *d, json_t **answer, struct error *err)
{
	int64_t t0 = clock_mono_ns();
	size_t stopped, gone;
	int r;

	d->seized = true;
	/* Every client waits for us from now on. */
	yield_set(&d->yield, YIELD_FIRST);
	do {
		r = tasks_scan_running(&d->tasks, &d->cg, d->init_pid, err);
		if (r == 0)
			r = stop_new(d, &stopped, &gone, err);
		if (r == 0)
			r = tasks_scan(&d->tasks, &d->cg, d->init_pid, err);
		if (r == 0 && clock_mono_ns() - t0 > STOP_PATIENCE_NS)
			r = error_set(err, EBUSY,
				      "processes of the container come and go faster than they can "
				      "be stopped: try again");
	} while (r == 0 && !tasks_all_still(&d->tasks));
	if (r == 0)
		r = dump_aio_idle(d, AIO_FREEZE_NS, err);
	if (r < 0)
		return r;
	d->aio = r > 0;
	for (size_t i = 0; i < d->tasks.n; i++)
		d->tasks.t[i]->scratch = d->tasks.t[i]->code_for = 0;
	tasks_find_shares(&d->tasks);
	if (answer)
		*answer = json_pack("{s:I}", "freeze_ns", (json_int_t)(clock_mono_ns() - t0));
	return 0;
}

/* Registers put back, ptrace undone. */
void dump_let_go(struct dump *d)
{
	tasks_run_again(&d->tasks);
	/* All at once, then each is waited for. */
	for (size_t i = 0; i < d->tasks.n; i++)
		task_drop_scratch(d->tasks.t[i]);
	for (size_t i = 0; i < d->tasks.n; i++) {
		guard_end_task(d->tasks.t[i]);
		for (size_t k = 0; k < d->tasks.t[i]->nthreads; k++)
			thread_detach(&d->tasks.t[i]->threads[k]);
	}
	d->seized = false;
}

/* Stops the tasks of this round's list; those that are new are the next round's. */
static int stop_known(struct dump *d, struct error *err)
{
	size_t stopped = 1, gone;
	int r = 0;

	while (stopped && r == 0) {
		for (size_t i = 0; i < d->tasks.n; i++)
			task_scan_threads(d->tasks.t[i]);
		r = stop_new(d, &stopped, &gone, err);
	}
	return r;
}

/*
 * A direct-I/O read in flight over a scan lands in a pinned page after it was protected
 * again, past the page table: no tracker sees it. A container that has any descriptor
 * open with O_DIRECT is therefore stopped for the scan: a stopped thread has no such
 * call in flight, asynchronous ones (io_setup) are waited for, io_uring is refused.
 */
static bool has_direct_io(struct dump *d)
{
	for (size_t i = 0; i < d->tasks.n; i++) {
		CLEANUP_FREE char *path = str_format("/proc/%d/fdinfo", d->tasks.t[i]->pid);
		CLEANUP_CLOSEDIR DIR *dir = opendir(path);
		struct dirent *e;

		while (dir && (e = readdir(dir))) {
			CLEANUP_FREE char *info = str_format("%s/%s", path, e->d_name);
			CLEANUP_FREE char *text = NULL;
			char *flags;

			if (e->d_name[0] == '.' || file_read(info, 1 << 20, &text, NULL, NULL) < 0)
				continue;
			flags = strstr(text, "flags:");
			if (flags && (strtoul(flags + 6, NULL, 8) & O_DIRECT))
				return true;
		}
	}
	return false;
}

static bool has_aio(struct dump *d)
{
	for (size_t i = 0; i < d->tasks.n; i++)
		for (size_t k = 0; k < d->tasks.t[i]->vmas.n; k++)
			if (d->tasks.t[i]->vmas.v[k].kind == VMA_AIO)
				return true;
	return false;
}

/* Looks which pages to send; sending comes later, when the tasks run again. */
int dump_scan_all(struct dump *d, struct error *err)
{
	bool aio = !d->final && has_aio(d), busy = false;
	bool stop = aio || (!d->final && has_direct_io(d));
	const struct tracker_ops *tracker = tracker_chosen();
	int r = 0;

	stop |= !d->final && tracker && tracker->stops;
	if (stop)
		r = stop_known(d, err);
	if (aio && r == 0)
		busy = dump_aio_idle(d, AIO_PATIENCE_NS, NULL) < 0;
	for (size_t i = 0; i < d->tasks.n && r == 0; i++)
		r = dump_task_scan(d, d->tasks.t[i], err);
	if (stop)
		dump_let_go(d);
	/* Opened meanwhile: who knows what was in flight. Next time all of it counts. */
	if (busy)
		for (size_t i = 0; i < d->tasks.n; i++)
			tracker_detach(d->tasks.t[i]);
	if (!stop && !d->final && r == 0 && has_direct_io(d))
		for (size_t i = 0; i < d->tasks.n; i++)
			tracker_detach(d->tasks.t[i]);
	return r;
}
