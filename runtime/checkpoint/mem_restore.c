/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destination: a stub's memory becomes the target's. The first layout of a task clears
 * the stub's own memory and moves vdso and vvar; each further layout is compared with
 * the one before, and only what differs is mapped, unmapped or protected anew. Pages are
 * written straight into the task.
 *
 * Files that cannot be opened yet (their volume is not mounted) are mapped as anonymous
 * memory for the time being; in the end they are mapped over it and the pages that were
 * received are written again.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/check.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/mem_huge.h"
#include "runtime/checkpoint/mem_policy.h"
#include "runtime/checkpoint/remote_list.h"
#include "runtime/checkpoint/yield.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#define MADV_GUARD_INSTALL_ 102
#define MREMAP_MAYMOVE_	    1
#define MREMAP_FIXED_	    2

static bool is_special(const struct vma *v)
{
	return v->kind == VMA_VDSO || v->kind == VMA_VVAR || v->kind == VMA_VVAR_VCLOCK ||
	       v->kind == VMA_VSYSCALL;
}

/* The part of one mapping that survives: same thing behind it, at the same offset. */
static bool same_thing(const struct vma *a, const struct vma *b)
{
	if (a->kind != b->kind || a->flags != b->flags || a->shared_id != b->shared_id)
		return false;
	if (a->kind == VMA_ANON)
		return true;
	return a->dev == b->dev && a->ino == b->ino && a->pgoff - a->start == b->pgoff - b->start;
}

static int fail(struct task *t, long code, struct error *err, const char *what, uint64_t start)
{
	return error_sys(err, (int)-code, "%s at %#llx in process %d", what,
			 (unsigned long long)start, t->vpid);
}

/* --- the stub's own memory --------------------------------------------------------------- */
static int move_special(struct task *t, struct vma *from, uint64_t to, struct error *err)
{
	long r;

	if (from->start == to)
		return 0;
	r = remote_syscall(t, SYS_mremap, from->start, from->end - from->start,
			   from->end - from->start, MREMAP_MAYMOVE_ | MREMAP_FIXED_, to, 0);
	if (r < 0)
		return fail(t, r, err, "moving vdso", from->start);
	if (from->kind == VMA_VDSO)
		t->syscall_ip = t->syscall_ip - from->start + to;
	from->end = to + (from->end - from->start);
	from->start = to;
	return 0;
}

static const struct vma *special_of(const Ck__Layout *l, uint32_t kind, struct vma *out)
{
	for (size_t i = 0; i < l->n_vmas; i++)
		if (l->vmas[i]->kind == kind) {
			*out = (struct vma){ .start = l->vmas[i]->start, .end = l->vmas[i]->end };
			return out;
		}
	return NULL;
}

/* A free place of `len` bytes that neither the stub nor the target uses. */
static uint64_t free_place(const struct task *t, const Ck__Layout *l, uint64_t len)
{
	for (uint64_t at = 0x40000; at < 0x7fff00000000; at += len + (1 << 20)) {
		bool taken = false;

		for (size_t i = 0; i < t->vmas.n && !taken; i++)
			taken = t->vmas.v[i].start < at + len && at < t->vmas.v[i].end;
		for (size_t i = 0; i < l->n_vmas && !taken; i++)
			taken = l->vmas[i]->start < at + len && at < l->vmas[i]->end;
		if (!taken)
			return at;
	}
	return 0;
}

/* Unmaps everything but vdso and vvar. */
static int clear(struct task *t, struct error *err)
{
	uint64_t at = 0x10000, end = 0x7ffffffff000;
	long n = 0;

	for (size_t i = 0; i <= t->vmas.n && n == 0; i++) {
		bool last = i == t->vmas.n;

		if (!last && (!is_special(&t->vmas.v[i]) || t->vmas.v[i].kind == VMA_VSYSCALL))
			continue;
		if (!last && t->vmas.v[i].start > at)
			n = remote_syscall(t, SYS_munmap, at, t->vmas.v[i].start - at, 0, 0, 0, 0);
		else if (last && end > at)
			n = remote_syscall(t, SYS_munmap, at, end - at, 0, 0, 0, 0);
		if (!last)
			at = t->vmas.v[i].end;
	}
	t->scratch = t->code_for = 0;
	return n < 0 ? fail(t, n, err, "clearing memory", at) : 0;
}

