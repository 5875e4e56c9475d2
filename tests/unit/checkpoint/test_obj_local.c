/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects dumped and made again inside one process, so that all of obj_*.c runs under the
 * sanitizers too (programs with shadow memory cannot travel). This file stands in for the
 * core: it implements object.h for a "container" that is the test itself, so remote system
 * calls are ordinary ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/obj_types.h"

/* --- a core of one process --------------------------------------------------------------- */
#define MAX 64
struct task {
	int unused;
};
struct obstacles {
	size_t n;
	char last[300];
};
struct dump {
	struct ofd *ofds[MAX];
	size_t n;
	struct buf sent[MAX]; /* messages of the part "content" */
	size_t nsent;
	int root;
};
struct restore {
	struct {
		uint32_t id;
		const struct object_type *kind;
		struct buf body;
		int fd, num, state;
	} o[MAX];
	size_t n;
	int root;
};
static struct task self;

pid_t task_pid(const struct task *t)
{
	(void)t;
	return getpid();
}
pid_t task_vpid(const struct task *t)
{
	(void)t;
	return getpid();
}
int task_pidfd(const struct task *t)
{
	(void)t;
	return -1;
}
long remote_syscall(struct task *t, long nr, unsigned long a, unsigned long b, unsigned long c,
		    unsigned long d, unsigned long e, unsigned long f)
{
	long n = syscall(nr, a, b, c, d, e, f);

	(void)t;
	return n < 0 ? -errno : n;
}
int remote_send_fd(struct task *t, int fd, struct error *err)
{
	(void)t;
	(void)err;
	return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}
unsigned long remote_scratch(struct task *t)
{
	static char area[REMOTE_SCRATCH];

	(void)t;
	return (unsigned long)(uintptr_t)area;
}
int remote_read(struct task *t, unsigned long addr, void *buf, size_t len)
{
	(void)t;
	memcpy(buf, (void *)(uintptr_t)addr, len);
	return 0;
}
int remote_write(struct task *t, unsigned long addr, const void *buf, size_t len)
{
	(void)t;
	memcpy((void *)(uintptr_t)addr, buf, len);
	return 0;
}
void obstacle_add(struct obstacles *out, pid_t vpid, int fd, const char *object, const char *why,
		  const char *remedy)
{
	out->n++;
	snprintf(out->last, sizeof(out->last), "%d %d %s: %s; %s", vpid, fd, object, why, remedy);
}
struct ofd *dump_ofd(struct dump *d, const struct task *t, int num)
{
	(void)t;
	for (size_t i = 0; i < d->n; i++)
		if (d->ofds[i]->num == num)
			return d->ofds[i];
	return NULL;
}
struct ofd *dump_ofd_by_id(struct dump *d, uint32_t id)
{
	return id && id <= d->n ? d->ofds[id - 1] : NULL;
}
size_t dump_ofd_count(const struct dump *d)
{
	return d->n;
}
struct ofd *dump_ofd_at(struct dump *d, size_t i)
{
	return i < d->n ? d->ofds[i] : NULL;
}
static struct ofd *add(struct dump *d, int fd, int num)
{
	struct ofd *o = mem_zalloc(sizeof(*o));
	char path[64], to[4096];
	ssize_t n;

