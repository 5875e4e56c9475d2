/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's mounts. Destinations are resolved by the kernel inside the container's
 * root (openat2 RESOLVE_IN_ROOT), never by string: an image's symbolic links cannot lead a
 * mount to the host. Binds are cloned, changed and only then attached (open_tree,
 * mount_setattr, move_mount), so that they are never visible with the wrong flags.
 */
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/oci/launch.h"

/* Mount options that are flags: bits to set and to clear, in mount(2) and mount_setattr(2). */
struct flag {
	const char *name;
	bool clear;
	unsigned long ms;
	uint64_t attr;
};
static const struct flag flags[] = {
	{ "ro", false, MS_RDONLY, MOUNT_ATTR_RDONLY },
	{ "rw", true, MS_RDONLY, MOUNT_ATTR_RDONLY },
	{ "nosuid", false, MS_NOSUID, MOUNT_ATTR_NOSUID },
	{ "suid", true, MS_NOSUID, MOUNT_ATTR_NOSUID },
	{ "nodev", false, MS_NODEV, MOUNT_ATTR_NODEV },
	{ "dev", true, MS_NODEV, MOUNT_ATTR_NODEV },
	{ "noexec", false, MS_NOEXEC, MOUNT_ATTR_NOEXEC },
	{ "exec", true, MS_NOEXEC, MOUNT_ATTR_NOEXEC },
	{ "nodiratime", false, MS_NODIRATIME, MOUNT_ATTR_NODIRATIME },
	{ "diratime", true, MS_NODIRATIME, MOUNT_ATTR_NODIRATIME },
	{ "nosymfollow", false, MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW },
	{ "symfollow", true, MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW },
	{ "sync", false, MS_SYNCHRONOUS, 0 },
	{ "async", true, MS_SYNCHRONOUS, 0 },
	{ "dirsync", false, MS_DIRSYNC, 0 },
	{ "mand", false, MS_MANDLOCK, 0 },
	{ "nomand", true, MS_MANDLOCK, 0 },
	{ "silent", false, MS_SILENT, 0 },
	{ "loud", true, MS_SILENT, 0 },
};
static const struct flag atimes[] = {
	{ "noatime", false, MS_NOATIME, MOUNT_ATTR_NOATIME },
	{ "relatime", false, MS_RELATIME, MOUNT_ATTR_RELATIME },
	{ "strictatime", false, MS_STRICTATIME, MOUNT_ATTR_STRICTATIME },
	{ "atime", true, MS_NOATIME, MOUNT_ATTR_RELATIME },
	{ "norelatime", true, MS_RELATIME, MOUNT_ATTR_STRICTATIME },
	{ "nostrictatime", true, MS_STRICTATIME, MOUNT_ATTR_RELATIME },
};
static const struct {
	const char *name;
	unsigned long ms;
} propagations[] = {
	{ "private", MS_PRIVATE },	 { "rprivate", MS_PRIVATE | MS_REC },
	{ "slave", MS_SLAVE },		 { "rslave", MS_SLAVE | MS_REC },
	{ "shared", MS_SHARED },	 { "rshared", MS_SHARED | MS_REC },
	{ "unbindable", MS_UNBINDABLE }, { "runbindable", MS_UNBINDABLE | MS_REC },
};

struct options {
	bool bind, recursive, tmpcopyup;
	unsigned long ms;
	struct mount_attr attr, rattr; /* this mount; the whole tree ("rro" …) */
	unsigned long propagation;
	struct buf data;
};

static bool parse_flag(const char *o, struct options *out)
{
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		const struct flag *f = &flags[i];
		bool rec = o[0] == 'r' && !strcmp(f->name, o + 1);

		if (strcmp(f->name, o) != 0 && !(rec && f->attr))
			continue;
		if (f->clear) {
			out->ms &= ~f->ms;
			(rec ? &out->rattr : &out->attr)->attr_clr |= f->attr;
			(rec ? &out->rattr : &out->attr)->attr_set &= ~f->attr;
		} else {
			if (!rec)
				out->ms |= f->ms;
			(rec ? &out->rattr : &out->attr)->attr_set |= f->attr;
			(rec ? &out->rattr : &out->attr)->attr_clr &= ~f->attr;
		}
		return true;
	}
	for (size_t i = 0; i < sizeof(atimes) / sizeof(atimes[0]); i++) {
		if (strcmp(atimes[i].name, o) != 0)
			continue;
		if (atimes[i].clear)
			out->ms &= ~atimes[i].ms;
		else
			out->ms |= atimes[i].ms;
		out->attr.attr_clr |= MOUNT_ATTR__ATIME;
		out->attr.attr_set &= ~(uint64_t)MOUNT_ATTR__ATIME;
		out->attr.attr_set |= atimes[i].attr;
		return true;
	}
	for (size_t i = 0; i < sizeof(propagations) / sizeof(propagations[0]); i++)
		if (!strcmp(propagations[i].name, o)) {
			out->propagation = propagations[i].ms;
			return true;
		}
	return false;
}

