/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of a task were written since they were last looked at: the contract of a
 * dirty tracker. What a tracker does not know counts as written, never as clean.
 */
#ifndef FERRY_CHECKPOINT_TRACK_H
#define FERRY_CHECKPOINT_TRACK_H

#include "runtime/checkpoint/core.h"

enum {
	PAGES_ANON = 1, /* the area's own pages, with content */
	PAGES_ZERO = 2, /* the kernel's zero page */
	PAGES_FILE = 4, /* pages of the mapped file, not the area's own */
};
typedef int track_fn(void *ctx, uint64_t start, uint64_t end, int what);

struct tracker_ops {
	const char *name;
	/* Makes t->tracker; the leader is stopped. -EOPNOTSUPP: not on this kernel. */
	int (*attach)(struct task *t);
	/* Calls fn for each run of pages of [start, end) written since the last collect and
	 * begins to watch them anew. */
	int (*collect)(struct task *t, uint64_t start, uint64_t end, track_fn *fn, void *ctx);
	void (*detach)(struct task *t);
};
struct tracker {
	const struct tracker_ops *ops;
	int fd;
};

extern const struct tracker_ops tracker_uffd;

/* The best tracker for this task, or none (t->tracker stays NULL). The leader is stopped. */
void tracker_attach(struct task *t);
void tracker_detach(struct task *t);
/* As collect(); without a tracker: all pages that are there. */
int tracker_collect(struct task *t, uint64_t start, uint64_t end, track_fn *fn, void *ctx);
/* All pages that are there, watching nothing. */
int pages_present(struct task *t, uint64_t start, uint64_t end, track_fn *fn, void *ctx);
/* Ranges of guard pages (MADV_GUARD_INSTALL) of [start, end). */
int pages_guards(struct task *t, uint64_t start, uint64_t end, track_fn *fn, void *ctx);

#endif
