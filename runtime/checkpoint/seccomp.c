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

#define CHAIN 64 /* longer ones nobody makes; the kernel's own bound is on instructions */

void filters_free(struct filters *f)
{
	for (size_t i = 0; i < f->n; i++)
		free(f->f[i].data);
	free(f->f);
	*f = (struct filters){ 0 };
}

int filters_read(const struct thread *th, struct filters *out, struct error *err)
{
	CLEANUP_FREE struct sock_filter *prog = mem_zalloc(BPF_MAXINSNS * sizeof(*prog));

	*out = (struct filters){ .f = mem_zalloc(CHAIN * sizeof(*out->f)) };
	/* Index 0 is the newest; they are installed oldest first. */
	for (long i = 0;; i++) {
		long n = ptrace(PTRACE_SECCOMP_GET_FILTER, th->tid, (void *)i, prog);
		size_t len = (size_t)n * sizeof(*prog);

		if (n < 0 && errno == ENOENT)
			return 0;
		if (n < 0 || i == CHAIN) {
			int code = n < 0 ? errno : E2BIG;

			filters_free(out);
			return error_sys(err, code, "reading seccomp filter %ld of thread %d", i,
					 th->vtid);
		}
		memmove(out->f + 1, out->f, out->n * sizeof(*out->f));
		out->f[0].data = mem_zalloc(len);
		memcpy(out->f[0].data, prog, len);
		out->f[0].len = len;
		out->n++;
	}
}

static long install(struct thread *th, const ProtobufCBinaryData *f)
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
		n = thread_syscall(th, SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (unsigned long)at,
				   0, 0, 0);
	thread_syscall(th, SYS_munmap, (unsigned long)at, room, 0, 0, 0, 0);
	return n;
}

int restore_first_filters(struct restore *r, size_t n, const ProtobufCBinaryData *f,
			  struct error *err)
{
	struct thread *th = &r->tasks.t[0]->threads[0];

	if (r->filters.n || !th->filters_aside)
		return 0;
	r->filters.f = mem_zalloc((n + 1) * sizeof(*r->filters.f));
	for (size_t i = 0; i < n; i++) {
		long e = install(th, &f[i]);

		if (e < 0)
			return error_sys(err, (int)-e, "installing the container's seccomp filter");
		r->filters.f[i].data = mem_zalloc(f[i].len + 1);
		memcpy(r->filters.f[i].data, f[i].data, f[i].len);
		r->filters.f[i].len = f[i].len;
		r->filters.n++;
	}
	return 0;
}

int restore_filters(struct restore *r, struct thread *th, size_t n, const ProtobufCBinaryData *f,
		    struct error *err)
{
	for (size_t i = 0; i < r->filters.n; i++)
		if (i >= n || f[i].len != r->filters.f[i].len ||
		    memcmp(f[i].data, r->filters.f[i].data, f[i].len) != 0)
			return error_set(
				err, EOPNOTSUPP,
				"thread %d lacks the seccomp filter of the container's init: "
				"it entered from outside (an exec session?); end it",
				th->vtid);
	for (size_t i = r->filters.n; i < n; i++) {
		long e = install(th, &f[i]);

		if (e < 0)
			return error_sys(err, (int)-e, "installing a seccomp filter of thread %d",
					 th->vtid);
	}
	return 0;
}
