/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destination: threads, then everything of a process that is neither memory nor
 * descriptor. Order matters: what needs privileges comes first, credentials late,
 * registers last. Filters of seccomp are put aside for remote calls
 * (PTRACE_O_SUSPEND_SECCOMP), so they are installed while there still is a privilege
 * to install them without no_new_privs.
 */
#include <elf.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/securebits.h>
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
#include "runtime/checkpoint/restore_place.h"

#define PR_TIMER_CREATE_RESTORE_IDS_ 77 /* Linux 6.16 */

static int failed(struct task *t, long code, struct error *err, const char *what)
{
	return error_sys(err, (int)-code, "%s of process %d", what, t->vpid);
}

/* A call whose one argument is data in the scratch area. */
static long put(struct task *t, const void *data, size_t n)
{
	unsigned long at = remote_scratch(t);

	return !at ? -ENOMEM : n > REMOTE_SCRATCH ? -E2BIG : remote_write(t, at, data, n);
}

static int threads(struct task *t, struct error *err)
{
	const Ck__TaskState *s = t->state;

	t->threads = mem_grow(t->threads, s->n_threads + 1, sizeof(*t->threads));
	for (size_t i = 1; i < s->n_threads; i++) {
		struct {
			struct clone_args args;
			pid_t tid;
		} a = { .args = { .flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
					   CLONE_THREAD | CLONE_SYSVSEM,
				  .set_tid_size = 1 },
			.tid = (pid_t)s->threads[i]->vtid };
		unsigned long at = remote_scratch(t);
		struct thread *th = &t->threads[i];
		long n;

		a.args.set_tid = at + offsetof(__typeof__(a), tid);
		n = put(t, &a, sizeof(a));
		if (n == 0)
			n = remote_syscall(t, SYS_clone3, at, sizeof(a.args), 0, 0, 0, 0);
		if (n < 0 || !t->threads[0].new_pid)
			return error_sys(err, n < 0 ? (int)-n : ECHILD, "making thread %u",
					 s->threads[i]->vtid);
		*th = (struct thread){ .tid = (pid_t)t->threads[0].new_pid,
				       .vtid = a.tid,
				       .task = t,
				       .traced = true };
		t->nthreads++;
		n = thread_wait_stop(th, err);
		if (n < 0)
			return (int)n;
	}
	return 0;
}

/* --- the parts of a process -------------------------------------------------------------- */
/* Signals that stubs catch or ignore: all do as the first, whom no program was given to. */
static uint64_t stub_signals(struct restore *r, const struct task *t)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/status", t->pid);
	CLEANUP_FREE char *status = NULL;
	char line[32];

	if (r->stub_known)
		return r->stub_signals;
	r->stub_known = true;
	if (file_read(path, 65536, &status, NULL, NULL) < 0)
		return r->stub_signals;
	if (status_field(status, "SigCgt", line, sizeof(line)))
		r->stub_signals |= strtoull(line, NULL, 16);
	if (status_field(status, "SigIgn", line, sizeof(line)))
		r->stub_signals |= strtoull(line, NULL, 16);
	return r->stub_signals;
}

static int sigactions(struct remote_batch *b, const struct task *t, uint64_t stale,
		      struct error *err)
{
	const Ck__TaskState *s = t->state;
	static const char none[32];

	for (size_t i = 0; i < s->n_sigactions; i++) {
		const Ck__Sigaction *m = s->sigactions[i];

		if (m->action.len != 32 || m->signo < 1 || m->signo > 64 || i >= 64)
			return error_set(err, EBADMSG, "a signal's action of process %d", t->vpid);
		stale &= ~(1ull << (m->signo - 1));
		if (m->signo == SIGCHLD && memcmp(m->action.data, none, 32) == 0)
			continue;
		remote_batch_add(b, SYS_rt_sigaction, m->signo,
				 remote_batch_put(b, m->action.data, 32), 0, 8, 0, 0);
	}
	for (uint32_t sig = 1; sig <= 64; sig++)
		if (stale >> (sig - 1) & 1)
			remote_batch_add(b, SYS_rt_sigaction, sig, remote_batch_put(b, none, 32), 0,
					 8, 0, 0);
	return 0;
}

