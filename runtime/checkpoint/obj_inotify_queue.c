/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The events that wait in an inotify descriptor, as the source sees them: read by BPF, so
 * that they stay where they are for a container that goes on. Each is judged: what the
 * destination cannot make happen in the same words makes this attempt fail.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/obj_inotify.h"
#include "runtime/checkpoint/peek.h"

/* More are not made again: each takes some system calls while the container stands still. */
#define EVENTS_MAX 2048
#define TOLD	   (IN_ALL_EVENTS | IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED | IN_ISDIR)
#define TOUCHED	   (IN_ACCESS | IN_MODIFY | IN_ATTRIB | IN_CLOSE | IN_OPEN)
#define NAMED	   (TOUCHED | IN_CREATE | IN_DELETE | IN_MOVE)
#define NAMELESS   (TOUCHED | IN_MOVE_SELF | IN_DELETE_SELF)

struct queue {
	Cko__Inotify *m;
	int64_t next;
	uint64_t total;
};

static int note(void *ctx, const struct peek_record *r, const void *data)
{
	struct queue *q = ctx;
	Cko__InotifyEvent *e;

	if (r->kind != PEEK_INOTIFY)
		return 0;
	if (r->c == ~0ull) {
		q->next = (int32_t)r->a;
		q->total = r->d;
		return 0;
	}
	if (r->c != q->m->n_events || r->len > NAME_MAX)
		return -EAGAIN;
	e = mem_zalloc(sizeof(*e));
	cko__inotify_event__init(e);
	e->wd = r->tid;
	e->mask = (uint32_t)r->a & TOLD;
	e->cookie = (uint32_t)r->b;
	e->name.len = r->len;
	e->name.data = mem_zalloc(r->len + 1);
	memcpy(e->name.data, data, r->len);
	q->m->events = mem_grow(q->m->events, q->m->n_events + 1, sizeof(*q->m->events));
	q->m->events[q->m->n_events++] = e;
	return 0;
}

void inotify_queue_free(Cko__Inotify *m)
{
	for (size_t i = 0; i < m->n_events; i++) {
		free(m->events[i]->name.data);
		free(m->events[i]);
	}
	free(m->events);
	m->events = NULL;
	m->n_events = 0;
}

/* All events, as many bytes as the kernel says that there are. */
static int read_queue(int fd, int queued, struct queue *q, struct error *err)
{
	size_t bytes = 0, before;
	int n;

	do {
		before = q->m->n_events;
		n = peek_inotify_from(fd, (uint32_t)before, err);
		if (n == 0)
			n = peek(PEEK_INOTIFY, note, q, err);
	} while (n == 0 && q->m->n_events > before && q->m->n_events < q->total &&
		 q->total <= EVENTS_MAX);
	if (n < 0 && n != -EAGAIN)
		return n;
	for (size_t i = 0; i < q->m->n_events; i++)
		bytes += inotify_event_size(q->m->events[i]->name.len);
	return n == 0 && bytes == (size_t)queued ? 0 : -EAGAIN;
}

/* --- what can be made to happen again ------------------------------------------------------ */
static const Cko__InotifyWatch *watch_of(const Cko__Inotify *m, int32_t wd)
{
	for (size_t i = 0; i < m->n_watches; i++)
		if (m->watches[i]->wd == wd)
			return m->watches[i];
	return NULL;
}

/* Whether the watch of event i is taken away in this very queue. */
static bool ends(const Cko__Inotify *m, size_t i)
{
	for (size_t k = i; k < m->n_events; k++)
		if (m->events[k]->wd == m->events[i]->wd && (m->events[k]->mask & IN_IGNORED))
			return true;
	return false;
}

/*
 * A file that came by a rename bears the number of the event that told where it went from.
 * If that was read already, the program remembers a number that cannot be had again.
 */
