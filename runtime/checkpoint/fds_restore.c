/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destination: objects are made in the engine and handed to the tasks over a socket pair
 * whose one end lies in the task: one remote recvmsg() brings up to 250 descriptors, in
 * the order of their numbers, so that most need not be moved.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "runtime/checkpoint/check.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/restore_place.h"

#define PER_MESSAGE	     250
#define CLOSE_RANGE_CLOEXEC_ (1u << 2)

/* --- passing ------------------------------------------------------------------------------ */
static int open_sock(struct task *t, int above, struct error *err)
{
	unsigned long at = remote_scratch(t);
	int pair[2] = { -1, -1 };
	long n;

	if (t->sock >= 0)
		return 0;
	if (!at)
		return error_set(err, ENOMEM, "no scratch memory in process %d", t->vpid);
	n = remote_syscall(t, SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, at, 0, 0);
	if (n == 0)
		n = remote_read(t, at, pair, sizeof(pair));
	if (n < 0)
		return error_sys(err, (int)-n, "making a socket pair in process %d", t->vpid);
	t->sock = (int)syscall(SYS_pidfd_getfd, t->pidfd, pair[0], 0);
	if (t->sock < 0)
		return error_sys(err, errno, "taking a socket of process %d", t->vpid);
	remote_syscall(t, SYS_close, (unsigned long)pair[0], 0, 0, 0, 0, 0);
	t->sock_num = pair[1];
	if (above > pair[1]) {
		n = remote_syscall(t, SYS_fcntl, (unsigned long)pair[1], F_DUPFD_CLOEXEC,
				   (unsigned long)above, 0, 0, 0);
		if (n < 0)
			return error_sys(err, (int)-n, "room for descriptors of process %d",
					 t->vpid);
		remote_syscall(t, SYS_close, (unsigned long)pair[1], 0, 0, 0, 0, 0);
		t->sock_num = (int)n;
	}
	return 0;
}

/* Below it a table takes no more room than an empty one. */
#define USUAL_NUMBERS 64

/* Closes everything and makes the socket pair, whose numbers are then known beforehand. */
static void clear_to(struct remote_batch *b, struct clearing *c, int above)
{
	struct task *t = b->th->task;

	/* Whatever the stub had goes; what it shares with the outside the engine holds. */
	if (t->sock >= 0)
		close(TAKE_FD(t->sock));
	c->above = above;
	c->pair = remote_batch_put(b, NULL, 2 * sizeof(int));
	c->first = remote_batch_add(b, SYS_close_range, 0, ~0u, 0, 0, 0, 0);
	remote_batch_add(b, SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, c->pair, 0, 0);
	remote_batch_add(b, SYS_dup3, 1, (unsigned long)above, O_CLOEXEC, 0, 0, 0);
	remote_batch_add(b, SYS_close, 1, 0, 0, 0, 0, 0);
}

void clear_add(struct remote_batch *b, struct clearing *c)
{
	clear_to(b, c, USUAL_NUMBERS - 1);
}

static int take_sock(const struct remote_batch *b, const struct clearing *c, struct error *err)
{
	struct task *t = b->th->task;
	int nums[2];

	for (size_t i = c->first; i < c->first + 4; i++)
		if (b->c[i].ret < 0)
			return error_sys(err, (int)-b->c[i].ret,
					 "clearing descriptors of process %d", t->vpid);
	memcpy(nums, remote_batch_out(b, c->pair), sizeof(nums));
	if (nums[0] != 0 || nums[1] != 1)
		return error_set(err, EPROTO, "process %d gave descriptors %d and %d", t->vpid,
				 nums[0], nums[1]);
	t->sock_num = c->above;
	t->sock = (int)syscall(SYS_pidfd_getfd, t->pidfd, 0, 0);
	if (t->sock < 0)
		return error_sys(err, errno, "taking a socket of process %d", t->vpid);
	t->sock_first = true;
	return 0;
}

void clear_done(const struct remote_batch *b, const struct clearing *c)
{
	/* A limit may be lower: then it is done again, when the numbers are known. */
	b->th->task->cleared = take_sock(b, c, NULL) == 0;
}

