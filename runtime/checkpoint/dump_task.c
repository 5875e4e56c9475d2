/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Source: all of a frozen process that is neither memory nor descriptor. What can be
 * read from outside is; remote calls fetch the rest.
 */
#include <elf.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/attributes.h"
#include "runtime/checkpoint/restart.h"

/* Processes that are asked at once. */
#define ABREAST 8

#define PR_GET_AUXV_ 0x41555856
#define AUXV_ROOM    1024

/* Everything allocated for one message, freed at once after it was sent. */
struct arena {
	void **p;
	size_t n;
};

static void *take(struct arena *a, size_t n)
{
	void *p = mem_zalloc(n + 1);

	a->p = mem_grow(a->p, a->n + 1, sizeof(*a->p));
	a->p[a->n++] = p;
	return p;
}

static ProtobufCBinaryData bytes(struct arena *a, const void *data, size_t n)
{
	ProtobufCBinaryData b = { n, take(a, n) };

	memcpy(b.data, data, n);
	return b;
}

static void arena_free(struct arena *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->p[i]);
	free(a->p);
}

/* Where in the leader's batch the answers are. */
struct asked {
	struct remote_batch b;
	size_t action[65], itimer[3], limit[16], brk, dumpable, subreaper, auxv, personality;
	struct attributes_query attributes;
	unsigned long action_at[65], itimer_at[3], limit_at[16], subreaper_at, auxv_at;
	uint64_t caught, ignored;
	struct thread_asked {
		size_t first;
		unsigned long alt_at, tid_at, sig_at;
		struct attributes_query attributes;
	} thread;
	int result; /* of its start */
};

struct state {
	struct dump *d;
	struct task *t;
	struct arena a;
	Ck__TaskState m;
	struct error *err;
	const char *status;	/* of the thread in hand */
	char *own_status;	/* … where it was read for it */
	struct filters filters; /* of the leader */
};

static char *text_of(struct state *s, const char *what)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/%s", s->t->pid, what);
	char *text = NULL;

	return file_read(path, 1 << 20, &text, NULL, NULL) < 0 ? NULL : text;
}

static char *link_of(struct state *s, const char *what)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/%s", s->t->pid, what);
	char to[4096];
	ssize_t n = readlink(path, to, sizeof(to) - 1);

	return n < 0 ? NULL : (char *)bytes(&s->a, to, (size_t)n).data;
}

/* --- signals --------------------------------------------------------------------------- */
static int peek_pending(struct state *s, struct thread *th, bool shared, size_t *n,
			ProtobufCBinaryData **out)
{
	struct __ptrace_peeksiginfo_args args = { .flags = shared ? PTRACE_PEEKSIGINFO_SHARED : 0,
						  .nr = 32 };
	siginfo_t *info = take(&s->a, 32 * sizeof(*info));
	long got;

	*n = 0;
	*out = NULL;
	while ((got = ptrace(PTRACE_PEEKSIGINFO, th->tid, &args, info)) > 0) {
		*out = mem_grow(*out, *n + (size_t)got, sizeof(**out));
		for (long i = 0; i < got; i++) {
			/* SIGTRAP that our own stepping left, if any, is not the task's. */
			if (info[i].si_signo == SIGTRAP)
				continue;
			(*out)[(*n)++] = bytes(&s->a, &info[i], sizeof(info[i]));
		}
		args.off += (uint64_t)got;
	}
	if (*out) {
		s->a.p = mem_grow(s->a.p, s->a.n + 1, sizeof(*s->a.p));
		s->a.p[s->a.n++] = *out;
	}
	return got < 0 ? error_sys(s->err, errno, "reading pending signals of process %d",
				   s->t->vpid)
		       : 0;
}

static uint64_t hex_field(const char *status, const char *key)
{
	char line[64];

	return status_field(status, key, line, sizeof(line)) ? strtoull(line, NULL, 16) : 0;
}

struct kernel_sigaction {
	uint64_t handler, flags, restorer, mask;
};

static bool asks_action(const struct asked *q, int sig)
{
	return sig == SIGCHLD || q->caught >> (sig - 1) & 1;
}

