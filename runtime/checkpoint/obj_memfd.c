/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memfd: name, seals, mode and content. Where it is mapped somewhere its content is the
 * core's (a shared memory object); a memfd that is only a file travels like a deleted
 * file. Seals are put back last: they forbid the writing that fills it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"

static bool memfd_claims(const struct ofd *o)
{
	return str_starts(o->link, "/memfd:");
}

static int memfd_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	obj_locks_check(d, o, out);
	return 0;
}

static int memfd_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cko__Memfd m = CKO__MEMFD__INIT;
	CLEANUP_FREE char *name = str_dup(o->link + strlen("/memfd:"));
	off_t pos = o->flags & O_PATH ? 0 : lseek(o->fd, 0, SEEK_CUR);
	int seals, n = 0;

	if (fstat(o->fd, &o->st) < 0)
		return error_sys(err, errno, "looking at %s", o->link);
	if (str_ends(name, " (deleted)"))
		name[strlen(name) - strlen(" (deleted)")] = '\0';
	seals = o->flags & O_PATH ? 0 : fcntl(o->fd, F_GET_SEALS);
	m.name = name;
	m.flags = (uint32_t)o->flags;
	m.pos = pos < 0 ? 0 : (uint64_t)pos;
	m.seals = seals < 0 ? 0 : (uint32_t)seals;
	m.inode = obj_inode_dump(o->fd, &o->st, true);
	m.shared_id = dump_shared_id(d, o->st.st_dev, o->st.st_ino);
	if (!m.shared_id)
		n = obj_content_send(d, o->fd, &o->st, &m.key, err);
	if (n == 0)
		n = obj_locks_dump(d, o, &m.locks, &m.n_locks, err);
	if (n == 0)
		obj_pack(&m.base, body);
	obj_locks_free(m.locks, m.n_locks);
	obj_inode_free(m.inode);
	return n;
}

static int memfd_make(const Cko__Memfd *m, struct error *err)
{
	CLEANUP_CLOSE int made = memfd_create(m->name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int n;

	if (made < 0)
		return error_sys(err, errno, "making memfd %s", m->name);
	n = obj_content_fill(m->key, made, m->inode ? m->inode->size : 0, err);
	if (n < 0)
		return error_wrap(err, "memfd %s", m->name);
	if (m->inode) {
		n = obj_inode_apply(made, m->inode, err);
		if (n < 0)
			return error_wrap(err, "memfd %s", m->name);
	}
	n = obj_content_made(m->key, made);
	if (n < 0)
		return error_sys(err, -n, "keeping memfd %s", m->name);
	return 0;
}

static int memfd_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			 struct error *err)
{
	CLEANUP_MSG Cko__Memfd *m = obj_unpack(&cko__memfd__descriptor, body, len, err);
	int flags, n;

	(void)id;
	if (!m)
		return -EBADMSG;
	flags = (int)m->flags & (OBJ_OPEN_FLAGS | O_PATH);
	if (m->shared_id) {
		*fd = restore_shared_fd(r, m->shared_id, flags, err);
		if (*fd < 0)
			return *fd;
	} else {
		if (obj_content_inode(m->key) < 0) {
			n = memfd_make(m, err);
			if (n < 0)
				return n;
		}
		*fd = obj_reopen(obj_content_inode(m->key), flags);
		if (*fd < 0)
			return error_sys(err, -*fd, "opening memfd %s", m->name);
	}
	if (m->flags & O_PATH)
		return 0;
	if (m->pos && lseek(*fd, (off_t)m->pos, SEEK_SET) < 0)
		return error_sys(err, errno, "setting the position in memfd %s", m->name);
	return obj_locks_restore(*fd, m->locks, m->n_locks, err);
}

static int memfd_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
		      struct error *err)
{
	CLEANUP_MSG Cko__Memfd *m = obj_unpack(&cko__memfd__descriptor, body, len, err);
	CLEANUP_CLOSE int w = -1;
	int have;

	(void)id;
	if (!m)
		return -EBADMSG;
	if (m->shared_id) /* the core seals what it filled */
		return obj_locks_late(r, m->locks, m->n_locks, err);
	/* sealing needs a descriptor that may write; the seals belong to the inode */
	have = m->flags & O_PATH ? (int)m->seals : fcntl(fd, F_GET_SEALS);
	if (m->seals && have >= 0 && (m->seals & ~(uint32_t)have)) {
		w = obj_reopen(fd, O_RDWR);
		if (w < 0 || fcntl(w, F_ADD_SEALS, m->seals & ~(uint32_t)have) < 0)
			return error_sys(err, w < 0 ? -w : errno, "sealing memfd %s", m->name);
	}
	return obj_locks_late(r, m->locks, m->n_locks, err);
}

static int memfd_finish(struct restore *r, uint32_t id, int fd, struct error *err)
{
	(void)r;
	(void)id;
	(void)fd;
	(void)err;
	obj_content_forget();
	return 0;
}

const struct object_type obj_memfd = {
	.type = "memfd",
	.claims = memfd_claims,
	.check = memfd_check,
	.dump = memfd_dump,
	.restore = memfd_restore,
	.late = memfd_late,
	.finish = memfd_finish,
};
