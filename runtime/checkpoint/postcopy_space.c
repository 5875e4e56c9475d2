/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy: where the source's pages lie in a process that runs on. Pages are counted
 * missing by their place in the source; segments say where that is now. No system calls.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/checkpoint/postcopy.h"

void late_mark(struct pageset *missing, uint64_t *count, uint64_t start, uint64_t npages, bool on)
{
	for (uint64_t i = 0; i < npages; i++)
		if (pageset_has(missing, start + i * PAGE) != on)
			*count += on ? 1 : -1ull;
	pageset_set(missing, start, npages, on);
}

uint64_t late_run(const struct pageset *missing, uint64_t src, uint64_t npages, uint64_t *from)
{
	uint64_t i = 0, n = 0;

	while (i < npages && !pageset_has(missing, src + i * PAGE))
		i++;
	*from = src + i * PAGE;
	while (i + n < npages && pageset_has(missing, *from + n * PAGE))
		n++;
	return n;
}

static void insert(struct late_space *s, size_t at, const struct late_seg *seg)
{
	if (s->nsegs == s->cap) {
		s->cap = s->cap ? s->cap * 2 : 16;
		s->segs = mem_grow(s->segs, s->cap, sizeof(*s->segs));
	}
	memmove(&s->segs[at + 1], &s->segs[at], (s->nsegs - at) * sizeof(*s->segs));
	s->segs[at] = *seg;
	s->nsegs++;
}

static void erase(struct late_space *s, size_t at)
{
	memmove(&s->segs[at], &s->segs[at + 1], (s->nsegs - at - 1) * sizeof(*s->segs));
	s->nsegs--;
}

/* The first segment that ends after addr. */
static size_t first_after(const struct late_space *s, uint64_t addr)
{
	size_t lo = 0, hi = s->nsegs;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (s->segs[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

void late_space_add(struct late_space *s, uint64_t start, uint64_t end, uint64_t src,
		    uint32_t object)
{
	struct late_seg seg = { start, end, src, object };

	s->has_objects |= object != 0;
	if (start < end)
		insert(s, first_after(s, start), &seg);
}

void late_space_free(struct late_space *s)
{
	free(s->segs);
	pageset_free(&s->missing);
	*s = (struct late_space){ 0 };
}

const struct late_seg *late_space_find(const struct late_space *s, uint64_t addr)
{
	size_t i = first_after(s, addr);

	return i < s->nsegs && s->segs[i].start <= addr ? &s->segs[i] : NULL;
}

static void forget(struct late_space *s, const struct late_seg *seg, uint64_t start, uint64_t end)
{
	if (!seg->object)
		late_mark(&s->missing, &s->nmissing, seg->src + (start - seg->start),
			  (end - start) / PAGE, false);
}

void late_space_clear(struct late_space *s, uint64_t start, uint64_t end)
{
	for (size_t i = first_after(s, start); i < s->nsegs && s->segs[i].start < end; i++) {
		const struct late_seg *g = &s->segs[i];

		forget(s, g, g->start > start ? g->start : start, g->end < end ? g->end : end);
	}
}

/* Takes [start, end) out of the segments; those pages may still be missing. */
static void cut_segs(struct late_space *s, uint64_t start, uint64_t end)
{
	for (size_t i = first_after(s, start); i < s->nsegs && s->segs[i].start < end;) {
		struct late_seg *g = &s->segs[i];
		struct late_seg tail = { end, g->end, g->src + (end - g->start), g->object };

		if (g->start < start && g->end > end) {
			g->end = start;
			insert(s, i + 1, &tail);
			return;
		}
		if (g->start < start) {
			g->end = start;
			i++;
		} else if (g->end > end) {
			*g = tail;
			return;
		} else {
			erase(s, i);
		}
	}
}

void late_space_cut(struct late_space *s, uint64_t start, uint64_t end)
{
	late_space_clear(s, start, end);
	cut_segs(s, start, end);
}

void late_space_move(struct late_space *s, uint64_t from, uint64_t to, uint64_t len)
{
	struct late_seg *moved = NULL;
	size_t n = 0;

	for (size_t i = first_after(s, from); i < s->nsegs && s->segs[i].start < from + len; i++) {
		const struct late_seg *g = &s->segs[i];
		uint64_t start = g->start > from ? g->start : from;
		uint64_t end = g->end < from + len ? g->end : from + len;

		moved = mem_grow(moved, n + 1, sizeof(*moved));
		moved[n++] = (struct late_seg){ start - from + to, end - from + to,
						g->src + (start - g->start), g->object };
	}
	cut_segs(s, from, from + len);
	late_space_cut(s, to, to + len);
	for (size_t i = 0; i < n; i++)
		late_space_add(s, moved[i].start, moved[i].end, moved[i].src, moved[i].object);
	free(moved);
}

void late_space_double(struct late_space *s, uint64_t from, uint64_t to)
{
	const struct late_seg *g = late_space_find(s, from);
	size_t next = first_after(s, to);
	uint64_t end;

	if (!g || !g->object)
		return;
	/* How long it is the event does not tell: as far as nothing else is known to be. */
	end = to + (g->end - from);
	if (next < s->nsegs && s->segs[next].start < end)
		end = s->segs[next].start;
	if (to < end)
		late_space_add(s, to, end, g->src + (from - g->start), g->object);
}

void late_space_fork(struct late_space *s, const struct late_space *from)
{
	*s = *from;
	s->cap = s->nsegs;
	s->segs = mem_grow(NULL, s->nsegs + 1, sizeof(*s->segs));
	memcpy(s->segs, from->segs, s->nsegs * sizeof(*s->segs));
	s->missing.c = mem_grow(NULL, s->missing.cap + 1, sizeof(*s->missing.c));
	memcpy(s->missing.c, from->missing.c, s->missing.cap * sizeof(*s->missing.c));
}

uint64_t late_space_place(struct late_space *s, uint32_t object, uint64_t src, uint64_t npages,
			  uint64_t *at)
{
	/* Pages come in order, so that it is most often the same segment again. */
	for (size_t k = 0; k < s->nsegs; k++) {
		size_t i = (s->hint + k) % s->nsegs;
		const struct late_seg *g = &s->segs[i];
		uint64_t left;

		if (g->object != object || src < g->src || src - g->src >= g->end - g->start)
			continue;
		s->hint = i;
		*at = g->start + (src - g->src);
		left = (g->end - *at) / PAGE;
		return left < npages ? left : npages;
	}
	return 0;
}
