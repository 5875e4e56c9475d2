/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Source: one task's memory layout and its changed private pages, each round. Sent pages
 * are remembered (t->sent), so that in the last round those that are gone since
 * (MADV_DONTNEED) can be taken away on the destination too.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/mem_copy.h"
#include "runtime/checkpoint/mem_huge.h"
#include "runtime/checkpoint/mem_policy.h"
#include "runtime/checkpoint/postcopy.h"
#include "runtime/checkpoint/track.h"
#include "runtime/checkpoint/yield.h"

struct copy {
	struct dump *d;
	struct task *t;
	struct error *err;
	size_t at; /* area in hand */
};

int dump_private_run(struct dump *d, struct task *t, uint64_t start, uint64_t npages,
		     uint16_t flags, const void *data, struct error *err)
{
	struct page_run run = { SPACE_PRIVATE, (uint32_t)t->vpid, start, npages };

	if (!flags) {
		d->page_bytes += npages * PAGE;
		d->round_page_bytes += npages * PAGE;
	}
	pageset_set(&t->sent, start, npages, !(flags & FRAME_DROP));
	return stream_send(d->s, FRAME_PAGES, flags, &run, sizeof(run), data,
			   data ? npages * PAGE : 0, err);
}

/* Zero pages, or some that are no longer there. */
static int send_bare(struct copy *c, uint64_t start, uint64_t npages, uint16_t flags)
{
	return dump_private_run(c->d, c->t, start, npages, flags, NULL, c->err);
}

/* --- pages with content -------------------------------------------------------------- */
void mem_copier_init(struct mem_copier *c, struct dump *d, struct stream *s, bool main)
{
	*c = (struct mem_copier){ .d = d, .s = s, .main = main };
	c->buf = main ? d->page_buf : mem_zalloc(MEM_BATCH * PAGE);
}

void mem_copier_free(struct mem_copier *c)
{
	if (!c->main)
		free(c->buf);
	buf_free(&c->zeros);
	buf_free(&c->gone);
}

void mem_copier_settle(struct mem_copier *c)
{
	const struct mem_gone *g = (const struct mem_gone *)(void *)c->gone.data;

	c->d->page_bytes += c->bytes;
	c->d->round_page_bytes += c->bytes;
	for (size_t i = 0; i < c->gone.len / sizeof(*g); i++)
		pageset_set(&g[i].t->sent, g[i].addr, 1, false);
	c->gone.len = 0;
	c->bytes = 0;
}

