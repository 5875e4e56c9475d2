/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inotify events that nobody had read, on the destination. The kernel has no way of putting
 * one into a queue, so each is made to happen: the watches are added deaf, one alone is made
 * to hear one kind of event, something is done that the kernel reports in just these words,
 * and it is deaf again. Other watches on the same files hear nothing of it.
 *
 *   told of                           done
 *   a file's times, content, opening  the same times set again; the file opened, read, closed
 *   a name in a folder                a scratch file gets that name, moves or goes; a file that
 *                                     has the name today steps aside meanwhile
 *   a watch that is gone              the like in a tmpfs of the engine's own, whose watch
 *                                     has the old number and is removed in turn
 *
 * After each the queue must have grown by exactly that event. All of it lies before the
 * commit: a destination that fails here has changed nothing that counts.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/obj_inotify.h"

#define DEAF  IN_EXCL_UNLINK /* a flag alone: the kernel wants one bit at least */
#define ASIDE ".ferry-aside-%d"

/* What a watch with events stands on. */
struct spot {
	int32_t wd;
	const char *path; /* in the container; NULL: of the engine's own */
	int self;	  /* O_PATH */
	struct stat st;
	bool renamed; /* names in this folder were changed: its time is to be put back */
};

struct replay {
	int fd, root, own;
	const Cko__Inotify *m;
	struct spot *spots; /* room for one of each event */
	size_t n;
};

static void replay_free(struct replay *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->spots[i].self >= 0)
			close(p->spots[i].self);
	free(p->spots);
	if (p->own >= 0)
		close(p->own);
}

static int queued(int fd)
{
	int n = 0;

	return ioctl(fd, FIONREAD, &n) < 0 ? -errno : n;
}

/* Adds a watch, or changes what it hears; its number or -errno. */
static int hear(const struct replay *p, int self, uint32_t mask)
{
	char path[40];
	int wd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self);
	wd = inotify_add_watch(p->fd, path, mask);
	return wd < 0 ? -errno : wd;
}

static int add_deaf(const struct replay *p, int self, int32_t wd, struct error *err)
{
	int n = ioctl(p->fd, SET_NEXT_WD, wd) < 0 ? -errno : hear(p, self, DEAF);

	if (n < 0)
		return error_sys(err, -n, "adding inotify watch %d", wd);
	return n == wd ? 0 : error_set(err, EBUSY, "inotify watch %d came out as %d", wd, n);
}

static struct spot *spot_add(struct replay *p, int32_t wd, const char *path, int self)
{
	struct spot *s = &p->spots[p->n++];

	*s = (struct spot){ .wd = wd, .path = path, .self = self };
	fstat(self, &s->st);
	return s;
}

static bool has_events(const Cko__Inotify *m, int32_t wd)
{
	for (size_t i = 0; i < m->n_events; i++)
		if (m->events[i]->wd == wd)
			return true;
	return false;
}

/* The path as one string, for calls that take no descriptor. */
static char *path_below(int root, const char *path)
{
	return str_format("/proc/self/fd/%d/%s", root, path);
}

static int add_watch(struct replay *p, const Cko__InotifyWatch *w, struct error *err)
{
	CLEANUP_CLOSE int at = obj_open_in_root(p->root, w->path, O_PATH | O_NOFOLLOW, 0, 0);
	CLEANUP_FREE char *text = path_below(p->root, w->path);
	struct stat a, b;
	int n;

	if (at < 0)
		return error_sys(err, -at, "opening %s, which is watched", w->path);
	if (fstat(at, &a) < 0 || lstat(text, &b) < 0 || a.st_dev != b.st_dev ||
	    a.st_ino != b.st_ino)
		return error_set(err, ENOTSUP, "%s, which is watched, lies behind a link", w->path);
	n = add_deaf(p, at, w->wd, err);
	if (n == 0 && has_events(p->m, w->wd))
		spot_add(p, w->wd, w->path, TAKE_FD(at));
	return n;
}