	o->id = (uint32_t)d->n + 1;
	o->fd = fd;
	o->num = num;
	assert_int_equal(fstat(fd, &o->st), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, to, sizeof(to) - 1);
	to[n > 0 ? n : 0] = '\0';
	o->link = str_dup(to);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	assert_int_equal(file_read(path, 1 << 20, &o->fdinfo, NULL, NULL), 0);
	o->flags = fcntl(fd, F_GETFL);
	if (num >= 0) {
		o->task = &self;
		o->nholders = 1;
		o->holders = mem_zalloc(sizeof(*o->holders));
		o->holders[0] = (struct ofd_holder){ &self, num, false };
	}
	assert_true(d->n < MAX);
	d->ofds[d->n++] = o;
	for (size_t i = 0; object_types_files[i] && !o->kind; i++)
		if (object_types_files[i]->claims(o))
			o->kind = object_types_files[i];
	return o;
}
struct ofd *dump_add_fd(struct dump *d, int fd, struct error *err)
{
	(void)err;
	for (size_t i = 0; i < d->n; i++)
		if (syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, fd, d->ofds[i]->fd) == 0) {
			close(fd);
			return d->ofds[i];
		}
	return add(d, fd, -1);
}
size_t dump_task_count(const struct dump *d)
{
	(void)d;
	return 1;
}
struct task *dump_task_at(struct dump *d, size_t i)
{
	(void)d;
	return i == 0 ? &self : NULL;
}
struct task *dump_task(struct dump *d, pid_t vpid)
{
	(void)d;
	return vpid == getpid() ? &self : NULL;
}
struct task *dump_task_by_pid(struct dump *d, pid_t pid)
{
	return dump_task(d, pid);
}
struct call {
	int (*fn)(void *arg);
	void *arg;
	int rc;
};
static void *call_thread(void *arg)
{
	struct call *c = arg;

	c->rc = unshare(CLONE_FS) < 0 ? -errno : c->fn(c->arg);
	return NULL;
}
static int in_thread(int (*fn)(void *arg), void *arg)
{
	struct call c = { fn, arg, -EIO };
	pthread_t t;

	if (pthread_create(&t, NULL, call_thread, &c) == 0)
		pthread_join(t, NULL);
	return c.rc;
}
int dump_in_netns(struct dump *d, int (*fn)(void *arg), void *arg, struct error *err)
{
	(void)d;
	(void)err;
	return in_thread(fn, arg);
}
int dump_in_mntns(struct dump *d, int (*fn)(void *arg), void *arg, struct error *err)
{
	return dump_in_netns(d, fn, arg, err);
}
pid_t dump_vtid(struct dump *d, pid_t tid)
{
	(void)d;
	return tid;
}
pid_t dump_vpgid(struct dump *d, pid_t pgid)
{
	(void)d;
	return pgid;
}
pid_t restore_tid(struct restore *r, pid_t vtid)
{
	(void)r;
	return vtid;
}
int dump_in_ipcns(struct dump *d, int (*fn)(void *arg), void *arg, struct error *err)
{
	return dump_in_netns(d, fn, arg, err);
}
int dump_root_fd(struct dump *d)
{
	return d->root;
}
uint32_t dump_shared_id(struct dump *d, dev_t dev, ino_t ino)
{
	(void)d;
	(void)dev;
	(void)ino;
	return 0;
}
int dump_send_part(struct dump *d, const char *name, const void *body, size_t len,
		   struct error *err)
{
	(void)err;
	assert_string_equal(name, obj_content_part.name);
	assert_true(d->nsent < MAX);
	buf_add(&d->sent[d->nsent++], body, len);
	return 0;
}
int restore_fd(struct restore *r, uint32_t id, struct error *err)
{
	for (size_t i = 0; i < r->n; i++) {
		if (r->o[i].id != id)
			continue;
		if (r->o[i].state == 0) {
			int n;

			r->o[i].state = 1;
			n = r->o[i].kind->restore(r, id, r->o[i].body.data, r->o[i].body.len,
						  &r->o[i].fd, err);
			if (n < 0)
				return n;
			r->o[i].state = 2;
		}
		return r->o[i].state == 2 ? r->o[i].fd : error_set(err, ELOOP, "loop");
	}
	return error_set(err, ENOENT, "no object %u", id);
}
int restore_shared_fd(struct restore *r, uint32_t shared_id, int flags, struct error *err)
{
	(void)r;
	(void)shared_id;
	(void)flags;
	return error_set(err, ENOENT, "no shared memory");
}
size_t restore_task_count(const struct restore *r)
{
	(void)r;
	return 1;
}
struct task *restore_task_at(struct restore *r, size_t i)
{
	(void)r;
	return i == 0 ? &self : NULL;
}
struct task *restore_task(struct restore *r, pid_t vpid)
{
	(void)r;
	return vpid == getpid() ? &self : NULL;
}
bool restore_holder(struct restore *r, uint32_t id, size_t i, struct task **t, int *num)
{
	for (size_t k = 0; k < r->n; k++)
		if (r->o[k].id == id && r->o[k].num >= 0 && i == 0) {
			*t = &self;
			*num = r->o[k].num;
			return true;
		}
	return false;
}
int restore_in_netns(struct restore *r, int (*fn)(void *arg), void *arg, struct error *err)
{
	(void)r;
	(void)err;
	return in_thread(fn, arg);
}
int restore_in_mntns(struct restore *r, int (*fn)(void *arg), void *arg, struct error *err)
{
	return restore_in_netns(r, fn, arg, err);
}
int restore_in_ipcns(struct restore *r, int (*fn)(void *arg), void *arg, struct error *err)
{
	return restore_in_netns(r, fn, arg, err);
}
int restore_root_fd(struct restore *r)
{
	return r->root;
}

