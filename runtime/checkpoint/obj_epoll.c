/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll: the kernel keys an item by (file, descriptor number at the time it was added),
 * whatever became of that number since. fdinfo shows number, events and data; kcmp tells
 * which open file description is behind it:
 *
 *   tfd:        5 events:       19 data:             abc  pos:0 ino:61 sdev:d
 *
 * At the destination the items are added by a thread with a descriptor table of its own,
 * in which each description is put for a moment at the number it was added with. So an
 * item whose number was closed or reused travels as well, as long as its file lives in
 * the container.
 */
#include <errno.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"
#include "runtime/checkpoint/obj_unix.h"

static bool epoll_claims(const struct ofd *o)
{
	return strcmp(o->link, "anon_inode:[eventpoll]") == 0;
}

/* An item of fdinfo, and how many items with the same number came before it. */
struct item {
	int tfd;
	uint32_t events, nth;
	uint64_t data;
	ino_t ino;
};

static size_t items_parse(const char *fdinfo, struct item **out)
{
	struct item *items = NULL;
	uint32_t *seen = NULL; /* items so far, by number */
	size_t n = 0, cap = 0, numbers = 0;

	for (const char *p = fdinfo; p && *p;) {
		struct item i = { 0 };
		unsigned long ino = 0;
		unsigned long long data;

		if (sscanf(p, "tfd: %d events: %x data: %llx pos:%*s ino:%lx", &i.tfd, &i.events,
			   &data, &ino) == 4 &&
		    i.tfd >= 0) {
			size_t num = (size_t)i.tfd;

			i.data = data;
			i.ino = ino;
			if (num >= numbers) {
				seen = mem_grow(seen, num * 2 + 64, sizeof(*seen));
				memset(seen + numbers, 0, (num * 2 + 64 - numbers) * sizeof(*seen));
				numbers = num * 2 + 64;
			}
			i.nth = seen[num]++;
			if (n == cap) {
				cap = cap ? cap * 2 : 64;
				items = mem_grow(items, cap, sizeof(*items));
			}
			items[n++] = i;
		}
		p = strchr(p, '\n');
		if (p)
			p++;
	}
	free(seen);
	*out = items;
	return n;
}

/* Is `x` the file of this item? The engine's own pid and descriptors are compared. */
static bool item_is(const struct ofd *ep, const struct item *i, const struct ofd *x)
{
	struct kcmp_epoll_slot slot = { .efd = (uint32_t)ep->fd,
					.tfd = (uint32_t)i->tfd,
					.toff = i->nth };

	return syscall(SYS_kcmp, getpid(), getpid(), KCMP_EPOLL_TFD, x->fd, &slot) == 0;
}

/* Descriptor numbers of one holder, so that thousands of items are found in one pass. */
struct numbers {
	struct ofd **by_num;
	int n;
};

static void numbers_of(struct dump *d, const struct task *t, struct numbers *out)
{
	out->by_num = NULL;
	out->n = 0;
	for (size_t i = 0; i < dump_ofd_count(d); i++) {
		struct ofd *x = dump_ofd_at(d, i);

		for (size_t h = 0; h < x->nholders; h++) {
			int num = x->holders[h].num;

			if (x->holders[h].task != t)
				continue;
			if (num >= out->n) {
				int n = num < 1024 ? 1024 : num * 2;

				out->by_num =
					mem_grow(out->by_num, (size_t)n, sizeof(struct ofd *));
				memset(out->by_num + out->n, 0,
				       (size_t)(n - out->n) * sizeof(struct ofd *));
				out->n = n;
			}
			if (out->by_num)
				out->by_num[num] = x;
		}
	}
}

static struct ofd *item_ofd(struct dump *d, const struct ofd *ep, const struct item *i,
			    const struct numbers *first)
{
	struct ofd *x = i->tfd >= 0 && i->tfd < first->n ? first->by_num[i->tfd] : NULL;

	/* A socket has one inode and one file: no kcmp, which walks all items each time. */
	if (x && x->st.st_ino == i->ino && (S_ISSOCK(x->st.st_mode) || item_is(ep, i, x)))
		return x;
	for (size_t k = 1; k < ep->nholders; k++) {
		x = dump_ofd(d, ep->holders[k].task, i->tfd);
		if (x && x->st.st_ino == i->ino && item_is(ep, i, x))
			return x;
	}
	for (size_t k = 0; k < dump_ofd_count(d); k++) {
		x = dump_ofd_at(d, k);
		if (x->st.st_ino == i->ino && item_is(ep, i, x))
			return x;
	}
	return NULL;
}

