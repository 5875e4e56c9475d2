/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Source: the last look at private memory, when everything stands still. Asking the kernel
 * in full what a page is costs ten times as much as asking whether its entry of the page
 * table is still write-protected, and in a large idle process nearly all are. So:
 *
 *   1. areas that nobody watches          in full; the kernel passes by all others
 *   2. all else: what is not protected    quickly, threads begin with it at the freeze
 *      │  also what is gone: an empty entry is not protected
 *   3. these, and who may hide there      in full (SCAN_* of the page, `found`)
 *   4. what was sent and not shown by 2   is there as it was, if its page table is
 *
 * Who hides: guard pages keep the mark of protection when they are set over it, so all that
 * were ever seen are asked about. So are pages of mapped files that were sent: the program
 * may have dropped its own page, and then the file's comes back under the same mark.
 *
 * A table without pages may be gone whole (MADV_DONTNEED of a huge page; newer kernels free
 * empty tables); step 2 is silent about it as about a table in which nothing has changed.
 * One page that step 2 has not shown tells which: it is there, or the table is not.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/mem_huge.h"
#include "runtime/checkpoint/track.h"

/* Below that, looking at all pages in full is as quick. */
#define LARGE (16ul << 20)
/* Looked through at once by any thread: a third of a millisecond. */
#define SLICE (512ul << 20)
/* Of as many chunks (2 MiB each, and half of the set is free) a thread looks for tables. */
#define CHUNKS 512
/* Ranges that are no farther apart are asked about together. */
#define NEAR (16 * PAGE)
/* A range of that size is asked about as it is: it may be terabytes without a page. */
#define BIG	(32ul << 20)
#define THREADS 3

/* Step 2 of a range of addresses, or a look at the tables of some of what was sent. */
struct slice {
	const struct tracker_ops *ops;
	int fd;
	uint64_t start, end;
	struct buf found; /* pairs */
	int r;
	/* Chunks from … to of `sent`: whether their tables are there. */
	const struct pageset *sent;
	pid_t pid;
	size_t from, to;
	uint8_t *there;
};
struct last_task {
	struct task *task;
	uint8_t *there;	  /* one for each of sent.c; 1: its table is, 0: who knows */
	int fd;		  /* /proc/PID/pagemap: the task's own is opened anew meanwhile */
	struct buf aside; /* pairs: areas that are left out */
	size_t first, n;  /* its slices */
};
struct last_look {
	struct last_task *t;
	size_t ntasks;
	struct slice *s;
	size_t n, cap, next;
	pthread_t threads[THREADS];
	size_t nthreads;
};

/* Has pages of the task's own, and none of them huge. */
static bool is_ordinary(const struct vma *v)
{
	return vma_has_private_pages(v) && !huge_bytes(v);
}

static bool is_large(const struct task *t)
{
	uint64_t bytes = 0;

	if (t->zombie || !t->tracker || !t->tracker->ops->find_written ||
	    !t->tracker->ops->finds_written())
		return false;
	for (size_t i = 0; i < t->vmas.n && bytes < LARGE; i++)
		if (is_ordinary(&t->vmas.v[i]))
			bytes += t->vmas.v[i].end - t->vmas.v[i].start;
	return bytes >= LARGE;
}

static void add_slice(struct last_look *l, struct last_task *t, uint64_t start, uint64_t end)
{
	if (start >= end)
		return;
	if (l->n == l->cap) {
		l->cap = l->cap ? 2 * l->cap : 16;
		l->s = mem_grow(l->s, l->cap, sizeof(*l->s));
	}
	l->s[l->n++] = (struct slice){
		.ops = t->task->tracker->ops, .fd = t->fd, .start = start, .end = end
	};
	t->n++;
}

static void add_chunks(struct last_look *l, struct last_task *t, size_t from, size_t to)
{
	add_slice(l, t, 0, PAGE);
	l->s[l->n - 1].sent = &t->task->sent;
	l->s[l->n - 1].pid = t->task->pid;
	l->s[l->n - 1].from = from;
	l->s[l->n - 1].to = to;
	l->s[l->n - 1].there = t->there;
}

static bool is_aside(const struct task *t, const struct vma *v)
{
	return space_leaves_aside(t, v, LOOK_BUT_HUGE);
}

