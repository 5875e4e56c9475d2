/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seccomp filters. A filter is compiled each time it is installed, which takes half a
 * millisecond for a container's usual one; a child inherits it for nothing. So the
 * filters of the container's init travel with the first tree and are installed in the
 * stub before anything is made from it. What a thread has beyond them comes at the end.
 * Remote calls are not bothered by filters (PTRACE_O_SUSPEND_SECCOMP); where they would
 * be, all of them are installed at the end.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/core.h"

#define PTRACE_SECCOMP_GET_METADATA_ 0x420d
#define CHAIN			     64 /* longer ones nobody makes; the kernel's own bound is on instructions */

void filters_free(struct filters *f)
{
	for (size_t i = 0; i < f->n; i++)
		free(f->f[i].data);
	free(f->f);
	free(f->flags);
	*f = (struct filters){ 0 };
}

int filters_read(const struct thread *th, struct filters *out, struct error *err)
{
	static struct sock_filter prog[BPF_MAXINSNS];

	*out = (struct filters){ .f = mem_zalloc(CHAIN * sizeof(*out->f)),
				 .flags = mem_zalloc(CHAIN * sizeof(*out->flags)) };
	/* Whatever ptrace(2) says, index 0 is the oldest (kernel/seccomp.c, get_nth_filter()). */
	for (long i = 0;; i++) {
		long n = ptrace(PTRACE_SECCOMP_GET_FILTER, th->tid, (void *)i, prog);
		size_t len = (size_t)n * sizeof(*prog);
		struct {
			uint64_t off, flags;
		} meta = { .off = (uint64_t)i };

		/* EINVAL: it has none at all. */
		if (n < 0 && (errno == ENOENT || (errno == EINVAL && i == 0)))
			return 0;
		if (n < 0 || i == CHAIN) {
			int code = n < 0 ? errno : E2BIG;

			filters_free(out);
			return error_sys(err, code, "reading seccomp filter %ld of thread %d", i,
					 th->vtid);
		}
		if (ptrace(PTRACE_SECCOMP_GET_METADATA_, th->tid, (void *)sizeof(meta), &meta) < 0)
			meta.flags = 0;
		out->flags[out->n] = (uint32_t)meta.flags & SECCOMP_FILTER_FLAG_LOG;
		out->f[out->n].data = mem_zalloc(len);
		memcpy(out->f[out->n].data, prog, len);
		out->f[out->n].len = len;
		out->n++;
	}
}

bool filters_equal(const struct filters *a, const struct filters *b, size_t i)
{
	return a->flags[i] == b->flags[i] && a->f[i].len == b->f[i].len &&
	       memcmp(a->f[i].data, b->f[i].data, a->f[i].len) == 0;
}

static long install(struct thread *th, const ProtobufCBinaryData *f, uint32_t flags)
{
	size_t room = (f->len + 2 * PAGE) / PAGE * PAGE;
	struct sock_fprog prog = { .len = (unsigned short)(f->len / sizeof(struct sock_filter)) };
	long at = thread_syscall(th, SYS_mmap, 0, room, 3, 0x22, -1ul, 0), n;

	if (at < 0)
		return at;
	prog.filter = (void *)(at + (long)sizeof(prog));
	n = remote_write(th->task, (unsigned long)at, &prog, sizeof(prog));
	if (n == 0)
		n = remote_write(th->task, (unsigned long)at + sizeof(prog), f->data, f->len);
	if (n == 0)
		n = thread_syscall(th, SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags,
				   (unsigned long)at, 0, 0, 0);
	thread_syscall(th, SYS_munmap, (unsigned long)at, room, 0, 0, 0, 0);
	return n;
}

int restore_first_filters(struct restore *r, const Ck__Tree *tree, struct error *err)
{
	struct thread *th = &r->tasks.t[0]->threads[0];

	if (r->filters.n || !th->filters_aside)
		return 0;
	r->filters.f = mem_zalloc((tree->n_seccomp + 1) * sizeof(*r->filters.f));
	r->filters.flags = mem_zalloc((tree->n_seccomp + 1) * sizeof(*r->filters.flags));
	for (size_t i = 0; i < tree->n_seccomp; i++) {
		const ProtobufCBinaryData *f = &tree->seccomp[i];
		uint32_t flags = i < tree->n_seccomp_flags ? tree->seccomp_flags[i] : 0;
		long e = install(th, f, flags);

		if (e < 0)
			return error_sys(err, (int)-e, "installing the container's seccomp filter");
		r->filters.f[i].data = mem_zalloc(f->len + 1);
		memcpy(r->filters.f[i].data, f->data, f->len);
		r->filters.f[i].len = f->len;
		r->filters.flags[i] = flags;
		r->filters.n++;
	}
	return 0;
}

static uint32_t flags_of(const Ck__Thread *m, size_t i)
{
	return i < m->n_seccomp_flags ? m->seccomp_flags[i] : 0;
}

int restore_common_filters(struct restore *r, struct task *t, struct error *err)
{
	const Ck__Thread *leader = t->state->threads[0];
	size_t common = leader->n_seccomp;

	for (size_t i = 1; i < t->nthreads; i++)
		if (t->state->threads[i]->seccomp_same < common)
			common = t->state->threads[i]->seccomp_same;
	for (size_t i = 0; i < r->filters.n; i++)
		if (i >= common || leader->seccomp[i].len != r->filters.f[i].len ||
		    memcmp(leader->seccomp[i].data, r->filters.f[i].data, r->filters.f[i].len) != 0)
			return error_set(
				err, EOPNOTSUPP,
				"process %d lacks the seccomp filter of the container's init: "
				"it entered from outside (an exec session?); end it",
				t->vpid);
	for (size_t i = r->filters.n; i < common; i++) {
		/* Positive: the number of a thread that cannot take part. */
		long e = install(&t->threads[0], &leader->seccomp[i],
				 flags_of(leader, i) |
					 (t->nthreads > 1 ? SECCOMP_FILTER_FLAG_TSYNC : 0));

		if (e)
			return error_sys(err, e < 0 ? (int)-e : EBUSY,
					 "installing a seccomp filter of process %d", t->vpid);
	}
	return (int)common;
}

int restore_filters(struct thread *th, const Ck__Thread *m, size_t have, struct error *err)
{
	const Ck__Thread *leader = th->task->state->threads[0];
	size_t same = m == leader ? 0 : m->seccomp_same;

	if (same > leader->n_seccomp)
		return error_set(err, EBADMSG, "seccomp filters of thread %d", th->vtid);
	for (size_t i = have; i < same + m->n_seccomp; i++) {
		const Ck__Thread *from = i < same ? leader : m;
		size_t k = i < same ? i : i - same;
		long e = install(th, &from->seccomp[k], flags_of(from, k));

		if (e < 0)
			return error_sys(err, (int)-e, "installing a seccomp filter of thread %d",
					 th->vtid);
	}
	return 0;
}
