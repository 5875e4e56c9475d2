/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is at the other end of a unix connection (SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD),
 * on the destination. The kernel notes it of whoever calls:
 *
 *   listen(2)    what clients see: of the caller
 *   connect(2)   what the accepted end sees: of the caller
 *   socketpair   both ends see the caller
 *
 * So the process that was noted makes the call, under the ids that it had then; where it is
 * gone the engine does, and its number reads 0. A connection whose ends see different
 * processes goes through a listener of its own with the right name, in a tmpfs that nobody
 * sees: an accepted end bears the name of its listener.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/obj_unix.h"

struct unix_who unix_peer_of(const Cko__Unix *m)
{
	return (struct unix_who){ m->peer_vpid, m->peer_uid, m->peer_gid, m->peer_groups,
				  m->n_peer_groups };
}

struct unix_who unix_own_of(const Cko__Unix *m)
{
	return (struct unix_who){ m->own_vpid, m->own_uid, m->own_gid, m->own_groups,
				  m->n_own_groups };
}

bool unix_who_same(const struct unix_who *a, const struct unix_who *b)
{
	return a->vpid == b->vpid && a->uid == b->uid && a->gid == b->gid &&
	       a->ngroups == b->ngroups &&
	       (!a->ngroups || memcmp(a->groups, b->groups, a->ngroups * sizeof(*a->groups)) == 0);
}

/*
 * The effective ids are what is noted; real and saved ones lead back. All of them get
 * their final values later.
 */
long unix_act_as(struct task *t, const struct unix_who *w, long nr, unsigned long a,
		 unsigned long b, unsigned long c, unsigned long d)
{
	unsigned long at = remote_scratch(t) + REMOTE_SCRATCH / 2;
	size_t size = w->ngroups * sizeof(*w->groups);
	long n = at == REMOTE_SCRATCH / 2 ? -ESRCH : size > REMOTE_SCRATCH / 2 ? -E2BIG : 0;

	if (n == 0 && size)
		n = remote_write(t, at, w->groups, size);
	if (n == 0)
		n = remote_syscall(t, SYS_setgroups, w->ngroups, at, 0, 0, 0, 0);
	if (n == 0 && w->gid)
		n = remote_syscall(t, SYS_setresgid, -1ul, w->gid, -1ul, 0, 0, 0);
	if (n == 0 && w->uid)
		n = remote_syscall(t, SYS_setresuid, -1ul, w->uid, -1ul, 0, 0, 0);
	if (n == 0)
		n = remote_syscall(t, nr, a, b, c, d, 0, 0);
	if (w->uid)
		remote_syscall(t, SYS_setresuid, -1ul, 0, -1ul, 0, 0, 0);
	if (w->gid)
		remote_syscall(t, SYS_setresgid, -1ul, 0, -1ul, 0, 0, 0);
	return n;
}

/* The same for a thread of the engine that ends soon: no libc, which means all threads. */
static int become(const struct unix_who *w)
{
	if (syscall(SYS_setgroups, w->ngroups, w->groups) < 0 ||
	    syscall(SYS_setresgid, -1, w->gid, -1) < 0 ||
	    syscall(SYS_setresuid, -1, w->uid, -1) < 0)
		return -errno;
	return 0;
}

static void drop(struct task *t, int num)
{
	if (num >= 0)
		remote_syscall(t, SYS_close, (unsigned long)num, 0, 0, 0, 0, 0);
}

/* --- listening ------------------------------------------------------------------------------ */
struct listening {
	int fd, backlog;
	const struct unix_who *who;
};

static int act_listen(void *arg)
{
	const struct listening *l = arg;
	int n = become(l->who);

	return n < 0 ? n : listen(l->fd, l->backlog) < 0 ? -errno : 0;
}

int unix_listen_as(struct restore *r, int fd, int backlog, const struct unix_who *w)
{
	struct listening l = { fd, backlog, w };
	struct task *t = w->vpid ? restore_task(r, w->vpid) : NULL;
	struct error err = { 0 };
	int num = t ? remote_send_fd(t, fd, &err) : -ESRCH;
	long n = num < 0 ? num
			 : unix_act_as(t, w, SYS_listen, (unsigned long)num, (unsigned long)backlog,
				       0, 0);

	if (t)
		drop(t, num);
	return n == 0 ? 0 : restore_in_netns(r, act_listen, &l, &err);
}

/* --- connections -------------------------------------------------------------------------------
 */
/* A listener with the name that accepted ends are to have; one serves all that fit. */
static struct door {
	struct sockaddr_un un;
	socklen_t len;
	int type, fd;
	int dir; /* O_PATH, of a path: the folder in which it is */
	struct unix_who who;
} * doors;
static size_t ndoors;

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* In a thread with a root of its own: what is bound there nobody sees. */
static int act_door(void *arg)
{
	struct door *d = arg;
	char folder[sizeof(d->un.sun_path) + 2];
	CLEANUP_CLOSE int tmpfs = -1;

	if (!d->un.sun_path[0])
		return bind(d->fd, (struct sockaddr *)&d->un, d->len) < 0 ? -errno : 0;
	tmpfs = obj_own_tmpfs(NULL);
	if (tmpfs < 0 || unshare(CLONE_FS) < 0 || fchdir(tmpfs) < 0 || chroot(".") < 0)
		return tmpfs < 0 ? tmpfs : -errno;
	unix_make_folders(d->un.sun_path);
	if (bind(d->fd, (struct sockaddr *)&d->un, d->len) < 0)
		return -errno;
	snprintf(folder, sizeof(folder), "./%.*s", (int)(base_of(d->un.sun_path) - d->un.sun_path),
		 d->un.sun_path);
	d->dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* whoever connects may do so */
	if (d->dir < 0 || fchmodat(d->dir, base_of(d->un.sun_path), 0777, 0) < 0 ||
	    fchmodat(d->dir, ".", 0755, 0) < 0)
		return -errno;
	return 0;
}

