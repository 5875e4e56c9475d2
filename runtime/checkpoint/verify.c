/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --verify: hashes of every page as it lies in the frozen source are sent, and compared
 * with what the destination really has; registers are read back and compared. Slow by
 * intention: nothing that the transfer itself noted is believed.
 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/check.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/postcopy.h"
#include "runtime/checkpoint/track.h"

/* The kernel writes processor numbers into a thread's rseq area: not content. */
static void mask_rseq(const struct task *t, uint64_t at, uint8_t *page)
{
	for (size_t i = 0; i < t->nthreads; i++)
		for (uint64_t k = 0; k < t->threads[i].rseq_len; k++)
			if (t->threads[i].rseq + k >= at && t->threads[i].rseq + k < at + PAGE)
				page[t->threads[i].rseq + k - at] = 0;
}

/* --- source ---------------------------------------------------------------------------- */
struct hashing {
	struct dump *d;
	struct task *t;
	struct error *err;
};

static int send_hashes(struct dump *d, uint32_t space, uint32_t id, uint64_t start, uint64_t *h,
		       size_t n, struct error *err)
{
	Ck__Hash m = CK__HASH__INIT;

	m.space = space;
	m.id = id;
	m.start = start;
	m.n_pages = n;
	m.pages = h;
	return stream_send_msg(d->s, FRAME_HASH, &m.base, err);
}

#define BATCH 256ul

static int hash_run(void *ctx, uint64_t start, uint64_t end, int what)
{
	struct hashing *x = ctx;
	uint64_t h[BATCH];
	int r = 0;

	/* Pages of files are compared too: they show that the file is the same there. */
	if (what & PAGES_GUARD)
		return 0;
	while (start < end && r == 0) {
		uint64_t want = (end - start) / PAGE, n;

		want = want < BATCH ? want : BATCH;
		if (task_mem_read(x->t, start, x->d->page_buf, want * PAGE) < 0) {
			want = 1;
			if (task_mem_read(x->t, start, x->d->page_buf, PAGE) < 0) {
				start += PAGE; /* past the end of a file: SIGBUS there as here */
				continue;
			}
		}
		for (n = 0; n < want; n++) {
			mask_rseq(x->t, start + n * PAGE, x->d->page_buf + n * PAGE);
			h[n] = page_hash(x->d->page_buf + n * PAGE);
		}
		r = send_hashes(x->d, SPACE_PRIVATE, (uint32_t)x->t->vpid, start, h, n, x->err);
		start += n * PAGE;
	}
	return r;
}

int dump_verify(struct dump *d, struct error *err)
{
	int r = 0;

	for (size_t i = 0; i < d->tasks.n && r == 0; i++) {
		struct hashing x = { d, d->tasks.t[i], err };

		for (size_t k = 0; k < x.t->vmas.n && r == 0; k++) {
			const struct vma *v = &x.t->vmas.v[k];

			/* Shared memory comes below; devices and dropped pages have no content. */
			if ((v->flags & MAP_SHARED) ||
			    (v->kind != VMA_ANON && v->kind != VMA_FILE) ||
			    (v->advice & (ADVICE_DROPPABLE | ADVICE_IO)))
				continue;
			r = pages_scan(x.t, v->start, v->end, false, hash_run, &x);
		}
	}
	for (size_t i = 0; i < d->shared.n && r == 0; i++) {
		struct shared *s = d->shared.s[i];
		uint64_t h[256];

		/* Read again, not what mem_shared.c has noted. */
		for (uint64_t p = 0; p < s->nhash && r == 0; p += 256) {
			size_t n = s->nhash - p < 256 ? s->nhash - p : 256;

			for (size_t k = 0; k < n; k++) {
				ssize_t got = PAGE;

				if (s->kind == SHARED_SYSV && s->map)
					memcpy(d->page_buf, s->map + (p + k) * PAGE, PAGE);
				else
					got = pread(s->fd, d->page_buf, PAGE,
						    (off_t)((p + k) * PAGE));
				if (got < 0)
					return error_sys(err, errno, "reading shared memory %s",
							 s->name);
				memset(d->page_buf + got, 0, PAGE - (size_t)got);
				h[k] = page_hash(d->page_buf);
			}
			r = send_hashes(d, SPACE_SHARED, s->id, p * PAGE, h, n, err);
		}
	}
	return r;
}

/* --- destination -------------------------------------------------------------------------- */
/* Notes the first page that is another one here, with what helps to find out why. */
static void differs(struct restore *r, const struct task *t, uint64_t at, const uint8_t *page,
		    uint64_t want, struct error *err)
{
	static const uint8_t zeros[PAGE];
	const struct vma *v = vmas_find(&t->vmas, at);

	if (r->ndiffer++)
		return;
	error_set(err, EILSEQ,
		  "page %#llx of process %d differs (%s, area %llx-%llx; %s at the source, %s "
		  "here, %s)",
		  (unsigned long long)at, t->vpid, v && v->path ? v->path : "anonymous",
		  v ? (unsigned long long)v->start : 0, v ? (unsigned long long)v->end : 0,
		  want == page_hash(zeros) ? "zero" : "not zero",
		  page_is_zero(page, PAGE) ? "zero" : "not zero",
		  pageset_has(&t->got, at) ? "received" : "never received");
}

