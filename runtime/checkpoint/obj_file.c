/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and folders with a path, and such that have lost theirs.
 *
 * A path of the container is opened again at the destination, below the container's
 * root, and must lead to a file of the same size: preflight has shown that at the source
 * the path leads to this very inode. A file without a path (deleted, O_TMPFILE) travels
 * with its content, once per inode. What belongs to the kernel (/proc, /sys, cgroups) is
 * opened by path; namespaces by the process that is in them.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/known.h"
#include "runtime/checkpoint/obj_types.h"

#define POS_END UINT64_MAX /* of a folder: everything was read */
#ifndef SECRETMEM_MAGIC
#define SECRETMEM_MAGIC 0x5345434d
#endif

enum where { BY_PATH, KERNEL_PATH, NAMESPACE, DELETED, LINKED_ELSEWHERE, NOWHERE };

static bool link_is_namespace(const char *link)
{
	static const char *const types[] = { "cgroup", "ipc",  "mnt", "net", "pid",
					     "time",   "user", "uts", NULL };

	for (int i = 0; types[i]; i++)
		if (str_starts(link, types[i]) && str_starts(link + strlen(types[i]), ":["))
			return true;
	return false;
}

static bool file_claims(const struct ofd *o)
{
	static const char *const not_files[] = { "/memfd:", "/SYSV",	      "/dev/zero (deleted)",
						 "/[aio]",  "/anon_hugepage", "/dmabuf:",
						 NULL };

	if (link_is_namespace(o->link))
		return true;
	if (o->link[0] != '/')
		return false;
	for (int i = 0; not_files[i]; i++)
		if (str_starts(o->link, not_files[i]))
			return false;
	return (o->flags & O_PATH) || S_ISREG(o->st.st_mode) || S_ISDIR(o->st.st_mode);
}

static bool path_leads_to(int root, const char *path, const struct stat *want)
{
	CLEANUP_CLOSE int fd = obj_open_in_root(root, path, O_PATH | O_NOFOLLOW, 0, 0);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == want->st_dev &&
	       st.st_ino == want->st_ino;
}

/* The link without its " (deleted)"; caller frees. */
static char *link_path(const char *link)
{
	char *p = str_dup(link);

	if (str_ends(p, " (deleted)"))
		p[strlen(p) - strlen(" (deleted)")] = '\0';
	return p;
}

static char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == path || !slash ? str_dup("/")
				       : str_format("%.*s", (int)(slash - path), path);
}

/* Where the file is to be found again; *path is the container's path of it (caller frees). */
static enum where file_where(struct dump *d, const struct ofd *o, char **path)
{
	int root = dump_root_fd(d);
	CLEANUP_FREE char *near = NULL;
	struct statfs fs = { 0 };
	struct stat st;

	*path = NULL;
	if (link_is_namespace(o->link))
		return NAMESPACE;
	if (path_leads_to(root, o->link, &o->st)) {
		*path = str_dup(o->link);
		if (fstatfs(o->fd, &fs) < 0)
			return BY_PATH;
		switch ((unsigned long)fs.f_type) {
		case PROC_SUPER_MAGIC:
		case SYSFS_MAGIC:
		case CGROUP_SUPER_MAGIC:
		case CGROUP2_SUPER_MAGIC:
			return KERNEL_PATH;
		default:
			return BY_PATH;
		}
	}
	*path = link_path(o->link);
	if (!str_ends(o->link, " (deleted)") || fstat(o->fd, &st) < 0)
		return NOWHERE;
	if (st.st_nlink == 0 || (S_ISDIR(st.st_mode) && st.st_nlink < 2))
		return DELETED;
	near = folder_of(*path);
	free(*path);
	*path = obj_path_of_inode(root, st.st_dev, st.st_ino, near);
	return *path ? LINKED_ELSEWHERE : NOWHERE;
}

/* Which process of the container is in the namespace behind o; 0: none. */
static pid_t namespace_member(struct dump *d, const struct ofd *o, char *type, size_t cap)
{
	snprintf(type, cap, "%.*s", (int)strcspn(o->link, ":"), o->link);
	for (size_t i = 0; i < dump_task_count(d); i++) {
		struct task *t = dump_task_at(d, i);
		CLEANUP_FREE char *p = str_format("/proc/%d/ns/%s", task_pid(t), type);
		struct stat st;

		if (stat(p, &st) == 0 && st.st_ino == o->st.st_ino && st.st_dev == o->st.st_dev)
			return task_vpid(t);
	}
	return 0;
}

