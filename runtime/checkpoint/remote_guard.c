/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Remote calls at the source, such that an engine which is killed at any instant does no
 * harm. When a tracer dies its threads run at once, with whatever registers they have.
 * So a thread never has registers here that it could not run on with: it makes its calls
 * in code (arch/x86_64/guard_code.h) which, where nobody stops it, gives back the scratch
 * area, the signal mask and all registers, and jumps to where the thread was.
 *
 *   true registers ─ SETREGSET ─► code, calls, tgkill ── stop, waited for ──► rests
 *         ▲                            │ nobody traces it any more              │
 *         ├────────────── the code's second half ◄─────────────────────────────┤
 *         └──────────────────────── SETREGSET ◄─────────────────────────────────┘
 *
 * How it stops: it sends itself a signal that is ignored by default and has no handler.
 * A breakpoint's or a step's SIGTRAP would kill it where the tracer dies before it has
 * fetched the stop; this signal then just passes.
 *
 * Where the code lies: behind the end of the vdso's segment there are bytes up to the end
 * of its last page that no program uses. A debugger's write gives the process its own
 * copy of that page. What was there is put back in the end.
 *
 * A thread that was stopped in a system call would be restarted, or not, by the kernel.
 * The code does it as the kernel would: it makes the call again, but where a handler has
 * run that ends it (pause, poll, sleeps), it returns EINTR. It cannot know SA_RESTART:
 * calls that depend on it are made again.
 */
#include <elf.h>
#include <link.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/checkpoint/arch/x86_64/guard_code.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/remote_guard.h"

#define MAGIC 0x3164726175677966ull /* "fyguard1" */

#define ERESTARTSYS	      512
#define ERESTARTNOINTR	      513
#define ERESTARTNOHAND	      514
#define ERESTART_RESTARTBLOCK 516

#define CODE_BYTES ((size_t)guard_offset[GUARD_END])
#define DATA_AT	   guard_offset[GUARD_DATA]
#define REST_AT	   guard_offset[GUARD_REST]
/* In a scratch area: it is ours, and not memory that the program has mapped there since. */
#define MARK_AT (REMOTE_AREA - 8)

struct guard {
	uint64_t at;	   /* where the code is in the task; 0: not yet */
	uint64_t low, end; /* where code of any engine may be */
	uint64_t left;	   /* the scratch area of one that died; 0: none */
	uint64_t caught;   /* signals that have handlers */
	pid_t held;	   /* the thread whose registers guard_data has */
	int code;	   /* why not: an errno */
	struct guard_data d;
	uint8_t before[1024]; /* what was there */
};

/* Bytes of the vdso that its segment does not use: from here to the end of its last page. */
static uint64_t dead_from(void)
{
	static uint64_t known;
	const uint8_t *base = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
	const ElfW(Ehdr) *e = (const void *)base;

	if (known || !base)
		return known;
	for (size_t i = 0; i < e->e_phnum; i++) {
		const ElfW(Phdr) *p = (const void *)(base + e->e_phoff + i * e->e_phentsize);

		if (p->p_type == PT_LOAD && p->p_offset + p->p_filesz > known)
			known = p->p_offset + p->p_filesz;
	}
	return known;
}

static int put(struct task *t, uint64_t at, const void *data, size_t len)
{
	return pwrite(t->mem_fd, data, len, (off_t)at) == (ssize_t)len ? 0 : -EFAULT;
}

/* Another engine's code at `at`: true, and its scratch area, where it is there yet. */
static bool is_used(struct task *t, uint64_t at, uint64_t *scratch)
{
	uint64_t d[2] = { 0 }, mark = 0;

	if (pread(t->mem_fd, d, sizeof(d), (off_t)(at + DATA_AT)) != (ssize_t)sizeof(d) ||
	    d[0] != MAGIC)
		return false;
	if (d[1] && task_mem_read(t, d[1] + MARK_AT, &mark, sizeof(mark)) == 0 && mark == MAGIC)
		*scratch = d[1];
	return true;
}

/*
 * Finds a place: the last one, or the one before it where another engine has left its code
 * in the last: a thread may be in a signal handler that it entered from there.
 */
