/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Terminals.
 *
 *   type "tty"       both ends of ptys of the container's own /dev/pts, under their old
 *                    numbers, and /dev/tty
 *   type "session"   one for the whole container, carried by a descriptor that no task
 *                    has: settings of the external terminal (the shim's pty), and which
 *                    session has which controlling terminal and foreground group
 *
 * The external terminal's descriptors themselves are the core's ("external"). What was
 * typed or printed and not read yet goes along: obj_tty_queue.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <asm/termbits.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_tty_queue.h"
#include "runtime/checkpoint/obj_types.h"

#ifndef TIOCGEXCL
#define TIOCGEXCL _IOR('T', 0x40, int)
#endif

/* Documentation/admin-guide/devices.txt */
#define TTY_MAJOR_AUX	5
#define PTS_MAJOR_FIRST 136
#define PTS_MAJOR_LAST	143

static bool is_master(const struct ofd *o)
{
	return S_ISCHR(o->st.st_mode) && o->st.st_rdev == makedev(TTY_MAJOR_AUX, 2);
}

static bool is_current(const struct ofd *o) /* /dev/tty */
{
	return S_ISCHR(o->st.st_mode) && o->st.st_rdev == makedev(TTY_MAJOR_AUX, 0);
}

static bool is_slave(const struct ofd *o)
{
	return S_ISCHR(o->st.st_mode) && major(o->st.st_rdev) >= PTS_MAJOR_FIRST &&
	       major(o->st.st_rdev) <= PTS_MAJOR_LAST;
}

static bool tty_claims(const struct ofd *o)
{
	return !(o->flags & O_PATH) && (is_master(o) || is_current(o) || is_slave(o));
}

static bool pts_index(unsigned int maj, unsigned int min, uint32_t *index)
{
	if (maj < PTS_MAJOR_FIRST || maj > PTS_MAJOR_LAST)
		return false;
	*index = (maj - PTS_MAJOR_FIRST) * 256 + min;
	return true;
}

/* The number of the pty behind a descriptor. */
static bool tty_index(const struct ofd *o, uint32_t *index)
{
	unsigned int dev;
	int n;

	if (is_master(o)) {
		if (ioctl(o->fd, TIOCGPTN, &n) < 0)
			return false;
		*index = (uint32_t)n;
		return true;
	}
	if (is_slave(o))
		return pts_index(major(o->st.st_rdev), minor(o->st.st_rdev), index);
	/* the kernel's dev_t as user space sees it: new_encode_dev() */
	if (ioctl(o->fd, TIOCGDEV, &dev) < 0)
		return false;
	return pts_index((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00), index);
}

/* Another description of the same pty: its master, or an external slave. */
static struct ofd *tty_other(struct dump *d, uint32_t index, bool master)
{
	for (size_t i = 0; i < dump_ofd_count(d); i++) {
		struct ofd *x = dump_ofd_at(d, i);
		uint32_t n;

		if ((master ? is_master(x) : is_slave(x) && !x->kind) && !(x->flags & O_PATH) &&
		    tty_index(x, &n) && n == index)
			return x;
	}
	return NULL;
}

static int tty_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	uint32_t index;

	if (!tty_index(o, &index))
		obj_obstacle(out, o, o->link, "a terminal that is no pty",
			     "run the program without a terminal");
	else if (!is_master(o) && !tty_other(d, index, true) && !tty_other(d, index, false))
		obj_obstacle(out, o, o->link,
			     "the other end of this terminal is outside of the container",
			     "end the exec session, or detach and start the program without it");
	obj_owner_check(d, o, out);
	return 0;
}

/* --- source ----------------------------------------------------------------------------- */
static int settings_dump(int fd, ProtobufCBinaryData *termios, uint32_t *rows, uint32_t *cols,
			 struct error *err)
{
	struct winsize ws = { 0 };
	struct termios2 t;

	if (ioctl(fd, TCGETS2, &t) < 0)
		return error_sys(err, errno, "reading a terminal's settings");
	ioctl(fd, TIOCGWINSZ, &ws);
	termios->data = mem_zalloc(sizeof(t));
	termios->len = sizeof(t);
	memcpy(termios->data, &t, sizeof(t));
	*rows = ws.ws_row;
	*cols = ws.ws_col;
	return 0;
}

