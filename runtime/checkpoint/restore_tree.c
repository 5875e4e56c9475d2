/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destination: the process tree. Every process is made by a remote clone3() with
 * set_tid, from the stub that is (or will be) its parent, so that parent, session and
 * group come out as they were:
 *
 *   session leader            child of its parent, then setsid()
 *   session of its parent     child of its parent
 *   another session           clone3(CLONE_PARENT) by that session's leader where both
 *                             have one parent; else, for children of init, a grandchild
 *                             of the leader whose parent exits at once
 */
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "runtime/checkpoint/core.h"

#define STUB_OPTIONS                                                                               \
	(PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEVFORK |      \
	 PTRACE_O_SUSPEND_SECCOMP)

static int add_leader(struct task *t, pid_t tid, pid_t vtid)
{
	t->threads = mem_grow(NULL, 1, sizeof(*t->threads));
	t->threads[0] = (struct thread){ .tid = tid, .vtid = vtid, .task = t, .traced = true };
	t->nthreads = 1;
	return 0;
}

static int open_proc(struct task *t, struct error *err)
{
	char path[64];

	t->pidfd = (int)syscall(SYS_pidfd_open, t->pid, 0);
	if (t->pidfd < 0)
		return error_sys(err, errno, "opening process %d", t->vpid);
	snprintf(path, sizeof(path), "/proc/%d/mem", t->pid);
	t->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	return t->mem_fd < 0 ? error_sys(err, errno, "opening %s", path) : 0;
}

