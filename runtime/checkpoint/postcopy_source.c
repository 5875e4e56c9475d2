/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy at the source: choosing which pages may come after the tasks run, and the
 * thread that then serves them while the tasks here are held by the cgroup freezer.
 *
 * Not late, because somebody touches it who cannot wait for a page: what the kernel reads
 * and writes while a thread ends (tid address, robust list), rseq areas, the words of a
 * futex call in progress; where each thread will go on (stack, thread block, code); and
 * areas for which missing pages cannot be told apart (files, locked, wiped on fork); and
 * huge pages, which the kernel wants to get whole.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/process.h"
#include "runtime/checkpoint/postcopy.h"
#include "runtime/checkpoint/track.h"

#define BATCH  32ul /* pages pushed in one piece */
#define AROUND 16ul /* pages sent for one that is wanted: it and those behind it */
/* Seals that do not forbid what fills a missing page. */
#define HARMLESS_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)
#define ROBUST_MAX     2048 /* entries that the kernel looks at, ROBUST_LIST_LIMIT */

struct late_list { /* a run as it was announced */
	uint32_t space, id;
	uint64_t start, npages;
};

struct late_source {
	struct late_list *runs;
	size_t nruns, cap;
	uint64_t total; /* pages */
	/* of the thread alone, once it runs */
	struct key { /* a process or an object */
		uint32_t space, id;
		struct pageset left;
		size_t first, end; /* its runs, in the order of addresses */
	} * keys;
	size_t nkeys;
	size_t at;	     /* run in hand */
	uint64_t at_page;    /* pages of it done */
	uint64_t sent, took; /* bytes of content, told by TOOK */
	uint8_t *buf;

	pthread_t thread;
	bool started;
	int ended; /* eventfd */
	atomic_uint_fast64_t pages_left, wanted;
	atomic_bool over, stop;
	/* valid when over */
	int result;
	struct error err;
	struct late_stats stats;
};

/* --- choosing ----------------------------------------------------------------------------- */
static bool may_be_late(const struct vma *v)
{
	return v && v->kind == VMA_ANON && !(v->flags & (MAP_SHARED | MAP_HUGETLB)) &&
	       !(v->advice & (ADVICE_LOCKED | ADVICE_WIPEONFORK | ADVICE_DROPPABLE | ADVICE_IO |
			      ADVICE_SEALED | ADVICE_UFFD));
}

/* What lies there is sent at once. */
static void now(struct dump *d, struct task *t, uint64_t addr, uint64_t len)
{
	uint64_t start = addr / PAGE * PAGE, end = (addr + len + PAGE - 1) / PAGE * PAGE;

	if (!addr || addr + len <= addr)
		return;
	pageset_set(&t->late, start, (end - start) / PAGE, false);
	for (; start < end; start += PAGE) {
		const struct vma *v = vmas_find(&t->vmas, start);
		struct shared *s =
			v && v->kind == VMA_SHARED ? shareds_by_id(&d->shared, v->shared_id) : NULL;

		if (s)
			pageset_set(&s->at_once, v->pgoff + (start - v->start), 1, true);
	}
}

/*
 * Shared memory that nobody can reach but through mappings which are known, so that a
 * missing page is noticed: anonymous, or a memfd without descriptors.
 */
