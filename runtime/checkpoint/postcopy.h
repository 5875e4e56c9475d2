/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy: the tasks run at the destination before all of their memory is there.
 *
 *   source                                        destination
 *   last round: instead of a page's content
 *     LATE (its place) ─────────────────────────► noted; what is stale there is dropped
 *   tasks frozen, engine serves                   areas registered with userfaultfd; commit;
 *                                                 tasks run, untraced
 *     PAGES, in order, at most LATE_WINDOW ─────► UFFDIO_COPY
 *     ◄──────────────────────────── TOOK (bytes)
 *     ◄───────────────────────────── WANT (page)  a task touched it
 *     PAGES, that one next ─────────────────────► UFFDIO_COPY, the task goes on
 *     SENT ─────────────────────────────────────►
 *     ◄─────────────────────────── WHOLE (stats)  nothing is missing: userfaultfd closed
 *   tasks may be killed
 *
 * A page is named by where it was in the frozen source: a process and an address, or a
 * shared object and an offset. What forks, mremaps and unmaps of the running tasks make
 * of it is postcopy_space.c's matter.
 *
 * Threads: on either side the engine's main thread only starts, asks and joins; source:
 * one thread serves; destination: one reads faults and writes to the stream, one reads
 * the stream and puts pages in place.
 */
#ifndef FERRY_CHECKPOINT_POSTCOPY_H
#define FERRY_CHECKPOINT_POSTCOPY_H

#include "runtime/checkpoint/core.h"

/* In flight beyond what was asked for: what a wanted page waits behind, at most. */
#define LATE_WINDOW (1u << 20)
/* Fewer pages than this go at once: not worth a phase of its own. */
#define LATE_FEWEST 64
/* A link that is cut this long is lost, and the container with it. */
#define LATE_PATIENCE_S 10

/* What WHOLE carries. */
struct late_stats {
	uint64_t ns;	 /* from the start of the tasks to the last page */
	uint64_t faults; /* that waited for the source */
	uint64_t median_ns, max_ns;
	uint64_t zeros; /* faults on memory that never had content */
};

/* --- source (postcopy_source.c) ------------------------------------------------------- */
/*
 * After the last scan: chooses the pages that may come later (t->late). Where they are
 * too few d->postcopy is cleared, and all goes at once.
 */
int late_choose(struct dump *d, struct error *err);
/* Announces a run of late pages instead of sending it. id: vpid or shared object. */
int late_announce(struct dump *d, uint32_t space, uint32_t id, uint64_t start, uint64_t npages,
		  struct error *err);
/* True where this page (a number) of a shared object may come later. */
bool late_shared(const struct dump *d, const struct shared *s, uint64_t page);
/* The tasks are frozen: begins to serve, where anything is late. */
int late_serve(struct dump *d, struct error *err);
/* Descriptor that becomes readable when serving has ended; -1: nothing is served. */
int late_serve_fd(const struct dump *d);
/* 0: all is there; -EINPROGRESS; -errno: lost. *answer where it is over or for progress. */
int late_served(struct dump *d, json_t **answer, struct error *err);
/* Ends the thread, whatever it does. */
void late_stop(struct dump *d);

/* --- destination (postcopy_dest.c) ---------------------------------------------------- */
/* A LATE frame. */
int late_receive(struct restore *r, const struct frame *f, struct error *err);
/* True where this page's content is not here yet. */
bool late_missing(const struct restore *r, uint32_t space, uint32_t id, uint64_t start);
/* --verify: what a missing page must be when it comes. */
void late_expect(struct restore *r, uint32_t space, uint32_t id, uint64_t start, uint64_t hash);
/* Everything is built: registers what is missing. The tasks still stand still. */
int late_register(struct restore *r, struct error *err);
/* Just before the tasks are let go: begins to serve them. */
int late_begin(struct restore *r, struct error *err);
/* As on the source. */
int late_wait_fd(const struct restore *r);
int late_arrived(struct restore *r, json_t **answer, struct error *err);
/* Where the reason is written, before the tasks are killed, if the rest is lost. */
void late_set_note(struct restore *r, const char *path);
void late_free(struct restore *r);

/* --- which page goes where (postcopy_space.c) ----------------------------------------- */
/* Memory of a running process that came from, or may still come from, the source. */
struct late_seg {
	uint64_t start, end; /* now */
	uint64_t src;	     /* what `start` was in the source */
	uint32_t object;     /* shared object, 0: private */
};
struct late_space {
	uint32_t vpid;	       /* whose memory in the source; forked children keep it */
	struct late_seg *segs; /* sorted by start */
	size_t nsegs, cap;
	bool has_objects;
	struct pageset missing; /* private pages, by their place in the source */
	uint64_t nmissing;
	size_t hint; /* segment found last by late_space_place() */
};
void late_space_add(struct late_space *s, uint64_t start, uint64_t end, uint64_t src,
		    uint32_t object);
void late_space_free(struct late_space *s);
/* The segment that holds an address; NULL: nothing of the source's. */
const struct late_seg *late_space_find(const struct late_space *s, uint64_t addr);
/* munmap(2), MADV_DONTNEED: what was there is no more, and is missed by nobody. */
void late_space_cut(struct late_space *s, uint64_t start, uint64_t end);
/* The same for private pages only: what madvise(2) does to a mapping. */
void late_space_clear(struct late_space *s, uint64_t start, uint64_t end);
/* mremap(2). */
void late_space_move(struct late_space *s, uint64_t from, uint64_t to, uint64_t len);
/* mremap(2) with an old size of 0: shared memory at `from` appears at `to` as well. */
void late_space_double(struct late_space *s, uint64_t from, uint64_t to);
/* fork(2): `s` becomes a copy of `from`. */
void late_space_fork(struct late_space *s, const struct late_space *from);
/*
 * Where up to npages pages from `src` on lie now: address in *at, how many of them lie
 * there in a row (0: the first lies nowhere).
 */
uint64_t late_space_place(struct late_space *s, uint32_t object, uint64_t src, uint64_t npages,
			  uint64_t *at);
/* Pages of [src, src + npages) from the first that is missing on, at most to the next that
 * is not: their number, the first in *from. */
uint64_t late_run(const struct pageset *missing, uint64_t src, uint64_t npages, uint64_t *from);
void late_mark(struct pageset *missing, uint64_t *count, uint64_t start, uint64_t npages, bool on);

/* --- the guard (postcopy_guard.c) ----------------------------------------------------- */
/*
 * A process that holds the userfaultfds too and kills the container if the engine dies:
 * a closed userfaultfd would give the tasks zeros for the pages that have not come.
 */
struct late_guard;
struct late_guard *late_guard_start(int init_pidfd, const char *note, struct error *err);
/* Another userfaultfd to hold, under a number; and one no longer. */
void late_guard_hold(struct late_guard *g, uint32_t number, int fd);
void late_guard_drop(struct late_guard *g, uint32_t number);
/* All is there: the guard leaves. */
void late_guard_end(struct late_guard *g);
/* Writes the note (may be NULL), kills what init_pidfd stands for, waits until it is gone. */
void late_kill(int init_pidfd, const char *note, const char *why);

#endif
