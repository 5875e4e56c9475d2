/* SPDX-License-Identifier: Apache-2.0 */
/* The list of a task's memory areas, from /proc/PID/smaps, and sets of pages. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/mem_huge.h"
#include "runtime/checkpoint/remote_guard.h"
#include "runtime/checkpoint/track.h"

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

/* Text of /proc in hand at once. */
#define PIECE (256ul << 10)

void vmas_free(struct vmas *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i].path);
	free(l->v);
	*l = (struct vmas){ 0 };
}

struct vma *vmas_add(struct vmas *l, const struct vma *v)
{
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 64;
		l->v = mem_grow(l->v, l->cap, sizeof(*l->v));
	}
	l->v[l->n] = *v;
	return &l->v[l->n++];
}

size_t vmas_from(const struct vmas *l, uint64_t addr)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (addr < l->v[mid].end)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

const struct vma *vmas_find(const struct vmas *l, uint64_t addr)
{
	size_t i = vmas_from(l, addr);

	return i < l->n && l->v[i].start <= addr ? &l->v[i] : NULL;
}

bool vma_has_private_pages(const struct vma *v)
{
	return !(v->flags & MAP_SHARED) &&
	       (v->kind == VMA_ANON || v->kind == VMA_FILE || v->kind == VMA_SHARED) &&
	       !(v->advice & (ADVICE_DROPPABLE | ADVICE_IO));
}

void task_free(struct task *t)
{
	if (!t)
		return;
	guard_end_task(t);
	for (size_t i = 0; i < t->nthreads; i++)
		thread_detach(&t->threads[i]);
	if (t->tracker)
		tracker_detach(t);
	free(t->threads);
	free(t->status);
	free(t->stat);
	vmas_free(&t->vmas);
	pageset_free(&t->sent);
	pageset_free(&t->guarded);
	free(t->guards);
	buf_free(&t->runs);
	buf_free(&t->guard_runs);
	buf_free(&t->policies);
	pageset_free(&t->here);
	pageset_free(&t->late);
	free(t->watched);
	huge_free(t);
	if (t->pidfd >= 0)
		close(t->pidfd);
	if (t->mem_fd >= 0)
		close(t->mem_fd);
	if (t->pagemap_fd >= 0)
		close(t->pagemap_fd);
	if (t->sock >= 0)
		close(t->sock);
	if (t->state)
		ck__task_state__free_unpacked(t->state, NULL);
	if (t->fds)
		ck__fd_table__free_unpacked(t->fds, NULL);
	free(t);
}

/* --- page sets ------------------------------------------------------------------------- */
void pageset_free(struct pageset *s)
{
	free(s->c);
	*s = (struct pageset){ 0 };
}

static struct chunk *chunk_slot(const struct pageset *s, uint64_t addr)
{
	size_t i = (size_t)((addr / CHUNK_BYTES * 0x9e3779b97f4a7c15ull) >> 20) & (s->cap - 1);

	while (s->c[i].addr != NO_CHUNK && s->c[i].addr != addr)
		i = (i + 1) & (s->cap - 1);
	return &s->c[i];
}

bool pageset_has(const struct pageset *s, uint64_t addr)
{
	size_t bit = addr / PAGE % 512;
	struct chunk *c;

	if (!s->cap)
		return false;
	c = chunk_slot(s, addr - addr % CHUNK_BYTES);
	return c->addr != NO_CHUNK && (c->bits[bit / 64] >> (bit % 64) & 1);
}

static void pageset_grow(struct pageset *s)
{
	struct pageset old = *s;

	s->cap = old.cap ? old.cap * 2 : 64;
	s->c = mem_grow(NULL, s->cap, sizeof(*s->c));
	for (size_t i = 0; i < s->cap; i++)
		s->c[i].addr = NO_CHUNK;
	for (size_t i = 0; i < old.cap; i++)
		if (old.c[i].addr != NO_CHUNK)
			*chunk_slot(s, old.c[i].addr) = old.c[i];
	free(old.c);
}

/* The chunk of an address, made if need be; NULL where it is not there and not wanted. */
static struct chunk *chunk_get(struct pageset *s, uint64_t addr, bool make)
{
	struct chunk *c;

	if (!s->cap && !make)
		return NULL;
	if (make && s->n * 2 >= s->cap)
		pageset_grow(s);
	c = chunk_slot(s, addr - addr % CHUNK_BYTES);
	if (c->addr == NO_CHUNK) {
		if (!make)
			return NULL;
		*c = (struct chunk){ .addr = addr - addr % CHUNK_BYTES };
		s->n++;
	}
	return c;
}

