/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks of a cgroup and the cgroup's freezer, v1 and v2. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/known.h"

/* --- cgroup -------------------------------------------------------------------------- */
static bool has_file(const char *folder, const char *file)
{
	CLEANUP_FREE char *p = str_format("%s/%s", folder, file);

	return access(p, F_OK) == 0;
}

int cgroup_find(const char *name, struct cgroup *cg, struct error *err)
{
	static const char *const roots[] = { "", "/sys/fs/cgroup/freezer", "/sys/fs/cgroup",
					     "/sys/fs/cgroup/unified" };

	for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++) {
		CLEANUP_FREE char *p =
			str_format("%s%s%s", roots[i], name[0] == '/' ? "" : "/", name);
		bool v1 = has_file(p, "freezer.state");

		if (!v1 && !has_file(p, "cgroup.freeze"))
			continue;
		cg->path = TAKE_PTR(p);
		cg->v1 = v1;
		return 0;
	}
	return error_set(err, ENOENT, "no freezer cgroup %s on this host", name);
}

void cgroup_free(struct cgroup *cg)
{
	free(cg->path);
	cg->path = NULL;
}

int cgroup_freeze(const struct cgroup *cg, bool on, struct error *err)
{
	CLEANUP_FREE char *p =
		str_format("%s/%s", cg->path, cg->v1 ? "freezer.state" : "cgroup.freeze");
	int r;

	r = file_write_str(p, cg->v1 ? (on ? "FROZEN" : "THAWED") : (on ? "1" : "0"), err);
	if (r < 0)
		return r;
	for (int64_t end = clock_mono_ns() + 10000000000; on; clock_sleep_ns(20000)) {
		CLEANUP_FREE char *state =
			str_format("%s/%s", cg->path, cg->v1 ? "freezer.state" : "cgroup.events");
		CLEANUP_FREE char *text = NULL;

		r = file_read(state, 4096, &text, NULL, err);
		if (r < 0)
			return r;
		if (strstr(text, cg->v1 ? "FROZEN" : "frozen 1"))
			return 0;
		if (clock_mono_ns() > end)
			return error_set(err, ETIMEDOUT, "cgroup %s did not freeze in 10 s",
					 cg->path);
	}
	return 0;
}

int cgroup_add(const struct cgroup *cg, pid_t pid, struct error *err)
{
	CLEANUP_FREE char *p = str_format("%s/cgroup.procs", cg->path);
	char num[16];

	snprintf(num, sizeof(num), "%d", pid);
	return file_write_str(p, num, err);
}

static int read_procs(const struct cgroup *cg, char **text, struct error *err)
{
	CLEANUP_FREE char *p = str_format("%s/cgroup.procs", cg->path);

	return file_read(p, 16 << 20, text, NULL, err);
}

bool cgroup_is_empty(const struct cgroup *cg)
{
	CLEANUP_FREE char *text = NULL;

	return read_procs(cg, &text, NULL) < 0 || !text[0];
}

/* --- tasks --------------------------------------------------------------------------- */
struct task *task_new(pid_t pid)
{
	struct task *t = mem_zalloc(sizeof(*t));

	t->pid = pid;
	t->pidfd = t->mem_fd = t->pagemap_fd = t->sock = t->sock_num = -1;
	return t;
}

void tasks_add(struct tasks *l, struct task *t)
{
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 16;
		l->t = mem_grow(l->t, l->cap, sizeof(*l->t));
	}
	l->t[l->n++] = t;
}

void tasks_free(struct tasks *l)
{
	for (size_t i = 0; i < l->n; i++)
		task_free(l->t[i]);
	free(l->t);
	*l = (struct tasks){ 0 };
}

struct task *tasks_by_vpid(const struct tasks *l, pid_t vpid)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->t[i]->vpid == vpid)
			return l->t[i];
	return NULL;
}

struct task *tasks_by_pid(const struct tasks *l, pid_t pid)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->t[i]->pid == pid)
			return l->t[i];
	return NULL;
}

bool status_field(const char *status, const char *key, char *out, size_t len)
{
	size_t k = strlen(key);

	for (const char *p = status; p && *p; p = strchr(p, '\n'), p += p ? 1 : 0) {
		const char *end;
		size_t n;

		if (strncmp(p, key, k) != 0 || p[k] != ':')
			continue;
		p += k + 1;
		while (*p == '\t' || *p == ' ')
			p++;
		end = strchr(p, '\n');
		n = end ? (size_t)(end - p) : strlen(p);
		n = n < len ? n : len - 1;
		memcpy(out, p, n);
		out[n] = '\0';
		return true;
	}
	return false;
}

