/* SPDX-License-Identifier: Apache-2.0 */
/* Finding, making, freezing and removing control groups; limits are in cgroup-limits.c. */
#include "runtime/oci/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/str.h"

static const char *const v1_controllers[] = { "cpu",	 "cpuacct", "cpuset",	"memory",
					      "devices", "freezer", "blkio",	"pids",
					      "hugetlb", "net_cls", "net_prio", "perf_event",
					      "rdma",	 "misc" };

static bool is_controller(const char *opt)
{
	if (str_starts(opt, "name="))
		return true;
	for (size_t i = 0; i < sizeof(v1_controllers) / sizeof(v1_controllers[0]); i++)
		if (!strcmp(v1_controllers[i], opt))
			return true;
	return false;
}

static char *v2_controllers(const char *mount)
{
	CLEANUP_FREE char *path = str_format("%s/cgroup.controllers", mount), *text = NULL;
	struct buf out = { 0 };
	char *save = NULL;

	buf_addf(&out, ",");
	if (file_read(path, 65536, &text, NULL, NULL) < 0)
		return out.data;
	for (char *w = strtok_r(text, " \n", &save); w; w = strtok_r(NULL, " \n", &save))
		buf_addf(&out, "%s,", w);
	return out.data;
}

/* One line of mountinfo: proc(5). `line` is cut to pieces. */
static void add_mount(struct cgroups *cg, char *line)
{
	char *dash = strstr(line, " - "), *save = NULL, *save2 = NULL, *field[5];
	char *type, *options;
	struct cgroup_hier *h;
	struct buf list = { 0 };

	if (!dash)
		return;
	*dash = '\0';
	for (int i = 0; i < 5; i++) {
		field[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!field[i])
			return;
	}
	type = strtok_r(dash + 3, " ", &save2);
	(void)strtok_r(NULL, " ", &save2);
	options = strtok_r(NULL, " ", &save2);
	if (!type || !options || (strcmp(type, "cgroup") != 0 && strcmp(type, "cgroup2") != 0))
		return;
	cg->hier = mem_grow(cg->hier, cg->n + 1, sizeof(*cg->hier));
	h = &cg->hier[cg->n];
	h->v2 = !strcmp(type, "cgroup2");
	if (h->v2) {
		if (cg->v2 >= 0)
			return; /* the same tree, mounted twice */
		h->controllers = v2_controllers(field[4]);
		cg->v2 = (int)cg->n;
	} else {
		buf_addf(&list, ",");
		for (char *o = strtok_r(options, ",", &save2); o; o = strtok_r(NULL, ",", &save2))
			if (is_controller(o))
				buf_addf(&list, "%s,", o);
		for (size_t i = 0; i < cg->n; i++)
			if (!strcmp(cg->hier[i].controllers, list.data)) {
				buf_free(&list);
				return;
			}
		h->controllers = list.data;
	}
	h->mount = str_dup(field[4]);
	cg->n++;
}

int cgroups_load(struct cgroups *cg, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	char *save = NULL;
	int r;

	memset(cg, 0, sizeof(*cg));
	cg->v2 = -1;
	r = file_read("/proc/self/mountinfo", 16 << 20, &text, NULL, err);
	if (r < 0)
		return r;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		add_mount(cg, l);
	if (!cg->n)
		return error_set(err, EOPNOTSUPP,
				 "no cgroup hierarchy is mounted; mount cgroup2 on /sys/fs/cgroup");
	return 0;
}

void cgroups_free(struct cgroups *cg)
{
	for (size_t i = 0; i < cg->n; i++) {
		free(cg->hier[i].mount);
		free(cg->hier[i].controllers);
	}
	free(cg->hier);
	memset(cg, 0, sizeof(*cg));
}

const struct cgroup_hier *cgroups_find(const struct cgroups *cg, const char *controller)
{
	CLEANUP_FREE char *key = str_format(",%s,", controller);

	for (size_t i = 0; i < cg->n; i++)
		if (strstr(cg->hier[i].controllers, key))
			return &cg->hier[i];
	return NULL;
}

/* A new v1 cpuset is empty and takes no task until it has CPUs and memory nodes. */
static int cpuset_inherit(const char *dir, struct error *err)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
	CLEANUP_FREE char *parent = str_dup(dir);
	int r;

	*strrchr(parent, '/') = '\0';
	for (int i = 0; i < 2; i++) {
		CLEANUP_FREE char *mine = str_format("%s/%s", dir, files[i]);
		CLEANUP_FREE char *theirs = str_format("%s/%s", parent, files[i]);
		CLEANUP_FREE char *value = NULL, *now = NULL;

		if ((r = file_read(mine, 65536, &now, NULL, err)) < 0)
			return r;
		if (now[strspn(now, " \n")])
			continue;
		if ((r = file_read(theirs, 65536, &value, NULL, err)) < 0 ||
		    (r = file_write_str(mine, value, err)) < 0)
			return r;
	}
	return 0;
}

