/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destination: paths of a process (restore_place.c) and the clearing of its stub's
 * descriptors (fds_restore.c), as parts of a batch of its leader: *_add() before it is run,
 * *_done() afterwards.
 */
#ifndef FERRY_CHECKPOINT_RESTORE_PLACE_H
#define FERRY_CHECKPOINT_RESTORE_PLACE_H

#include "runtime/checkpoint/core.h"

/* Closes everything and makes the socket pair that descriptors come through. What is opened
 * next gets the number CLEARED_NEXT. */
#define CLEARED_NEXT 1
struct clearing {
	size_t first;
	int above;
	unsigned long pair;
};
void clear_add(struct remote_batch *b, struct clearing *c);
/* Sets the task's `cleared`. */
void clear_done(const struct remote_batch *b, const struct clearing *c);

/* Whether all of it can be one batch: nothing is shared, or was deleted. */
bool place_fits(const struct task *t);
struct placing {
	size_t chdir, open, set, root; /* ~0: not there */
	int next;
};
/* `next`: the number that the next descriptor gets. */
int place_add(struct remote_batch *b, struct task *t, int next, struct placing *p,
	      struct error *err);
int place_done(struct restore *r, const struct remote_batch *b, const struct placing *p,
	       struct error *err);

#endif