/* Last of the numbers in an NS* line: the value in the innermost namespace. */
static pid_t innermost(const char *status, const char *key)
{
	char line[256];
	char *last;

	if (!status_field(status, key, line, sizeof(line)))
		return -1;
	last = strrchr(line, '\t');
	return (pid_t)atoi(last ? last + 1 : line);
}

static int read_status(pid_t pid, char **status)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	return file_read(path, 65536, status, NULL, NULL);
}

int task_scan_threads(struct task *t)
{
	CLEANUP_CLOSEDIR DIR *d = NULL;
	CLEANUP_FREE char *path = str_format("/proc/%d/task", t->pid);
	struct dirent *e;
	size_t n = 0;

	if (t->zombie)
		return 0;
	d = opendir(path);
	if (!d)
		return -ESRCH;
	for (size_t i = 0; i < t->nthreads; i++)
		t->threads[i].seen = false;
	while ((e = readdir(d))) {
		pid_t tid = (pid_t)atoi(e->d_name);
		struct thread *th = NULL;

		if (tid <= 0)
			continue;
		for (size_t i = 0; i < t->nthreads && !th; i++)
			if (t->threads[i].tid == tid)
				th = &t->threads[i];
		if (!th) {
			CLEANUP_FREE char *status = NULL;

			if (read_status(tid, &status) < 0)
				continue;
			t->threads = mem_grow(t->threads, t->nthreads + 1, sizeof(*th));
			th = &t->threads[t->nthreads++];
			*th = (struct thread){ .tid = tid, .vtid = innermost(status, "NSpid") };
		}
		th->task = t;
		th->seen = true;
	}
	for (size_t i = 0; i < t->nthreads; i++)
		if (t->threads[i].seen)
			t->threads[n++] = t->threads[i];
	t->nthreads = n;
	/* The leader first; others keep the order of their creation. */
	for (size_t i = 1; i < n; i++)
		if (t->threads[i].tid == t->pid) {
			struct thread tmp = t->threads[i];

			memmove(&t->threads[1], &t->threads[0], i * sizeof(tmp));
			t->threads[0] = tmp;
		}
	return n && t->threads[0].tid == t->pid ? 0 : -ESRCH;
}

static bool gone(const struct task *t)
{
	struct pollfd p = { .fd = t->pidfd, .events = POLLIN };

	return t->pidfd >= 0 && !t->zombie && poll(&p, 1, 0) == 1;
}

static bool is_still(const struct task *t)
{
	for (size_t i = 0; i < t->nthreads; i++)
		if (!t->threads[i].stopped)
			return false;
	return t->nthreads > 0;
}

/* Fills in the numbers. -ESRCH where the process is gone. */
static int refresh(struct task *t)
{
	CLEANUP_FREE char *status = NULL;
	char line[64];

	free(TAKE_PTR(t->status));
	if (read_status(t->pid, &status) < 0 || !status_field(status, "State", line, sizeof(line)))
		return -ESRCH;
	t->zombie = line[0] == 'Z' || line[0] == 'X';
	t->headless =
		t->zombie && status_field(status, "Threads", line, sizeof(line)) && atoi(line) > 1;
	/* One that was reaped while its file was open has no numbers any more. */
	if (innermost(status, "NSpid") <= 0)
		return -ESRCH;
	t->vpid = innermost(status, "NSpid");
	t->vpgid = innermost(status, "NSpgid");
	t->vsid = innermost(status, "NSsid");
	if (!status_field(status, "PPid", line, sizeof(line)))
		return -ESRCH;
	t->ppid = (pid_t)atoi(line);
	/* All its threads are known and stand still: what is in it stays true. */
	if (!t->zombie && is_still(t) && status_field(status, "Threads", line, sizeof(line)) &&
	    (size_t)atoi(line) == t->nthreads)
		t->status = TAKE_PTR(status);
	if (!t->start_time)
		process_start_time(t->pid, &t->start_time);
	if (t->zombie) {
		/* exit_code (proc(5)). */
		CLEANUP_FREE char *path = str_format("/proc/%d/stat", t->pid);
		CLEANUP_FREE char *stat = NULL;

		t->nthreads = 0;
		memset(t->share, 0, sizeof(t->share));
		if (file_read(path, 8192, &stat, NULL, NULL) < 0)
			return -ESRCH;
		t->exit_status = known_stat_field(stat, 52, line, sizeof(line)) ? atoi(line) : 0;
	}
	return 0;
}