int restore_seize_init(struct restore *r, struct error *err)
{
	struct task *t = task_new(r->init_pid);
	struct rlimit lim;
	int e;

	t->vpid = 1;
	tasks_add(&r->tasks, t);
	add_leader(t, r->init_pid, 1);
	t->threads[0].traced = false;
	e = thread_seize(&t->threads[0], STUB_OPTIONS, err);
	if (e == 0)
		e = thread_interrupt(&t->threads[0]);
	if (e == 0)
		e = thread_wait_stop(&t->threads[0], err);
	if (e == 0)
		e = open_proc(t, err);
	if (e == 0)
		e = task_read_vmas(t, false, err); /* finds the vdso */
	if (e < 0)
		return error_wrap(err, "taking over the stub (pid %d)", r->init_pid);
	/* Room for descriptor numbers; the target's own limit comes at the end. */
	if (prlimit(t->pid, RLIMIT_NOFILE, NULL, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		prlimit(t->pid, RLIMIT_NOFILE, &lim, NULL);
	}
	/* Inherited by all that are made from it; the target's own value comes last. */
	setpriority(PRIO_PROCESS, (id_t)t->pid, -20);
	t->vsid = (pid_t)remote_syscall(t, SYS_getsid, 0, 0, 0, 0, 0, 0);
	t->vpgid = (pid_t)remote_syscall(t, SYS_getpgid, 0, 0, 0, 0, 0, 0);
	return 0;
}

/* A process made by `maker`; vpid 0: any. Gives its pid here, or -errno. */
static long spawn(struct task *maker, pid_t vpid, uint64_t flags)
{
	struct {
		struct clone_args args;
		pid_t tid;
	} a = { .args = { .flags = flags,
			  .exit_signal = flags & (CLONE_PARENT | CLONE_THREAD) ? 0 : SIGCHLD },
		.tid = vpid };
	unsigned long at = remote_scratch(maker);
	long n;

	if (!at)
		return -ENOMEM;
	if (vpid) {
		a.args.set_tid = at + offsetof(__typeof__(a), tid);
		a.args.set_tid_size = 1;
	}
	n = remote_write(maker, at, &a, sizeof(a));
	if (n < 0)
		return n;
	n = remote_syscall(maker, SYS_clone3, at, sizeof(a.args), 0, 0, 0, 0);
	if (n < 0)
		return n;
	return maker->threads[0].new_pid ? maker->threads[0].new_pid : -ECHILD;
}

/* Memory areas of the maker, which its child has inherited. */
static void inherit(struct task *t, const struct task *maker)
{
	for (size_t i = 0; i < maker->vmas.n; i++) {
		struct vma v = maker->vmas.v[i];

		v.path = str_dup(v.path);
		vmas_add(&t->vmas, &v);
	}
	t->syscall_ip = maker->syscall_ip;
	t->scratch = maker->scratch;
	t->code_for = maker->code_for;
	t->code_refused = maker->code_refused;
	t->transformed = maker->transformed;
	t->foreign = true;
	t->vsid = maker->vsid;
	t->vpgid = maker->vpgid;
}

static struct task *adopt(struct restore *r, struct task *maker, long pid, pid_t vpid,
			  struct error *err)
{
	struct task *t = task_new((pid_t)pid);

	t->vpid = vpid;
	add_leader(t, (pid_t)pid, vpid);
	inherit(t, maker);
	if (thread_wait_stop(&t->threads[0], err) < 0 || open_proc(t, err) < 0) {
		task_free(t);
		return NULL;
	}
	if (r)
		tasks_add(&r->tasks, t);
	return t;
}

/* Through a child of `leader` that exits, so that the new one becomes init's. */
static long spawn_orphan(struct task *leader, pid_t vpid, struct task **maker, struct error *err)
{
	long mid = spawn(leader, 0, 0), n;
	struct task *m;

	if (mid < 0)
		return mid;
	m = adopt(NULL, leader, mid, 0, err);
	if (!m)
		return -ESRCH;
	n = spawn(m, vpid, 0);
	*maker = m;
	return n;
}

static void end_orphan_maker(struct task *leader, struct task *m)
{
	int status;

	process_kill(m->pid, SIGKILL);
	while (waitpid(m->pid, &status, __WALL) < 0 && errno == EINTR)
		;
	m->threads[0].traced = m->threads[0].stopped = false;
	task_free(m);
	remote_syscall(leader, SYS_wait4, (unsigned long)-1, 0, WNOHANG | __WALL, 0, 0, 0);
}

static int make(struct restore *r, const Ck__Process *p, struct error *err)
{
	struct task *parent = tasks_by_vpid(&r->tasks, (pid_t)p->vppid);
	struct task *leader = tasks_by_vpid(&r->tasks, (pid_t)p->vsid), *mid = NULL;
	struct task *maker = parent, *t;
	long pid;

	if (!parent || parent->zombie)
		return error_set(err, EBADMSG, "process %u has no living parent", p->vpid);
	if (p->vsid == p->vpid || (pid_t)p->vsid == parent->vsid) {
		pid = spawn(parent, (pid_t)p->vpid, 0);
	} else if (!leader) {
		return error_set(err, EOPNOTSUPP,
				 "process %u is in session %u, whose leader has ended", p->vpid,
				 p->vsid);
	} else if (leader->vppid == parent->vpid && leader->vpid != 1) {
		maker = leader;
		pid = spawn(leader, (pid_t)p->vpid, CLONE_PARENT);
	} else if (p->vppid == 1) {
		maker = leader;
		pid = spawn_orphan(leader, (pid_t)p->vpid, &mid, err);
	} else {
		return error_set(err, EOPNOTSUPP,
				 "process %u is in session %u, which is not its parent's", p->vpid,
				 p->vsid);
	}
	if (pid < 0) {
		if (mid)
			end_orphan_maker(leader, mid);
		return error_sys(err, (int)-pid, "making process %u", p->vpid);
	}
	t = adopt(r, mid ? mid : maker, pid, (pid_t)p->vpid, err);
	if (mid)
		end_orphan_maker(leader, mid);
	if (!t)
		return -err->code;
	t->vppid = (pid_t)p->vppid;
	return 0;
}

static int reap(struct restore *r, struct task *t, struct error *err)
{
	struct task *parent = tasks_by_vpid(&r->tasks, t->vppid);
	int status;

	process_kill(t->pid, SIGKILL);
	for (size_t i = t->nthreads; i-- > 0;) {
		while (waitpid(t->threads[i].tid, &status, __WALL) < 0 && errno == EINTR)
			;
		t->threads[i].traced = t->threads[i].stopped = false;
	}
	if (parent) {
		long n = remote_syscall(parent, SYS_wait4, (unsigned long)t->vpid, 0, __WALL, 0, 0,
					0);

		if (n < 0 && n != -ECHILD)
			return error_sys(err, (int)-n, "reaping process %d", t->vpid);
	}
	return 0;
}

static const Ck__Process *find(const Ck__Tree *tree, pid_t vpid)
{
	for (size_t i = 0; i < tree->n_processes; i++)
		if ((pid_t)tree->processes[i]->vpid == vpid)
			return tree->processes[i];
	return NULL;
}

/* Processes that have ended on the source, or whose pid means another one now. */
static int drop_ended(struct restore *r, const Ck__Tree *tree, struct error *err)
{
	for (bool again = true; again;) {
		again = false;
		for (size_t i = 0; i < r->tasks.n; i++) {
			struct task *t = r->tasks.t[i];
			const Ck__Process *p = find(tree, t->vpid);
			bool leaf = true;
			int e;

			if (t->vpid == 1 ||
			    (p && (pid_t)p->vppid == t->vppid && p->start_time == t->start_time &&
			     ((pid_t)p->vsid == t->vsid || p->vsid == p->vpid)))
				continue;
			/* Children first: they are made anew below their new parent. */
			for (size_t j = 0; j < r->tasks.n; j++)
				leaf &= r->tasks.t[j]->vppid != t->vpid;
			for (size_t j = 0; !leaf && j < r->tasks.n; j++)
				if (r->tasks.t[j]->vppid == t->vpid)
					r->tasks.t[j]->start_time = ~0ull;
			if (!leaf) {
				again = true;
				continue;
			}
			e = reap(r, t, err);
			if (e < 0)
				return e;
			task_free(t);
			memmove(&r->tasks.t[i], &r->tasks.t[i + 1],
				(r->tasks.n - i - 1) * sizeof(*r->tasks.t));
			r->tasks.n--;
			again = true;
			break;
		}
	}
	return 0;
}

static int sessions(struct task *t, const Ck__Process *p, struct error *err)
{
	long n;

	if (p->vsid == p->vpid && t->vsid != t->vpid) {
		n = remote_syscall(t, SYS_setsid, 0, 0, 0, 0, 0, 0);
		if (n < 0)
			return error_sys(err, (int)-n, "making process %u a session leader",
					 p->vpid);
		t->vsid = t->vpgid = t->vpid;
	}
	return 0;
}

static int groups(struct restore *r, const Ck__Tree *tree, bool leaders, struct error *err)
{
	for (size_t i = 0; i < tree->n_processes; i++) {
		const Ck__Process *p = tree->processes[i];
		struct task *t = tasks_by_vpid(&r->tasks, (pid_t)p->vpid);
		long n;

		if ((pid_t)p->vpgid == t->vpgid || (p->vpgid == p->vpid) != leaders || !p->vpgid)
			continue;
		n = remote_syscall(t, SYS_setpgid, 0, p->vpgid, 0, 0, 0, 0);
		if (n < 0)
			return error_sys(err, (int)-n, "putting process %u into group %u", p->vpid,
					 p->vpgid);
		t->vpgid = (pid_t)p->vpgid;
	}
	return 0;
}

static uint64_t bounding_set(const struct thread *th)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/status", th->tid);
	CLEANUP_FREE char *status = NULL;
	char line[32];

	if (file_read(path, 65536, &status, NULL, NULL) < 0 ||
	    !status_field(status, "CapBnd", line, sizeof(line)))
		return ~0ull;
	return strtoull(line, NULL, 16);
}