static int clear_and_open_sock(struct task *t, int above, struct error *err)
{
	struct remote_batch b;
	struct clearing c;
	int e;

	remote_batch_begin(&b, &t->threads[0]);
	clear_to(&b, &c, above);
	e = remote_batch_run(&b);
	return e < 0 ? error_sys(err, -e, "clearing descriptors of process %d", t->vpid)
		     : take_sock(&b, &c, err);
}

void task_clear_fds(struct task *t)
{
	t->cleared = clear_and_open_sock(t, USUAL_NUMBERS - 1, NULL) == 0;
}

void task_drop_sock(struct task *t)
{
	if (t->sock < 0)
		return;
	if (t->sock_num >= 0 && t->nthreads)
		remote_syscall(t, SYS_close, (unsigned long)t->sock_num, 0, 0, 0, 0, 0);
	close(TAKE_FD(t->sock));
	t->sock_num = -1;
}

/* Descriptors first to last of a task: closed, or close-on-exec. */
struct range {
	unsigned long first, last, flags;
};

/* A message with descriptors on its way into a task. */
struct passing {
	size_t n, recv;
	unsigned long at; /* struct message in the task */
	struct remote_batch b;
};
struct message {
	struct msghdr m;
	struct iovec iov;
	char byte[8];
	char control[CMSG_SPACE(PER_MESSAGE * sizeof(int))];
};

/*
 * Sends n (at most PER_MESSAGE) descriptors. What is to be done with them if they come to
 * lie at 0, 1, 2 … goes along, as ranges.
 */
static int pass_start(struct passing *p, struct task *t, const int *fds, size_t n, bool cloexec,
		      const struct range *ranges, size_t nranges, struct error *err)
{
	struct message a = { 0 };
	int r;

	p->n = n;
	r = fd_send(t->sock, "f", 1, fds, n);
	if (r < 0)
		return error_sys(err, -r, "passing descriptors to process %d", t->vpid);
	remote_batch_begin(&p->b, &t->threads[0]);
	p->at = remote_batch_put(&p->b, NULL, sizeof(a));
	a.m.msg_iov = (void *)(p->at + offsetof(struct message, iov));
	a.m.msg_iovlen = 1;
	a.m.msg_control = (void *)(p->at + offsetof(struct message, control));
	a.m.msg_controllen = sizeof(a.control);
	a.iov.iov_base = (void *)(p->at + offsetof(struct message, byte));
	a.iov.iov_len = 1;
	memcpy(p->b.data + (p->at - p->b.at), &a, sizeof(a));
	if (t->sock_first)
		remote_batch_add(&p->b, SYS_close, 0, 0, 0, 0, 0, 0);
	t->sock_first = false;
	p->recv = remote_batch_add(&p->b, SYS_recvmsg, (unsigned long)t->sock_num, p->at,
				   cloexec ? MSG_CMSG_CLOEXEC : 0, 0, 0, 0);
	for (size_t i = 0; i < nranges; i++)
		remote_batch_add(&p->b, SYS_close_range, ranges[i].first, ranges[i].last,
				 ranges[i].flags, 0, 0, 0);
	r = remote_batch_start(&p->b);
	return r < 0 ? error_sys(err, -r, "passing descriptors to process %d", t->vpid) : 0;
}

/* Their numbers in the task, in nums. */
static int pass_end(struct passing *p, struct task *t, int *nums, struct error *err)
{
	const struct cmsghdr *c;
	struct message a;
	int r = remote_batch_wait(&p->b);

	if (r == 0 && p->b.c[p->recv].ret < 0)
		r = (int)p->b.c[p->recv].ret;
	if (r < 0)
		return error_sys(err, -r, "passing descriptors to process %d", t->vpid);
	memcpy(&a, remote_batch_out(&p->b, p->at), sizeof(a));
	c = (const struct cmsghdr *)a.control;
	if (a.m.msg_controllen < CMSG_LEN(p->n * sizeof(int)) ||
	    c->cmsg_len < CMSG_LEN(p->n * sizeof(int)))
		return error_set(err, EMFILE, "process %d took not all descriptors", t->vpid);
	memcpy(nums, CMSG_DATA(c), p->n * sizeof(int));
	return 0;
}

static int pass(struct task *t, const int *fds, size_t n, int *nums, bool cloexec,
		struct error *err)
{
	struct passing p;
	int r = pass_start(&p, t, fds, n, cloexec, NULL, 0, err);

	return r < 0 ? r : pass_end(&p, t, nums, err);
}

