/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holding threads by ptrace and running single system calls inside them. In a stub of the
 * destination a remote call points the thread at a `syscall` instruction of its own vdso and
 * steps over it once; at the source remote_guard.c makes it. The registers and the signal
 * mask that the thread had when it was stopped are kept and put back when it is let go.
 */
#include <elf.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/remote_guard.h"

/* Everything but SIGTRAP is held off while remote calls run: a forced SIGTRAP that is
 * blocked would reset the task's handler for it (kernel/signal.c, force_sig_info). */
#define REMOTE_MASK (~(1ull << (SIGTRAP - 1)))

static bool is_dead(pid_t tid)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/stat", tid);
	CLEANUP_FREE char *stat = NULL;
	const char *state;

	if (file_read(path, 8192, &stat, NULL, NULL) < 0)
		return true;
	state = strrchr(stat, ')');
	return state && state[1] && (state[2] == 'Z' || state[2] == 'X');
}

int thread_seize(struct thread *t, unsigned long options, struct error *err)
{
	if (ptrace(PTRACE_SEIZE, t->tid, NULL, (void *)options) < 0) {
		int code = errno;

		/* Without CAP_SYS_ADMIN or in a filtered engine seccomp cannot be put aside. */
		if ((options & PTRACE_O_SUSPEND_SECCOMP) && (code == EPERM || code == EINVAL) &&
		    ptrace(PTRACE_SEIZE, t->tid, NULL,
			   (void *)(options & ~(unsigned long)PTRACE_O_SUSPEND_SECCOMP)) == 0) {
			t->traced = true;
			return 0;
		}
		/* One that is just ending must not be traced any more; so much for it. */
		if (code == EPERM && is_dead(t->tid))
			code = ESRCH;
		return error_sys(err, code, "tracing thread %d", t->vtid);
	}
	t->traced = true;
	t->filters_aside = options & PTRACE_O_SUSPEND_SECCOMP;
	return 0;
}

int thread_interrupt(struct thread *t)
{
	return ptrace(PTRACE_INTERRUPT, t->tid, NULL, NULL) < 0 ? -errno : 0;
}

static int set_regs(struct thread *t, struct user_regs_struct *regs)
{
	struct iovec iov = { regs, sizeof(*regs) };

	return ptrace(PTRACE_SETREGSET, t->tid, (void *)NT_PRSTATUS, &iov) < 0 ? -errno : 0;
}

int thread_wait_stop(struct thread *t, struct error *err)
{
	struct iovec iov = { &t->regs, sizeof(t->regs) };
	int status;

	for (;;) {
		pid_t r = waitpid(t->tid, &status, __WALL);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 || WIFEXITED(status) || WIFSIGNALED(status)) {
			t->traced = false;
			return error_set(err, ESRCH, "thread %d has ended meanwhile", t->vtid);
		}
		if (!WIFSTOPPED(status))
			continue;
		if (status >> 16 == PTRACE_EVENT_STOP) {
			int sig = WSTOPSIG(status);

			t->stop_signal = sig == SIGTRAP ? 0 : sig;
			break;
		}
		/* A signal on its way in is delivered; the interrupt stops the thread again
		 * before it runs an instruction of the handler. Other events pass. */
		if (ptrace(PTRACE_CONT, t->tid, NULL,
			   status >> 16 ? NULL : (void *)(long)WSTOPSIG(status)) < 0 &&
		    errno != ESRCH)
			return error_sys(err, errno, "continuing thread %d", t->vtid);
	}
	t->stopped = true;
	t->touched = false;
	if (ptrace(PTRACE_GETREGSET, t->tid, (void *)NT_PRSTATUS, &iov) < 0)
		return error_sys(err, errno, "reading registers of thread %d", t->vtid);
	if (arch_regs_stopped(&t->regs))
		set_regs(t, &t->regs);
	if (ptrace(PTRACE_GETSIGMASK, t->tid, (void *)8, &t->sigmask) < 0)
		return error_sys(err, errno, "reading the signal mask of thread %d", t->vtid);
	return 0;
}

int thread_hold_signals(struct thread *t)
{
	uint64_t mask = REMOTE_MASK;

	if (!t->stopped || !t->task->syscall_ip)
		return -ESRCH;
	if (!t->touched && ptrace(PTRACE_SETSIGMASK, t->tid, (void *)8, &mask) < 0)
		return -errno;
	t->touched = true;
	return 0;
}

/* Points the thread of a stub, or of a task that cannot be guarded, at a call. */
static int prepare(struct thread *t, long nr, unsigned long a, unsigned long b, unsigned long c,
		   unsigned long d, unsigned long e, unsigned long f)
{
	struct user_regs_struct regs;
	int r;

	thread_settle(t);
	regs = t->regs;
	r = thread_hold_signals(t);
	if (r < 0)
		return r;
	t->new_pid = 0;
	regs.rip = t->task->syscall_ip;
	regs.rax = (unsigned long)nr;
	regs.orig_rax = (unsigned long)-1;
	regs.rdi = a;
	regs.rsi = b;
	regs.rdx = c;
	regs.r10 = d;
	regs.r8 = e;
	regs.r9 = f;
	regs.eflags &= ~(0x100ul | 0x400ul); /* TF, DF */
	return set_regs(t, &regs);
}