int restore_tree(struct restore *r, const Ck__Tree *tree, struct error *err)
{
	size_t made = 0, before = ~0ul;
	int e;

	if (!find(tree, 1))
		return error_set(err, EBADMSG, "the tree has no init");
	r->final = tree->final;
	/* The blackout has begun: every client waits for us now. */
	if (r->final)
		setpriority(PRIO_PROCESS, 0, -20);
	e = drop_ended(r, tree, err);
	if (e < 0)
		return e;
	e = sessions(tasks_by_vpid(&r->tasks, 1), find(tree, 1), err);
	if (e < 0)
		return e;
	if (r->tasks.n == 1 && tree->has_cap_bnd)
		for (unsigned long cap = 0; cap < 64; cap++)
			/* EINVAL: this kernel has no such capability. */
			if (!(tree->cap_bnd >> cap & 1) &&
			    remote_syscall(r->tasks.t[0], SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0,
					   0) == -EINVAL)
				break;
	if (r->tasks.n == 1) {
		r->bnd = bounding_set(&r->tasks.t[0]->threads[0]);
		e = restore_first_filters(r, tree->n_seccomp, tree->seccomp, err);
		if (e < 0)
			return e;
	}
	/* Until every process has found its parent and its session's leader. */
	while (r->tasks.n < tree->n_processes && made != before) {
		before = made;
		for (size_t i = 0; i < tree->n_processes; i++) {
			const Ck__Process *p = tree->processes[i];
			struct task *t;

			if (tasks_by_vpid(&r->tasks, (pid_t)p->vpid) ||
			    !tasks_by_vpid(&r->tasks, (pid_t)p->vppid))
				continue;
			if (p->vsid != p->vpid && find(tree, (pid_t)p->vsid) &&
			    !tasks_by_vpid(&r->tasks, (pid_t)p->vsid))
				continue;
			e = make(r, p, err);
			if (e < 0)
				return e;
			t = tasks_by_vpid(&r->tasks, (pid_t)p->vpid);
			t->start_time = p->start_time;
			e = sessions(t, p, err);
			if (e < 0)
				return e;
			made++;
		}
	}
	if (r->tasks.n < tree->n_processes)
		return error_set(err, EBADMSG, "the process tree has a part without a root");
	e = groups(r, tree, true, err);
	if (e == 0)
		e = groups(r, tree, false, err);
	for (size_t i = 0; i < tree->n_processes; i++) {
		const Ck__Process *p = tree->processes[i];
		struct task *t = tasks_by_vpid(&r->tasks, (pid_t)p->vpid);

		t->to_be_zombie = p->zombie;
		t->exit_status = p->exit_status;
	}
	return e;
}

