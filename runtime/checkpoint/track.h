/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of a task were written since they were last looked at: the contract of a
 * dirty tracker. What a tracker does not know counts as written, never as clean.
 */
#ifndef FERRY_CHECKPOINT_TRACK_H
#define FERRY_CHECKPOINT_TRACK_H

#include "runtime/checkpoint/core.h"

enum {
	PAGES_ANON = 1,	   /* a page of its own, with content */
	PAGES_ZERO = 2,	   /* the kernel's zero page */
	PAGES_FILE = 4,	   /* a page of the mapped file, not the area's own */
	PAGES_WRITTEN = 8, /* written since the last scan that watched, or never watched */
	PAGES_UNWATCHED = 16,
	PAGES_GUARD = 32, /* MADV_GUARD_INSTALL */
	/* Not in memory; only some trackers tell. In a mapping of a file the kernel's mark for
	 * "no page, watched" looks the same. */
	PAGES_SWAPPED = 64,
};
/* A run of pages as a scan showed it: what task->runs holds. */
struct page_found {
	uint64_t start, end;
	int what;
};
typedef int track_fn(void *ctx, uint64_t start, uint64_t end, int what);
typedef int pages_fn(struct task *t, uint64_t start, uint64_t end, bool again, track_fn *fn,
		     void *ctx);

struct tracker_ops {
	const char *name;
	/* Whether this kernel can do it; asked once. */
	bool (*available)(void);
	/* Tasks must stand still while they are scanned with `again`. */
	bool stops;
	/* Makes t->tracker; the leader is stopped. -EOPNOTSUPP: not on this kernel. */
	int (*attach)(struct task *t);
	/* Begins to watch an area that the scan said is unwatched. NULL: needs no telling. */
	int (*watch)(struct task *t, uint64_t start, uint64_t end);
	/* pages_scan() of a task that has this tracker. */
	pages_fn *scan;
	/* With `watch`: the same, without `again`, of areas only that are not watched; that are. */
	pages_fn *scan_unwatched, *scan_watched;
	/*
	 * With `watch`, may be NULL: the ranges (pairs, in order) of [start, end) of areas that
	 * are watched in which pages may have been written, or be no longer there, since the last
	 * scan with `again`; a page that is not in them is as it was then, but for guard pages, or
	 * has no page table. By /proc/PID/pagemap, in any thread. Asked before: does this kernel?
	 */
	int (*find_written)(int pagemap_fd, uint64_t start, uint64_t end, struct buf *out);
	bool (*finds_written)(void);
	/* All of the task was scanned with `again`. NULL: nothing to do. */
	int (*scanned)(struct task *t);
	void (*detach)(struct task *t);
};
struct tracker {
	const struct tracker_ops *ops;
	int fd;
	void *priv;
};

extern const struct tracker_ops tracker_uffd, tracker_softdirty;

/*
 * Which tracker tasks get from now on: "uffd", "softdirty", "none", or the best that this
 * kernel has (NULL, "auto"). -EINVAL: no such name, -EOPNOTSUPP: not on this kernel.
 */
int tracker_choose(const char *name, struct error *err);
/* The chosen one; NULL: none. Without a choice, the best. */
const struct tracker_ops *tracker_chosen(void);

/* Puts the chosen tracker in (none, or no success: t->tracker stays NULL). The leader is
 * stopped. */
void tracker_attach(struct task *t);
void tracker_detach(struct task *t);
/*
 * Calls fn for each run of pages of [start, end) that are there, with what they are. With
 * `again`, only those that were written, and they are watched anew. Without a tracker
 * every page counts as written.
 */
pages_fn pages_scan;
/*
 * `scan` of all of the address space but what is left aside: the areas of shared objects,
 * because their pages are the objects', and there may be a hundred thousand of them in each of
 * many processes; and huge pages that the tracker does not see, which all count as written,
 * and are compared by content.
 */
enum {
	LOOK_AGAIN = 1,	   /* `again` */
	LOOK_GUARDS = 2,   /* guard pages of shared areas are shown */
	LOOK_HUGE = 4,	   /* huge pages that are left aside are shown, by pages_all() */
	LOOK_BUT_HUGE = 8, /* all huge pages are left aside */
};
bool space_leaves_aside(const struct task *t, const struct vma *v, int how);
int space_scan(struct task *t, pages_fn *scan, int how, track_fn *fn, void *ctx);
/* mem_last.c: the last round's space_scan(), by the shortest way there is. */
int last_look(struct dump *d, struct task *t, track_fn *fn, void *ctx);
/* pages_scan(), but shows guard pages only, and touches nothing else. */
int guards_scan(struct task *t, uint64_t start, uint64_t end, track_fn *fn, void *ctx);
/* pages_scan() without a tracker: by PAGEMAP_SCAN; -ENOTTY: a kernel before 6.7. */
int pages_scan_plain(struct task *t, uint64_t start, uint64_t end, track_fn *fn, void *ctx);
/* Every page that is there, as if it had been written. */
int pages_all(struct task *t, uint64_t start, uint64_t end, track_fn *fn, void *ctx);
/* The same by reading /proc/PID/pagemap, for any kernel; areas of t->vmas only. */
int pages_read(struct task *t, uint64_t start, uint64_t end, track_fn *fn, void *ctx);
#define SPACE_START 0x1000ul
#define SPACE_END   0x7ffffffff000ul

#endif