/* --- a move in place ------------------------------------------------------------------------ */
static char folder[64];

static int setup(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/ferry-obj-XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	dir_remove(folder, NULL);
	return 0;
}

static const char *in(const char *name)
{
	static char paths[4][128];
	static int next;
	char *p = paths[next++ % 4];

	snprintf(p, 128, "%s/%s", folder, name);
	return p;
}

/* Dumps the descriptors, closes them, and makes them again under their numbers. */
static void move(const int *fds, size_t n)
{
	struct restore r = { .root = open("/", O_PATH) };
	struct dump d = { .root = r.root };
	struct obstacles out = { 0 };
	struct error err = { 0 };

	for (size_t i = 0; i < n; i++)
		add(&d, fcntl(fds[i], F_DUPFD_CLOEXEC, 200), fds[i]);
	for (size_t i = 0; i < d.n; i++)
		if (d.ofds[i]->kind->check)
			assert_int_equal(d.ofds[i]->kind->check(&d, d.ofds[i], &out), 0);
	if (out.n)
		fail_msg("%s", out.last);
	for (size_t i = 0; i < d.n; i++) {
		struct ofd *o = d.ofds[i];

		o->dumped = true;
		r.o[i].id = o->id;
		r.o[i].kind = o->kind;
		r.o[i].num = o->num;
		if (o->kind->dump(&d, o, &r.o[i].body, &err) < 0)
			fail_msg("dumping %s: %s", o->link, err.msg);
	}
	r.n = d.n;
	/* both sides keep their content in one table here: the source's goes first */
	obj_content_part.dump_undo(&d);
	for (size_t i = 0; i < d.nsent; i++) {
		assert_int_equal(obj_content_part.receive(&r, d.sent[i].data, d.sent[i].len, &err),
				 0);
		buf_free(&d.sent[i]);
	}
	for (size_t i = 0; i < d.n; i++) {
		if (d.ofds[i]->num >= 0)
			dup2(r.root, d.ofds[i]->num); /* so that the "engine" stays clear of it */
		close(d.ofds[i]->fd);
		free(d.ofds[i]->link);
		free(d.ofds[i]->fdinfo);
		free(d.ofds[i]->holders);
		free(d.ofds[i]);
	}
	for (size_t i = 0; i < r.n; i++)
		if (restore_fd(&r, r.o[i].id, &err) < 0)
			fail_msg("restoring %s: %s", r.o[i].kind->type, err.msg);
	for (size_t i = 0; i < r.n; i++)
		if (r.o[i].num >= 0)
			assert_int_equal(dup2(r.o[i].fd, r.o[i].num), r.o[i].num);
	for (size_t i = 0; i < r.n; i++)
		if (r.o[i].kind->late && r.o[i].kind->late(&r, r.o[i].id, r.o[i].body.data,
							   r.o[i].body.len, r.o[i].fd, &err) < 0)
			fail_msg("finishing %s: %s", r.o[i].kind->type, err.msg);
	for (size_t i = 0; i < r.n; i++) {
		if (r.o[i].kind->finish)
			assert_int_equal(r.o[i].kind->finish(&r, r.o[i].id, r.o[i].fd, &err), 0);
		close(r.o[i].fd);
		buf_free(&r.o[i].body);
	}
	close(r.root);
}

