/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of huge pages: MAP_HUGETLB, memfds with MFD_HUGETLB, System V segments with
 * SHM_HUGETLB. An area's `flags` hold MAP_HUGETLB and the page size as mmap(2) takes them,
 * a shared object has it in huge_shift; pages travel as 4 KiB ones like all others.
 *
 * Differences. The kernel hides what was written unless userfaultfd watches it, which it
 * does for pages of 2 MiB only (PAGEMAP_SCAN, fs/proc/task_mmu.c); so private pages are
 * always compared by content too, and a byte written does not send 2 MiB. A read through a
 * mapping takes a page from the host's pool: objects are read with pread(2) and written
 * through a mapping that reserves nothing, after fallocate(2) has said whether there is a
 * page, because the kernel kills who touches one that is not there. The tasks' own mappings
 * reserve what they reserved at the source, so that a lack shows in the first round.
 */
#include "runtime/checkpoint/mem_huge.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define HUGE_SHIFT 26 /* MAP_HUGE_SHIFT, MFD_HUGE_SHIFT, SHM_HUGE_SHIFT */
#define WATCHED	   (2ul << 20)
#define BATCH	   256ul

uint64_t huge_bytes(const struct vma *v)
{
	return v->flags & MAP_HUGETLB ? 1ull << (v->flags >> HUGE_SHIFT & 63) : 0;
}

void huge_mark(struct vma *v, uint64_t page_bytes)
{
	if (v->kind != VMA_SHARED && (!v->path || strcmp(v->path, "/anon_hugepage (deleted)") != 0))
		return; /* a file of a mounted hugetlbfs */
	if (!page_bytes || page_bytes & (page_bytes - 1))
		return;
	v->flags |= MAP_HUGETLB | (uint32_t)__builtin_ctzll(page_bytes) << HUGE_SHIFT;
	if (v->kind == VMA_SHARED)
		return;
	if (v->flags & MAP_SHARED) {
		v->kind = VMA_SHARED;
	} else {
		v->kind = VMA_ANON;
		v->flags |= MAP_ANONYMOUS;
		v->pgoff = 0;
	}
}

uint32_t huge_shift_of(int fd)
{
	struct statfs f;

	if (fstatfs(fd, &f) < 0 || f.f_type != HUGETLBFS_MAGIC || f.f_bsize <= 0)
		return 0;
	return (uint32_t)__builtin_ctzll((unsigned long long)f.f_bsize);
}

/* --- source ---------------------------------------------------------------------------- */
/* What the destination has, of one area: a hash a page, 0 for nothing. */
struct huge_area {
	struct vma as; /* without its path */
	uint64_t *hash;
};
#define HASH_ZERO 1ull

static bool is_private(const struct vma *v)
{
	return huge_bytes(v) && !(v->flags & MAP_SHARED);
}

bool huge_is_watched(const struct task *t, const struct vma *v)
{
	return t->tracker && t->tracker->ops == &tracker_uffd && huge_bytes(v) == WATCHED;
}

static void forget(struct huge_area *a, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(a[i].hash);
	free(a);
}

void huge_free(struct task *t)
{
	forget(t->huge, t->nhuge);
	t->huge = NULL;
	t->nhuge = 0;
}

/* As the destination sees it when it compares layouts. */
static bool is_kept(const struct vma *a, const struct vma *b)
{
	return a->kind == b->kind && a->flags == b->flags && a->shared_id == b->shared_id &&
	       (a->kind == VMA_ANON || (a->dev == b->dev && a->ino == b->ino &&
					a->pgoff - a->start == b->pgoff - b->start));
}