static int parse_options(const struct spec_mount *m, struct options *out, struct error *err)
{
	memset(out, 0, sizeof(*out));
	if (m->type && !strcmp(m->type, "bind"))
		out->bind = true;
	for (size_t i = 0; i < m->options.n; i++) {
		const char *o = m->options.v[i];

		if (!strcmp(o, "bind")) {
			out->bind = true;
		} else if (!strcmp(o, "rbind")) {
			out->bind = out->recursive = true;
		} else if (!strcmp(o, "tmpcopyup")) {
			out->tmpcopyup = true;
		} else if (!strcmp(o, "remount") || !strcmp(o, "idmap") || !strcmp(o, "ridmap")) {
			return error_set(err, EOPNOTSUPP,
					 "mount %s: option \"%s\" is not supported", m->destination,
					 o);
		} else if (!strcmp(o, "defaults") || !strcmp(o, "")) {
			continue;
		} else if (!parse_flag(o, out)) {
			buf_addf(&out->data, "%s%s", out->data.len ? "," : "", o);
		}
	}
	/* A bind of a whole tree is private unless it is told otherwise. */
	if (out->bind && !out->propagation)
		out->propagation = MS_PRIVATE | MS_REC;
	return 0;
}

static int open_in(int root, const char *path, uint64_t flags_, uint64_t resolve)
{
	struct open_how how = { .flags = flags_ | O_CLOEXEC,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve };
	int fd;

	do /* RESOLVE_IN_ROOT gives EAGAIN when something was renamed meanwhile, openat2(2) */
		fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	while (fd < 0 && (errno == EAGAIN || errno == EINTR));
	return fd < 0 ? -errno : fd;
}

int path_in_root(int root, const char *path, bool make, bool dir, struct error *err)
{
	CLEANUP_FREE char *copy = NULL;
	CLEANUP_CLOSE int parent = -1;
	char *slash, *base;
	int fd = open_in(root, path, O_PATH, 0);

	if (fd >= 0)
		return fd;
	if (fd != -ENOENT || !make)
		return error_sys(err, -fd, "resolving %s in the container", path);
	copy = str_dup(path);
	for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--)
		copy[n - 1] = '\0';
	slash = strrchr(copy, '/');
	base = slash ? slash + 1 : copy;
	if (!*base || !strcmp(base, "..") || !strcmp(base, "."))
		return error_set(err, ENOENT, "cannot make %s in the container", path);
	if (slash && slash != copy) {
		*slash = '\0';
		parent = path_in_root(root, copy, true, true, err);
	} else {
		parent = open_in(root, "/", O_PATH | O_DIRECTORY, 0);
	}
	if (parent < 0)
		return parent;
	if ((dir ? mkdirat(parent, base, 0755) : mknodat(parent, base, S_IFREG | 0644, 0)) < 0)
		return error_sys(err, errno, "making %s in the container", path);
	fd = open_in(root, path, O_PATH, 0);
	if (fd < 0)
		return error_sys(err, -fd, "opening %s in the container", path);
	return fd;
}

static int set_attr(int fd, bool recursive, struct mount_attr *a)
{
	if (!a->attr_set && !a->attr_clr && !a->propagation)
		return 0;
	if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), a,
		    sizeof(*a)) < 0)
		return -errno;
	return 0;
}

