/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty tracking for kernels before 6.7: soft-dirty bits
 * (Documentation/admin-guide/mm/soft-dirty.rst, CONFIG_MEM_SOFT_DIRTY) of /proc/PID/pagemap,
 * cleared for a whole process by a write to /proc/PID/clear_refs. Looking and clearing are
 * two steps, so the process stands still for both.
 *
 * The bit alone does not tell that another page stands at an address than before: mremap(2)
 * moves whole page tables with the bits they have, samepage merging and fork make page
 * table entries without one. Therefore what stood at each address (page frame or swap slot)
 * is remembered, 8 bytes a page: a page is unchanged only where the same frame stands at
 * the same address and nobody wrote to it. What is merely moved around in memory by the
 * kernel is sent once more for that; nothing is ever missed.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/track.h"

/* Bits of an entry (Documentation/admin-guide/mm/pagemap.rst). */
#define ENTRY_SOFT_DIRTY (1ull << 55)
#define ENTRY_GUARD	 (1ull << 58)
#define ENTRY_FILE	 (1ull << 61)
#define ENTRY_SWAPPED	 (1ull << 62)
#define ENTRY_PRESENT	 (1ull << 63)
#define ENTRY_FRAME	 ((1ull << 55) - 1)
#define ENTRY_WHO	 (ENTRY_FRAME | ENTRY_FILE | ENTRY_SWAPPED | ENTRY_PRESENT)

#define CHUNK_PAGES (CHUNK_BYTES / PAGE)

/* What stood where at the last scan, 2 MiB at a time; open addressing, addr ~0: empty. */
struct frames {
	uint64_t addr;
	uint64_t *who; /* CHUNK_PAGES entries */
};
struct memory {
	struct frames *f;
	size_t n, cap;
	struct vmas now; /* the areas as they are while the task is stopped; n 0: not read */
};

static struct frames *frames_slot(const struct memory *m, uint64_t addr)
{
	size_t i = (size_t)((addr / CHUNK_BYTES * 0x9e3779b97f4a7c15ull) >> 20) & (m->cap - 1);

	while (m->f[i].addr != ~0ull && m->f[i].addr != addr)
		i = (i + 1) & (m->cap - 1);
	return &m->f[i];
}

static void memory_grow(struct memory *m)
{
	struct memory old = *m;

	m->cap = old.cap ? old.cap * 2 : 64;
	m->f = mem_grow(NULL, m->cap, sizeof(*m->f));
	for (size_t i = 0; i < m->cap; i++)
		m->f[i].addr = ~0ull;
	for (size_t i = 0; i < old.cap; i++)
		if (old.f[i].addr != ~0ull)
			*frames_slot(m, old.f[i].addr) = old.f[i];
	free(old.f);
}

/* The chunk at addr (a multiple of CHUNK_BYTES). NULL: none, and not to be made. */
static uint64_t *memory_at(struct memory *m, uint64_t addr, bool make)
{
	struct frames *f;

	if (!m->cap && !make)
		return NULL;
	if (make && m->n * 2 >= m->cap)
		memory_grow(m);
	f = frames_slot(m, addr);
	if (f->addr == ~0ull) {
		if (!make)
			return NULL;
		*f = (struct frames){ addr, mem_zalloc(CHUNK_PAGES * sizeof(uint64_t)) };
		m->n++;
	}
	return f->who;
}

struct scan {
	struct memory *m; /* NULL: everything counts as written */
	bool again;
	bool forget; /* this area is not what the map said: it counts as written next time */
	track_fn *fn;
	void *ctx;
	/* The run in hand; what 0: none. */
	uint64_t start, end;
	int what;
};

static int flush(struct scan *s)
{
	int r = s->what ? s->fn(s->ctx, s->start, s->end, s->what) : 0;

	s->what = 0;
	return r;
}

static int add(struct scan *s, uint64_t addr, int what)
{
	int r = 0;

	if (s->what == what && s->end == addr) {
		s->end += PAGE;
		return 0;
	}
	r = flush(s);
	s->start = addr;
	s->end = addr + PAGE;
	s->what = what;
	return r;
}

static int entries(struct scan *s, uint64_t addr, const uint64_t *e, size_t n)
{
	uint64_t chunk = addr - addr % CHUNK_BYTES;
	uint64_t *who = s->m ? memory_at(s->m, chunk, s->again) : NULL;
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++, addr += PAGE) {
		size_t at = (addr - chunk) / PAGE;
		bool here = e[i] & (ENTRY_PRESENT | ENTRY_SWAPPED) && !(e[i] & ENTRY_GUARD);
		uint64_t now = here ? e[i] & ENTRY_WHO : 0;
		bool written = !who || s->forget || who[at] != now || (e[i] & ENTRY_SOFT_DIRTY);

		if (who && s->again)
			who[at] = s->forget ? 0 : now;
		if (here && (written || !s->again))
			r = add(s, addr,
				(e[i] & ENTRY_FILE ? PAGES_FILE : PAGES_ANON) |
					(written ? PAGES_WRITTEN : 0));
	}
	return r;
}