bool task_refresh_parent(const struct tasks *l, struct task *t)
{
	CLEANUP_FREE char *status = NULL;
	char line[64];
	struct task *parent;

	if (read_status(t->pid, &status) < 0 || !status_field(status, "PPid", line, sizeof(line)))
		return false;
	parent = tasks_by_pid(l, (pid_t)atoi(line));
	if (!parent)
		return false;
	t->vppid = parent->vpid;
	return true;
}

/* Field 38 of /proc/PID/stat (proc(5)). */
static int exit_signal_of(struct task *t)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/stat", t->pid);
	CLEANUP_FREE char *stat = NULL;
	char *p;

	if (file_read(path, 8192, &stat, NULL, NULL) < 0 || !(p = strrchr(stat, ')')))
		return SIGCHLD;
	for (int i = 2; i < 38 && p; i++)
		p = strchr(p + 1, ' ');
	if (t->status) {
		free(t->stat);
		t->stat = TAKE_PTR(stat);
	}
	return p ? atoi(p + 1) : SIGCHLD;
}

/* The kernel gives an order (kcmp(2)), so that n processes cost n log n comparisons. */
static int share_kind;

static int by_share(const void *a, const void *b)
{
	const struct task *const *x = a, *const *y = b;
	long c = syscall(SYS_kcmp, (*x)->pid, (*y)->pid, share_kind, 0, 0);

	/* 3, or an error: one of them has ended, and the next round sees it. */
	return c == 1 ? -1 : c == 2 ? 1 : c == 0 ? 0 : (*x)->pid < (*y)->pid ? -1 : 1;
}

static int by_rank(const void *a, const void *b)
{
	const struct task *const *x = a, *const *y = b;
	uint32_t i = (*x)->share_rank[share_kind], j = (*y)->share_rank[share_kind];

	return i < j ? -1 : i > j;
}

/* Most often the order is still the one that the last round found. */
static void sort_by_share(struct task **t, size_t n, size_t kind)
{
	static const int kinds[SHARES] = { KCMP_FILES, KCMP_FS };
	bool sorted = true;

	share_kind = (int)kind;
	qsort(t, n, sizeof(*t), by_rank);
	share_kind = kinds[kind];
	for (size_t i = 1; i < n && sorted; i++)
		sorted = by_share(&t[i - 1], &t[i]) <= 0;
	if (!sorted)
		qsort(t, n, sizeof(*t), by_share);
	for (size_t i = 0; i < n; i++)
		t[i]->share_rank[kind] = (uint32_t)i + 1;
}

/* Processes that are ending share nothing, which kcmp() takes for the same thing. */
static bool is_alive(const struct task *t)
{
	char path[64], exe[4];

	snprintf(path, sizeof(path), "/proc/%d/exe", t->pid);
	return readlink(path, exe, sizeof(exe)) >= 0;
}

static bool same_share(const struct task *a, const struct task *b)
{
	return syscall(SYS_kcmp, a->pid, b->pid, share_kind, 0, 0) == 0 && is_alive(a) &&
	       is_alive(b);
}

void tasks_find_shares(struct tasks *l)
{
	CLEANUP_FREE struct task **sorted = mem_zalloc((l->n + 1) * sizeof(*sorted));
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		memset(l->t[i]->share, 0, sizeof(l->t[i]->share));
		l->t[i]->exit_signal = exit_signal_of(l->t[i]);
		if (!l->t[i]->zombie)
			sorted[n++] = l->t[i];
	}
	for (size_t k = 0; k < SHARES; k++) {
		sort_by_share(sorted, n, k);
		for (size_t i = 0, j; i < n; i = j) {
			pid_t first = sorted[i]->vpid;

			for (j = i + 1; j < n && same_share(sorted[i], sorted[j]); j++)
				first = sorted[j]->vpid < first ? sorted[j]->vpid : first;
			for (size_t m = i; j > i + 1 && m < j; m++)
				sorted[m]->share[k] = (uint32_t)first;
		}
	}
}

