/* SPDX-License-Identifier: Apache-2.0 */
/* Any number of remote system calls of one process, made in batches (remote_batch.c). */
#ifndef FERRY_CHECKPOINT_REMOTE_LIST_H
#define FERRY_CHECKPOINT_REMOTE_LIST_H

#include "runtime/checkpoint/core.h"

struct remote_list {
	struct task *t;
	struct {
		const char *what;
		uint64_t at;
	} of[REMOTE_CALLS];
	struct remote_batch b;
};
/* For calls of t's leader, which is stopped and has a scratch area. */
void remote_list_begin(struct remote_list *l, struct task *t);
/*
 * Adds a call whose first argument is an address, with `fd` -1 and offset 0 behind the other
 * four. It is made in its turn, at remote_list_end() at the latest. `what` it does is for the
 * error, which ends the list: "unmapping memory"; NULL: it may fail. The error may be that of
 * a call added before.
 */
int remote_list_add(struct remote_list *l, const char *what, long nr, uint64_t at, uint64_t b,
		    uint64_t c, uint64_t d, struct error *err);
int remote_list_end(struct remote_list *l, struct error *err);

#endif