/* A reason why a file of /proc cannot be opened again, or NULL. */
static const char *proc_refused(const char *path)
{
	int pid, tid, n = 0;

	if (sscanf(path, "/proc/%d/task/%d%n", &pid, &tid, &n) == 2 && n && pid != tid)
		return "it belongs to a thread";
	if (strcmp(path, "/proc/kmsg") == 0 || strcmp(path, "/proc/kcore") == 0 ||
	    str_starts(path, "/proc/pressure/") || strcmp(path, "/proc/mounts") == 0)
		return "its state is the host's";
	return NULL;
}

static int file_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	CLEANUP_FREE char *path = NULL;
	char type[16];
	struct statfs fs = { 0 };
	const char *why;

	switch (file_where(d, o, &path)) {
	case BY_PATH:
	case LINKED_ELSEWHERE:
		/* A folder of a file system that ferry does not know is still found by path. */
		if (fstatfs(o->fd, &fs) == 0 &&
		    (fs.f_type == DEBUGFS_MAGIC || fs.f_type == TRACEFS_MAGIC ||
		     fs.f_type == BPF_FS_MAGIC || fs.f_type == SECURITYFS_MAGIC))
			obj_obstacle(out, o, o->link, "it is a file of this host's kernel",
				     "close it before the migration");
		else if (S_ISREG(o->st.st_mode) && !(o->flags & O_PATH) &&
			 !known_fs((unsigned long)fs.f_type))
			obj_obstacle(out, o, o->link,
				     "ferry does not know the file system that it is on, or its "
				     "files hold state of this host's kernel",
				     "close it before the migration");
		break;
	case KERNEL_PATH:
		why = proc_refused(path);
		if (why)
			obj_obstacle(out, o, o->link, why, "close it before the migration");
		break;
	case NAMESPACE:
		if (!namespace_member(d, o, type, sizeof(type)))
			obj_obstacle(out, o, o->link,
				     "it is a namespace in which no process of the container is",
				     "close the descriptor");
		break;
	case DELETED:
		if (fstatfs(o->fd, &fs) == 0 && (unsigned long)fs.f_type == SECRETMEM_MAGIC)
			obj_obstacle(out, o, o->link, "memfd_secret memory cannot be read",
				     "let the program use memfd_create");
		else if (!S_ISREG(o->st.st_mode) && !S_ISDIR(o->st.st_mode))
			obj_obstacle(out, o, o->link, "it is deleted and neither file nor folder",
				     "close the descriptor");
		break;
	case NOWHERE:
		if (fstatfs(o->fd, &fs) == 0 && (unsigned long)fs.f_type == SECRETMEM_MAGIC)
			obj_obstacle(out, o, "memfd_secret", "its memory cannot be read",
				     "let the program use memfd_create");
		else
			obj_obstacle(
				out, o, o->link,
				"no path of the container leads to it any more (a mount covers it, "
				"it lies outside of the container's root, or it was unlinked and "
				"has "
				"another name that was not found)",
				"close the descriptor, or remove the mount that covers it");
		break;
	}
	obj_locks_check(d, o, out);
	if (fdinfo_value(o->fdinfo, "lock"))
		obj_owner_check(d, o, out);
	return 0;
}

static uint64_t folder_pos(const struct ofd *o)
{
	off_t pos = lseek(o->fd, 0, SEEK_CUR);
	CLEANUP_CLOSE int fd = -1;
	char buf[4096];

	if (pos <= 0)
		return 0;
	fd = obj_reopen(o->fd, O_RDONLY | O_DIRECTORY);
	if (fd >= 0 && lseek(fd, pos, SEEK_SET) == pos &&
	    syscall(SYS_getdents64, fd, buf, sizeof(buf)) == 0)
		return POS_END;
	return (uint64_t)pos;
}

static int file_dump_deleted(struct dump *d, struct ofd *o, Cko__File *m, struct error *err)
{
	const char *name;
	int n;

	m->inode = obj_inode_dump(o->fd, &o->st, true);
	if (S_ISDIR(o->st.st_mode)) {
		m->content = UINT64_MAX;
		return 0;
	}
	name = strrchr(m->path, '/');
	m->linkable = name && name[1] == '#' && strspn(name + 2, "0123456789") == strlen(name + 2);
	n = obj_content_send(d, o->fd, &o->st, &m->content, err);
	return n;
}

