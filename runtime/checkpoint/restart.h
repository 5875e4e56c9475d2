/* SPDX-License-Identifier: Apache-2.0 */
/* Calls with a relative timeout that the freeze interrupts: when they would have ended. */
#ifndef FERRY_CHECKPOINT_RESTART_H
#define FERRY_CHECKPOINT_RESTART_H

#include "runtime/checkpoint/core.h"

/* Source, in pre-copy: what restart_look() needs is loaded, so that it is there in the pause. */
void restart_prepare(void);
/* Source, everything stands still: notes th->restart of all threads in such a call. */
void restart_look(struct dump *d);
/* What travels of it. `regs` become those of the call itself where the thread was about to
 * go on with it (restart_syscall(2)). */
void restart_dump(const struct dump *d, const struct thread *th, struct user_regs_struct *regs,
		  Ck__Thread *m);
/*
 * Destination, th->regs are the last ones: the thread enters the call with the time that is
 * left, and is interrupted in it, so that this kernel too knows when it ends. Where that
 * cannot be, th->regs stay as they are, and the call begins its timeout anew.
 */
void restart_enter(struct restore *r, struct thread *th, const Ck__Thread *m);

#endif
