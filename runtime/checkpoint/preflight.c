/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cannot travel, found before anything is paused. All obstacles at once: each names
 * process, descriptor, object, reason and remedy. What is not known here to travel is an
 * obstacle, never a hope.
 */
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/mem_huge.h"

#define LOOKS	      3
#define LOOK_AGAIN_NS 30000000

void obstacle_add(struct obstacles *out, pid_t vpid, int fd, const char *object, const char *why,
		  const char *remedy)
{
	json_array_append_new(out->list,
			      json_pack("{s:i,s:i,s:o,s:o,s:o}", "pid", (int)vpid, "fd", fd,
					"object", json_any_string(object), "why",
					json_any_string(why), "remedy", json_any_string(remedy)));
}

/* --- memory -------------------------------------------------------------------------------- */
/* Where it is mapped shared, others may write to it by that name. */
static bool has_other_name(const struct task *t, const struct vma *v)
{
	CLEANUP_FREE char *path = NULL;
	struct stat st;

	if (!v->path || !str_ends(v->path, " (deleted)"))
		return false;
	path = str_format("/proc/%d/map_files/%llx-%llx", t->pid, (unsigned long long)v->start,
			  (unsigned long long)v->end);
	return stat(path, &st) == 0 && st.st_nlink > 0;
}

static void check_vma(struct task *t, const struct vma *v, struct obstacles *out)
{
	CLEANUP_FREE char *name = str_format("memory %llx-%llx %s", (unsigned long long)v->start,
					     (unsigned long long)v->end, v->path ? v->path : "");
	const char *why = NULL, *remedy = "stop the program that uses it, or migrate without it";

	if (v->kind == VMA_VVAR || v->kind == VMA_VVAR_VCLOCK || v->kind == VMA_VDSO ||
	    v->kind == VMA_VSYSCALL)
		return;
	if ((v->advice & ADVICE_HUGETLB) && !huge_bytes(v))
		why = "it is a file of huge pages on a mounted hugetlbfs";
	else if (v->advice & ADVICE_IO)
		why = "it maps a device";
	else if (v->advice & ADVICE_SHADOW_STACK)
		why = "shadow stacks do not travel yet";
	else if ((v->advice & ADVICE_UFFD) && !t->tracker)
		why = "the program itself uses userfaultfd on it";
	else if (v->path && (str_starts(v->path, "anon_inode:") || str_starts(v->path, "socket:")))
		why = "it maps a kernel object that cannot be made again";
	else if (v->path && v->path[0] == '[' && v->kind == VMA_ANON &&
		 strcmp(v->path, "[uprobes]") == 0)
		why = "a probe is set in the program";
	else if (v->kind == VMA_FILE && (v->flags & MAP_SHARED) && has_other_name(t, v)) {
		why = "the name it was mapped by was removed, and it has others";
		remedy = "restart the program, so that it maps the file by its present name";
	}
	if (why)
		obstacle_add(out, t->vpid, -1, name, why, remedy);
}

/* --- processes ------------------------------------------------------------------------------- */
static bool same_ns(pid_t a, pid_t b, const char *ns)
{
	CLEANUP_FREE char *pa = str_format("/proc/%d/ns/%s", a, ns);
	CLEANUP_FREE char *pb = str_format("/proc/%d/ns/%s", b, ns);
	struct stat sa, sb;

	return stat(pa, &sa) < 0 || stat(pb, &sb) < 0 ||
	       (sa.st_ino == sb.st_ino && sa.st_dev == sb.st_dev);
}

static bool is_32_bit(pid_t pid)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/exe", pid);
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned char head[5] = { 0 };

	return fd >= 0 && read(fd, head, sizeof(head)) == sizeof(head) && head[4] == 1;
}

static void check_namespaces(struct dump *d, struct task *t, struct obstacles *out)
{
	static const char *const names[] = { "pid", "user", "mnt", "net", "ipc", "uts", "time" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!same_ns(t->pid, d->init_pid, names[i])) {
			CLEANUP_FREE char *name = str_format("%s namespace", names[i]);

			obstacle_add(
				out, t->vpid, -1, name,
				"the process lives in a namespace of its own inside the container",
				"stop it, or run it as a container of its own");
		}
}

static void check_task(struct dump *d, struct task *t, struct obstacles *out)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/status", t->pid);
	CLEANUP_FREE char *status = NULL;
	char line[64];

	if (t->headless)
		obstacle_add(out, t->vpid, -1, "process",
			     "its main thread has ended while others of it run",
			     "restart it, or wait until it has ended");
	if (t->zombie || file_read(path, 65536, &status, NULL, NULL) < 0)
		return;
	if (t->vppid < 0)
		obstacle_add(out, t->vpid, -1, "process",
			     "it entered the container from outside (an exec session)",
			     "end the exec session and migrate again");
	if (status_field(status, "TracerPid", line, sizeof(line)) && atoi(line) > 0)
		obstacle_add(out, t->vpid, -1, "process", "it is being traced",
			     "end the debugger or strace");
	check_namespaces(d, t, out);
	if (is_32_bit(t->pid))
		obstacle_add(out, t->vpid, -1, "process", "32-bit programs do not travel yet",
			     "use a 64-bit build of it");
	if (t->vsid == 0 && d->init_pid != t->pid)
		obstacle_add(out, t->vpid, -1, "session",
			     "its session was made outside of the container",
			     "start it from inside the container");
	/* A vfork() in flight is waited out; this is one that has come to stay. */
	for (int i = 0; i < 200 && task_borrows_memory(&d->tasks, t); i++) {
		clock_sleep_ns(5000000);
		if (i == 199)
			obstacle_add(out, t->vpid, -1, "memory",
				     "it runs in its parent's memory (clone(CLONE_VM))",
				     "wait until it has started its program, and migrate again");
	}
}