static int area(struct task *t, struct scan *s, uint64_t start, uint64_t end)
{
	uint64_t buf[CHUNK_PAGES];
	int r = 0;

	while (start < end && r == 0) {
		uint64_t stop = (start / CHUNK_BYTES + 1) * CHUNK_BYTES;
		size_t n = ((stop < end ? stop : end) - start) / PAGE;
		ssize_t got = pread(t->pagemap_fd, buf, n * sizeof(*buf),
				    (off_t)(start / PAGE * sizeof(*buf)));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got < (ssize_t)sizeof(*buf))
			return -ESRCH; /* its memory is gone */
		n = (size_t)got / sizeof(*buf);
		r = entries(s, start, buf, n);
		start += n * PAGE;
	}
	return r;
}

/*
 * The map that the destination is told was read while the task ran. What stands where
 * another area stood, the destination maps anew in the next round, and needs whole.
 */
static bool is_still(const struct memory *m, const struct vma *v)
{
	const struct vma *now = vmas_find(&m->now, v->start);

	return now && now->start == v->start && now->end == v->end && now->prot == v->prot &&
	       now->kind == v->kind && now->dev == v->dev && now->ino == v->ino &&
	       now->pgoff == v->pgoff && !((now->flags ^ v->flags) & MAP_SHARED);
}

static void read_now(struct task *t, struct memory *m)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/maps", t->pid);
	CLEANUP_FREE char *text = NULL;

	if (!m->now.n && file_read(path, 64 << 20, &text, NULL, NULL) == 0)
		task_parse_vmas(t, text, false, &m->now);
}

/* The page tables of areas only: the address space is far too wide to be read. */
static int read_areas(struct task *t, struct scan *s, uint64_t start, uint64_t end)
{
	int r = 0;

	for (size_t i = vmas_from(&t->vmas, start); i < t->vmas.n && r == 0; i++) {
		const struct vma *v = &t->vmas.v[i];
		uint64_t from = v->start > start ? v->start : start;
		uint64_t to = v->end < end ? v->end : end;

		if (from >= to || v->end > SPACE_END)
			break;
		s->forget = s->m && s->again && !is_still(s->m, v);
		r = area(t, s, from, to);
	}
	return r < 0 ? r : flush(s);
}

int pages_read(struct task *t, uint64_t start, uint64_t end, track_fn *fn, void *ctx)
{
	struct scan s = { .fn = fn, .ctx = ctx };

	return read_areas(t, &s, start, end);
}

static int softdirty_scan(struct task *t, uint64_t start, uint64_t end, bool again, track_fn *fn,
			  void *ctx)
{
	struct scan s = { .m = t->tracker->priv, .again = again, .fn = fn, .ctx = ctx };
	int r;

	if (again)
		read_now(t, s.m);
	r = read_areas(t, &s, start, end);
	return r == 0 && !again ? guards_scan(t, start, end, fn, ctx) : r;
}

static int clear(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/clear_refs", pid);
	return file_write_str(path, "4", NULL);
}

static int softdirty_scanned(struct task *t)
{
	struct memory *m = t->tracker->priv;

	vmas_free(&m->now);
	return clear(t->pid);
}

static int softdirty_attach(struct task *t)
{
	t->tracker = mem_zalloc(sizeof(*t->tracker));
	*t->tracker = (struct tracker){ &tracker_softdirty, -1, mem_zalloc(sizeof(struct memory)) };
	return 0;
}

static void softdirty_detach(struct task *t)
{
	struct memory *m = t->tracker->priv;

	for (size_t i = 0; i < m->cap; i++)
		if (m->f[i].addr != ~0ull)
			free(m->f[i].who);
	free(m->f);
	vmas_free(&m->now);
	free(m);
}

static uint64_t own_entry(const void *p)
{
	CLEANUP_CLOSE int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t e = 0;

	if (fd < 0 ||
	    pread(fd, &e, sizeof(e), (off_t)((uintptr_t)p / PAGE * sizeof(e))) != sizeof(e))
		return 0;
	return e;
}

/* Tried out on this process: frames must be shown (CAP_SYS_ADMIN), bits go and come. */
static bool softdirty_available(void)
{
	volatile uint8_t *p =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t before, after;
	bool cleared;

	if (p == MAP_FAILED)
		return false;
	*p = 1;
	cleared = clear(getpid()) == 0;
	before = own_entry((const void *)(uintptr_t)p);
	*p = 2;
	after = own_entry((const void *)(uintptr_t)p);
	munmap((void *)(uintptr_t)p, PAGE);
	return cleared && !(before & ENTRY_SOFT_DIRTY) && (after & ENTRY_SOFT_DIRTY) &&
	       (after & ENTRY_PRESENT) && (after & ENTRY_FRAME);
}

const struct tracker_ops tracker_softdirty = {
	.name = "softdirty",
	.available = softdirty_available,
	.stops = true,
	.attach = softdirty_attach,
	.scan = softdirty_scan,
	.scanned = softdirty_scanned,
	.detach = softdirty_detach,
};
