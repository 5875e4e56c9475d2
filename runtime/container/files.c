/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of a container, in and out: `docker cp`, export, diff, and the layer of a commit.
 * What runs is reached through /proc/PID/root, with all that is mounted there; the root of
 * what is stopped is mounted for the purpose, and the container cannot start meanwhile.
 * Every path is resolved with that root as the root (base/tar.h).
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/tar.h"
#include "runtime/container/internal.h"

#define DEPTH_MAX 512

/* os.FileMode of Go, which Docker's clients expect. */
#define GO_DIR	   (1u << 31)
#define GO_SYMLINK (1u << 27)
#define GO_DEVICE  (1u << 26)
#define GO_FIFO	   (1u << 25)
#define GO_SOCKET  (1u << 24)
#define GO_SETUID  (1u << 23)
#define GO_SETGID  (1u << 22)
#define GO_CHAR	   (1u << 21)
#define GO_STICKY  (1u << 20)

/* --- the root --------------------------------------------------------------------------- */

struct root {
	struct container_manager *m;
	struct container *c;
	int fd;
	bool mounted;
};

/* Mounts the root of a container that does not run; c->op is held from then on. */
static int mount_root(struct root *r, struct error *err)
{
	CLEANUP_FREE char *path = container_dir(r->m, r->c->id, "rootfs");
	int e = rootfs_mount(r->m, r->c->id, json_object_get(r->c->doc, "lower"), err);

	if (e < 0)
		return e;
	r->mounted = true;
	r->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return r->fd < 0 ? error_sys(err, errno, "opening %s", path) : 0;
}

static void root_close(struct root *r)
{
	if (!r->c)
		return;
	if (r->fd >= 0)
		close(r->fd);
	if (r->mounted)
		rootfs_unmount(r->m, r->c->id, NULL);
	pthread_mutex_unlock(&r->c->op);
	container_put(r->m, r->c);
}

/*
 * `inside`: as the container sees it, with volumes; else the root file system alone. Start
 * and remove wait until root_close().
 */
static int root_open(struct container_manager *m, const char *id, bool inside, struct root *r,
		     struct error *err)
{
	CLEANUP_FREE char *path = NULL;
	bool runs;
	pid_t pid;
	int e = 0;

	*r = (struct root){ .m = m, .fd = -1 };
	r->c = container_get(m, id, err);
	if (!r->c)
		return -err->code;
	pthread_mutex_lock(&r->c->op);
	pthread_mutex_lock(&m->lock);
	runs = r->c->status == RUNNING;
	pid = r->c->pid;
	pthread_mutex_unlock(&m->lock);
	path = runs && inside ? str_format("/proc/%d/root", pid)
			      : container_dir(m, r->c->id, "rootfs");
	if (!runs)
		e = mount_root(r, err);
	else if ((r->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		e = error_sys(err, errno, "opening the container's root %s", path);
	if (e < 0)
		root_close(r);
	return e;
}

/* --- paths ------------------------------------------------------------------------------ */

struct where {
	char *path;  /* "a/b": clean, below the root; "" is the root */
	char *name;  /* how it is called in archives: "b", "." */
	bool inside; /* it ended in "/" or "/.": a link there is followed */
};

static void where_free(struct where *w)
{
	free(w->path);
	free(w->name);
}
#define CLEANUP_WHERE __attribute__((cleanup(where_free)))

/* As filepath.Clean of Go does it: ".." takes one component back, at most to the root. */
static void where_parse(const char *path, struct where *w)
{
	size_t len = strlen(path);
	bool dot = len && path[len - 1] == '.' && (len == 1 || path[len - 2] == '/');
	char *out = mem_zalloc(len + 1), *end = out;

	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && p[0] == '.' && p[1] == '.') {
			while (end > out && *--end != '/')
				;
		} else if (n && !(n == 1 && *p == '.')) {
			if (end > out)
				*end++ = '/';
			memcpy(end, p, n);
			end += n;
		}
		p += n;
		p += strspn(p, "/");
	}
	*end = '\0';
	w->path = out;
	w->inside = dot || (len && path[len - 1] == '/');
	w->name = str_dup(dot || !*out ? "." : strrchr(out, '/') ? strrchr(out, '/') + 1 : out);
}

static int no_file(const struct root *r, const char *path, int code, struct error *err)
{
	return error_set(err, code, "Could not find the file %s in container %s", path, r->c->id);
}

static uint32_t go_mode(mode_t m)
{
	uint32_t out = m & 0777;

	out |= S_ISDIR(m)    ? GO_DIR
	       : S_ISLNK(m)  ? GO_SYMLINK
	       : S_ISFIFO(m) ? GO_FIFO
	       : S_ISSOCK(m) ? GO_SOCKET
	       : S_ISBLK(m)  ? GO_DEVICE
	       : S_ISCHR(m)  ? GO_DEVICE | GO_CHAR
			     : 0;
	return out | (m & S_ISUID ? GO_SETUID : 0) | (m & S_ISGID ? GO_SETGID : 0) |
	       (m & S_ISVTX ? GO_STICKY : 0);
}

