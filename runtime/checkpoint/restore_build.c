/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destination: in which order a process is built. What needs nothing but the process's own
 * frames is done when they come in, while the source reads the next process; what needs
 * all of them (descriptors that are shared, signals, privileges) comes when everything is
 * there. The source hears of a failure either way.
 *
 *   TaskState of a process         threads, actions of signals
 *   … and storage is ready         files mapped, memory finished, paths, descriptors cleared
 *   everything has come            objects, descriptors, shared memory
 *                                  zombies; timers, signals, credentials, registers
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/process.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/postcopy.h"
#include "runtime/checkpoint/restore_place.h"

static bool has_aio(const struct task *t)
{
	for (size_t i = 0; i < t->vmas.n; i++)
		if (t->vmas.v[i].kind == VMA_AIO)
			return true;
	return false;
}

static int finish_memory(struct restore *r, struct task *t, struct error *err)
{
	int e = t->memory_done ? 0 : restore_pending_files(r, t, err);

	if (e == 0 && !t->memory_done)
		e = restore_memory_finish(r, t, err);
	t->memory_done = e == 0;
	return e;
}

int restore_ahead(struct restore *r, struct task *t, struct error *err)
{
	/* A file is believed when it has been read to its end. */
	bool ahead = r->final && r->storage_ready && !r->load;
	/* Who shares a table or its paths with others does it in the order of the list. */
	bool clear = ahead && !t->files_of;
	/* Objects are finished before the root changes: they may need the terminal's name. */
	bool place = clear && !t->fs_of && t->state->root && strcmp(t->state->root, "/") == 0;
	bool at_once = place && place_fits(t);
	int e = 0;

	/* Rings of aio are made by a part, and before memory is locked or sealed. */
	if (ahead && !has_aio(t))
		e = finish_memory(r, t, err);
	if (e == 0)
		e = restore_task_early(r, t, at_once, err);
	if (e == 0 && clear && !t->cleared)
		task_clear_fds(t);
	if (e == 0 && place)
		e = restore_task_place(r, t, err);
	return e;
}

int restore_abreast(struct restore *r, const struct abreast *a, struct error *err)
{
	CLEANUP_FREE char *rooms = mem_zalloc(RESTORE_ABREAST * a->size);
	CLEANUP_FREE struct task **list = mem_zalloc((r->tasks.n + 1) * sizeof(*list));
	size_t n = 0;

	for (size_t i = 0; i < r->tasks.n; i++)
		if (!r->tasks.t[i]->to_be_zombie && !r->tasks.t[i]->zombie)
			list[n++] = r->tasks.t[i];
	for (size_t i = 0; i < n + RESTORE_ABREAST - 1; i++) {
		size_t last = i - (RESTORE_ABREAST - 1);
		int e = 0;

		if (i < n)
			e = a->start(r, list[i], rooms + i % RESTORE_ABREAST * a->size, err);
		if (e == 0 && i >= RESTORE_ABREAST - 1 && last < n)
			e = a->end(r, list[last], rooms + last % RESTORE_ABREAST * a->size, err);
		if (e < 0)
			return e;
	}
	return 0;
}

static int complete_parts(struct restore *r, struct error *err)
{
	for (size_t k = 0; k < 2; k++) {
		const struct checkpoint_part *const *p =
			k ? checkpoint_parts_sockets : checkpoint_parts_files;

		for (; *p; p++) {
			int e = (*p)->complete ? (*p)->complete(r, err) : 0;

			if (e < 0)
				return e;
		}
	}
	return 0;
}

static int seal_parts(struct restore *r, struct error *err)
{
	for (size_t k = 0; k < 2; k++) {
		const struct checkpoint_part *const *p =
			k ? checkpoint_parts_sockets : checkpoint_parts_files;

		for (; *p; p++) {
			int e = (*p)->seal ? (*p)->seal(r, err) : 0;

			if (e < 0)
				return e;
		}
	}
	return 0;
}

int restore_rest(struct restore *r, struct error *err)
{
	int64_t t0 = clock_mono_ns(), t1, t2;
	int e = complete_parts(r, err);

	for (size_t i = 0; i < r->tasks.n && e == 0; i++) {
		struct task *t = r->tasks.t[i];

		if (t->to_be_zombie)
			continue;
		if (!t->state || !t->fds)
			return error_set(err, EBADMSG, "process %d came without its state",
					 t->vpid);
		e = finish_memory(r, t, err);
	}
	t1 = clock_mono_ns();
	if (e == 0)
		e = restore_objects(r, err);
	if (e == 0)
		e = restore_shared_finish(r, err);
	if (e == 0)
		e = seal_parts(r, err);
	t2 = clock_mono_ns();
	for (size_t i = 0; i < r->tasks.n && e == 0; i++)
		if (!r->tasks.t[i]->to_be_zombie)
			e = restore_task_place(r, r->tasks.t[i], err);
	if (e == 0)
		e = restore_zombies(r, err);
	if (e == 0)
		e = restore_tasks_last(r, err);
	if (e == 0 && r->verify)
		e = restore_verify(r, err);
	if (e == 0)
		e = late_register(r, err);
	/* While the caller commits; it is waited for when they run. */
	for (size_t i = 0; i < r->tasks.n && e == 0; i++)
		if (!r->tasks.t[i]->zombie)
			task_drop_scratch(r->tasks.t[i]);
	r->mem_ns = t1 - t0;
	r->obj_ns = t2 - t1;
	r->task_ns = clock_mono_ns() - t2;
	r->done_ns = clock_mono_ns() - t0;
	return e;
}
