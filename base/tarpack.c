/* SPDX-License-Identifier: Apache-2.0 */
/* Packing a folder into a tar; tar.h is the contract. */
#include "base/tar.h"

#include <archive_entry.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define CHUNK	  (256u << 10)
#define XATTR_MAX 65536
#define DEPTH_MAX 512 /* each level holds a descriptor */

/* A file with several names that has been written. */
struct linked {
	dev_t dev;
	ino_t ino;
	char *name;
};

struct pack {
	struct archive *a;
	const struct tar_options *o;
	int fd;
	char *buf;
	struct linked *links;
	size_t nlinks, cap;
	int write_error;
};

static la_ssize_t sink(struct archive *a, void *ctx, const void *p, size_t n)
{
	struct pack *k = ctx;

	k->write_error = -fd_write_all(k->fd, p, n);
	if (k->write_error) {
		archive_set_error(a, k->write_error, "%s", strerror(k->write_error));
		return -1;
	}
	return (la_ssize_t)n;
}

static int failed(struct pack *k, struct error *err, const char *name)
{
	if (k->write_error)
		return error_sys(err, k->write_error, "writing the archive");
	return tar_error(k->a, err, "packing \"%s\"", name);
}

/* The name under which a file with several names came before, or NULL. */
static const char *known_link(struct pack *k, const struct stat *st, const char *name)
{
	if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
		return NULL;
	for (size_t i = 0; i < k->nlinks; i++)
		if (k->links[i].ino == st->st_ino && k->links[i].dev == st->st_dev)
			return k->links[i].name;
	if (k->nlinks == k->cap) {
		k->cap = k->cap ? 2 * k->cap : 64;
		k->links = mem_grow(k->links, k->cap, sizeof(*k->links));
	}
	k->links[k->nlinks++] = (struct linked){ st->st_dev, st->st_ino, str_dup(name) };
	return NULL;
}

bool tar_is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

bool tar_is_opaque(int dir)
{
	char value;

	return fgetxattr(dir, "trusted.overlay.opaque", &value, 1) == 1 && value == 'y';
}

/* What overlayfs keeps in xattrs of its own is not the container's. */
static void add_xattrs(struct archive_entry *e, const char *path)
{
	CLEANUP_FREE char *names = mem_zalloc(XATTR_MAX), *value = mem_zalloc(XATTR_MAX);
	ssize_t n = llistxattr(path, names, XATTR_MAX), len;

	for (const char *p = names; n > 0 && p < names + n; p += strlen(p) + 1) {
		if (str_starts(p, "trusted.overlay.") || str_starts(p, "user.overlay.") ||
		    str_starts(p, "system.posix_acl"))
			continue;
		len = lgetxattr(path, p, value, XATTR_MAX);
		if (len >= 0)
			archive_entry_xattr_add_entry(e, p, value, (size_t)len);
	}
}

/* An empty file: what stands for a whiteout. */
static int add_marker(struct pack *k, const char *dir, const char *name, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s%s%s", dir, *dir ? "/" : "", name);
	struct archive_entry *e = archive_entry_new();
	int r;

	archive_entry_set_pathname(e, path);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_perm(e, 0600);
	archive_entry_set_size(e, 0);
	r = archive_write_header(k->a, e) == ARCHIVE_OK ? 0 : failed(k, err, path);
	archive_entry_free(e);
	return r;
}

