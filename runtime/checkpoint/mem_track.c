/* SPDX-License-Identifier: Apache-2.0 */
/* Which dirty tracker is used, and looking at pages with it or without one. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/checkpoint/mem_huge.h"
#include "runtime/checkpoint/track.h"

/* The best first. */
static const struct tracker_ops *const trackers[] = { &tracker_uffd, &tracker_softdirty };
#define TRACKERS (sizeof(trackers) / sizeof(trackers[0]))

static const struct tracker_ops *chosen;
static bool has_chosen;

static bool available(size_t i)
{
	static int answer[TRACKERS]; /* 0: not asked yet */

	if (!answer[i])
		answer[i] = trackers[i]->available() ? 1 : -1;
	return answer[i] > 0;
}

int tracker_choose(const char *name, struct error *err)
{
	size_t i = 0;
	bool best;

	if (!name)
		name = "auto";
	best = strcmp(name, "auto") == 0;
	if (strcmp(name, "none") == 0) {
		i = TRACKERS;
	} else {
		while (i < TRACKERS &&
		       (best ? !available(i) : strcmp(trackers[i]->name, name) != 0))
			i++;
		if (i == TRACKERS && !best)
			return error_set(err, EINVAL,
					 "there is no dirty tracker %s; auto, uffd, softdirty and "
					 "none are known",
					 name);
		if (i < TRACKERS && !available(i))
			return error_set(err, EOPNOTSUPP,
					 "this host's kernel cannot do dirty tracking by %s; leave "
					 "the choice to ferry (auto)",
					 name);
	}
	chosen = i < TRACKERS ? trackers[i] : NULL;
	has_chosen = true;
	return 0;
}

const struct tracker_ops *tracker_chosen(void)
{
	if (!has_chosen)
		tracker_choose(NULL, NULL);
	return chosen;
}

void tracker_attach(struct task *t)
{
	const struct tracker_ops *ops = tracker_chosen();

	if (!t->tracker && ops)
		ops->attach(t);
}

void tracker_detach(struct task *t)
{
	if (!t->tracker)
		return;
	t->tracker->ops->detach(t);
	free(t->tracker);
	t->tracker = NULL;
}

int pages_scan(struct task *t, uint64_t start, uint64_t end, bool again, track_fn *fn, void *ctx)
{
	if (t->tracker)
		return t->tracker->ops->scan(t, start, end, again, fn, ctx);
	return pages_all(t, start, end, fn, ctx);
}

int pages_all(struct task *t, uint64_t start, uint64_t end, track_fn *fn, void *ctx)
{
	int r = pages_scan_plain(t, start, end, fn, ctx);

	return r == -ENOTTY ? pages_read(t, start, end, fn, ctx) : r;
}

bool space_leaves_aside(const struct task *t, const struct vma *v, int how)
{
	return (v->flags & MAP_SHARED) ||
	       (huge_bytes(v) && ((how & LOOK_BUT_HUGE) || !huge_is_watched(t, v)));
}

int space_scan(struct task *t, pages_fn *scan, int how, track_fn *fn, void *ctx)
{
	uint64_t at = SPACE_START;
	bool again = how & LOOK_AGAIN;
	int r = 0;

	for (size_t i = 0; i < t->vmas.n && r == 0; i++) {
		const struct vma *v = &t->vmas.v[i];

		if (!space_leaves_aside(t, v, how) || v->start < at || v->end > SPACE_END)
			continue;
		if (v->start > at)
			r = scan(t, at, v->start, again, fn, ctx);
		if (r == 0 && !(v->flags & MAP_SHARED) && (how & LOOK_HUGE))
			r = pages_all(t, v->start, v->end, fn, ctx);
		else if (r == 0 && (v->flags & MAP_SHARED) && (how & LOOK_GUARDS))
			r = guards_scan(t, v->start, v->end, fn, ctx);
		at = v->end;
	}
	return r < 0 ? r : scan(t, at, SPACE_END, again, fn, ctx);
}