static void note_aside(const struct task *t, struct buf *out)
{
	for (size_t i = 0; i < t->vmas.n; i++)
		if (is_aside(t, &t->vmas.v[i])) {
			buf_add(out, &t->vmas.v[i].start, sizeof(uint64_t));
			buf_add(out, &t->vmas.v[i].end, sizeof(uint64_t));
		}
}

/* All of the address space but what is left aside, cut where there is much in a slice. */
static void cut(struct last_look *l, struct last_task *t)
{
	const struct vmas *v = &t->task->vmas;
	uint64_t at = SPACE_START, bytes = 0;

	t->first = l->n;
	t->n = 0;
	t->aside.len = 0;
	note_aside(t->task, &t->aside);
	for (size_t i = 0; i < v->n && v->v[i].end <= SPACE_END; i++) {
		uint64_t start = v->v[i].start, end = v->v[i].end;

		if (is_aside(t->task, &v->v[i])) {
			add_slice(l, t, at, start);
			at = end > at ? end : at;
			bytes = 0;
			continue;
		}
		for (bytes += end - start; bytes >= SLICE; bytes -= SLICE) {
			uint64_t to = end - (bytes - SLICE);

			add_slice(l, t, at, to);
			at = to;
		}
	}
	add_slice(l, t, at, SPACE_END);
	for (size_t i = 0; i < t->task->sent.cap; i += CHUNKS)
		add_chunks(l, t, i,
			   i + CHUNKS < t->task->sent.cap ? i + CHUNKS : t->task->sent.cap);
}

static uint64_t first_page(const struct chunk *c)
{
	for (uint64_t i = 0; i < 8; i++)
		if (c->bits[i])
			return c->addr + (i * 64 + (uint64_t)__builtin_ctzll(c->bits[i])) * PAGE;
	return c->addr;
}

/* move_pages(2) that moves none: where pages are, four times as quick as pread(2) of
 * pagemap. It knows of no swapped and no zero pages; these are asked about later. */
static void look_at_tables(const struct slice *s)
{
	void *pages[CHUNKS];
	int node[CHUNKS];
	size_t slot[CHUNKS], n = 0;

	for (size_t i = s->from; i < s->to; i++)
		if (s->sent->c[i].addr != NO_CHUNK) {
			slot[n] = i;
			pages[n++] = (void *)first_page(&s->sent->c[i]);
		}
	memset(node, 0xff, sizeof(node));
	if (!n || syscall(SYS_move_pages, s->pid, n, pages, NULL, node, 0) != 0)
		return;
	for (size_t i = 0; i < n; i++)
		s->there[slot[i]] = node[i] >= 0;
}

static void *work(void *arg)
{
	struct last_look *l = arg;

	for (;;) {
		size_t i = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);
		struct slice *s;

		if (i >= l->n)
			return NULL;
		s = &l->s[i];
		if (s->sent)
			look_at_tables(s);
		else
			s->r = s->ops->find_written(s->fd, s->start, s->end, &s->found);
	}
}

void last_look_begin(struct dump *d)
{
	struct last_look *l;

	last_look_end(d);
	l = d->last = mem_zalloc(sizeof(*l));
	l->t = mem_grow(NULL, d->tasks.n + 1, sizeof(*l->t));
	for (size_t i = 0; i < d->tasks.n; i++) {
		char path[64];
		int fd;

		if (!is_large(d->tasks.t[i]))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/pagemap", d->tasks.t[i]->pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		l->t[l->ntasks] =
			(struct last_task){ .task = d->tasks.t[i],
					    .fd = fd,
					    .there = mem_zalloc(d->tasks.t[i]->sent.cap + 1) };
		cut(l, &l->t[l->ntasks++]);
	}
	/* The engine has other things to do, but will help. */
	while (l->nthreads < THREADS && l->nthreads + 1 < l->n &&
	       (l->nthreads == 0 || (long)l->nthreads + 1 < sysconf(_SC_NPROCESSORS_ONLN)) &&
	       pthread_create(&l->threads[l->nthreads], NULL, work, l) == 0)
		l->nthreads++;
}

/* What the threads have not done yet is done here. */
static void join(struct last_look *l)
{
	work(l);
	for (; l->nthreads; l->nthreads--)
		pthread_join(l->threads[l->nthreads - 1], NULL);
}

