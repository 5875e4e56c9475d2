/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy at the destination, before the commit: which pages are missing, a userfaultfd in
 * each process that may come upon one, and the registration of its areas when all else is
 * built. postcopy_dest.c does the rest.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/postcopy_dest.h"
#include "runtime/checkpoint/track.h"

#define FEATURES                                                                                   \
	(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |          \
	 UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_MISSING_SHMEM)

struct late_key *late_key(struct late_dest *l, uint32_t space, uint32_t id)
{
	for (size_t i = 0; i < l->nkeys; i++)
		if (l->keys[i].space == space && l->keys[i].id == id)
			return &l->keys[i];
	l->keys = mem_grow(l->keys, l->nkeys + 1, sizeof(*l->keys));
	l->keys[l->nkeys] = (struct late_key){ .space = space, .id = id };
	return &l->keys[l->nkeys++];
}

struct late_mm *late_mm_new(struct late_dest *l, int uffd)
{
	struct late_mm *m = mem_zalloc(sizeof(*m));

	m->uffd = uffd;
	m->number = ++l->numbers;
	l->mms = mem_grow(l->mms, l->nmms + 1, sizeof(struct late_mm *));
	l->mms[l->nmms++] = m;
	return m;
}

static struct late_mm *mm_of(struct late_dest *l, uint32_t vpid)
{
	for (size_t i = 0; i < l->nmms; i++)
		if (l->mms[i]->space.vpid == vpid)
			return l->mms[i];
	return NULL;
}

/* In the task, whose it is; kernel accesses are served too, which takes a privilege that
 * the stub still has, or the device. */
static int make_uffd(struct task *t, struct error *err)
{
	struct uffdio_api api = { .api = UFFD_API, .features = FEATURES };
	long num = remote_syscall(t, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK, 0, 0, 0, 0, 0);
	int fd, code;

	if (num == -EPERM) {
		CLEANUP_CLOSE int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
		int in = dev < 0 ? -errno : task_send_fd(t, dev, NULL);

		if (in >= 0) {
			num = remote_syscall(t, SYS_ioctl, (unsigned long)in, 0xAA00 /* NEW */,
					     O_CLOEXEC | O_NONBLOCK, 0, 0, 0);
			remote_syscall(t, SYS_close, (unsigned long)in, 0, 0, 0, 0, 0);
		}
	}
	if (num < 0)
		return error_sys(err, (int)-num, "a userfaultfd in process %d", t->vpid);
	fd = (int)syscall(SYS_pidfd_getfd, t->pidfd, (int)num, 0);
	code = errno;
	remote_syscall(t, SYS_close, (unsigned long)num, 0, 0, 0, 0, 0);
	if (fd < 0)
		return error_sys(err, code, "the userfaultfd of process %d", t->vpid);
	if (ioctl(fd, UFFDIO_API, &api) < 0) {
		code = errno;
		close(fd);
		return error_sys(err, code, "userfaultfd with events of forks and unmaps");
	}
	return fd;
}

static int make_mm(struct late_dest *l, struct task *t, struct error *err)
{
	int fd;

	if (mm_of(l, (uint32_t)t->vpid))
		return 0;
	fd = make_uffd(t, err);
	if (fd < 0)
		return fd;
	late_mm_new(l, fd)->space.vpid = (uint32_t)t->vpid;
	return 0;
}

static bool maps(const struct vma *v, uint32_t object)
{
	return v->kind == VMA_SHARED && (v->flags & MAP_SHARED) && v->shared_id == object;
}