void pageset_set(struct pageset *s, uint64_t start, uint64_t npages, bool on)
{
	while (npages) {
		uint64_t bit = start / PAGE % 512, n = 512 - bit < npages ? 512 - bit : npages;
		struct chunk *c = chunk_get(s, start, on);

		start += n * PAGE;
		npages -= n;
		if (!c)
			continue;
		while (n) {
			uint64_t in = bit % 64, k = 64 - in < n ? 64 - in : n;
			uint64_t mask = (k == 64 ? ~0ull : (1ull << k) - 1) << in;

			if (on)
				c->bits[bit / 64] |= mask;
			else
				c->bits[bit / 64] &= ~mask;
			bit += k;
			n -= k;
		}
	}
}

const uint64_t *pageset_bits(const struct pageset *s, uint64_t addr)
{
	static const uint64_t none[8];
	const struct chunk *c = s->cap ? chunk_slot(s, addr) : NULL;

	return c && c->addr != NO_CHUNK ? c->bits : none;
}

void pageset_add(struct pageset *s, uint64_t addr, const uint64_t bits[8])
{
	uint64_t any = 0;
	struct chunk *c;

	for (int i = 0; i < 8; i++)
		any |= bits[i];
	if (!any)
		return;
	c = chunk_get(s, addr, true);
	for (int i = 0; i < 8; i++)
		c->bits[i] |= bits[i];
}

bool pageset_any(const struct pageset *s, uint64_t start, uint64_t npages)
{
	for (uint64_t i = 0; s->n && i < npages; i++)
		if (pageset_has(s, start + i * PAGE))
			return true;
	return false;
}

bool pageset_covers(const struct pageset *s, const struct chunk *c)
{
	static const struct chunk empty;
	const struct chunk *o = s->cap ? chunk_slot(s, c->addr) : &empty;
	uint64_t left = 0;

	for (int i = 0; i < 8; i++)
		left |= c->bits[i] & ~(o->addr == c->addr ? o->bits[i] : 0);
	return !left;
}

/* --- smaps ----------------------------------------------------------------------------- */
static const struct {
	char name[3];
	uint32_t advice;
} flag_names[] = {
	{ "lo", ADVICE_LOCKED },       { "dc", ADVICE_DONTFORK },   { "dd", ADVICE_DONTDUMP },
	{ "hg", ADVICE_HUGEPAGE },     { "nh", ADVICE_NOHUGEPAGE }, { "mg", ADVICE_MERGEABLE },
	{ "wf", ADVICE_WIPEONFORK },   { "rr", ADVICE_RANDOM },	    { "sr", ADVICE_SEQUENTIAL },
	{ "dp", ADVICE_DROPPABLE },    { "sl", ADVICE_SEALED },	    { "lf", ADVICE_LOCKONFAULT },
	{ "ht", ADVICE_HUGETLB },      { "io", ADVICE_IO },	    { "pf", ADVICE_IO },
	{ "ss", ADVICE_SHADOW_STACK }, { "um", ADVICE_UFFD },
};

static void parse_flags(struct vma *v, const char *p)
{
	for (; p[0] && p[0] != '\n' && p[1]; p += 3) {
		if (p[0] == 'g' && p[1] == 'd')
			v->flags |= MAP_GROWSDOWN;
		if (p[0] == 'n' && p[1] == 'r')
			v->flags |= MAP_NORESERVE;
		for (size_t i = 0; i < sizeof(flag_names) / sizeof(flag_names[0]); i++)
			if (p[0] == flag_names[i].name[0] && p[1] == flag_names[i].name[1])
				v->advice |= flag_names[i].advice;
		if (!p[2] || p[2] == '\n')
			break;
	}
	if (v->advice & ADVICE_DROPPABLE)
		v->flags = (v->flags & ~(unsigned)MAP_PRIVATE) | MAP_DROPPABLE;
}

static const char *const specials[][2] = {
	{ "[vdso]", "d" }, { "[vvar]", "v" }, { "[vvar_vclock]", "c" }, { "[vsyscall]", "s" }
};

