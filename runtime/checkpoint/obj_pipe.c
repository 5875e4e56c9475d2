/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pipes and fifos. Every description of one pipe names the same key; the destination
 * makes the pipe at the first of them, keeps both its ends until the tasks run, and
 * opens each description through /proc/self/fd, so that any number of readers and
 * writers, in any mode, come out as they were. Content is copied with tee(2), which
 * takes nothing out, by the first description dumped that can read.
 */
#include <errno.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/obj_pipe.h"
#include "runtime/checkpoint/obj_types.h"

/* Destination: pipes made so far. */
struct made {
	uint64_t key;
	int rd, wr;
};
static struct made *made;
static size_t nmade;

static bool pipe_claims(const struct ofd *o)
{
	return S_ISFIFO(o->st.st_mode) && !(o->flags & O_PATH);
}

static bool is_named(const struct ofd *o)
{
	return o->link[0] == '/';
}

static bool same_pipe(const struct ofd *a, const struct ofd *b)
{
	return S_ISFIFO(b->st.st_mode) && !(b->flags & O_PATH) && a->st.st_ino == b->st.st_ino &&
	       a->st.st_dev == b->st.st_dev;
}

static bool can_read(const struct ofd *o)
{
	return (o->flags & O_ACCMODE) != O_WRONLY;
}

static bool can_write(const struct ofd *o)
{
	return (o->flags & O_ACCMODE) != O_RDONLY;
}

static int pipe_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	struct pollfd p = { .fd = o->fd };
	bool readers = false, writers = false;

	for (size_t i = 0; i < dump_ofd_count(d); i++) {
		const struct ofd *x = dump_ofd_at(d, i);

		if (!same_pipe(o, x))
			continue;
		readers |= can_read(x);
		writers |= can_write(x);
	}
	/* a missing end is either closed everywhere, which poll tells, or not ours */
	if ((!readers || !writers) && poll(&p, 1, 0) >= 0) {
		bool missing = !writers ? !(p.revents & POLLHUP) : !(p.revents & POLLERR);

		/* or it is in flight inside a socket */
		if (missing && !is_named(o) && !obj_held_outside(d, o->link))
			missing = false;
		if (missing && !writers && !is_named(o))
			obj_obstacle(out, o, o->link, "its writer is outside of the container",
				     "close the descriptor, or restart the program that holds the "
				     "other end inside of the container");
		else if (missing && writers)
			obj_obstacle(out, o, o->link, "its reader is outside of the container",
				     "close the descriptor, or restart the program that holds the "
				     "other end inside of the container");
	}
	if (is_named(o) && !str_ends(o->link, " (deleted)")) {
		CLEANUP_CLOSE int fd =
			obj_open_in_root(dump_root_fd(d), o->link, O_PATH | O_NOFOLLOW, 0, 0);
		struct stat st;

		if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != o->st.st_ino ||
		    st.st_dev != o->st.st_dev)
			obj_obstacle(out, o, o->link,
				     "no path of the container leads to this fifo any more",
				     "close the descriptor");
	}
	obj_owner_check(d, o, out);
	return 0;
}

int pipe_peek(int fd, int (*chunk)(void *ctx, const void *data, size_t len), void *ctx,
	      struct error *err)
{
	CLEANUP_CLOSE int rd = -1, wr = -1, src = -1;
	CLEANUP_FREE char *buf = NULL;
	int p[2], size, avail = 0, rc = 0;
	ssize_t n;

	if (ioctl(fd, FIONREAD, &avail) < 0)
		return error_sys(err, errno, "asking how much is in a pipe");
	if (avail == 0)
		return 0;
	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_sys(err, errno, "making a pipe");
	rd = p[0];
	wr = p[1];
	size = fcntl(fd, F_GETPIPE_SZ);
	if (size > fcntl(wr, F_GETPIPE_SZ) && fcntl(wr, F_SETPIPE_SZ, size) < 0)
		return error_sys(err, errno, "making a pipe of %d bytes", size);
	src = obj_reopen(fd, O_RDONLY | O_NONBLOCK);
	n = tee(src >= 0 ? src : fd, wr, (size_t)size, SPLICE_F_NONBLOCK);
	if (n != avail)
		return error_set(err, EIO, "copied %zd of the %d bytes in a pipe", n, avail);
	buf = mem_zalloc((size_t)size);
	while (rc == 0 && (n = read(rd, buf, (size_t)size)) > 0)
		rc = chunk(ctx, buf, (size_t)n);
	return rc;
}

static int chunk_add(void *ctx, const void *data, size_t len)
{
	Cko__Pipe *m = ctx;
	ProtobufCBinaryData *c;

	m->chunks = mem_grow(m->chunks, m->n_chunks + 1, sizeof(*m->chunks));
	c = &m->chunks[m->n_chunks++];
	c->data = mem_zalloc(len);
	c->len = len;
	memcpy(c->data, data, len);
	return 0;
}