static int attach(int tree, int target, const char *what, struct error *err)
{
	if (syscall(SYS_move_mount, tree, "", target, "",
		    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return error_sys(err, errno, "mounting on %s", what);
	return 0;
}

static int apply_attrs(int tree, struct options *o, const char *what, struct error *err)
{
	struct mount_attr p = { .propagation = o->propagation & ~(unsigned long)MS_REC };
	int r;

	if ((r = set_attr(tree, false, &o->attr)) < 0 ||
	    (r = set_attr(tree, true, &o->rattr)) < 0 ||
	    (r = set_attr(tree, o->propagation & MS_REC, &p)) < 0)
		return error_sys(err, -r, "setting the mount options of %s", what);
	return 0;
}

static int mount_bind(const struct launch *l, int root, const struct spec_mount *m,
		      struct options *o, struct error *err)
{
	CLEANUP_FREE char *full = NULL;
	CLEANUP_CLOSE int tree = -1, target = -1;
	const char *source = m->source;
	struct stat st;
	int r;

	if (!source || !source[0])
		return error_set(err, EINVAL, "mount %s: a bind needs a source", m->destination);
	if (source[0] != '/') {
		full = str_format("%s/%s", l->bundle, source);
		source = full;
	}
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, source,
			    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
				    (o->recursive ? AT_RECURSIVE : 0));
	if (tree < 0)
		return error_sys(err, errno, "opening the source %s of mount %s", source,
				 m->destination);
	if (fstat(tree, &st) < 0)
		return error_sys(err, errno, "reading %s", source);
	if (o->propagation & (MS_SHARED | MS_SLAVE)) {
		/* These start from what the source is to the host; the rest was cut off. */
		o->attr.propagation = 0;
	}
	r = apply_attrs(tree, o, m->destination, err);
	if (r < 0)
		return r;
	target = path_in_root(root, m->destination, true, S_ISDIR(st.st_mode), err);
	return target < 0 ? target : attach(tree, target, m->destination, err);
}

/* mount(2) of a new file system on a target held by fd. */
static int mount_at(const char *source, int target, const char *what, const char *type,
		    unsigned long ms, const char *data, struct error *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", target);
	if (mount(source ? source : type, path, type, ms, data && data[0] ? data : NULL) < 0)
		return error_sys(err, errno, "mounting %s on %s (options \"%s\")", type, what,
				 data ? data : "");
	return 0;
}

/* What the image has below a path goes into the tmpfs that hides it (tmpcopyup). */
static int copy_tree(int from, int to)
{
	CLEANUP_CLOSEDIR DIR *d = NULL;
	struct dirent *e;
	int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	d = fd < 0 ? NULL : fdopendir(fd);
	while (d && !r && (e = readdir(d))) {
		CLEANUP_CLOSE int in = -1, out = -1;
		struct stat st;
		char link[4096];
		ssize_t n;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
		    fstatat(from, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(st.st_mode)) {
			if (mkdirat(to, e->d_name, 0700) < 0)
				return -errno;
			in = openat(from, e->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
			out = openat(to, e->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
			r = in < 0 || out < 0 ? -errno : copy_tree(in, out);
		} else if (S_ISREG(st.st_mode)) {
			in = openat(from, e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
			out = openat(to, e->d_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
			if (in < 0 || out < 0)
				return -errno;
			while ((n = copy_file_range(in, NULL, out, NULL, 1 << 30, 0)) > 0)
				;
			if (n < 0) {
				char chunk[65536];

				while ((n = read(in, chunk, sizeof(chunk))) > 0 && !r)
					r = fd_write_all(out, chunk, (size_t)n);
			}
			if (n < 0)
				r = -errno;
		} else if (S_ISLNK(st.st_mode)) {
			n = readlinkat(from, e->d_name, link, sizeof(link) - 1);
			if (n < 0)
				return -errno;
			link[n] = '\0';
			r = symlinkat(link, to, e->d_name) < 0 ? -errno : 0;
		} else {
			r = mknodat(to, e->d_name, st.st_mode, st.st_rdev) < 0 ? -errno : 0;
		}
		if (!r && fchownat(to, e->d_name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
			r = -errno;
		if (!r && !S_ISLNK(st.st_mode) &&
		    fchmodat(to, e->d_name, st.st_mode & 07777, 0) < 0)
			r = -errno;
	}
	return r;
}

/* v1: a tmpfs with one folder a hierarchy; in a cgroup namespace each shows its own root. */
static int mount_cgroup_v1(const struct launch *l, int root, const struct spec_mount *m,
			   struct options *o, struct error *err)
{
	bool ns = l->spec->ns[NS_CGROUP].wanted;
	int target = path_in_root(root, m->destination, true, true, err), r;

	if (target < 0)
		return target;
	r = mount_at("cgroup", target, m->destination, "tmpfs", o->ms & ~(unsigned long)MS_RDONLY,
		     "mode=755", err);
	close(target);
	for (size_t i = 0; i < l->cg->n && !r; i++) {
		const struct cgroup_hier *h = &l->cg->hier[i];
		CLEANUP_FREE char *names = str_dup(h->controllers + 1), *path = NULL;
		const char *leaf = strrchr(h->mount, '/') + 1;

		names[strlen(names) - 1] = '\0';
		path = str_format("%s/%s", m->destination, leaf);
		target = path_in_root(root, path, true, true, err);
		if (target < 0)
			return target;
		if (ns) {
			r = mount_at("cgroup", target, path, h->v2 ? "cgroup2" : "cgroup", o->ms,
				     h->v2 ? NULL : names, err);
		} else {
			CLEANUP_FREE char *mine = str_format("%s%s", h->mount, l->cgroup_path);
			CLEANUP_CLOSE int tree = (int)syscall(SYS_open_tree, AT_FDCWD, mine,
							      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

			r = tree < 0 ? error_sys(err, errno, "opening %s", mine)
				     : apply_attrs(tree, o, path, err);
			if (!r)
				r = attach(tree, target, path, err);
		}
		close(target);
		/* "cpu,cpuacct" is also found under each of its names. */
		for (char *save = NULL, *c = strtok_r(names, ",", &save); c && !r && !h->v2;
		     c = strtok_r(NULL, ",", &save)) {
			CLEANUP_CLOSE int dir =
				path_in_root(root, m->destination, false, true, err);

			if (strcmp(c, leaf) != 0 && !str_starts(c, "name=") && dir >= 0)
				(void)!symlinkat(leaf, dir, c);
		}
	}
	if (!r && (o->ms & MS_RDONLY)) {
		struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };

		target = path_in_root(root, m->destination, false, true, err);
		if (target < 0)
			return target;
		r = set_attr(target, false, &ro);
		close(target);
		if (r < 0)
			return error_sys(err, -r, "making %s read-only", m->destination);
	}
	return r;
}

static int mount_new(const struct launch *l, int root, const struct spec_mount *m,
		     struct options *o, struct error *err)
{
	bool kernel_fs = !strcmp(m->type, "proc") || !strcmp(m->type, "sysfs");
	CLEANUP_CLOSE int target = -1, old = -1;
	const char *type = m->type;
	int r;

	if (!strcmp(type, "cgroup")) {
		if (l->cg->n != 1 || l->cg->v2 < 0)
			return mount_cgroup_v1(l, root, m, o, err);
		type = "cgroup2";
	}
	target = path_in_root(root, m->destination, true, true, err);
	if (target < 0)
		return target;
	if (kernel_fs) {
		/* An image must not choose by a link where /proc is (CVE-2019-16884 and kin). */
		CLEANUP_CLOSE int strict =
			open_in(root, m->destination, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);

		if (strict < 0)
			return error_set(
				err, ENOTDIR,
				"%s of the image must be a folder, not a link, to mount %s "
				"on it",
				m->destination, type);
	}
	if (o->tmpcopyup)
		old = path_in_root(root, m->destination, false, true, err);
	r = mount_at(m->source, target, m->destination, type,
		     o->ms & ~(unsigned long)(o->tmpcopyup ? MS_RDONLY : 0), o->data.data, err);
	if (r < 0)
		return r;
	if (o->tmpcopyup || o->propagation || o->rattr.attr_set) {
		close(TAKE_FD(target));
		target = path_in_root(root, m->destination, false, true, err);
		if (target < 0)
			return target;
		if (o->tmpcopyup && (r = copy_tree(old, target)) < 0)
			return error_sys(err, -r, "copying the image's %s into its tmpfs",
					 m->destination);
		return apply_attrs(target, o, m->destination, err);
	}
	return 0;
}

int mounts_make(const struct launch *l, int root, struct error *err)
{
	for (size_t i = 0; i < l->spec->nmounts; i++) {
		const struct spec_mount *m = &l->spec->mounts[i];
		struct options o;
		int r = parse_options(m, &o, err);

		if (!r && o.bind)
			r = mount_bind(l, root, m, &o, err);
		else if (!r && (!m->type || !m->type[0]))
			r = error_set(err, EINVAL, "mount %s: no type", m->destination);
		else if (!r)
			r = mount_new(l, root, m, &o, err);
		buf_free(&o.data);
		if (r < 0)
			return r;
	}
	return 0;
}

static int hide_path(const char *path, struct error *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return errno == ENOENT || errno == ENOTDIR
			       ? 0
			       : error_sys(err, errno, "masking %s", path);
	if (S_ISDIR(st.st_mode)
		    ? mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
			    "size=0k,mode=755") < 0
		    : mount("/dev/null", path, NULL, MS_BIND, NULL) < 0)
		return error_sys(err, errno, "masking %s", path);
	return 0;
}

static int readonly_path(const char *path, struct error *err)
{
	struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };
	CLEANUP_CLOSE int tree = (int)syscall(SYS_open_tree, AT_FDCWD, path,
					      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	if (tree < 0)
		return errno == ENOENT || errno == ENOTDIR
			       ? 0
			       : error_sys(err, errno, "making %s read-only", path);
	if (set_attr(tree, true, &ro) < 0 ||
	    syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_sys(err, errno, "making %s read-only", path);
	return 0;
}

int mounts_hide(const struct spec *s, struct error *err)
{
	int r;

	for (size_t i = 0; i < s->readonly_paths.n; i++)
		if ((r = readonly_path(s->readonly_paths.v[i], err)) < 0)
			return r;
	for (size_t i = 0; i < s->masked.n; i++)
		if ((r = hide_path(s->masked.v[i], err)) < 0)
			return r;
	if (s->rootfs_readonly) {
		struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };

		if (syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &ro, sizeof(ro)) < 0)
			return error_sys(err, errno, "making the root file system read-only");
	}
	return 0;
}