static int make_in(const struct cgroup_hier *h, const char *path, struct error *err)
{
	CLEANUP_FREE char *dir = str_format("%s%s", h->mount, path);
	size_t base = strlen(h->mount);
	int r;

	for (char *p = dir + base + 1;; p++) {
		char old = *p;

		if (old != '/' && old)
			continue;
		*p = '\0';
		if (h->v2) {
			char *slash = strrchr(dir, '/');
			CLEANUP_FREE char *control = NULL, *list = str_dup(h->controllers);
			char *save = NULL;

			*slash = '\0';
			control = str_format("%s/cgroup.subtree_control", dir);
			*slash = '/';
			/* One by one: one that cannot be had must not cost the others; a limit
			 * that needs it fails by itself later. */
			for (char *c = strtok_r(list, ",", &save); c;
			     c = strtok_r(NULL, ",", &save)) {
				CLEANUP_FREE char *plus = str_format("+%s", c);

				file_write_str(control, plus, NULL);
			}
		}
		if (mkdir(dir, 0755) < 0 && errno != EEXIST)
			return error_sys(err, errno, "making control group %s", dir);
		if (strstr(h->controllers, ",cpuset,") && !h->v2) {
			r = cpuset_inherit(dir, err);
			if (r < 0)
				return error_wrap(err, "making control group %s", dir);
		}
		*p = old;
		if (!old)
			return 0;
	}
}

int cgroup_make(const struct cgroups *cg, const char *path, struct error *err)
{
	for (size_t i = 0; i < cg->n; i++) {
		int r = make_in(&cg->hier[i], path, err);

		/* A hierarchy mounted read-only holds no controller we could use anyway. */
		if (r < 0 && r != -EROFS)
			return r;
	}
	return 0;
}

int cgroup_open(const struct cgroups *cg, const char *path, int *fds, int *v2_dir,
		struct error *err)
{
	for (size_t i = 0; i < cg->n; i++)
		fds[i] = -1;
	*v2_dir = -1;
	for (size_t i = 0; i < cg->n; i++) {
		const struct cgroup_hier *h = &cg->hier[i];
		CLEANUP_FREE char *p = str_format("%s%s%s", h->mount, path, h->v2 ? "" : "/tasks");
		int fd = open(p, (h->v2 ? O_DIRECTORY | O_RDONLY : O_WRONLY) | O_CLOEXEC);

		if (fd < 0) {
			error_sys(err, errno, "opening %s", p);
			for (size_t k = 0; k < i; k++)
				if (fds[k] >= 0)
					close(fds[k]);
			if (*v2_dir >= 0)
				close(*v2_dir);
			return err ? -err->code : -EIO;
		}
		if (h->v2)
			*v2_dir = fd;
		else
			fds[i] = fd;
	}
	return 0;
}

int cgroup_enter(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (fds[i] >= 0 && write(fds[i], "0", 1) < 0)
			return -errno;
	return 0;
}

static char *file_in(const struct cgroup_hier *h, const char *path, const char *name)
{
	return str_format("%s%s/%s", h->mount, path, name);
}

/* "FROZEN", "THAWED", "FREEZING" of v1; "frozen 1" in cgroup.events of v2. */
static bool v1_state_is(const struct cgroup_hier *h, const char *path, const char *want)
{
	CLEANUP_FREE char *p = file_in(h, path, "freezer.state"), *text = NULL;

	return file_read(p, 4096, &text, NULL, NULL) == 0 && str_starts(text, want);
}

static bool v2_is_frozen(const struct cgroup_hier *h, const char *path)
{
	CLEANUP_FREE char *p = file_in(h, path, "cgroup.events"), *text = NULL;

	return file_read(p, 4096, &text, NULL, NULL) == 0 && strstr(text, "frozen 1");
}

bool cgroup_frozen(const struct cgroups *cg, const char *path)
{
	const struct cgroup_hier *v1 = cgroups_find(cg, "freezer");

	return (v1 && v1_state_is(v1, path, "FROZEN")) ||
	       (cg->v2 >= 0 && cg->hier && v2_is_frozen(&cg->hier[cg->v2], path));
}

/*
 * Freezing prefers v2: its frozen tasks can still be killed and traced. Thawing thaws
 * both, whoever froze it.
 */
