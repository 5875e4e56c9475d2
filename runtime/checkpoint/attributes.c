/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes of threads and processes that are a number each and no object: scheduling,
 * I/O priority, speculation control, mlockall() and their kin. What is as it is by default
 * costs nothing on the destination.
 */
#include <fcntl.h>
#include <linux/ioprio.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/attributes.h"

#define ARCH_GET_CPUID_		     0x1011
#define ARCH_SET_CPUID_		     0x1012
#define PR_SET_MDWE_		     65
#define PR_GET_MDWE_		     66
#define PR_GET_IO_FLUSHER_	     58
#define PR_SET_IO_FLUSHER_	     57
#define MEMBARRIER_GET_REGISTRATIONS (1 << 9)
#define MEMBARRIER_REGISTER_GLOBAL   (1 << 2)
#define MEMBARRIER_REGISTER_PRIVATE  (1 << 4)
#define NODES			     1024
/* include/linux/sched.h: what PR_SET_IO_FLUSHER sets. */
#define PF_MEMALLOC_NOIO_ 0x00080000ul

/* struct sched_attr in its second version, with utilization clamps (sched_setattr(2)). */
struct scheduling {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};
#define UTIL_MAX	  1024
#define SCHED_KEEP_ALL_	  0x18u
#define SCHED_UTIL_CLAMP_ 0x60u

/* --- a thread, source ---------------------------------------------------------------- */
void attributes_ask(struct remote_batch *b, struct attributes_query *q)
{
	q->tsc_at = remote_batch_put(b, NULL, sizeof(int));
	q->policy_at = remote_batch_put(b, NULL, sizeof(int));
	q->nodes_at = remote_batch_put(b, NULL, NODES / 8);
	q->first = remote_batch_add(b, SYS_prctl, PR_GET_TSC, q->tsc_at, 0, 0, 0, 0);
	remote_batch_add(b, SYS_arch_prctl, ARCH_GET_CPUID_, 0, 0, 0, 0, 0);
	remote_batch_add(b, SYS_prctl, PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0, 0);
	remote_batch_add(b, SYS_prctl, PR_GET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, 0, 0, 0,
			 0);
	remote_batch_add(b, SYS_prctl, PR_GET_SPECULATION_CTRL, PR_SPEC_L1D_FLUSH, 0, 0, 0, 0);
	remote_batch_add(b, SYS_prctl, PR_GET_IO_FLUSHER_, 0, 0, 0, 0, 0);
	remote_batch_add(b, SYS_get_mempolicy, q->policy_at, q->nodes_at, NODES, 0, 0, 0);
}

void attributes_answer(const struct thread *th, const struct remote_batch *b,
		       const struct attributes_query *q, struct attributes_room *room,
		       Ck__Thread *m)
{
	Ck__Attributes *a = &room->a;
	const struct remote_call *c = &b->c[q->first];
	struct scheduling s = { .size = sizeof(s) };
	long io;
	int v;

	_Static_assert(sizeof(room->sched) == sizeof(s), "room for struct sched_attr");
	ck__attributes__init(a);
	m->attributes = a;
	if (syscall(SYS_sched_getattr, th->tid, &s, sizeof(s), 0) == 0) {
		memcpy(room->sched, &s, sizeof(s));
		a->has_sched = 1;
		a->sched = (ProtobufCBinaryData){ sizeof(s), room->sched };
	}
	io = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, th->tid);
	a->has_ioprio = io >= 0;
	a->ioprio = io >= 0 ? (uint32_t)io : 0;
	memcpy(&v, remote_batch_out(b, q->tsc_at), sizeof(v));
	a->has_tsc = c[0].ret == 0;
	a->tsc = v;
	a->has_cpuid_faults = 1;
	a->cpuid_faults = c[1].ret == 0;
	a->n_speculation = 3;
	a->speculation = room->speculation;
	for (size_t i = 0; i < 3; i++)
		room->speculation[i] = c[2 + i].ret > 0 ? (uint32_t)c[2 + i].ret : 0;
	/* Only who has CAP_SYS_RESOURCE is told; see also attributes_io_flusher(). */
	a->has_io_flusher = 1;
	a->io_flusher = c[5].ret == 1;
	memcpy(&v, remote_batch_out(b, q->policy_at), sizeof(v));
	if (c[6].ret == 0 && v != MPOL_DEFAULT) {
		memcpy(room->nodes, remote_batch_out(b, q->nodes_at), NODES / 8);
		a->has_mempolicy = a->has_nodes = 1;
		a->mempolicy = (uint32_t)v;
		a->nodes = (ProtobufCBinaryData){ NODES / 8, room->nodes };
	}
}