/* Of several descriptions of one slave, the first carries what was typed. */
static bool is_first_slave(struct dump *d, const struct ofd *o, uint32_t index)
{
	for (size_t i = 0; i < dump_ofd_count(d); i++) {
		struct ofd *x = dump_ofd_at(d, i);
		uint32_t n;

		if (!(x->flags & O_PATH) && (is_slave(x) || is_current(x)) && tty_index(x, &n) &&
		    n == index)
			return x == o;
	}
	return false;
}

static int tty_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cko__Tty m = CKO__TTY__INIT;
	struct tty_unread unread = { 0 };
	CLEANUP_FREE char *path = NULL;
	struct ofd *other;
	int v = 0, n;

	if (!tty_index(o, &m.index))
		return error_set(err, ENOTSUP, "%s is no pty", o->link);
	m.flags = (uint32_t)o->flags;
	m.master = is_master(o);
	if (m.master) {
		n = settings_dump(o->fd, &m.termios, &m.rows, &m.cols, err);
		if (n == 0)
			n = tty_output_peek(o->fd, &unread, err);
		m.locked = ioctl(o->fd, TIOCGPTLCK, &v) == 0 && v;
		m.packet = ioctl(o->fd, TIOCGPKT, &v) == 0 && v;
		m.path = o->link;
	} else {
		other = tty_other(d, m.index, true);
		if (!other)
			other = tty_other(d, m.index, false);
		if (!other)
			return error_set(err, ENOTSUP, "the other end of %s is not the container's",
					 o->link);
		m.other = other->id;
		m.external = !other->kind;
		m.exclusive = ioctl(o->fd, TIOCGEXCL, &v) == 0 && v;
		path = str_format("/dev/pts/%u", m.index);
		m.path = path;
		if (is_slave(o))
			m.inode = obj_inode_dump(-1, &o->st, false);
		n = m.external || !is_first_slave(d, o, m.index)
			    ? 0
			    : tty_input_peek(o->fd, &unread, err);
	}
	m.unread = unread.pieces;
	m.n_unread = unread.n;
	m.partial = unread.partial;
	if (n == 0)
		n = obj_owner_dump(d, o, &m.owner, err);
	if (n == 0)
		obj_pack(&m.base, body);
	tty_unread_free(&unread);
	free(m.termios.data);
	obj_inode_free(m.inode);
	free(m.owner);
	return n;
}

/* --- destination ------------------------------------------------------------------------ */
static int settings_restore(int fd, const ProtobufCBinaryData *termios, uint32_t rows,
			    uint32_t cols, struct error *err)
{
	struct winsize ws = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };
	struct termios2 t;

	if (termios->len != sizeof(t))
		return error_set(err, EBADMSG, "a terminal's settings have a bad size");
	memcpy(&t, termios->data, sizeof(t));
	if (ioctl(fd, TCSETS2, &t) < 0 || ioctl(fd, TIOCSWINSZ, &ws) < 0)
		return error_sys(err, errno, "setting a terminal up");
	return 0;
}

/* A master with this number: the kernel gives the lowest free one. */
static int master_open(struct restore *r, const Cko__Tty *m, struct error *err)
{
	CLEANUP_FREE int *extra = NULL;
	size_t n = 0;
	int fd, index = -1;

	for (;;) {
		fd = obj_open_in_root(restore_root_fd(r), "/dev/pts/ptmx", O_RDWR | O_NOCTTY, 0, 0);
		if (fd < 0) {
			error_sys(err, -fd, "opening /dev/pts/ptmx");
			break;
		}
		if (ioctl(fd, TIOCGPTN, &index) == 0 && index == (int)m->index)
			break;
		extra = mem_grow(extra, n + 1, sizeof(*extra));
		extra[n++] = fd;
		fd = -1;
		if (index > (int)m->index || n > 4096) {
			error_set(err, EBUSY, "terminal number %u is taken", m->index);
			break;
		}
	}
	while (n)
		close(extra[--n]);
	return fd;
}

