/* SPDX-License-Identifier: Apache-2.0 */
/* Destination of a directory tree: lays frames onto a mounted root. See tree.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/tree.h"
#include "runtime/checkpoint/tree_attr.h"

#define STAY (RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)

/* A place: the open parent folder and a name in it. */
struct place {
	int parent;
	const char *name;
	char *dir;
};

/* Parents must be plain names: no empty part, no "." and "..". */
static bool path_is_plain(const char *p)
{
	if (!*p)
		return true;
	for (;;) {
		size_t n = strcspn(p, "/");

		if (n == 0 || n > 255 || (n == 1 && p[0] == '.') ||
		    (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		if (!p[n])
			return true;
		p += n + 1;
	}
}

/* 0; 1: covered by a mount, leave it alone; -errno. */
static int place_find(int root, const char *path, struct place *at, struct error *err)
{
	const char *slash = strrchr(path, '/');

	at->name = slash ? slash + 1 : path;
	at->dir = slash ? str_format("%.*s", (int)(slash - path), path) : str_dup(".");
	at->parent = obj_open_in_root(root, at->dir, O_PATH | O_DIRECTORY, 0, STAY);
	if (at->parent == -EXDEV)
		return 1;
	if (at->parent < 0)
		return error_sys(err, -at->parent, "opening folder %s of the container", at->dir);
	return 0;
}

static void place_end(struct place *at)
{
	if (at->parent >= 0)
		close(at->parent);
	free(at->dir);
}
#define CLEANUP_PLACE __attribute__((cleanup(place_end)))

/* What is there now: an O_PATH descriptor, -ENOENT, or -EXDEV (a mount stands on it). */
static int look(const struct place *at, struct stat *st)
{
	int fd = obj_open_in_root(at->parent, at->name, O_PATH | O_NOFOLLOW, 0,
				  RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS);

	if (fd >= 0 && fstat(fd, st) < 0) {
		int e = -errno;

		close(fd);
		return e;
	}
	return fd;
}

static int remove_all(int parent, const char *name, struct error *err);

static int remove_children(int parent, const char *name, struct error *err)
{
	int fd = obj_open_in_root(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, STAY);
	CLEANUP_CLOSEDIR DIR *dir = NULL;
	struct dirent *e;

	if (fd == -EXDEV)
		return 0;
	if (fd < 0)
		return error_sys(err, -fd, "opening %s", name);
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return error_sys(err, errno, "listing %s", name);
	}
	while ((e = readdir(dir))) {
		int n;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		n = remove_all(fd, e->d_name, err);
		if (n < 0)
			return n;
	}
	return 0;
}

static int remove_all(int parent, const char *name, struct error *err)
{
	int n;

	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT || errno == EBUSY)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return error_sys(err, errno, "removing %s", name);
	n = remove_children(parent, name, err);
	if (n < 0)
		return n;
	/* ENOTEMPTY: a mount point is left inside, which the source had as well */
	if (unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT && errno != EBUSY &&
	    errno != ENOTEMPTY)
		return error_sys(err, errno, "removing folder %s", name);
	return 0;
}

static int make_folder(const struct place *at, bool empty, struct error *err)
{
	struct stat st;
	CLEANUP_CLOSE int old = look(at, &st);
	int n;

	if (old == -EXDEV)
		return 0;
	if (old >= 0 && S_ISDIR(st.st_mode))
		return empty ? remove_children(at->parent, at->name, err) : 0;
	if (old >= 0) {
		n = remove_all(at->parent, at->name, err);
		if (n < 0)
			return n;
	}
	if (mkdirat(at->parent, at->name, 0700) < 0)
		return error_sys(err, errno, "making folder %s", at->name);
	return 0;
}