bool attributes_io_flusher(uint64_t task_flags)
{
	return task_flags & PF_MEMALLOC_NOIO_;
}

/* --- a thread, destination ------------------------------------------------------------- */
/* Linux 6.12 shows the base slice where none was asked for: what the engine has too. */
static uint64_t own_slice(uint64_t slice)
{
	static struct scheduling own;

	if (!own.size && syscall(SYS_sched_getattr, 0, &own, sizeof(own), 0) < 0)
		return slice;
	return own.runtime == slice ? 0 : slice;
}

/* Until now it was a stub's, which must not wait for a processor. */
static void niceness(pid_t tid, int nice)
{
	if (nice != getpriority(PRIO_PROCESS, (id_t)tid))
		setpriority(PRIO_PROCESS, (id_t)tid, nice);
}

int attributes_schedule(struct thread *th, const Ck__Thread *m, struct error *err)
{
	const Ck__Attributes *a = m->attributes;
	struct scheduling s = { 0 };
	bool fair, clamps;

	if (!a || a->sched.len != sizeof(s)) {
		struct sched_param sp = { .sched_priority = m->priority };

		niceness(th->tid, m->nice);
		if (m->policy != SCHED_OTHER && sched_setscheduler(th->tid, m->policy, &sp) < 0)
			return error_sys(err, errno, "the scheduling policy of thread %d",
					 th->vtid);
		return 0;
	}
	memcpy(&s, a->sched.data, sizeof(s));
	fair = s.policy == SCHED_OTHER || s.policy == SCHED_BATCH || s.policy == SCHED_IDLE;
	clamps = s.util_max && (s.util_min || s.util_max != UTIL_MAX);
	if (fair)
		s.runtime = own_slice(s.runtime);
	if (fair)
		niceness(th->tid, m->nice);
	if (s.policy == SCHED_OTHER && !s.flags && !clamps && !s.runtime)
		return 0;
	s.size = sizeof(s);
	s.flags &= ~(uint64_t)(SCHED_KEEP_ALL_ | SCHED_UTIL_CLAMP_);
	if (clamps)
		s.flags |= SCHED_UTIL_CLAMP_;
	else
		s.util_min = s.util_max = 0;
	if (syscall(SYS_sched_setattr, th->tid, &s, 0) < 0)
		return error_sys(err, errno,
				 "the scheduling policy (%u) of thread %d; this host must allow it "
				 "(real-time budget of the cgroup, sched(7))",
				 s.policy, th->vtid);
	return 0;
}

/* The last before the registers: some of it makes remote calls impossible. */
int attributes_restore(struct thread *th, const Ck__Thread *m, struct error *err)
{
	const Ck__Attributes *a = m->attributes;
	struct remote_batch b;
	size_t flusher = ~0ul;
	int r;

	if (!a)
		return 0;
	if (a->has_ioprio &&
	    syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, th->tid) != (long)a->ioprio &&
	    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, th->tid, a->ioprio) < 0)
		return error_sys(err, errno, "the I/O priority of thread %d", th->vtid);
	remote_batch_begin(&b, th);
	/* A host of fewer nodes: then it takes its memory wherever it comes from. */
	if (a->has_mempolicy && a->nodes.len == NODES / 8)
		remote_batch_add(&b, SYS_set_mempolicy, a->mempolicy,
				 remote_batch_put(&b, a->nodes.data, NODES / 8), NODES, 0, 0, 0);
	for (size_t i = 0; i < a->n_speculation && i < 3; i++)
		if ((a->speculation[i] & PR_SPEC_PRCTL) &&
		    (a->speculation[i] & ~(uint32_t)(PR_SPEC_PRCTL | PR_SPEC_ENABLE)))
			remote_batch_add(&b, SYS_prctl, PR_SET_SPECULATION_CTRL, i,
					 a->speculation[i] & ~(uint32_t)PR_SPEC_PRCTL, 0, 0, 0);
	if (a->has_tsc && a->tsc == PR_TSC_SIGSEGV)
		remote_batch_add(&b, SYS_prctl, PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0, 0);
	if (a->cpuid_faults)
		remote_batch_add(&b, SYS_arch_prctl, ARCH_SET_CPUID_, 0, 0, 0, 0, 0);
	if (a->io_flusher)
		flusher = remote_batch_add(&b, SYS_prctl, PR_SET_IO_FLUSHER_, 1, 0, 0, 0, 0);
	r = remote_batch_run(&b);
	if (r == 0 && flusher != ~0ul)
		r = (int)b.c[flusher].ret;
	if (r < 0)
		return error_sys(err, -r, "attributes of thread %d (PR_SET_IO_FLUSHER)", th->vtid);
	return 0;
}