static int find_place(struct task *t, struct guard *g, uint64_t start, uint64_t end)
{
	uint64_t from = start + dead_from();

	if (from == start || from > end || end - from < CODE_BYTES ||
	    CODE_BYTES > sizeof(g->before))
		return -EOPNOTSUPP;
	g->end = end;
	g->low = end - CODE_BYTES;
	g->at = 0;
	if (end - from >= 2 * CODE_BYTES)
		g->low -= CODE_BYTES;
	g->at = is_used(t, end - CODE_BYTES, &g->left) ? g->low : end - CODE_BYTES;
	if (g->at == g->low)
		is_used(t, g->low, &g->left);
	for (size_t i = 0; i < t->nthreads; i++)
		if (t->threads[i].stopped && t->threads[i].regs.rip >= g->low &&
		    t->threads[i].regs.rip < end)
			return -EAGAIN; /* on its way back from the calls of an engine that died */
	return 0;
}

static int put_code(struct task *t, struct guard *g)
{
	if (pread(t->mem_fd, g->before, CODE_BYTES, (off_t)g->at) != (ssize_t)CODE_BYTES)
		return -EFAULT;
	return put(t, g->at, guard_code, CODE_BYTES);
}

static uint64_t mask_in(const char *status, const char *key)
{
	char line[64];

	return status_field(status, key, line, sizeof(line)) ? strtoull(line, NULL, 16) : 0;
}

/* -EAGAIN: not now. Other errors: this task's calls must be made the other way. */
static int ready(struct task *t)
{
	CLEANUP_FREE char *path = NULL, *status = NULL;
	struct guard *g = t->guard;
	int r = -EOPNOTSUPP;

	if (!g) {
		g = t->guard = mem_zalloc(sizeof(*g));
	} else if (g->at || g->code) {
		return g->code;
	}
	for (size_t i = t->vmas.n; i-- > 0;)
		if (t->vmas.v[i].kind == VMA_VDSO)
			r = find_place(t, g, t->vmas.v[i].start, t->vmas.v[i].end);
	if (r == 0)
		r = put_code(t, g);
	path = str_format("/proc/%d/status", t->pid);
	if (r == 0)
		r = file_read(path, 65536, &status, NULL, NULL);
	g->caught = r == 0 ? mask_in(status, "SigCgt") : 0;
	g->code = r;
	if (r < 0)
		g->at = 0;
	return r;
}

/* --- a thread in hand ------------------------------------------------------------------------ */
static uint64_t bit(int sig)
{
	return 1ull << (sig - 1);
}

/*
 * A signal that nobody misses and that does nothing. Where the thread blocks it, none may
 * be waiting: it would come in our one's place.
 */
static int choose_signal(const struct thread *th, uint64_t caught)
{
	static const int choice[] = { SIGURG, SIGWINCH, SIGCHLD };
	CLEANUP_FREE char *path = NULL, *status = NULL;
	uint64_t pending;

	for (size_t i = 0; i < 3; i++)
		if (!((caught | th->sigmask) & bit(choice[i])))
			return choice[i];
	path = str_format("/proc/%d/task/%d/status", th->task->pid, th->tid);
	if (file_read(path, 65536, &status, NULL, NULL) < 0)
		return SIGURG;
	pending = mask_in(status, "SigPnd") | mask_in(status, "ShdPnd");
	for (size_t i = 0; i < 3; i++)
		if (!((caught | (pending & th->sigmask)) & bit(choice[i])))
			return choice[i];
	/* All have handlers: one of them may run once too often, if the engine dies. */
	for (size_t i = 0; i < 3; i++)
		if (!(pending & bit(choice[i])))
			return choice[i];
	return SIGURG;
}

