/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File locks, as /proc/PID/fdinfo shows them:
 *
 *   lock:	1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF
 *   lock:	1: POSIX  ADVISORY  READ  359 08:01:42 100 199
 *   lock:	1: OFDLCK ADVISORY  WRITE -1 08:01:42 0 EOF
 *   lock:	1: LEASE  ACTIVE    READ  359 08:01:42 0 EOF
 *
 * flock and OFD locks belong to the description: the engine takes them again through its
 * duplicate. POSIX locks belong to a process, and show only in the fdinfo of the
 * descriptor through which they were taken: each holder is asked, and takes them again.
 */
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"

struct line {
	char type[16], mode[16], access[16];
	uint64_t start, len;
};

/* Parses the value of one "lock:" line. 0, or -EINVAL. */
static int line_parse(const char *v, struct line *l)
{
	char end[32], start[32];
	char *rest;

	if (sscanf(v, "%*[0-9]: %15s %15s %15s %*s %*s %31s %31s", l->type, l->mode, l->access,
		   start, end) != 5)
		return -EINVAL;
	l->start = strtoull(start, &rest, 10);
	if (*rest)
		return -EINVAL;
	l->len = 0;
	if (strncmp(end, "EOF", 3) != 0)
		l->len = strtoull(end, NULL, 10) - l->start + 1;
	return 0;
}

/* Calls fn for every lock line; stops at the first non-zero result. */
static int lines_each(const char *fdinfo, int (*fn)(void *ctx, const char *line), void *ctx)
{
	for (const char *p = fdinfo; p && *p;) {
		int n = strncmp(p, "lock:", 5) == 0 ? fn(ctx, p + 5 + strspn(p + 5, " \t")) : 0;

		if (n)
			return n;
		p = strchr(p, '\n');
		if (p)
			p++;
	}
	return 0;
}

struct check {
	const struct ofd *o;
	struct obstacles *out;
};

/*
 * Whether this very inode is opened to be copied: in a tmpfs, or without a name. Files of
 * the writable layer are copied from underneath the overlay, where the lease is not.
 */
static bool content_travels(const struct ofd *o)
{
	struct statfs fs;

	return str_ends(o->link, " (deleted)") || fstatfs(o->fd, &fs) < 0 ||
	       fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
}

static int line_check(void *ctx, const char *v)
{
	struct check *c = ctx;
	struct line l;

	if (line_parse(v, &l) < 0) {
		obj_obstacle(c->out, c->o, c->o->link,
			     "it has a lock of a kind ferry does not know", "release the lock");
	} else if (strcmp(l.type, "LEASE") == 0 && strcmp(l.mode, "ACTIVE") != 0) {
		obj_obstacle(c->out, c->o, c->o->link, "a lease on it is being broken",
			     "try again when the lease is given back");
	} else if (strcmp(l.type, "LEASE") == 0 && strcmp(l.access, "READ") != 0 &&
		   content_travels(c->o)) {
		obj_obstacle(
			c->out, c->o, c->o->link,
			"it has a write lease, which copying the file would break",
			"give the lease back (fcntl F_SETLEASE, F_UNLCK), use a read lease, or "
			"keep the file on a volume");
	} else if (strcmp(l.type, "FLOCK") != 0 && strcmp(l.type, "POSIX") != 0 &&
		   strcmp(l.type, "OFDLCK") != 0 && strcmp(l.type, "LEASE") != 0) {
		obj_obstacle(c->out, c->o, c->o->link, "it has a delegation or another server lock",
			     "release the lock");
	}
	return 0;
}

void obj_locks_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	struct check c = { .o = o, .out = out };

	(void)d;
	if (!(o->flags & O_PATH))
		lines_each(o->fdinfo, line_check, &c);
}

struct collect {
	Cko__Lock **locks;
	size_t n;
	bool first; /* of the holders: locks of the description are taken from it alone */
	struct task *task;
	int num;
	struct error *err;
};

