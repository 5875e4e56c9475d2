/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy at the destination: what is missing was registered with userfaultfd before the
 * tasks ran (postcopy_register.c); one thread reads faults and events and asks the source, another
 * one puts in place what comes. One lock is held over each look at what is missing together with
 * the system call that acts on it, so that a page never lands in memory that the task has
 * given up meanwhile: the kernel refuses with EAGAIN from the moment when an munmap, fork
 * and the like begins until its event is read.
 */
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/process.h"
#include "runtime/checkpoint/postcopy_dest.h"

#define TOOK_STEP     (LATE_WINDOW / 8) /* bytes after which the source is told */
#define NO_MEMORY_TRY 10000		/* milliseconds to wait for the container's memory limit */

/* --- the thread of faults ------------------------------------------------------------- */
static void kick(struct late_dest *l)
{
	eventfd_write(l->wake, 1);
}

static void fault(struct late_dest *l, struct late_mm *m, uint64_t addr)
{
	const struct late_seg *g = late_space_find(&m->space, addr);
	uint64_t src = g ? g->src + (addr - g->start) : 0;
	uint32_t object = g ? g->object : 0;
	struct page_run want = { object ? SPACE_SHARED : SPACE_PRIVATE,
				 object ? object : m->space.vpid, src, 1 };
	struct late_key *k = late_key(l, want.space, want.id);
	bool missing = pageset_has(object ? &k->missing : &m->space.missing, src);

	if (!g || !missing) {
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
	l->waits[l->nwaits++] = (struct waiting){ .number = m->number,
						  .space = want.space,
						  .id = want.id,
						  .src = src,
						  .addr = addr,
						  .since_ns = clock_mono_ns() };
	if (pageset_has(&k->asked, src))
		return;
	pageset_set(&k->asked, src, 1, true);
	buf_add(&l->wants, &want, sizeof(want));
}

static void forked(struct late_dest *l, struct late_mm *parent, int uffd)
{
	struct late_mm *m = late_mm_new(l, uffd);

	late_guard_hold(l->guard, m->number, uffd);
	late_space_fork(&m->space, &parent->space);
}

/* Who waits for a page that is given up, or lies elsewhere now, tries again. */
static void wake(const struct late_mm *m, uint64_t start, uint64_t end)
{
	struct uffdio_range w = { start, end - start };

	ioctl(m->uffd, UFFDIO_WAKE, &w);
}

static void read_events(struct late_dest *l, struct late_mm *m)
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
				if (!e->arg.remap.len)
					late_space_double(&m->space, e->arg.remap.from,
							  e->arg.remap.to);
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

/* Whether the process may come upon a page that is missing. */
static bool lacks(const struct late_dest *l, const struct late_mm *m)
{
	if (m->dead)
		return false;
	for (size_t i = 0; m->space.has_objects && i < l->nkeys; i++)
		if (l->keys[i].nmissing)
			return true;
	return m->space.nmissing;
}

/* Processes that are gone or lack nothing are let go of; false: none is left. */
static bool drop_done(struct late_dest *l)
{
	size_t n = 0;

	for (size_t i = 0; i < l->nmms; i++) {
		struct late_mm *m = l->mms[i];

		if (lacks(l, m) && !l->failed) {
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
/* m NULL: for all that have the object mapped; UFFDIO_COPY has woken those of one process. */
static void arrived(struct late_dest *l, const struct late_mm *m, const struct page_run *run,
		    uint64_t src, uint64_t npages)
{
	int64_t now = clock_mono_ns();

	for (size_t i = 0; i < l->nwaits;) {
		const struct waiting *w = &l->waits[i];

		if ((m && w->number != m->number) || w->space != run->space || w->id != run->id ||
		    w->src < src || w->src >= src + npages * PAGE) {
			i++;
			continue;
		}
		for (size_t k = 0; !m && k < l->nmms; k++)
			if (l->mms[k]->number == w->number)
				wake(l->mms[k], w->addr, w->addr + PAGE);
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
static int64_t put(struct late_mm *m, uint64_t at, const uint8_t *data, uint64_t npages)
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
static int place(struct late_dest *l, struct late_mm *m, const struct page_run *run,
		 const uint8_t *data)
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

/* The same for shared memory: through whatever process has it mapped. */
static int place_object(struct late_dest *l, const struct page_run *run, const uint8_t *data)
{
	struct late_key *k = late_key(l, SPACE_SHARED, run->id);
	uint64_t src = run->start, end = run->start + run->npages * PAGE;

	while (src < end) {
		uint64_t at, n = late_run(&k->missing, src, (end - src) / PAGE, &src);
		int64_t done = 0;

		if (!n)
			break;
		for (size_t i = 0; i < l->nmms && done <= 0; i++) {
			struct late_mm *m = l->mms[i];
			uint64_t part =
				m->dead ? 0 : late_space_place(&m->space, run->id, src, n, &at);

			if (!part)
				continue;
			done = put(m, at, data ? data + (src - run->start) : NULL, part);
			if (done == -ESRCH)
				m->dead = true;
			else if (done < 0)
				return (int)done;
		}
		/* Mapped by nobody any more: then there is nobody who could read it. */
		n = done > 0 ? (uint64_t)done : 1;
		late_mark(&k->missing, &k->nmissing, src, n, false);
		arrived(l, NULL, run, src, n);
		src += n * PAGE;
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
	if (run.start % PAGE || run.npages > (1ull << 35) || run.space > SPACE_SHARED ||
	    (data && f->len != sizeof(run) + run.npages * PAGE))
		return error_set(err, EBADMSG, "a damaged frame of pages");
	r = verify(l, &run, data, err);
	if (r < 0)
		return r;
	do {
		pthread_mutex_lock(&l->lock);
		r = run.space == SPACE_SHARED ? place_object(l, &run, data) : 0;
		for (size_t i = 0; i < l->nmms; i++) {
			struct late_mm *m = l->mms[i];
			int e = 0;

			if (run.space == SPACE_PRIVATE && m->space.vpid == run.id)
				e = place(l, m, &run, data);
			r = e < 0 ? e : r;
			idle |= !lacks(l, m);
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
	for (size_t i = 0; i < l->nkeys && l->nmms; i++)
		n += l->keys[i].nmissing;
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
	for (size_t i = 0; i < l->nkeys; i++) {
		pageset_free(&l->keys[i].asked);
		pageset_free(&l->keys[i].missing);
	}
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
