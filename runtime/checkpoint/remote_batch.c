/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many system calls in a stopped thread for the price of one. A remote call takes about
 * 10 µs, of which the call itself is the least: registers are set, the thread steps, the
 * engine wakes and reads. A batch is a list of calls behind the scratch area; a few
 * instructions on the page after it make them in turn, store the results and trap.
 *
 *   scratch ┌──────────────────────┐
 *           │ arguments            │ REMOTE_SCRATCH
 *           ├──────────────────────┤
 *           │ calls and results    │ two pages
 *           ├──────────────────────┤
 *           │ code                 │ one page, not writable
 *           └──────────────────────┘ REMOTE_AREA
 *
 * Where the page cannot be made executable (a security module) the calls are made one
 * by one. At the source the code is remote_guard.c's instead.
 */
#include <elf.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/remote_guard.h"

_Static_assert(REMOTE_CALLS * sizeof(struct remote_call) == 2 * PAGE, "two pages of calls");

#define CODE_ENDS 43

/* rbx: struct remote_call; r12: how many. */
static const uint8_t code[CODE_ENDS] = {
	0x48, 0x8b, 0x03,	/* again: mov (%rbx), %rax */
	0x48, 0x8b, 0x7b, 0x08, /* mov 8(%rbx), %rdi */
	0x48, 0x8b, 0x73, 0x10, /* mov 16(%rbx), %rsi */
	0x48, 0x8b, 0x53, 0x18, /* mov 24(%rbx), %rdx */
	0x4c, 0x8b, 0x53, 0x20, /* mov 32(%rbx), %r10 */
	0x4c, 0x8b, 0x43, 0x28, /* mov 40(%rbx), %r8 */
	0x4c, 0x8b, 0x4b, 0x30, /* mov 48(%rbx), %r9 */
	0x0f, 0x05,		/* syscall */
	0x48, 0x89, 0x43, 0x38, /* mov %rax, 56(%rbx) */
	0x48, 0x83, 0xc3, 0x40, /* add $64, %rbx */
	0x49, 0xff, 0xcc,	/* dec %r12 */
	0x75, 0xd6,		/* jnz again */
	0xcc,			/* int3 */
};

static unsigned long calls_at(const struct task *t)
{
	return t->scratch + REMOTE_SCRATCH;
}

static unsigned long code_at(const struct task *t)
{
	return t->scratch + REMOTE_SCRATCH + 2 * PAGE;
}

/* Puts the code there, once for each scratch area; children inherit it. */
static bool code_ready(struct task *t)
{
	if (t->code_for == t->scratch)
		return true;
	if (t->code_refused)
		return false;
	if (remote_write(t, code_at(t), code, sizeof(code)) == 0 &&
	    (t->scratch_whole || remote_syscall(t, SYS_mprotect, code_at(t), PAGE,
						PROT_READ | PROT_EXEC, 0, 0, 0) == 0))
		t->code_for = t->scratch;
	else
		t->code_refused = true;
	return !t->code_refused;
}

void remote_batch_begin(struct remote_batch *b, struct thread *th)
{
	b->th = th;
	b->at = remote_scratch(th->task);
	b->n = b->used = 0;
	b->full = !b->at;
}

unsigned long remote_batch_put(struct remote_batch *b, const void *data, size_t len)
{
	size_t at = (b->used + 15) / 16 * 16;

	if (at + len > REMOTE_SCRATCH) {
		b->full = true;
		return b->at;
	}
	if (data)
		memcpy(b->data + at, data, len);
	else
		memset(b->data + at, 0, len);
	b->used = at + len;
	return b->at + at;
}

const void *remote_batch_out(const struct remote_batch *b, unsigned long addr)
{
	return b->data + (addr - b->at);
}

size_t remote_batch_add(struct remote_batch *b, long nr, unsigned long a0, unsigned long a1,
			unsigned long a2, unsigned long a3, unsigned long a4, unsigned long a5)
{
	if (b->n == REMOTE_CALLS) {
		b->full = true;
		return 0;
	}
	b->c[b->n] = (struct remote_call){ (uint64_t)nr, { a0, a1, a2, a3, a4, a5 }, -ENOSYS };
	return b->n++;
}

static int move_out(struct remote_batch *b, bool in)
{
	struct iovec l[2] = { { b->data, b->used }, { b->c, b->n * sizeof(b->c[0]) } };
	struct iovec r[2] = { { (void *)b->at, b->used },
			      { (void *)calls_at(b->th->task), b->n * sizeof(b->c[0]) } };
	ssize_t want = (ssize_t)(l[0].iov_len + l[1].iov_len), n;

	n = in ? process_vm_readv(b->th->task->pid, l, 2, r, 2, 0)
	       : process_vm_writev(b->th->task->pid, l, 2, r, 2, 0);
	return n == want ? 0 : n < 0 ? -errno : -EFAULT;
}

/* From the first instruction of the code, towards its trap. */
static int run_code(struct thread *th, size_t n)
{
	struct user_regs_struct regs = th->regs;
	struct iovec iov = { &regs, sizeof(regs) };
	int r = thread_hold_signals(th);

	if (r < 0)
		return r;
	regs.rip = code_at(th->task);
	regs.orig_rax = (unsigned long)-1;
	regs.rbx = calls_at(th->task);
	regs.r12 = n;
	regs.eflags &= ~(0x100ul | 0x400ul); /* TF, DF */
	if (ptrace(PTRACE_SETREGSET, th->tid, (void *)NT_PRSTATUS, &iov) < 0 ||
	    ptrace(PTRACE_CONT, th->tid, NULL, NULL) < 0)
		return -errno;
	th->in_call = true;
	th->stepping = th->by_guard = false;
	return 0;
}

int remote_batch_start(struct remote_batch *b)
{
	int r = b->full ? -E2BIG : 0;
	bool guarded;

	thread_settle(b->th);
	guarded = guard_takes(b->th);
	b->by_code = r == 0 && b->n && (guarded || code_ready(b->th->task));
	if (!b->by_code)
		return r;
	r = move_out(b, false);
	if (r < 0)
		return r;
	return guarded ? guard_batch(b->th, calls_at(b->th->task), b->n) : run_code(b->th, b->n);
}

/* The calls one by one. */
static int run_singly(struct remote_batch *b)
{
	int r = b->used ? remote_write(b->th->task, b->at, b->data, b->used) : 0;

	for (size_t i = 0; i < b->n && r == 0; i++) {
		const uint64_t *a = b->c[i].a;

		b->c[i].ret =
			thread_syscall(b->th, (long)b->c[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]);
		if (!b->th->traced)
			r = -ESRCH;
	}
	return r == 0 && b->used ? remote_read(b->th->task, b->at, b->data, b->used) : r;
}

int remote_batch_wait(struct remote_batch *b)
{
	long r;

	if (!b->n)
		return 0;
	if (!b->by_code)
		return run_singly(b);
	r = thread_settle(b->th);
	return r < 0 ? (int)r : move_out(b, true);
}

int remote_batch_run(struct remote_batch *b)
{
	int r = remote_batch_start(b);

	return r < 0 ? r : remote_batch_wait(b);
}