static int file_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cko__File m = CKO__FILE__INIT;
	CLEANUP_FREE char *path = NULL;
	char type[16];
	int n = 0;

	if (fstat(o->fd, &o->st) < 0) /* the size that counts is the one at the freeze */
		return error_sys(err, errno, "looking at %s", o->link);
	m.flags = (uint32_t)o->flags;
	m.format = o->st.st_mode & S_IFMT;
	m.size = (uint64_t)o->st.st_size;
	if (!(o->flags & O_PATH)) {
		off_t pos = lseek(o->fd, 0, SEEK_CUR);

		m.pos = S_ISDIR(o->st.st_mode) ? folder_pos(o) : pos < 0 ? 0 : (uint64_t)pos;
	}
	m.shared_id = S_ISREG(o->st.st_mode) ? dump_shared_id(d, o->st.st_dev, o->st.st_ino) : 0;
	if (!m.shared_id) {
		switch (file_where(d, o, &path)) {
		case NAMESPACE:
			m.ns_vpid = namespace_member(d, o, type, sizeof(type));
			m.ns_type = type;
			if (!m.ns_vpid)
				n = error_set(err, ENOTSUP, "%s: nobody is in it", o->link);
			break;
		case DELETED:
			m.path = path;
			n = file_dump_deleted(d, o, &m, err);
			break;
		case KERNEL_PATH:
			m.size = UINT64_MAX; /* is not compared */
			break;
		case NOWHERE:
			n = error_set(err, ENOTSUP, "no path leads to %s any more", o->link);
			break;
		default:
			break;
		}
	}
	m.path = path ? path : o->link;
	if (n == 0)
		n = obj_locks_dump(d, o, &m.locks, &m.n_locks, err);
	if (n == 0)
		n = obj_owner_dump(d, o, &m.owner, err);
	if (n == 0)
		obj_pack(&m.base, body);
	obj_locks_free(m.locks, m.n_locks);
	obj_inode_free(m.inode);
	free(m.owner);
	return n;
}