static void test_files_pipes_and_locks_come_back(void **state)
{
	int a = open(in("a"), O_RDWR | O_CREAT, 0600),
	    gone = open(in("gone"), O_RDWR | O_CREAT, 0600);
	int ro = open(in("gone"), O_RDONLY), m = memfd_create("m", MFD_ALLOW_SEALING), p[2];
	int null = open("/dev/null", O_RDWR), d = open(folder, O_RDONLY), b;
	char buf[100] = "";

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(write(a, "12345", 5), 5);
	assert_int_equal(flock(a, LOCK_EX), 0);
	assert_int_equal(fcntl(a, F_SETLK, &(struct flock){ .l_type = F_WRLCK, .l_len = 3 }), 0);
	assert_int_equal(write(gone, "deleted", 7), 7);
	assert_int_equal(unlink(in("gone")), 0);
	assert_int_equal(write(m, "memory", 6), 6);
	assert_int_equal(fcntl(m, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL), 0);
	assert_int_equal(write(p[1], "pipe", 4), 4);
	move((int[]){ a, gone, ro, m, null, d, p[0], p[1] }, 8);
	assert_int_equal(lseek(a, 0, SEEK_CUR), 5);
	b = open(in("a"), O_RDWR);
	assert_int_equal(flock(b, LOCK_EX | LOCK_NB), -1);
	close(b);
	assert_int_equal(pread(ro, buf, 7, 0), 7);
	assert_memory_equal(buf, "deleted", 7);
	assert_int_equal(pwrite(gone, "D", 1, 0), 1);
	assert_int_equal(pread(ro, buf, 1, 0), 1);
	assert_int_equal(buf[0], 'D');
	assert_int_equal(pread(m, buf, 6, 0), 6);
	assert_memory_equal(buf, "memory", 6);
	assert_int_equal(fcntl(m, F_GET_SEALS), F_SEAL_WRITE | F_SEAL_SEAL);
	assert_int_equal(read(p[0], buf, 10), 4);
	close(p[1]);
	assert_int_equal(read(p[0], buf, 10), 0);
	for (size_t i = 0; i < 7; i++)
		close((int[]){ a, gone, ro, m, null, d, p[0] }[i]);
}

static void test_event_objects_come_back(void **state)
{
	int ep = epoll_create1(0), ev = eventfd(7, EFD_SEMAPHORE | EFD_NONBLOCK);
	int tf = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), in_fd = inotify_init1(IN_NONBLOCK);
	int sfd, wd, pfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	struct itimerspec its = { .it_value.tv_sec = 50, .it_interval.tv_sec = 3 };
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 77 };
	char buf[1000] __attribute__((aligned(8)));
	sigset_t mask;
	uint64_t v;

	(void)state;
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	sfd = signalfd(-1, &mask, SFD_NONBLOCK);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e), 0);
	assert_int_equal(timerfd_settime(tf, 0, &its, NULL), 0);
	wd = inotify_add_watch(in_fd, folder, IN_CREATE);
	assert_true(wd > 0);
	move((int[]){ ep, ev, tf, in_fd, sfd, pfd }, 6);
	assert_int_equal(epoll_wait(ep, &e, 1, 0), 1);
	assert_int_equal(e.data.u64, 77);
	assert_int_equal(read(ev, &v, 8), 8);
	assert_int_equal(v, 1);
	assert_int_equal(timerfd_gettime(tf, &its), 0);
	assert_true(its.it_value.tv_sec > 20 && its.it_interval.tv_sec == 3);
	assert_int_equal(read(in_fd, buf, sizeof(buf)), -1);
	close(open(in("new"), O_CREAT | O_WRONLY, 0600));
	assert_true(read(in_fd, buf, sizeof(buf)) > 0);
	assert_int_equal(((struct inotify_event *)buf)->wd, wd);
	assert_int_equal(syscall(SYS_pidfd_send_signal, pfd, 0, NULL, 0), 0);
	for (size_t i = 0; i < 6; i++)
		close((int[]){ ep, ev, tf, in_fd, sfd, pfd }[i]);
}

/* Everything that waits in an inotify descriptor: its length. */
static size_t events_of(int fd, char *buf, size_t size)
{
	ssize_t n = read(fd, buf, size);

	assert_true(n > 0);
	for (char *p = buf; p < buf + n;) {
		struct inotify_event *e = (void *)p;

		e->cookie = e->cookie != 0;
		p += sizeof(*e) + e->len;
	}
	return (size_t)n;
}