/*
 * What only the process itself can tell: actions of signals that /proc says are caught (and
 * of SIGCHLD, whose default action may carry SA_NOCLDWAIT), interval timers, limits, the end
 * of the heap, prctl flags.
 */
static void ask_process(struct asked *q, const char *status)
{
	struct remote_batch *b = &q->b;

	q->caught = hex_field(status, "SigCgt");
	q->ignored = hex_field(status, "SigIgn");
	for (int sig = 1; sig <= 64; sig++)
		if (asks_action(q, sig)) {
			q->action_at[sig] =
				remote_batch_put(b, NULL, sizeof(struct kernel_sigaction));
			q->action[sig] = remote_batch_add(b, SYS_rt_sigaction, (unsigned long)sig,
							  0, q->action_at[sig], 8, 0, 0);
		}
	for (unsigned long which = 0; which < 3; which++) {
		q->itimer_at[which] = remote_batch_put(b, NULL, sizeof(struct itimerval));
		q->itimer[which] =
			remote_batch_add(b, SYS_getitimer, which, q->itimer_at[which], 0, 0, 0, 0);
	}
	for (unsigned long which = 0; which < 16; which++) {
		q->limit_at[which] = remote_batch_put(b, NULL, sizeof(struct rlimit));
		q->limit[which] =
			remote_batch_add(b, SYS_prlimit64, 0, which, 0, q->limit_at[which], 0, 0);
	}
	q->brk = remote_batch_add(b, SYS_brk, 0, 0, 0, 0, 0, 0);
	q->dumpable = remote_batch_add(b, SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0, 0);
	q->subreaper_at = remote_batch_put(b, NULL, sizeof(int));
	q->subreaper =
		remote_batch_add(b, SYS_prctl, PR_GET_CHILD_SUBREAPER, q->subreaper_at, 0, 0, 0, 0);
	q->auxv_at = remote_batch_put(b, NULL, AUXV_ROOM);
	q->auxv = remote_batch_add(b, SYS_prctl, PR_GET_AUXV_, q->auxv_at, AUXV_ROOM, 0, 0, 0);
	q->personality = remote_batch_add(b, SYS_personality, 0xffffffff, 0, 0, 0, 0, 0);
	attributes_ask_process(b, &q->attributes);
}

static int sigactions(struct state *s, const struct asked *q)
{
	s->m.sigactions = take(&s->a, 64 * sizeof(void *));
	for (int sig = 1; sig <= 64; sig++) {
		struct kernel_sigaction sa = { .handler = (uint64_t)(uintptr_t)SIG_IGN };
		Ck__Sigaction *m;

		if (sig == SIGKILL || sig == SIGSTOP)
			continue;
		if (asks_action(q, sig)) {
			long n = q->b.c[q->action[sig]].ret;

			if (n < 0)
				return error_sys(s->err, (int)-n,
						 "reading the action of signal %d of process %d",
						 sig, s->t->vpid);
			memcpy(&sa, remote_batch_out(&q->b, q->action_at[sig]), sizeof(sa));
		} else if (!(q->ignored >> (sig - 1) & 1)) {
			continue;
		}
		m = take(&s->a, sizeof(*m));
		ck__sigaction__init(m);
		m->signo = (uint32_t)sig;
		m->action = bytes(&s->a, &sa, sizeof(sa));
		s->m.sigactions[s->m.n_sigactions++] = m;
	}
	return 0;
}

/* --- timers ---------------------------------------------------------------------------- */
static int itimers(struct state *s, const struct asked *q)
{
	s->m.itimers = take(&s->a, 3 * sizeof(*s->m.itimers));
	for (size_t which = 0; which < 3; which++) {
		long n = q->b.c[q->itimer[which]].ret;

		if (n < 0)
			return error_sys(s->err, (int)-n, "reading an interval timer of process %d",
					 s->t->vpid);
		s->m.itimers[s->m.n_itimers++] =
			bytes(&s->a, remote_batch_out(&q->b, q->itimer_at[which]),
			      sizeof(struct itimerval));
	}
	return 0;
}