int thread_syscall_start(struct thread *t, long nr, unsigned long a, unsigned long b,
			 unsigned long c, unsigned long d, unsigned long e, unsigned long f)
{
	int r;

	thread_settle(t);
	if (guard_takes(t))
		return guard_call(t, nr, (const unsigned long[]){ a, b, c, d, e, f });
	r = prepare(t, nr, a, b, c, d, e, f);
	if (r < 0)
		return r;
	if (ptrace(PTRACE_SINGLESTEP, t->tid, NULL, NULL) < 0)
		return -errno;
	t->in_call = t->stepping = true;
	t->by_guard = false;
	return 0;
}

/* Until the step, or the trap at the end of a batch. */
static int wait_trap(struct thread *t)
{
	unsigned long msg;
	int status, r;

	for (;;) {
		do
			r = waitpid(t->tid, &status, __WALL);
		while (r < 0 && errno == EINTR);
		if (r < 0 || WIFEXITED(status) || WIFSIGNALED(status)) {
			t->traced = t->stopped = false;
			return -ESRCH;
		}
		switch (status >> 16) {
		case 0:
			/* SIGSEGV and the like: the call is not what killed it. */
			return WSTOPSIG(status) == SIGTRAP ? 0 : -EFAULT;
		case PTRACE_EVENT_FORK:
		case PTRACE_EVENT_VFORK:
		case PTRACE_EVENT_CLONE:
			if (ptrace(PTRACE_GETEVENTMSG, t->tid, NULL, &msg) == 0)
				t->new_pid = (long)msg;
			break;
		default: /* PTRACE_EVENT_STOP: a job-control stop that was pending */
			break;
		}
		if (ptrace(t->stepping ? PTRACE_SINGLESTEP : PTRACE_CONT, t->tid, NULL, NULL) < 0)
			return -errno;
	}
}

long thread_settle(struct thread *t)
{
	struct user_regs_struct regs;
	struct iovec iov = { &regs, sizeof(regs) };
	bool single = t->stepping;
	long r;

	if (!t->in_call)
		return 0;
	r = t->by_guard ? guard_settle(t) : wait_trap(t);
	t->in_call = false;
	if (r < 0 || !single)
		return r;
	if (!t->by_guard) {
		if (ptrace(PTRACE_GETREGSET, t->tid, (void *)NT_PRSTATUS, &iov) < 0)
			return -errno;
		r = (long)regs.rax;
	}
	if (t->task->scratch_asked && t == &t->task->threads[0]) {
		t->task->scratch_asked = false;
		t->task->scratch = r > 0 ? (unsigned long)r : 0;
		t->task->scratch_whole = t->task->scratch != 0;
		guard_note_scratch(t->task);
	}
	return r;
}

long thread_syscall(struct thread *t, long nr, unsigned long a, unsigned long b, unsigned long c,
		    unsigned long d, unsigned long e, unsigned long f)
{
	int r = thread_syscall_start(t, nr, a, b, c, d, e, f);

	return r < 0 ? r : thread_settle(t);
}

/* Lets it go until its next stop. */
static int step(struct thread *t, int how, int *status)
{
	int r;

	if (ptrace(how, t->tid, NULL, NULL) < 0)
		return -errno;
	do
		r = waitpid(t->tid, status, __WALL);
	while (r < 0 && errno == EINTR);
	if (r >= 0 && !WIFEXITED(*status) && !WIFSIGNALED(*status))
		return 0;
	t->traced = t->stopped = false;
	return -ESRCH;
}

/*
 * Stopped when it enters the call, and told to stop again before it goes on: so it finds a
 * signal pending, and waits for nothing.
 */
long thread_interrupted_syscall(struct thread *t, long nr, unsigned long a, unsigned long b,
				unsigned long c, unsigned long d)
{
	struct user_regs_struct regs;
	struct iovec iov = { &regs, sizeof(regs) };
	int status = 0, r = prepare(t, nr, a, b, c, d, 0, 0);

	while (r == 0 && WSTOPSIG(status) != SIGTRAP) {
		r = step(t, PTRACE_SYSCALL, &status);
		if (r == 0 && status >> 16 == PTRACE_EVENT_STOP)
			status = 0; /* a job-control stop that was pending */
		else if (r == 0 && WSTOPSIG(status) != SIGTRAP)
			return -EFAULT;
	}
	if (r == 0)
		r = thread_interrupt(t);
	if (r == 0)
		r = step(t, PTRACE_CONT, &status);
	if (r == 0 && status >> 16 != PTRACE_EVENT_STOP)
		r = -EFAULT;
	if (r == 0 && ptrace(PTRACE_GETREGSET, t->tid, (void *)NT_PRSTATUS, &iov) < 0)
		r = -errno;
	return r < 0 ? r : (long)regs.rax;
}