static int timers(struct task *t, const Ck__TaskState *s, struct error *err)
{
	unsigned long at = remote_scratch(t);
	long n;

	for (size_t i = 0; i < s->n_itimers && i < 3; i++) {
		struct itimerval v = { 0 };

		if (s->itimers[i].len != sizeof(v))
			return error_set(err, EBADMSG, "an interval timer of process %d", t->vpid);
		memcpy(&v, s->itimers[i].data, sizeof(v));
		/* Its signal was pending: the kernel starts it again when that is delivered. */
		if (!v.it_value.tv_sec && !v.it_value.tv_usec)
			v.it_value = v.it_interval;
		if (!v.it_value.tv_sec && !v.it_value.tv_usec)
			continue;
		n = put(t, &v, sizeof(v));
		if (n == 0)
			n = remote_syscall(t, SYS_setitimer, i, at, 0, 0, 0, 0);
		if (n < 0)
			return failed(t, n, err, "setting an interval timer");
	}
	if (s->n_timers)
		remote_syscall(t, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS_, 1, 0, 0, 0, 0);
	for (size_t i = 0; i < s->n_timers; i++) {
		const Ck__PosixTimer *m = s->timers[i];
		struct {
			struct sigevent ev;
			int id;
			int pad;
			struct itimerspec v;
		} a = { 0 };
		int got = -1;

		if (m->itimerspec.len != sizeof(a.v))
			return error_set(err, EBADMSG, "a timer of process %d", t->vpid);
		a.ev.sigev_notify = m->notify;
		a.ev.sigev_signo = m->signo;
		a.ev.sigev_value.sival_ptr = (void *)m->value;
		a.ev._sigev_un._tid = m->tid;
		memcpy(&a.v, m->itimerspec.data, sizeof(a.v));
		if (!a.v.it_value.tv_sec && !a.v.it_value.tv_nsec)
			a.v.it_value = a.v.it_interval;
		/* Older kernels give ids in turn: make and delete until it is the one. */
		for (int tries = 0; got != (int)m->id; tries++) {
			a.id = (int)m->id;
			n = put(t, &a, sizeof(a));
			if (n == 0)
				n = remote_syscall(t, SYS_timer_create, (unsigned long)m->clock, at,
						   at + offsetof(__typeof__(a), id), 0, 0, 0);
			if (n == 0)
				n = remote_read(t, at + offsetof(__typeof__(a), id), &got,
						sizeof(got));
			if (n < 0 || tries > 10000)
				return failed(t, n < 0 ? n : -EEXIST, err, "making a timer");
			if (got != (int)m->id)
				remote_syscall(t, SYS_timer_delete, (unsigned long)got, 0, 0, 0, 0,
					       0);
		}
		n = remote_syscall(t, SYS_timer_settime, m->id, 0, at + offsetof(__typeof__(a), v),
				   0, 0, 0);
		if (n < 0)
			return failed(t, n, err, "starting a timer");
	}
	if (s->n_timers)
		remote_syscall(t, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS_, 0, 0, 0, 0, 0);
	return 0;
}

/* Raising hard limits needs CAP_SYS_RESOURCE, which the host may lack: then as much of
 * the limit as is allowed here. */
static void rlimits(struct task *t, const Ck__TaskState *s)
{
	for (size_t i = 0; i < s->n_rlimits && i < 16; i++) {
		struct rlimit now, want = { s->rlimits[i]->cur, s->rlimits[i]->max };

		if (!(t->limits >> i & 1) || prlimit(t->pid, (int)i, &want, NULL) == 0 ||
		    prlimit(t->pid, (int)i, NULL, &now) < 0)
			continue;
		want.rlim_max = want.rlim_max < now.rlim_max ? want.rlim_max : now.rlim_max;
		want.rlim_cur = want.rlim_cur < want.rlim_max ? want.rlim_cur : want.rlim_max;
		prlimit(t->pid, (int)i, &want, NULL);
	}
}

