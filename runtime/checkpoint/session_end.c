/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the source engine's course ends: the tasks run on here (resume), or are killed because
 * they run elsewhere; either may be asked of an engine that has just been started. And what
 * object.h gives to those who dump.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "runtime/checkpoint/control.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/lane.h"
#include "runtime/checkpoint/postcopy.h"
#include "runtime/checkpoint/remote_guard.h"
#include "runtime/checkpoint/track.h"
#include "runtime/checkpoint/yield.h"

/* --- back, or over ------------------------------------------------------------------ */
static void parts_undo(struct dump *d)
{
	for (size_t k = 0; k < 2; k++) {
		const struct checkpoint_part *const *p =
			k ? checkpoint_parts_sockets : checkpoint_parts_files;

		for (; *p; p++)
			if ((*p)->dump_undo)
				(*p)->dump_undo(d);
	}
}

/* An engine that comes after one that was killed: the tasks may be frozen, their sockets
 * in repair mode, and nobody knows any more which. */
static void take_over(struct dump *d)
{
	struct error err = { 0 };

	if (tasks_scan(&d->tasks, &d->cg, d->init_pid, &err) < 0 || dump_collect_fds(d, &err) < 0)
		return;
	for (size_t i = 0; i < d->nofds; i++)
		d->ofds[i]->dumped = true;
}

/* The file of `save`: on the disk, or gone. */
static int end_save(struct dump *d, bool discard, json_t **answer, struct error *err)
{
	bool saved = save_sealed(d->save) && !discard;
	int r = saved ? save_publish(d->save, err) : 0;

	if (r == 0 && d->save)
		*answer = json_pack("{s:b,s:I}", "saved", saved, "bytes",
				    (json_int_t)(saved && d->s ? stream_bytes(d->s) : 0));
	return r;
}

int dump_resume(struct dump *d, bool discard, json_t **answer, struct error *err)
{
	bool taken_over = !d->seized && !d->round;
	struct error unsaved = { 0 };
	int r;

	late_stop(d);
	ns_leave();
	if (taken_over)
		take_over(d);
	parts_undo(d);
	dump_undo_objects(d);
	throttle_end(d);
	dump_let_go(d);
	yield_set(&d->yield, YIELD_TO_NONE);
	for (size_t i = 0; i < d->tasks.n; i++)
		tracker_detach(d->tasks.t[i]);
	r = cgroup_freeze(&d->cg, false, err);
	d->frozen = d->final = false;
	dump_drop_fds(d);
	for (size_t i = 0; i < d->tasks.n && taken_over; i++)
		guard_clean(d->tasks.t[i]);
	/* It runs; now there is time for the disk. */
	if (end_save(d, discard, answer, &unsaved) < 0 && r == 0) {
		*err = unsaved;
		r = -unsaved.code;
	}
	lanes_out_free(TAKE_PTR(d->lanes));
	stream_close(d->s);
	d->s = NULL;
	save_free(TAKE_PTR(d->save));
	/* A later try starts from nothing. */
	last_look_end(d);
	tasks_free(&d->tasks);
	shareds_free(&d->shared);
	d->round = 0;
	return r;
}

static int kill_all(struct dump *d, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/cgroup.procs", d->cg.path);
	CLEANUP_FREE char *text = NULL;
	char *p, *end;
	int r = file_read(path, 16 << 20, &text, NULL, err);

	for (p = text; r == 0; p = end) {
		pid_t pid = (pid_t)strtol(p, &end, 10);

		if (end == p)
			break;
		if (pid > 0)
			process_kill(pid, SIGKILL);
	}
	return r;
}

