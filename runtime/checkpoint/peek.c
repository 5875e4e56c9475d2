/* SPDX-License-Identifier: Apache-2.0 */
/* Loading and reading the BPF iterators of bpf/peek.bpf.c; each kind is loaded by itself. */
#include "runtime/checkpoint/peek.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/checkpoint/bpf/peek.skel.h"

#define KINDS	    (PEEK_POLICY + 1)
#define PEEK_PERCPU 4 /* for PEEK_AIO: where the memory of each processor lies */

static struct loaded {
	struct peek_bpf *skel;
	struct bpf_link *link;
	int failed; /* errno; is not tried again */
} loaded[KINDS];

static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	(void)level;
	(void)fmt;
	(void)ap;
	return 0;
}

static struct bpf_program *program(struct peek_bpf *s, enum peek_kind kind)
{
	return kind == PEEK_UNDO	   ? s->progs.peek_undo
	       : kind == PEEK_AIO	   ? s->progs.peek_aio
	       : kind == PEEK_UNIX	   ? s->progs.peek_unix
	       : kind == PEEK_INOTIFY	   ? s->progs.peek_inotify
	       : kind == PEEK_SOCKET_ERROR ? s->progs.peek_socket_error
	       : kind == PEEK_CRED	   ? s->progs.peek_cred
	       : kind == PEEK_RESTART	   ? s->progs.peek_restart
	       : kind == PEEK_POLICY	   ? s->progs.peek_policy
					   : s->progs.peek_mqueue;
}

/* All that an iterator writes. */
static int read_all(int link, struct buf *all, struct error *err)
{
	CLEANUP_CLOSE int fd = bpf_iter_create(link);
	char piece[65536];
	ssize_t got;

	if (fd < 0)
		return error_sys(err, errno, "reading the kernel's state");
	while ((got = read(fd, piece, sizeof(piece))) != 0) {
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got < 0)
			return error_sys(err, errno, "reading the kernel's state");
		buf_add(all, piece, (size_t)got);
	}
	return 0;
}

/* Tells the programs where the memory of each processor lies. */
static int percpu_learn(struct peek_bpf *s)
{
	struct bpf_link *link = bpf_program__attach_iter(s->progs.peek_percpu, NULL);
	CLEANUP_BUF struct buf all = { 0 };
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);
	struct peek_record rec;
	bool any = false;
	int n;

	if (!link)
		return -errno;
	n = bpf_obj_get_info_by_fd(bpf_map__fd(s->maps.percpu_probe), &info, &len);
	s->bss->probe_map = info.id;
	if (n == 0)
		n = read_all(bpf_link__fd(link), &all, NULL);
	bpf_link__destroy(link);
	for (size_t at = 0; n == 0 && at + sizeof(rec) <= all.len; at += sizeof(rec)) {
		memcpy(&rec, all.data + at, sizeof(rec));
		if (rec.kind != PEEK_PERCPU || rec.tid < 0 ||
		    (size_t)rec.tid >= sizeof(s->bss->percpu) / sizeof(s->bss->percpu[0]))
			return -EOVERFLOW;
		s->bss->percpu[rec.tid] = rec.b - rec.a;
		any = true;
	}
	return n == 0 && !any ? -ENOENT : n;
}

/* Of one process only where the kernel can (6.1), so that not all are gone through. */
static struct bpf_link *attach(struct peek_bpf *s, enum peek_kind kind, int pid)
{
	union bpf_iter_link_info info = { .task.pid = (uint32_t)pid };
	LIBBPF_OPTS(bpf_iter_attach_opts, opts, .link_info = &info, .link_info_len = sizeof(info));
	struct bpf_link *link = NULL;

	if (pid)
		link = bpf_program__attach_iter(program(s, kind), &opts);
	return link ? link : bpf_program__attach_iter(program(s, kind), NULL);
}

static int load(struct loaded *l, enum peek_kind kind)
{
	bool own = kind == PEEK_INOTIFY || kind == PEEK_SOCKET_ERROR;
	struct bpf_program *p;
	int n;

	l->skel = peek_bpf__open();
	if (!l->skel)
		return -errno;
	bpf_object__for_each_program(p, l->skel->obj) bpf_program__set_autoload(
		p, p == program(l->skel, kind) ||
			   (kind == PEEK_AIO && p == l->skel->progs.peek_percpu) ||
			   (kind == PEEK_RESTART && p == l->skel->progs.peek_policy));
	n = libbpf_num_possible_cpus();
	l->skel->rodata->ncpus = n > 0 ? (uint32_t)n : 1;
	n = peek_bpf__load(l->skel);
	if (n == 0 && kind == PEEK_AIO)
		n = percpu_learn(l->skel);
	if (n < 0)
		return n;
	l->link = attach(l->skel, kind, own ? getpid() : 0);
	return l->link ? 0 : -errno;
}