static void may_objects_be_late(struct dump *d)
{
	for (size_t i = 0; i < d->shared.n; i++) {
		struct shared *s = d->shared.s[i];

		s->late_ok = s->size >= LATE_FEWEST * PAGE && !s->huge_shift &&
			     (s->kind == SHARED_ANON ||
			      (s->kind == SHARED_MEMFD && !(s->seals & ~HARMLESS_SEALS)));
		pageset_free(&s->at_once);
		for (size_t k = 0; k < d->nofds && s->late_ok; k++)
			s->late_ok =
				d->ofds[k]->st.st_dev != s->dev || d->ofds[k]->st.st_ino != s->ino;
	}
	for (size_t i = 0; i < d->tasks.n; i++)
		for (size_t k = 0; k < d->tasks.t[i]->vmas.n; k++) {
			const struct vma *v = &d->tasks.t[i]->vmas.v[k];
			struct shared *s = v->kind == VMA_SHARED
						   ? shareds_by_id(&d->shared, v->shared_id)
						   : NULL;

			/* A mapping that cannot be made writable cannot be watched. */
			if (s && (!(v->flags & MAP_SHARED) ||
				  (s->kind != SHARED_ANON && !(v->prot & PROT_WRITE)) ||
				  (v->advice & (ADVICE_LOCKED | ADVICE_SEALED | ADVICE_UFFD))))
				s->late_ok = false;
		}
}

/* The list as exit_robust_list() walks it: entries and the futex words they stand for. */
static void robust_list(struct dump *d, struct task *t, uint64_t head, uint64_t len)
{
	uint64_t h[3], at; /* struct robust_list_head */
	int64_t offset;

	if (!head || len < sizeof(h) || task_mem_read(t, head, h, sizeof(h)) < 0)
		return;
	now(d, t, head, sizeof(h));
	offset = (int64_t)h[1];
	at = h[2] & ~1ull;
	if (at)
		now(d, t, at + (uint64_t)offset, 4);
	at = h[0] & ~1ull;
	for (int i = 0; i < ROBUST_MAX && at && at != head; i++) {
		uint64_t next;

		now(d, t, at, sizeof(next));
		now(d, t, at + (uint64_t)offset, 4);
		if (task_mem_read(t, at, &next, sizeof(next)) < 0)
			return;
		at = next & ~1ull;
	}
}

static void thread_needs(struct dump *d, struct thread *th)
{
	struct task *t = th->task;
	struct __ptrace_rseq_configuration rs = { 0 };
	unsigned long scratch = remote_scratch(t);
	uint64_t tid_address = 0, rsp = th->regs.rsp;
	size_t len = 0;
	void *head = NULL;
	long nr;

	/* The red zone below, and the next frames. */
	now(d, t, rsp - 128, 2 * PAGE);
	now(d, t, th->regs.rip, 16);
	now(d, t, th->regs.fs_base, 64);
	nr = th->restart.nr ? th->restart.nr : (long)th->regs.orig_rax;
	if (nr == SYS_futex) {
		now(d, t, th->regs.rdi, 4);
		now(d, t, th->regs.r8, 4);
	}
	/* What restart_enter() changes for an instant. */
	if (nr == SYS_poll && th->regs.rsi < 65536)
		now(d, t, th->regs.rdi, th->regs.rsi * sizeof(struct pollfd));
	if (nr == SYS_nanosleep || nr == SYS_clock_nanosleep)
		now(d, t, nr == SYS_nanosleep ? th->regs.rsi : th->regs.r10,
		    sizeof(struct timespec));
	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, th->tid, sizeof(rs), &rs) > 0)
		now(d, t, rs.rseq_abi_pointer, rs.rseq_abi_size);
	if (syscall(SYS_get_robust_list, th->tid, &head, &len) == 0)
		robust_list(d, t, (uint64_t)(uintptr_t)head, len);
	if (scratch &&
	    thread_syscall(th, SYS_prctl, PR_GET_TID_ADDRESS, scratch, 0, 0, 0, 0) == 0 &&
	    task_mem_read(t, scratch, &tid_address, sizeof(tid_address)) == 0)
		now(d, t, tid_address, 4);
}

static uint64_t count(const struct pageset *s)
{
	uint64_t n = 0;

	for (size_t i = 0; i < s->cap; i++)
		for (int k = 0; s->c[i].addr != ~0ull && k < 8; k++)
			n += (uint64_t)__builtin_popcountll(s->c[i].bits[k]);
	return n;
}