/*
 * Clears the stub. The kernel would write to rseq area and robust list of the old memory
 * at the next preemption or exit: both are unregistered first.
 */
static int transform(struct task *t, const Ck__Layout *l, struct error *err)
{
	static const uint32_t kinds[] = { VMA_VVAR, VMA_VVAR_VCLOCK, VMA_VDSO };
	struct __ptrace_rseq_configuration rs = { 0 };
	struct vmas keep = { 0 };
	struct vma want = { 0 };
	uint64_t temp;
	int r;

	r = task_read_vmas(t, false, err);
	if (r < 0)
		return r;
	if (!t->syscall_ip)
		return error_set(err, EOPNOTSUPP,
				 "no system call instruction in the vdso of the stub");
	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, t->pid, sizeof(rs), &rs) > 0 &&
	    rs.rseq_abi_pointer)
		remote_syscall(t, SYS_rseq, rs.rseq_abi_pointer, rs.rseq_abi_size, 1, rs.signature,
			       0, 0);
	remote_syscall(t, SYS_set_robust_list, 0, 24, 0, 0, 0, 0);
	remote_syscall(t, SYS_set_tid_address, 0, 0, 0, 0, 0, 0);
	for (size_t i = 0; i < t->vmas.n; i++) {
		struct vma *v = &t->vmas.v[i];

		if (v->kind != VMA_VSYSCALL && is_special(v) &&
		    (!special_of(l, v->kind, &want) || want.end - want.start != v->end - v->start))
			return error_set(
				err, EOPNOTSUPP,
				"the vdso of this kernel differs from the source's; run the "
				"same kernel on both hosts");
	}
	r = clear(t, err);
	if (r < 0)
		return r;
	/* First out of each other's way, then to the places where the target has them. */
	for (int pass = 0; pass < 2; pass++)
		for (size_t k = 0; k < 3; k++)
			for (size_t i = 0; i < t->vmas.n; i++) {
				struct vma *v = &t->vmas.v[i];

				if (v->kind != kinds[k])
					continue;
				if (!special_of(l, v->kind, &want))
					continue;
				temp = pass ? want.start : free_place(t, l, v->end - v->start);
				r = move_special(t, v, temp, err);
				if (r < 0)
					return r;
				if (pass) {
					struct vma copy = *v;

					copy.path = NULL;
					vmas_add(&keep, &copy);
				}
			}
	vmas_free(&t->vmas);
	t->vmas = keep;
	t->transformed = true;
	t->foreign = false;
	return 0;
}

/* --- mapping -------------------------------------------------------------------------------- */
/* Opens the file of a mapping inside the task; its number, or -errno. */
static long open_remote(struct task *t, const struct vma *v)
{
	unsigned long scratch = remote_scratch(t);
	bool write = (v->flags & MAP_SHARED) && (v->prot & PROT_WRITE);
	int r;

	if (!scratch || strlen(v->path) >= REMOTE_SCRATCH)
		return -ENOMEM;
	r = remote_write(t, scratch, v->path, strlen(v->path) + 1);
	if (r < 0)
		return r;
	return remote_syscall(t, SYS_openat, (unsigned long)AT_FDCWD, scratch,
			      (write ? O_RDWR : O_RDONLY) | O_CLOEXEC, 0, 0, 0);
}

static int map(struct restore *r, struct task *t, struct vma *v, uint64_t start, uint64_t end,
	       struct error *err)
{
	uint32_t flags = v->flags | MAP_FIXED;
	uint64_t off = v->pgoff + (start - v->start);
	uint32_t prot = huge_prot(v);
	long num = -1, n;
	bool write;