static void fill_restart(struct guard_data *d, const struct user_regs_struct *r)
{
	d->rax = d->rax_eintr = r->rax;
	d->rip = d->rip_eintr = r->rip;
	if ((long)r->orig_rax < 0)
		return;
	switch (-(long)r->rax) {
	case ERESTARTSYS:
	case ERESTARTNOINTR:
		d->rax = d->rax_eintr = r->orig_rax;
		d->rip = d->rip_eintr = r->rip - 2;
		break;
	case ERESTARTNOHAND:
		d->rax = r->orig_rax;
		d->rip = r->rip - 2;
		d->rax_eintr = (unsigned long)-EINTR;
		break;
	case ERESTART_RESTARTBLOCK:
		d->rax = SYS_restart_syscall;
		d->rip = r->rip - 2;
		d->rax_eintr = (unsigned long)-EINTR;
		break;
	default:
		break;
	}
}

static void fill(struct guard_data *d, const struct thread *th, int sig)
{
	const struct user_regs_struct *r = &th->regs;

	*d = (struct guard_data){
		.magic = MAGIC,
		.scratch = th->task->scratch,
		.mask = th->sigmask,
		.all_mask = ~0ull,
		.pid = (uint32_t)th->task->vpid,
		.tid = (uint32_t)th->vtid,
		.sig = (uint32_t)sig,
		.flags = r->eflags & ~0x100ull, /* TF */
		.rsp = r->rsp,
		.rbx = r->rbx,
		.rdx = r->rdx,
		.rsi = r->rsi,
		.rdi = r->rdi,
		.rbp = r->rbp,
		.r8 = r->r8,
		.r9 = r->r9,
		.r10 = r->r10,
		.r11 = r->r11,
		.r12 = r->r12,
		.r13 = r->r13,
		.r14 = r->r14,
		.r15 = r->r15,
		.rcx = r->rcx,
	};
	fill_restart(d, r);
}

/* The data are this thread's. There is one place for a process: another one goes back first. */
static int hold(struct thread *th)
{
	struct task *t = th->task;
	struct guard *g = t->guard;

	if (th->touched && g->held == th->tid)
		return 0;
	for (size_t i = 0; i < t->nthreads; i++)
		if (t->threads[i].touched && t->threads[i].tid == g->held)
			thread_put_back(&t->threads[i]);
	g->held = th->tid;
	fill(&g->d, th, choose_signal(th, g->caught));
	return put(t, g->at + DATA_AT, &g->d, sizeof(g->d));
}

static int get_regs(struct thread *th, struct user_regs_struct *regs)
{
	struct iovec iov = { regs, sizeof(*regs) };

	return ptrace(PTRACE_GETREGSET, th->tid, (void *)NT_PRSTATUS, &iov) < 0 ? -errno : 0;
}

/* From where regs point, towards the stop after tgkill. */
static int start(struct thread *th, struct user_regs_struct *regs, bool single)
{
	struct guard *g = th->task->guard;
	struct iovec iov = { regs, sizeof(*regs) };
	uint64_t mask = ~bit((int)g->d.sig);
	int r;

	regs->orig_rax = (unsigned long)-1;
	regs->eflags &= ~(0x100ul | 0x400ul); /* TF, DF */
	if (ptrace(PTRACE_SETREGSET, th->tid, (void *)NT_PRSTATUS, &iov) < 0)
		return -errno;
	/* Only now, when the way back has the true mask. */
	if (!th->touched && ptrace(PTRACE_SETSIGMASK, th->tid, (void *)8, &mask) < 0) {
		r = -errno;
		th->touched = true;
		thread_put_back(th);
		return r;
	}
	th->touched = true;
	if (ptrace(PTRACE_CONT, th->tid, NULL, NULL) < 0)
		return -errno;
	th->in_call = th->by_guard = true;
	th->stepping = single;
	return 0;
}

long guard_settle(struct thread *th)
{
	struct guard *g = th->task->guard;
	struct user_regs_struct regs;
	int sig = (int)g->d.sig, status, r;

	for (;;) {
		do
			r = waitpid(th->tid, &status, __WALL);
		while (r < 0 && errno == EINTR);
		if (r < 0 || WIFEXITED(status) || WIFSIGNALED(status)) {
			th->traced = th->stopped = false;
			return -ESRCH;
		}
		/* A job-control stop that was pending is passed over. */
		if (!(status >> 16)) {
			if (WSTOPSIG(status) != sig)
				return -EFAULT; /* SIGSEGV and the like: all others are blocked */
			r = get_regs(th, &regs);
			if (r < 0)
				return r;
			if (regs.rip == g->at + REST_AT)
				return th->stepping ? (long)regs.r14 : 0;
			/* Somebody else's: sent anew when its own mask is back. */
			th->again = sig;
		}
		if (ptrace(PTRACE_CONT, th->tid, NULL, NULL) < 0)
			return -errno;
	}
}