/* Whether anything waits to be received in a unix socket: it may carry the file. */
static bool may_be_in_flight(struct dump *d)
{
	for (size_t i = 0; i < dump_ofd_count(d); i++) {
		struct ofd *x = dump_ofd_at(d, i);
		struct pollfd p = { .fd = x->fd, .events = POLLIN };

		if (x->kind == &obj_unix && poll(&p, 1, 0) == 1 && (p.revents & POLLIN))
			return true;
	}
	return false;
}

static int epoll_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	CLEANUP_FREE struct item *items = NULL;
	size_t n = items_parse(o->fdinfo, &items);
	struct numbers first;

	numbers_of(d, o->task, &first);
	for (size_t i = 0; i < n; i++) {
		CLEANUP_FREE char *object = NULL;
		CLEANUP_FREE char *again = NULL;
		CLEANUP_FREE struct item *now = NULL;
		size_t left, k;

		if (item_ofd(d, o, &items[i], &first))
			continue;
		/* tasks run during preflight: only what is still there counts */
		again = fdinfo_read(0, o->fd);
		left = items_parse(again, &now);
		for (k = 0; k < left; k++)
			if (now[k].tfd == items[i].tfd && now[k].ino == items[i].ino)
				break;
		if (k == left || may_be_in_flight(d))
			continue;
		object = str_format("%s, item of descriptor %d", o->link, items[i].tfd);
		obj_obstacle(out, o, object,
			     "the watched file is no descriptor of the container any more",
			     "remove it with epoll_ctl(EPOLL_CTL_DEL) before closing it");
	}
	free(first.by_num);
	return 0;
}

static int epoll_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	CLEANUP_FREE char *info = fdinfo_read(0, o->fd);
	CLEANUP_FREE struct item *items = NULL;
	Cko__Epoll m = CKO__EPOLL__INIT;
	CLEANUP_FREE Cko__EpollItem *all = NULL;
	CLEANUP_FREE Cko__EpollItem **list = NULL;
	size_t n = items_parse(info, &items);
	struct numbers first;
	int rc = 0;

	numbers_of(d, o->task, &first);
	all = mem_zalloc((n + 1) * sizeof(*all));
	list = mem_zalloc((n + 1) * sizeof(Cko__EpollItem *));
	for (size_t i = 0; i < n; i++) {
		struct ofd *x = item_ofd(d, o, &items[i], &first);

		if (!x) { /* sent over a unix socket, closed, and not received yet? */
			rc = unix_gather_in_flight(d, err);
			if (rc < 0)
				break;
			x = item_ofd(d, o, &items[i], &first);
		}
		if (!x) {
			rc = error_set(
				err, ENOTSUP,
				"an epoll watches descriptor %d, whose file no process holds "
				"any more",
				items[i].tfd);
			break;
		}
		cko__epoll_item__init(&all[i]);
		all[i].tfd = items[i].tfd;
		all[i].events = items[i].events;
		all[i].data = items[i].data;
		all[i].id = x->id;
		list[i] = &all[i];
	}
	m.flags = (uint32_t)o->flags;
	m.items = list;
	m.n_items = n;
	if (rc == 0)
		obj_pack(&m.base, body);
	free(first.by_num);
	return rc;
}

static int epoll_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			 struct error *err)
{
	CLEANUP_MSG Cko__Epoll *m = obj_unpack(&cko__epoll__descriptor, body, len, err);
	CLEANUP_CLOSE int made = -1;

	(void)r;
	(void)id;
	if (!m)
		return -EBADMSG;
	made = epoll_create1(EPOLL_CLOEXEC);
	if (made < 0)
		return error_sys(err, errno, "making an epoll");
	if (fcntl(made, F_SETFL, (int)m->flags & O_NONBLOCK) < 0)
		return error_sys(err, errno, "setting the flags of an epoll");
	*fd = TAKE_FD(made);
	return 0;
}

struct adder {
	const Cko__Epoll *m;
	const int *fds; /* of the items, in the engine */
	int ep, rc;
	size_t at; /* the item that failed */
};