struct task *tasks_files_owner(const struct tasks *l, struct task *t)
{
	struct task *o =
		t->share[SHARE_FILES] ? tasks_by_vpid(l, (pid_t)t->share[SHARE_FILES]) : NULL;

	return o ? o : t;
}

static struct task *add_pid(struct tasks *l, pid_t pid)
{
	struct task *t = tasks_by_pid(l, pid);

	if (!t) {
		t = task_new(pid);
		t->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		if (t->pidfd < 0) {
			task_free(t);
			return NULL;
		}
		tasks_add(l, t);
	}
	t->seen = true;
	return t;
}

/* Zombies are in no cgroup any more: they are found as children. */
static void add_children(struct tasks *l, struct task *t)
{
	for (size_t i = 0; i < t->nthreads; i++) {
		CLEANUP_FREE char *path =
			str_format("/proc/%d/task/%d/children", t->pid, t->threads[i].tid);
		CLEANUP_FREE char *text = NULL;
		char *p, *end;

		if (file_read(path, 1 << 20, &text, NULL, NULL) < 0)
			continue;
		for (p = text;; p = end) {
			pid_t pid = (pid_t)strtol(p, &end, 10);

			if (end == p)
				break;
			add_pid(l, pid);
		}
	}
}

/* The cgroup's processes, and init; those known are marked as seen. */
static int list(struct tasks *l, const struct cgroup *cg, pid_t init_pid, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	size_t n = 0;
	char *p, *end;
	int r;

	for (size_t i = 0; i < l->n; i++) {
		l->t[i]->seen = false;
		if (gone(l->t[i])) {
			task_free(l->t[i]);
			continue;
		}
		l->t[n++] = l->t[i];
	}
	l->n = n;
	r = read_procs(cg, &text, err);
	if (r < 0)
		return r;
	if (init_pid)
		add_pid(l, init_pid);
	for (p = text;; p = end) {
		pid_t pid = (pid_t)strtol(p, &end, 10);

		if (end == p)
			break;
		if (pid > 0)
			add_pid(l, pid);
	}
	return 0;
}

/* Parents may come after their children in the list. */
static void find_vppids(struct tasks *l, pid_t init_pid)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct task *parent = tasks_by_pid(l, l->t[i]->ppid);

		l->t[i]->vppid = parent ? parent->vpid : l->t[i]->pid == init_pid ? 0 : -1;
	}
}

static int init_ended(pid_t init_pid, struct error *err)
{
	return error_set(err, ESRCH, "the container's init (pid %d) has ended", init_pid);
}

int tasks_scan_running(struct tasks *l, const struct cgroup *cg, pid_t init_pid, struct error *err)
{
	size_t n = 0;
	int r = list(l, cg, init_pid, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < l->n; i++) {
		struct task *t = l->t[i];

		/* A process that ends now is a zombie or gone for tasks_scan(). */
		task_scan_threads(t);
		if (!t->vpid && refresh(t) < 0) {
			task_free(t);
			continue;
		}
		l->t[n++] = t;
	}
	l->n = n;
	find_vppids(l, init_pid);
	return tasks_by_pid(l, init_pid) ? 0 : init_ended(init_pid, err);
}

bool tasks_all_still(const struct tasks *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (!l->t[i]->zombie && !l->t[i]->status)
			return false;
	return true;
}

void tasks_run_again(struct tasks *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(TAKE_PTR(l->t[i]->status));
		free(TAKE_PTR(l->t[i]->stat));
	}
}

int tasks_scan(struct tasks *l, const struct cgroup *cg, pid_t init_pid, struct error *err)
{
	size_t n = 0;
	int r = list(l, cg, init_pid, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < l->n; i++) {
		struct task *t = l->t[i];

		/* Where all stand still, and are as many as before, there is none to be found. */
		if (is_still(t) && refresh(t) == 0 && t->status)
			add_children(l, t);
		else if (task_scan_threads(t) == 0)
			add_children(l, t);
	}
	n = 0;
	for (size_t i = 0; i < l->n; i++) {
		struct task *t = l->t[i];

		if (!t->seen || (!t->status && refresh(t) < 0)) {
			task_free(t);
			continue;
		}
		l->t[n++] = t;
	}
	l->n = n;
	find_vppids(l, init_pid);
	return tasks_by_pid(l, init_pid) ? 0 : init_ended(init_pid, err);
}