/* /proc/PID/timers: "ID: 0\nsignal: 14/0000…\nnotify: signal/pid.7\nClockID: 1\n" each. */
static int posix_timers(struct state *s)
{
	CLEANUP_FREE char *text = text_of(s, "timers");
	unsigned long at = remote_scratch(s->t);
	char *save = NULL;
	Ck__PosixTimer *m = NULL;

	for (char *l = text ? strtok_r(text, "\n", &save) : NULL; l;
	     l = strtok_r(NULL, "\n", &save)) {
		unsigned int id;
		void *value;
		char how[16], whom[8];
		int a, b;

		if (sscanf(l, "ID: %u", &id) == 1) {
			m = take(&s->a, sizeof(*m));
			ck__posix_timer__init(m);
			m->id = id;
			s->m.timers =
				mem_grow(s->m.timers, s->m.n_timers + 1, sizeof(*s->m.timers));
			s->m.timers[s->m.n_timers++] = m;
		} else if (m && sscanf(l, "signal: %d/%p", &a, &value) == 2) {
			m->signo = a;
			m->value = (uint64_t)(uintptr_t)value;
		} else if (m && sscanf(l, "notify: %15[^/]/%7[^.].%d", how, whom, &b) == 3) {
			m->notify = strcmp(how, "signal") == 0	 ? SIGEV_SIGNAL
				    : strcmp(how, "thread") == 0 ? SIGEV_THREAD
								 : SIGEV_NONE;
			if (strcmp(whom, "tid") == 0) {
				m->notify |= SIGEV_THREAD_ID;
				/* The file names it as its reader's namespace sees it. */
				for (size_t i = 0; i < s->t->nthreads; i++)
					if (s->t->threads[i].tid == b)
						m->tid = s->t->threads[i].vtid;
			}
		} else if (m && sscanf(l, "ClockID: %d", &a) == 1) {
			struct itimerspec v;
			long n = remote_syscall(s->t, SYS_timer_gettime, m->id, at, 0, 0, 0, 0);

			m->clock = a;
			if (n == 0)
				n = remote_read(s->t, at, &v, sizeof(v));
			if (n < 0)
				return error_sys(s->err, (int)-n, "reading timer %u of process %d",
						 m->id, s->t->vpid);
			m->itimerspec = bytes(&s->a, &v, sizeof(v));
		}
	}
	return 0;
}

/* --- credentials ------------------------------------------------------------------------- */
static void ids(struct state *s, const char *key, size_t *n, uint32_t **out)
{
	/* There may be 65,536 groups. */
	size_t len = strlen(s->status) + 1;
	char *line = take(&s->a, len), *p = line, *end;

	*n = 0;
	*out = take(&s->a, len / 2 * sizeof(**out));
	if (!status_field(s->status, key, line, len))
		return;
	for (;; p = end) {
		unsigned long v = strtoul(p, &end, 10);

		if (end == p)
			break;
		(*out)[(*n)++] = (uint32_t)v;
	}
}

static void creds(struct state *s, Ck__Thread *m, long bits)
{
	Ck__Creds *c = take(&s->a, sizeof(*c));

	ck__creds__init(c);
	ids(s, "Uid", &c->n_uids, &c->uids);
	ids(s, "Gid", &c->n_gids, &c->gids);
	ids(s, "Groups", &c->n_groups, &c->groups);
	c->cap_inh = hex_field(s->status, "CapInh");
	c->cap_prm = hex_field(s->status, "CapPrm");
	c->cap_eff = hex_field(s->status, "CapEff");
	c->cap_bnd = hex_field(s->status, "CapBnd");
	c->cap_amb = hex_field(s->status, "CapAmb");
	c->no_new_privs = hex_field(s->status, "NoNewPrivs") == 1;
	c->securebits = bits > 0 ? (uint32_t)bits : 0;
	m->creds = c;
}