static void test_unread_inotify_events_come_back(void **state)
{
	int fd[2] = { inotify_init1(IN_NONBLOCK), inotify_init1(IN_NONBLOCK) }, wd[2][3] = { 0 };
	char before[4096] __attribute__((aligned(8))), after[4096] __attribute__((aligned(8)));
	size_t n;

	(void)state;
	assert_int_equal(mkdir(in("watched"), 0700), 0);
	assert_int_equal(mkdir(in("gone"), 0700), 0);
	close(open(in("watched/file"), O_CREAT | O_WRONLY, 0600));
	for (int i = 0; i < 2; i++) {
		wd[i][0] = inotify_add_watch(fd[i], in("gone"), IN_ALL_EVENTS);
		wd[i][1] = inotify_add_watch(fd[i], in("watched"), IN_ALL_EVENTS);
		wd[i][2] = inotify_add_watch(fd[i], in("watched/file"), IN_ALL_EVENTS);
	}
	assert_memory_equal(wd[0], wd[1], sizeof(wd[0]));
	close(open(in("watched/new"), O_CREAT | O_WRONLY, 0600));
	assert_int_equal(rename(in("watched/new"), in("watched/newer")), 0);
	close(open(in("watched/new"), O_CREAT | O_WRONLY, 0600));
	close(open(in("gone/inside"), O_CREAT | O_WRONLY, 0600));
	assert_int_equal(chmod(in("watched/file"), 0640), 0);
	assert_int_equal(unlink(in("gone/inside")), 0);
	assert_int_equal(rename(in("watched/file"), in("watched/life")), 0);
	assert_int_equal(rmdir(in("gone")), 0);
	n = events_of(fd[0], before, sizeof(before));
	move(&fd[1], 1);
	/* preflight has opened folders on its way to the paths, and was heard */
	assert_true(events_of(fd[1], after, sizeof(after)) >= n);
	assert_memory_equal(before, after, n);
	assert_int_equal(inotify_rm_watch(fd[1], wd[1][2]), 0);
	assert_int_equal(inotify_add_watch(fd[1], in("watched/new"), IN_OPEN), wd[1][2] + 1);
	for (int i = 0; i < 2; i++)
		close(fd[i]);
}

static void test_unix_sockets_come_back(void **state)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int s[2], d[2], l, c, a, p[2], got = -1, x[2];
	char buf[100];
	size_t nfds = 1;

	(void)state;
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", in("sock"));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, d), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, x), 0);
	assert_int_equal(pipe(p), 0);
	l = socket(AF_UNIX, SOCK_STREAM, 0);
	c = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(l, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(l, 5), 0);
	assert_int_equal(connect(c, (struct sockaddr *)&un, sizeof(un)), 0);
	a = accept(l, NULL, NULL);
	assert_int_equal(write(s[0], "one", 3), 3);
	assert_int_equal(send(d[1], "dgram", 5, 0), 5);
	assert_int_equal(fd_send(x[0], "fd", 2, &p[0], 1), 0);
	assert_int_equal(write(c, "client", 6), 6);
	close(p[0]);
	assert_int_equal(write(p[1], "in flight", 9), 9);
	move((int[]){ s[0], s[1], d[0], d[1], x[0], x[1], l, c, a, p[1] }, 10);
	assert_int_equal(read(s[1], buf, 10), 3);
	assert_int_equal(recv(d[0], buf, 10, 0), 5);
	assert_int_equal(fd_recv(x[1], buf, 10, &got, &nfds), 2);
	assert_int_equal(read(got, buf, 100), 9);
	assert_int_equal(read(a, buf, 100), 6);
	assert_int_equal(write(a, "x", 1), 1);
	assert_int_equal(read(c, buf, 100), 1);
	close(c);
	c = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(c, (struct sockaddr *)&un, sizeof(un)), 0);
	for (size_t i = 0; i < 11; i++)
		close((int[]){ s[0], s[1], d[0], d[1], x[0], x[1], l, c, a, p[1], got }[i]);
}

static void test_damaged_bodies_are_refused(void **state)
{
	struct restore r = { .root = open("/", O_PATH) };
	uint32_t seed = 12345;
	char body[64];

	(void)state;
	for (size_t i = 0; object_types_files[i]; i++)
		for (int round = 0; round < 200; round++) {
			struct error err = { 0 };
			int fd = -1, n;

			/* one byte of a field that is no field, then noise */
			for (size_t k = 0; k < sizeof(body); k++) {
				seed = seed * 1664525 + 1013904223;
				body[k] = (char)(seed >> 24);
			}
			body[0] = 0x07; /* wire type 7 does not exist */
			if (object_types_files[i] == &obj_session)
				continue; /* looks at nothing in restore() */
			n = object_types_files[i]->restore(&r, 1, body, sizeof(body), &fd, &err);
			assert_true(n < 0);
			assert_true(err.msg[0] != '\0');
		}
	close(r.root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_files_pipes_and_locks_come_back, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_event_objects_come_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unread_inotify_events_come_back, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_unix_sockets_come_back, setup, teardown),
		cmocka_unit_test(test_damaged_bodies_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