int task_send_fd(struct task *t, int fd, struct error *err)
{
	int num = -1, r;

	r = open_sock(t, 0, err);
	if (r == 0)
		r = pass(t, &fd, 1, &num, true, err);
	return r < 0 ? r : num;
}

int remote_send_fd(struct task *t, int fd, struct error *err)
{
	return task_send_fd(t, fd, err);
}

/* --- objects -------------------------------------------------------------------------------- */
/* Where r->by_id has, or should have, this id: index in r->objects + 1, open addressing. */
static uint32_t *place_of(struct restore *r, uint32_t id)
{
	size_t at = id * 2654435761u & (r->nby_id - 1);

	while (r->by_id[at] && r->objects[r->by_id[at] - 1].id != id)
		at = (at + 1) & (r->nby_id - 1);
	return &r->by_id[at];
}

static struct robject *object_by_id(struct restore *r, uint32_t id)
{
	uint32_t at = r->nby_id ? *place_of(r, id) : 0;

	return at ? &r->objects[at - 1] : NULL;
}

static void note_object(struct restore *r, size_t at)
{
	if (2 * r->nobjects >= r->nby_id) {
		free(r->by_id);
		r->nby_id = r->nby_id ? 2 * r->nby_id : 64;
		r->by_id = mem_zalloc(r->nby_id * sizeof(*r->by_id));
		for (size_t i = 0; i < at; i++)
			*place_of(r, r->objects[i].id) = (uint32_t)i + 1;
	}
	*place_of(r, r->objects[at].id) = (uint32_t)at + 1;
}

int restore_add_object(struct restore *r, const Ck__Object *m, struct error *err)
{
	struct robject *o;

	if (object_by_id(r, m->id))
		return error_set(err, EBADMSG, "object %u came twice", m->id);
	r->objects = mem_grow(r->objects, r->nobjects + 1, sizeof(*r->objects));
	o = &r->objects[r->nobjects++];
	*o = (struct robject){
		.id = m->id, .type = str_dup(m->type), .fd = -1, .len = m->body.len
	};
	note_object(r, r->nobjects - 1);
	o->body = mem_zalloc(m->body.len + 1);
	if (m->body.len)
		memcpy(o->body, m->body.data, m->body.len);
	if (strcmp(m->type, "external") == 0)
		return 0;
	o->kind = object_type_named(m->type);
	if (!o->kind)
		return error_set(err, EPROTO, "this host's ferry does not know objects of type %s",
				 m->type);
	if (o->kind->early) {
		int fd = restore_fd(r, m->id, err);

		return fd < 0 ? fd : 0;
	}
	return 0;
}

static int external(struct restore *r, struct robject *o, struct error *err)
{
	size_t i;
	json_t *e;

	json_array_foreach (r->externals, i, e) {
		const char *name = json_string_value(json_object_get(e, "name"));

		if (name && strcmp(name, o->body) == 0) {
			o->fd = fcntl((int)json_integer_value(json_object_get(e, "fd")),
				      F_DUPFD_CLOEXEC, 3);
			return o->fd < 0 ? error_sys(err, errno, "external descriptor %s", name)
					 : 0;
		}
	}
	return error_set(err, ENOENT, "the container here has no %s", (char *)o->body);
}

int restore_fd(struct restore *r, uint32_t id, struct error *err)
{
	struct robject *o = object_by_id(r, id);
	uint32_t at = o ? (uint32_t)(o - r->objects) : 0;
	int e, fd = -1;

	if (!o)
		return error_set(err, ENOENT, "object %u is not in the checkpoint", id);
	if (o->state == 2)
		return o->fd;
	if (o->state == 1)
		return error_set(err, ELOOP, "object %u (%s) depends on itself", id, o->type);
	if (r->depth >= CHECK_DEPTH)
		return error_set(err, ELOOP,
				 "object %u (%s) is needed by too many, each by the "
				 "next",
				 id, o->type);
	o->state = 1;
	r->depth++;
	if (!o->kind) {
		e = external(r, o, err);
		fd = o->fd;
	} else {
		e = o->kind->restore(r, id, o->body, o->len, &fd, err);
	}
	r->depth--;
	if (e < 0)
		return error_wrap(err, "restoring object %u (%s)", id, o->type);
	r->objects[at].fd = fd;
	r->objects[at].state = 2;
	return fd;
}