static int pipe_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cko__Pipe m = CKO__PIPE__INIT;
	const struct ofd *reader = NULL;
	struct statfs fs = { 0 };
	bool first = true;
	int n = 0, size = fcntl(o->fd, F_GETPIPE_SZ);

	for (size_t i = 0; i < dump_ofd_count(d); i++) {
		const struct ofd *x = dump_ofd_at(d, i);

		if (!same_pipe(o, x))
			continue;
		if (!reader && can_read(x))
			reader = x;
		if (can_write(x) && (x->flags & O_DIRECT))
			m.packets = true;
		/* a reader in flight may be found only after the writer was dumped */
		if (x != o && x->dumped && (can_read(x) || !can_read(o)))
			first = false;
	}
	m.key = ((uint64_t)o->st.st_dev << 32) ^ o->st.st_ino;
	m.flags = (uint32_t)o->flags;
	m.size = size > 0 ? (uint32_t)size : 0;
	if (is_named(o) && !str_ends(o->link, " (deleted)"))
		m.path = o->link;
	else
		m.inode = obj_inode_dump(o->fd, &o->st, false);
	if (first && can_read(o))
		n = pipe_peek(o->fd, chunk_add, &m, err);
	if (first && !reader && fstatfs(o->fd, &fs) == 0) {
		int left = 0;

		/* a fifo whose readers left keeps its content for the next one */
		if (ioctl(o->fd, FIONREAD, &left) == 0 && left && is_named(o))
			n = pipe_peek(o->fd, chunk_add, &m, err);
	}
	if (n == 0)
		n = obj_owner_dump(d, o, &m.owner, err);
	if (n == 0)
		obj_pack(&m.base, body);
	for (size_t i = 0; i < m.n_chunks; i++)
		free(m.chunks[i].data);
	free(m.chunks);
	obj_inode_free(m.inode);
	free(m.owner);
	return n;
}

/* --- destination ---------------------------------------------------------------------- */
static int pipe_make(struct restore *r, const Cko__Pipe *m, struct made *p, struct error *err)
{
	int fds[2];

	if (!*m->path) {
		if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
			return error_sys(err, errno, "making a pipe");
		p->rd = fds[0];
		p->wr = fds[1];
		if (m->inode && (fchown(p->rd, m->inode->uid, m->inode->gid) < 0 ||
				 fchmod(p->rd, m->inode->mode & 07777) < 0))
			return error_sys(err, errno, "setting the owner of a pipe");
	} else {
		p->rd = obj_open_in_root(restore_root_fd(r), m->path, O_RDWR | O_NONBLOCK, 0, 0);
		if (p->rd < 0)
			return error_sys(err, -p->rd, "opening fifo %s", m->path);
		p->wr = obj_reopen(p->rd, O_WRONLY | O_NONBLOCK);
		if (p->wr < 0)
			return error_sys(err, -p->wr, "opening fifo %s", m->path);
	}
	if (m->size && fcntl(p->wr, F_GETPIPE_SZ) != (int)m->size &&
	    fcntl(p->wr, F_SETPIPE_SZ, (int)m->size) < 0)
		return error_sys(err, errno,
				 "making a pipe of %u bytes (see /proc/sys/fs/pipe-max-size)",
				 m->size);
	return 0;
}

static int pipe_fill(const Cko__Pipe *m, int wr, struct error *err)
{
	if (m->packets && fcntl(wr, F_SETFL, O_NONBLOCK | O_DIRECT) < 0)
		return error_sys(err, errno, "setting packet mode on a pipe");
	for (size_t i = 0; i < m->n_chunks; i++) {
		int n = fd_write_all(wr, m->chunks[i].data, m->chunks[i].len);

		if (n < 0)
			return error_sys(err, -n, "filling a pipe");
	}
	return 0;
}

static int pipe_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			struct error *err)
{
	CLEANUP_MSG Cko__Pipe *m = obj_unpack(&cko__pipe__descriptor, body, len, err);
	struct made *p = NULL;
	int n, mode;

	(void)id;
	if (!m)
		return -EBADMSG;
	for (size_t i = 0; i < nmade && !p; i++)
		if (made[i].key == m->key)
			p = &made[i];
	if (!p) {
		made = mem_grow(made, nmade + 1, sizeof(*made));
		p = &made[nmade++];
		*p = (struct made){ .key = m->key, .rd = -1, .wr = -1 };
		n = pipe_make(r, m, p, err);
		if (n < 0)
			return n;
	}
	n = pipe_fill(m, p->wr, err);
	if (n < 0)
		return n;
	mode = (int)m->flags & O_ACCMODE;
	*fd = obj_reopen(mode == O_WRONLY ? p->wr : p->rd, mode | O_NONBLOCK);
	if (*fd < 0)
		return error_sys(err, -*fd, "opening a pipe");
	if (fcntl(*fd, F_SETFL, (int)m->flags & (O_NONBLOCK | O_DIRECT | O_APPEND)) < 0)
		return error_sys(err, errno, "setting the flags of a pipe");
	return 0;
}

static int pipe_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
		     struct error *err)
{
	CLEANUP_MSG Cko__Pipe *m = obj_unpack(&cko__pipe__descriptor, body, len, err);

	(void)fd;
	if (!m)
		return -EBADMSG;
	return obj_owner_late(r, id, m->owner, err);
}

/* The engine's own ends go before the tasks run, or nobody would ever see an end of file. */
static int pipe_finish(struct restore *r, uint32_t id, int fd, struct error *err)
{
	(void)r;
	(void)id;
	(void)fd;
	(void)err;
	for (size_t i = 0; i < nmade; i++) {
		if (made[i].rd >= 0)
			close(made[i].rd);
		if (made[i].wr >= 0)
			close(made[i].wr);
	}
	free(made);
	made = NULL;
	nmade = 0;
	return 0;
}

const struct object_type obj_pipe = {
	.type = "pipe",
	.claims = pipe_claims,
	.check = pipe_check,
	.dump = pipe_dump,
	.restore = pipe_restore,
	.late = pipe_late,
	.finish = pipe_finish,
};