static int seccomp(struct state *s, struct thread *th, Ck__Thread *m)
{
	uint64_t mode = hex_field(s->status, "Seccomp");
	struct filters own = { 0 };
	const struct filters *f;
	size_t same = 0;
	int r;

	m->has_seccomp_strict = 1;
	m->seccomp_strict = mode == 1;
	if (mode != 2)
		return 0;
	/* The leader's are read already. */
	r = th == &s->t->threads[0] ? 0 : filters_read(th, &own, s->err);
	if (r < 0)
		return r;
	f = th == &s->t->threads[0] ? &s->filters : &own;
	/* Threads most often have all filters in common, and there may be a thousand of them. */
	while (th != &s->t->threads[0] && same < f->n && same < s->filters.n &&
	       filters_equal(f, &s->filters, same))
		same++;
	m->has_seccomp_same = 1;
	m->seccomp_same = (uint32_t)same;
	m->seccomp = take(&s->a, (f->n + 1) * sizeof(*m->seccomp));
	m->seccomp_flags = take(&s->a, (f->n + 1) * sizeof(*m->seccomp_flags));
	for (size_t i = same; i < f->n; i++) {
		m->seccomp_flags[m->n_seccomp_flags++] = f->flags[i];
		m->seccomp[m->n_seccomp++] = bytes(&s->a, f->f[i].data, f->f[i].len);
	}
	filters_free(&own);
	return 0;
}

/* --- a thread -------------------------------------------------------------------------------- */
static void ask_thread(struct remote_batch *b, struct thread_asked *q)
{
	q->alt_at = remote_batch_put(b, NULL, sizeof(stack_t));
	q->tid_at = remote_batch_put(b, NULL, sizeof(uint64_t));
	q->sig_at = remote_batch_put(b, NULL, sizeof(int));
	q->first = remote_batch_add(b, SYS_sigaltstack, 0, q->alt_at, 0, 0, 0, 0);
	remote_batch_add(b, SYS_prctl, PR_GET_TID_ADDRESS, q->tid_at, 0, 0, 0, 0);
	remote_batch_add(b, SYS_prctl, PR_GET_PDEATHSIG, q->sig_at, 0, 0, 0, 0);
	remote_batch_add(b, SYS_prctl, PR_GET_SECUREBITS, 0, 0, 0, 0, 0);
	remote_batch_add(b, SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0, 0);
	attributes_ask(b, &q->attributes);
}

/* What it has answered. */
static int thread_answer(struct state *s, struct thread *th, const struct remote_batch *b,
			 const struct thread_asked *q, Ck__Thread *m)
{
	const struct remote_call *c = &b->c[q->first];
	int sig;

	if (c[0].ret < 0)
		return error_sys(s->err, (int)-c[0].ret, "reading the signal stack of thread %d",
				 th->vtid);
	m->has_altstack = 1;
	m->altstack = bytes(&s->a, remote_batch_out(b, q->alt_at), sizeof(stack_t));
	if (c[1].ret == 0) {
		memcpy(&m->clear_tid, remote_batch_out(b, q->tid_at), sizeof(m->clear_tid));
		m->has_clear_tid = 1;
	}
	if (c[2].ret == 0) {
		memcpy(&sig, remote_batch_out(b, q->sig_at), sizeof(sig));
		m->has_pdeathsig = 1;
		m->pdeathsig = sig;
	}
	creds(s, m, c[3].ret);
	if (c[4].ret >= 0) {
		m->has_timerslack_ns = 1;
		m->timerslack_ns = (uint64_t)c[4].ret;
	}
	attributes_answer(th, b, &q->attributes, take(&s->a, sizeof(struct attributes_room)), m);
	return 0;
}

/* How long it is without the zeros at its end; the part that is always there counts. */
static size_t without_zeros(const uint8_t *p, size_t n)
{
	uint64_t word;

	for (; n >= 576 + sizeof(word) && n % sizeof(word) == 0; n -= sizeof(word)) {
		memcpy(&word, p + n - sizeof(word), sizeof(word));
		if (word)
			break;
	}
	while (n > 576 && !p[n - 1])
		n--;
	return n;
}