void last_look_end(struct dump *d)
{
	struct last_look *l = d->last;

	if (!l)
		return;
	/* Nobody wants the rest. */
	__atomic_store_n(&l->next, l->n, __ATOMIC_RELAXED);
	join(l);
	for (size_t i = 0; i < l->n; i++)
		buf_free(&l->s[i].found);
	for (size_t i = 0; i < l->ntasks; i++) {
		close(l->t[i].fd);
		buf_free(&l->t[i].aside);
		free(l->t[i].there);
	}
	free(l->s);
	free(l->t);
	free(l);
	d->last = NULL;
}

static struct last_task *task_of(struct last_look *l, const struct task *t)
{
	for (size_t i = 0; l && i < l->ntasks; i++)
		if (l->t[i].task == t)
			return &l->t[i];
	return NULL;
}

/* The bits of [start, end) in the chunk at addr. */
static void bits_of(uint64_t addr, uint64_t start, uint64_t end, uint64_t bits[8])
{
	uint64_t from = start > addr ? (start - addr) / PAGE : 0;
	uint64_t to = end < addr + CHUNK_BYTES ? (end - addr) / PAGE : 512;

	for (uint64_t i = 0; i < 8; i++) {
		uint64_t lo = from > i * 64 ? from - i * 64 : 0;
		uint64_t hi = to > i * 64 ? to - i * 64 : 0;

		bits[i] = lo >= 64 || !hi
				  ? 0
				  : (hi >= 64 ? ~0ull : (1ull << hi) - 1) & ~((1ull << lo) - 1);
	}
}

/* What of a range was sent, into `asked`. */
static void note_asked(const struct task *t, uint64_t start, uint64_t end, struct pageset *asked)
{
	for (size_t i = 0; i < t->sent.cap; i++) {
		uint64_t addr = t->sent.c[i].addr, bits[8];

		if (addr == NO_CHUNK || addr + CHUNK_BYTES <= start || addr >= end)
			continue;
		bits_of(addr, start, end, bits);
		pageset_add(asked, addr, bits);
	}
}

/*
 * Step 2's ranges into `set`; big ones are asked about at once, and what was sent of them is
 * noted in `asked`. The slices were cut by an older map: where other areas are left
 * aside now, something that was left out may be private memory that has grown.
 */
static int written(struct last_look *l, struct last_task *t, struct pageset *set,
		   struct pageset *asked, track_fn *fn, void *ctx)
{
	int r = 0;

	struct buf aside = { 0 };
	bool same;

	join(l);
	note_aside(t->task, &aside);
	same = aside.len == t->aside.len &&
	       (!aside.len || memcmp(aside.data, t->aside.data, aside.len) == 0);
	buf_free(&aside);
	if (!same) {
		cut(l, t);
		__atomic_store_n(&l->next, t->first, __ATOMIC_RELAXED);
		work(l);
	}
	for (size_t i = t->first; i < t->first + t->n; i++) {
		const struct slice *s = &l->s[i];
		const uint64_t *p = (const uint64_t *)(const void *)s->found.data;

		if (s->r < 0)
			return s->r;
		for (size_t k = 0; k < s->found.len / sizeof(*p) && r == 0; k += 2) {
			if (p[k + 1] - p[k] < BIG) {
				pageset_set(set, p[k], (p[k + 1] - p[k]) / PAGE, true);
				continue;
			}
			note_asked(t->task, p[k], p[k + 1], asked);
			r = t->task->tracker->ops->scan_watched(t->task, p[k], p[k + 1], false, fn,
								ctx);
		}
	}
	return r;
}

/* Pages of `c` that lie in areas with pages of their own, of files only if `files`, and are
 * in `bits`, into `out`. */
static void add_within(const struct task *t, uint64_t addr, const uint64_t *bits, bool files,
		       struct pageset *out)
{
	for (size_t i = vmas_from(&t->vmas, addr); i < t->vmas.n; i++) {
		const struct vma *v = &t->vmas.v[i];
		uint64_t in[8];

		if (v->start >= addr + CHUNK_BYTES)
			break;
		if (!is_ordinary(v) || (files && v->kind == VMA_ANON))
			continue;
		bits_of(addr, v->start, v->end, in);
		for (int k = 0; k < 8; k++)
			in[k] &= bits[k];
		pageset_add(out, addr, in);
	}
}