static bool parse_head(char *line, struct vma *v)
{
	unsigned int major_no, minor_no;
	const char *perms;
	char *p;

	/* "start-end perms offset major:minor inode   path"; sscanf() takes ten times as long,
	 * and this runs in the blackout. */
	*v = (struct vma){ 0 };
	v->start = strtoull(line, &p, 16);
	if (*p != '-')
		return false;
	v->end = strtoull(p + 1, &p, 16);
	perms = p + 1;
	if (*p != ' ' || strlen(perms) < 5)
		return false;
	v->pgoff = strtoull(perms + 5, &p, 16);
	major_no = (unsigned int)strtoul(p, &p, 16);
	if (*p != ':')
		return false;
	minor_no = (unsigned int)strtoul(p + 1, &p, 16);
	v->ino = strtoul(p, &p, 10);
	while (*p == ' ')
		p++;
	v->prot = (perms[0] == 'r' ? PROT_READ : 0) | (perms[1] == 'w' ? PROT_WRITE : 0) |
		  (perms[2] == 'x' ? PROT_EXEC : 0);
	v->flags = perms[3] == 's' ? MAP_SHARED : MAP_PRIVATE;
	v->dev = makedev(major_no, minor_no);
	v->path = *p ? str_dup(p) : NULL;
	/* The first System V segment of a namespace has inode 0. */
	v->kind = v->ino || v->dev ? VMA_FILE : VMA_ANON;
	if (v->kind == VMA_ANON) {
		v->flags |= MAP_ANONYMOUS;
		v->pgoff = 0;
	}
	for (size_t i = 0; v->path && i < 4; i++)
		if (strcmp(v->path, specials[i][0]) == 0)
			v->kind = specials[i][1][0] == 'd'   ? VMA_VDSO
				  : specials[i][1][0] == 'v' ? VMA_VVAR
				  : specials[i][1][0] == 'c' ? VMA_VVAR_VCLOCK
							     : VMA_VSYSCALL;
	/* Rings of io_setup(2), see mem_aio.c. */
	if (v->kind == VMA_FILE && v->path && str_starts(v->path, "/[aio]"))
		v->kind = VMA_AIO;
	/* Memory of the kernel's shmem file system: shared objects, see mem_shared.c. */
	if (v->kind == VMA_FILE && v->path &&
	    (str_starts(v->path, "/memfd:") || str_starts(v->path, "/SYSV") ||
	     (strcmp(v->path, "/dev/zero (deleted)") == 0 && (v->flags & MAP_SHARED))))
		v->kind = VMA_SHARED;
	return true;
}

static int reopen(int *fd, pid_t pid, const char *what, int flags)
{
	char path[64];

	if (*fd >= 0)
		close(*fd);
	snprintf(path, sizeof(path), "/proc/%d/%s", pid, what);
	*fd = open(path, flags | O_CLOEXEC);
	return *fd < 0 ? -errno : 0;
}

/* What /proc/PID/maps does not tell is as it was in the area that was there before. */
static bool inherit_flags(struct vma *v, const struct vmas *old)
{
	const struct vma *o = vmas_find(old, v->start);

	/* Elsewhere than before: after an execve() nothing is as it was. */
	if (v->kind == VMA_VDSO && (!o || o->kind != VMA_VDSO || o->start != v->start))
		return false;
	if (!o || o->end <= v->start)
		o = vmas_find(old, v->end - 1);
	if (!o || o->dev != v->dev || o->ino != v->ino ||
	    (o->flags & (MAP_SHARED | MAP_PRIVATE) & v->flags) == 0)
		return v->kind == VMA_VDSO || v->kind == VMA_VVAR || v->kind == VMA_VVAR_VCLOCK ||
		       v->kind == VMA_VSYSCALL;
	v->flags = o->flags;
	v->advice = o->advice;
	if (huge_bytes(o))
		huge_mark(v, huge_bytes(o));
	return true;
}

/* Leaves out our own scratch area, of which parts may have been merged with a neighbour. */
static struct vma *add_area(struct task *t, struct vmas *l, struct vma *v)
{
	uint64_t start = t->scratch, end = t->scratch + REMOTE_AREA;

	if (t->scratch && v->start < end && start < v->end) {
		free(v->path);
		v->path = NULL;
		if (v->start < start) {
			struct vma left = *v;

			left.end = start;
			vmas_add(l, &left);
		}
		if (v->end <= end)
			return NULL;
		v->start = end;
	}
	return vmas_add(l, v);
}