bool restore_holder(struct restore *r, uint32_t id, size_t i, struct task **t, int *num)
{
	for (size_t k = 0; k < r->tasks.n; k++) {
		const Ck__FdTable *f = r->tasks.t[k]->fds;

		for (size_t n = 0; f && n < f->n_fds; n++)
			if (f->fds[n]->id == id && i-- == 0) {
				*t = r->tasks.t[k];
				*num = (int)f->fds[n]->num;
				return true;
			}
	}
	return false;
}

/* --- installing --------------------------------------------------------------------- */
static int by_number(const void *a, const void *b)
{
	const Ck__Descriptor *const *x = a, *const *y = b;

	return (*x)->num < (*y)->num ? -1 : (*x)->num > (*y)->num;
}

/* Moves what lies on one of the wanted numbers out of the way, then each to its own. */
static int place(struct task *t, Ck__Descriptor **want, int *nums, size_t n, int above,
		 struct error *err)
{
	for (size_t i = 0; i < n; i++) {
		long e;

		for (size_t j = i + 1; j < n; j++)
			if (nums[j] == (int)want[i]->num && nums[i] != nums[j]) {
				e = remote_syscall(t, SYS_fcntl, (unsigned long)nums[j],
						   F_DUPFD_CLOEXEC, (unsigned long)above, 0, 0, 0);
				if (e < 0)
					goto failed;
				/* dup3() below replaces what is on the old number. */
				nums[j] = (int)e;
			}
		if (nums[i] != (int)want[i]->num) {
			e = remote_syscall(t, SYS_dup3, (unsigned long)nums[i], want[i]->num,
					   want[i]->cloexec ? O_CLOEXEC : 0, 0, 0, 0);
			if (e >= 0)
				e = remote_syscall(t, SYS_close, (unsigned long)nums[i], 0, 0, 0, 0,
						   0);
		} else {
			e = want[i]->cloexec ? 0
					     : remote_syscall(t, SYS_fcntl, (unsigned long)nums[i],
							      F_SETFD, 0, 0, 0, 0);
		}
		if (e >= 0)
			continue;
	failed:
		return error_sys(err, (int)-e, "installing descriptor %u of process %d",
				 want[i]->num, t->vpid);
	}
	return 0;
}

enum slot { FREE, OPEN, CLOEXEC };

/* One process's descriptors being installed. */
struct installing {
	bool dense; /* the whole table is under way */
	struct passing p;
};

/*
 * The whole table by one message: the kernel gives the lowest free numbers in turn, so with
 * a filler for each number that is to stay free, all lie where they belong at once. Runs of
 * the same kind are finished by one call each. Not where the table is too sparse for that.
 */
static int dense_start(struct restore *r, struct task *t, struct installing *in, struct error *err)
{
	Ck__FdTable *f = t->fds;
	size_t slots = f->n_fds ? f->fds[f->n_fds - 1]->num + 1ul : 0, k = 0;
	int fds[PER_MESSAGE], filler, e = 0;
	enum slot kind[PER_MESSAGE];
	struct range ranges[PER_MESSAGE];
	size_t nranges = 0;

	if (!slots || slots > PER_MESSAGE || slots > 2 * f->n_fds + 8)
		return 0;
	for (size_t i = 0; i < f->n_fds; i++)
		if (i && f->fds[i]->num == f->fds[i - 1]->num)
			return error_set(err, EBADMSG, "descriptor %u of process %d came twice",
					 f->fds[i]->num, t->vpid);
	filler = eventfd(0, EFD_CLOEXEC);
	if (filler < 0)
		return error_sys(err, errno, "making a filler");
	for (size_t i = 0; i < slots && e >= 0; i++) {
		kind[i] = FREE;
		fds[i] = filler;
		if (f->fds[k]->num != i)
			continue;
		kind[i] = f->fds[k]->cloexec ? CLOEXEC : OPEN;
		e = fds[i] = restore_fd(r, f->fds[k++]->id, err);
	}
	for (size_t i = 0, j; i < slots; i = j) {
		for (j = i + 1; j < slots && kind[j] == kind[i]; j++)
			;
		if (kind[i] != OPEN)
			ranges[nranges++] =
				(struct range){ i, j - 1,
						kind[i] == FREE ? 0 : CLOSE_RANGE_CLOEXEC_ };
	}
	/* Many holes: the calls would not fit beside the rest of the batch. */
	if (e >= 0 && nranges <= REMOTE_CALLS - 4) {
		e = pass_start(&in->p, t, fds, slots, false, ranges, nranges, err);
		in->dense = e == 0;
	}
	close(filler);
	return e < 0 ? e : 0;
}