	v->pending = false;
	if (v->kind == VMA_AIO) /* plain memory until the context is made: mem_aio.c */
		flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	if (v->kind == VMA_FILE) {
		num = open_remote(t, v);
		if (num < 0 && r->storage_ready && r->final)
			return error_sys(err, (int)-num,
					 "process %d has %s mapped, which cannot be "
					 "opened here",
					 t->vpid, v->path);
		if (num < 0) {
			v->pending = true;
			flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
		}
	} else if (v->kind == VMA_SHARED) {
		struct shared *s = shareds_by_id(&r->shared, v->shared_id);
		int fd;

		if (!s)
			return error_set(err, EBADMSG, "shared memory %u is unknown", v->shared_id);
		if (s->kind == SHARED_SYSV) {
			n = remote_syscall(t, SYS_shmat, (unsigned long)s->shmid, start,
					   (prot & PROT_WRITE ? 0 : 010000 /* SHM_RDONLY */) |
						   (prot & PROT_EXEC ? 0100000 : 0),
					   0, 0, 0);
			return n < 0 ? fail(t, n, err, "attaching SysV memory", start) : 0;
		}
		if (s->kind == SHARED_ANON && s->fd < 0)
			return error_set(err, EBADMSG, "shared memory %u was not made", s->id);
		/* Anonymous memory can always be made writable again. */
		write = (prot & PROT_WRITE) || s->kind == SHARED_ANON;
		fd = restore_shared_fd(r, s->id,
				       write && (v->flags & MAP_SHARED) ? O_RDWR : O_RDONLY, err);
		if (fd < 0)
			return fd;
		num = task_send_fd(t, fd, err);
		close(fd);
		if (num < 0)
			return (int)num;
	}
	if (v->kind == VMA_ANON)
		off = 0;
	n = remote_syscall(t, SYS_mmap, start, end - start, prot, flags,
			   num >= 0 ? (unsigned long)num : -1ul, num >= 0 ? off : 0);
	if (num >= 0)
		remote_syscall(t, SYS_close, (unsigned long)num, 0, 0, 0, 0, 0);
	if (n == -ENOMEM && huge_bytes(v))
		return huge_lacks_private(t, v, start, end, err);
	if (n < 0)
		return fail(t, n, err, "mapping memory", start);
	return 0;
}

static struct vma from_message(const Ck__Vma *m)
{
	return (struct vma){ .start = m->start,
			     .end = m->end,
			     .pgoff = m->pgoff,
			     .prot = m->prot,
			     .flags = m->flags,
			     .kind = m->kind,
			     .advice = m->advice,
			     .shared_id = m->shared_id,
			     .dev = m->dev,
			     .ino = m->ino,
			     .file_size = m->file_size,
			     .path = m->path && m->path[0] ? str_dup(m->path) : NULL };
}

/* What of the old layout the new one does not keep. Both are in the order of addresses. */
static int unmap_old(struct remote_list *calls, const struct vmas *old, const struct vmas *new_,
		     struct error *err)
{
	size_t j = 0;

	for (size_t i = 0; i < old->n; i++) {
		const struct vma *o = &old->v[i];
		uint64_t at = o->start;

		if (is_special(o))
			continue;
		while (at < o->end) {
			uint64_t stop = o->end;
			bool keep = false;
			int r;

			while (j < new_->n && new_->v[j].end <= at)
				j++;
			if (j < new_->n && new_->v[j].start > at) {
				stop = new_->v[j].start < stop ? new_->v[j].start : stop;
			} else if (j < new_->n) {
				keep = same_thing(o, &new_->v[j]);
				stop = new_->v[j].end < stop ? new_->v[j].end : stop;
			}
			if (!keep) {
				r = remote_list_add(calls, "unmapping memory", SYS_munmap, at,
						    stop - at, 0, 0, err);
				if (r < 0)
					return r;
			}
			at = stop;
		}
	}
	return remote_list_end(calls, err);
}

static int map_new(struct restore *r, struct remote_list *calls, const struct vmas *old,
		   struct vmas *new_, struct error *err)
{
	size_t j = 0;

	for (size_t i = 0; i < new_->n; i++) {
		struct vma *n = &new_->v[i];
		uint64_t at = n->start;
		int e = 0;

		if (is_special(n))
			continue;
		while (at < n->end) {
			uint64_t stop = n->end;
			const struct vma *o = NULL;

			while (j < old->n && old->v[j].end <= at)
				j++;
			if (j < old->n && old->v[j].start <= at) {
				o = &old->v[j];
				stop = o->end < stop ? o->end : stop;
			} else if (j < old->n && old->v[j].start < stop) {
				stop = old->v[j].start;
			}
			if (o && same_thing(o, n)) {
				n->pending |= o->pending;
				if (huge_prot(o) != huge_prot(n))
					e = remote_list_add(calls, "protecting memory",
							    SYS_mprotect, at, stop - at,
							    huge_prot(n), 0, err);
			} else if (n->kind == VMA_ANON && !huge_bytes(n)) {
				e = remote_list_add(calls, "mapping memory", SYS_mmap, at,
						    stop - at, n->prot, n->flags | MAP_FIXED, err);
			} else {
				bool pending = n->pending;

				e = map(r, calls->t, n, at, stop, err);
				n->pending |= pending;
			}
			if (e < 0)
				return e;
			at = stop;
		}
	}
	return remote_list_end(calls, err);
}