/* `q`: its batch, which is under way; NULL: it is asked here. */
static int one_thread(struct state *s, struct thread *th, struct asked *q, Ck__Thread *m)
{
	static uint8_t xstate[65536];
	struct iovec iov = { xstate, sizeof(xstate) };
	struct user_regs_struct regs = th->regs;
	struct __ptrace_rseq_configuration rs = { 0 };
	struct thread_asked own;
	struct remote_batch b;
	CLEANUP_FREE char *path = NULL;
	struct sched_param sp = { 0 };
	cpu_set_t set;
	void *head = NULL;
	size_t len = 0;
	int r = 0;

	if (q) {
		r = remote_batch_wait(&q->b);
	} else {
		remote_batch_begin(&b, th);
		ask_thread(&b, &own);
		r = remote_batch_run(&b);
	}
	if (r < 0)
		return error_sys(s->err, -r, "asking thread %d about itself", th->vtid);
	free(TAKE_PTR(s->own_status));
	s->status = th == &s->t->threads[0] ? s->t->status : NULL;
	if (!s->status) {
		path = str_format("/proc/%d/task/%d/status", s->t->pid, th->tid);
		r = file_read(path, 65536, &s->own_status, NULL, s->err);
		s->status = s->own_status;
	}
	if (r < 0)
		return r;
	ck__thread__init(m);
	m->vtid = (uint32_t)th->vtid;
	restart_dump(s->d, th, &regs, m);
	arch_regs_restart(&regs);
	m->regs = bytes(&s->a, &regs, sizeof(regs));
	if (ptrace(PTRACE_GETREGSET, th->tid, (void *)NT_X86_XSTATE, &iov) < 0)
		return error_sys(s->err, errno, "reading the vector registers of thread %d",
				 th->vtid);
	/* Most of it is zero in most threads; restored it is as long as it was. */
	m->has_xstate_bytes = 1;
	m->xstate_bytes = (uint32_t)iov.iov_len;
	iov.iov_len = without_zeros(xstate, iov.iov_len);
	m->xstate = bytes(&s->a, xstate, iov.iov_len);
	m->sigmask = th->sigmask;
	r = peek_pending(s, th, false, &m->n_pending, &m->pending);
	if (r < 0)
		return r;
	if (syscall(SYS_get_robust_list, th->tid, &head, &len) == 0) {
		m->has_robust_head = m->has_robust_len = 1;
		m->robust_head = (uint64_t)(uintptr_t)head;
		m->robust_len = len;
	}
	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, th->tid, sizeof(rs), &rs) > 0 &&
	    rs.rseq_abi_pointer) {
		m->has_rseq = 1;
		m->rseq = bytes(&s->a, &rs, sizeof(rs));
		th->rseq = rs.rseq_abi_pointer;
		th->rseq_len = rs.rseq_abi_size;
	}
	r = thread_answer(s, th, q ? &q->b : &b, q ? &q->thread : &own, m);
	if (r < 0)
		return r;
	r = seccomp(s, th, m);
	if (r < 0)
		return r;
	m->comm = take(&s->a, 64);
	status_field(s->status, "Name", m->comm, 64);
	m->has_policy = m->has_priority = m->has_nice = 1;
	m->policy = sched_getscheduler(th->tid);
	if (sched_getparam(th->tid, &sp) == 0)
		m->priority = sp.sched_priority;
	m->nice = getpriority(PRIO_PROCESS, (id_t)th->tid);
	if (sched_getaffinity(th->tid, sizeof(set), &set) == 0) {
		m->has_affinity = 1;
		m->affinity = bytes(&s->a, &set, sizeof(set));
	}
	return 0;
}

/* --- the process --------------------------------------------------------------------------- */
/* Kernels before 6.4 do not tell it themselves. */
static void auxv(struct state *s, const struct asked *q)
{
	CLEANUP_FREE char *path = NULL, *text = NULL;
	int64_t n = q->b.c[q->auxv].ret;
	size_t len = 0;

	if (n > 0 && n <= AUXV_ROOM) {
		s->m.has_auxv = 1;
		s->m.auxv = bytes(&s->a, remote_batch_out(&q->b, q->auxv_at), (size_t)n);
		return;
	}
	path = str_format("/proc/%d/auxv", s->t->pid);
	if (file_read(path, 65536, &text, &len, NULL) == 0) {
		s->m.has_auxv = 1;
		s->m.auxv = bytes(&s->a, text, len);
	}
}