/* Where a link leads, as a path of the container (caller frees). */
static char *link_target(const struct where *w, const char *target)
{
	struct where t;
	CLEANUP_FREE char *raw = NULL;
	const char *slash = strrchr(w->path, '/');
	char *out;

	raw = *target == '/'
		      ? str_dup(target)
		      : str_format("%.*s/%s", slash ? (int)(slash - w->path) : 0, w->path, target);
	where_parse(raw, &t);
	out = str_format("/%s", t.path);
	where_free(&t);
	return out;
}

static json_t *describe(int fd, const struct where *w, const struct stat *st)
{
	CLEANUP_FREE char *target = NULL;
	char when[64], link[4096];
	struct tm tm;
	ssize_t n = S_ISLNK(st->st_mode) ? readlinkat(fd, "", link, sizeof(link) - 1) : -1;

	if (n >= 0) {
		link[n] = '\0';
		target = link_target(w, link);
	}
	gmtime_r(&st->st_mtim.tv_sec, &tm);
	n = (ssize_t)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(when + n, sizeof(when) - (size_t)n, ".%09ldZ", st->st_mtim.tv_nsec);
	return json_pack("{s:s, s:I, s:I, s:s, s:s}", "name", *w->path ? w->name : "/", "size",
			 (json_int_t)st->st_size, "mode", (json_int_t)go_mode(st->st_mode), "mtime",
			 when, "linkTarget", target ? target : "");
}

/* What stands there, without following a link that it may be. An fd (O_PATH), or -errno. */
static int open_where(const struct root *r, const struct where *w)
{
	return tar_open_in(r->fd, w->path, O_PATH | (w->inside ? 0 : O_NOFOLLOW), true);
}

static int stat_where(const struct root *r, const struct where *w, const char *path, json_t **out,
		      struct error *err)
{
	CLEANUP_CLOSE int fd = open_where(r, w);
	struct stat st;

	if (fd < 0)
		return no_file(r, path, fd == -ENOENT || fd == -ENOTDIR ? ENOENT : -fd, err);
	if (fstat(fd, &st) < 0)
		return error_sys(err, errno, "looking at %s", path);
	if (w->inside && !S_ISDIR(st.st_mode))
		return error_set(err, EINVAL, "%s is not a directory", path);
	*out = describe(fd, w, &st);
	return 0;
}

int container_path_stat(struct container_manager *m, const char *id, const char *path, json_t **out,
			struct error *err)
{
	CLEANUP_WHERE struct where w;
	struct root r;
	int e;

	*out = NULL;
	where_parse(path, &w);
	e = root_open(m, id, true, &r, err);
	if (e < 0)
		return e;
	e = stat_where(&r, &w, path, out, err);
	root_close(&r);
	return e;
}

/* --- archives --------------------------------------------------------------------------- */

int container_archive_get(struct container_manager *m, const char *id, const char *path, int fd,
			  struct error *err)
{
	const struct tar_options o = { .mounts = true };
	CLEANUP_WHERE struct where w;
	CLEANUP_JSON json_t *stat = NULL;
	CLEANUP_CLOSE int dir = -1;
	struct root r;
	int e;

	where_parse(path, &w);
	e = root_open(m, id, true, &r, err);
	if (e < 0)
		return e;
	e = stat_where(&r, &w, path, &stat, err);
	if (e == 0 && (w.inside || !*w.path)) {
		dir = tar_open_in(r.fd, w.path, O_RDONLY | O_DIRECTORY, true);
		e = dir < 0 ? error_sys(err, -dir, "opening %s", path)
			    : tar_pack(dir, "", w.name, fd, &o, err);
	} else if (e == 0) {
		e = tar_pack(r.fd, w.path, w.name, fd, &o, err);
	}
	root_close(&r);
	return e;
}

int container_archive_put(struct container_manager *m, const char *id, const char *path, int fd,
			  bool keep_kind, struct error *err)
{
	CLEANUP_WHERE struct where w;
	struct tar_options o = { .mounts = true, .packed = true, .keep_kind = keep_kind };
	struct root r;
	int e, dir;

	where_parse(path, &w);
	e = root_open(m, id, true, &r, err);
	if (e < 0)
		return e;
	dir = tar_open_in(r.fd, w.path, O_PATH | O_DIRECTORY, true);
	if (dir == -ENOTDIR)
		e = error_set(err, EINVAL, "extraction point is not a directory: %s", path);
	else if (dir < 0)
		e = no_file(&r, path, -dir, err);
	else
		close(dir);
	o.into = w.path;
	if (e == 0)
		e = tar_unpack(fd, r.fd, &o, NULL, err);
	root_close(&r);
	return e;
}

