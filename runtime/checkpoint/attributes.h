/* SPDX-License-Identifier: Apache-2.0 */
/* attributes.c: what threads and processes have set for themselves that is a number each. */
#ifndef FERRY_CHECKPOINT_ATTRIBUTES_H
#define FERRY_CHECKPOINT_ATTRIBUTES_H

#include "runtime/checkpoint/core.h"

/* Where the answers of a batch are. */
struct attributes_query {
	size_t first, end;
	unsigned long tsc_at, policy_at, nodes_at;
};
/* What the message points to; lives as long as it. */
struct attributes_room {
	Ck__Attributes a;
	uint8_t sched[56], nodes[128];
	uint32_t speculation[3];
};

/* Source: adds calls to a thread's batch; after it was run, fills m->attributes. */
void attributes_ask(struct remote_batch *b, struct attributes_query *q);
void attributes_answer(const struct thread *th, const struct remote_batch *b,
		       const struct attributes_query *q, struct attributes_room *room,
		       Ck__Thread *m);
/* Whether `flags` of /proc/PID/stat tell of PR_SET_IO_FLUSHER. */
bool attributes_io_flusher(uint64_t task_flags);
/* The same for what belongs to a process. */
void attributes_ask_process(struct remote_batch *b, struct attributes_query *q);
void attributes_answer_process(const struct task *t, const struct remote_batch *b,
			       const struct attributes_query *q, Ck__TaskState *m);

/* Destination: before threads are made. */
int attributes_early(struct task *t, struct error *err);
/* While the thread still has all privileges. */
int attributes_restore(struct thread *th, const Ck__Thread *m, struct error *err);
/* No memory is mapped any more: of the process, added to its leader's batch; then what became
 * of it. */
void attributes_last(struct remote_batch *b, const struct task *t, struct attributes_query *q);
int attributes_last_done(const struct remote_batch *b, const struct attributes_query *q,
			 const struct task *t, struct error *err);
/* The very last of a thread: policy and niceness, until then a stub's. */
int attributes_schedule(struct thread *th, const Ck__Thread *m, struct error *err);

#endif