/* Fields of /proc/PID/stat, which are what PR_SET_MM_MAP sets (proc(5)). */
static int mm_fields(struct state *s, const struct asked *q)
{
	CLEANUP_FREE char *own = s->t->stat ? NULL : text_of(s, "stat");
	struct prctl_mm_map mm = { .exe_fd = (uint32_t)-1 };
	uint64_t field[64] = { 0 };
	const char *text = s->t->stat ? s->t->stat : own;
	const char *p = text ? strrchr(text, ')') : NULL;

	if (!p)
		return error_set(s->err, ESRCH, "process %d has ended", s->t->vpid);
	for (int i = 3; i < 53 && (p = strchr(p + 1, ' ')); i++)
		field[i] = strtoull(p + 1, NULL, 10);
	if (attributes_io_flusher(field[9]))
		s->m.threads[0]->attributes->io_flusher = 1;
	mm.start_code = field[26];
	mm.end_code = field[27];
	mm.start_stack = field[28];
	mm.start_data = field[45];
	mm.end_data = field[46];
	mm.start_brk = field[47];
	mm.brk = (uint64_t)q->b.c[q->brk].ret;
	mm.arg_start = field[48];
	mm.arg_end = field[49];
	mm.env_start = field[50];
	mm.env_end = field[51];
	s->m.has_mm_map = 1;
	s->m.mm_map = bytes(&s->a, &mm, sizeof(mm));
	auxv(s, q);
	return 0;
}

static int rlimits(struct state *s, const struct asked *q)
{
	s->m.rlimits = take(&s->a, 16 * sizeof(void *));
	for (int i = 0; i < 16; i++) {
		int64_t n = q->b.c[q->limit[i]].ret;
		struct rlimit now;
		Ck__Rlimit *m;

		if (n < 0)
			return error_sys(s->err, (int)-n, "reading limit %d of process %d", i,
					 s->t->vpid);
		memcpy(&now, remote_batch_out(&q->b, q->limit_at[i]), sizeof(now));
		m = take(&s->a, sizeof(*m));
		ck__rlimit__init(m);
		m->cur = now.rlim_cur;
		m->max = now.rlim_max;
		s->m.rlimits[s->m.n_rlimits++] = m;
	}
	return 0;
}

/* A program whose file was deleted travels with its memory: mem_shared.c. */
static int deleted_program(struct state *s)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/exe", s->t->pid);
	struct stat st;

	if (!s->m.exe || !str_ends(s->m.exe, " (deleted)") || stat(path, &st) < 0 || st.st_nlink)
		return 0;
	s->m.exe_shared = dump_shared_id(s->d, st.st_dev, st.st_ino);
	s->m.has_exe_shared = 1;
	return s->m.exe_shared ? 0
			       : error_set(s->err, EOPNOTSUPP,
					   "the file of the program of process %d was deleted, and "
					   "the process has nothing of it mapped any more",
					   s->t->vpid);
}

static int process(struct state *s, const struct asked *q)
{
	CLEANUP_FREE char *oom = NULL;
	struct thread *leader = &s->t->threads[0];
	char line[32];
	int r, subreaper;

	r = mm_fields(s, q);
	if (r == 0)
		r = sigactions(s, q);
	if (r == 0)
		r = peek_pending(s, leader, true, &s->m.n_pending, &s->m.pending);
	if (r == 0)
		r = itimers(s, q);
	if (r == 0)
		r = posix_timers(s);
	if (r == 0)
		r = rlimits(s, q);
	if (r < 0)
		return r;
	s->m.exe = link_of(s, "exe");
	r = deleted_program(s);
	if (r < 0)
		return r;
	s->m.cwd = link_of(s, "cwd");
	s->m.root = link_of(s, "root");
	if (status_field(s->status, "Umask", line, sizeof(line))) {
		s->m.has_umask = 1;
		s->m.umask = (uint32_t)strtoul(line, NULL, 8);
	}
	oom = text_of(s, "oom_score_adj");
	if (oom) {
		s->m.has_oom_score_adj = 1;
		s->m.oom_score_adj = atoi(oom);
	}
	s->m.has_dumpable = 1;
	s->m.dumpable = (int32_t)q->b.c[q->dumpable].ret;
	s->m.has_subreaper = 1;
	memcpy(&subreaper, remote_batch_out(&q->b, q->subreaper_at), sizeof(subreaper));
	s->m.subreaper = subreaper != 0;
	attributes_answer_process(s->t, &q->b, &q->attributes, &s->m);
	s->m.has_personality = 1;
	s->m.personality = (uint32_t)q->b.c[q->personality].ret;
	s->m.has_stop_signal = 1;
	s->m.stop_signal = leader->stop_signal;
	return 0;
}

