/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preflight, what the kernel tells about processes and ferry does not know (known.h), and
 * what processes and threads share or do not share although it is always shared after a
 * migration: tables of descriptors, folders, memory, namespaces, cgroups.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/known.h"

/* Of one process only so many of its memory areas are named one by one. */
#define AREAS_NAMED 16

struct sink {
	struct obstacles *out;
	pid_t vpid;
	int fd;
	size_t n;
};

static bool said_before(const struct sink *s, const char *object, const char *why)
{
	size_t i;
	json_t *o;

	json_array_foreach (s->out->list, i, o)
		if (json_integer_value(json_object_get(o, "pid")) == s->vpid &&
		    json_integer_value(json_object_get(o, "fd")) == s->fd &&
		    strcmp(json_string_value(json_object_get(o, "object")), object) == 0 &&
		    strcmp(json_string_value(json_object_get(o, "why")), why) == 0)
			return true;
	return false;
}

static void say(void *ctx, const char *object, const char *why, const char *remedy)
{
	struct sink *s = ctx;

	if (s->n < AREAS_NAMED && !said_before(s, object, why)) {
		obstacle_add(s->out, s->vpid, s->fd, object, why, remedy);
		s->n++;
	}
}

void preflight_fdinfo(const struct ofd *o, struct obstacles *out)
{
	struct sink s = { out, o->task ? o->task->vpid : 0, o->task ? o->num : -1, 0 };

	known_fdinfo(o->kind->type, o->fdinfo, say, &s);
}

/* --- namespaces ----------------------------------------------------------------------------- */
/* Inode numbers of namespaces are unique; 0: cannot be read. */
static ino_t ns_of(pid_t pid, const char *name)
{
	char path[300];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
	return stat(path, &st) < 0 ? 0 : st.st_ino;
}

static bool differs(ino_t a, ino_t b)
{
	return a && b && a != b;
}

static void check_namespaces(struct dump *d, struct task *t, struct sink *s)
{
	static const char *const per_thread[] = { "net", "mnt", "ipc", "uts", "cgroup", "time" };
	CLEANUP_FREE char *path = str_format("/proc/%d/ns", t->pid);
	CLEANUP_CLOSEDIR DIR *dir = opendir(path);
	struct dirent *e;
	char name[300];

	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.' || known_namespace(e->d_name))
			continue;
		/* One that is the host's is no namespace of the container's. */
		if (!differs(ns_of(t->pid, e->d_name), ns_of(getpid(), e->d_name)))
			continue;
		snprintf(name, sizeof(name), "%s namespace", e->d_name);
		say(s, name, "ferry does not know this kind of namespace", "update ferry");
	}
	if (differs(ns_of(t->pid, "cgroup"), ns_of(d->init_pid, "cgroup")))
		say(s, "cgroup namespace",
		    "the process lives in a namespace of its own inside the container",
		    "stop it, or run it as a container of its own");
	/* A pid namespace that has no process yet cannot even be looked at. */
	if (differs(ns_of(t->pid, "pid"), ns_of(t->pid, "pid_for_children")) ||
	    (ns_of(t->pid, "pid") && !ns_of(t->pid, "pid_for_children")) ||
	    differs(ns_of(t->pid, "time"), ns_of(t->pid, "time_for_children")))
		say(s, "namespace for children",
		    "its next children will live in a namespace of their own (unshare)",
		    "stop it, or run it as a container of its own");
	for (size_t i = 1; i < t->nthreads; i++)
		for (size_t k = 0; k < sizeof(per_thread) / sizeof(per_thread[0]); k++) {
			if (!differs(ns_of(t->pid, per_thread[k]),
				     ns_of(t->threads[i].tid, per_thread[k])))
				continue;
			snprintf(name, sizeof(name), "%s namespace of thread %d", per_thread[k],
				 t->threads[i].vtid);
			say(s, name, "the thread has left the namespace of its process (unshare)",
			    "run what it does in a process of its own, and stop that");
		}
}

static void check_cgroup(struct dump *d, struct task *t, struct sink *s)
{
	CLEANUP_FREE char *own_path = str_format("/proc/%d/cgroup", t->pid);
	CLEANUP_FREE char *init_path = str_format("/proc/%d/cgroup", d->init_pid);
	CLEANUP_FREE char *own = NULL, *init = NULL;

	if (file_read(own_path, 1 << 20, &own, NULL, NULL) == 0 &&
	    file_read(init_path, 1 << 20, &init, NULL, NULL) == 0 && strcmp(own, init) != 0)
		say(s, "cgroup", "the process was put into a cgroup of its own",
		    "move it into the container's cgroup, or run it as a container of its own");
}

/* --- threads and processes ----------------------------------------------------------------------
 */
/* Threads made by clone() always share these; a thread may have left them by unshare(2). */
static void check_sharing(struct task *t, struct sink *s)
{
	static const struct {
		int type;
		const char *object, *why;
	} shared[] = {
		{ KCMP_FILES, "descriptor table of thread %d",
		  "the thread has descriptors of its own (unshare of files)" },
		{ KCMP_FS, "folders of thread %d",
		  "the thread has a working folder and umask of its own (unshare of fs)" },
	};

	for (size_t i = 1; i < t->nthreads; i++)
		for (size_t k = 0; k < sizeof(shared) / sizeof(shared[0]); k++) {
			char object[64];

			if (syscall(SYS_kcmp, t->pid, t->threads[i].tid, shared[k].type, 0, 0) <= 0)
				continue;
			snprintf(object, sizeof(object), shared[k].object, t->threads[i].vtid);
			say(s, object, shared[k].why,
			    "run what it does in a process of its own, and stop that");
		}
}

void preflight_task(struct dump *d, struct task *t, struct obstacles *out)
{
	struct sink s = { out, t->vpid, -1, 0 };
	CLEANUP_FREE char *smaps_path = str_format("/proc/%d/smaps", t->pid);
	CLEANUP_FREE char *smaps = NULL;

	for (size_t i = 0; i < t->nthreads; i++) {
		CLEANUP_FREE char *path = str_format("/proc/%d/status", t->threads[i].tid);
		CLEANUP_FREE char *status = NULL;

		if (file_read(path, 65536, &status, NULL, NULL) == 0)
			known_status(status, say, &s);
	}
	check_namespaces(d, t, &s);
	check_cgroup(d, t, &s);
	check_sharing(t, &s);
	s.n = 0;
	if (file_read(smaps_path, 256 << 20, &smaps, NULL, NULL) == 0)
		known_smaps(smaps, t->tracker != NULL, say, &s);
}
