/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destination: where a process is and what its program is: working directory, root,
 * executable, the borders of its memory; and what else belongs to a process and is no
 * privilege. All of it in one batch, where the number that the executable's descriptor
 * gets is known beforehand.
 */
#include <fcntl.h>
#include <linux/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/restore_place.h"

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

/* Made again, entered, and removed. */
static int removed_directory(struct task *t, const char *cwd)
{
	CLEANUP_FREE char *path = str_format("%.*s", (int)(strlen(cwd) - 10), cwd);
	unsigned long at = remote_scratch(t);
	long n = put(t, path, strlen(path) + 1);

	if (n == 0)
		n = remote_syscall(t, SYS_mkdir, at, 0700, 0, 0, 0, 0);
	if (n == -EEXIST) {
		/* The name is another folder's by now. */
		free(path);
		path = str_format("%.*s.ferry-%d", (int)(strlen(cwd) - 10), cwd, t->vpid);
		n = put(t, path, strlen(path) + 1);
		if (n == 0)
			n = remote_syscall(t, SYS_mkdir, at, 0700, 0, 0, 0, 0);
	}
	if (n < 0)
		return (int)n;
	n = remote_syscall(t, SYS_chdir, at, 0, 0, 0, 0, 0);
	remote_syscall(t, SYS_rmdir, at, 0, 0, 0, 0, 0);
	return (int)n;
}

static long deleted_program(struct restore *r, struct task *t, uint32_t id, struct error *err)
{
	int fd = restore_shared_fd(r, id, O_RDONLY, err), num;

	if (fd < 0)
		return fd;
	num = task_send_fd(t, fd, err);
	close(fd);
	return num;
}

static bool shares_paths(const struct task *t)
{
	return t->fs_of && t->fs_of != t->vpid;
}

/* Entering its directory and opening its program. */
static void open_add(struct remote_batch *b, const struct task *t, struct placing *p)
{
	const Ck__TaskState *s = t->state;
	bool stays = shares_paths(t) || str_ends(s->cwd, " (deleted)");
	const char *program = s->exe;

	/* The one that it shares its root and working directory with is in there already. */
	if (shares_paths(t) && strcmp(s->root, "/") != 0 && str_starts(program, s->root))
		program += strlen(s->root);
	p->chdir = remote_batch_add(b, SYS_chdir,
				    stays ? remote_batch_put(b, ".", 2)
					  : remote_batch_put(b, s->cwd, strlen(s->cwd) + 1),
				    0, 0, 0, 0, 0);
	p->open = ~0ul;
	if (!s->exe_shared)
		p->open = remote_batch_add(b, SYS_openat, (unsigned long)AT_FDCWD,
					   remote_batch_put(b, program, strlen(program) + 1),
					   O_RDONLY | O_CLOEXEC, 0, 0, 0);
}

static int open_done(const struct remote_batch *b, const struct task *t, const struct placing *p,
		     struct error *err)
{
	if (b->c[p->chdir].ret < 0)
		return error_sys(err, (int)-b->c[p->chdir].ret,
				 "the working directory %s of process %d", t->state->cwd, t->vpid);
	if (p->open != ~0ul && b->c[p->open].ret < 0)
		return error_sys(err, (int)-b->c[p->open].ret, "the program %s of process %d",
				 t->state->exe, t->vpid);
	return 0;
}

/* The rest, with the program's descriptor. */
static void set_add(struct remote_batch *b, const struct task *t, int exe, struct placing *p)
{
	const Ck__TaskState *s = t->state;
	struct prctl_mm_map mm;

	memcpy(&mm, s->mm_map.data, sizeof(mm));
	mm.exe_fd = (uint32_t)exe;
	mm.auxv = (void *)remote_batch_put(b, s->auxv.data, s->auxv.len);
	mm.auxv_size = (uint32_t)s->auxv.len;
	p->set = remote_batch_add(b, SYS_prctl, PR_SET_MM, PR_SET_MM_MAP,
				  remote_batch_put(b, &mm, sizeof(mm)), sizeof(mm), 0, 0);
	remote_batch_add(b, SYS_close, (unsigned long)exe, 0, 0, 0, 0, 0);
	p->root = ~0ul;
	if (strcmp(s->root, "/") != 0 && !shares_paths(t))
		p->root = remote_batch_add(b, SYS_chroot,
					   remote_batch_put(b, s->root, strlen(s->root) + 1), 0, 0,
					   0, 0, 0);
	if (!shares_paths(t))
		remote_batch_add(b, SYS_umask, s->umask, 0, 0, 0, 0, 0);
	if (s->subreaper)
		remote_batch_add(b, SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0);
	if (s->personality)
		remote_batch_add(b, SYS_personality, s->personality, 0, 0, 0, 0, 0);
}

