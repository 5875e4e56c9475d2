/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destination: the process tree. Every process is made by a remote clone3() with
 * set_tid, by a stub that passes on what only a parent can: session, descriptor table.
 *
 *   its parent has it            child of its parent
 *   a sibling has it             clone3(CLONE_PARENT) by the sibling
 *   a descendant of its parent   a grandchild of that one, whose parent exits at once; the
 *                                parent is init, or made a subreaper for the instant
 *   nobody is left who has it    a ghost: takes the pid of the session's or group's leader
 *                                that has ended, makes the session or group, and ends
 *                                before anything runs. The number stays taken for as long
 *                                as there are members, as on the source.
 *
 * What happens on the source between two rounds happens to the stubs too: parents end and
 * their children find another one, setsid(), setpgid(), unshare(). A stub is never made
 * anew while its process lives: the source does not send its memory twice.
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
#include "runtime/checkpoint/yield.h"

#define STUB_OPTIONS                                                                               \
	(PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEVFORK |      \
	 PTRACE_O_SUSPEND_SECCOMP)

static const uint64_t share_flags[SHARES] = { CLONE_FILES, CLONE_FS };

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
static long spawn(struct task *maker, pid_t vpid, uint64_t flags, int exit_signal)
{
	struct {
		struct clone_args args;
		pid_t tid;
	} a = { .args = { .flags = flags,
			  .exit_signal = (uint64_t)(flags & CLONE_PARENT ? 0 : exit_signal) },
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
			  uint64_t flags, struct error *err)
{
	struct task *t = task_new((pid_t)pid);

	t->vpid = vpid;
	add_leader(t, (pid_t)pid, vpid);
	inherit(t, maker);
	for (size_t k = 0; k < SHARES; k++)
		t->share[k] = flags & share_flags[k] ? maker->share[k] : ++r->last_share;
	if (thread_wait_stop(&t->threads[0], err) < 0 || open_proc(t, err) < 0) {
		task_free(t);
		return NULL;
	}
	return t;
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

static void forget(struct restore *r, struct task *t)
{
	for (size_t i = 0; i < r->tasks.n; i++)
		if (r->tasks.t[i] == t) {
			memmove(&r->tasks.t[i], &r->tasks.t[i + 1],
				(r->tasks.n - i - 1) * sizeof(*r->tasks.t));
			r->tasks.n--;
			break;
		}
	task_free(t);
}

/* --- who ends ------------------------------------------------------------------------------ */
/* Before t ends: whoever is to have its children, and is not init, asks for them. */
static void heirs(struct restore *r, const Ck__Tree *tree, const struct task *t, bool on)
{
	for (size_t i = 0; i < r->tasks.n; i++) {
		const Ck__Process *p = find(tree, r->tasks.t[i]->vpid);
		struct task *heir;

		if (r->tasks.t[i]->vppid != t->vpid || !p || (pid_t)p->vppid == t->vpid)
			continue;
		heir = tasks_by_vpid(&r->tasks, (pid_t)p->vppid);
		if (heir && heir->vpid != 1)
			remote_syscall(heir, SYS_prctl, PR_SET_CHILD_SUBREAPER, on, 0, 0, 0, 0);
	}
}

/* After t has ended: its children have another parent. */
static void orphans(struct restore *r, const Ck__Tree *tree, const struct task *t)
{
	heirs(r, tree, t, false);
	for (size_t i = 0; i < r->tasks.n; i++)
		if (r->tasks.t[i]->vppid == t->vpid && r->tasks.t[i] != t)
			task_refresh_parent(&r->tasks, r->tasks.t[i]);
}

/* It has ended on the source, or its pid means another one now. */
static bool is_gone(const Ck__Tree *tree, const struct task *t)
{
	const Ck__Process *p = find(tree, t->vpid);

	return t->vpid != 1 && (!p || p->start_time != t->start_time);
}

/* Ends those for whom gone() is true, children before their parents. */
static int drop(struct restore *r, const Ck__Tree *tree,
		bool (*gone)(const Ck__Tree *tree, const struct task *t), struct error *err)
{
	for (size_t i = 0; i < r->tasks.n;) {
		struct task *t = r->tasks.t[i];
		bool wait = !gone(tree, t);
		int e;

		for (size_t j = 0; j < r->tasks.n && !wait; j++)
			wait = r->tasks.t[j]->vppid == t->vpid && gone(tree, r->tasks.t[j]);
		if (wait) {
			i++;
			continue;
		}
		heirs(r, tree, t, true);
		e = reap(r, t, err);
		if (e < 0)
			return e;
		orphans(r, tree, t);
		forget(r, t);
		i = 0;
	}
	return 0;
}

static bool is_ghost(const Ck__Tree *tree, const struct task *t)
{
	(void)tree;
	return t->ghost;
}

/* --- who is made ----------------------------------------------------------------------------- */
static bool has_members(const struct restore *r, pid_t vsid, pid_t vpgid)
{
	for (size_t i = 0; i < r->tasks.n; i++) {
		const struct task *t = r->tasks.t[i];

		if (!t->zombie && (vsid ? t->vsid == vsid : t->vpgid == vpgid))
			return true;
	}
	return false;
}

static uint32_t shared_with(const Ck__Process *p, size_t kind)
{
	return kind == SHARE_FILES ? p->files : p->fs;
}

/* Whether a child of c can be p, and with which flags. */
static bool suits(const struct restore *r, const Ck__Tree *tree, const struct task *c,
		  const Ck__Process *p, uint64_t *flags)
{
	const Ck__Process *pc = find(tree, c->vpid);

	*flags = 0;
	if (c->zombie || (p->vsid != p->vpid && (pid_t)p->vsid != c->vsid))
		return false;
	for (size_t k = 0; k < SHARES; k++) {
		uint32_t set = shared_with(p, k);

		if (!set)
			continue;
		if (pc && !c->ghost && shared_with(pc, k) == set) {
			*flags |= share_flags[k];
			continue;
		}
		for (size_t i = 0; i < r->tasks.n; i++) {
			const Ck__Process *o = find(tree, r->tasks.t[i]->vpid);

			if (o && shared_with(o, k) == set)
				return false;
		}
	}
	return true;
}

static bool descends(const struct restore *r, const struct task *t, const struct task *from)
{
	while (t && t != from && t->vppid > 0)
		t = tasks_by_vpid(&r->tasks, t->vppid);
	return t == from;
}

/* By a child of `maker` that ends, so that `parent`, above it, gets the new one. */
static int make_orphan(struct restore *r, struct task *maker, struct task *parent,
		       const Ck__Process *p, uint64_t flags, struct task **t, struct error *err)
{
	long pid = spawn(maker, 0, flags, SIGCHLD);
	struct task *mid;
	int status;

	if (pid < 0)
		return error_sys(err, (int)-pid, "making the parent of process %u", p->vpid);
	mid = adopt(r, maker, pid, 0, flags, err);
	if (!mid)
		return -err->code;
	pid = spawn(mid, (pid_t)p->vpid, flags, SIGCHLD);
	if (pid < 0)
		error_sys(err, (int)-pid, "making process %u", p->vpid);
	else
		*t = adopt(r, mid, pid, (pid_t)p->vpid, flags, err);
	if (parent->vpid != 1)
		remote_syscall(parent, SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0);
	process_kill(mid->pid, SIGKILL);
	while (waitpid(mid->pid, &status, __WALL) < 0 && errno == EINTR)
		;
	mid->threads[0].traced = mid->threads[0].stopped = false;
	task_free(mid);
	if (parent->vpid != 1)
		remote_syscall(parent, SYS_prctl, PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0, 0);
	remote_syscall(maker, SYS_wait4, (unsigned long)-1, 0, WNOHANG | __WALL, 0, 0, 0);
	return *t ? 0 : -err->code;
}

/* 0 made, 1 nobody can yet, or -errno. */
static int make(struct restore *r, const Ck__Tree *tree, const Ck__Process *p, struct error *err)
{
	struct task *parent = tasks_by_vpid(&r->tasks, (pid_t)p->vppid), *t = NULL;
	uint64_t flags = 0;
	int e = 0;

	if (!parent || parent->zombie)
		return 1;
	for (int way = 0; way < 3 && !t; way++)
		for (size_t i = 0; i < r->tasks.n && !t; i++) {
			struct task *c = r->tasks.t[i];
			long pid;

			if (way == 0   ? c != parent
			    : way == 1 ? c->vppid != parent->vpid || c->vpid == 1
				       : c == parent || !descends(r, c, parent))
				continue;
			if (!suits(r, tree, c, p, &flags))
				continue;
			if (way == 2) {
				e = make_orphan(r, c, parent, p, flags, &t, err);
				if (e < 0)
					return e;
				break;
			}
			flags |= way ? CLONE_PARENT : 0;
			pid = spawn(c, (pid_t)p->vpid, flags,
				    p->has_exit_signal ? (int)p->exit_signal : SIGCHLD);
			if (pid < 0)
				return error_sys(err, (int)-pid, "making process %u", p->vpid);
			t = adopt(r, c, pid, (pid_t)p->vpid, flags, err);
			if (!t)
				return -err->code;
		}
	if (!t)
		return 1;
	t->vppid = (pid_t)p->vppid;
	t->start_time = p->start_time;
	tasks_add(&r->tasks, t);
	return 0;
}

/* A stand-in for the leader of a session or group that has ended on the source. */
static int make_ghost(struct restore *r, struct task *maker, pid_t vpid, bool session,
		      struct error *err)
{
	long n = spawn(maker, vpid, 0, SIGCHLD);
	struct task *t;

	if (n < 0)
		return error_sys(err, (int)-n, "taking the number of %s %d, whose leader has ended",
				 session ? "session" : "group", vpid);
	t = adopt(r, maker, n, vpid, 0, err);
	if (!t)
		return -err->code;
	t->vppid = maker->vpid;
	t->ghost = true;
	tasks_add(&r->tasks, t);
	n = session ? remote_syscall(t, SYS_setsid, 0, 0, 0, 0, 0, 0)
		    : remote_syscall(t, SYS_setpgid, 0, 0, 0, 0, 0, 0);
	if (n < 0)
		return error_sys(err, (int)-n, "making %s %d", session ? "session" : "group", vpid);
	t->vpgid = vpid;
	t->vsid = session ? vpid : t->vsid;
	return 0;
}

/* 0 done, 1 nothing to do, or -errno. `wait`: not before its children of the old session. */
static int lead_session(struct restore *r, const Ck__Tree *tree, const Ck__Process *p, bool wait,
			struct error *err)
{
	struct task *t = tasks_by_vpid(&r->tasks, (pid_t)p->vpid);
	long n;

	if (!t || t->zombie || p->vsid != p->vpid || t->vsid == t->vpid)
		return 1;
	for (size_t i = 0; i < tree->n_processes && wait; i++) {
		const Ck__Process *o = tree->processes[i];

		if (o->vppid == p->vpid && (pid_t)o->vsid == t->vsid &&
		    !tasks_by_vpid(&r->tasks, (pid_t)o->vpid))
			return 1;
	}
	n = remote_syscall(t, SYS_setsid, 0, 0, 0, 0, 0, 0);
	if (n < 0)
		return error_sys(err, (int)-n, "making process %u a session leader", p->vpid);
	t->vsid = t->vpgid = t->vpid;
	return 0;
}

/* What processes have ceased to share since the last round. */
static int unshare_tables(struct restore *r, const Ck__Tree *tree, struct error *err)
{
	for (size_t i = 0; i < r->tasks.n; i++)
		for (size_t k = 0; k < SHARES; k++) {
			struct task *t = r->tasks.t[i];
			const Ck__Process *p = find(tree, t->vpid);
			bool shares = false;
			long n;

			if (!p || t->zombie || shared_with(p, k))
				continue;
			for (size_t j = 0; j < r->tasks.n; j++)
				shares |= r->tasks.t[j] != t &&
					  r->tasks.t[j]->share[k] == t->share[k];
			if (!shares)
				continue;
			n = remote_syscall(t, SYS_unshare, share_flags[k], 0, 0, 0, 0, 0);
			if (n < 0)
				return error_sys(err, (int)-n, "unsharing tables of process %d",
						 t->vpid);
			t->share[k] = ++r->last_share;
		}
	return 0;
}

/* Until every process has found its parent, its session and whom it shares tables with. */
static int make_all(struct restore *r, const Ck__Tree *tree, struct error *err)
{
	for (bool wait = true;;) {
		size_t done = 0, missing = 0;
		const Ck__Process *first = NULL;
		int e;

		for (size_t i = 0; i < tree->n_processes; i++) {
			const Ck__Process *p = tree->processes[i];

			if (tasks_by_vpid(&r->tasks, (pid_t)p->vpid))
				continue;
			e = make(r, tree, p, err);
			if (e < 0)
				return e;
			done += e == 0;
			missing += e == 1;
			if (e == 1 && !first && tasks_by_vpid(&r->tasks, (pid_t)p->vppid))
				first = p;
		}
		for (size_t i = 0; i < tree->n_processes; i++) {
			e = lead_session(r, tree, tree->processes[i], wait, err);
			if (e < 0)
				return e;
			done += e == 0;
		}
		if (done) {
			wait = true;
			continue;
		}
		if (wait) {
			wait = false;
			continue;
		}
		if (!missing)
			return 0;
		if (!first)
			return error_set(err, EBADMSG,
					 "the process tree has a part without a root");
		if (!first->vsid || has_members(r, (pid_t)first->vsid, 0) ||
		    find(tree, (pid_t)first->vsid))
			return error_set(err, EOPNOTSUPP,
					 "process %u is a child of %u, in session %u, and shares "
					 "its descriptor table or working directory with another "
					 "process: nobody can make it so again",
					 first->vpid, first->vppid, first->vsid);
		e = make_ghost(r, tasks_by_vpid(&r->tasks, (pid_t)first->vppid), (pid_t)first->vsid,
			       true, err);
		if (e < 0)
			return e;
	}
}

static int groups(struct restore *r, const Ck__Tree *tree, bool leaders, struct error *err)
{
	for (size_t i = 0; i < tree->n_processes; i++) {
		const Ck__Process *p = tree->processes[i];
		struct task *t = tasks_by_vpid(&r->tasks, (pid_t)p->vpid);
		long n;

		if (t->zombie || (pid_t)p->vpgid == t->vpgid || (p->vpgid == p->vpid) != leaders ||
		    !p->vpgid)
			continue;
		if (!leaders && !has_members(r, 0, (pid_t)p->vpgid)) {
			struct task *leader = tasks_by_vpid(&r->tasks, (pid_t)p->vpgid);
			int e = 0;

			/* It leads no more: it has ended, or has gone to another group. */
			if (!leader)
				e = make_ghost(r, t, (pid_t)p->vpgid, false, err);
			else if (remote_syscall(leader, SYS_setpgid, 0, 0, 0, 0, 0, 0) == 0)
				leader->vpgid = leader->vpid;
			if (e < 0)
				return e;
		}
		n = remote_syscall(t, SYS_setpgid, 0, p->vpgid, 0, 0, 0, 0);
		/* The list of a round is made while they run, and need not fit together. */
		if (n < 0 && !tree->final)
			continue;
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

static int end_as_zombie(struct task *t, struct error *err)
{
	int status;

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
	return 0;
}

/* A zombie has no children: those of its stub go to others when it ends. */
static int end_parents(struct restore *r, const Ck__Tree *tree, struct error *err)
{
	for (size_t i = 0; i < r->tasks.n; i++) {
		struct task *t = r->tasks.t[i];
		bool parent = false;
		int e;

		for (size_t j = 0; j < r->tasks.n && t->to_be_zombie && !t->zombie; j++)
			parent |= r->tasks.t[j]->vppid == t->vpid;
		if (!parent)
			continue;
		heirs(r, tree, t, true);
		e = end_as_zombie(t, err);
		if (e < 0)
			return e;
		orphans(r, tree, t);
	}
	return 0;
}

static void early_bounding_set(struct restore *r, const Ck__Tree *tree)
{
	if (r->tasks.n != 1 || !tree->has_cap_bnd)
		return;
	for (unsigned long cap = 0; cap < 64; cap++)
		/* EINVAL: this kernel has no such capability. */
		if (!(tree->cap_bnd >> cap & 1) &&
		    remote_syscall(r->tasks.t[0], SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0, 0) ==
			    -EINVAL)
			break;
}

int restore_tree(struct restore *r, const Ck__Tree *tree, struct error *err)
{
	int e;

	if (!find(tree, 1))
		return error_set(err, EBADMSG, "the tree has no init");
	r->final = tree->final;
	/* Either memory comes while the source runs on, or every client waits for us now. */
	if (r->final || !r->load)
		yield_set(&r->yield, r->final ? YIELD_FIRST : YIELD_TO_ALL);
	if (r->final && r->s)
		stream_patience(r->s, STREAM_PATIENCE_STILL_S);
	e = drop(r, tree, is_gone, err);
	if (e == 0)
		e = unshare_tables(r, tree, err);
	if (e < 0)
		return e;
	early_bounding_set(r, tree);
	if (r->tasks.n == 1) {
		r->bnd = bounding_set(&r->tasks.t[0]->threads[0]);
		e = restore_first_filters(r, tree, err);
		if (e < 0)
			return e;
	}
	e = make_all(r, tree, err);
	if (e == 0)
		e = groups(r, tree, true, err);
	/* Twice: those who led a group for an instant go on to their own. */
	for (int i = 0; i < 2 && e == 0; i++)
		e = groups(r, tree, false, err);
	if (e == 0)
		e = drop(r, tree, is_ghost, err);
	for (size_t i = 0; i < tree->n_processes && e == 0; i++) {
		const Ck__Process *p = tree->processes[i];
		struct task *t = tasks_by_vpid(&r->tasks, (pid_t)p->vpid);

		t->to_be_zombie = p->zombie;
		t->exit_status = p->exit_status;
		t->files_of = (pid_t)p->files;
		t->fs_of = (pid_t)p->fs;
	}
	if (e == 0)
		e = end_parents(r, tree, err);
	for (size_t i = 0; i < tree->n_processes && e == 0 && tree->final; i++) {
		const Ck__Process *p = tree->processes[i];
		const struct task *t = tasks_by_vpid(&r->tasks, (pid_t)p->vpid);

		if (t->vpid != 1 && t->vppid != (pid_t)p->vppid)
			e = error_set(err, EPROTO,
				      "process %u is a child of %u, and would be one of %d here",
				      p->vpid, p->vppid, t->vppid);
		else if (!t->zombie && p->vsid && t->vsid != (pid_t)p->vsid)
			e = error_set(err, EPROTO,
				      "process %u is in session %u, and would be in %d here",
				      p->vpid, p->vsid, t->vsid);
	}
	return e;
}

/* Zombies end as they did; their parents stand still and reap them when they run. */
int restore_zombies(struct restore *r, struct error *err)
{
	for (size_t i = 0; i < r->tasks.n; i++) {
		struct task *t = r->tasks.t[i];
		int e = t->to_be_zombie && !t->zombie ? end_as_zombie(t, err) : 0;

		if (e < 0)
			return e;
	}
	return 0;
}