void huge_keep(struct task *t)
{
	struct huge_area *old = t->huge;
	size_t nold = t->nhuge;
	uint64_t vdso = 0;

	t->huge = NULL;
	t->nhuge = 0;
	if (!t->has_huge)
		return;
	for (size_t i = 0; i < t->vmas.n; i++)
		if (t->vmas.v[i].kind == VMA_VDSO || t->vmas.v[i].kind == VMA_VVAR ||
		    t->vmas.v[i].kind == VMA_VVAR_VCLOCK)
			vdso = vdso * 31 + t->vmas.v[i].start;
	/* Another program: the destination begins anew with an empty memory. */
	if (vdso != t->huge_vdso) {
		forget(old, nold);
		old = NULL;
		nold = 0;
	}
	t->huge_vdso = vdso;
	for (size_t i = 0; i < t->vmas.n; i++) {
		const struct vma *v = &t->vmas.v[i];
		struct huge_area *a;

		if (!is_private(v))
			continue;
		t->huge = mem_grow(t->huge, t->nhuge + 1, sizeof(*t->huge));
		a = &t->huge[t->nhuge++];
		*a = (struct huge_area){ *v, mem_zalloc((v->end - v->start) / PAGE * 8) };
		a->as.path = NULL;
		for (size_t k = 0; k < nold; k++) {
			const struct vma *o = &old[k].as;
			uint64_t from = o->start > v->start ? o->start : v->start;
			uint64_t to = o->end < v->end ? o->end : v->end;

			if (from < to && is_kept(o, v))
				memcpy(a->hash + (from - v->start) / PAGE,
				       old[k].hash + (from - o->start) / PAGE,
				       (to - from) / PAGE * 8);
		}
	}
	forget(old, nold);
}

static struct huge_area *area_of(const struct task *t, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < t->nhuge; i++)
		if (start >= t->huge[i].as.start && end <= t->huge[i].as.end)
			return &t->huge[i];
	return NULL;
}

/*
 * A page that was dropped (MADV_DONTNEED) leaves its write protection behind, as a marker,
 * and one that is read into being there is protected again: not written, though it is zero
 * now. So the first page of each huge one that was not zero when it was sent is looked at:
 * unwritten, it is as it was, or zero.
 */
void huge_doubt(struct task *t, const struct page_found *run)
{
	const struct huge_area *a = area_of(t, run->start, run->end);
	uint64_t huge = a ? huge_bytes(&a->as) : 0, at = run->start, end;
	uint8_t page[PAGE];

	for (; a && at < run->end; at = end) {
		const uint64_t *h = a->hash + (at - a->as.start) / PAGE;
		struct page_found again = { at, at, run->what };
		uint64_t n, i = 0;

		end = at - at % huge + huge;
		end = end < run->end ? end : run->end;
		n = (end - at) / PAGE;
		while (i < n && h[i] <= HASH_ZERO)
			i++;
		/* One that is not there, and cannot be had either. */
		if (i < n && task_mem_read(t, at + i * PAGE, page, PAGE) < 0)
			continue;
		pageset_set(&t->here, at, n, true);
		again.end = end;
		if (!h[0] || (i < n && page_is_zero(page, PAGE)))
			buf_add(&t->runs, &again, sizeof(again));
	}
}

/* Sends those of n pages that are new to the destination. */
static int compare(struct dump *d, struct task *t, uint64_t start, uint64_t n, const uint8_t *data,
		   uint64_t *have, struct error *err)
{
	uint64_t run = 0; /* pages that differ, up to i */
	bool run_zero = false;
	int r = 0;

	for (uint64_t i = 0; i <= n && r == 0; i++) {
		bool differs = false, zero = false;

		if (i < n) {
			uint64_t h = HASH_ZERO;

			zero = page_is_zero(data + i * PAGE, PAGE);
			if (!zero)
				h = page_hash(data + i * PAGE);
			differs = h != have[i];
			have[i] = h;
		}
		if (run && (!differs || zero != run_zero)) {
			r = dump_private_run(d, t, start + (i - run) * PAGE, run,
					     run_zero ? FRAME_ZERO : 0,
					     run_zero ? NULL : data + (i - run) * PAGE, err);
			run = 0;
		}
		run += differs;
		run_zero = zero;
	}
	return r;
}