/* The scratch area must not lie where the target has memory. */
static void move_scratch(struct task *t, const struct vmas *l)
{
	for (size_t i = 0; t->scratch && i < l->n; i++)
		if (l->v[i].start < t->scratch + REMOTE_AREA && t->scratch < l->v[i].end) {
			remote_syscall(t, SYS_munmap, t->scratch, REMOTE_AREA, 0, 0, 0, 0);
			t->scratch = t->code_for = 0;
		}
}

static unsigned long place_scratch(struct task *t, const Ck__Layout *l)
{
	uint64_t at;

	if (t->scratch)
		return t->scratch;
	at = free_place(t, l, REMOTE_AREA);
	if (at && remote_syscall(t, SYS_mmap, at, REMOTE_AREA, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1ul, 0) == (long)at)
		t->scratch = at;
	return t->scratch;
}

/* An execve() on the source has given the process a memory of its own, vdso and all. */
static bool is_new_program(const struct task *t, const Ck__Layout *l)
{
	for (size_t i = 0; i < t->vmas.n; i++) {
		const struct vma *v = &t->vmas.v[i];
		struct vma want;

		if (is_special(v) && v->kind != VMA_VSYSCALL &&
		    (!special_of(l, v->kind, &want) || want.start != v->start))
			return true;
	}
	return false;
}

int restore_layout(struct restore *r, const Ck__Layout *l, struct error *err)
{
	struct task *t = tasks_by_vpid(&r->tasks, (pid_t)l->vpid);
	struct remote_list calls;
	struct vmas new_ = { 0 };
	int e;

	if (!t)
		return error_set(err, EBADMSG, "memory of an unknown process %u", l->vpid);
	e = 0;
	if (!t->transformed) {
		e = transform(t, l, err);
	} else if (t->foreign || is_new_program(t, l)) {
		/* A child of a process that is built already has its maker's memory. */
		e = clear(t, err);
		if (e == 0)
			e = transform(t, l, err);
		pageset_free(&t->got);
	}
	if (e < 0)
		return e;
	for (size_t i = 0; i < l->n_vmas; i++) {
		struct vma v = from_message(l->vmas[i]);

		t->has_huge |= huge_bytes(&v) != 0;
		vmas_add(&new_, &v);
	}
	move_scratch(t, &new_);
	if (!place_scratch(t, l)) {
		vmas_free(&new_);
		return error_set(err, ENOMEM, "no scratch memory in process %d", t->vpid);
	}
	remote_list_begin(&calls, t);
	e = unmap_old(&calls, &t->vmas, &new_, err);
	if (e == 0)
		e = map_new(r, &calls, &t->vmas, &new_, err);
	if (e == 0)
		policy_restore(t, l);
	vmas_free(&t->vmas);
	t->vmas = new_;
	free(t->guards);
	t->nguards = l->n_guards;
	t->guards = mem_grow(NULL, l->n_guards + 1, sizeof(*t->guards));
	for (size_t i = 0; i < l->n_guards; i++)
		t->guards[i] = l->guards[i];
	return e;
}

