/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts of io_setup(2), libaio's: part "aio".
 *
 * A context is its address, where a ring of completed events is mapped. The ring's pages
 * travel with the process's memory, into plain memory at that place. When everything has
 * come, the process makes a new context, completes as many reads of nothing as bring the
 * kernel's own end of the ring to where it was, moves the ring to the old address, and gets
 * the old events back: head, tail and what was not fetched yet are as before.
 *
 * Requests in flight cannot be seen from user space, nor taken along; BPF counts them. They
 * are waited for: at the freeze, before anything is sent, and at each look for changed pages
 * in pre-copy, because what a direct read writes into memory after the look leaves no trace
 * in page tables (hold.c).
 */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/ipc.pb-c.h"
#include "runtime/checkpoint/mem_aio.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"
#include "runtime/checkpoint/peek.h"

#define PAGE	   4096ul
#define RING_MAGIC 0xa10a10a1u
#define AT_ONCE	   100u /* requests of one io_submit(): they fit into the scratch area */

/* fs/aio.c; a part of the kernel's interface, because libaio reads it. */
struct ring {
	uint32_t id, nr, head, tail;
	uint32_t magic, compat, incompat, header_length;
	struct io_event events[];
};

/* --- source ----------------------------------------------------------------------------- */
/* No context anywhere on this machine: the usual case, for the price of one read. */
static bool none_here(void)
{
	CLEANUP_FREE char *text = NULL;

	return file_read("/proc/sys/fs/aio-nr", 32, &text, NULL, NULL) == 0 &&
	       strtoul(text, NULL, 10) == 0;
}

struct look {
	struct dump *d;
	struct error *err;
	uint64_t in_flight;
	pid_t vpid; /* of a process that has some */
	bool any, send;
};

static int look_one(void *ctx, const struct peek_record *rec, const void *data)
{
	struct look *l = ctx;
	struct task *t = dump_task_by_pid(l->d, rec->pid);
	Cki__AioContext m = CKI__AIO_CONTEXT__INIT;
	CLEANUP_BUF struct buf body = { 0 };

	(void)data;
	if (!t)
		return 0;
	l->any = true;
	if (rec->b) {
		l->in_flight += rec->b;
		l->vpid = task_vpid(t);
	}
	if (!l->send)
		return 0;
	m.vpid = task_vpid(t);
	m.address = rec->a;
	m.size = rec->d;
	m.asked = (uint32_t)rec->c;
	obj_pack(&m.base, &body);
	return dump_send_part(l->d, aio_part.name, body.data, body.len, l->err);
}

int dump_aio_idle(struct dump *d, int64_t bound_ns, struct error *err)
{
	int64_t end = clock_mono_ns() + bound_ns;

	if (none_here())
		return 0;
	for (;;) {
		struct look l = { .d = d, .err = err };
		int r = peek(PEEK_AIO, look_one, &l, err);

		if (r < 0)
			return error_wrap(err, "asynchronous I/O");
		if (!l.in_flight)
			return l.any;
		if (clock_mono_ns() > end)
			return error_set(err, EAGAIN,
					 "process %d has %llu asynchronous requests (io_submit) in "
					 "flight which do not end; try again, or configure it not "
					 "to use libaio",
					 l.vpid, (unsigned long long)l.in_flight);
		clock_sleep_ns(100000);
	}
}

static int aio_check(struct dump *d, struct obstacles *out)
{
	struct error err = { 0 };

	if (none_here() || peek_load(PEEK_AIO, &err) == 0)
		return 0;
	for (size_t i = 0; i < dump_task_count(d); i++) {
		struct task *t = dump_task_at(d, i);
		CLEANUP_FREE char *path = str_format("/proc/%d/maps", task_pid(t));
		CLEANUP_FREE char *maps = NULL;

		if (file_read(path, 64 << 20, &maps, NULL, NULL) == 0 && strstr(maps, " /[aio]"))
			obstacle_add(out, task_vpid(t), -1, "asynchronous I/O context (io_setup)",
				     "this kernel does not let its requests in flight be counted "
				     "(BTF and CAP_BPF are needed)",
				     "configure the program not to use libaio (MariaDB: "
				     "innodb_use_native_aio=0), or run a kernel with "
				     "CONFIG_DEBUG_INFO_BTF");
	}
	return 0;
}