/* 1: all lie where they belong. */
static int dense_end(struct task *t, struct installing *in, struct error *err)
{
	int nums[PER_MESSAGE] = { 0 }, e = pass_end(&in->p, t, nums, err);
	bool placed = e == 0;
	long n = 0;

	for (size_t i = 0; i < in->p.n && placed; i++)
		placed = nums[i] == (int)i;
	if (e == 0 && !placed)
		n = remote_syscall(t, SYS_close_range, 0, (size_t)t->sock_num - 1, 0, 0, 0, 0);
	if (n < 0)
		return error_sys(err, (int)-n, "installing descriptors of process %d", t->vpid);
	return e < 0 ? e : placed;
}

/* A long table: as dense_start(), but in several messages, and with all the ranges it takes. */
static int fill_slots(struct restore *r, const Ck__FdTable *f, int *fds, uint8_t *kind,
		      size_t slots, int filler, struct error *err)
{
	size_t k = 0;

	for (size_t i = 0; i < slots; i++) {
		kind[i] = FREE;
		fds[i] = filler;
		if (f->fds[k]->num != i)
			continue;
		kind[i] = f->fds[k]->cloexec ? CLOEXEC : OPEN;
		fds[i] = restore_fd(r, f->fds[k++]->id, err);
		if (fds[i] < 0)
			return fds[i];
	}
	return 0;
}

static int finish_slots(struct task *t, const uint8_t *kind, size_t slots)
{
	struct remote_batch b;
	int r = 0;

	for (size_t i = 0, j; i < slots && r == 0;) {
		remote_batch_begin(&b, &t->threads[0]);
		for (; i < slots && b.n < REMOTE_CALLS; i = j) {
			for (j = i + 1; j < slots && kind[j] == kind[i]; j++)
				;
			if (kind[i] != OPEN)
				remote_batch_add(&b, SYS_close_range, i, j - 1,
						 kind[i] == FREE ? 0 : CLOSE_RANGE_CLOEXEC_, 0, 0,
						 0);
		}
		r = b.n ? remote_batch_run(&b) : 0;
		for (size_t k = 0; k < b.n && r == 0; k++)
			r = b.c[k].ret < 0 ? (int)b.c[k].ret : 0;
	}
	return r;
}

/* 1: all lie where they belong; 0: it is too sparse, nothing is there. */
static int install_long(struct restore *r, struct task *t, struct error *err)
{
	Ck__FdTable *f = t->fds;
	size_t slots = f->n_fds ? f->fds[f->n_fds - 1]->num + 1ul : 0;
	CLEANUP_FREE uint8_t *kind = NULL;
	CLEANUP_FREE int *fds = NULL;
	CLEANUP_CLOSE int filler = -1;
	int nums[PER_MESSAGE] = { 0 }, e;
	bool placed = true;

	if (slots <= PER_MESSAGE || slots > 2 * f->n_fds + 8)
		return 0;
	for (size_t i = 1; i < f->n_fds; i++)
		if (f->fds[i]->num == f->fds[i - 1]->num)
			return error_set(err, EBADMSG, "descriptor %u of process %d came twice",
					 f->fds[i]->num, t->vpid);
	filler = eventfd(0, EFD_CLOEXEC);
	if (filler < 0)
		return error_sys(err, errno, "making a filler");
	kind = mem_zalloc(slots);
	fds = mem_zalloc(slots * sizeof(*fds));
	e = fill_slots(r, f, fds, kind, slots, filler, err);
	for (size_t at = 0; at < slots && e >= 0 && placed; at += PER_MESSAGE) {
		size_t n = slots - at < PER_MESSAGE ? slots - at : PER_MESSAGE;

		e = pass(t, fds + at, n, nums, false, err);
		for (size_t i = 0; i < n && e >= 0; i++)
			placed &= nums[i] == (int)(at + i);
	}
	if (e < 0)
		return e;
	if (placed)
		e = finish_slots(t, kind, slots);
	else
		e = (int)remote_syscall(t, SYS_close_range, 0, (size_t)t->sock_num - 1, 0, 0, 0, 0);
	if (e < 0)
		return error_sys(err, -e, "installing descriptors of process %d", t->vpid);
	return placed;
}