int container_export(struct container_manager *m, const char *id, int fd, struct error *err)
{
	const struct tar_options o = { 0 };
	struct root r;
	int e = root_open(m, id, false, &r, err);

	if (e < 0)
		return e;
	e = tar_pack(r.fd, "", "", fd, &o, err);
	root_close(&r);
	return e;
}

/* Descriptor of upper/, which every container that was started once has; made if need be. */
static int open_upper(const struct root *r, struct error *err)
{
	CLEANUP_FREE char *path = container_dir(r->m, r->c->id, "upper");
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? error_sys(err, errno, "opening %s", path) : fd;
}

int container_layer(struct container_manager *m, const char *id, int fd, struct error *err)
{
	const struct tar_options o = { .whiteouts = true };
	CLEANUP_CLOSE int upper = -1;
	struct root r;
	int e = root_open(m, id, false, &r, err);

	if (e < 0)
		return e;
	upper = open_upper(&r, err);
	e = upper < 0 ? upper : tar_pack(upper, "", "", fd, &o, err);
	root_close(&r);
	return e;
}

/* --- changes ---------------------------------------------------------------------------- */

enum kind { MODIFIED, ADDED, DELETED };

struct changes {
	const json_t *lower; /* folders, topmost first */
	json_t *out;
};

static bool is_opaque(const char *path)
{
	CLEANUP_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return dir >= 0 && tar_is_opaque(dir);
}

/* 1: this layer has the path; 0: it hides it from those below; -1: it says nothing. */
static int look_in(const char *layer, const char *path)
{
	CLEANUP_FREE char *full = str_format("%s/%s", layer, path);
	struct stat st;

	for (char *p = full + strlen(layer) + 1;; p++) {
		char old = *p;

		if (old != '/' && old)
			continue;
		*p = '\0';
		if (lstat(full, &st) < 0) {
			/* An opaque folder above hides what it does not have. */
			char *slash = strrchr(full, '/');

			*slash = '\0';
			return is_opaque(full) ? 0 : -1;
		}
		if (tar_is_whiteout(&st))
			return 0;
		if (!old)
			return 1;
		if (!S_ISDIR(st.st_mode))
			return 0;
		*p = old;
	}
}

static bool was_there(const struct changes *c, const char *path)
{
	const json_t *v;
	size_t i;

	json_array_foreach (c->lower, i, v) {
		int is = look_in(json_string_value(v), path);

		if (is >= 0)
			return is;
	}
	return false;
}

static void add_change(struct changes *c, const char *path, enum kind kind)
{
	CLEANUP_FREE char *shown = str_format("/%s", path);

	json_array_append_new(c->out, json_pack("{s:s, s:i}", "Path", shown, "Kind", (int)kind));
}

/* What ferry itself puts there to mount on. */
static bool is_ours(const char *path)
{
	static const char *const ours[] = { "dev",	    "proc",	 "sys",
					    "etc/hostname", "etc/hosts", "etc/resolv.conf",
					    ".dockerenv" };

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		size_t n = strlen(ours[i]);

		if (strncmp(path, ours[i], n) == 0 && (!path[n] || (i < 3 && path[n] == '/')))
			return true;
	}
	return false;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int no_dots(const struct dirent *e)
{
	return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static int walk(struct changes *c, const char *upper, const char *path, int depth,
		struct error *err)
{
	CLEANUP_FREE char *dir = str_format("%s/%s", upper, path);
	struct dirent **list = NULL;
	int n = scandir(dir, &list, no_dots, by_name), r = 0;

	if (n < 0)
		return errno == ENOENT ? 0 : error_sys(err, errno, "reading %s", dir);
	for (int i = 0; i < n; i++) {
		CLEANUP_FREE char *below =
			str_format("%s%s%s", path, *path ? "/" : "", list[i]->d_name);
		CLEANUP_FREE char *full = str_format("%s/%s", upper, below);
		struct stat st;

		free(list[i]);
		if (r < 0 || lstat(full, &st) < 0 || is_ours(below))
			continue;
		if (tar_is_whiteout(&st)) {
			add_change(c, below, DELETED);
			continue;
		}
		add_change(c, below, was_there(c, below) ? MODIFIED : ADDED);
		if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
			r = walk(c, upper, below, depth + 1, err);
	}
	free(list);
	return r;
}

int container_changes(struct container_manager *m, const char *id, json_t **out, struct error *err)
{
	struct changes c = { .out = json_array() };
	CLEANUP_FREE char *upper = NULL;
	CLEANUP_JSON json_t *lower = NULL;
	struct container *k = container_get(m, id, err);
	int r;

	*out = NULL;
	if (!k) {
		json_decref(c.out);
		return -err->code;
	}
	pthread_mutex_lock(&m->lock);
	c.lower = lower = json_deep_copy(json_object_get(k->doc, "lower"));
	pthread_mutex_unlock(&m->lock);
	upper = container_dir(m, k->id, "upper");
	r = walk(&c, upper, "", 0, err);
	container_put(m, k);
	if (r < 0)
		json_decref(c.out);
	else
		*out = c.out;
	return r;
}