int late_choose(struct dump *d, struct error *err)
{
	uint64_t total = 0;
	bool objects = false;

	(void)err;
	may_objects_be_late(d);
	for (size_t i = 0; i < d->shared.n; i++)
		objects |= d->shared.s[i]->late_ok;
	for (size_t i = 0; i < d->tasks.n; i++) {
		struct task *t = d->tasks.t[i];
		size_t n = t->runs.len / sizeof(struct page_found);

		pageset_free(&t->late);
		for (size_t k = 0; k < n; k++) {
			const struct page_found *run =
				(const struct page_found *)(void *)t->runs.data + k;

			if (!(run->what & PAGES_ZERO) &&
			    may_be_late(vmas_find(&t->vmas, run->start)))
				pageset_set(&t->late, run->start, (run->end - run->start) / PAGE,
					    true);
		}
		for (size_t k = 0; k < t->nthreads && (t->late.n || objects); k++)
			thread_needs(d, &t->threads[k]);
		total += count(&t->late);
	}
	/* How many of an object's pages that are shows only when it is compared. */
	if (total < LATE_FEWEST && !objects) {
		d->postcopy = false;
		for (size_t i = 0; i < d->tasks.n; i++)
			pageset_free(&d->tasks.t[i]->late);
	}
	return 0;
}

bool late_shared(const struct dump *d, const struct shared *s, uint64_t page)
{
	return d->final && d->postcopy && s->late_ok && !pageset_has(&s->at_once, page * PAGE);
}

static struct late_source *late_of(struct dump *d)
{
	if (!d->late) {
		d->late = mem_zalloc(sizeof(*d->late));
		d->late->ended = -1;
	}
	return d->late;
}

static struct key *key_of(struct late_source *l, uint32_t space, uint32_t id)
{
	for (size_t i = 0; i < l->nkeys; i++)
		if (l->keys[i].space == space && l->keys[i].id == id)
			return &l->keys[i];
	return NULL;
}

int late_announce(struct dump *d, uint32_t space, uint32_t id, uint64_t start, uint64_t npages,
		  struct error *err)
{
	struct late_source *l = late_of(d);
	struct page_run run = { space, id, start, npages };
	struct key *k = key_of(l, space, id);

	if (!k) {
		l->keys = mem_grow(l->keys, l->nkeys + 1, sizeof(*l->keys));
		k = &l->keys[l->nkeys++];
		*k = (struct key){ .space = space, .id = id, .first = l->nruns };
	}
	/* A scan may show a page twice. */
	late_mark(&k->left, &l->total, start, npages, true);
	if (l->nruns == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 256;
		l->runs = mem_grow(l->runs, l->cap, sizeof(*l->runs));
	}
	l->runs[l->nruns++] = (struct late_list){ space, id, start, npages };
	k->end = l->nruns;
	return stream_send(d->s, FRAME_LATE, 0, &run, sizeof(run), NULL, 0, err);
}

/* --- serving ------------------------------------------------------------------------------ */
struct serving {
	struct dump *d;
	struct late_source *l;
	struct error *err;
};

static int read_pages(struct serving *s, const struct key *k, uint64_t start, uint64_t npages)
{
	uint8_t *buf = s->l->buf;

	if (k->space == SPACE_PRIVATE) {
		struct task *t = tasks_by_vpid(&s->d->tasks, (pid_t)k->id);

		if (!t || task_mem_read(t, start, buf, npages * PAGE) < 0)
			return error_set(s->err, EFAULT,
					 "page %#llx of process %u cannot be read any more",
					 (unsigned long long)start, k->id);
	} else {
		struct shared *sh = shareds_by_id(&s->d->shared, k->id);
		ssize_t n = sh ? pread(sh->fd, buf, npages * PAGE, (off_t)start) : -1;

		if (n < 0)
			return error_set(s->err, EFAULT, "shared memory %u cannot be read any more",
					 k->id);
		memset(buf + n, 0, npages * PAGE - (size_t)n);
	}
	return 0;
}