static int by_address(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Step 3, in the order of addresses. */
static int ask(struct task *t, const struct pageset *set, track_fn *fn, void *ctx)
{
	CLEANUP_FREE uint64_t *at = mem_grow(NULL, set->n + 1, sizeof(*at));
	uint64_t start = 0, end = 0;
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; i < set->cap; i++)
		if (set->c[i].addr != NO_CHUNK)
			at[n++] = set->c[i].addr;
	qsort(at, n, sizeof(*at), by_address);
	for (size_t i = 0; i < n; i++) {
		const uint64_t *bits = pageset_bits(set, at[i]);

		for (uint64_t b = 0; b < 512 && r == 0; b++) {
			uint64_t page = at[i] + b * PAGE;

			if (!bits[b / 64]) {
				b |= 63;
				continue;
			}
			if (!(bits[b / 64] >> (b % 64) & 1))
				continue;
			if (end && page <= end + NEAR) {
				end = page + PAGE;
				continue;
			}
			if (end)
				r = t->tracker->ops->scan_watched(t, start, end, false, fn, ctx);
			start = page;
			end = page + PAGE;
		}
	}
	return r == 0 && end ? t->tracker->ops->scan_watched(t, start, end, false, fn, ctx) : r;
}

static bool is_there(int fd, uint64_t page)
{
	uint64_t entry = 0;

	/* Present, or swapped. */
	return pread(fd, &entry, sizeof(entry), (off_t)(page / PAGE * sizeof(entry))) ==
		       (ssize_t)sizeof(entry) &&
	       entry >> 62;
}

/* Step 4 for one chunk of what was sent; `asked`: step 3 has told all about these. */
static int still_there(struct last_task *l, size_t slot, const struct pageset *set,
		       const struct pageset *asked, track_fn *fn, void *ctx)
{
	const struct chunk *c = &l->task->sent.c[slot];
	const uint64_t *told = pageset_bits(set, c->addr), *more = pageset_bits(asked, c->addr);
	const uint64_t *here = pageset_bits(&l->task->here, c->addr);
	uint64_t rest[8], first = 512, last = 0;
	size_t v;

	/* A chunk of huge pages is of nothing else, and was looked at in full. */
	for (uint64_t i = 0; i < 8; i++) {
		rest[i] = c->bits[i] & ~told[i] & ~more[i] & ~here[i];
		if (!rest[i])
			continue;
		if (first == 512)
			first = i * 64 + (uint64_t)__builtin_ctzll(rest[i]);
		last = i * 64 + 63 - (uint64_t)__builtin_clzll(rest[i]);
	}
	v = vmas_from(&l->task->vmas, c->addr);
	if (first == 512 || v == l->task->vmas.n || huge_bytes(&l->task->vmas.v[v]))
		return 0;
	if (!l->there[slot] && !is_there(l->fd, c->addr + first * PAGE))
		return l->task->tracker->ops->scan_watched(l->task, c->addr + first * PAGE,
							   c->addr + (last + 1) * PAGE, false, fn,
							   ctx);
	add_within(l->task, c->addr, rest, false, &l->task->here);
	return 0;
}

int last_look(struct dump *d, struct task *t, track_fn *fn, void *ctx)
{
	struct last_task *l = task_of(d->last, t);
	struct pageset set = { 0 }, asked = { 0 };
	int r;

	if (!l)
		return space_scan(t, pages_scan, LOOK_GUARDS | LOOK_HUGE, fn, ctx);
	r = space_scan(t, t->tracker->ops->scan_unwatched, LOOK_GUARDS | LOOK_HUGE | LOOK_BUT_HUGE,
		       fn, ctx);
	if (r == 0)
		r = written(d->last, l, &set, &asked, fn, ctx);
	for (size_t i = 0; i < t->guarded.cap && r == 0; i++)
		if (t->guarded.c[i].addr != NO_CHUNK)
			pageset_add(&set, t->guarded.c[i].addr, t->guarded.c[i].bits);
	for (size_t i = 0; i < t->sent.cap && r == 0; i++)
		if (t->sent.c[i].addr != NO_CHUNK)
			add_within(t, t->sent.c[i].addr, t->sent.c[i].bits, true, &set);
	if (r == 0)
		r = ask(t, &set, fn, ctx);
	for (size_t i = 0; i < t->sent.cap && r == 0; i++)
		if (t->sent.c[i].addr != NO_CHUNK)
			r = still_there(l, i, &set, &asked, fn, ctx);
	pageset_free(&set);
	pageset_free(&asked);
	return r;
}