/* Missing pages of shared memory: a hole, for whoever has it mapped. */
static int late_object(struct restore *r, const struct page_run *run, struct error *err)
{
	struct shared *s = shareds_by_id(&r->shared, run->id);
	struct late_key *k;

	if (!s || s->fd < 0 || run->start > s->size ||
	    run->npages * PAGE > (s->size + PAGE - 1) / PAGE * PAGE - run->start)
		return error_set(err, EBADMSG, "late pages outside of shared memory %u", run->id);
	if (fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)run->start,
		      (off_t)(run->npages * PAGE)) < 0)
		return error_sys(err, errno, "clearing shared memory %s", s->name);
	for (size_t i = 0; i < r->tasks.n; i++) {
		struct task *t = r->tasks.t[i];
		bool mapped = false;
		int e;

		for (size_t n = 0; n < t->vmas.n && !mapped; n++)
			mapped = maps(&t->vmas.v[n], run->id);
		e = mapped ? make_mm(r->late, t, err) : 0;
		if (e < 0)
			return e;
	}
	k = late_key(r->late, SPACE_SHARED, run->id);
	late_mark(&k->missing, &k->nmissing, run->start, run->npages, true);
	pageset_set(&s->late, run->start, run->npages, true);
	return 0;
}

int late_receive(struct restore *r, const struct frame *f, struct error *err)
{
	struct page_run run;
	struct late_dest *l;
	struct task *t;
	int e;

	if (f->len != sizeof(run))
		return error_set(err, EBADMSG, "a damaged frame of late pages");
	memcpy(&run, f->data, sizeof(run));
	if (!r->final || run.start % PAGE || !run.npages || run.npages > (1ull << 35))
		return error_set(err, EBADMSG, "a damaged frame of late pages");
	if (!r->late) {
		l = r->late = mem_zalloc(sizeof(*l));
		l->r = r;
		l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		l->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		pthread_mutex_init(&l->lock, NULL);
		if (l->wake < 0 || l->ended < 0)
			return error_sys(err, errno, "making an event descriptor");
	}
	if (run.space == SPACE_SHARED)
		return late_object(r, &run, err);
	t = tasks_by_vpid(&r->tasks, (pid_t)run.id);
	if (!t)
		return error_set(err, EBADMSG, "late pages of an unknown process %u", run.id);
	for (uint64_t at = run.start; at < run.start + run.npages * PAGE;) {
		const struct vma *v = vmas_find(&t->vmas, at);

		if (!v || v->kind != VMA_ANON || (v->flags & MAP_SHARED))
			return error_set(err, EBADMSG,
					 "late pages outside of the memory of process %d", t->vpid);
		at = v->end;
	}
	e = make_mm(r->late, t, err);
	if (e < 0)
		return e;
	pageset_set(&t->late, run.start, run.npages, true);
	pageset_set(&t->got, run.start, run.npages, false);
	return 0;
}

bool late_missing(const struct restore *r, uint32_t space, uint32_t id, uint64_t start)
{
	const struct task *t;
	const struct shared *s;

	if (!r->late)
		return false;
	if (space == SPACE_SHARED) {
		s = shareds_by_id(&r->shared, id);
		return s && pageset_has(&s->late, start);
	}
	t = tasks_by_vpid(&r->tasks, (pid_t)id);
	return t && pageset_has(&t->late, start);
}

void late_expect(struct restore *r, uint32_t space, uint32_t id, uint64_t start, uint64_t hash)
{
	struct late_dest *l = r->late;

	if (l->nexpected % 1024 == 0)
		l->expected = mem_grow(l->expected, l->nexpected + 1024, sizeof(*l->expected));
	l->expected[l->nexpected++] = (struct expected){ space, id, start, hash };
}

struct stale {
	struct task *t;
	struct iovec *runs;
	size_t n, cap;
};

/* Pages that are there although their content is still to come. */
static int found_stale(void *ctx, uint64_t start, uint64_t end, int what)
{
	struct stale *s = ctx;
	uint64_t from, n;

	for (; !(what & PAGES_GUARD) && start < end; start = from + n * PAGE) {
		n = late_run(&s->t->late, start, (end - start) / PAGE, &from);
		if (!n)
			break;
		if (s->n == s->cap) {
			s->cap = s->cap ? s->cap * 2 : 64;
			s->runs = mem_grow(s->runs, s->cap, sizeof(*s->runs));
		}
		s->runs[s->n++] = (struct iovec){ (void *)(uintptr_t)from, n * PAGE };
	}
	return 0;
}