/* Sends pages that are all left; they are left no more. */
static int send_left(struct serving *s, struct key *k, uint64_t start, uint64_t npages)
{
	struct late_source *l = s->l;
	int r = read_pages(s, k, start, npages);

	for (uint64_t i = 0, j; i < npages && r == 0; i = j) {
		const uint8_t *p = l->buf + i * PAGE;
		bool zero = page_is_zero(p, PAGE);
		struct page_run run = { k->space, k->id, start + i * PAGE, 0 };

		for (j = i + 1; j < npages && page_is_zero(l->buf + j * PAGE, PAGE) == zero; j++)
			;
		run.npages = j - i;
		r = stream_send(s->d->s, FRAME_PAGES, zero ? FRAME_ZERO : 0, &run, sizeof(run),
				zero ? NULL : p, zero ? 0 : run.npages * PAGE, s->err);
	}
	pageset_set(&k->left, start, npages, false);
	l->sent += npages * PAGE;
	l->pages_left -= npages;
	return r < 0 ? r : stream_flush(s->d->s, s->err);
}

/* The run that holds a page, for going on behind it. */
static void go_on_behind(struct late_source *l, const struct key *k, uint64_t start)
{
	size_t lo = k->first, hi = k->end;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (l->runs[mid].start + l->runs[mid].npages * PAGE <= start)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == k->end || start < l->runs[lo].start)
		return;
	l->at = lo;
	l->at_page = (start - l->runs[lo].start) / PAGE;
}

static int wanted(struct serving *s, const struct page_run *run)
{
	struct key *k = key_of(s->l, run->space, run->id);
	uint64_t from, n;
	int r;

	if (!k || run->start % PAGE)
		return error_set(s->err, EBADMSG, "a page was asked for that was never promised");
	s->l->wanted++;
	n = late_run(&k->left, run->start, AROUND, &from);
	if (!n || from != run->start)
		return 0; /* on its way already */
	r = send_left(s, k, from, n);
	go_on_behind(s->l, k, from);
	return r;
}

/* Something of the destination's. 1: it has everything. */
static int one_answer(struct serving *s)
{
	struct frame f;
	int r = stream_recv(s->d->s, &f, s->err);

	if (r < 0)
		return r;
	switch (f.type) {
	case FRAME_REPLY: /* that it has built everything, or not; ferryd hears that too */
		return 0;
	case FRAME_TOOK:
		if (f.len == sizeof(s->l->took))
			memcpy(&s->l->took, f.data, f.len);
		return 0;
	case FRAME_WANT:
		for (size_t i = 0; i < f.len / sizeof(struct page_run) && r == 0; i++) {
			struct page_run run;

			memcpy(&run, f.data + i * sizeof(run), sizeof(run));
			r = wanted(s, &run);
		}
		return r;
	case FRAME_WHOLE:
		if (f.len == sizeof(s->l->stats))
			memcpy(&s->l->stats, f.data, f.len);
		return 1;
	}
	return error_set(s->err, EBADMSG, "a frame of type %u while serving pages", f.type);
}

static bool may_read(struct stream *s, int timeout_ms)
{
	struct pollfd p = { .fd = stream_fd(s), .events = POLLIN };

	return stream_buffered(s) || poll(&p, 1, timeout_ms) > 0;
}

/* The next batch in order. */
static int push(struct serving *s)
{
	struct late_source *l = s->l;

	for (;;) {
		struct late_list *run = &l->runs[l->at];
		struct key *k = key_of(l, run->space, run->id);
		uint64_t n = run->npages - l->at_page, from;

		n = late_run(&k->left, run->start + l->at_page * PAGE, n, &from);
		n = n < BATCH ? n : BATCH;
		if (n) {
			l->at_page = (from - run->start) / PAGE + n;
			return send_left(s, k, from, n);
		}
		l->at = (l->at + 1) % l->nruns;
		l->at_page = 0;
	}
}