static int line_collect(void *ctx, const char *v)
{
	struct collect *c = ctx;
	struct line l;
	Cko__Lock *k;
	Cko__LockKind kind;

	if (line_parse(v, &l) < 0)
		return error_set(c->err, ENOTSUP, "unknown lock: %.60s", v);
	if (strcmp(l.type, "FLOCK") == 0)
		kind = CKO__LOCK_KIND__LOCK_FLOCK;
	else if (strcmp(l.type, "OFDLCK") == 0)
		kind = CKO__LOCK_KIND__LOCK_OFD;
	else if (strcmp(l.type, "POSIX") == 0)
		kind = CKO__LOCK_KIND__LOCK_POSIX;
	else if (strcmp(l.type, "LEASE") == 0 && strcmp(l.mode, "ACTIVE") == 0)
		kind = CKO__LOCK_KIND__LOCK_LEASE;
	else
		return error_set(c->err, ENOTSUP, "a lock that cannot travel: %.60s", v);
	if (!c->first && kind != CKO__LOCK_KIND__LOCK_POSIX)
		return 0;
	k = mem_zalloc(sizeof(*k));
	cko__lock__init(k);
	k->kind = kind;
	k->write = strcmp(l.access, "WRITE") == 0;
	k->start = l.start;
	k->len = l.len;
	k->vpid = c->task ? task_vpid(c->task) : 0;
	k->num = c->num;
	c->locks = mem_grow(c->locks, c->n + 1, sizeof(Cko__Lock *));
	c->locks[c->n++] = k;
	return 0;
}

int obj_locks_dump(struct dump *d, const struct ofd *o, Cko__Lock ***out, size_t *n,
		   struct error *err)
{
	struct collect c = { .first = true, .err = err };
	int rc = 0;

	(void)d;
	*out = NULL;
	*n = 0;
	if (o->flags & O_PATH)
		return 0;
	for (size_t i = 0; i < o->nholders && rc == 0; i++, c.first = false) {
		CLEANUP_FREE char *text =
			fdinfo_read(task_pid(o->holders[i].task), o->holders[i].num);

		c.task = o->holders[i].task;
		c.num = o->holders[i].num;
		rc = lines_each(text, line_collect, &c);
	}
	if (!o->nholders) /* in flight only: no process can own a lock through it */
		rc = lines_each(o->fdinfo, line_collect, &c);
	if (rc < 0) {
		obj_locks_free(c.locks, c.n);
		return error_wrap(err, "locks of %s", o->link);
	}
	*out = c.locks;
	*n = c.n;
	return 0;
}

void obj_locks_free(Cko__Lock **locks, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(locks[i]);
	free(locks);
}

int obj_locks_restore(int fd, Cko__Lock *const *locks, size_t n, struct error *err)
{
	for (size_t i = 0; i < n; i++) {
		const Cko__Lock *k = locks[i];
		struct flock fl = { .l_type = k->write ? F_WRLCK : F_RDLCK,
				    .l_whence = SEEK_SET,
				    .l_start = (off_t)k->start,
				    .l_len = (off_t)k->len };

		if (k->kind == CKO__LOCK_KIND__LOCK_FLOCK &&
		    flock(fd, (k->write ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0)
			return error_sys(err, errno, "taking its flock again");
		if (k->kind == CKO__LOCK_KIND__LOCK_OFD && fcntl(fd, F_OFD_SETLK, &fl) < 0)
			return error_sys(err, errno, "taking its OFD lock again");
	}
	return 0;
}

int obj_locks_late(struct restore *r, Cko__Lock *const *locks, size_t n, struct error *err)
{
	for (size_t i = 0; i < n; i++) {
		const Cko__Lock *k = locks[i];
		bool lease = k->kind == CKO__LOCK_KIND__LOCK_LEASE;
		struct flock fl = { .l_type = k->write ? F_WRLCK : F_RDLCK,
				    .l_whence = SEEK_SET,
				    .l_start = (off_t)k->start,
				    .l_len = (off_t)k->len };
		unsigned long at = 0;
		struct task *t;
		long rc;

		if (k->kind != CKO__LOCK_KIND__LOCK_POSIX && !lease)
			continue;
		t = restore_task(r, k->vpid);
		if (!t)
			return error_set(err, ESRCH, "process %d, owner of a lock, is not there",
					 k->vpid);
		if (!lease) {
			at = remote_scratch(t);
			if (!at || remote_write(t, at, &fl, sizeof(fl)) < 0)
				return error_set(err, EFAULT, "no scratch memory in process %d",
						 k->vpid);
		}
		rc = remote_syscall(t, SYS_fcntl, (unsigned long)k->num,
				    lease ? F_SETLEASE : F_SETLK,
				    lease ? (unsigned long)fl.l_type : at, 0, 0, 0);
		if (rc < 0)
			return error_sys(err, (int)-rc, "process %d taking its %s again", k->vpid,
					 lease ? "lease" : "POSIX lock");
	}
	return 0;
}