static int aio_round(struct dump *d, int n, json_t *args, struct error *err)
{
	(void)d;
	(void)n;
	(void)args;
	(void)err;
	if (!none_here())
		peek_load(PEEK_AIO, NULL);
	return 0;
}

static int aio_dump(struct dump *d, struct error *err)
{
	struct look l = { .d = d, .err = err, .send = true };
	int r;

	if (!d->aio) /* since the freeze nobody has made one */
		return 0;
	r = peek(PEEK_AIO, look_one, &l, err);
	if (r == 0 && l.in_flight)
		r = error_set(err, EAGAIN, "process %d has asynchronous requests in flight",
			      l.vpid);
	return r;
}

/* --- destination ------------------------------------------------------------------------ */
static Cki__AioContext **contexts;
static size_t ncontexts;

static int aio_receive(struct restore *r, const void *body, size_t len, struct error *err)
{
	Cki__AioContext *m = obj_unpack(&cki__aio_context__descriptor, body, len, err);

	(void)r;
	if (!m)
		return -EBADMSG;
	contexts = mem_grow(contexts, ncontexts + 1, sizeof(Cki__AioContext *));
	contexts[ncontexts++] = m;
	return 0;
}

/* Completes n reads of nothing through context `ctx` of the task; `fetch`: as if the
 * program had fetched their events. */
static long complete_reads(struct task *t, uint64_t ctx, int fd, uint32_t n, bool fetch)
{
	struct {
		uint64_t list[AT_ONCE];
		struct iocb cb[AT_ONCE];
	} a = { 0 };
	unsigned long at = remote_scratch(t);
	int64_t end = clock_mono_ns() + 2000000000;
	long done = 0;

	if (!at)
		return -ENOMEM;
	for (uint32_t i = 0; i < AT_ONCE; i++) {
		a.list[i] = at + offsetof(__typeof__(a), cb) + i * sizeof(a.cb[0]);
		a.cb[i].aio_lio_opcode = IOCB_CMD_PREAD;
		a.cb[i].aio_fildes = (uint32_t)fd;
	}
	while (n && done >= 0) {
		uint32_t ends[2]; /* head, tail */

		done = remote_write(t, at, &a, sizeof(a));
		if (done == 0)
			done = remote_syscall(t, SYS_io_submit, ctx, n < AT_ONCE ? n : AT_ONCE, at,
					      0, 0, 0);
		/* EAGAIN: room is in the hands of a processor on which it does not run now. */
		if (done == -EAGAIN && clock_mono_ns() < end)
			done = 0;
		if (done > 0)
			n -= (uint32_t)done;
		if (done > 0 && fetch) {
			done = remote_read(t, ctx + offsetof(struct ring, head), ends,
					   sizeof(ends));
			ends[0] = ends[1];
			if (done == 0)
				done = remote_write(t, ctx + offsetof(struct ring, head), ends, 4);
		}
	}
	return done < 0 ? done : 0;
}

