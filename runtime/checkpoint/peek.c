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

#define KINDS (PEEK_MQUEUE + 1)

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
	return kind == PEEK_UNDO  ? s->progs.peek_undo
	       : kind == PEEK_AIO ? s->progs.peek_aio
				  : s->progs.peek_mqueue;
}

static int load(struct loaded *l, enum peek_kind kind)
{
	struct bpf_program *p;
	int n;

	l->skel = peek_bpf__open();
	if (!l->skel)
		return -errno;
	bpf_object__for_each_program(p, l->skel->obj)
		bpf_program__set_autoload(p, p == program(l->skel, kind));
	n = libbpf_num_possible_cpus();
	l->skel->rodata->ncpus = n > 0 ? (uint32_t)n : 1;
	n = peek_bpf__load(l->skel);
	if (n < 0)
		return n;
	l->link = bpf_program__attach_iter(program(l->skel, kind), NULL);
	return l->link ? 0 : -errno;
}

int peek_load(enum peek_kind kind, struct error *err)
{
	struct loaded *l = &loaded[kind];

	if (l->link)
		return 0;
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

int peek(enum peek_kind kind, int (*fn)(void *ctx, const struct peek_record *r, const void *data),
	 void *ctx, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	CLEANUP_BUF struct buf all = { 0 };
	struct peek_record rec;
	char piece[65536];
	ssize_t got;
	int n = peek_load(kind, err);

	if (n < 0)
		return n;
	fd = bpf_iter_create(bpf_link__fd(loaded[kind].link));
	if (fd < 0)
		return error_sys(err, errno, "reading the kernel's state");
	while ((got = read(fd, piece, sizeof(piece))) != 0) {
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got < 0)
			return error_sys(err, errno, "reading the kernel's state");
		buf_add(&all, piece, (size_t)got);
	}
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