/* Zombies end as they did; their parents stand still and reap them when they run. */
int restore_zombies(struct restore *r, struct error *err)
{
	for (size_t i = 0; i < r->tasks.n; i++) {
		struct task *t = r->tasks.t[i];
		int status;

		if (!t->to_be_zombie || t->zombie)
			continue;
		if (WIFSIGNALED(t->exit_status)) {
			process_kill(t->pid, SIGKILL);
		} else {
			/* The call does not return: it is only started. */
			struct user_regs_struct regs = t->threads[0].regs;
			struct iovec iov = { &regs, sizeof(regs) };

			regs.rip = t->syscall_ip;
			regs.rax = SYS_exit_group;
			regs.orig_rax = (unsigned long)-1;
			regs.rdi = (unsigned long)WEXITSTATUS(t->exit_status);
			if (ptrace(PTRACE_SETREGSET, t->pid, (void *)1, &iov) < 0 ||
			    ptrace(PTRACE_CONT, t->pid, NULL, NULL) < 0)
				return error_sys(err, errno, "ending process %d", t->vpid);
		}
		while (waitpid(t->pid, &status, __WALL) < 0 && errno == EINTR)
			;
		t->threads[0].traced = t->threads[0].stopped = false;
		t->nthreads = 0;
		t->zombie = true;
	}
	return 0;
}