/* Begins to ask its leader everything, all in one batch. */
static int start(struct task *t, struct asked *q, struct error *err)
{
	CLEANUP_FREE char *path = NULL, *own = NULL;
	int r = 0;

	if (!remote_scratch(t))
		return error_set(err, ENOMEM, "process %d has no room for a scratch page", t->vpid);
	if (!t->status) {
		path = str_format("/proc/%d/status", t->pid);
		r = file_read(path, 65536, &own, NULL, err);
	}
	if (r < 0)
		return r;
	remote_batch_begin(&q->b, &t->threads[0]);
	ask_thread(&q->b, &q->thread);
	ask_process(q, own ? own : t->status);
	r = remote_batch_start(&q->b);
	return r < 0 ? error_sys(err, -r, "asking process %d about itself", t->vpid) : 0;
}

static int finish(struct dump *d, struct task *t, struct asked *q, struct error *err)
{
	struct state s = { .d = d, .t = t, .err = err };
	Ck__Thread *th;
	int r;

	ck__task_state__init(&s.m);
	s.m.vpid = (uint32_t)t->vpid;
	th = take(&s.a, t->nthreads * sizeof(*th));
	s.m.threads = take(&s.a, t->nthreads * sizeof(*s.m.threads));
	/* The leader first: others are asked in the same place. */
	r = remote_batch_wait(&q->b);
	if (r < 0)
		error_sys(err, -r, "asking process %d about itself", t->vpid);
	if (r == 0)
		r = filters_read(&t->threads[0], &s.filters, err);
	/* The leader last, so that its /proc/status is the one at hand afterwards. */
	for (size_t i = t->nthreads; i-- > 0 && r == 0;) {
		r = one_thread(&s, &t->threads[i], i ? NULL : q, &th[i]);
		s.m.threads[i] = &th[i];
	}
	s.m.n_threads = t->nthreads;
	if (r == 0)
		r = process(&s, q);
	if (r == 0)
		r = stream_send_msg(d->s, FRAME_TASK, &s.m.base, err);
	filters_free(&s.filters);
	free(s.m.timers);
	free(s.own_status);
	arena_free(&s.a);
	return r;
}

/*
 * A process answers while those before it are read and sent: each remote call is a wait,
 * and so they are waits for several at once.
 */
int dump_task_states(struct dump *d, struct error *err)
{
	CLEANUP_FREE struct asked *q = mem_zalloc(ABREAST * sizeof(*q));
	CLEANUP_FREE struct task **list = mem_zalloc((d->tasks.n + 1) * sizeof(*list));
	size_t n = 0, started = 0;
	int r = 0;

	for (size_t i = 0; i < d->tasks.n; i++)
		if (!d->tasks.t[i]->zombie)
			list[n++] = d->tasks.t[i];
	for (size_t i = 0; i < n && r == 0; i++) {
		for (; started < n && started < i + ABREAST && r == 0; started++)
			r = start(list[started], &q[started % ABREAST], err);
		if (r == 0)
			r = finish(d, list[i], &q[i % ABREAST], err);
		if (r < 0)
			break;
		task_drop_scratch(list[i]);
		/* The destination builds them meanwhile. */
		if (i % ABREAST == ABREAST - 1)
			r = stream_flush(d->s, err);
	}
	return r;
}