/* --- threads -------------------------------------------------------------------------------- */
static void set_caps(struct remote_batch *b, uint64_t inh, uint64_t prm, uint64_t eff)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = { { (uint32_t)eff, (uint32_t)prm, (uint32_t)inh },
					       { (uint32_t)(eff >> 32), (uint32_t)(prm >> 32),
						 (uint32_t)(inh >> 32) } };

	remote_batch_add(b, SYS_capset, remote_batch_put(b, &h, sizeof(h)),
			 remote_batch_put(b, d, sizeof(d)), 0, 0, 0, 0);
}

/* What the calls of creds() are for, so that one that fails can be named. */
static const char *creds_call(const struct remote_call *c)
{
	switch (c->nr) {
	case SYS_setgroups:
		return "groups";
	case SYS_setresgid:
	case SYS_setfsgid:
		return "group";
	case SYS_setresuid:
	case SYS_setfsuid:
		return "user";
	case SYS_capset:
		return "capabilities";
	}
	return c->a[0] == PR_CAPBSET_DROP	? "bounding set"
	       : c->a[0] == PR_SET_SECUREBITS	? "secure bits"
	       : c->a[0] == PR_SET_NO_NEW_PRIVS ? "no_new_privs"
						: "ambient capabilities";
}

/* Added to the thread's batch, which has nothing else yet. */
static int creds(struct remote_batch *b, const Ck__Creds *c, uint64_t last_cap, struct error *err)
{
	bool user = c->n_uids == 4 && (c->uids[0] | c->uids[1] | c->uids[2]);
	uint64_t pcap = 1ull << CAP_SETPCAP;
	const struct thread *th = b->th;

	if (c->n_uids != 4 || c->n_gids != 4)
		return error_set(err, EBADMSG, "credentials of thread %d", th->vtid);
	remote_batch_add(b, SYS_setgroups, c->n_groups,
			 remote_batch_put(b, c->groups, c->n_groups * sizeof(uint32_t)), 0, 0, 0,
			 0);
	remote_batch_add(b, SYS_setresgid, c->gids[0], c->gids[1], c->gids[2], 0, 0, 0);
	if (c->gids[3] != c->gids[1])
		remote_batch_add(b, SYS_setfsgid, c->gids[3], 0, 0, 0, 0, 0);
	for (uint64_t cap = 0; cap <= last_cap; cap++)
		/* Most often dropped already in the parent, at its creation: see cap_bnd. */
		if (!(c->cap_bnd >> cap & 1) && (th->bnd >> cap & 1))
			remote_batch_add(b, SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0, 0);
	if (user) {
		/* Keeps the kernel from dropping capabilities along with uid 0. */
		remote_batch_add(b, SYS_prctl, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0,
				 0);
		remote_batch_add(b, SYS_setresuid, c->uids[0], c->uids[1], c->uids[2], 0, 0, 0);
	}
	if (c->uids[3] != c->uids[1])
		remote_batch_add(b, SYS_setfsuid, c->uids[3], 0, 0, 0, 0, 0);
	if (c->cap_amb || c->securebits) {
		set_caps(b, c->cap_inh, c->cap_prm | pcap, c->cap_prm | pcap);
		for (uint64_t cap = 0; cap <= last_cap; cap++)
			if (c->cap_amb >> cap & 1)
				remote_batch_add(b, SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE,
						 cap, 0, 0, 0);
	}
	if (c->securebits || user)
		remote_batch_add(b, SYS_prctl, PR_SET_SECUREBITS, c->securebits, 0, 0, 0, 0);
	set_caps(b, c->cap_inh, c->cap_prm, c->cap_eff);
	if (c->no_new_privs)
		remote_batch_add(b, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
	return 0;
}

/* What became of the first n calls of its batch. */
static int creds_done(const struct remote_batch *b, size_t n, struct error *err)
{
	for (size_t i = 0; i < n; i++)
		/* setfsuid and setfsgid return the old one. */
		if (b->c[i].ret < 0)
			return error_sys(err, (int)-b->c[i].ret, "setting %s of thread %d",
					 creds_call(&b->c[i]), b->th->vtid);
	return 0;
}

/* Where in a batch the calls are that must not fail. */
struct thread_calls {
	size_t altstack, rseq;
};

static int thread_add(struct remote_batch *b, const Ck__Thread *m, struct thread_calls *c,
		      struct error *err)
{
	struct thread *th = b->th;
	char name[16] = "";

	c->altstack = c->rseq = ~0ul;
	if (m->regs.len != sizeof(th->regs) || !m->creds)
		return error_set(err, EBADMSG, "registers of thread %u", m->vtid);
	if (m->altstack.len == sizeof(stack_t)) {
		stack_t ss;

		memcpy(&ss, m->altstack.data, sizeof(ss));
		if (!(ss.ss_flags & SS_DISABLE))
			c->altstack = remote_batch_add(b, SYS_sigaltstack,
						       remote_batch_put(b, &ss, sizeof(ss)), 0, 0,
						       0, 0, 0);
	}
	if (m->robust_head)
		remote_batch_add(b, SYS_set_robust_list, m->robust_head, m->robust_len, 0, 0, 0, 0);
	remote_batch_add(b, SYS_set_tid_address, m->clear_tid, 0, 0, 0, 0, 0);
	if (m->rseq.len >= sizeof(struct __ptrace_rseq_configuration)) {
		struct __ptrace_rseq_configuration rs;

		memcpy(&rs, m->rseq.data, sizeof(rs));
		th->rseq = rs.rseq_abi_pointer;
		th->rseq_len = rs.rseq_abi_size;
		c->rseq = remote_batch_add(b, SYS_rseq, rs.rseq_abi_pointer, rs.rseq_abi_size, 0,
					   rs.signature, 0, 0);
	}
	if (m->comm) {
		snprintf(name, sizeof(name), "%s", m->comm);
		remote_batch_add(b, SYS_prctl, PR_SET_NAME, remote_batch_put(b, name, sizeof(name)),
				 0, 0, 0, 0);
	}
	if (m->has_timerslack_ns && m->timerslack_ns != 50000)
		remote_batch_add(b, SYS_prctl, PR_SET_TIMERSLACK, m->timerslack_ns, 0, 0, 0, 0);
	return 0;
}

static int thread_done(const struct remote_batch *b, const Ck__Thread *m,
		       const struct thread_calls *c, struct error *err)
{
	const struct thread *th = b->th;

	if (c->altstack != ~0ul && b->c[c->altstack].ret < 0)
		return error_sys(err, (int)-b->c[c->altstack].ret, "the signal stack of thread %d",
				 th->vtid);
	if (c->rseq != ~0ul && b->c[c->rseq].ret < 0)
		return error_sys(err, (int)-b->c[c->rseq].ret, "registering rseq of thread %d",
				 th->vtid);
	if (m->has_affinity && m->affinity.len == sizeof(cpu_set_t)) {
		cpu_set_t now, want;

		/* This host may have fewer processors: then it runs on all it has. */
		memcpy(&want, m->affinity.data, sizeof(want));
		if (sched_getaffinity(th->tid, sizeof(now), &now) < 0 || !CPU_EQUAL(&now, &want))
			sched_setaffinity(th->tid, sizeof(want), &want);
	}
	return 0;
}

static int one_thread(struct thread *th, const Ck__Thread *m, struct error *err)
{
	struct thread_calls c;
	struct remote_batch b;
	int e;

	remote_batch_begin(&b, th);
	e = thread_add(&b, m, &c, err);
	if (e < 0)
		return e;
	e = remote_batch_run(&b);
	return e < 0 ? error_sys(err, -e, "the state of thread %d", th->vtid)
		     : thread_done(&b, m, &c, err);
}

/* Of the leader, with what belongs to the process; 1: with `place` it is too much for one. */
static int leader(struct restore *r, struct task *t, bool place, struct error *err)
{
	const Ck__Thread *m = t->state->threads[0];
	struct thread_calls c;
	struct remote_batch b;
	struct clearing clear;
	struct placing p;
	size_t actions;
	int e;

	remote_batch_begin(&b, &t->threads[0]);
	e = sigactions(&b, t, stub_signals(r, t), err);
	actions = b.n;
	if (e == 0)
		e = thread_add(&b, m, &c, err);
	if (e == 0 && place) {
		clear_add(&b, &clear);
		e = place_add(&b, t, CLEARED_NEXT, &p, err);
	}
	if (e < 0)
		return e;
	e = remote_batch_run(&b);
	if (e == -E2BIG && place)
		return 1;
	for (size_t i = 0; i < actions && e == 0; i++)
		e = (int)b.c[i].ret;
	if (e < 0)
		return failed(t, e, err, "setting actions of signals and the state");
	e = thread_done(&b, m, &c, err);
	if (e == 0 && place)
		clear_done(&b, &clear);
	return e == 0 && place ? place_done(r, &b, &p, err) : e;
}

int restore_task_early(struct restore *r, struct task *t, bool place, struct error *err)
{
	const Ck__TaskState *s = t->state;
	int e;

	if (!remote_scratch(t))
		return error_set(err, ENOMEM, "no scratch memory in process %d", t->vpid);
	e = attributes_early(t, err);
	if (e == 0)
		e = threads(t, err);
	if (e == 0)
		e = leader(r, t, place, err);
	if (e == 1)
		e = leader(r, t, false, err);
	for (size_t i = 1; i < t->nthreads && e == 0; i++)
		e = one_thread(&t->threads[i], s->threads[i], err);
	return e;
}

static uint64_t last_capability(void)
{
	static uint64_t last;
	CLEANUP_FREE char *text = NULL;

	if (!last)
		last = file_read("/proc/sys/kernel/cap_last_cap", 16, &text, NULL, NULL) < 0
			       ? 40
			       : strtoull(text, NULL, 10);
	return last;
}

/* Takes away what the building of the tree has left pending. */
static void drain_signals(struct thread *th)
{
	struct {
		uint64_t set;
		struct timespec ts;
	} a = { .set = ~0ull };
	unsigned long at = remote_scratch(th->task);
	struct __ptrace_peeksiginfo_args peek = { .nr = 1 };
	siginfo_t info;
	long n = ptrace(PTRACE_PEEKSIGINFO, th->tid, &peek, &info);

	if (n == 0) {
		peek.flags = PTRACE_PEEKSIGINFO_SHARED;
		n = ptrace(PTRACE_PEEKSIGINFO, th->tid, &peek, &info);
	}
	if (n == 0 || put(th->task, &a, sizeof(a)) < 0)
		return;
	for (int i = 0; i < 1000; i++)
		if (thread_syscall(th, SYS_rt_sigtimedwait, at, 0, at + offsetof(__typeof__(a), ts),
				   8, 0, 0) < 0)
			return;
}

static int queue_signals(struct thread *th, size_t n, ProtobufCBinaryData *info, bool shared,
			 struct error *err)
{
	for (size_t i = 0; i < n; i++) {
		unsigned long at = remote_scratch(th->task);
		siginfo_t si;
		long e;

		if (info[i].len != sizeof(si))
			return error_set(err, EBADMSG, "a pending signal of thread %d", th->vtid);
		memcpy(&si, info[i].data, sizeof(si));
		e = put(th->task, &si, sizeof(si));
		if (e == 0)
			e = shared ? thread_syscall(th, SYS_rt_sigqueueinfo,
						    (unsigned long)th->task->vpid,
						    (unsigned long)si.si_signo, at, 0, 0, 0)
				   : thread_syscall(th, SYS_rt_tgsigqueueinfo,
						    (unsigned long)th->task->vpid,
						    (unsigned long)th->vtid,
						    (unsigned long)si.si_signo, at, 0, 0);
		if (e < 0)
			return error_sys(err, (int)-e, "queueing signal %d of thread %d",
					 si.si_signo, th->vtid);
	}
	return 0;
}

/* What one process's leader is asked for at last, while other processes are at it too. */
struct last {
	struct remote_batch b;
	size_t ncreds;
	struct attributes_query attributes;
};

/* Threads but the leader, which has it in one batch with what belongs to the process. */
static int thread_last(struct thread *th, const Ck__Thread *m, struct error *err)
{
	struct remote_batch b;
	size_t n;
	int e;

	remote_batch_begin(&b, th);
	e = creds(&b, m->creds, last_capability(), err);
	if (e < 0)
		return e;
	n = b.n;
	if (m->pdeathsig)
		remote_batch_add(&b, SYS_prctl, PR_SET_PDEATHSIG, (unsigned long)m->pdeathsig, 0, 0,
				 0, 0);
	e = remote_batch_run(&b);
	if (e < 0)
		return error_sys(err, -e, "setting the credentials of thread %d", th->vtid);
	return creds_done(&b, n, err);
}

static int last_start(struct restore *r, struct task *t, void *room, struct error *err)
{
	const Ck__TaskState *s = t->state;
	struct last *l = room;
	int e, common;

	rlimits(t, s);
	drain_signals(&t->threads[0]);
	/* Not before: what they send counts. */
	e = timers(t, s, err);
	common = e < 0 ? e : restore_common_filters(r, t, err);
	if (common < 0)
		return common;
	for (size_t i = 0; i < t->nthreads && e == 0; i++)
		e = queue_signals(&t->threads[i], s->threads[i]->n_pending, s->threads[i]->pending,
				  false, err);
	if (e == 0)
		e = queue_signals(&t->threads[0], s->n_pending, s->pending, true, err);
	for (size_t i = t->nthreads; i-- > 0 && e == 0;) {
		struct thread *th = &t->threads[i];

		e = restore_filters(th, s->threads[i], (size_t)common, err);
		th->bnd = r->bnd;
		if (e == 0)
			e = attributes_restore(th, s->threads[i], err);
		if (e == 0 && i)
			e = thread_last(th, s->threads[i], err);
	}
	if (e < 0)
		return e;
	remote_batch_begin(&l->b, &t->threads[0]);
	e = creds(&l->b, s->threads[0]->creds, last_capability(), err);
	if (e < 0)
		return e;
	l->ncreds = l->b.n;
	if (s->threads[0]->pdeathsig)
		remote_batch_add(&l->b, SYS_prctl, PR_SET_PDEATHSIG,
				 (unsigned long)s->threads[0]->pdeathsig, 0, 0, 0, 0);
	attributes_last(&l->b, t, &l->attributes);
	/* Any change of credentials has reset it. */
	if (s->dumpable == 0 || s->dumpable == 1)
		remote_batch_add(&l->b, SYS_prctl, PR_SET_DUMPABLE, (unsigned long)s->dumpable, 0,
				 0, 0, 0);
	if (t->sock >= 0 && t->sock_num >= 0)
		remote_batch_add(&l->b, SYS_close, (unsigned long)t->sock_num, 0, 0, 0, 0, 0);
	e = remote_batch_start(&l->b);
	return e < 0 ? error_sys(err, -e, "setting the credentials of process %d", t->vpid) : 0;
}

static int registers(struct restore *r, struct thread *th, const Ck__Thread *m, struct error *err)
{
	static uint8_t xstate[65536];
	struct iovec iov = { xstate, m->has_xstate_bytes ? m->xstate_bytes : m->xstate.len };

	if (iov.iov_len > sizeof(xstate) || m->xstate.len > iov.iov_len)
		return error_set(err, EBADMSG, "vector registers of thread %d", th->vtid);
	memset(xstate, 0, iov.iov_len);
	if (m->xstate.len)
		memcpy(xstate, m->xstate.data, m->xstate.len);
	if (ptrace(PTRACE_SETREGSET, th->tid, (void *)NT_X86_XSTATE, &iov) < 0)
		return error_sys(err, errno, "vector registers of thread %d", th->vtid);
	memcpy(&th->regs, m->regs.data, sizeof(th->regs));
	th->sigmask = m->sigmask;
	th->touched = true;
	restart_enter(r, th, m);
	return attributes_schedule(th, m, err);
}

static int last_end(struct restore *r, struct task *t, void *room, struct error *err)
{
	const struct last *l = room;
	int e = remote_batch_wait(&((struct last *)room)->b);

	if (e < 0)
		return error_sys(err, -e, "setting the credentials of process %d", t->vpid);
	e = creds_done(&l->b, l->ncreds, err);
	if (e == 0)
		e = attributes_last_done(&l->b, &l->attributes, t, err);
	if (t->sock >= 0)
		close(TAKE_FD(t->sock));
	t->sock_num = -1;
	for (size_t i = 0; i < t->nthreads && e == 0; i++)
		e = registers(r, &t->threads[i], t->state->threads[i], err);
	return e;
}

int restore_tasks_last(struct restore *r, struct error *err)
{
	static const struct abreast last = { sizeof(struct last), last_start, last_end };

	return restore_abreast(r, &last, err);
}