int thread_put_back(struct thread *t)
{
	int r = 0;

	thread_settle(t);
	if (t->stopped && t->touched) {
		/* The mask first: with the true registers nothing would put it back any more. */
		if (ptrace(PTRACE_SETSIGMASK, t->tid, (void *)8, &t->sigmask) < 0)
			r = -errno;
		if (set_regs(t, &t->regs) < 0 && r == 0)
			r = -errno;
		t->touched = false;
		if (t->again)
			syscall(SYS_tgkill, t->task->pid, t->tid, t->again);
		t->again = 0;
	}
	return r;
}

void thread_detach(struct thread *t)
{
	thread_settle(t);
	if (t->traced && t->stopped) {
		thread_put_back(t);
		ptrace(PTRACE_DETACH, t->tid, NULL, NULL);
	}
	t->traced = t->stopped = false;
}

unsigned long syscall_find(struct task *t, uint64_t start, uint64_t end)
{
	uint8_t page[PAGE];

	for (uint64_t a = start; a < end; a += PAGE) {
		if (task_mem_read(t, a, page, PAGE) < 0)
			continue;
		for (size_t i = 0; i + 1 < PAGE; i++)
			if (page[i] == 0x0f && page[i + 1] == 0x05)
				return a + i;
	}
	return 0;
}

/* process_vm_*v refuses pages the task itself may not touch that way; /proc/PID/mem,
 * as a debugger's access, does not. */
int task_mem_read(struct task *t, uint64_t addr, void *buf, size_t len)
{
	struct iovec l = { buf, len }, r = { (void *)addr, len };
	ssize_t n = process_vm_readv(t->pid, &l, 1, &r, 1, 0);
	size_t done = n > 0 ? (size_t)n : 0;

	while (done < len) {
		n = pread(t->mem_fd, (char *)buf + done, len - done, (off_t)(addr + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EFAULT;
		done += (size_t)n;
	}
	return 0;
}

int task_mem_write(struct task *t, uint64_t addr, const void *buf, size_t len)
{
	struct iovec l = { (void *)(uintptr_t)buf, len }, r = { (void *)addr, len };
	ssize_t n = process_vm_writev(t->pid, &l, 1, &r, 1, 0);
	size_t done = n > 0 ? (size_t)n : 0;

	while (done < len) {
		n = pwrite(t->mem_fd, (const char *)buf + done, len - done, (off_t)(addr + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EFAULT;
		done += (size_t)n;
	}
	return 0;
}

/* --- object.h's view of a task ------------------------------------------------------- */
pid_t task_pid(const struct task *t)
{
	return t->pid;
}

pid_t task_vpid(const struct task *t)
{
	return t->vpid;
}

int task_pidfd(const struct task *t)
{
	return t->pidfd;
}

long remote_syscall(struct task *t, long nr, unsigned long a, unsigned long b, unsigned long c,
		    unsigned long d, unsigned long e, unsigned long f)
{
	if (!t->nthreads)
		return -ESRCH;
	return thread_syscall(&t->threads[0], nr, a, b, c, d, e, f);
}

void task_ask_scratch(struct task *t)
{
	if (t->scratch || !t->nthreads || !t->threads[0].stopped || t->threads[0].in_call)
		return;
	/* In one call; where memory may not be both, remote_scratch() and code_ready() need two. */
	t->scratch_asked = thread_syscall_start(&t->threads[0], SYS_mmap, REMOTE_SCRATCH_HINT,
						REMOTE_AREA, 7 /* RWX */,
						0x22 | 0x100000 /* PRIVATE|ANON|FIXED_NOREPLACE */,
						-1ul, 0) == 0;
}

unsigned long remote_scratch(struct task *t)
{
	long r;

	if (t->scratch_asked)
		thread_settle(&t->threads[0]);
	t->scratch_asked = false;
	if (t->scratch)
		return t->scratch;
	t->scratch_whole = false;
	r = remote_syscall(t, SYS_mmap, REMOTE_SCRATCH_HINT, REMOTE_AREA, 3 /* RW */,
			   0x22 | 0x100000 /* PRIVATE|ANON|FIXED_NOREPLACE */, -1ul, 0);
	if (r < 0)
		r = remote_syscall(t, SYS_mmap, 0, REMOTE_AREA, 3, 0x22, -1ul, 0);
	if (r > 0) {
		t->scratch = (unsigned long)r;
		guard_note_scratch(t);
	}
	return t->scratch;
}

void task_drop_scratch(struct task *t)
{
	if (t->scratch && t->nthreads && t->threads[0].stopped)
		thread_syscall_start(&t->threads[0], SYS_munmap, t->scratch, REMOTE_AREA, 0, 0, 0,
				     0);
	t->scratch = t->code_for = 0;
	guard_note_scratch(t);
}

int remote_read(struct task *t, unsigned long addr, void *buf, size_t len)
{
	return task_mem_read(t, addr, buf, len);
}

int remote_write(struct task *t, unsigned long addr, const void *buf, size_t len)
{
	return task_mem_write(t, addr, buf, len);
}