static int compare_private(struct restore *r, const Ck__Hash *m, struct error *err)
{
	struct task *t = tasks_by_vpid(&r->tasks, (pid_t)m->id);
	static uint8_t pages[BATCH * PAGE];

	if (!t || m->n_pages > BATCH)
		return error_set(err, EBADMSG, "hashes of an unknown process %u", m->id);
	if (task_mem_read(t, m->start, pages, m->n_pages * PAGE) < 0)
		return error_set(err, EILSEQ, "verify: memory at %#llx of process %d is missing",
				 (unsigned long long)m->start, t->vpid);
	for (size_t i = 0; i < m->n_pages; i++) {
		uint64_t at = m->start + i * PAGE;

		if (late_missing(r, SPACE_PRIVATE, m->id, at)) {
			late_expect(r, SPACE_PRIVATE, m->id, at, m->pages[i]);
			continue;
		}
		mask_rseq(t, at, pages + i * PAGE);
		if (page_hash(pages + i * PAGE) != m->pages[i])
			differs(r, t, at, pages + i * PAGE, m->pages[i], err);
	}
	return 0;
}

static int compare_shared(struct restore *r, const Ck__Hash *m, struct error *err)
{
	struct shared *s = shareds_by_id(&r->shared, m->id);
	uint8_t page[PAGE];

	if (!s)
		return error_set(err, EBADMSG, "hashes of unknown shared memory %u", m->id);
	/* System V memory is compared through a task that has it attached. */
	for (size_t i = 0; i < m->n_pages; i++) {
		uint64_t at = m->start + i * PAGE;
		ssize_t got = PAGE;

		if (late_missing(r, SPACE_SHARED, m->id, at)) {
			late_expect(r, SPACE_SHARED, m->id, at, m->pages[i]);
			continue;
		}
		if (s->kind == SHARED_SYSV) {
			const struct vma *v = NULL;
			struct task *t = NULL;

			for (size_t k = 0; k < r->tasks.n && !v; k++)
				for (size_t n = 0; n < r->tasks.t[k]->vmas.n && !v; n++)
					if (r->tasks.t[k]->vmas.v[n].shared_id == s->id) {
						t = r->tasks.t[k];
						v = &t->vmas.v[n];
					}
			if (!v || task_mem_read(t, v->start + at - v->pgoff, page, PAGE) < 0)
				continue;
		} else {
			got = pread(s->fd, page, PAGE, (off_t)at);
			if (got < 0)
				return error_sys(err, errno, "reading shared memory %s", s->name);
			memset(page + got, 0, PAGE - (size_t)got);
		}
		if (page_hash(page) != m->pages[i])
			return error_set(err, EILSEQ,
					 "verify: page %#llx of shared memory %s differs",
					 (unsigned long long)at, s->name);
	}
	return 0;
}

/* What the kernel masks or adds in any thread: not the program's. */
static int compare_registers(struct thread *th, struct error *err)
{
	struct user_regs_struct regs;
	struct iovec iov = { &regs, sizeof(regs) };

	thread_put_back(th);
	if (ptrace(PTRACE_GETREGSET, th->tid, (void *)NT_PRSTATUS, &iov) < 0)
		return error_sys(err, errno, "reading registers of thread %d", th->vtid);
	if (memcmp(&regs, &th->regs, sizeof(regs)) != 0)
		return error_set(err, EILSEQ, "verify: registers of thread %d differ", th->vtid);
	return 0;
}

int restore_verify(struct restore *r, struct error *err)
{
	int e = 0;

	for (size_t at = 0; at < r->hashes.len && e == 0;) {
		uint32_t len;
		Ck__Hash *m;

		memcpy(&len, r->hashes.data + at, sizeof(len));
		at += sizeof(len);
		m = check_unpack(&ck__hash__descriptor, r->hashes.data + at, len);
		at += len;
		if (!m)
			return error_set(err, EBADMSG, "damaged hashes");
		e = check_hash(m, err);
		if (e == 0)
			e = m->space == SPACE_SHARED ? compare_shared(r, m, err)
						     : compare_private(r, m, err);
		ck__hash__free_unpacked(m, NULL);
	}
	if (e == 0 && r->ndiffer)
		return error_wrap(err, "verify: %zu pages differ, the first", r->ndiffer);
	for (size_t i = 0; i < r->tasks.n && e == 0; i++)
		for (size_t k = 0; k < r->tasks.t[i]->nthreads && e == 0; k++)
			e = compare_registers(&r->tasks.t[i]->threads[k], err);
	r->verified = e == 0;
	return e;
}