/* --- watches that are gone --------------------------------------------------------------- */
static int make(int dir, const char *name, bool folder)
{
	int n = folder ? mkdirat(dir, name, 0700) : mknodat(dir, name, S_IFREG | 0600, 0);

	return n < 0 ? -errno : 0;
}

static int drop(int dir, const char *name, bool folder)
{
	return unlinkat(dir, name, folder ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
}

/* A folder where any event of that watch until its end has a name, or says so. */
static bool was_folder(const Cko__Inotify *m, size_t from)
{
	int32_t wd = m->events[from]->wd;

	for (size_t i = from; i < m->n_events; i++) {
		const Cko__InotifyEvent *e = m->events[i];

		if (e->wd == wd && (e->mask & IN_IGNORED))
			break;
		if (e->wd == wd && (e->name.len || (e->mask & IN_ISDIR)))
			return true;
	}
	return false;
}

static void own_name(char *name, size_t size, int32_t wd)
{
	snprintf(name, size, "watched-%d", wd);
}

static struct spot *spot_of(struct replay *p, size_t event, struct error *err)
{
	int32_t wd = p->m->events[event]->wd;
	char name[32];
	int self, n;

	for (size_t i = 0; i < p->n; i++)
		if (p->spots[i].wd == wd && p->spots[i].self >= 0)
			return &p->spots[i];
	own_name(name, sizeof(name), wd);
	if (p->own < 0)
		p->own = obj_own_tmpfs(err);
	if (p->own < 0)
		return NULL;
	n = make(p->own, name, was_folder(p->m, event));
	self = n < 0 ? n : openat(p->own, name, O_PATH | O_CLOEXEC);
	if (self < 0) {
		error_sys(err, n < 0 ? -n : errno, "making a file for inotify events");
		return NULL;
	}
	if (add_deaf(p, self, wd, err) < 0) {
		close(self);
		return NULL;
	}
	return spot_add(p, wd, NULL, self);
}

/* --- one event ----------------------------------------------------------------------------- */
/* Of an open file, or what `name` leads to (empty: what fd stands for). */
struct target {
	const struct replay *p;
	struct spot *s;
	const char *name;
	bool folder;
};

static int target_open(const struct target *t, int flags)
{
	char path[40];
	int fd;

	flags |= O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (t->folder ? O_DIRECTORY : 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", t->s->self);
	fd = *t->name ? openat(t->s->self, t->name, flags | O_NOFOLLOW) : open(path, flags);
	return fd < 0 ? -errno : fd;
}

/* Sets the times that it has: `which` of them is what the kernel reports by. */
static int touch_times(const struct target *t, uint32_t which)
{
	char path[40];
	struct stat st;
	struct timespec times[2];
	bool named = *t->name;
	int n = named ? fstatat(t->s->self, t->name, &st, AT_SYMLINK_NOFOLLOW)
		      : fstat(t->s->self, &st);

	if (n < 0)
		return -errno;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	if (which == IN_MODIFY)
		times[0].tv_nsec = UTIME_OMIT;
	if (which == IN_ACCESS)
		times[1].tv_nsec = UTIME_OMIT;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", t->s->self);
	n = hear(t->p, t->s->self, which);
	if (n >= 0)
		n = named ? utimensat(t->s->self, t->name, times, AT_SYMLINK_NOFOLLOW)
			  : utimensat(AT_FDCWD, path, times, 0);
	return n < 0 ? -errno : 0;
}

static int touch_access(const struct target *t)
{
	CLEANUP_CLOSE int fd = target_open(t, O_RDONLY | O_NOATIME);
	char buf[512];
	struct stat st;
	int n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fd < 0 ? fd : -errno;
	/* nothing to read: its time of access alone is reported in the same way */
	if (!t->folder && st.st_size == 0)
		return touch_times(t, IN_ACCESS);
	n = hear(t->p, t->s->self, IN_ACCESS);
	if (n >= 0 && t->folder)
		n = syscall(SYS_getdents64, fd, buf, sizeof(buf)) < 0 ? -errno : 0;
	else if (n >= 0)
		n = pread(fd, buf, 1, 0) < 0 ? -errno : 0;
	hear(t->p, t->s->self, DEAF); /* before it is closed */
	return n;
}

/* Opening, reading and the like of what is there. */
static int touch(const struct target *t, uint32_t what)
{
	int flags = what == IN_CLOSE_WRITE ? O_WRONLY : O_RDONLY | O_NOATIME;
	int fd, n;

	if (what == IN_ATTRIB || what == IN_MODIFY)
		return touch_times(t, what);
	if (what == IN_ACCESS)
		return touch_access(t);
	n = what == IN_OPEN ? hear(t->p, t->s->self, IN_OPEN) : 0;
	fd = n < 0 ? n : target_open(t, flags);
	n = hear(t->p, t->s->self, what == IN_OPEN ? DEAF : what);
	if (fd < 0)
		return fd;
	close(fd);
	return n;
}

/* What has the name today is called otherwise for a moment. */
static int step_aside(struct spot *s, const char *name, int number, bool *moved)
{
	char aside[32];

	snprintf(aside, sizeof(aside), ASIDE, number);
	s->renamed = true;
	*moved = renameat2(s->self, name, s->self, aside, RENAME_NOREPLACE) == 0;
	return *moved || errno == ENOENT ? 0 : -errno;
}

static int step_back(struct spot *s, const char *name, int number, bool moved)
{
	char aside[32];

	snprintf(aside, sizeof(aside), ASIDE, number);
	if (moved && renameat2(s->self, aside, s->self, name, RENAME_NOREPLACE) < 0)
		return -errno;
	return 0;
}

/* With a scratch file of that name: what is told of a name alone. */
static int with_scratch(const struct target *t, uint32_t what)
{
	static const char other[] = ".ferry-scratch";
	struct spot *s = t->s;
	bool moved = false;
	int n, back;

	n = step_aside(s, t->name, 0, &moved);
	if (n == 0 && what == IN_CREATE)
		n = hear(t->p, s->self, IN_CREATE);
	if (n >= 0)
		n = make(s->self, what == IN_MOVED_TO ? other : t->name, t->folder);
	if (n == 0 && (what & (IN_MOVE | IN_DELETE)))
		n = hear(t->p, s->self, what);
	if (n >= 0 && what == IN_MOVED_FROM)
		n = renameat(s->self, t->name, s->self, other) < 0 ? -errno : 0;
	else if (n >= 0 && what == IN_MOVED_TO)
		n = renameat(s->self, other, s->self, t->name) < 0 ? -errno : 0;
	else if (n >= 0 && !(what & (IN_CREATE | IN_DELETE)))
		n = touch(t, what);
	if (n >= 0 && what == IN_DELETE)
		n = drop(s->self, t->name, t->folder);
	hear(t->p, s->self, DEAF);
	if (n >= 0 && what != IN_DELETE)
		n = drop(s->self, what == IN_MOVED_FROM ? other : t->name, t->folder);
	back = step_back(s, t->name, 0, moved);
	return n < 0 ? n : back;
}

static int named_event(const struct target *t, uint32_t what)
{
	struct stat st;
	int n = -ENOENT;

	if (what & (IN_CREATE | IN_DELETE | IN_MOVE))
		return with_scratch(t, what);
	if (fstatat(t->s->self, t->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISDIR(st.st_mode) == t->folder &&
	    (S_ISREG(st.st_mode) || t->folder || (what & (IN_ATTRIB | IN_MODIFY))))
		n = touch(t, what);
	hear(t->p, t->s->self, DEAF);
	return n < 0 ? with_scratch(t, what) : n;
}

/* Both halves of a rename, from one watched folder to another or the same. */
static int rename_event(struct replay *p, struct spot *a, const char *from, struct spot *b,
			const char *to, bool folder)
{
	bool moved_a = false, moved_b = false;
	int n = step_aside(a, from, 0, &moved_a), back;

	if (n == 0)
		n = step_aside(b, to, 1, &moved_b);
	if (n == 0)
		n = make(a->self, from, folder);
	if (n == 0)
		n = hear(p, a->self, a == b ? IN_MOVE : IN_MOVED_FROM);
	if (n >= 0 && a != b)
		n = hear(p, b->self, IN_MOVED_TO);
	if (n >= 0)
		n = renameat(a->self, from, b->self, to) < 0 ? -errno : 0;
	hear(p, a->self, DEAF);
	hear(p, b->self, DEAF);
	if (n >= 0)
		n = drop(b->self, to, folder);
	back = step_back(b, to, 1, moved_b);
	n = n < 0 ? n : back;
	back = step_back(a, from, 0, moved_a);
	return n < 0 ? n : back;
}

/* Moves what is watched, and back where nobody hears it. */
static int move_self(struct replay *p, struct spot *s)
{
	CLEANUP_FREE char *dir = s->path ? str_dup(s->path) : NULL;
	char *base = dir ? strrchr(dir, '/') : NULL, own[32], aside[32];
	CLEANUP_CLOSE int at = -1;
	struct timespec times[2];
	struct stat st;
	int n;

	own_name(own, sizeof(own), s->wd);
	snprintf(aside, sizeof(aside), ASIDE, 0);
	if (base)
		*base++ = '\0';
	at = base ? obj_open_in_root(p->root, dir, O_PATH | O_DIRECTORY, 0, 0)
		  : fcntl(p->own, F_DUPFD_CLOEXEC, 3);
	if (at < 0 || fstat(at, &st) < 0)
		return at < 0 ? at : -errno;
	if (!base)
		base = own;
	n = hear(p, s->self, IN_MOVE_SELF);
	if (n >= 0)
		n = renameat2(at, base, at, aside, RENAME_NOREPLACE) < 0 ? -errno : 0;
	hear(p, s->self, DEAF);
	if (n >= 0)
		n = renameat2(at, aside, at, base, RENAME_NOREPLACE) < 0 ? -errno : 0;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	if (s->path && n == 0)
		n = utimensat(at, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
	return n;
}

/* The last events of a watch that is gone: its file goes, or it is taken away. */
static int end_watch(struct replay *p, struct spot *s, bool deleted)
{
	char name[32];
	int n;

	if (s->path)
		return -EBADMSG;
	own_name(name, sizeof(name), s->wd);
	n = deleted ? hear(p, s->self, IN_DELETE_SELF) : 0;
	if (n >= 0 && !deleted)
		n = inotify_rm_watch(p->fd, s->wd) < 0 ? -errno : 0;
	if (n >= 0)
		n = drop(p->own, name, S_ISDIR(s->st.st_mode));
	close(TAKE_FD(s->self)); /* the last that keeps the file */
	return n;
}

static int self_event(struct replay *p, struct spot *s, const Cko__InotifyEvent *e)
{
	struct target t = { p, s, "", (e->mask & IN_ISDIR) != 0 };
	uint32_t what = e->mask & ~(uint32_t)IN_ISDIR;
	int n;

	if (what & (IN_IGNORED | IN_DELETE_SELF))
		return end_watch(p, s, what == IN_DELETE_SELF);
	n = what == IN_MOVE_SELF ? move_self(p, s) : touch(&t, what);
	hear(p, s->self, DEAF);
	return n;
}

static char *name_of(const Cko__InotifyEvent *e)
{
	char *name = mem_zalloc(e->name.len + 1);

	if (e->name.len)
		memcpy(name, e->name.data, e->name.len);
	return name;
}

/* Makes event i, and those that come with it: how many, or -errno. */
static int one_event(struct replay *p, size_t i, struct error *err)
{
	const Cko__Inotify *m = p->m;
	const Cko__InotifyEvent *e = m->events[i],
				*next = i + 1 < m->n_events ? m->events[i + 1] : NULL;
	CLEANUP_FREE char *name = name_of(e);
	struct spot *a, *b = NULL;
	int n, before = queued(p->fd), got;
	size_t want = inotify_event_size(e->name.len);
	bool both = (e->mask & IN_MOVED_FROM) && next && (next->mask & IN_MOVED_TO) &&
		    next->cookie == e->cookie;

	a = spot_of(p, i, err);
	if (both)
		b = spot_of(p, i + 1, err);
	if (!a || (both && !b))
		return -err->code;
	both = both || ((e->mask & IN_DELETE_SELF) && next);
	if (b) {
		CLEANUP_FREE char *to = name_of(next);

		n = rename_event(p, a, name, b, to, (e->mask & IN_ISDIR) != 0);
	} else if (e->name.len) {
		struct target t = { p, a, name, (e->mask & IN_ISDIR) != 0 };

		n = named_event(&t, e->mask & ~(uint32_t)IN_ISDIR);
	} else {
		n = self_event(p, a, e);
	}
	if (both)
		want += inotify_event_size(next->name.len);
	got = queued(p->fd) - before;
	if (n < 0)
		return error_sys(err, -n, "making inotify event %#x of watch %d happen again",
				 e->mask, e->wd);
	if (got < 0 || (size_t)got != want)
		return error_set(err, EPROTO,
				 "inotify event %#x of watch %d came back as %d bytes instead of "
				 "%zu",
				 e->mask, e->wd, got, want);
	return both ? 2 : 1;
}

/* Folders whose names were changed have the time that they had. */
static int put_times_back(const struct replay *p, struct error *err)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct spot *s = &p->spots[i];
		struct timespec times[2] = { s->st.st_atim, s->st.st_mtim };

		if (s->renamed && s->path && utimensat(s->self, "", times, AT_EMPTY_PATH) < 0)
			return error_sys(err, errno, "setting times of %s", s->path);
	}
	return 0;
}

/* A name is what was checked at the source, and may come from a file today. */
static int sound(const Cko__Inotify *m, struct error *err)
{
	for (size_t i = 0; i < m->n_events; i++) {
		const ProtobufCBinaryData *b = &m->events[i]->name;

		if (!b->len)
			continue;
		if (b->len > NAME_MAX || memchr(b->data, '/', b->len) ||
		    memchr(b->data, '\0', b->len) || (b->len == 1 && *b->data == '.') ||
		    (b->len == 2 && memcmp(b->data, "..", 2) == 0))
			return error_set(err, EBADMSG, "an inotify event has an impossible name");
	}
	return 0;
}

int inotify_replay(struct restore *r, int fd, const Cko__Inotify *m, struct error *err)
{
	struct replay p = { .fd = fd, .root = restore_root_fd(r), .own = -1, .m = m };
	int n = sound(m, err);

	p.spots = mem_zalloc(m->n_events * sizeof(*p.spots));
	for (size_t i = 0; i < m->n_watches && n == 0; i++)
		n = add_watch(&p, m->watches[i], err);
	for (size_t i = 0; i < m->n_events && n >= 0; i += (size_t)n)
		n = one_event(&p, i, err);
	if (n >= 0)
		n = put_times_back(&p, err);
	if (n == 0 && ioctl(fd, SET_NEXT_WD, m->next > 0 ? m->next : 1) < 0)
		n = error_sys(err, errno, "setting the number of the next inotify watch");
	replay_free(&p);
	return n;
}

int inotify_replay_end(struct restore *r, int fd, const Cko__Inotify *m, struct error *err)
{
	int n = 0;

	for (size_t i = 0; i < m->n_watches; i++) {
		CLEANUP_FREE char *path = path_below(restore_root_fd(r), m->watches[i]->path);
		int wd = inotify_add_watch(fd, path, m->watches[i]->mask | IN_DONT_FOLLOW);

		if (wd != m->watches[i]->wd && n == 0)
			n = error_set(err, wd < 0 ? errno : EBUSY,
				      "inotify watch %d hears nothing any more", m->watches[i]->wd);
	}
	return n;
}