/* --- pages -------------------------------------------------------------------------- */
static int zero_pages(struct task *t, const struct page_run *run, struct error *err)
{
	static const uint8_t zeros[16 * PAGE];
	uint64_t end = run->start + run->npages * PAGE;

	for (uint64_t at = run->start; at < end;) {
		const struct vma *v = vmas_find(&t->vmas, at);
		uint64_t stop;
		long n;

		if (!v)
			return error_set(err, EBADMSG, "pages outside of the memory of process %d",
					 t->vpid);
		stop = v->end < end ? v->end : end;
		if (v->kind == VMA_ANON || v->pending) {
			n = remote_syscall(t, SYS_madvise, at, stop - at, MADV_DONTNEED, 0, 0, 0);
			if (n < 0 && n != -EINVAL)
				return fail(t, n, err, "clearing memory", at);
			if (n == 0) {
				at = stop;
				continue;
			}
		}
		for (; at < stop; at += n) {
			int r;

			n = stop - at < sizeof(zeros) ? (long)(stop - at) : (long)sizeof(zeros);
			r = task_mem_write(t, at, zeros, (size_t)n);
			if (r < 0)
				return fail(t, r, err, "writing memory", at);
		}
	}
	return 0;
}

static void note_got(struct restore *r, struct task *t, uint64_t start, uint64_t npages, bool on)
{
	pthread_mutex_lock(&r->pages_got);
	pageset_set(&t->got, start, npages, on);
	pthread_mutex_unlock(&r->pages_got);
}

static bool has_got(struct restore *r, struct task *t, uint64_t start, uint64_t npages)
{
	bool any;

	pthread_mutex_lock(&r->pages_got);
	any = pageset_any(&t->got, start, npages);
	pthread_mutex_unlock(&r->pages_got);
	return any;
}

/* Takes away what the source has no more. */
static void drop_pages(struct restore *r, struct task *t, const struct page_run *run)
{
	for (uint64_t at = run->start; at < run->start + run->npages * PAGE; at += PAGE) {
		/* In a layout that came since, the area may be gone already. */
		if (has_got(r, t, at, 1) && vmas_find(&t->vmas, at))
			remote_syscall(t, SYS_madvise, at, PAGE, MADV_DONTNEED, 0, 0, 0);
		note_got(r, t, at, 1, false);
	}
}

static int write_pages(struct restore *r, struct task *t, const struct page_run *run,
		       const void *data, struct error *err)
{
	int e;

	yield_progress(r->yield, run->npages * PAGE);
	e = task_mem_write(t, run->start, data, run->npages * PAGE);
	if (e < 0)
		return fail(t, e, err, "writing memory", run->start);
	note_got(r, t, run->start, run->npages, true);
	return 0;
}

int restore_pages_content(struct restore *r, const struct frame *f, struct error *err)
{
	struct page_run run;
	const struct vma *v;
	struct task *t;
	int e;

	e = check_pages(f, &run, err);
	if (e < 0)
		return e;
	t = tasks_by_vpid(&r->tasks, (pid_t)run.id);
	v = t && t->has_huge ? vmas_find(&t->vmas, run.start) : NULL;
	if (!t || f->flags || run.space != SPACE_PRIVATE || (v && huge_bytes(v)))
		return error_set(err, EBADMSG, "pages that do not belong here");
	return write_pages(r, t, &run, f->data + sizeof(run), err);
}

int restore_pages(struct restore *r, const struct frame *f, struct error *err)
{
	struct page_run run;
	const struct vma *v;
	struct task *t;
	int e;

	e = check_pages(f, &run, err);
	if (e < 0)
		return e;
	if (run.space == SPACE_SHARED)
		return restore_shared_pages(r, &run, f->flags, f->data + sizeof(run), err);
	t = tasks_by_vpid(&r->tasks, (pid_t)run.id);
	if (!t)
		return error_set(err, EBADMSG, "pages of an unknown process %u", run.id);
	v = t->has_huge ? vmas_find(&t->vmas, run.start) : NULL;
	if (v && huge_bytes(v))
		return huge_pages(t, v, &run, f->flags, f->data + sizeof(run), err);
	if (f->flags & FRAME_DROP) {
		drop_pages(r, t, &run);
		return 0;
	}
	if (!(f->flags & FRAME_ZERO))
		return write_pages(r, t, &run, f->data + sizeof(run), err);
	/* Fresh anonymous memory is zero as it is. */
	v = vmas_find(&t->vmas, run.start);
	if (v && v->kind == VMA_ANON && run.start + run.npages * PAGE <= v->end &&
	    !has_got(r, t, run.start, run.npages))
		return 0;
	e = zero_pages(t, &run, err);
	if (e == 0)
		note_got(r, t, run.start, run.npages, true);
	return e;
}