int huge_send(struct dump *d, struct task *t, uint64_t start, uint64_t end, struct error *err)
{
	struct huge_area *a = area_of(t, start, end);
	int r = 0;

	if (!a)
		return error_set(err, EINVAL, "huge pages at %#llx of process %d are of no area",
				 (unsigned long long)start, t->vpid);
	for (; start < end && r == 0; start += BATCH * PAGE) {
		uint64_t n = (end - start) / PAGE;

		n = n < BATCH ? n : BATCH;
		if (task_mem_read(t, start, d->page_buf, n * PAGE) == 0)
			r = compare(d, t, start, n, d->page_buf,
				    a->hash + (start - a->as.start) / PAGE, err);
		else if (d->final)
			r = error_set(err, EFAULT, "huge page %#llx of process %d cannot be read",
				      (unsigned long long)start, t->vpid);
		/* Else it was unmapped meanwhile: the next round sees it. */
	}
	return r;
}

void huge_hash_object(int fd, uint64_t *now, size_t npages)
{
	uint8_t *buf = malloc(BATCH * PAGE);

	for (size_t at = 0, n; buf && at < npages; at += n) {
		ssize_t got;

		n = npages - at < BATCH ? npages - at : BATCH;
		got = pread(fd, buf, n * PAGE, (off_t)(at * PAGE));
		for (size_t i = 0; got == (ssize_t)(n * PAGE) && i < n; i++)
			now[at + i] =
				page_is_zero(buf + i * PAGE, PAGE) ? 0 : page_hash(buf + i * PAGE);
	}
	free(buf);
}

/* --- destination ------------------------------------------------------------------------- */
uint32_t huge_prot(const struct vma *v)
{
	/* Pages of this kind cannot be written past their protection, as a debugger does. */
	return is_private(v) ? v->prot | PROT_READ | PROT_WRITE : v->prot;
}

int huge_protect(struct task *t, const struct vma *v, struct error *err)
{
	long n = 0;

	if (is_private(v) && v->prot != huge_prot(v))
		n = remote_syscall(t, SYS_mprotect, v->start, v->end - v->start, v->prot, 0, 0, 0);
	return n < 0 ? error_sys(err, (int)-n, "protecting huge pages at %#llx in process %d",
				 (unsigned long long)v->start, t->vpid)
		     : 0;
}

static uint64_t pool(uint32_t shift, const char *what)
{
	CLEANUP_FREE char *path = str_format("/sys/kernel/mm/hugepages/hugepages-%llukB/%s",
					     (1ull << shift) >> 10, what);
	CLEANUP_FREE char *text = NULL;

	return file_read(path, 64, &text, NULL, NULL) == 0 ? strtoull(text, NULL, 10) : 0;
}

int huge_lacks(int code, uint32_t shift, uint64_t bytes, const char *what, struct error *err)
{
	uint64_t unused = pool(shift, "free_hugepages"), kept = pool(shift, "resv_hugepages");

	return error_set(err, code,
			 "%s needs %llu huge pages of %llu KiB, and %llu are free here: give this "
			 "host more (vm.nr_hugepages)",
			 what, (unsigned long long)(bytes >> shift), (1ull << shift) >> 10,
			 (unsigned long long)(unused > kept ? unused - kept : 0));
}

int huge_lacks_private(struct task *t, const struct vma *v, uint64_t start, uint64_t end,
		       struct error *err)
{
	CLEANUP_FREE char *what =
		str_format("process %d, at %#llx,", t->vpid, (unsigned long long)start);

	return huge_lacks(ENOMEM, v->flags >> HUGE_SHIFT & 63, end - start, what, err);
}