int task_parse_vmas(struct task *t, char *text, bool quick, struct vmas *l)
{
	struct vma v, *cur = NULL;
	uint64_t page_bytes = 0;
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		/* Heads begin with lower-case hex digits, the others with a capital. */
		if (line[0] >= 'A' && line[0] <= 'Z') {
			if (strncmp(line, "KernelPageSize:", 15) == 0)
				page_bytes = strtoull(line + 15, NULL, 10) << 10;
			if (!cur || strncmp(line, "VmFlags: ", 9) != 0)
				continue;
			parse_flags(cur, line + 9);
			if (cur->advice & ADVICE_HUGETLB)
				huge_mark(cur, page_bytes);
			t->has_huge |= huge_bytes(cur) != 0;
			continue;
		}
		cur = NULL;
		if (!parse_head(line, &v))
			continue;
		cur = add_area(t, l, &v);
		if (quick && cur && !inherit_flags(cur, &t->vmas))
			return -EAGAIN;
		/* After an execve() it is somewhere else. */
		if (v.kind == VMA_VDSO && (t->syscall_ip < v.start || t->syscall_ip >= v.end))
			t->syscall_ip = syscall_find(t, v.start, v.end);
	}
	return 0;
}

/* Where the last area of a piece of text begins, whose lines may not all be there yet. */
static size_t last_area(const char *text, size_t len)
{
	while (len > 0) {
		const char *nl = memrchr(text, '\n', len - 1);
		size_t at = nl ? (size_t)(nl - text) + 1 : 0;

		if (text[at] < 'A' || text[at] > 'Z')
			return at;
		len = at;
	}
	return 0;
}

/* Reads and parses piece by piece: smaps takes a kilobyte for each area. */
static int parse_file(struct task *t, const char *path, bool quick, struct vmas *l)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE char *text = mem_grow(NULL, PIECE, 1);
	size_t len = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t n = read(fd, text + len, PIECE - len - 1);
		size_t whole;
		char first;
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		len += (size_t)n;
		if (n && len < PIECE / 2)
			continue;
		whole = n ? last_area(text, len) : len;
		if (n && !whole)
			return -EMSGSIZE; /* no area is as long as that */
		first = text[whole];
		text[whole] = '\0';
		r = task_parse_vmas(t, text, quick, l);
		if (r < 0 || !n)
			return r;
		text[whole] = first;
		memmove(text, text + whole, len - whole);
		len -= whole;
	}
}

static uint32_t specials_in(const struct vmas *l)
{
	uint32_t kinds = 0;

	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].kind == VMA_VDSO || l->v[i].kind == VMA_VVAR ||
		    l->v[i].kind == VMA_VVAR_VCLOCK)
			kinds |= 1u << l->v[i].kind;
	return kinds;
}

bool task_is_starting(const struct task *t)
{
	static uint32_t own;

	if (!own) {
		struct task self = { .pid = getpid(), .mem_fd = -1, .pagemap_fd = -1 };
		CLEANUP_FREE char *text = NULL;
		struct vmas l = { 0 };

		if (file_read("/proc/self/maps", 64 << 20, &text, NULL, NULL) == 0)
			task_parse_vmas(&self, text, false, &l);
		own = specials_in(&l);
		vmas_free(&l);
	}
	return own & ~specials_in(&t->vmas);
}

int task_read_vmas(struct task *t, bool quick, struct error *err)
{
	struct vmas l = { 0 };
	char path[64];
	int r;

	/* An execve() since the last round has left these on the old memory. */
	r = reopen(&t->mem_fd, t->pid, "mem", O_RDWR);
	if (r == 0)
		r = reopen(&t->pagemap_fd, t->pid, "pagemap", O_RDONLY);
	for (int full = !quick || !t->vmas.n; r == 0; full++) {
		/* smaps walks all page tables: 0.1 to 1 ms a process. */
		snprintf(path, sizeof(path), "/proc/%d/%s", t->pid, full ? "smaps" : "maps");
		r = parse_file(t, path, !full, &l);
		if (r != -EAGAIN)
			break;
		vmas_free(&l);
		r = 0;
	}
	vmas_free(&t->vmas);
	t->vmas = l;
	if (r < 0)
		return error_sys(err, r == -ENOENT ? ESRCH : -r,
				 "reading the memory map of process %d", t->vpid);
	if (!l.n)
		return error_set(err, ESRCH, "process %d has no memory any more", t->vpid);
	return 0;
}