static bool half_read(const Cko__Inotify *m, size_t i)
{
	const Cko__InotifyEvent *e = m->events[i];
	const Cko__InotifyEvent *before = i ? m->events[i - 1] : NULL;

	if (before && (before->mask & IN_MOVED_FROM) && before->cookie == e->cookie)
		return !watch_of(m, before->wd) != !watch_of(m, e->wd);
	for (size_t k = 0; k < m->n_events; k++)
		if ((m->events[k]->mask & IN_MOVED_FROM) && m->events[k]->cookie == e->cookie)
			return true;
	for (size_t k = 0; k < m->n_watches; k++)
		if (m->watches[k]->mask & IN_MOVED_FROM)
			return true;
	return !watch_of(m, e->wd);
}

/* A live watch: whether what it watches can be touched as event e tells. */
static const char *at_place(struct dump *d, const Cko__InotifyWatch *w, const Cko__InotifyEvent *e)
{
	CLEANUP_CLOSE int at =
		obj_open_in_root(dump_root_fd(d), w->path, O_PATH | O_NOFOLLOW, 0, 0);
	struct statvfs fs;
	struct stat st;

	if (at < 0 || fstat(at, &st) < 0 || fstatvfs(at, &fs) < 0)
		return "what is watched cannot be looked at";
	if (e->name.len
		    ? !S_ISDIR(st.st_mode)
		    : !(e->mask & IN_MOVE_SELF) && !(e->mask & IN_ISDIR) != !S_ISDIR(st.st_mode))
		return "one tells of another kind of file";
	if (!e->name.len && !S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode) &&
	    (e->mask & (IN_OPEN | IN_CLOSE | IN_ACCESS)))
		return "one tells of a device, pipe or socket";
	if ((fs.f_flag & ST_RDONLY) && (e->mask & (NAMED | NAMELESS) & ~(uint32_t)IN_OPEN &
					~(uint32_t)IN_CLOSE_NOWRITE & ~(uint32_t)IN_ACCESS))
		return "one tells of a file system that is mounted read-only";
	return NULL;
}

/* Why event i cannot be made to happen again; NULL: it can. */
static const char *judge(struct dump *d, const Cko__Inotify *m, size_t i)
{
	const Cko__InotifyEvent *e = m->events[i],
				*next = i + 1 < m->n_events ? m->events[i + 1] : NULL;
	const Cko__InotifyWatch *w = watch_of(m, e->wd);
	uint32_t what = e->mask & ~(uint32_t)IN_ISDIR;

	if (e->mask & IN_Q_OVERFLOW)
		return "there were more than the queue can hold";
	if (what == IN_IGNORED)
		return w || e->name.len ? "the number of a removed watch is in use again" : NULL;
	if (!(what & (e->name.len ? NAMED : NAMELESS)) || (what & (what - 1)))
		return "one tells of several things at once, or of an unmount";
	if (memchr(e->name.data, '/', e->name.len) || memchr(e->name.data, '\0', e->name.len))
		return "one has a name that no file can have";
	if (!w && !ends(m, i))
		return "one is of a watch that is no longer there";
	if (what == IN_DELETE_SELF &&
	    (w || !next || next->wd != e->wd || !(next->mask & IN_IGNORED)))
		return "a file was deleted while another event came";
	if (what == IN_MOVED_TO && half_read(m, i))
		return "the first half of a rename may have been read already";
	return w ? at_place(d, w, e) : NULL;
}

int inotify_queue_dump(struct dump *d, int fd, Cko__Inotify *m, struct error *err)
{
	struct queue q = { .m = m };
	const char *why = NULL;
	int queued = 0, n;

	if (ioctl(fd, FIONREAD, &queued) < 0)
		return error_sys(err, errno, "asking for inotify events");
	if (peek_load(PEEK_INOTIFY, NULL) < 0)
		why = "this kernel does not show them";
	n = why ? 0 : read_queue(fd, queued, &q, err);
	if (n < 0 && n != -EAGAIN)
		return n;
	if (n < 0)
		why = q.total > EVENTS_MAX ? "there are more than 2048"
					   : "they changed while they were looked at";
	for (size_t i = 0; i < m->n_events && !why; i++)
		why = judge(d, m, i);
	m->next = q.next > 0 ? (int32_t)q.next : 1;
	if (why)
		return error_set(err, EAGAIN,
				 "an inotify descriptor has events that were not read yet and "
				 "cannot be carried (%s); try again when the program has read them",
				 why);
	return 0;
}