/* Splits what was read into runs of zero pages and of others. */
static int send_pages(struct mem_copier *c, const struct task *t, uint64_t start, uint64_t npages,
		      struct error *err)
{
	for (uint64_t i = 0, j; i < npages; i = j) {
		bool zero = page_is_zero(c->buf + i * PAGE, PAGE);
		struct page_run run = { SPACE_PRIVATE, (uint32_t)t->vpid, start + i * PAGE, 0 };
		int r = 0;

		for (j = i + 1; j < npages && page_is_zero(c->buf + j * PAGE, PAGE) == zero; j++)
			;
		run.npages = j - i;
		if (!zero) {
			c->bytes += run.npages * PAGE;
			r = stream_send(c->s, FRAME_PAGES, 0, &run, sizeof(run), c->buf + i * PAGE,
					run.npages * PAGE, err);
		} else if (c->main) {
			r = stream_send(c->s, FRAME_PAGES, FRAME_ZERO, &run, sizeof(run), NULL, 0,
					err);
		} else {
			buf_add(&c->zeros, &run, sizeof(run));
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int mem_copier_send(struct mem_copier *c, struct task *t, uint64_t start, uint64_t npages,
		    struct error *err)
{
	int r = 0;

	yield_progress(c->d->yield, npages * PAGE);
	if (task_mem_read(t, start, c->buf, npages * PAGE) == 0)
		return send_pages(c, t, start, npages, err);
	/* Unmapped in part while we were reading: page by page. When everything stands
	 * still nothing may vanish, so then it is an error. */
	for (uint64_t i = 0; i < npages && r == 0; i++) {
		struct mem_gone gone = { t, start + i * PAGE };

		if (task_mem_read(t, gone.addr, c->buf, PAGE) == 0)
			r = send_pages(c, t, gone.addr, 1, err);
		else if (c->d->final)
			r = error_set(err, EFAULT, "page %#llx of process %d cannot be read",
				      (unsigned long long)gone.addr, t->vpid);
		else
			buf_add(&c->gone, &gone, sizeof(gone));
	}
	return r;
}

/* On the main connection. */
static int send_changed(struct copy *c, uint64_t start, uint64_t end)
{
	struct mem_copier m;
	int r = 0;

	mem_copier_init(&m, c->d, c->d->s, true);
	pageset_set(&c->t->sent, start, (end - start) / PAGE, true);
	for (; start < end && r == 0; start += MEM_BATCH * PAGE) {
		uint64_t n = (end - start) / PAGE;

		r = mem_copier_send(&m, c->t, start, n < MEM_BATCH ? n : MEM_BATCH, c->err);
	}
	mem_copier_settle(&m);
	mem_copier_free(&m);
	return r;
}

/* Post-copy: pages that may come later are announced only. */
static int send_late(struct copy *c, uint64_t start, uint64_t end)
{
	int r = 0;

	for (uint64_t at = start; start < end && r == 0; start = at) {
		bool late = pageset_has(&c->t->late, start);

		for (at = start + PAGE; at < end && pageset_has(&c->t->late, at) == late;)
			at += PAGE;
		r = late ? late_announce(c->d, SPACE_PRIVATE, (uint32_t)c->t->vpid, start,
					 (at - start) / PAGE, c->err)
			 : send_changed(c, start, at);
	}
	return r;
}

/*
 * In a mapping of a file a page that is not there may have been dropped by the program since
 * it was sent; the file's is its content again. Sent anew it is right either way.
 */
static void send_again(struct task *t, struct page_found run)
{
	uint64_t end = run.end;

	for (; run.start < end; run.start = run.end) {
		bool sent = pageset_has(&t->sent, run.start);

		for (run.end = run.start + PAGE;
		     run.end < end && pageset_has(&t->sent, run.end) == sent;)
			run.end += PAGE;
		if (sent)
			buf_add(&t->runs, &run, sizeof(run));
	}
}

static void found_guard(struct copy *c, uint64_t start, uint64_t end)
{
	pageset_set(&c->t->guarded, start, (end - start) / PAGE, true);
	/* With a tracker only the last round sees them all. */
	if (c->t->tracker && !c->d->final)
		return;
	buf_add(&c->t->guard_runs, &start, sizeof(start));
	buf_add(&c->t->guard_runs, &end, sizeof(end));
}

/* A run of pages, cut to the areas of the task that have pages of their own. */
static int found(void *ctx, uint64_t start, uint64_t end, int what)
{
	struct copy *c = ctx;
	struct vmas *l = &c->t->vmas;

	if (what & PAGES_GUARD)
		found_guard(c, start, end);
	if (what & (PAGES_FILE | PAGES_GUARD))
		return 0;
	/* Most runs come in the order of addresses. */
	if (c->at && l->v[c->at - 1].end > start)
		c->at = vmas_from(l, start);
	while (c->at < l->n && l->v[c->at].end <= start)
		c->at++;
	for (size_t i = c->at; i < l->n && l->v[i].start < end; i++) {
		const struct vma *v = &l->v[i];
		struct page_found run = { .start = start > v->start ? start : v->start,
					  .end = end < v->end ? end : v->end,
					  .what = what };

		if (!vma_has_private_pages(v))
			continue;
		if (c->d->final && huge_bytes(v) && !(what & PAGES_WRITTEN)) {
			huge_doubt(c->t, &run);
			continue;
		}
		if (c->d->final)
			pageset_set(&c->t->here, run.start, (run.end - run.start) / PAGE, true);
		if ((what & PAGES_WRITTEN) || !c->t->tracker)
			buf_add(&c->t->runs, &run, sizeof(run));
		else if (c->d->final && (what & PAGES_SWAPPED) && v->kind != VMA_ANON)
			send_again(c->t, run);
	}
	return 0;
}

/* Pages of areas that are new to the tracker. */
static int unwatched(void *ctx, uint64_t start, uint64_t end, int what)
{
	struct copy *c = ctx;
	struct page_found run = { start, end, what };

	if (what & PAGES_UNWATCHED)
		buf_add(&c->t->runs, &run, sizeof(run));
	return 0;
}

static bool is_same_area(const uint64_t *pair, const struct vma *v)
{
	return pair[0] == v->start && pair[1] == v->end;
}

/*
 * Areas are in the order of addresses in all three lists: those of the map, those that the
 * tracker was told of, and those of which a scan says that nobody watches them although
 * pages are there. Registering twice is harmless, but costs.
 */
static void watch(struct copy *c)
{
	struct task *t = c->t;
	size_t tried = 0, watched = 0, n = 0, k = 0, b = 0, nbare;
	const struct page_found *bare;
	uint64_t *now;

	if (!t->tracker || !t->tracker->ops->watch)
		return;
	if (t->nwatched &&
	    space_scan(t, t->tracker->ops->scan_unwatched, LOOK_AGAIN, unwatched, c) < 0)
		t->runs.len = 0; /* ended: the next round sees it */
	bare = (const struct page_found *)(void *)t->runs.data;
	nbare = t->runs.len / sizeof(*bare);
	now = mem_grow(NULL, t->vmas.n + 1, 2 * sizeof(*now));
	for (size_t i = 0; i < t->vmas.n; i++) {
		const struct vma *v = &t->vmas.v[i];
		bool known;

		if (!vma_has_private_pages(v) || (huge_bytes(v) && !huge_is_watched(t, v)))
			continue;
		while (k < t->nwatched && t->watched[2 * k] < v->start)
			k++;
		while (b < nbare && bare[b].end <= v->start)
			b++;
		known = k < t->nwatched && is_same_area(&t->watched[2 * k], v);
		if (!known || (b < nbare && bare[b].start < v->end)) {
			tried++;
			if (t->tracker->ops->watch(t, v->start, v->end) < 0)
				continue; /* vanished, or cannot be: always counts as written */
			watched++;
			/* One from before looks as if it had not been written since. */
			guards_scan(t, v->start, v->end, found, c);
		}
		now[2 * n] = v->start;
		now[2 * n++ + 1] = v->end;
	}
	free(t->watched);
	t->watched = now;
	t->nwatched = n;
	t->runs.len = 0;
	/* After an execve() the tracker stands on memory that is no more. */
	if (tried && !watched) {
		tracker_detach(t);
		t->nwatched = 0;
	}
}

static int send_layout(struct copy *c)
{
	struct task *t = c->t;
	Ck__Layout m = CK__LAYOUT__INIT;
	CLEANUP_FREE Ck__Vma *v = mem_zalloc((t->vmas.n + 1) * sizeof(*v));
	CLEANUP_FREE Ck__Vma **list = mem_zalloc((t->vmas.n + 1) * sizeof(*list));
	CLEANUP_FREE void *policies = NULL;

	for (size_t i = 0; i < t->vmas.n; i++) {
		const struct vma *s = &t->vmas.v[i];

		ck__vma__init(&v[i]);
		v[i].start = s->start;
		v[i].end = s->end;
		v[i].prot = s->prot;
		v[i].flags = s->flags;
		v[i].kind = s->kind;
		v[i].has_pgoff = 1;
		v[i].pgoff = s->pgoff;
		v[i].path = s->kind == VMA_FILE ? s->path : NULL;
		v[i].has_shared_id = v[i].has_advice = v[i].has_file_size = 1;
		v[i].shared_id = s->shared_id;
		v[i].advice = s->advice;
		v[i].file_size = s->file_size;
		v[i].has_dev = v[i].has_ino = 1;
		v[i].dev = s->dev;
		v[i].ino = s->ino;
		list[i] = &v[i];
	}
	m.vpid = (uint32_t)t->vpid;
	m.n_vmas = t->vmas.n;
	m.vmas = list;
	m.n_guards = c->t->guard_runs.len / sizeof(uint64_t);
	m.guards = (uint64_t *)(void *)c->t->guard_runs.data;
	policy_look(c->d, t);
	policy_dump(t, &m, &policies);
	return stream_send_msg(c->d->s, FRAME_LAYOUT, &m.base, c->err);
}

/* What the destination has and the task has no more. */
static int drop_gone(struct copy *c)
{
	struct pageset *sent = &c->t->sent;

	for (size_t i = 0; i < sent->cap; i++) {
		struct chunk ch = sent->c[i];

		if (ch.addr == ~0ull || pageset_covers(&c->t->here, &ch))
			continue;
		for (uint64_t b = 0, e; ch.addr != ~0ull && b < 512; b = e) {
			int r;

			e = b + 1;
			if (!(ch.bits[b / 64] >> (b % 64) & 1) ||
			    pageset_has(&c->t->here, ch.addr + b * PAGE))
				continue;
			while (e < 512 && (ch.bits[e / 64] >> (e % 64) & 1) &&
			       !pageset_has(&c->t->here, ch.addr + e * PAGE))
				e++;
			/* Clearing bits never moves chunks. */
			r = send_bare(c, ch.addr + b * PAGE, e - b, FRAME_DROP);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

int dump_task_scan(struct dump *d, struct task *t, struct error *err)
{
	struct copy c = { .d = d, .t = t, .err = err };
	int r;

	t->runs.len = t->guard_runs.len = 0;
	if (t->zombie)
		return 0;
	huge_keep(t);
	/* The last round needs no watching: nothing runs that could write. */
	if (!d->final)
		watch(&c);
	/* An area that has become another one since the map was read is not watched either, and
	 * so counts as written when the map is read again. */
	r = d->final ? last_look(d, t, found, &c)
		     : space_scan(t, pages_scan,
				  LOOK_AGAIN | LOOK_HUGE | (t->tracker ? 0 : LOOK_GUARDS), found,
				  &c);
	if (r < 0 && d->final)
		return error_sys(err, -r, "looking for changed pages of process %d", t->vpid);
	/* One that did not come to its end knows less than it should. */
	if (!d->final && t->tracker && t->tracker->ops->scanned &&
	    (r < 0 || t->tracker->ops->scanned(t) < 0))
		tracker_detach(t);
	return 0; /* gone meanwhile: the next round sees it */
}

int dump_task_layout(struct dump *d, struct task *t, struct error *err)
{
	struct copy c = { .d = d, .t = t, .err = err };

	return t->zombie ? 0 : send_layout(&c);
}

int dump_task_memory(struct dump *d, struct task *t, bool gone, struct error *err)
{
	struct copy c = { .d = d, .t = t, .err = err };
	int r = 0;

	if (t->zombie)
		return 0;
	for (size_t i = 0; i < t->runs.len / sizeof(struct page_found) && r == 0; i++) {
		const struct page_found *run = (const struct page_found *)(void *)t->runs.data + i;

		if (!d->final && !tracker_chosen())
			d->left_bytes += run->end - run->start;
		else if (t->nhuge && huge_bytes(vmas_find(&t->vmas, run->start)))
			r = huge_send(d, t, run->start, run->end, err);
		else if (run->what & PAGES_ZERO)
			r = send_bare(&c, run->start, (run->end - run->start) / PAGE, FRAME_ZERO);
		else if (gone)
			continue;
		else if (d->postcopy && t->late.n)
			r = send_late(&c, run->start, run->end);
		else
			r = send_changed(&c, run->start, run->end);
	}
	/* Rings of completed requests: whole, and only once nothing changes them any more. */
	for (size_t i = 0; i < t->vmas.n && r == 0 && d->final; i++) {
		const struct vma *v = &t->vmas.v[i];

		if (v->kind != VMA_AIO)
			continue;
		pageset_set(&t->here, v->start, (v->end - v->start) / PAGE, true);
		r = send_changed(&c, v->start, v->end);
	}
	return r == 0 && d->final ? drop_gone(&c) : r;
}
