/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy at the destination: what is missing is registered with userfaultfd before the
 * tasks run; then one thread reads faults and events and asks the source, another one puts
 * in place what comes. One lock is held over each look at what is missing together with
 * the system call that acts on it, so that a page never lands in memory that the task has
 * given up meanwhile: the kernel refuses with EAGAIN from the moment when an munmap, fork
 * and the like begins until its event is read.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/process.h"
#include "runtime/checkpoint/postcopy.h"
#include "runtime/checkpoint/track.h"

#define FEATURES                                                                                   \
	(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |          \
	 UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_MISSING_SHMEM)
#define TOOK_STEP     (LATE_WINDOW / 8) /* bytes after which the source is told */
#define NO_MEMORY_TRY 10000		/* milliseconds to wait for the container's memory limit */

struct mm {
	int uffd;
	uint32_t number; /* at the guard */
	struct late_space space;
	bool dead; /* the process is gone, or has all its pages */
};

struct waiting { /* a thread waits for this page */
	uint32_t number, space, id;
	uint64_t src;
	int64_t since_ns;
};

/* --verify: what a late page must be. */
struct expected {
	uint32_t space, id;
	uint64_t src, hash;
};

struct late_dest {
	struct restore *r;
	pthread_mutex_t lock; /* of all that the two threads share */
	struct mm **mms;
	size_t nmms;
	uint32_t numbers;
	struct waiting *waits;
	size_t nwaits, waits_cap;
	struct key { /* a process or an object of the source */
		uint32_t space, id;
		struct pageset asked;
	} * keys;
	size_t nkeys;
	struct expected *expected;
	size_t nexpected;
	bool sorted;

	struct late_guard *guard;
	char *note;
	pthread_t faults, arrivals;
	bool begun;
	int wake, ended; /* eventfds: for the thread of faults; for the engine */
	atomic_uint_fast64_t took;
	atomic_bool complete, failed, over;
	int result;
	struct error err;
	int64_t begin_ns;
	uint32_t *latencies; /* microseconds */
	size_t nlatencies;
	struct late_stats stats;
	struct buf wants;
};

/* --- before the commit -------------------------------------------------------------------- */
static struct key *key_of(struct late_dest *l, uint32_t space, uint32_t id)
{
	for (size_t i = 0; i < l->nkeys; i++)
		if (l->keys[i].space == space && l->keys[i].id == id)
			return &l->keys[i];
	l->keys = mem_grow(l->keys, l->nkeys + 1, sizeof(*l->keys));
	l->keys[l->nkeys] = (struct key){ .space = space, .id = id };
	return &l->keys[l->nkeys++];
}

static struct mm *mm_new(struct late_dest *l, int uffd)
{
	struct mm *m = mem_zalloc(sizeof(*m));

	m->uffd = uffd;
	m->number = ++l->numbers;
	l->mms = mem_grow(l->mms, l->nmms + 1, sizeof(struct mm *));
	l->mms[l->nmms++] = m;
	return m;
}

static struct mm *mm_of(struct late_dest *l, uint32_t vpid)
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

int late_receive(struct restore *r, const struct frame *f, struct error *err)
{
	struct page_run run;
	struct late_dest *l;
	struct task *t;
	int fd;

	if (f->len != sizeof(run))
		return error_set(err, EBADMSG, "a damaged frame of late pages");
	memcpy(&run, f->data, sizeof(run));
	t = tasks_by_vpid(&r->tasks, (pid_t)run.id);
	if (run.space != SPACE_PRIVATE || !t || !r->final || run.start % PAGE || !run.npages ||
	    run.npages > (1ull << 35))
		return error_set(err, EBADMSG, "late pages of an unknown process %u", run.id);
	for (uint64_t at = run.start; at < run.start + run.npages * PAGE;) {
		const struct vma *v = vmas_find(&t->vmas, at);

		if (!v || v->kind != VMA_ANON || (v->flags & MAP_SHARED))
			return error_set(err, EBADMSG,
					 "late pages outside of the memory of process %d", t->vpid);
		at = v->end;
	}
	if (!r->late) {
		l = r->late = mem_zalloc(sizeof(*l));
		l->r = r;
		l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		l->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		pthread_mutex_init(&l->lock, NULL);
		if (l->wake < 0 || l->ended < 0)
			return error_sys(err, errno, "making an event descriptor");
	}
	if (!mm_of(r->late, run.id)) {
		fd = make_uffd(t, err);
		if (fd < 0)
			return fd;
		mm_new(r->late, fd)->space.vpid = run.id;
	}
	pageset_set(&t->late, run.start, run.npages, true);
	pageset_set(&t->got, run.start, run.npages, false);
	return 0;
}