static int send_sent(struct serving *s)
{
	int r = stream_send(s->d->s, FRAME_SENT, 0, NULL, 0, NULL, 0, s->err);

	return r < 0 ? r : stream_flush(s->d->s, s->err);
}

static int serve(struct serving *s)
{
	struct late_source *l = s->l;
	bool told = false;
	int r = 0;

	while (r == 0 && !l->stop) {
		bool pushing = l->pages_left && l->sent - l->took < LATE_WINDOW;
		bool end = !l->pages_left && !told;

		/* What is asked for comes before what is next. */
		if (may_read(s->d->s, pushing || end ? 0 : -1)) {
			r = one_answer(s);
		} else if (pushing) {
			r = push(s);
		} else if (end) {
			told = true;
			r = send_sent(s);
		}
	}
	/* The destination reads on until it hears this, also where it needs no more pages: a
	 * socket closed with something unread would take its last words along. */
	if (r == 1 && !told)
		r = send_sent(s);
	return r;
}

static void *serve_thread(void *arg)
{
	struct dump *d = arg;
	struct late_source *l = d->late;
	struct serving s = { d, l, &l->err };
	int r;

	stream_patience(d->s, LATE_PATIENCE_S);
	r = serve(&s);
	if (l->stop && r >= 0)
		r = error_set(&l->err, ECANCELED, "serving was ended");
	l->result = r < 0 ? r : 0;
	l->over = true;
	eventfd_write(l->ended, 1);
	return NULL;
}

int late_serve(struct dump *d, struct error *err)
{
	struct late_source *l = d->late;
	int r;

	if (!l || !l->nruns)
		return 0;
	l->pages_left = l->total;
	l->buf = mem_zalloc(BATCH * PAGE);
	l->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->ended < 0)
		return error_sys(err, errno, "making an event descriptor");
	r = pthread_create(&l->thread, NULL, serve_thread, d);
	if (r)
		return error_sys(err, r, "starting a thread");
	l->started = true;
	return 0;
}

int late_serve_fd(const struct dump *d)
{
	return d && d->late && d->late->started ? d->late->ended : -1;
}

int late_served(struct dump *d, json_t **answer, struct error *err)
{
	struct late_source *l = d->late;

	if (!l || !l->started) {
		*answer = json_pack("{s:i,s:i}", "pages", 0, "faults", 0);
		return 0;
	}
	*answer = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "pages", (json_int_t)l->total,
			    "left_bytes", (json_int_t)l->pages_left * (json_int_t)PAGE, "wanted",
			    (json_int_t)l->wanted, "ns", (json_int_t)(l->over ? l->stats.ns : 0),
			    "faults", (json_int_t)(l->over ? l->stats.faults : 0), "median_ns",
			    (json_int_t)(l->over ? l->stats.median_ns : 0), "max_ns",
			    (json_int_t)(l->over ? l->stats.max_ns : 0), "zeros",
			    (json_int_t)(l->over ? l->stats.zeros : 0));
	if (!l->over)
		return -EINPROGRESS;
	if (l->result < 0)
		return error_set(err, -l->result,
				 "the destination was lost with %llu KiB of the memory still here: "
				 "%s",
				 (unsigned long long)(l->pages_left * PAGE / 1024), l->err.msg);
	return 0;
}

void late_stop(struct dump *d)
{
	struct late_source *l = d->late;

	if (!l)
		return;
	if (l->started) {
		l->stop = true;
		if (!l->over)
			shutdown(stream_fd(d->s), SHUT_RDWR);
		pthread_join(l->thread, NULL);
	}
	if (l->ended >= 0)
		close(l->ended);
	for (size_t i = 0; i < l->nkeys; i++)
		pageset_free(&l->keys[i].left);
	free(l->keys);
	free(l->runs);
	free(l->buf);
	free(l);
	d->late = NULL;
	d->postcopy = false;
}