static void door_close(struct door *d)
{
	if (d->fd >= 0)
		close(d->fd);
	if (d->dir >= 0)
		close(d->dir);
}

static struct door *door_of(struct restore *r, int type, const struct sockaddr_un *un,
			    socklen_t len, const struct unix_who *who)
{
	struct door d = { .un = *un, .len = len, .type = type, .fd = -1, .dir = -1, .who = *who };

	for (size_t i = 0; i < ndoors; i++)
		if (doors[i].type == type && doors[i].len == len &&
		    memcmp(&doors[i].un, un, sizeof(*un)) == 0 && unix_who_same(&doors[i].who, who))
			return &doors[i];
	d.fd = unix_make_one(r, type, NULL);
	if (d.fd < 0 || restore_in_netns(r, act_door, &d, NULL) < 0 ||
	    unix_listen_as(r, d.fd, 1, who) < 0 || fcntl(d.fd, F_SETFL, O_NONBLOCK) < 0) {
		door_close(&d);
		return NULL;
	}
	/* it is compared when the message that it came with is gone */
	d.who.groups = memcpy(mem_zalloc((who->ngroups + 1) * sizeof(*who->groups)),
			      who->ngroups ? who->groups : &(uint32_t){ 0 },
			      who->ngroups * sizeof(*who->groups));
	doors = mem_grow(doors, ndoors + 1, sizeof(*doors));
	doors[ndoors] = d;
	return &doors[ndoors++];
}

void unix_doors_close(void)
{
	for (size_t i = 0; i < ndoors; i++) {
		door_close(&doors[i]);
		free((void *)(uintptr_t)doors[i].who.groups);
	}
	free(doors);
	doors = NULL;
	ndoors = 0;
}

struct connecting {
	int fd, dir;
	struct sockaddr_un un; /* from that folder */
	socklen_t len;
	const struct unix_who *who;
};

static int act_connect_as(void *arg)
{
	const struct connecting *c = arg;
	int n = 0;

	if (c->dir >= 0 && (unshare(CLONE_FS) < 0 || fchdir(c->dir) < 0))
		n = -errno;
	if (n == 0)
		n = become(c->who);
	return n < 0 ? n : connect(c->fd, (const struct sockaddr *)&c->un, c->len) < 0 ? -errno : 0;
}

/* In the process: its folder is another for the length of the call. */
static long connect_in(struct task *t, const struct connecting *c)
{
	struct error err = { 0 };
	int num = remote_send_fd(t, c->fd, &err), dir = -1;
	unsigned long at = remote_scratch(t);
	long here = -1, n = num < 0 ? num : !at ? -ESRCH : 0;

	if (n == 0 && c->dir >= 0)
		n = dir = remote_send_fd(t, c->dir, &err);
	if (n >= 0 && c->dir >= 0) {
		n = remote_write(t, at, ".", 2);
		if (n == 0)
			n = here = remote_syscall(t, SYS_openat, (unsigned long)AT_FDCWD, at,
						  O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0, 0);
		if (n >= 0)
			n = remote_syscall(t, SYS_fchdir, (unsigned long)dir, 0, 0, 0, 0, 0);
	}
	if (n >= 0)
		n = remote_write(t, at, &c->un, sizeof(c->un));
	if (n >= 0)
		n = unix_act_as(t, c->who, SYS_connect, (unsigned long)num, at, c->len, 0);
	if (here >= 0)
		remote_syscall(t, SYS_fchdir, (unsigned long)here, 0, 0, 0, 0, 0);
	drop(t, (int)here);
	drop(t, dir);
	drop(t, num);
	return n;
}

int unix_connect_fd_as(struct restore *r, int fd, const struct sockaddr_un *name, socklen_t len,
		       const struct unix_who *client)
{
	struct connecting c = { .fd = fd, .dir = -1, .un = *name, .len = len, .who = client };
	struct task *t = client->vpid ? restore_task(r, client->vpid) : NULL;

	return t ? (int)connect_in(t, &c) : -ESRCH;
}

int unix_connect_as(struct restore *r, int type, const struct sockaddr_un *name, socklen_t len,
		    const struct unix_who *listener, const struct unix_who *client, int *near,
		    int *far)
{
	struct door *d = door_of(r, type, name, len, listener);
	struct connecting c = { .un = *name, .len = len, .who = client };
	struct task *t = client->vpid ? restore_task(r, client->vpid) : NULL;
	CLEANUP_CLOSE int fd = d ? unix_make_one(r, type, NULL) : -ENOENT;
	long n = -ESRCH;

	if (fd < 0)
		return fd;
	c.fd = fd;
	c.dir = d->dir;
	if (name->sun_path[0]) {
		size_t path = strnlen(name->sun_path, sizeof(name->sun_path));
		const char *base = base_of(name->sun_path);
		size_t base_len = path - (size_t)(base - name->sun_path);

		memset(c.un.sun_path, 0, sizeof(c.un.sun_path));
		memcpy(c.un.sun_path, base, base_len);
		c.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + base_len +
				    (base_len < sizeof(c.un.sun_path)));
	}
	if (t)
		n = connect_in(t, &c);
	if (n < 0)
		n = restore_in_netns(r, act_connect_as, &c, NULL);
	if (n < 0)
		return (int)n;
	*far = accept4(d->fd, NULL, NULL, SOCK_CLOEXEC);
	if (*far < 0)
		return -errno;
	*near = TAKE_FD(fd);
	return 0;
}