static int add_item(const struct adder *a, const Cko__EpollItem *i, int fd)
{
	struct epoll_event ev = { .events = i->events, .data.u64 = i->data };
	int ep = a->ep, saved = -1, saved_ep = -1, rc = 0;

	if (fd == i->tfd)
		return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
	if (ep == i->tfd) { /* the number is the epoll's own in this table: look elsewhere */
		saved_ep = fcntl(ep, F_DUPFD_CLOEXEC, i->tfd + 1);
		if (saved_ep < 0)
			return -errno;
		ep = saved_ep;
	}
	saved = fcntl(i->tfd, F_DUPFD_CLOEXEC, 0);
	if (dup3(fd, i->tfd, O_CLOEXEC) < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, i->tfd, &ev) < 0)
		rc = -errno;
	if (saved >= 0) {
		dup3(saved, i->tfd, O_CLOEXEC);
		close(saved);
	} else {
		close(i->tfd);
	}
	if (saved_ep >= 0)
		close(saved_ep);
	return rc;
}

static void *add_items(void *arg)
{
	struct adder *a = arg;

	if (unshare(CLONE_FILES) < 0) {
		a->rc = -errno;
		return NULL;
	}
	for (; a->at < a->m->n_items && a->rc == 0; a->at++)
		a->rc = add_item(a, a->m->items[a->at], a->fds[a->at]);
	return NULL;
}

/* The task that holds both the epoll and the watched file under their numbers. */
static struct task *item_holder(struct restore *r, uint32_t id, const Cko__EpollItem *it, int *ep)
{
	struct task *t, *x;
	int num;

	for (size_t i = 0; restore_holder(r, id, i, &t, ep); i++)
		for (size_t k = 0; restore_holder(r, it->id, k, &x, &num); k++)
			if (x == t && num == (int)it->tfd)
				return t;
	return NULL;
}

/*
 * Adds what can be added from inside a task: a signalfd tells an epoll of the signals of
 * the process that called epoll_ctl(), so that must be the right one. What is left in
 * m->items no task holds any more.
 */
static int add_remotely(struct restore *r, uint32_t id, Cko__Epoll *m, struct error *err)
{
	size_t left = 0;

	for (size_t i = 0; i < m->n_items; i++) {
		Cko__EpollItem *it = m->items[i];
		struct epoll_event ev = { .events = it->events, .data.u64 = it->data };
		int ep;
		struct task *t = item_holder(r, id, it, &ep);
		unsigned long at = t ? remote_scratch(t) : 0;
		long n = -ENOMEM;

		if (!t) {
			m->items[i] = m->items[left];
			m->items[left++] = it;
			continue;
		}
		if (at)
			n = remote_write(t, at, &ev, sizeof(ev));
		if (n == 0)
			n = remote_syscall(t, SYS_epoll_ctl, (unsigned long)ep, EPOLL_CTL_ADD,
					   (unsigned long)it->tfd, at, 0, 0);
		if (n < 0)
			return error_sys(err, (int)-n, "adding descriptor %d to an epoll", it->tfd);
	}
	return (int)left;
}

static int epoll_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
		      struct error *err)
{
	CLEANUP_MSG Cko__Epoll *m = obj_unpack(&cko__epoll__descriptor, body, len, err);
	CLEANUP_FREE int *fds = NULL;
	struct adder a = { .ep = fd };
	struct rlimit rl;
	size_t all = m ? m->n_items : 0;
	pthread_t t;
	int n;

	if (!m)
		return -EBADMSG;
	n = add_remotely(r, id, m, err);
	if (n <= 0)
		return n;
	m->n_items = (size_t)n; /* the rest is only moved behind them */
	fds = mem_zalloc(m->n_items * sizeof(*fds));
	for (size_t i = 0; i < m->n_items; i++) {
		fds[i] = restore_fd(r, m->items[i]->id, err);
		if (fds[i] < 0)
			n = error_wrap(err, "descriptor %d of an epoll", m->items[i]->tfd);
	}
	if (n < 0) {
		m->n_items = all;
		return n;
	}
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	a.m = m;
	a.fds = fds;
	n = pthread_create(&t, NULL, add_items, &a);
	if (n == 0)
		pthread_join(t, NULL);
	m->n_items = all;
	if (n)
		return error_sys(err, n, "starting a thread");
	if (a.rc < 0)
		return error_sys(err, -a.rc, "adding descriptor %d to an epoll",
				 m->items[a.at ? a.at - 1 : 0]->tfd);
	return 0;
}

const struct object_type obj_epoll = {
	.type = "epoll",
	.claims = epoll_claims,
	.check = epoll_check,
	.dump = epoll_dump,
	.restore = epoll_restore,
	.late = epoll_late,
};