/* Many at a time where the kernel can (6.13), else one by one. */
static int drop_stale(struct stale *s, struct error *err)
{
	const size_t most = REMOTE_SCRATCH / sizeof(struct iovec);
	struct task *t = s->t;
	long pidfd = remote_syscall(t, SYS_pidfd_open, (unsigned long)t->vpid, 0, 0, 0, 0, 0);
	unsigned long at = remote_scratch(t);
	long r = 0;

	for (size_t i = 0, n; i < s->n && r >= 0; i += n) {
		size_t bytes = 0;

		n = s->n - i < most ? s->n - i : most;
		for (size_t k = 0; k < n; k++)
			bytes += s->runs[i + k].iov_len;
		if (pidfd >= 0 && n > 1 && at &&
		    remote_write(t, at, s->runs + i, n * sizeof(struct iovec)) == 0 &&
		    remote_syscall(t, SYS_process_madvise, (unsigned long)pidfd, at, n,
				   MADV_DONTNEED, 0, 0) == (long)bytes)
			continue;
		for (size_t k = 0; k < n && r >= 0; k++)
			r = remote_syscall(t, SYS_madvise, (unsigned long)s->runs[i + k].iov_base,
					   s->runs[i + k].iov_len, MADV_DONTNEED, 0, 0, 0);
	}
	if (pidfd >= 0)
		remote_syscall(t, SYS_close, (unsigned long)pidfd, 0, 0, 0, 0, 0);
	return r < 0 ? error_sys(err, (int)-r, "dropping old pages of process %d", t->vpid) : 0;
}

static int register_area(struct late_mm *m, const struct task *t, const struct vma *v,
			 struct error *err)
{
	struct uffdio_register reg = { .range = { v->start, v->end - v->start },
				       .mode = UFFDIO_REGISTER_MODE_MISSING };

	if (ioctl(m->uffd, UFFDIO_REGISTER, &reg) < 0)
		return error_sys(err, errno, "watching %#llx of process %d for missing pages",
				 (unsigned long long)v->start, t->vpid);
	if (v->kind == VMA_SHARED)
		late_space_add(&m->space, v->start, v->end, v->pgoff, v->shared_id);
	else
		late_space_add(&m->space, v->start, v->end, v->start, 0);
	return 0;
}

static int register_task(struct late_dest *l, struct task *t, struct error *err)
{
	struct late_mm *m = mm_of(l, (uint32_t)t->vpid);
	struct stale stale = { .t = t };
	int e = 0;

	if (!m)
		return 0;
	if (t->pagemap_fd < 0) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/pagemap", t->pid);
		t->pagemap_fd = open(path, O_RDONLY | O_CLOEXEC);
		if (t->pagemap_fd < 0)
			return error_sys(err, errno, "opening %s", path);
	}
	for (size_t i = 0; i < t->vmas.n && e == 0; i++) {
		const struct vma *v = &t->vmas.v[i];
		uint64_t from;

		for (size_t k = 0; k < l->nkeys && e == 0; k++)
			if (l->keys[k].space == SPACE_SHARED && maps(v, l->keys[k].id))
				e = register_area(m, t, v, err);
		if (v->kind != VMA_ANON ||
		    !late_run(&t->late, v->start, (v->end - v->start) / PAGE, &from))
			continue;
		stale.n = 0;
		e = pages_scan(t, v->start, v->end, false, found_stale, &stale);
		if (e < 0)
			e = error_sys(err, -e, "looking for old pages of process %d", t->vpid);
		else if (stale.n)
			e = drop_stale(&stale, err);
		if (e == 0)
			e = register_area(m, t, v, err);
	}
	free(stale.runs);
	for (size_t i = 0; i < t->late.cap; i++) {
		const struct chunk *c = &t->late.c[i];

		for (uint64_t b = 0; c->addr != ~0ull && b < 512; b++)
			if (c->bits[b / 64] >> (b % 64) & 1)
				late_mark(&m->space.missing, &m->space.nmissing, c->addr + b * PAGE,
					  1, true);
	}
	return e;
}

int late_register(struct restore *r, struct error *err)
{
	int e = 0;

	for (size_t i = 0; r->late && i < r->tasks.n && e == 0; i++)
		if (!r->tasks.t[i]->zombie)
			e = register_task(r->late, r->tasks.t[i], err);
	return e;
}