/* --- the end ------------------------------------------------------------------------ */
/* Maps a file that can be opened now over its stand-in; received pages go on top again. */
static int map_pending(struct restore *r, struct task *t, struct vma *v, struct error *err)
{
	uint64_t len = v->end - v->start;
	uint8_t *copy = mem_zalloc(PAGE);
	struct buf saved = { 0 };
	size_t n = 0;
	int e = 0;

	for (uint64_t at = v->start; e == 0 && at < v->end; at += PAGE) {
		if (!pageset_has(&t->got, at))
			continue;
		e = task_mem_read(t, at, copy, PAGE);
		buf_add(&saved, &at, sizeof(at));
		buf_add(&saved, copy, PAGE);
		n++;
	}
	free(copy);
	(void)len;
	if (e == 0)
		e = map(r, t, v, v->start, v->end, err);
	for (size_t i = 0; i < n && e == 0; i++) {
		uint64_t at;
		const char *p = saved.data + i * (PAGE + sizeof(at));

		memcpy(&at, p, sizeof(at));
		e = task_mem_write(t, at, p + sizeof(at), PAGE);
		if (e < 0)
			fail(t, e, err, "writing memory", at);
	}
	buf_free(&saved);
	return e;
}

int restore_pending_files(struct restore *r, struct task *t, struct error *err)
{
	for (size_t i = 0; i < t->vmas.n; i++)
		if (t->vmas.v[i].pending) {
			int e = map_pending(r, t, &t->vmas.v[i], err);

			if (e < 0)
				return e;
		}
	return 0;
}

static const struct {
	uint32_t advice;
	int madv;
} advices[] = {
	{ ADVICE_DONTFORK, MADV_DONTFORK },   { ADVICE_DONTDUMP, MADV_DONTDUMP },
	{ ADVICE_HUGEPAGE, MADV_HUGEPAGE },   { ADVICE_NOHUGEPAGE, MADV_NOHUGEPAGE },
	{ ADVICE_MERGEABLE, MADV_MERGEABLE }, { ADVICE_WIPEONFORK, MADV_WIPEONFORK },
	{ ADVICE_RANDOM, MADV_RANDOM },	      { ADVICE_SEQUENTIAL, MADV_SEQUENTIAL },
};

/* madvise(2) and mlock2(2) of one area. */
static int advise(struct remote_list *calls, const struct vma *v, struct error *err)
{
	uint64_t len = v->end - v->start;
	int r = 0;

	/* System V memory has DONTEXPAND set by itself; nothing to do for `dd`. */
	for (size_t a = 0; a < sizeof(advices) / sizeof(advices[0]) && r == 0; a++)
		if (v->advice & advices[a].advice)
			r = remote_list_add(calls, NULL, SYS_madvise, v->start, len,
					    (uint64_t)advices[a].madv, 0, err);
	if (r == 0 && (v->advice & ADVICE_LOCKED))
		r = remote_list_add(calls, "locking memory", SYS_mlock2, v->start, len,
				    v->advice & ADVICE_LOCKONFAULT ? 1 : 0, 0, err);
	return r;
}

int restore_memory_finish(struct restore *r, struct task *t, struct error *err)
{
	struct remote_list calls;
	int e = 0;

	(void)r;
	remote_list_begin(&calls, t);
	for (size_t i = 0; i < t->vmas.n && e == 0; i++) {
		const struct vma *v = &t->vmas.v[i];

		if (is_special(v) || (v->advice & ADVICE_DROPPABLE))
			continue;
		if (huge_bytes(v))
			e = huge_protect(t, v, err);
		if (e == 0)
			e = advise(&calls, v, err);
	}
	for (size_t i = 0; i + 1 < t->nguards && e == 0; i += 2)
		e = remote_list_add(&calls, "setting guard pages", SYS_madvise, t->guards[i],
				    t->guards[i + 1] - t->guards[i], MADV_GUARD_INSTALL_, 0, err);
	for (size_t i = 0; i < t->vmas.n && e == 0; i++)
		if (t->vmas.v[i].advice & ADVICE_SEALED)
			e = remote_list_add(&calls, "sealing memory", SYS_mseal, t->vmas.v[i].start,
					    t->vmas.v[i].end - t->vmas.v[i].start, 0, 0, err);
	return e == 0 ? remote_list_end(&calls, err) : e;
}
