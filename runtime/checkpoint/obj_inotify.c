/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inotify: watches by path, under their old numbers. fdinfo shows each as
 *
 *   inotify wd:3 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8 …
 *
 * with the inode of the watched file; the path is found by opening the file handle where
 * the file system has decodable ones, else by looking for the inode. Preflight does that
 * search; the freeze only checks what it found. Events that wait to be read are made to
 * happen again at the destination (obj_inotify.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/obj_inotify.h"
#include "runtime/checkpoint/obj_types.h"
#include "runtime/checkpoint/peek.h"

/* Without SET_NEXT_WD numbers are given in turn: reaching one means adding and removing all
 * below it. */
#define WD_MAX 100000

static bool can_set_next(void)
{
	CLEANUP_CLOSE int fd = inotify_init1(IN_CLOEXEC);

	return fd >= 0 && ioctl(fd, SET_NEXT_WD, 1) == 0;
}

struct watch {
	int wd;
	uint32_t mask;
	ino_t ino;
	dev_t dev;
};

static bool inotify_claims(const struct ofd *o)
{
	/* the kernel's own name for it has no brackets */
	return strcmp(o->link, "anon_inode:inotify") == 0 ||
	       strcmp(o->link, "anon_inode:[inotify]") == 0;
}

static int by_wd(const void *a, const void *b)
{
	const struct watch *x = a, *y = b;

	return x->wd < y->wd ? -1 : x->wd > y->wd;
}

static size_t watches_parse(const char *fdinfo, struct watch **out)
{
	struct watch *w = NULL;
	size_t n = 0;

	for (const char *p = fdinfo; p && *p;) {
		unsigned long ino;
		unsigned int sdev, mask;
		int wd;

		if (sscanf(p, "inotify wd:%x ino:%lx sdev:%x mask:%x", (unsigned int *)&wd, &ino,
			   &sdev, &mask) == 4) {
			w = mem_grow(w, n + 1, sizeof(*w));
			/* the kernel's own dev_t: 12 bits major, 20 bits minor */
			w[n++] = (struct watch){ wd, mask, ino,
						 makedev(sdev >> 20, sdev & 0xfffff) };
		}
		p = strchr(p, '\n');
		if (p)
			p++;
	}
	if (n)
		qsort(w, n, sizeof(*w), by_wd);
	*out = w;
	return n;
}

static int inotify_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	CLEANUP_FREE struct watch *w = NULL;
	size_t n = watches_parse(o->fdinfo, &w);

	for (size_t i = 0; i < n; i++) {
		CLEANUP_FREE char *path =
			obj_path_of_inode(dump_root_fd(d), w[i].dev, w[i].ino, NULL);
		CLEANUP_FREE char *object = NULL;

		if (path && (w[i].wd <= WD_MAX || can_set_next()))
			continue;
		object = str_format("inotify watch %d (inode %lu)", w[i].wd,
				    (unsigned long)w[i].ino);
		obj_obstacle(out, o, object,
			     path ? "its number is too high to be reached again"
				  : "no path of the container leads to what it watches",
			     path ? "restart the program"
				  : "remove the watch (inotify_rm_watch) of the deleted file");
	}
	obj_owner_check(d, o, out);
	peek_load(PEEK_INOTIFY, NULL); /* not in the pause */
	return 0;
}

/*
 * The number that the next watch will get: of one that is made and taken away again, with
 * what is told of it. Nothing else is in the queue, and nobody looks.
 */
static int next_wd(int fd)
{
	CLEANUP_CLOSE int file = memfd_create("ferry-watched", MFD_CLOEXEC);
	char path[40], buf[512] __attribute__((aligned(8)));
	int wd, queued = 0;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	if (file < 0 || !can_set_next())
		return 0;
	wd = inotify_add_watch(fd, path, IN_DELETE_SELF);
	if (wd < 0)
		return 0;
	inotify_rm_watch(fd, wd);
	while (ioctl(fd, FIONREAD, &queued) == 0 && queued > 0 && read(fd, buf, sizeof(buf)) > 0)
		;
	ioctl(fd, SET_NEXT_WD, wd);
	return wd;
}

