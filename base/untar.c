/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking a tar below a folder; tar.h is the contract. libarchive reads it; the files are
 * made here, because every path must be resolved with the folder as its root (openat2
 * RESOLVE_IN_ROOT): a symlink, an absolute one too, can then never lead outside. Only the
 * folder of an entry is resolved; its last component is never followed.
 *
 * OCI whiteouts (image spec, layer.md) become what overlayfs means by them
 * (Documentation/filesystems/overlayfs.rst): ".wh.NAME" a character device 0/0 called
 * NAME, ".wh..wh..opq" the xattr trusted.overlay.opaque=y on its folder. A whiteout
 * hides what is below, never what the same layer brings, whatever comes first.
 */
#include "base/tar.h"

#include <archive_entry.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <locale.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

struct dir_times {
	char *path;
	struct timespec t[2];
};

struct unpack {
	int root;
	const struct tar_options *o;
	uint64_t bytes;
	struct dir_times *dirs; /* set at the end: making a file changes its folder's mtime */
	size_t ndirs, cap;
};

int tar_error(struct archive *a, struct error *err, const char *fmt, ...)
{
	const char *text = archive_error_string(a);
	CLEANUP_FREE char *what = NULL;
	int code = archive_errno(a);
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&what, fmt, ap) < 0)
		abort();
	va_end(ap);
	/* libarchive says EILSEQ for a broken format, -1 for anything without an errno */
	if (code != EIO && code != ENOMEM && code != ENOSPC && code != EBADF)
		code = EINVAL;
	return error_set(err, code, "%s: %s", what, text ? text : "unreadable");
}

char *tar_path_clean(const char *path, bool absolute)
{
	CLEANUP_BUF struct buf b = { 0 };

	if (*path == '/' && !absolute)
		return NULL;
	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && p[0] == '.' && p[1] == '.')
			return NULL;
		if (n && !(n == 1 && p[0] == '.')) {
			if (b.len)
				buf_add(&b, "/", 1);
			buf_add(&b, p, n);
		}
		p += n;
		p += strspn(p, "/");
	}
	return b.data ? TAKE_PTR(b.data) : str_dup("");
}

int tar_open_in(int root, const char *path, int flags, bool mounts)
{
	struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC),
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS |
					   (mounts ? 0 : RESOLVE_NO_XDEV) };
	int fd;

	do {
		fd = (int)syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof(how));
	} while (fd < 0 && (errno == EAGAIN || errno == EINTR));
	return fd < 0 ? -errno : fd;
}

static int open_in(const struct unpack *u, const char *path, int flags)
{
	return tar_open_in(u->root, path, flags, u->o->mounts);
}

/* Opens the folder `path`, making what is missing of it. The fd, or -errno. */
static int open_parent(const struct unpack *u, const char *path)
{
	int fd = open_in(u, path, O_RDONLY | O_DIRECTORY);
	CLEANUP_FREE char *upto = NULL;

	if (fd != -ENOENT)
		return fd;
	upto = str_dup(path);
	for (char *p = upto; p;) {
		CLEANUP_CLOSE int above = -1;
		char *end = strchr(p, '/');

		if (p > upto)
			p[-1] = '\0';
		above = open_in(u, p > upto ? upto : "", O_RDONLY | O_DIRECTORY);
		if (p > upto)
			p[-1] = '/';
		if (above < 0)
			return above;
		if (end)
			*end = '\0';
		if (mkdirat(above, p, 0755) == 0)
			fchmodat(above, p, 0755, 0); /* whatever the umask is */
		else if (errno != EEXIST)
			return -errno;
		if (end)
			*end = '/';
		p = end ? end + 1 : NULL;
	}
	return open_in(u, path, O_RDONLY | O_DIRECTORY);
}

static int set_opaque(int dir, const char *name, const char *shown, struct error *err)
{
	CLEANUP_FREE char *path = str_format("/proc/self/fd/%d/%s", dir, name);

	if (lsetxattr(path, "trusted.overlay.opaque", "y", 1, 0) < 0)
		return error_sys(err, errno, "entry \"%s\": marking a folder opaque", shown);
	return 0;
}