int cgroup_freeze(const struct cgroups *cg, const char *path, bool on, struct error *err)
{
	const struct cgroup_hier *v1 = cgroups_find(cg, "freezer");
	const struct cgroup_hier *v2 = cg->v2 >= 0 && cg->hier ? &cg->hier[cg->v2] : NULL;
	CLEANUP_FREE char *f2 = v2 ? file_in(v2, path, "cgroup.freeze") : NULL;
	CLEANUP_FREE char *f1 = v1 ? file_in(v1, path, "freezer.state") : NULL;
	int64_t deadline = clock_mono_ns() + 10000000000;
	bool use_v2 = f2 && access(f2, W_OK) == 0;
	int r = 0;

	if (!use_v2 && !f1)
		return error_set(err, EOPNOTSUPP, "this machine has no cgroup freezer");
	if (use_v2)
		r = file_write_str(f2, on ? "1" : "0", err);
	if (!r && f1 && (!on || !use_v2))
		r = file_write_str(f1, on ? "FROZEN" : "THAWED", err);
	if (r < 0)
		return r;
	while (cgroup_frozen(cg, path) != on) {
		if (clock_mono_ns() > deadline) {
			if (on)
				cgroup_freeze(cg, path, false, NULL);
			return error_set(err, ETIMEDOUT, "%s control group %s took over 10 s",
					 on ? "freezing" : "thawing", path);
		}
		clock_sleep_ns(500000);
	}
	return 0;
}

static int pids_below(const char *dir, pid_t **pids, size_t *n)
{
	CLEANUP_FREE char *procs = str_format("%s/cgroup.procs", dir), *text = NULL;
	CLEANUP_CLOSEDIR DIR *d = NULL;
	struct dirent *e;
	char *save = NULL;
	int r = file_read(procs, 64 << 20, &text, NULL, NULL);

	if (r < 0)
		return r;
	for (char *w = strtok_r(text, "\n", &save); w; w = strtok_r(NULL, "\n", &save)) {
		*pids = mem_grow(*pids, *n + 1, sizeof(**pids));
		(*pids)[(*n)++] = atoi(w);
	}
	d = opendir(dir);
	while (d && (e = readdir(d))) {
		if (e->d_type == DT_DIR && e->d_name[0] != '.') {
			CLEANUP_FREE char *sub = str_format("%s/%s", dir, e->d_name);

			pids_below(sub, pids, n);
		}
	}
	return 0;
}

int cgroup_pids(const struct cgroups *cg, const char *path, pid_t **pids, size_t *n)
{
	const struct cgroup_hier *h = cgroups_find(cg, "pids");
	CLEANUP_FREE char *dir = NULL;

	*pids = NULL;
	*n = 0;
	if (!h)
		h = cgroups_find(cg, "memory");
	if (!h && cg->n)
		h = &cg->hier[0];
	if (!h)
		return -ENOENT;
	dir = str_format("%s%s", h->mount, path);
	return pids_below(dir, pids, n);
}

void cgroup_signal(const struct cgroups *cg, const char *path, int signo)
{
	CLEANUP_FREE pid_t *pids = NULL;
	size_t n;

	/* The root of a hierarchy holds every process of the machine. */
	if (!path || path[0] != '/' || !path[1] || cgroup_pids(cg, path, &pids, &n) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		if (pids[i] > 1)
			process_kill(pids[i], signo);
}

static int remove_dir(const char *dir, int64_t deadline)
{
	CLEANUP_CLOSEDIR DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (e->d_type == DT_DIR && e->d_name[0] != '.') {
			CLEANUP_FREE char *sub = str_format("%s/%s", dir, e->d_name);
			int r = remove_dir(sub, deadline);

			if (r < 0)
				return r;
		}
	for (int64_t pause = 200000; rmdir(dir) < 0; pause = pause < 20000000 ? pause * 2 : pause) {
		if (errno == ENOENT)
			return 0;
		if (errno != EBUSY || clock_mono_ns() > deadline)
			return -errno;
		clock_sleep_ns(pause);
	}
	return 0;
}

int cgroup_remove(const struct cgroups *cg, const char *path, struct error *err)
{
	int64_t deadline = clock_mono_ns() + 10000000000;
	int first = 0;

	for (size_t i = 0; i < cg->n; i++) {
		CLEANUP_FREE char *dir = str_format("%s%s", cg->hier[i].mount, path);
		int r = remove_dir(dir, deadline);

		if (r < 0 && r != -EROFS && !first)
			first = error_sys(err, -r, "removing control group %s", dir);
	}
	return first;
}