/* A file that shrinks meanwhile is filled up with zeros, what it grows by is left out. */
static int add_content(struct pack *k, int parent, const char *leaf, const char *name,
		       uint64_t size, struct error *err)
{
	CLEANUP_CLOSE int fd = openat(parent, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return error_sys(err, errno, "opening \"%s\"", name);
	while (size) {
		size_t want = size < CHUNK ? (size_t)size : CHUNK;

		n = read(fd, k->buf, want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_sys(err, errno, "reading \"%s\"", name);
		if (n == 0) {
			memset(k->buf, 0, want);
			n = (ssize_t)want;
		}
		if (archive_write_data(k->a, k->buf, (size_t)n) != n)
			return failed(k, err, name);
		size -= (uint64_t)n;
	}
	return 0;
}

static int add_header(struct pack *k, int parent, const char *leaf, const char *name,
		      const struct stat *st, bool *content, struct error *err)
{
	CLEANUP_FREE char *proc = str_format("/proc/self/fd/%d/%s", parent, leaf);
	struct archive_entry *e = archive_entry_new();
	const char *link = known_link(k, st, name);
	char target[4096];
	ssize_t n;
	int r = 0;

	archive_entry_copy_stat(e, st);
	archive_entry_set_pathname(e, name);
	archive_entry_unset_atime(e);
	archive_entry_unset_ctime(e);
	*content = S_ISREG(st->st_mode) && !link;
	if (link) {
		archive_entry_set_hardlink(e, link);
		archive_entry_set_size(e, 0);
	} else if (S_ISLNK(st->st_mode)) {
		n = readlinkat(parent, leaf, target, sizeof(target) - 1);
		if (n < 0)
			r = error_sys(err, errno, "reading \"%s\"", name);
		else
			target[n] = '\0';
		archive_entry_set_symlink(e, target);
		archive_entry_set_size(e, 0);
	} else if (!S_ISREG(st->st_mode)) {
		archive_entry_set_size(e, 0);
	}
	if (!link)
		add_xattrs(e, proc);
	if (r == 0 && archive_write_header(k->a, e) < ARCHIVE_WARN)
		r = failed(k, err, name);
	archive_entry_free(e);
	return r;
}

static int add_dir(struct pack *k, int dir, const char *name, int depth, struct error *err);

static int add_one(struct pack *k, int parent, const char *leaf, const char *name, int depth,
		   struct error *err)
{
	CLEANUP_CLOSE int dir = -1;
	struct stat st, up;
	bool content;
	int r;

	if (fstatat(parent, leaf, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : error_sys(err, errno, "looking at \"%s\"", name);
	if (S_ISSOCK(st.st_mode))
		return 0;
	if (k->o->whiteouts && tar_is_whiteout(&st)) {
		const char *slash = strrchr(name, '/');
		CLEANUP_FREE char *folder =
			str_format("%.*s", slash ? (int)(slash - name) : 0, name);
		CLEANUP_FREE char *marker = str_format(".wh.%s", slash ? slash + 1 : name);

		return add_marker(k, folder, marker, err);
	}
	if (!S_ISDIR(st.st_mode)) {
		r = add_header(k, parent, leaf, name, &st, &content, err);
		return r < 0 || !content
			       ? r
			       : add_content(k, parent, leaf, name, (uint64_t)st.st_size, err);
	}
	if (depth >= DEPTH_MAX)
		return error_set(err, ELOOP, "\"%.200s…\" is more than %d folders deep", name,
				 DEPTH_MAX);
	dir = openat(parent, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return errno == ENOENT ? 0 : error_sys(err, errno, "opening \"%s\"", name);
	if (fstat(parent, &up) < 0)
		return error_sys(err, errno, "looking at what is above \"%s\"", name);
	if (*name) {
		r = add_header(k, parent, leaf, name, &st, &content, err);
		if (r < 0)
			return r;
	}
	/* A mount point: the folder is the container's, what is mounted there is not. */
	if (!k->o->mounts && *name && depth && st.st_dev != up.st_dev)
		return 0;
	r = k->o->whiteouts && tar_is_opaque(dir) ? add_marker(k, name, ".wh..wh..opq", err) : 0;
	return r < 0 ? r : add_dir(k, dir, name, depth, err);
}

static int add_dir(struct pack *k, int dir, const char *name, int depth, struct error *err)
{
	int copy = fcntl(dir, F_DUPFD_CLOEXEC, 0);
	CLEANUP_CLOSEDIR DIR *d = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *e;
	int r = 0;

	if (!d) {
		r = error_sys(err, errno, "reading \"%s\"", name);
		if (copy >= 0)
			close(copy);
		return r;
	}
	while (r == 0 && (e = readdir(d))) {
		CLEANUP_FREE char *below = str_format("%s%s%s", name, *name ? "/" : "", e->d_name);

		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = add_one(k, dir, e->d_name, below, depth + 1, err);
	}
	return r;
}

int tar_pack(int root, const char *path, const char *name, int fd, const struct tar_options *o,
	     struct error *err)
{
	CLEANUP_FREE char *clean = tar_path_clean(path, true);
	CLEANUP_CLOSE int parent = -1;
	CLEANUP_FREE char *buf = mem_zalloc(CHUNK);
	struct pack k = { .o = o, .fd = fd, .buf = buf };
	char *leaf;
	int r;

	if (!clean)
		return error_set(err, EINVAL, "path \"%s\" leaves the container", path);
	leaf = strrchr(clean, '/');
	if (leaf)
		*leaf++ = '\0';
	parent = tar_open_in(root, leaf ? clean : "", O_RDONLY | O_DIRECTORY, o->mounts);
	if (parent < 0)
		return error_sys(err, -parent, "opening the folder of \"%s\"", path);
	k.a = archive_write_new();
	if (!k.a)
		abort();
	archive_write_set_format_pax_restricted(k.a);
	archive_write_set_bytes_per_block(k.a, CHUNK);
	archive_write_set_bytes_in_last_block(k.a, 1);
	if (archive_write_open(k.a, &k, NULL, sink, NULL) != ARCHIVE_OK)
		r = failed(&k, err, name);
	else
		r = add_one(&k, parent, leaf ? leaf : *clean ? clean : ".", name, 0, err);
	if (r == 0 && archive_write_close(k.a) != ARCHIVE_OK)
		r = failed(&k, err, name);
	archive_write_free(k.a);
	for (size_t i = 0; i < k.nlinks; i++)
		free(k.links[i].name);
	free(k.links);
	return r;
}