int peek_load(enum peek_kind kind, struct error *err)
{
	struct loaded *l = &loaded[kind];

	if (l->link)
		return 0;
	if (kind == PEEK_POLICY && peek_load(PEEK_RESTART, NULL) == 0) {
		l->skel = loaded[PEEK_RESTART].skel;
		l->link = attach(l->skel, kind, 0);
		return l->link ? 0 : error_sys(err, errno, "reading memory policies");
	}
	if (!l->failed) {
		libbpf_set_print(quiet);
		l->failed = -load(l, kind);
		if (l->failed && l->skel) {
			peek_bpf__destroy(l->skel);
			l->skel = NULL;
		}
	}
	return l->failed ? error_set(err, EOPNOTSUPP,
				     "this kernel's state cannot be read with BPF (%s)",
				     strerror(l->failed))
			 : 0;
}

int peek_sem_size(int semid, uint32_t nsems, struct error *err)
{
	int n = peek_load(PEEK_UNDO, err);

	if (n < 0)
		return n;
	if (bpf_map_update_elem(bpf_map__fd(loaded[PEEK_UNDO].skel->maps.sem_sizes), &semid, &nsems,
				BPF_ANY) < 0)
		return error_sys(err, errno, "noting the size of a semaphore set");
	return 0;
}

int peek_unix_from(uint32_t own, uint32_t client, uint32_t from, struct error *err)
{
	int n = peek_load(PEEK_UNIX, err);
	struct peek_bpf *s = loaded[PEEK_UNIX].skel;

	if (n < 0)
		return n;
	s->bss->unix_own = own;
	s->bss->unix_client = client;
	s->bss->unix_from = from;
	return 0;
}

int peek_inotify_from(int fd, uint32_t from, struct error *err)
{
	int n = peek_load(PEEK_INOTIFY, err);

	if (n < 0)
		return n;
	loaded[PEEK_INOTIFY].skel->bss->inotify_fd = fd;
	loaded[PEEK_INOTIFY].skel->bss->inotify_from = from;
	return 0;
}

static int peek_link(struct bpf_link *link,
		     int (*fn)(void *ctx, const struct peek_record *r, const void *data), void *ctx,
		     struct error *err)
{
	CLEANUP_BUF struct buf all = { 0 };
	struct peek_record rec;
	int n = read_all(bpf_link__fd(link), &all, err);

	if (n < 0)
		return n;
	for (size_t at = 0; at + sizeof(rec) <= all.len; at += sizeof(rec) + rec.len) {
		memcpy(&rec, all.data + at, sizeof(rec));
		if (rec.len > all.len - at - sizeof(rec))
			return error_set(err, EIO, "the kernel's state came in pieces");
		n = fn(ctx, &rec, all.data + at + sizeof(rec));
		if (n < 0)
			return n;
	}
	return 0;
}

int peek(enum peek_kind kind, int (*fn)(void *ctx, const struct peek_record *r, const void *data),
	 void *ctx, struct error *err)
{
	int n = peek_load(kind, err);

	return n < 0 ? n : peek_link(loaded[kind].link, fn, ctx, err);
}

int peek_process(enum peek_kind kind, int pid,
		 int (*fn)(void *ctx, const struct peek_record *r, const void *data), void *ctx,
		 struct error *err)
{
	struct bpf_link *link;
	int n = peek_load(kind, err);

	if (n < 0)
		return n;
	link = attach(loaded[kind].skel, kind, pid);
	if (!link)
		return error_sys(err, errno, "reading the state of process %d", pid);
	n = peek_link(link, fn, ctx, err);
	bpf_link__destroy(link);
	return n;
}

static int note_error(void *ctx, const struct peek_record *r, const void *data)
{
	(void)data;
	if (r->kind == PEEK_SOCKET_ERROR)
		*(int *)ctx = (int)r->a;
	return 0;
}

int peek_socket_error(int fd, int *error, struct error *err)
{
	int n = peek_load(PEEK_SOCKET_ERROR, err);

	if (n < 0)
		return n;
	loaded[PEEK_SOCKET_ERROR].skel->bss->error_fd = fd;
	*error = 0;
	return peek(PEEK_SOCKET_ERROR, note_error, error, err);
}