/* A ".wh." entry. */
static int whiteout(int parent, const char *name, const char *shown, struct error *err)
{
	const char *hidden = name + 4;
	struct stat st;

	if (strcmp(name, ".wh..wh..opq") == 0)
		return set_opaque(parent, "", shown, err);
	if (str_starts(name, ".wh..wh."))
		return 0; /* bookkeeping of aufs */
	if (!*hidden || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
		return error_set(err, EINVAL, "entry \"%s\" is a whiteout of nothing", shown);
	if (fstatat(parent, hidden, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return S_ISDIR(st.st_mode) ? set_opaque(parent, hidden, shown, err) : 0;
	if (mknodat(parent, hidden, S_IFCHR, makedev(0, 0)) < 0)
		return error_sys(err, errno, "entry \"%s\": making a whiteout", shown);
	return 0;
}

/*
 * Makes room for an entry. *keep: a folder is there and the entry is one as well;
 * *opaque: a whiteout was there, so the folder to come hides the one below.
 */
static int make_room(const struct unpack *u, int parent, const char *name, bool is_dir, bool *keep,
		     bool *opaque, const char *shown, struct error *err)
{
	struct stat st;

	*keep = *opaque = false;
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : error_sys(err, EINVAL, "entry \"%s\"", shown);
	if (u->o->keep_kind && S_ISDIR(st.st_mode) != is_dir)
		return error_set(err, EINVAL, "cannot overwrite %s \"%s\" with %s",
				 is_dir ? "non-directory" : "directory", shown,
				 is_dir ? "directory" : "non-directory");
	if (S_ISDIR(st.st_mode)) {
		CLEANUP_FREE char *path = str_format("/proc/self/fd/%d/%s", parent, name);

		*keep = is_dir;
		if (!is_dir && dir_remove(path, err) < 0)
			return error_wrap(err, "entry \"%s\"", shown);
		return 0;
	}
	*opaque = is_dir && tar_is_whiteout(&st);
	if (unlinkat(parent, name, 0) < 0)
		return error_sys(err, errno, "entry \"%s\"", shown);
	return 0;
}

static int write_file(struct unpack *u, struct archive *a, struct archive_entry *e, int parent,
		      const char *name, const char *shown, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	const void *block;
	la_int64_t off;
	size_t n;
	int r;

	if (archive_entry_size(e) < 0)
		return error_set(err, EINVAL, "entry \"%s\": its size is negative", shown);
	fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_sys(err, errno, "entry \"%s\": making the file", shown);
	while ((r = archive_read_data_block(a, &block, &n, &off)) != ARCHIVE_EOF) {
		const char *p = block;

		if (r < ARCHIVE_WARN)
			return tar_error(a, err, "entry \"%s\"", shown);
		while (n) {
			ssize_t w = pwrite(fd, p, n, off);

			if (w < 0 && errno == EINTR)
				continue;
			if (w < 0)
				return error_sys(err, errno, "entry \"%s\": writing", shown);
			u->bytes += (uint64_t)w;
			p += w;
			n -= (size_t)w;
			off += w;
		}
	}
	/* the hole at the end of a sparse file */
	if (ftruncate(fd, archive_entry_size(e)) < 0)
		return error_sys(err, errno, "entry \"%s\": setting its size", shown);
	return 0;
}

/* A path of the archive as one below the root; NULL where it leaves it. */
static char *place(const struct unpack *u, const char *raw)
{
	CLEANUP_FREE char *clean = tar_path_clean(raw, true);

	if (!clean || !u->o->into || !*u->o->into)
		return TAKE_PTR(clean);
	return *clean ? str_format("%s/%s", u->o->into, clean) : str_dup(u->o->into);
}

static int hard_link(struct unpack *u, const char *target, int parent, const char *name,
		     const char *shown, struct error *err)
{
	CLEANUP_FREE char *clean = place(u, target);
	CLEANUP_CLOSE int dir = -1;
	char *leaf;

	if (!clean || !*clean)
		return error_set(err, EINVAL,
				 "entry \"%s\": its hard link \"%.300s\" leaves the layer", shown,
				 target);
	leaf = strrchr(clean, '/');
	if (leaf)
		*leaf++ = '\0';
	dir = open_in(u, leaf ? clean : "", O_RDONLY | O_DIRECTORY);
	if (dir < 0 || linkat(dir, leaf ? leaf : clean, parent, name, 0) < 0)
		return error_set(err, EINVAL,
				 "entry \"%s\": its hard link \"%.300s\" names nothing in this "
				 "layer that can be linked (%s)",
				 shown, target, strerror(dir < 0 ? -dir : errno));
	return 0;
}

static int set_xattrs(struct archive_entry *e, int parent, const char *name, const char *shown,
		      struct error *err)
{
	CLEANUP_FREE char *path = str_format("/proc/self/fd/%d/%s", parent, name);
	const char *key;
	const void *value;
	size_t len;

	archive_entry_xattr_reset(e);
	while (archive_entry_xattr_next(e, &key, &value, &len) == ARCHIVE_OK) {
		/* what overlayfs reads is made here only: an archive must not steer it */
		if (!key || str_starts(key, "trusted.overlay.") || str_starts(key, "user.overlay."))
			continue;
		if (lsetxattr(path, key, value, len, 0) == 0)
			continue;
		/* no such kind of xattr here, or (EPERM) user.* on what is no file: as Docker */
		if (errno == ENOTSUP || (errno == EPERM && str_starts(key, "user.")))
			continue;
		return error_sys(err, errno, "entry \"%s\": xattr %.100s", shown, key);
	}
	return 0;
}

/* Owner before mode and xattrs: chown clears set-id bits and file capabilities. */
static int set_metadata(struct unpack *u, struct archive_entry *e, int parent, const char *name,
			const char *path, struct error *err)
{
	la_int64_t uid = archive_entry_uid(e), gid = archive_entry_gid(e);
	mode_t type = archive_entry_filetype(e);
	long ns = archive_entry_mtime_nsec(e);
	struct timespec m = { archive_entry_mtime(e), ns >= 0 && ns < 1000000000 ? ns : 0 };
	struct timespec t[2] = { m, m };
	int r;

	if (uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX)
		return error_set(err, EINVAL, "entry \"%s\": owner %lld:%lld is out of range", path,
				 (long long)uid, (long long)gid);
	if (fchownat(parent, name, (uid_t)uid, (gid_t)gid, AT_SYMLINK_NOFOLLOW) < 0)
		return error_sys(err, errno, "entry \"%s\": setting its owner", path);
	if (type != AE_IFLNK && fchmodat(parent, name, archive_entry_perm(e) & 07777, 0) < 0)
		return error_sys(err, errno, "entry \"%s\": setting its mode", path);
	r = set_xattrs(e, parent, name, path, err);
	if (r < 0)
		return r;
	if (type != AE_IFDIR) {
		if (utimensat(parent, name, t, AT_SYMLINK_NOFOLLOW) < 0)
			return error_sys(err, errno, "entry \"%s\": setting its time", path);
		return 0;
	}
	if (u->ndirs == u->cap) {
		u->cap = u->cap ? 2 * u->cap : 64;
		u->dirs = mem_grow(u->dirs, u->cap, sizeof(*u->dirs));
	}
	u->dirs[u->ndirs].path = str_dup(path);
	memcpy(u->dirs[u->ndirs++].t, t, sizeof(t));
	return 0;
}

static int make_node(struct unpack *u, struct archive *a, struct archive_entry *e, int parent,
		     const char *name, const char *path, struct error *err)
{
	const char *hard = archive_entry_hardlink(e), *soft = archive_entry_symlink(e);
	mode_t type = archive_entry_filetype(e);
	bool keep, opaque;
	int r = make_room(u, parent, name, type == AE_IFDIR && !hard, &keep, &opaque, path, err);

	if (r < 0)
		return r;
	if (hard)
		return hard_link(u, hard, parent, name, path, err);
	switch (type) {
	case AE_IFREG:
		r = write_file(u, a, e, parent, name, path, err);
		break;
	case AE_IFDIR:
		if (!keep && mkdirat(parent, name, 0700) < 0)
			r = error_sys(err, errno, "entry \"%s\": making the folder", path);
		else if (opaque)
			r = set_opaque(parent, name, path, err);
		break;
	case AE_IFLNK:
		if (!soft || symlinkat(soft, parent, name) < 0)
			r = error_set(err, EINVAL, "entry \"%s\": its symlink cannot be made",
				      path);
		break;
	case AE_IFCHR:
	case AE_IFBLK:
	case AE_IFIFO:
		if (mknodat(parent, name, type | 0600,
			    type == AE_IFIFO ? 0
					     : makedev((unsigned)archive_entry_rdevmajor(e),
						       (unsigned)archive_entry_rdevminor(e))) < 0)
			r = error_sys(err, errno, "entry \"%s\": making the node", path);
		break;
	default:
		r = error_set(err, EINVAL, "entry \"%s\" is of an unknown type", path);
	}
	return r < 0 ? r : set_metadata(u, e, parent, name, path, err);
}

static int unpack_entry(struct unpack *u, struct archive *a, struct archive_entry *e,
			struct error *err)
{
	const char *raw = archive_entry_pathname(e);
	CLEANUP_FREE char *path = raw ? place(u, raw) : NULL;
	CLEANUP_FREE char *dir = NULL;
	CLEANUP_CLOSE int parent = -1;
	const char *name;

	if (!path)
		return error_set(err, EINVAL, "entry \"%.300s\": the path leaves the layer",
				 raw ? raw : "?");
	/* A folder that was there before keeps what it has. */
	if (u->o->into && !strcmp(path, u->o->into) && archive_entry_filetype(e) == AE_IFDIR)
		return 0;
	if (!*path) { /* the layer's top folder itself */
		if (archive_entry_filetype(e) != AE_IFDIR)
			return error_set(err, EINVAL, "entry \"%.300s\" would replace the root",
					 raw);
		return set_metadata(u, e, u->root, ".", "", err);
	}
	if (u->o->whiteouts && str_starts(path, ".wh..wh.plnk/"))
		return 0;
	name = strrchr(path, '/');
	dir = name ? str_format("%.*s", (int)(name - path), path) : str_dup("");
	name = name ? name + 1 : path;
	parent = open_parent(u, dir);
	if (parent == -ENOSPC || parent == -EIO || parent == -EMFILE || parent == -EDQUOT)
		return error_sys(err, -parent, "entry \"%.300s\": making its folder", path);
	if (parent < 0)
		return error_set(err, EINVAL,
				 "entry \"%.300s\": its folder cannot be opened inside the layer "
				 "(%s)",
				 path, strerror(-parent));
	if (u->o->whiteouts && str_starts(name, ".wh."))
		return whiteout(parent, name, path, err);
	return make_node(u, a, e, parent, name, path, err);
}

static int unpack_all(struct unpack *u, struct archive *a, struct error *err)
{
	struct archive_entry *e;
	uint64_t n = 0;
	int r;

	while ((r = archive_read_next_header(a, &e)) != ARCHIVE_EOF) {
		if (r < ARCHIVE_WARN)
			return tar_error(a, err, "reading the layer's tar");
		/* A name that is no valid UTF-8 would be stored as another: no */
		if (r == ARCHIVE_WARN && archive_error_string(a) &&
		    strstr(archive_error_string(a), "can't be converted"))
			return tar_error(a, err, "entry %llu of the layer",
					 (unsigned long long)n + 1);
		if (++n > u->o->max_entries && u->o->max_entries)
			return error_set(err, EFBIG,
					 "the layer has more than %llu entries, the configured "
					 "maximum",
					 (unsigned long long)u->o->max_entries);
		r = unpack_entry(u, a, e, err);
		if (r < 0)
			return r;
	}
	for (size_t i = u->ndirs; i > 0; i--) {
		CLEANUP_CLOSE int fd =
			open_in(u, u->dirs[i - 1].path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);

		if (fd >= 0) /* else a later entry took its place */
			futimens(fd, u->dirs[i - 1].t);
	}
	return 0;
}

int tar_unpack(int fd, int root, const struct tar_options *o, uint64_t *bytes, struct error *err)
{
	struct unpack u = { .root = root, .o = o };
	/* libarchive recodes pax names, which are UTF-8, to the locale's character set */
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0), old = (locale_t)0;
	struct archive *a;
	struct stat st;
	int r;

	if (utf8)
		old = uselocale(utf8);
	a = archive_read_new();
	if (!a)
		abort();
	archive_read_support_format_tar(a);
	if (o->packed) {
		archive_read_support_filter_gzip(a);
		archive_read_support_filter_zstd(a);
		archive_read_support_filter_xz(a);
		archive_read_support_filter_bzip2(a);
	}
	if (fstat(fd, &st) < 0)
		r = error_sys(err, errno, "reading the tar");
	else if (S_ISREG(st.st_mode) && st.st_size == 0) /* libarchive knows no tar of 0 bytes */
		r = 0;
	else if (archive_read_open_fd(a, fd, 256 << 10) != ARCHIVE_OK)
		r = tar_error(a, err, "it is no tar");
	else
		r = unpack_all(&u, a, err);
	archive_read_free(a);
	if (utf8) {
		uselocale(old);
		freelocale(utf8);
	}
	for (size_t i = 0; i < u.ndirs; i++)
		free(u.dirs[i].path);
	free(u.dirs);
	if (bytes)
		*bytes = u.bytes;
	return r;
}