bool guard_takes(struct thread *th)
{
	int r;

	/* A filter that is not put aside might forbid what the way back needs. */
	if (!th->stopped || !th->task->outlives || !th->filters_aside)
		return false;
	r = ready(th->task);
	return r == 0 || r == -EAGAIN;
}

int guard_batch(struct thread *th, unsigned long calls, size_t n)
{
	struct user_regs_struct regs = th->regs;
	int r = ready(th->task);

	if (r == 0)
		r = hold(th);
	if (r < 0)
		return r;
	regs.rip = th->task->guard->at;
	regs.rbx = calls;
	regs.r12 = n;
	regs.r13 = 0;
	regs.r15 = th->task->scratch;
	return start(th, &regs, false);
}

int guard_call(struct thread *th, long nr, const unsigned long a[6])
{
	struct user_regs_struct regs = th->regs;
	struct guard *g;
	int r = ready(th->task);

	if (r == 0)
		r = hold(th);
	if (r < 0)
		return r;
	g = th->task->guard;
	if (g->left) {
		unsigned long left = g->left;

		g->left = 0;
		if (guard_call(th, SYS_munmap, (const unsigned long[6]){ left, REMOTE_AREA }) == 0)
			thread_settle(th);
	}
	regs.rip = g->at + guard_offset[GUARD_ONE];
	regs.rax = (unsigned long)nr;
	regs.rdi = a[0];
	regs.rsi = a[1];
	regs.rdx = a[2];
	regs.r10 = a[3];
	regs.r8 = a[4];
	regs.r9 = a[5];
	/* What the call leaves behind, if nobody comes back for it. */
	regs.r13 = nr == SYS_userfaultfd		   ? GUARD_CLOSE
		   : nr == SYS_mmap && a[1] == REMOTE_AREA ? GUARD_UNMAP
							   : 0;
	regs.r15 = nr == SYS_munmap ? 0 : th->task->scratch;
	return start(th, &regs, true);
}

void guard_note_scratch(struct task *t)
{
	const uint64_t mark = MAGIC;
	struct guard *g = t->guard;

	if (!g || !g->at || g->d.scratch == t->scratch)
		return;
	if (t->scratch)
		task_mem_write(t, t->scratch + MARK_AT, &mark, sizeof(mark));
	g->d.scratch = t->scratch;
	put(t, g->at + DATA_AT + offsetof(struct guard_data, scratch), &g->d.scratch,
	    sizeof(g->d.scratch));
}

void guard_end_task(struct task *t)
{
	struct guard *g = t->guard;

	if (!g)
		return;
	for (size_t i = 0; i < t->nthreads; i++)
		if (t->threads[i].traced && t->threads[i].stopped)
			thread_put_back(&t->threads[i]);
	if (g->at)
		put(t, g->at, g->before, CODE_BYTES);
	free(g);
	t->guard = NULL;
}

void guard_clean(struct task *t)
{
	struct thread *th = t->nthreads ? &t->threads[0] : NULL;
	const unsigned long none[6] = { 0 };

	if (t->zombie || !th || task_read_vmas(t, false, NULL) < 0 || !t->syscall_ip ||
	    thread_seize(th, PTRACE_O_SUSPEND_SECCOMP, NULL) < 0)
		return;
	t->outlives = true;
	if (thread_interrupt(th) == 0 && thread_wait_stop(th, NULL) == 0) {
		if (guard_takes(th) && t->guard->left && guard_call(th, SYS_getpid, none) == 0)
			thread_settle(th);
		guard_end_task(t);
	}
	thread_detach(th);
}
