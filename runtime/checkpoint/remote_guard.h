/* SPDX-License-Identifier: Apache-2.0 */
/* Remote calls that the engine's death at any instant does not spoil: remote_guard.c. */
#ifndef FERRY_CHECKPOINT_REMOTE_GUARD_H
#define FERRY_CHECKPOINT_REMOTE_GUARD_H

#include "runtime/checkpoint/core.h"

/* Whether this stopped thread's calls go that way. No: task->outlives is not set (a stub,
 * which dies with its engine), or there is no room in the vdso, or seccomp is in force. */
bool guard_takes(struct thread *th);
/*
 * Begins one call, or n that stand at `calls` in the task; thread_settle() waits for the end.
 * -EAGAIN: a thread of the process is still on its way back from the calls of an engine that
 * was killed.
 */
int guard_call(struct thread *th, long nr, const unsigned long a[6]);
int guard_batch(struct thread *th, unsigned long calls, size_t n);
/* Waits; the call's result, 0 for several, or -errno (-ESRCH: it ended). */
long guard_settle(struct thread *th);
/* task->scratch has changed: an engine that comes after our death gives it back. */
void guard_note_scratch(struct task *t);
/* All threads get their registers back, the vdso its bytes. Stopped threads stay stopped. */
void guard_end_task(struct task *t);
/* In a task that runs: gives back what an engine that was killed has left. */
void guard_clean(struct task *t);

#endif