static int set_done(const struct remote_batch *b, struct task *t, const struct placing *p,
		    struct error *err)
{
	if (b->c[p->set].ret < 0)
		return failed(t, b->c[p->set].ret, err, "setting the memory fields");
	if (p->root != ~0ul && b->c[p->root].ret < 0)
		return error_sys(err, (int)-b->c[p->root].ret, "the root %s of process %d",
				 t->state->root, t->vpid);
	return 0;
}

static int paths(struct restore *r, struct task *t, const Ck__TaskState *s, struct error *err)
{
	struct remote_batch b;
	struct placing p;
	long exe;
	int e = 0;

	if (!shares_paths(t) && str_ends(s->cwd, " (deleted)"))
		e = removed_directory(t, s->cwd);
	if (e < 0)
		return error_sys(err, -e, "the working directory %s of process %d", s->cwd,
				 t->vpid);
	remote_batch_begin(&b, &t->threads[0]);
	open_add(&b, t, &p);
	e = remote_batch_run(&b);
	if (e < 0)
		return failed(t, e, err, "setting the paths");
	e = open_done(&b, t, &p, err);
	if (e < 0)
		return e;
	exe = s->exe_shared ? deleted_program(r, t, s->exe_shared, err) : b.c[p.open].ret;
	if (exe < 0)
		return (int)exe;
	remote_batch_begin(&b, &t->threads[0]);
	set_add(&b, t, (int)exe, &p);
	e = remote_batch_run(&b);
	return e < 0 ? failed(t, e, err, "setting the memory fields") : set_done(&b, t, &p, err);
}

static int check_state(const struct task *t, struct error *err)
{
	const Ck__TaskState *s = t->state;

	if (!s->cwd || !s->exe || !s->root || s->n_threads != t->nthreads)
		return error_set(err, EBADMSG, "the state of process %d is not whole", t->vpid);
	if (s->mm_map.len != sizeof(struct prctl_mm_map) || s->auxv.len > PAGE)
		return error_set(err, EBADMSG, "memory fields of process %d", t->vpid);
	return 0;
}

/* Notes which limits are others than the stub's; they are set when nothing more is to be
 * mapped or opened. All stubs have the first one's. */
static void compare_limits(struct restore *r, struct task *t)
{
	const Ck__TaskState *s = t->state;

	for (int i = 0; i < 16 && !r->limits_known; i++)
		if (prlimit(t->pid, i, NULL, &r->limits[i]) < 0)
			r->limits[i] = (struct rlimit){ 1, 0 }; /* as nobody has it */
	r->limits_known = true;
	for (size_t i = 0; i < s->n_rlimits && i < 16; i++)
		if (r->limits[i].rlim_cur != s->rlimits[i]->cur ||
		    r->limits[i].rlim_max != s->rlimits[i]->max)
			t->limits |= 1u << i;
}

static void placed(struct restore *r, struct task *t)
{
	const Ck__TaskState *s = t->state;
	char path[64], num[16];

	if (s->has_oom_score_adj) {
		/* Lowering it needs CAP_SYS_RESOURCE; the hint is not worth a failure. */
		snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", t->pid);
		snprintf(num, sizeof(num), "%d", s->oom_score_adj);
		file_write_str(path, num, NULL);
	}
	compare_limits(r, t);
	t->placed = true;
}

bool place_fits(const struct task *t)
{
	const Ck__TaskState *s = t->state;

	return s->cwd && s->exe && s->root && !s->exe_shared && !t->fs_of &&
	       !str_ends(s->cwd, " (deleted)");
}

int place_add(struct remote_batch *b, struct task *t, int next, struct placing *p,
	      struct error *err)
{
	int e = check_state(t, err);

	if (e < 0)
		return e;
	p->next = next;
	open_add(b, t, p);
	set_add(b, t, next, p);
	return 0;
}

int place_done(struct restore *r, const struct remote_batch *b, const struct placing *p,
	       struct error *err)
{
	struct task *t = b->th->task;
	int e = open_done(b, t, p, err);

	if (e == 0 && b->c[p->open].ret != p->next)
		e = error_set(err, EPROTO, "process %d gave descriptor %lld for %d", t->vpid,
			      (long long)b->c[p->open].ret, p->next);
	if (e == 0)
		e = set_done(b, t, p, err);
	if (e == 0)
		placed(r, t);
	return e;
}

int restore_task_place(struct restore *r, struct task *t, struct error *err)
{
	int e = t->placed ? 0 : check_state(t, err);

	if (e < 0 || t->placed)
		return e;
	if (!remote_scratch(t))
		return error_set(err, ENOMEM, "no scratch memory in process %d", t->vpid);
	e = paths(r, t, t->state, err);
	if (e == 0)
		placed(r, t);
	return e;
}