static int not_written(struct task *t, const struct vma *v, uint64_t at, int code,
		       struct error *err)
{
	at -= at % huge_bytes(v);
	/* Of process_vm_writev(2), mmap(2), and /proc/PID/mem. */
	if (code == -EFAULT || code == -ENOMEM || code == -EIO)
		return huge_lacks_private(t, v, at, at + huge_bytes(v), err);
	return error_sys(err, -code, "writing huge pages at %#llx in process %d",
			 (unsigned long long)at, t->vpid);
}

/* Whole huge pages go; of others, and of those that are received again, the content does. */
static int clear(struct task *t, const struct vma *v, const struct page_run *run, bool drop,
		 struct error *err)
{
	static const uint8_t zeros[16 * PAGE];
	uint64_t huge = huge_bytes(v), end = run->start + run->npages * PAGE, n;

	if (drop && run->start % huge == 0 && end % huge == 0 &&
	    remote_syscall(t, SYS_madvise, run->start, end - run->start, MADV_DONTNEED, 0, 0, 0) ==
		    0)
		return 0;
	for (uint64_t at = run->start; at < end; at += n) {
		uint64_t first = at - at % huge;
		int r;

		n = end - at < sizeof(zeros) ? end - at : sizeof(zeros);
		n = n < first + huge - at ? n : first + huge - at;
		/* Fresh ones are zero, once they are there at all. */
		if (!pageset_any(&t->got, at, n / PAGE)) {
			if (drop || pageset_any(&t->got, first, huge / PAGE))
				continue;
			n = PAGE;
		}
		r = task_mem_write(t, at, zeros, n);
		if (r < 0)
			return not_written(t, v, at, r, err);
		pageset_set(&t->got, at, n / PAGE, true);
	}
	return 0;
}

int huge_pages(struct task *t, const struct vma *v, const struct page_run *run, uint16_t flags,
	       const void *data, struct error *err)
{
	uint64_t len = run->npages * PAGE;
	int r;

	if (run->start < v->start || len > v->end - run->start)
		return error_set(err, EBADMSG, "pages outside of an area of process %d", t->vpid);
	if (flags) {
		r = clear(t, v, run, flags & FRAME_DROP, err);
	} else {
		r = task_mem_write(t, run->start, data, len);
		if (r < 0)
			return not_written(t, v, run->start, r, err);
	}
	if (r == 0)
		pageset_set(&t->got, run->start, run->npages, !(flags & FRAME_DROP));
	return r;
}

void huge_shared_unmap(struct shared *s, uint64_t new_size)
{
	uint64_t huge = 1ull << s->huge_shift;

	if (s->map && s->map_len)
		munmap(s->map, s->map_len);
	s->map = NULL;
	/* What was cut off is gone. */
	for (uint64_t at = new_size; at < s->map_len; at += huge)
		pageset_set(&s->filled, at, 1, false);
	s->map_len = 0;
}

int huge_shared_pages(struct shared *s, const struct page_run *run, uint16_t flags,
		      const void *data, struct error *err)
{
	uint64_t huge = 1ull << s->huge_shift, end = run->start + run->npages * PAGE;

	if (!s->map) {
		s->map = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			      s->fd, 0);
		s->map_len = s->size;
	}
	if (s->map == MAP_FAILED) {
		s->map = NULL;
		return error_sys(err, errno, "mapping huge pages of %s", s->name);
	}
	for (uint64_t at = run->start, n; at < end; at += n) {
		uint64_t first = at - at % huge;

		n = first + huge - at < end - at ? first + huge - at : end - at;
		if (flags && !pageset_has(&s->filled, first))
			continue;
		if (fallocate(s->fd, 0, (off_t)first, (off_t)huge) < 0)
			return errno == ENOSPC || errno == ENOMEM
				       ? huge_lacks(ENOMEM, s->huge_shift, huge, "shared memory",
						    err)
				       : error_sys(err, errno, "filling huge pages of %s", s->name);
		pageset_set(&s->filled, first, 1, true);
		if (flags)
			memset(s->map + at, 0, n);
		else
			memcpy(s->map + at, (const uint8_t *)data + (at - run->start), n);
	}
	return 0;
}