/* It shares the table of one that has, or gets, all of them. */
static bool is_guest(const struct task *t)
{
	return t->files_of && t->files_of != t->vpid;
}

static int install_start(struct restore *r, struct task *t, void *room, struct error *err)
{
	struct installing *in = room;
	Ck__FdTable *f = t->fds;
	int above = 3;
	int e = 0;

	in->dense = false;
	if (!f)
		return error_set(err, EBADMSG, "process %d came without its descriptors", t->vpid);
	if (is_guest(t))
		return 0;
	for (size_t i = 0; t->files_of && i < r->tasks.n; i++)
		if (r->tasks.t[i]->files_of == t->files_of)
			task_drop_sock(r->tasks.t[i]);
	qsort(f->fds, f->n_fds, sizeof(*f->fds), by_number);
	if (f->n_fds)
		above = (int)f->fds[f->n_fds - 1]->num + 1;
	above += 1;
	if (!t->cleared || t->sock < 0 || above > t->sock_num)
		e = clear_and_open_sock(t, above, err);
	if (e == 0 && !f->n_fds && t->sock_first) {
		remote_syscall(t, SYS_close, 0, 0, 0, 0, 0, 0);
		t->sock_first = false;
	}
	return e < 0 ? e : dense_start(r, t, in, err);
}

static int install_end(struct restore *r, struct task *t, void *room, struct error *err)
{
	struct installing *in = room;
	Ck__FdTable *f = t->fds;
	int e = in->dense ? dense_end(t, in, err) : 0;

	if (e == 0 && !in->dense && !is_guest(t))
		e = install_long(r, t, err);
	if (e != 0 || is_guest(t))
		return e < 0 ? e : 0;
	for (size_t i = 0; i < f->n_fds && e == 0; i += PER_MESSAGE) {
		size_t k = f->n_fds - i < PER_MESSAGE ? f->n_fds - i : PER_MESSAGE;
		int fds[PER_MESSAGE], nums[PER_MESSAGE] = { 0 };

		for (size_t j = 0; j < k && e >= 0; j++)
			e = fds[j] = restore_fd(r, f->fds[i + j]->id, err);
		if (e >= 0)
			e = pass(t, fds, k, nums, true, err);
		if (e == 0)
			e = place(t, f->fds + i, nums, k, t->sock_num, err);
	}
	return e;
}

int restore_objects(struct restore *r, struct error *err)
{
	static const struct abreast install = { sizeof(struct installing), install_start,
						install_end };
	int64_t made, installed;
	int e;

	for (size_t i = 0; i < r->nobjects; i++) {
		e = restore_fd(r, r->objects[i].id, err);
		if (e < 0)
			return e;
	}
	made = clock_mono_ns();
	e = restore_abreast(r, &install, err);
	if (e < 0)
		return e;
	installed = clock_mono_ns();
	for (size_t i = 0; i < r->nobjects; i++) {
		struct robject *o = &r->objects[i];

		if (!o->kind || !o->kind->late)
			continue;
		e = o->kind->late(r, o->id, o->body, o->len, o->fd, err);
		if (e < 0)
			return error_wrap(err, "finishing object %u (%s)", o->id, o->type);
	}
	r->install_ns = installed - made;
	r->late_ns = clock_mono_ns() - installed;
	return 0;
}

int restore_objects_finish(struct restore *r, struct error *err)
{
	int first = 0;

	/* After the commit there is no way back: go on with the others, tell the first. */
	for (size_t i = 0; i < r->nobjects; i++) {
		struct robject *o = &r->objects[i];
		struct error one = { 0 };

		if (!o->kind || !o->kind->finish)
			continue;
		if (o->kind->finish(r, o->id, o->fd, &one) < 0 && first == 0) {
			first = -one.code;
			*err = one;
			error_wrap(err, "releasing object %u (%s)", o->id, o->type);
		}
	}
	for (size_t i = 0; i < r->nobjects; i++)
		if (r->objects[i].fd >= 0)
			close(TAKE_FD(r->objects[i].fd));
	return first;
}