/* A new context with a ring of as many pages; its address. */
static int context_make(struct task *t, const Cki__AioContext *m, uint64_t *ctx, struct error *err)
{
	unsigned long at = remote_scratch(t);
	struct ring ring;
	uint64_t pages = m->size / PAGE;
	/* What was asked for; else the least that comes to so many pages: twice as many events
	 * and two more (ioctx_alloc()). */
	uint64_t tries[2] = { m->asked, pages > 1 ? 64 * (pages - 1) : 1 };

	for (int i = 0; i < 2; i++) {
		uint64_t zero = 0;
		long n = at ? remote_write(t, at, &zero, sizeof(zero)) : -ENOMEM;

		if (n == 0)
			n = remote_syscall(t, SYS_io_setup, tries[i], at, 0, 0, 0, 0);
		if (n == 0)
			n = remote_read(t, at, ctx, sizeof(*ctx));
		if (n == 0)
			n = remote_read(t, *ctx, &ring, sizeof(ring));
		if (n < 0)
			return error_sys(err, (int)-n,
					 "io_setup for process %d (see /proc/sys/fs/aio-max-nr)",
					 task_vpid(t));
		if (ring.nr == (m->size - sizeof(ring)) / sizeof(struct io_event))
			return 0;
		remote_syscall(t, SYS_io_destroy, *ctx, 0, 0, 0, 0, 0);
	}
	return error_set(
		err, EOPNOTSUPP,
		"an asynchronous I/O ring of process %d has another size here than its %llu "
		"bytes, because this host has more processors; let the program ask for more "
		"events (io_setup)",
		task_vpid(t), (unsigned long long)m->size);
}

static int context_restore(struct restore *r, const Cki__AioContext *m, int null, struct error *err)
{
	struct task *t = restore_task(r, m->vpid);
	CLEANUP_FREE struct ring *old = NULL;
	uint64_t ctx = 0;
	uint32_t id;
	long n;
	int fd;

	if (!t || m->size < sizeof(*old) || m->size > 1 << 30 || m->size % PAGE ||
	    m->address % PAGE)
		return error_set(err, EBADMSG,
				 "a context of asynchronous I/O of process %d is damaged", m->vpid);
	old = mem_zalloc(m->size);
	n = remote_read(t, m->address, old, m->size);
	if (n < 0)
		return error_sys(err, (int)-n, "reading the ring of process %d", task_vpid(t));
	if (old->magic != RING_MAGIC || old->nr == 0 || old->head >= old->nr ||
	    old->tail >= old->nr)
		return error_set(err, EBADMSG, "a ring of process %d is damaged", task_vpid(t));
	fd = remote_send_fd(t, null, err);
	if (fd < 0)
		return fd;
	n = context_make(t, m, &ctx, err);
	if (n < 0)
		return (int)n;
	n = complete_reads(t, ctx, fd, old->head, true);
	if (n == 0)
		n = complete_reads(t, ctx, fd, (old->tail + old->nr - old->head) % old->nr, false);
	remote_syscall(t, SYS_close, (unsigned long)fd, 0, 0, 0, 0, 0);
	if (n == 0) {
		n = remote_syscall(t, SYS_mremap, ctx, m->size, m->size,
				   MREMAP_MAYMOVE | MREMAP_FIXED, m->address, 0);
		n = n == (long)m->address ? 0 : n;
	}
	/* Which of the process's contexts it is, is the kernel's to say. */
	if (n == 0)
		n = remote_read(t, m->address, &id, sizeof(id));
	old->id = id;
	if (n == 0)
		n = remote_write(t, m->address, old, m->size);
	return n < 0 ? error_sys(err, (int)-n, "making an asynchronous I/O context of process %d",
				 task_vpid(t))
		     : 0;
}

static int aio_complete(struct restore *r, struct error *err)
{
	CLEANUP_CLOSE int null = ncontexts ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
	int n = 0;

	for (size_t i = 0; i < ncontexts; i++) {
		if (n == 0)
			n = context_restore(r, contexts[i], null, err);
		cki__aio_context__free_unpacked(contexts[i], NULL);
	}
	free(contexts);
	contexts = NULL;
	ncontexts = 0;
	return n;
}

const struct checkpoint_part aio_part = {
	.name = "aio",
	.check = aio_check,
	.round = aio_round,
	.dump = aio_dump,
	.receive = aio_receive,
	.complete = aio_complete,
};