bool late_missing(const struct restore *r, uint32_t space, uint32_t id, uint64_t start)
{
	const struct task *t = space == SPACE_PRIVATE ? tasks_by_vpid(&r->tasks, (pid_t)id) : NULL;

	return r->late && t && pageset_has(&t->late, start);
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

static int register_task(struct late_dest *l, struct task *t, struct error *err)
{
	struct mm *m = mm_of(l, (uint32_t)t->vpid);
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
		struct uffdio_register reg = { .range = { v->start, v->end - v->start },
					       .mode = UFFDIO_REGISTER_MODE_MISSING };
		uint64_t from;

		if (v->kind != VMA_ANON ||
		    !late_run(&t->late, v->start, (v->end - v->start) / PAGE, &from))
			continue;
		stale.n = 0;
		e = pages_scan(t, v->start, v->end, false, found_stale, &stale);
		if (e < 0)
			e = error_sys(err, -e, "looking for old pages of process %d", t->vpid);
		else if (stale.n)
			e = drop_stale(&stale, err);
		if (e < 0)
			break;
		if (ioctl(m->uffd, UFFDIO_REGISTER, &reg) < 0)
			e = error_sys(err, errno, "watching %#llx of process %d for missing pages",
				      (unsigned long long)v->start, t->vpid);
		late_space_add(&m->space, v->start, v->end, v->start, 0);
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

/* --- the thread of faults ------------------------------------------------------------- */
static void kick(struct late_dest *l)
{
	eventfd_write(l->wake, 1);
}

static void fault(struct late_dest *l, struct mm *m, uint64_t addr)
{
	const struct late_seg *g = late_space_find(&m->space, addr);
	uint64_t src = g ? g->src + (addr - g->start) : 0;
	struct page_run want = { SPACE_PRIVATE, m->space.vpid, src, 1 };
	struct pageset *asked;

	if (!g || !pageset_has(&m->space.missing, src)) {
		struct uffdio_zeropage z = { .range = { addr, PAGE } };

		l->stats.zeros++;
		/* EEXIST: somebody was faster. EAGAIN: the memory is changing, and the event
		 * comes next. In both cases the task tries again. */
		if (ioctl(m->uffd, UFFDIO_ZEROPAGE, &z) < 0) {
			struct uffdio_range w = { addr, PAGE };

			if (errno == ESRCH)
				m->dead = true;
			ioctl(m->uffd, UFFDIO_WAKE, &w);
		}
		return;
	}
	if (l->nwaits == l->waits_cap) {
		l->waits_cap = l->waits_cap ? l->waits_cap * 2 : 64;
		l->waits = mem_grow(l->waits, l->waits_cap, sizeof(*l->waits));
	}
	l->waits[l->nwaits++] =
		(struct waiting){ m->number, want.space, want.id, src, clock_mono_ns() };
	asked = &key_of(l, want.space, want.id)->asked;
	if (pageset_has(asked, src))
		return;
	pageset_set(asked, src, 1, true);
	buf_add(&l->wants, &want, sizeof(want));
}

static void forked(struct late_dest *l, struct mm *parent, int uffd)
{
	struct mm *m = mm_new(l, uffd);

	late_guard_hold(l->guard, m->number, uffd);
	late_space_fork(&m->space, &parent->space);
}

/* Who waits for a page that is given up, or lies elsewhere now, tries again. */
static void wake(const struct mm *m, uint64_t start, uint64_t end)
{
	struct uffdio_range w = { start, end - start };

	ioctl(m->uffd, UFFDIO_WAKE, &w);
}

static void read_events(struct late_dest *l, struct mm *m)
{
	struct uffd_msg msg[16];
	ssize_t n;

	while (!m->dead && (n = read(m->uffd, msg, sizeof(msg))) > 0) {
		for (size_t i = 0; i < (size_t)n / sizeof(msg[0]); i++) {
			const struct uffd_msg *e = &msg[i];

			switch (e->event) {
			case UFFD_EVENT_PAGEFAULT:
				fault(l, m, e->arg.pagefault.address & ~(PAGE - 1));
				break;
			case UFFD_EVENT_FORK:
				forked(l, m, (int)e->arg.fork.ufd);
				break;
			case UFFD_EVENT_REMAP:
				late_space_move(&m->space, e->arg.remap.from, e->arg.remap.to,
						e->arg.remap.len);
				wake(m, e->arg.remap.from, e->arg.remap.from + e->arg.remap.len);
				break;
			case UFFD_EVENT_REMOVE:
				late_space_clear(&m->space, e->arg.remove.start, e->arg.remove.end);
				wake(m, e->arg.remove.start, e->arg.remove.end);
				break;
			case UFFD_EVENT_UNMAP:
				late_space_cut(&m->space, e->arg.remove.start, e->arg.remove.end);
				wake(m, e->arg.remove.start, e->arg.remove.end);
				break;
			}
		}
	}
}

/* Processes that are gone or lack nothing are let go of; false: none is left. */
static bool drop_done(struct late_dest *l)
{
	size_t n = 0;

	for (size_t i = 0; i < l->nmms; i++) {
		struct mm *m = l->mms[i];

		if (!m->dead && m->space.nmissing && !l->failed) {
			l->mms[n++] = m;
			continue;
		}
		if (l->guard)
			late_guard_drop(l->guard, m->number);
		close(m->uffd); /* whoever waits goes on */
		late_space_free(&m->space);
		free(m);
	}
	l->nmms = n;
	return n > 0;
}

static int compare_latency(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void sum_up(struct late_dest *l)
{
	l->stats.ns = (uint64_t)(clock_mono_ns() - l->begin_ns);
	l->stats.faults = l->nlatencies;
	if (!l->nlatencies)
		return;
	qsort(l->latencies, l->nlatencies, sizeof(*l->latencies), compare_latency);
	l->stats.median_ns = l->latencies[l->nlatencies / 2] * 1000ull;
	l->stats.max_ns = l->latencies[l->nlatencies - 1] * 1000ull;
}

static int tell_source(struct late_dest *l, uint64_t *told)
{
	struct stream *s = l->r->s;
	uint64_t took = l->took;
	bool some = false;
	int r = 0;

	if (l->wants.len) {
		r = stream_send(s, FRAME_WANT, 0, NULL, 0, l->wants.data, l->wants.len, NULL);
		l->wants.len = 0;
		some = true;
	}
	if (r == 0 && took - *told >= TOOK_STEP) {
		r = stream_send(s, FRAME_TOOK, 0, &took, sizeof(took), NULL, 0, NULL);
		*told = took;
		some = true;
	}
	return r == 0 && some ? stream_flush(s, NULL) : r;
}

static void *fault_thread(void *arg)
{
	struct late_dest *l = arg;
	struct pollfd *p = NULL;
	uint64_t told = 0;
	bool some = true;

	setpriority(PRIO_PROCESS, (id_t)gettid(), -20);
	while (some) {
		size_t n = 1;
		eventfd_t unused;

		/* Only this thread adds to the list and takes from it. */
		p = mem_grow(p, l->nmms + 1, sizeof(*p));
		p[0] = (struct pollfd){ .fd = l->wake, .events = POLLIN };
		for (size_t i = 0; i < l->nmms; i++)
			p[n++] = (struct pollfd){ .fd = l->mms[i]->uffd, .events = POLLIN };
		if (poll(p, n, -1) < 0 && errno != EINTR)
			break;
		eventfd_read(l->wake, &unused);
		pthread_mutex_lock(&l->lock);
		for (size_t i = 1; i < n; i++)
			if (p[i].revents)
				read_events(l, l->mms[i - 1]);
		some = drop_done(l);
		pthread_mutex_unlock(&l->lock);
		tell_source(l, &told); /* the other thread sees a stream that is broken */
	}
	free(p);
	if (!l->failed) {
		sum_up(l);
		l->complete = true;
		if (stream_send(l->r->s, FRAME_WHOLE, 0, &l->stats, sizeof(l->stats), NULL, 0,
				NULL) == 0)
			stream_flush(l->r->s, NULL);
	}
	return NULL;
}

/* --- the thread of arrivals ----------------------------------------------------------- */
static void arrived(struct late_dest *l, const struct mm *m, const struct page_run *run,
		    uint64_t src, uint64_t npages)
{
	int64_t now = clock_mono_ns();

	for (size_t i = 0; i < l->nwaits;) {
		const struct waiting *w = &l->waits[i];

		if (w->number != m->number || w->space != run->space || w->id != run->id ||
		    w->src < src || w->src >= src + npages * PAGE) {
			i++;
			continue;
		}
		if (l->nlatencies % 4096 == 0)
			l->latencies =
				mem_grow(l->latencies, l->nlatencies + 4096, sizeof(*l->latencies));
		l->latencies[l->nlatencies++] = (uint32_t)((now - w->since_ns) / 1000);
		l->waits[i] = l->waits[--l->nwaits];
	}
}

/*
 * Puts pages in place, in one process: all, or those in front of what is in the way. The
 * number that is done with, or -errno (-EAGAIN: events must be read first).
 */
static int64_t put(struct mm *m, uint64_t at, const uint8_t *data, uint64_t npages)
{
	struct uffdio_copy c = { .dst = at,
				 .src = (uint64_t)(uintptr_t)data,
				 .len = npages * PAGE };
	struct uffdio_zeropage z = { .range = { at, npages * PAGE } };
	int64_t done;
	int r = data ? ioctl(m->uffd, UFFDIO_COPY, &c) : ioctl(m->uffd, UFFDIO_ZEROPAGE, &z);
	int code = r < 0 ? errno : 0;

	if (r == 0)
		return (int64_t)npages;
	done = data ? c.copy : z.zeropage;
	if (done > 0)
		return done / (int64_t)PAGE;
	switch (code) {
	case EEXIST: {
		struct uffdio_range w = { at, PAGE };

		ioctl(m->uffd, UFFDIO_WAKE, &w);
		return 1;
	}
	case ENOENT:
	case EINVAL:
		/* Parts of what is one run for us may have become several areas, or none. */
		return npages > 1 ? put(m, at, data, 1) : 1;
	default:
		return -code;
	}
}

/* One run for one process. -EAGAIN: what is left must be tried again, unlocked meanwhile. */
static int place(struct late_dest *l, struct mm *m, const struct page_run *run, const uint8_t *data)
{
	uint64_t src = run->start, end = run->start + run->npages * PAGE;

	while (!m->dead && src < end) {
		uint64_t at, n = late_run(&m->space.missing, src, (end - src) / PAGE, &src);
		int64_t done;

		if (!n)
			break;
		n = late_space_place(&m->space, 0, src, n, &at);
		if (!n) { /* lies nowhere any more */
			late_mark(&m->space.missing, &m->space.nmissing, src, 1, false);
			src += PAGE;
			continue;
		}
		done = put(m, at, data ? data + (src - run->start) : NULL, n);
		if (done == -ESRCH) {
			m->dead = true;
			break;
		}
		if (done < 0)
			return (int)done;
		late_mark(&m->space.missing, &m->space.nmissing, src, (uint64_t)done, false);
		arrived(l, m, run, src, (uint64_t)done);
		src += (uint64_t)done * PAGE;
	}
	return 0;
}

static int compare_expected(const void *a, const void *b)
{
	const struct expected *x = a, *y = b;

	if (x->space != y->space)
		return x->space < y->space ? -1 : 1;
	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->src < y->src ? -1 : x->src > y->src;
}

static int verify(struct late_dest *l, const struct page_run *run, const uint8_t *data,
		  struct error *err)
{
	static const uint8_t zeros[PAGE];

	if (!l->sorted && l->nexpected)
		qsort(l->expected, l->nexpected, sizeof(*l->expected), compare_expected);
	l->sorted = true;
	for (uint64_t i = 0; l->nexpected && i < run->npages; i++) {
		struct expected key = { run->space, run->id, run->start + i * PAGE, 0 };
		const struct expected *e =
			bsearch(&key, l->expected, l->nexpected, sizeof(key), compare_expected);

		if (e && e->hash != page_hash(data ? data + i * PAGE : zeros))
			return error_set(err, EILSEQ, "verify: page %#llx of process %u differs",
					 (unsigned long long)key.src, run->id);
	}
	return 0;
}

static int pages(struct late_dest *l, const struct frame *f, struct error *err)
{
	const uint8_t *data = f->flags & FRAME_ZERO ? NULL : f->data + sizeof(struct page_run);
	int64_t give_up = clock_mono_ns() + NO_MEMORY_TRY * 1000000ll;
	struct page_run run;
	bool idle = false;
	int r;

	if (f->len < sizeof(run))
		return error_set(err, EBADMSG, "a damaged frame of pages");
	memcpy(&run, f->data, sizeof(run));
	if (run.start % PAGE || run.npages > (1ull << 35) || run.space != SPACE_PRIVATE ||
	    (data && f->len != sizeof(run) + run.npages * PAGE))
		return error_set(err, EBADMSG, "a damaged frame of pages");
	r = verify(l, &run, data, err);
	if (r < 0)
		return r;
	do {
		pthread_mutex_lock(&l->lock);
		r = 0;
		for (size_t i = 0; i < l->nmms; i++) {
			int e = l->mms[i]->space.vpid == run.id ? place(l, l->mms[i], &run, data)
								: 0;

			r = e < 0 ? e : r;
			idle |= l->mms[i]->dead || !l->mms[i]->space.nmissing;
		}
		pthread_mutex_unlock(&l->lock);
		if (r < 0)
			clock_sleep_ns(r == -EAGAIN ? 20000 : 1000000);
	} while (r == -EAGAIN || (r == -ENOMEM && clock_mono_ns() < give_up));
	l->took += run.npages * PAGE;
	if (idle || l->took % TOOK_STEP < run.npages * PAGE)
		kick(l);
	return r < 0 ? error_sys(err, -r, "putting pages of process %u in place", run.id) : 0;
}

static uint64_t missing(struct late_dest *l)
{
	uint64_t n = 0;

	pthread_mutex_lock(&l->lock);
	for (size_t i = 0; i < l->nmms; i++)
		n += l->mms[i]->dead ? 0 : l->mms[i]->space.nmissing;
	pthread_mutex_unlock(&l->lock);
	return n;
}

static int receive_all(struct late_dest *l, struct error *err)
{
	for (;;) {
		struct frame f;
		int r = stream_recv(l->r->s, &f, err);

		if (r < 0)
			return r;
		if (f.type == FRAME_SENT) {
			uint64_t left = missing(l);

			kick(l);
			return left ? error_set(err, EBADMSG,
						"the source has sent everything, but not %llu "
						"pages that it promised",
						(unsigned long long)left)
				    : 0;
		}
		r = f.type == FRAME_PAGES
			    ? pages(l, &f, err)
			    : error_set(err, EBADMSG, "a frame of type %u among late pages",
					f.type);
		if (r < 0)
			return r;
	}
}

static void *arrival_thread(void *arg)
{
	struct late_dest *l = arg;
	struct error err = { 0 };
	int r = receive_all(l, &err);

	if (r < 0 && !l->complete) {
		l->result = error_set(&l->err, r == -EILSEQ ? EILSEQ : ECONNRESET,
				      "the source was lost with %llu KiB of the memory still "
				      "there, and the container with it: %s",
				      (unsigned long long)(missing(l) * PAGE / 1024), err.msg);
		late_kill(l->r->tasks.t[0]->pidfd, l->note, l->err.msg);
		l->failed = true;
		kick(l);
	}
	pthread_join(l->faults, NULL);
	l->over = true;
	eventfd_write(l->ended, 1);
	return NULL;
}

/* --- the engine's side ---------------------------------------------------------------- */
void late_set_note(struct restore *r, const char *path)
{
	if (r->late && path) {
		free(r->late->note);
		r->late->note = str_dup(path);
	}
}

int late_begin(struct restore *r, struct error *err)
{
	struct late_dest *l = r->late;
	struct rlimit lim;
	int e;

	if (!l)
		return 0;
	/* Each fork brings a descriptor. */
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	l->guard = late_guard_start(r->tasks.t[0]->pidfd, l->note, err);
	if (!l->guard)
		return -err->code;
	for (size_t i = 0; i < l->nmms; i++)
		late_guard_hold(l->guard, l->mms[i]->number, l->mms[i]->uffd);
	stream_patience(r->s, LATE_PATIENCE_S);
	l->begin_ns = clock_mono_ns();
	e = pthread_create(&l->faults, NULL, fault_thread, l);
	if (e == 0)
		e = pthread_create(&l->arrivals, NULL, arrival_thread, l);
	if (e)
		return error_sys(err, e, "starting a thread");
	l->begun = true;
	return 0;
}

int late_wait_fd(const struct restore *r)
{
	return r && r->late && r->late->begun ? r->late->ended : -1;
}

int late_arrived(struct restore *r, json_t **answer, struct error *err)
{
	struct late_dest *l = r->late;

	if (!l) {
		*answer = json_pack("{s:i}", "faults", 0);
		return 0;
	}
	if (!l->over)
		return -EINPROGRESS;
	if (l->result < 0) {
		*err = l->err;
		return l->result;
	}
	*answer = json_pack("{s:I,s:I,s:I,s:I,s:I}", "ns", (json_int_t)l->stats.ns, "faults",
			    (json_int_t)l->stats.faults, "median_ns",
			    (json_int_t)l->stats.median_ns, "max_ns", (json_int_t)l->stats.max_ns,
			    "zeros", (json_int_t)l->stats.zeros);
	return 0;
}

void late_free(struct restore *r)
{
	struct late_dest *l = r->late;

	if (!l)
		return;
	if (l->begun)
		pthread_join(l->arrivals, NULL);
	late_guard_end(l->guard);
	for (size_t i = 0; i < l->nmms; i++) {
		close(l->mms[i]->uffd);
		late_space_free(&l->mms[i]->space);
		free(l->mms[i]);
	}
	for (size_t i = 0; i < l->nkeys; i++)
		pageset_free(&l->keys[i].asked);
	if (l->wake >= 0)
		close(l->wake);
	if (l->ended >= 0)
		close(l->ended);
	pthread_mutex_destroy(&l->lock);
	free(l->mms);
	free(l->waits);
	free(l->keys);
	free(l->expected);
	free(l->latencies);
	free(l->note);
	buf_free(&l->wants);
	free(l);
	r->late = NULL;
}