int dump_kill(struct dump *d, json_t **answer, struct error *err)
{
	int64_t end = clock_mono_ns() + 30000000000;
	int r;

	if (d->save && !save_sealed(d->save))
		return error_set(err, EINVAL, "the checkpoint is not complete: dump first");
	r = end_save(d, false, answer, err);
	if (r < 0)
		return r;
	late_stop(d);
	ns_leave();
	/* What leaves repair mode, or writes, must not do so any more: descriptors first. */
	dump_drop_fds(d);
	throttle_end(d);
	r = kill_all(d, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < d->tasks.n; i++)
		for (size_t k = 0; k < d->tasks.t[i]->nthreads; k++) {
			struct thread *th = &d->tasks.t[i]->threads[k];

			if (th->traced)
				ptrace(PTRACE_DETACH, th->tid, NULL, NULL);
			th->traced = th->stopped = false;
		}
	r = cgroup_freeze(&d->cg, false, err);
	if (r < 0)
		return r;
	d->frozen = d->seized = false;
	tasks_free(&d->tasks);
	shareds_free(&d->shared);
	while (!cgroup_is_empty(&d->cg)) {
		kill_all(d, NULL);
		if (clock_mono_ns() > end)
			return error_set(err, ETIMEDOUT, "tasks in %s do not end", d->cg.path);
		clock_sleep_ns(1000000);
	}
	return 0;
}

void dump_free(struct dump *d)
{
	late_stop(d);
	ns_leave();
	last_look_end(d);
	dump_drop_fds(d);
	tasks_free(&d->tasks);
	shareds_free(&d->shared);
	lanes_out_free(d->lanes);
	stream_close(d->s);
	save_free(d->save);
	cgroup_free(&d->cg);
	json_decref(d->externals);
	json_decref(d->volumes);
	json_decref(d->laps);
	filters_free(&d->filters);
	yield_free(d->yield);
	if (d->root_fd >= 0)
		close(d->root_fd);
	free(d->page_buf);
	free(d);
}

/* --- object.h ---------------------------------------------------------------------------- */
size_t dump_task_count(const struct dump *d)
{
	return d->tasks.n;
}

struct task *dump_task_at(struct dump *d, size_t i)
{
	return i < d->tasks.n ? d->tasks.t[i] : NULL;
}

struct task *dump_task(struct dump *d, pid_t vpid)
{
	return tasks_by_vpid(&d->tasks, vpid);
}

struct task *dump_task_by_pid(struct dump *d, pid_t pid)
{
	return tasks_by_pid(&d->tasks, pid);
}

pid_t dump_vtid(struct dump *d, pid_t tid)
{
	for (size_t i = 0; i < d->tasks.n; i++)
		for (size_t k = 0; k < d->tasks.t[i]->nthreads; k++)
			if (d->tasks.t[i]->threads[k].tid == tid)
				return d->tasks.t[i]->threads[k].vtid;
	return 0;
}

pid_t dump_vpgid(struct dump *d, pid_t pgid)
{
	for (size_t i = 0; i < d->tasks.n; i++)
		if (getpgid(d->tasks.t[i]->pid) == pgid)
			return d->tasks.t[i]->vpgid;
	return 0;
}

int dump_in_netns(struct dump *d, int (*fn)(void *arg), void *arg, struct error *err)
{
	return run_in_ns(d->init_pid, "net", fn, arg, err);
}

int dump_in_mntns(struct dump *d, int (*fn)(void *arg), void *arg, struct error *err)
{
	return run_in_ns(d->init_pid, "mnt", fn, arg, err);
}

int dump_in_ipcns(struct dump *d, int (*fn)(void *arg), void *arg, struct error *err)
{
	return run_in_ns(d->init_pid, "ipc", fn, arg, err);
}

int dump_root_fd(struct dump *d)
{
	char path[64];

	if (d->root_fd < 0) {
		snprintf(path, sizeof(path), "/proc/%d/root", d->init_pid);
		d->root_fd = open(path, O_PATH | O_CLOEXEC | O_DIRECTORY);
	}
	return d->root_fd;
}

int dump_send_part(struct dump *d, const char *name, const void *body, size_t len,
		   struct error *err)
{
	Ck__Part m = CK__PART__INIT;

	if (len > (4u << 20))
		return error_set(err, EMSGSIZE, "a message of %zu bytes of part %s", len, name);
	m.name = (char *)(uintptr_t)name;
	m.body.data = (uint8_t *)(uintptr_t)body;
	m.body.len = len;
	return stream_send_msg(d->s, FRAME_PART, &m.base, err);
}