/* --- a process --------------------------------------------------------------------------- */
/*
 * What mlockall(MCL_FUTURE) has set is shown nowhere; but the scratch area was mapped after
 * it. Areas are shown in the order of addresses, and it is most often the first.
 */
static uint32_t locks_future(const struct task *t)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/smaps", t->pid);
	CLEANUP_FREE char *head = str_format("%08lx-", t->scratch);
	CLEANUP_FREE char *text = NULL;
	const char *area, *flags;
	uint32_t r = 0;

	if (t->scratch == REMOTE_SCRATCH_HINT) {
		char first[2048];
		CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, first, sizeof(first) - 1);

		if (n <= 0)
			return 0;
		first[n] = '\0';
		text = str_dup(first);
	} else if (file_read(path, 64 << 20, &text, NULL, NULL) < 0) {
		return 0;
	}
	area = strstr(text, head);
	flags = area ? strstr(area, "VmFlags:") : NULL;
	for (const char *p = flags; p && *p && *p != '\n'; p++) {
		r |= strncmp(p, " lo", 3) == 0 ? MCL_FUTURE : 0;
		r |= strncmp(p, " lf", 3) == 0 ? MCL_ONFAULT : 0;
	}
	return r & MCL_FUTURE ? r : 0;
}

void attributes_ask_process(struct remote_batch *b, struct attributes_query *q)
{
	q->first = remote_batch_add(b, SYS_prctl, PR_GET_MDWE_, 0, 0, 0, 0, 0);
	remote_batch_add(b, SYS_prctl, PR_GET_THP_DISABLE, 0, 0, 0, 0, 0);
	remote_batch_add(b, SYS_membarrier, MEMBARRIER_GET_REGISTRATIONS, 0, 0, 0, 0, 0);
	/* Fails where memory is locked. */
	remote_batch_add(b, SYS_madvise, b->at, PAGE, MADV_COLD, 0, 0, 0);
}

void attributes_answer_process(const struct task *t, const struct remote_batch *b,
			       const struct attributes_query *q, Ck__TaskState *m)
{
	const struct remote_call *c = &b->c[q->first];

	m->has_mdwe = m->has_thp = m->has_membarrier = m->has_lock_future = 1;
	m->mdwe = c[0].ret > 0 ? (uint32_t)c[0].ret : 0;
	m->thp = c[1].ret > 0 ? (uint32_t)c[1].ret : 0;
	/* Kernels before 6.3 do not tell; to be registered does no harm. */
	m->membarrier = c[2].ret >= 0 ? (uint32_t)c[2].ret
				      : MEMBARRIER_REGISTER_GLOBAL | MEMBARRIER_REGISTER_PRIVATE;
	m->lock_future = c[3].ret == 0 ? 0 : locks_future(t);
}

/* Before there are other threads: with them, the kernel waits for a grace period. */
int attributes_early(struct task *t, struct error *err)
{
	for (int bit = 0; bit < 16; bit++) {
		long n = t->state->membarrier >> bit & 1
				 ? remote_syscall(t, SYS_membarrier, 1ul << bit, 0, 0, 0, 0, 0)
				 : 0;

		if (n < 0)
			return error_sys(err, (int)-n, "registering process %d for membarrier (%d)",
					 t->vpid, 1 << bit);
	}
	return 0;
}

void attributes_last(struct remote_batch *b, const struct task *t, struct attributes_query *q)
{
	const Ck__TaskState *s = t->state;

	q->first = b->n;
	/* PR_GET_THP_DISABLE gives the flags of Linux 6.18 along with the value. */
	if (s->thp & 1)
		remote_batch_add(b, SYS_prctl, PR_SET_THP_DISABLE, 1, s->thp & ~1u, 0, 0, 0);
	if (s->lock_future)
		remote_batch_add(b, SYS_mlockall, s->lock_future, 0, 0, 0, 0, 0);
	if (s->mdwe)
		remote_batch_add(b, SYS_prctl, PR_SET_MDWE_, s->mdwe, 0, 0, 0, 0);
	q->end = b->n;
}

int attributes_last_done(const struct remote_batch *b, const struct attributes_query *q,
			 const struct task *t, struct error *err)
{
	for (size_t i = q->first; i < q->end; i++)
		if (b->c[i].ret < 0)
			return error_sys(err, (int)-b->c[i].ret,
					 "memory settings of process %d (THP, mlockall, MDWE)",
					 t->vpid);
	return 0;
}