static int write_extents(int fd, const Cko__TreeEntry *e, struct error *err)
{
	for (size_t i = 0; i < e->n_extents; i++) {
		const Cko__TreeExtent *x = e->extents[i];
		static const char zeros[65536];

		if (x->offset > INT64_MAX || x->zeros > INT64_MAX - x->offset)
			return error_set(err, EBADMSG, "a tree's frame has a bad offset");
		if (x->zeros && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					  (off_t)x->offset, (off_t)x->zeros) < 0) {
			for (uint64_t done = 0; done < x->zeros;) {
				size_t want = x->zeros - done < sizeof(zeros)
						      ? (size_t)(x->zeros - done)
						      : sizeof(zeros);
				ssize_t w = pwrite(fd, zeros, want, (off_t)(x->offset + done));

				if (w <= 0)
					return error_sys(err, errno, "writing");
				done += (uint64_t)w;
			}
		}
		for (size_t done = 0; done < x->data.len;) {
			ssize_t w = pwrite(fd, x->data.data + done, x->data.len - done,
					   (off_t)(x->offset + done));

			if (w < 0 && errno == EINTR)
				continue;
			if (w <= 0)
				return error_sys(err, errno, "writing");
			done += (size_t)w;
		}
	}
	return 0;
}

static int write_file(const struct place *at, const Cko__TreeEntry *e, struct error *err)
{
	bool start = e->kind == CKO__TREE_KIND__TREE_FILE;
	struct stat st;
	CLEANUP_CLOSE int old = look(at, &st);
	CLEANUP_CLOSE int fd = -1;
	int n;

	if (old == -EXDEV)
		return 0;
	if (old >= 0 && !S_ISREG(st.st_mode)) {
		n = remove_all(at->parent, at->name, err);
		if (n < 0)
			return n;
	}
	fd = openat(at->parent, at->name,
		    O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (start ? O_CREAT : 0), 0600);
	if (fd < 0)
		return error_sys(err, errno, "opening");
	if (start && e->whole && ftruncate(fd, 0) < 0)
		return error_sys(err, errno, "emptying");
	if (start && e->inode &&
	    (e->inode->size > INT64_MAX || ftruncate(fd, (off_t)e->inode->size) < 0))
		return error_sys(err, errno, "setting the size");
	n = write_extents(fd, e, err);
	return n < 0 ? n : tree_space_set(fd, e, err);
}

static int make_symlink(const struct place *at, const Cko__TreeEntry *e, struct error *err)
{
	struct stat st;
	CLEANUP_CLOSE int old = look(at, &st);
	char now[4096];
	ssize_t len;
	int n;

	if (old == -EXDEV)
		return 0;
	if (old >= 0 && S_ISLNK(st.st_mode)) {
		len = readlinkat(old, "", now, sizeof(now) - 1);
		if (len >= 0 && (size_t)len == strlen(e->target) &&
		    memcmp(now, e->target, (size_t)len) == 0)
			return 0;
	}
	if (old >= 0) {
		n = remove_all(at->parent, at->name, err);
		if (n < 0)
			return n;
	}
	if (symlinkat(e->target, at->parent, at->name) < 0)
		return error_sys(err, errno, "making symbolic link");
	return 0;
}

static int make_link(int root, const struct place *at, const Cko__TreeEntry *e, struct error *err)
{
	CLEANUP_PLACE struct place to = { .parent = -1 };
	CLEANUP_CLOSE int target = -1, old = -1;
	struct stat st, have;
	int n;

	if (!*e->target || !path_is_plain(e->target))
		return error_set(err, EBADMSG, "bad target");
	n = place_find(root, e->target, &to, err);
	if (n)
		return n < 0 ? n : 0;
	target = look(&to, &st);
	if (target == -EXDEV)
		return 0;
	if (target < 0)
		return error_sys(err, -target, "looking for %s", e->target);
	old = look(at, &have);
	if (old == -EXDEV)
		return 0;
	if (old >= 0 && have.st_ino == st.st_ino && have.st_dev == st.st_dev)
		return 0;
	if (old >= 0) {
		n = remove_all(at->parent, at->name, err);
		if (n < 0)
			return n;
	}
	if (linkat(to.parent, to.name, at->parent, at->name, 0) < 0)
		return error_sys(err, errno, "linking to %s", e->target);
	return 0;
}

static int make_node(const struct place *at, const Cko__TreeEntry *e, struct error *err)
{
	struct stat st;
	CLEANUP_CLOSE int old = look(at, &st);
	mode_t format = e->inode ? e->inode->mode & S_IFMT : 0;
	int n;

	if (old == -EXDEV)
		return 0;
	if (format != S_IFCHR && format != S_IFBLK && format != S_IFIFO && format != S_IFSOCK)
		return error_set(err, EBADMSG, "bad kind of file");
	if (old >= 0 && (st.st_mode & S_IFMT) == format &&
	    (format == S_IFIFO || format == S_IFSOCK || st.st_rdev == e->rdev))
		return 0;
	if (old >= 0) {
		n = remove_all(at->parent, at->name, err);
		if (n < 0)
			return n;
	}
	if (mknodat(at->parent, at->name, format | 0600, e->rdev) < 0)
		return error_sys(err, errno, "making a device node, fifo or socket");
	return 0;
}