/* --- destination ---------------------------------------------------------------------- */
/* In the folder where the file was, or the nearest that is there. */
int obj_deleted_make(int root, const char *path, bool is_dir, bool linkable, struct error *err)
{
	CLEANUP_FREE char *folder = folder_of(path);
	CLEANUP_CLOSE int at = -1;
	char name[64];
	int fd = -1;

	for (;;) {
		CLEANUP_FREE char *up = NULL;

		at = obj_open_in_root(root, folder, O_PATH | O_DIRECTORY, 0, 0);
		if (at >= 0 || strcmp(folder, "/") == 0)
			break;
		up = folder_of(folder);
		free(folder);
		folder = TAKE_PTR(up);
	}
	if (at < 0)
		return error_sys(err, -at, "looking for the folder of %s", path);
	/* Only what came from O_TMPFILE looks like it the next time. */
	if (!is_dir && linkable) {
		fd = openat(at, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (fd >= 0)
			return fd;
	}
	snprintf(name, sizeof(name), ".ferry-deleted-%d", getpid());
	if (is_dir) {
		if (mkdirat(at, name, 0700) < 0)
			return error_sys(err, errno, "making deleted folder %s again", path);
		fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		unlinkat(at, name, AT_REMOVEDIR);
	} else {
		fd = openat(at, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		unlinkat(at, name, 0);
	}
	return fd < 0 ? error_sys(err, errno, "making deleted file %s again", path) : fd;
}

static int deleted_restore(struct restore *r, const Cko__File *m, int *fd, struct error *err)
{
	CLEANUP_CLOSE int made = -1;
	int inode = m->format == S_IFREG ? obj_content_inode(m->content) : -1;
	int n;

	if (inode < 0 || !obj_content_complete(m->content)) {
		made = inode >= 0 ? fcntl(inode, F_DUPFD_CLOEXEC, 0)
				  : obj_deleted_make(restore_root_fd(r), m->path,
						     m->format == S_IFDIR, m->linkable, err);
		if (made < 0)
			return made;
		if (m->format == S_IFREG) {
			n = obj_content_fill(m->content, made, m->size, err);
			if (n < 0)
				return error_wrap(err, "%s", m->path);
		}
		if (m->inode) {
			n = obj_inode_apply(made, m->inode, err);
			if (n < 0)
				return error_wrap(err, "%s", m->path);
		}
		if (m->format == S_IFREG)
			obj_content_made(m->content, made);
		inode = made;
	}
	*fd = obj_reopen(inode, (int)(m->flags & (OBJ_OPEN_FLAGS | O_PATH)));
	return *fd < 0 ? error_sys(err, -*fd, "opening deleted %s", m->path) : 0;
}

static int path_restore(struct restore *r, const Cko__File *m, int *fd, struct error *err)
{
	int flags = (int)(m->flags & OBJ_OPEN_FLAGS);
	struct stat st;

	if (m->flags & O_PATH)
		flags = O_PATH | O_NOFOLLOW;
	else if (m->format == S_IFDIR)
		flags |= O_DIRECTORY;
	/* O_NONBLOCK: nothing here may wait for a lease or a fifo's other end */
	*fd = obj_open_in_root(restore_root_fd(r), m->path, flags | O_NONBLOCK | O_NOCTTY, 0, 0);
	if (*fd == -EINVAL && (m->flags & O_PATH))
		*fd = obj_open_in_root(restore_root_fd(r), m->path, flags, 0, 0);
	if (*fd < 0)
		return error_sys(err, -*fd, "opening %s in the container", m->path);
	if (fstat(*fd, &st) < 0 || (st.st_mode & S_IFMT) != m->format)
		return error_set(err, EBUSY, "%s is another kind of file here", m->path);
	if (S_ISREG(st.st_mode) && m->size != UINT64_MAX && (uint64_t)st.st_size != m->size)
		return error_set(err, EBUSY,
				 "%s has %lld bytes here and had %llu at the source: it is not "
				 "the same file",
				 m->path, (long long)st.st_size, (unsigned long long)m->size);
	return 0;
}

static int namespace_restore(struct restore *r, const Cko__File *m, int *fd, struct error *err)
{
	struct task *t = restore_task(r, m->ns_vpid);
	CLEANUP_FREE char *path = NULL;

	if (!t || strchr(m->ns_type, '/'))
		return error_set(err, ESRCH, "process %d, whose namespace is open, is not there",
				 m->ns_vpid);
	path = str_format("/proc/%d/ns/%s", task_pid(t), m->ns_type);
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	return *fd < 0 ? error_sys(err, errno, "opening %s", path) : 0;
}

static int file_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			struct error *err)
{
	CLEANUP_MSG Cko__File *m = obj_unpack(&cko__file__descriptor, body, len, err);
	CLEANUP_CLOSE int made = -1;
	char buf[32768];
	long got;
	int n;

	(void)id;
	if (!m)
		return -EBADMSG;
	if (m->ns_vpid)
		n = namespace_restore(r, m, &made, err);
	else if (m->shared_id)
		n = (made = restore_shared_fd(r, m->shared_id,
					      (int)(m->flags & (OBJ_OPEN_FLAGS | O_PATH)), err));
	else if (m->content)
		n = deleted_restore(r, m, &made, err);
	else
		n = path_restore(r, m, &made, err);
	if (n < 0)
		return n;
	if (!(m->flags & O_PATH)) {
		if (m->format == S_IFDIR && m->pos == POS_END) {
			do
				got = syscall(SYS_getdents64, made, buf, sizeof(buf));
			while (got > 0);
		} else if (m->pos && lseek(made, (off_t)m->pos, SEEK_SET) < 0) {
			return error_sys(err, errno, "setting the position in %s", m->path);
		}
		if (fcntl(made, F_SETFL,
			  (int)m->flags & (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME)) < 0)
			return error_sys(err, errno, "setting the flags of %s", m->path);
		n = obj_locks_restore(made, m->locks, m->n_locks, err);
		if (n < 0)
			return error_wrap(err, "%s", m->path);
	}
	*fd = TAKE_FD(made);
	return 0;
}

static int file_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
		     struct error *err)
{
	CLEANUP_MSG Cko__File *m = obj_unpack(&cko__file__descriptor, body, len, err);
	int n;

	(void)fd;
	if (!m)
		return -EBADMSG;
	n = obj_locks_late(r, m->locks, m->n_locks, err);
	if (n < 0)
		return error_wrap(err, "%s", m->path);
	return obj_owner_late(r, id, m->owner, err);
}

static int file_finish(struct restore *r, uint32_t id, int fd, struct error *err)
{
	(void)r;
	(void)id;
	(void)fd;
	(void)err;
	obj_content_forget();
	return 0;
}

const struct object_type obj_file = {
	.type = "file",
	.claims = file_claims,
	.check = file_check,
	.dump = file_dump,
	.restore = file_restore,
	.late = file_late,
	.finish = file_finish,
};