static int tty_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
		       struct error *err)
{
	CLEANUP_MSG Cko__Tty *m = obj_unpack(&cko__tty__descriptor, body, len, err);
	CLEANUP_CLOSE int made = -1;
	int n, v;

	(void)id;
	if (!m)
		return -EBADMSG;
	if (m->master) {
		made = master_open(r, m, err);
		if (made < 0)
			return err && err->code ? -err->code : -EIO;
		n = settings_restore(made, &m->termios, m->rows, m->cols, err);
		if (n < 0)
			return n;
		v = 0;
		if (!m->locked && ioctl(made, TIOCSPTLCK, &v) < 0)
			return error_sys(err, errno, "unlocking terminal %u", m->index);
		v = 1;
		if (m->packet && ioctl(made, TIOCPKT, &v) < 0)
			return error_sys(err, errno, "setting packet mode");
	} else {
		int other = restore_fd(r, m->other, err);

		if (other < 0)
			return other;
		made = m->external ? obj_reopen(other, (int)(m->flags & O_ACCMODE) | O_NOCTTY)
				   : obj_open_in_root(restore_root_fd(r), m->path,
						      (int)(m->flags & O_ACCMODE) | O_NOCTTY, 0, 0);
		if (made < 0)
			return error_sys(err, -made, "opening terminal %s", m->path);
		if (m->inode && (fchown(made, m->inode->uid, m->inode->gid) < 0 ||
				 fchmod(made, m->inode->mode & 07777) < 0))
			return error_sys(err, errno, "setting the owner of terminal %s", m->path);
	}
	if (fcntl(made, F_SETFL, (int)m->flags & (O_NONBLOCK | O_APPEND)) < 0)
		return error_sys(err, errno, "setting the flags of a terminal");
	*fd = TAKE_FD(made);
	return 0;
}

static int tty_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
		    struct error *err)
{
	CLEANUP_MSG Cko__Tty *m = obj_unpack(&cko__tty__descriptor, body, len, err);
	struct tty_unread unread = { 0 };
	int n;

	if (!m)
		return -EBADMSG;
	unread = (struct tty_unread){ m->n_unread, m->unread, m->partial };
	n = m->master ? tty_output_put(fd, &unread, err) : tty_input_put(fd, &unread, err);
	if (n < 0)
		return n;
	if (m->exclusive && ioctl(fd, TIOCEXCL) < 0)
		return error_sys(err, errno, "making a terminal exclusive");
	return obj_owner_late(r, id, m->owner, err);
}

const struct object_type obj_tty = {
	.type = "tty",
	.claims = tty_claims,
	.check = tty_check,
	.dump = tty_dump,
	.restore = tty_restore,
	.late = tty_late,
};

/* --- sessions ------------------------------------------------------------------------------ */
static int carrier = -1; /* the engine's descriptor that stands for the sessions */

static bool session_claims(const struct ofd *o)
{
	return carrier >= 0 && o->fd == carrier && !o->task;
}

/* Of /proc/PID/stat, numbers as the engine sees them. */
struct stat_line {
	int pgrp, session, tty, tpgid;
};

static bool stat_read(pid_t pid, struct stat_line *s)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/stat", pid);
	CLEANUP_FREE char *text = NULL;
	const char *p;

	if (file_read(path, 8192, &text, NULL, NULL) < 0)
		return false;
	p = strrchr(text, ')');
	return p && sscanf(p + 1, " %*c %*d %d %d %d %d", &s->pgrp, &s->session, &s->tty,
			   &s->tpgid) == 4;
}

static int session_add(struct dump *d, struct task *t, const struct stat_line *s, Cko__Sessions *m,
		       struct error *err)
{
	Cko__Session *x = mem_zalloc(sizeof(*x));
	struct task *group = s->tpgid > 0 ? dump_task_by_pid(d, s->tpgid) : NULL;
	uint32_t index;