static int set_attributes(int root, const char *dest, const struct place *at,
			  const Cko__TreeEntry *e, struct error *err)
{
	int n;
	struct stat st;
	CLEANUP_CLOSE int fd =
		*e->path ? look(at, &st) : obj_open_in_root(root, ".", O_PATH | O_DIRECTORY, 0, 0);

	if (fd == -EXDEV)
		return 0;
	if (fd < 0 || !e->inode)
		return error_sys(err, fd < 0 ? -fd : EBADMSG, "setting attributes");
	if (*e->path && (st.st_mode & S_IFMT) != (e->inode->mode & S_IFMT))
		return error_set(err, EBUSY, "another kind of file stands there");
	n = obj_inode_apply(fd, e->inode, err);
	return n < 0 ? n
		     : tree_attr_set(fd, e->inode->mode, dest, e->path, e->inode->attributes, err);
}

static int apply_writable(int root, const char *dest, const Cko__TreeEntry *e, struct error *err)
{
	CLEANUP_PLACE struct place at = { .parent = -1 };
	int n;

	if (!path_is_plain(e->path))
		return error_set(err, EBADMSG, "bad path");
	if (!*e->path)
		return e->kind == CKO__TREE_KIND__TREE_ATTR
			       ? set_attributes(root, dest, &at, e, err)
			       : 0;
	n = place_find(root, e->path, &at, err);
	if (n)
		return n < 0 ? n : 0;
	switch (e->kind) {
	case CKO__TREE_KIND__TREE_REMOVE:
		return remove_all(at.parent, at.name, err);
	case CKO__TREE_KIND__TREE_DIR:
		return make_folder(&at, false, err);
	case CKO__TREE_KIND__TREE_OPAQUE:
		return make_folder(&at, true, err);
	case CKO__TREE_KIND__TREE_FILE:
	case CKO__TREE_KIND__TREE_DATA:
		return write_file(&at, e, err);
	case CKO__TREE_KIND__TREE_SYMLINK:
		return make_symlink(&at, e, err);
	case CKO__TREE_KIND__TREE_HARDLINK:
		return make_link(root, &at, e, err);
	case CKO__TREE_KIND__TREE_NODE:
		return make_node(&at, e, err);
	case CKO__TREE_KIND__TREE_ATTR:
		return set_attributes(root, dest, &at, e, err);
	default:
		return error_set(err, EBADMSG, "unknown kind %d", (int)e->kind);
	}
}

/*
 * On a read-only root nothing can have changed since the runtime made it: what it put
 * there itself (mount points) is there on both sides.
 */
static int apply(int root, const char *dest, const Cko__TreeEntry *e, struct error *err)
{
	CLEANUP_PLACE struct place at = { .parent = -1 };
	CLEANUP_CLOSE int there = -1;
	struct stat st;
	int n = apply_writable(root, dest, e, err);

	if (n != -EROFS)
		return n;
	if (!*e->path)
		return 0;
	if (place_find(root, e->path, &at, NULL) != 0)
		return n;
	there = look(&at, &st);
	if (e->kind == CKO__TREE_KIND__TREE_REMOVE ? there == -ENOENT : there >= 0)
		return 0;
	return n;
}

int tree_dest_apply(int root_fd, const void *frame, size_t len, struct error *err)
{
	CLEANUP_MSG Cko__TreeFrame *m = obj_unpack(&cko__tree_frame__descriptor, frame, len, err);
	CLEANUP_CLOSE int root = -1;

	if (!m)
		return -EBADMSG;
	root = obj_open_in_root(root_fd, m->dest, O_PATH | O_DIRECTORY, 0, RESOLVE_NO_MAGICLINKS);
	if (root < 0)
		return error_sys(err, -root, "opening folder %s of the container", m->dest);
	for (size_t i = 0; i < m->n_entries; i++)
		if (apply(root, m->dest, m->entries[i], err) < 0)
			return error_wrap(err, "/%s of the tree at %s", m->entries[i]->path,
					  m->dest);
	return 0;
}