static int inotify_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cko__Inotify m = CKO__INOTIFY__INIT;
	CLEANUP_FREE char *info = fdinfo_read(0, o->fd);
	CLEANUP_FREE struct watch *w = NULL;
	size_t n = watches_parse(info, &w);
	int queued = 0, rc = 0;

	if (ioctl(o->fd, FIONREAD, &queued) < 0)
		return error_sys(err, errno, "asking for inotify events");
	m.flags = (uint32_t)o->flags;
	if (!queued)
		m.next = next_wd(o->fd);
	m.watches = mem_zalloc((n + 1) * sizeof(Cko__InotifyWatch *));
	for (size_t i = 0; i < n && rc == 0; i++) {
		Cko__InotifyWatch *x = mem_zalloc(sizeof(*x));

		cko__inotify_watch__init(x);
		m.watches[m.n_watches++] = x;
		x->wd = w[i].wd;
		x->mask = w[i].mask;
		x->path = obj_path_of_inode(dump_root_fd(d), w[i].dev, w[i].ino, NULL);
		if (!x->path) {
			x->path = str_dup("");
			rc = error_set(err, ENOTSUP,
				       "no path leads to what inotify watch %d watches", w[i].wd);
		}
	}
	if (rc == 0 && queued)
		rc = inotify_queue_dump(d, o->fd, &m, err);
	if (rc == 0)
		rc = obj_owner_dump(d, o, &m.owner, err);
	if (rc == 0)
		obj_pack(&m.base, body);
	for (size_t i = 0; i < m.n_watches; i++) {
		free(m.watches[i]->path);
		free(m.watches[i]);
	}
	inotify_queue_free(&m);
	free(m.watches);
	free(m.owner);
	return rc;
}

/* --- destination ------------------------------------------------------------------------ */
/* Those whose watches are deaf until the end. */
static struct waiting {
	uint32_t id;
	Cko__Inotify *m;
} * waiting;
static size_t nwaiting;

static int inotify_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			   struct error *err)
{
	CLEANUP_MSG Cko__Inotify *m = obj_unpack(&cko__inotify__descriptor, body, len, err);
	int n = 0;

	if (!m)
		return -EBADMSG;
	*fd = inotify_init1(IN_CLOEXEC | ((int)m->flags & O_NONBLOCK));
	if (*fd < 0)
		return error_sys(err, errno, "making an inotify descriptor");
	if (m->n_events) {
		n = inotify_replay(r, *fd, m, err);
		if (n < 0) {
			close(TAKE_FD(*fd));
			return n;
		}
		waiting = mem_grow(waiting, nwaiting + 1, sizeof(*waiting));
		waiting[nwaiting++] = (struct waiting){ id, TAKE_PTR(m) };
	}
	return n;
}

static int watch_add(struct restore *r, int fd, const Cko__InotifyWatch *w, struct error *err)
{
	CLEANUP_CLOSE int at =
		obj_open_in_root(restore_root_fd(r), w->path, O_PATH | O_NOFOLLOW, 0, 0);
	char path[40];

	if (at < 0)
		return error_sys(err, -at, "opening %s, which is watched", w->path);
	/* what was watched is the inode itself, a symlink's too: /proc leads there */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", at);
	ioctl(fd, SET_NEXT_WD, w->wd);
	for (int last = 0;;) {
		int wd = inotify_add_watch(fd, path, w->mask & ~(uint32_t)IN_DONT_FOLLOW);

		if (wd < 0)
			return error_sys(err, errno, "watching %s", w->path);
		if (wd == w->wd)
			return 0;
		inotify_rm_watch(fd, wd);
		if (wd > w->wd || wd <= last)
			return error_set(err, EBUSY, "watch %d of %s came out as %d", w->wd,
					 w->path, wd);
		last = wd;
	}
}

static int inotify_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
			struct error *err)
{
	CLEANUP_MSG Cko__Inotify *m = obj_unpack(&cko__inotify__descriptor, body, len, err);

	if (!m)
		return -EBADMSG;
	for (size_t i = 0; i < m->n_watches && !m->n_events; i++) {
		int n = watch_add(r, fd, m->watches[i], err);

		if (n < 0)
			return n;
	}
	if (m->next && !m->n_events)
		ioctl(fd, SET_NEXT_WD, m->next);
	return obj_owner_late(r, id, m->owner, err);
}

/* Where the queue was empty at the source, what is in it now came from the building here. */
static int inotify_finish(struct restore *r, uint32_t id, int fd, struct error *err)
{
	char buf[8192] __attribute__((aligned(8)));
	int queued = 0;

	for (size_t i = 0; i < nwaiting; i++)
		if (waiting[i].id == id) {
			CLEANUP_MSG Cko__Inotify *m = waiting[i].m;

			waiting[i] = waiting[--nwaiting];
			return inotify_replay_end(r, fd, m, err);
		}
	while (ioctl(fd, FIONREAD, &queued) == 0 && queued > 0 && read(fd, buf, sizeof(buf)) > 0)
		;
	return 0;
}

const struct object_type obj_inotify = {
	.type = "inotify",
	.claims = inotify_claims,
	.check = inotify_check,
	.dump = inotify_dump,
	.restore = inotify_restore,
	.late = inotify_late,
	.finish = inotify_finish,
};