	cko__session__init(x);
	m->sessions = mem_grow(m->sessions, m->n_sessions + 1, sizeof(Cko__Session *));
	m->sessions[m->n_sessions++] = x;
	x->sid = task_vpid(t);
	x->foreground = group ? task_vpid(group) : 0;
	if (!pts_index((unsigned int)(s->tty >> 8) & 0xfff,
		       ((unsigned int)s->tty & 0xff) | (((unsigned int)s->tty >> 12) & 0xfff00),
		       &index))
		return error_set(err, ENOTSUP, "session %d has a terminal that is no pty", x->sid);
	x->index = index;
	for (size_t i = 0; i < dump_ofd_count(d); i++) {
		const struct ofd *o = dump_ofd_at(d, i);
		uint32_t n;

		if (is_slave(o) && !(o->flags & O_PATH) && tty_index(o, &n) && n == index) {
			x->id = o->id;
			break;
		}
	}
	return 0;
}

static int sessions_collect(struct dump *d, Cko__Sessions *m, struct error *err)
{
	int n = 0;

	for (size_t i = 0; i < dump_task_count(d) && n == 0; i++) {
		struct task *t = dump_task_at(d, i);
		struct stat_line s;

		if (stat_read(task_pid(t), &s) && s.tty && s.session == task_pid(t))
			n = session_add(d, t, &s, m, err);
	}
	for (size_t i = 0; i < dump_ofd_count(d) && n == 0; i++) {
		struct ofd *o = dump_ofd_at(d, i);
		struct tty_unread unread = { 0 };
		Cko__Terminal *x;
		bool known = false;

		if (o->kind || !is_slave(o) || (o->flags & O_PATH))
			continue;
		for (size_t k = 0; k < m->n_terminals; k++)
			known |= m->terminals[k]->rdev == o->st.st_rdev;
		if (known)
			continue;
		x = mem_zalloc(sizeof(*x));
		cko__terminal__init(x);
		m->terminals = mem_grow(m->terminals, m->n_terminals + 1, sizeof(Cko__Terminal *));
		m->terminals[m->n_terminals++] = x;
		x->id = o->id;
		x->rdev = o->st.st_rdev;
		n = settings_dump(o->fd, &x->termios, &x->rows, &x->cols, err);
		if (n == 0)
			n = tty_input_peek(o->fd, &unread, err);
		x->unread = unread.pieces;
		x->n_unread = unread.n;
		x->partial = unread.partial;
	}
	return n;
}

static void sessions_free(Cko__Sessions *m)
{
	for (size_t i = 0; i < m->n_sessions; i++)
		free(m->sessions[i]);
	for (size_t i = 0; i < m->n_terminals; i++) {
		struct tty_unread unread = { m->terminals[i]->n_unread, m->terminals[i]->unread,
					     false };

		tty_unread_free(&unread);
		free(m->terminals[i]->termios.data);
		free(m->terminals[i]);
	}
	free(m->sessions);
	free(m->terminals);
}

static int session_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cko__Sessions m = CKO__SESSIONS__INIT;
	int n = sessions_collect(d, &m, err);

	(void)o;
	if (n == 0)
		obj_pack(&m.base, body);
	sessions_free(&m);
	return n;
}

static int session_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			   struct error *err)
{
	(void)r;
	(void)id;
	(void)body;
	(void)len;
	*fd = eventfd(0, EFD_CLOEXEC);
	return *fd < 0 ? error_sys(err, errno, "making a descriptor") : 0;
}

/* The terminal as a descriptor of the session's leader; *opened: it is to be closed. */
static int leader_fd(struct restore *r, struct task *leader, const Cko__Session *s, bool *opened)
{
	CLEANUP_FREE char *path = str_format("/dev/pts/%u", s->index);
	unsigned long at;
	struct task *t;
	int num;

	*opened = false;
	for (size_t i = 0; s->id && restore_holder(r, s->id, i, &t, &num); i++)
		if (t == leader)
			return num;
	*opened = true;
	at = remote_scratch(leader);
	if (!at || remote_write(leader, at, path, strlen(path) + 1) < 0)
		return -EFAULT;
	return (int)remote_syscall(leader, SYS_openat, (unsigned long)AT_FDCWD, at,
				   O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK, 0, 0, 0);
}