/* --- descriptors -------------------------------------------------------------------- */
static int check_fd(struct dump *d, struct ofd *o, struct obstacles *out)
{
	size_t i;
	json_t *e;

	json_array_foreach (d->externals, i, e) {
		const char *l = json_string_value(json_object_get(e, "link"));

		if (l && strcmp(l, o->link) == 0)
			return 0;
	}
	if (!o->kind) {
		obstacle_add(out, o->task ? o->task->vpid : 0, o->num, o->link,
			     strstr(o->link, "io_uring")
				     ? "io_uring does not travel"
				     : "ferry does not know this kind of object",
			     "close it, or stop the program that uses it");
		return 0;
	}
	if (!str_starts(o->kind->type, "refused"))
		preflight_fdinfo(o, out);
	return o->kind->check ? o->kind->check(d, o, out) : 0;
}

static uint64_t memory_of(const struct task *t)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/statm", t->pid);
	CLEANUP_FREE char *text = NULL;
	unsigned long size, rss, shared;

	if (file_read(path, 256, &text, NULL, NULL) < 0 ||
	    sscanf(text, "%lu %lu %lu", &size, &rss, &shared) != 3)
		return 0;
	return (rss > shared ? rss - shared : 0) * PAGE;
}

static int look(struct dump *d, json_t **answer, struct error *err)
{
	struct obstacles out = { .list = json_array() };
	uint64_t bytes = 0, mask;
	uint32_t size;
	int r;

	r = tasks_scan(&d->tasks, &d->cg, d->init_pid, err);
	if (r == 0)
		tasks_find_shares(&d->tasks);
	for (size_t i = 0; i < d->tasks.n && r == 0; i++) {
		struct task *t = d->tasks.t[i];

		check_task(d, t, &out);
		if (t->zombie || task_read_vmas(t, false, NULL) < 0)
			continue;
		bytes += memory_of(t);
		preflight_task(d, t, &out);
		for (size_t k = 0; k < t->vmas.n; k++)
			check_vma(t, &t->vmas.v[k], &out);
	}
	if (r == 0)
		preflight_creds(d, &out);
	if (r == 0)
		r = dump_collect_fds(d, err);
	if (r == 0)
		r = dump_shared_scan(d, err);
	for (size_t i = 0; i < d->nofds && r == 0; i++)
		r = check_fd(d, d->ofds[i], &out);
	for (size_t k = 0; k < 2 && r == 0; k++) {
		const struct checkpoint_part *const *p =
			k ? checkpoint_parts_sockets : checkpoint_parts_files;

		for (; *p && r == 0; p++)
			r = (*p)->check ? (*p)->check(d, &out) : 0;
	}
	for (size_t i = 0; i < d->shared.n; i++) {
		struct stat st;

		/* Huge pages come from a pool of their own. */
		if (!d->shared.s[i]->huge_shift && fstat(d->shared.s[i]->fd, &st) == 0)
			bytes += (uint64_t)st.st_blocks * 512;
	}
	dump_drop_fds(d);
	if (r < 0) {
		json_decref(out.list);
		return r < 0 && err->code ? r : error_sys(err, -r, "looking at the container");
	}
	arch_xsave(&mask, &size);
	*answer = json_pack("{s:o,s:I,s:i,s:I,s:i}", "obstacles", out.list, "memory_bytes",
			    (json_int_t)bytes, "tasks", (int)d->tasks.n, "xsave_mask",
			    (json_int_t)mask, "xsave_bytes", (int)size);
	return 0;
}

static bool has(const json_t *list, const json_t *wanted)
{
	static const char *const keys[] = { "pid", "fd", "object" };
	size_t i;
	json_t *o;

	json_array_foreach (list, i, o) {
		bool same = true;

		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
			same &= json_equal(json_object_get(o, keys[k]),
					   json_object_get(wanted, keys[k]));
		if (same)
			return true;
	}
	return false;
}

/*
 * The tasks run on while they are looked at: a process that is just ending, or a descriptor
 * that is just being closed, looks like nothing ferry knows. What stands in the way is
 * therefore looked for again, and only what is seen each time counts.
 */
int dump_check(struct dump *d, json_t **answer, struct error *err)
{
	int r = look(d, answer, err);

	for (int again = 0; r == 0 && again < LOOKS - 1; again++) {
		CLEANUP_JSON json_t *before = *answer;
		json_t *list = json_object_get(before, "obstacles");

		if (!json_array_size(list)) {
			json_incref(before);
			return 0;
		}
		clock_sleep_ns(LOOK_AGAIN_NS);
		*answer = NULL;
		r = look(d, answer, err);
		if (r < 0)
			return r;
		list = json_object_get(*answer, "obstacles");
		for (size_t i = json_array_size(list); i-- > 0;)
			if (!has(json_object_get(before, "obstacles"), json_array_get(list, i)))
				json_array_remove(list, i);
	}
	return r;
}