static int session_make(struct restore *r, const Cko__Session *s, struct error *err)
{
	struct task *leader = restore_task(r, s->sid);
	unsigned long at;
	bool opened;
	long n;
	int num;

	if (!leader)
		return error_set(err, ESRCH, "leader of session %d is not there", s->sid);
	num = leader_fd(r, leader, s, &opened);
	if (num < 0)
		return error_sys(err, -num, "terminal %u of session %d", s->index, s->sid);
	n = remote_syscall(leader, SYS_ioctl, (unsigned long)num, TIOCSCTTY, 0, 0, 0, 0);
	if (n == 0 && s->foreground) {
		at = remote_scratch(leader);
		n = at ? remote_write(leader, at, &s->foreground, sizeof(s->foreground)) : -EFAULT;
		if (n == 0)
			n = remote_syscall(leader, SYS_ioctl, (unsigned long)num, TIOCSPGRP, at, 0,
					   0, 0);
	}
	if (opened)
		remote_syscall(leader, SYS_close, (unsigned long)num, 0, 0, 0, 0, 0);
	return n < 0 ? error_sys(err, (int)-n, "giving session %d its terminal", s->sid) : 0;
}

static int session_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
			struct error *err)
{
	CLEANUP_MSG Cko__Sessions *m = obj_unpack(&cko__sessions__descriptor, body, len, err);
	int n = 0;

	(void)id;
	(void)fd;
	if (!m)
		return -EBADMSG;
	for (size_t i = 0; i < m->n_terminals && n == 0; i++) {
		const Cko__Terminal *x = m->terminals[i];
		struct tty_unread unread = { x->n_unread, x->unread, x->partial };
		int t = restore_fd(r, x->id, err);

		n = t < 0 ? t : settings_restore(t, &x->termios, x->rows, x->cols, err);
		if (n == 0)
			n = tty_input_put(t, &unread, err);
	}
	for (size_t i = 0; i < m->n_sessions && n == 0; i++)
		n = session_make(r, m->sessions[i], err);
	return n;
}

const struct object_type obj_session = {
	.type = "session",
	.claims = session_claims,
	.dump = session_dump,
	.restore = session_restore,
	.late = session_late,
};

static int session_part_check(struct dump *d, struct obstacles *out)
{
	for (size_t i = 0; i < dump_task_count(d); i++) {
		struct task *t = dump_task_at(d, i);
		CLEANUP_FREE char *object = NULL;
		struct stat_line s;
		uint32_t index;

		if (!stat_read(task_pid(t), &s) || !s.tty || s.session != task_pid(t))
			continue;
		if (pts_index((unsigned int)(s.tty >> 8) & 0xfff,
			      ((unsigned int)s.tty & 0xff) |
				      (((unsigned int)s.tty >> 12) & 0xfff00),
			      &index) &&
		    (tty_other(d, index, true) || tty_other(d, index, false)))
			continue;
		object = str_format("controlling terminal of session %d", task_vpid(t));
		obstacle_add(out, task_vpid(t), -1, object,
			     "its other end is outside of the container",
			     "end the exec session, or start the program without a terminal");
	}
	return 0;
}

static int session_part_dump(struct dump *d, struct error *err)
{
	Cko__Sessions m = CKO__SESSIONS__INIT;
	int n = sessions_collect(d, &m, err);
	bool any = m.n_sessions || m.n_terminals;

	sessions_free(&m);
	if (n < 0 || !any)
		return n;
	carrier = eventfd(0, EFD_CLOEXEC);
	if (carrier < 0)
		return error_sys(err, errno, "making a descriptor");
	n = dump_add_fd(d, carrier, err) ? 0 : -EIO;
	return n;
}

static int session_part_undo(struct dump *d)
{
	(void)d;
	carrier = -1; /* the core closes it */
	return 0;
}

const struct checkpoint_part obj_session_part = {
	.name = "session",
	.check = session_part_check,
	.dump = session_part_dump,
	.dump_undo = session_part_undo,
};
