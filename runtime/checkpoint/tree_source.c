/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Source of a directory tree: walks a folder and sends what the destination does not have
 * yet. See tree.h.
 *
 * A pass lists the whole tree first, then compares the list with that of the last pass,
 * and sends in this order: removals; folders, files, symlinks, nodes; hard links;
 * attributes of folders, innermost first. An entry counts as unchanged only if inode,
 * size, mtime and ctime are those noted *before* its content was read, and ctime was not
 * so young then that a second write could have got the same stamp. Stores through shared
 * mappings give a new ctime only when the page was clean before: so content is written
 * back between the stat and the read (on tmpfs, where that does not work, the last pass
 * compares hashes).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/process.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/tree.h"
#include "runtime/checkpoint/tree_attr.h"

#define BLOCK	   65536u
#define FRAME_SOFT (1u << 20)
#define RACY_NS	   50000000 /* coarse clocks stamp with up to 10 ms; be generous */
#define DEPTH_MAX  512

struct entry {
	char *path;
	struct stat st;
	bool whiteout, opaque;
	bool racy;	  /* changed so lately that its ctime proves nothing */
	bool fresh;	  /* made anew in this pass, with all below it */
	bool touched;	  /* a folder in which something was done: its times are set again */
	bool sent_data;	  /* content went out at least once */
	bool attr;	  /* attributes are to be sent */
	uint64_t *blocks; /* hashes of content that the destination has */
	size_t nblocks;
};

struct list {
	struct entry *e;
	size_t n, cap;
	uint32_t *hash; /* by path: index + 1; 0: empty */
	size_t nhash;
};

struct tree_source {
	int fd;
	char *dest;
	dev_t dev;
	bool volatile_content; /* tmpfs */
	bool first;
	struct list last;
};

/* --- lists ------------------------------------------------------------------------------ */
static uint64_t hash_str(const char *s)
{
	uint64_t h = 1469598103934665603ull;

	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * 1099511628211ull;
	return h ^ h >> 29;
}

static void entry_free(struct entry *e)
{
	free(e->path);
	free(e->blocks);
}

static void list_free(struct list *l)
{
	for (size_t i = 0; i < l->n; i++)
		entry_free(&l->e[i]);
	free(l->e);
	free(l->hash);
	*l = (struct list){ 0 };
}

static struct entry *list_add(struct list *l, char *path)
{
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 256;
		l->e = mem_grow(l->e, l->cap, sizeof(*l->e));
	}
	l->e[l->n] = (struct entry){ .path = path };
	return &l->e[l->n++];
}

static void list_index(struct list *l)
{
	l->nhash = 16;
	while (l->nhash < l->n * 2)
		l->nhash *= 2;
	l->hash = mem_zalloc(l->nhash * sizeof(*l->hash));
	for (size_t i = 0; i < l->n; i++) {
		size_t at = hash_str(l->e[i].path) & (l->nhash - 1);

		while (l->hash[at])
			at = (at + 1) & (l->nhash - 1);
		l->hash[at] = (uint32_t)i + 1;
	}
}

static struct entry *list_find(const struct list *l, const char *path)
{
	size_t at;

	if (!l->nhash)
		return NULL;
	for (at = hash_str(path) & (l->nhash - 1); l->hash[at]; at = (at + 1) & (l->nhash - 1))
		if (strcmp(l->e[l->hash[at] - 1].path, path) == 0)
			return &l->e[l->hash[at] - 1];
	return NULL;
}

static struct entry *list_parent(const struct list *l, const char *path)
{
	const char *slash = strrchr(path, '/');
	CLEANUP_FREE char *up = NULL;

	if (!*path)
		return NULL;
	up = slash ? str_format("%.*s", (int)(slash - path), path) : str_dup("");
	return list_find(l, up);
}

/* --- walking ---------------------------------------------------------------------------- */
static int64_t ts_ns(const struct timespec *t)
{
	return t->tv_sec * INT64_C(1000000000) + t->tv_nsec;
}

static bool has_xattr(int dirfd, const char *name, const char *xattr, char *value, size_t cap)
{
	CLEANUP_FREE char *path = str_format("/proc/self/fd/%d/%s", dirfd, name);
	ssize_t n = lgetxattr(path, xattr, value, cap - 1);

	value[n > 0 ? n : 0] = '\0';
	return n >= 0;
}

/* Marks of the overlay's upper layer. */
static int read_marks(int dirfd, const char *name, struct entry *e, struct error *err)
{
	char v[256];

	if (S_ISCHR(e->st.st_mode) && e->st.st_rdev == makedev(0, 0))
		e->whiteout = true;
	if (S_ISREG(e->st.st_mode) &&
	    (has_xattr(dirfd, name, "trusted.overlay.metacopy", v, sizeof(v)) ||
	     has_xattr(dirfd, name, "user.overlay.metacopy", v, sizeof(v))))
		return error_set(
			err, ENOTSUP,
			"/%s has its content in a lower layer only "
			"(overlay option metacopy=on); mount the overlay with metacopy=off",
			e->path);
	if (!S_ISDIR(e->st.st_mode))
		return 0;
	if (has_xattr(dirfd, name, "trusted.overlay.redirect", v, sizeof(v)) ||
	    has_xattr(dirfd, name, "user.overlay.redirect", v, sizeof(v)))
		return error_set(err, ENOTSUP,
				 "folder /%s was renamed from a lower layer (overlay "
				 "option redirect_dir=on); mount the overlay with redirect_dir=off",
				 e->path);
	if (has_xattr(dirfd, name, "trusted.overlay.opaque", v, sizeof(v)) ||
	    has_xattr(dirfd, name, "user.overlay.opaque", v, sizeof(v)))
		e->opaque = strcmp(v, "y") == 0;
	return 0;
}

static bool same_meta(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_mode == b->st_mode && a->st_uid == b->st_uid &&
	       a->st_gid == b->st_gid && a->st_rdev == b->st_rdev &&
	       ts_ns(&a->st_mtim) == ts_ns(&b->st_mtim) &&
	       ts_ns(&a->st_ctim) == ts_ns(&b->st_ctim) &&
	       (S_ISDIR(a->st_mode) || a->st_size == b->st_size);
}

static void stat_of(const struct statx *x, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_dev = makedev(x->stx_dev_major, x->stx_dev_minor);
	st->st_rdev = makedev(x->stx_rdev_major, x->stx_rdev_minor);
	st->st_ino = x->stx_ino;
	st->st_mode = x->stx_mode;
	st->st_nlink = x->stx_nlink;
	st->st_uid = x->stx_uid;
	st->st_gid = x->stx_gid;
	st->st_size = (off_t)x->stx_size;
	st->st_atim = (struct timespec){ x->stx_atime.tv_sec, x->stx_atime.tv_nsec };
	st->st_mtim = (struct timespec){ x->stx_mtime.tv_sec, x->stx_mtime.tv_nsec };
	st->st_ctim = (struct timespec){ x->stx_ctime.tv_sec, x->stx_ctime.tv_nsec };
}

static int walk(struct tree_source *ts, struct list *l, int dirfd, const char *prefix, int depth,
		struct error *err)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_CLOSEDIR DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return errno == ENOENT ? 0 : error_sys(err, errno, "listing /%s", prefix);
	}
	if (depth > DEPTH_MAX)
		return error_set(err, ELOOP, "/%s is nested too deep", prefix);
	while ((de = readdir(dir))) {
		const char *name = de->d_name;
		const struct entry *old;
		struct statx stx;
		struct entry *e;
		struct stat st;
		int n = 0;

		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			continue;
		if (statx(fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS,
			  &stx) < 0)
			continue; /* gone again */
		stat_of(&stx, &st);
		if (st.st_dev != ts->dev || (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT))
			continue; /* a mount point */
		e = list_add(l, *prefix ? str_format("%s/%s", prefix, name) : str_dup(name));
		e->st = st;
		e->racy = clock_real_ns() - ts_ns(&st.st_ctim) < RACY_NS;
		/* marks change the ctime: an entry as it was needs no look at them */
		old = list_find(&ts->last, e->path);
		if (old && !old->racy && same_meta(&old->st, &st)) {
			e->whiteout = old->whiteout;
			e->opaque = old->opaque;
		} else {
			n = read_marks(fd, name, e, err);
		}
		if (n < 0)
			return n;
		if (S_ISDIR(st.st_mode)) {
			CLEANUP_FREE char *sub = str_dup(e->path);
			CLEANUP_CLOSE int child =
				openat(fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			if (child < 0)
				continue;
			n = walk(ts, l, child, sub, depth + 1, err);
			if (n < 0)
				return n;
		}
	}
	return 0;
}

/* --- sending ------------------------------------------------------------------------------ */
struct out {
	struct tree_source *ts;
	struct tree_pass *pass;
	Cko__TreeEntry **entries;
	size_t n, bytes;
};

static void out_drop(struct out *o)
{
	for (size_t i = 0; i < o->n; i++) {
		Cko__TreeEntry *t = o->entries[i];

		for (size_t k = 0; k < t->n_extents; k++) {
			free(t->extents[k]->data.data);
			free(t->extents[k]);
		}
		free(t->extents);
		for (size_t k = 0; k < t->n_allocated; k++)
			free(t->allocated[k]);
		free(t->allocated);
		obj_inode_free(t->inode);
		free(t->path);
		if (t->target != (char *)protobuf_c_empty_string)
			free(t->target);
		free(t);
	}
	o->n = o->bytes = 0;
}

static int out_flush(struct out *o, struct error *err)
{
	Cko__TreeFrame f = CKO__TREE_FRAME__INIT;
	CLEANUP_BUF struct buf body = { 0 };
	int n;

	if (!o->n)
		return 0;
	f.dest = o->ts->dest;
	f.entries = o->entries;
	f.n_entries = o->n;
	obj_pack(&f.base, &body);
	n = o->pass->emit(o->pass->ctx, body.data, body.len, err);
	out_drop(o);
	return n;
}

static Cko__TreeEntry *out_entry(struct out *o, Cko__TreeKind kind, const char *path)
{
	Cko__TreeEntry *t = mem_zalloc(sizeof(*t));

	cko__tree_entry__init(t);
	t->kind = kind;
	t->path = str_dup(path);
	o->entries = mem_grow(o->entries, o->n + 1, sizeof(Cko__TreeEntry *));
	o->entries[o->n++] = t;
	o->bytes += strlen(path) + 64;
	return t;
}

static int out_room(struct out *o, struct error *err)
{
	return o->bytes >= FRAME_SOFT ? out_flush(o, err) : 0;
}

static Cko__TreeExtent *out_extent(struct out *o, Cko__TreeEntry *t, uint64_t offset)
{
	Cko__TreeExtent *x = mem_zalloc(sizeof(*x));

	cko__tree_extent__init(x);
	x->offset = offset;
	t->extents = mem_grow(t->extents, t->n_extents + 1, sizeof(Cko__TreeExtent *));
	t->extents[t->n_extents++] = x;
	o->bytes += 32;
	return x;
}

/*
 * 0: all zero; else a 64-bit hash of the block with zeros behind it. Four lanes of
 * multiply and rotate, as in wyhash; nobody who could choose the content gains by a
 * collision but the loss of his own file's block.
 */
static uint64_t block_hash(uint8_t *block, size_t len)
{
	uint64_t lane[4] = { 0x9e3779b97f4a7c15ull, 0xc2b2ae3d27d4eb4full, 0x165667b19e3779f9ull,
			     0x27d4eb2f165667c5ull };
	uint64_t any = 0, h;
	size_t whole = (len + 31) / 32 * 32;

	memset(block + len, 0, whole - len);
	/* trailing zeros must not count: a block cut short and one with zeros are the same */
	while (whole && !(block[whole - 1] | block[whole - 2] | block[whole - 32]) &&
	       memcmp(block + whole - 32, block + whole - 31, 31) == 0)
		whole -= 32;
	for (size_t at = 0; at < whole; at += 32)
		for (int k = 0; k < 4; k++) {
			uint64_t w;

			memcpy(&w, block + at + (size_t)k * 8, 8);
			any |= w;
			lane[k] = (lane[k] ^ w) * 0xff51afd7ed558ccdull;
			lane[k] ^= lane[k] >> 32;
		}
	if (!any)
		return 0;
	h = whole;
	for (int k = 0; k < 4; k++) {
		h = (h ^ lane[k]) * 0xc4ceb9fe1a85ec53ull;
		h ^= h >> 33;
	}
	return h ? h : 1;
}

/* The file's blocks that the destination has not; `whole`: it is to be emptied first. */
static int send_content(struct out *o, struct entry *e, int fd, const struct stat *st, bool whole,
			struct error *err)
{
	size_t nblocks = ((size_t)st->st_size + BLOCK - 1) / BLOCK;
	CLEANUP_FREE uint8_t *block = mem_zalloc(BLOCK);
	Cko__TreeEntry *t = out_entry(o, CKO__TREE_KIND__TREE_FILE, e->path);
	off_t data = 0, hole = 0;

	t->whole = whole;
	t->inode = obj_inode_dump(-1, st, false);
	if (whole)
		e->nblocks = 0;
	if (nblocks > e->nblocks) {
		e->blocks = mem_grow(e->blocks, nblocks, sizeof(*e->blocks));
		memset(e->blocks + e->nblocks, 0, (nblocks - e->nblocks) * sizeof(*e->blocks));
	}
	/* a block of which the end was cut off is sent again when it grows back */
	e->nblocks = nblocks;
	for (size_t i = 0; i < nblocks; i++) {
		off_t at = (off_t)i * BLOCK;
		ssize_t got = 0;
		uint64_t h = 0;

		if (at >= hole || at + (off_t)BLOCK <= data) {
			data = lseek(fd, at, SEEK_DATA);
			if (data < 0)
				data = errno == ENXIO ? INT64_MAX - BLOCK : at;
			hole = data == INT64_MAX - BLOCK ? INT64_MAX : lseek(fd, data, SEEK_HOLE);
			if (hole < 0)
				hole = INT64_MAX;
		}
		if (at + (off_t)BLOCK > data) {
			do
				got = pread(fd, block, BLOCK, at);
			while (got < 0 && errno == EINTR);
			if (got < 0)
				return error_sys(err, errno, "reading /%s", e->path);
			h = block_hash(block, (size_t)got);
		}
		if (h == e->blocks[i])
			continue;
		if (h == 0) {
			out_extent(o, t, (uint64_t)at)->zeros =
				st->st_size - at < (off_t)BLOCK ? (uint64_t)(st->st_size - at)
								: BLOCK;
		} else {
			Cko__TreeExtent *x = out_extent(o, t, (uint64_t)at);

			x->data.data = mem_zalloc((size_t)got);
			x->data.len = (size_t)got;
			memcpy(x->data.data, block, (size_t)got);
			o->bytes += (size_t)got;
			o->pass->bytes += (size_t)got;
		}
		e->blocks[i] = h;
		if (o->bytes >= FRAME_SOFT) {
			int n = out_flush(o, err);

			if (n < 0)
				return n;
			t = out_entry(o, CKO__TREE_KIND__TREE_DATA, e->path);
		}
	}
	tree_space_get(fd, t);
	o->bytes += t->n_allocated * 32;
	e->sent_data = true;
	return 0;
}

/* Opens an entry by its path below the tree's root without following anything. */
static int entry_open(struct tree_source *ts, const char *path, int flags)
{
	return obj_open_in_root(ts->fd, path, flags | O_NOFOLLOW, 0,
				RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS);
}

static int send_file(struct out *o, struct entry *e, bool whole, bool blocks_only,
		     struct error *err)
{
	struct tree_pass *p = o->pass;
	CLEANUP_CLOSE int fd = -1;
	struct stat st;
	int n = 0;

	if (!e->sent_data && p->elsewhere && p->elsewhere(p->ctx, e->st.st_dev, e->st.st_ino)) {
		Cko__TreeEntry *t = out_entry(o, CKO__TREE_KIND__TREE_FILE, e->path);

		t->inode = obj_inode_dump(-1, &e->st, false);
		e->attr = true;
		return 0;
	}
	fd = entry_open(o->ts, e->path, O_RDONLY | O_NONBLOCK);
	if (fd == -ENOENT && !p->final)
		return 1; /* gone meanwhile: the next pass says so */
	if (fd < 0)
		return error_sys(err, -fd, "opening /%s", e->path);
	if (fstat(fd, &st) < 0)
		return error_sys(err, errno, "looking at /%s", e->path);
	if (st.st_ino != e->st.st_ino || !S_ISREG(st.st_mode))
		return 1;
	e->st = st;
	e->racy = clock_real_ns() - ts_ns(&st.st_ctim) < RACY_NS;
	if (!p->final && !o->ts->volatile_content)
		sync_file_range(fd, 0, 0,
				SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
					SYNC_FILE_RANGE_WAIT_AFTER);
	if (blocks_only) {
		size_t before = o->n;
		unsigned long long bytes = p->bytes;

		n = send_content(o, e, fd, &st, false, err);
		/* nothing differed: the entry would do nothing */
		if (n == 0 && bytes == p->bytes && o->n == before + 1 &&
		    o->entries[before]->n_extents == 0 && !e->attr) {
			struct out tail = { .entries = &o->entries[before], .n = 1 };

			out_drop(&tail);
			o->n = before;
			return 0;
		}
	} else {
		n = send_content(o, e, fd, &st, whole, err);
	}
	e->attr = true;
	return n;
}

/* Name → content of a symlink. */
static int send_symlink(struct out *o, const struct entry *e, struct error *err)
{
	CLEANUP_CLOSE int fd = entry_open(o->ts, e->path, O_PATH);
	char target[PATH_MAX];
	Cko__TreeEntry *t;
	ssize_t n;

	if (fd < 0)
		return fd == -ENOENT && !o->pass->final ? 1 : error_sys(err, -fd, "/%s", e->path);
	n = readlinkat(fd, "", target, sizeof(target) - 1);
	if (n < 0)
		return error_sys(err, errno, "reading link /%s", e->path);
	target[n] = '\0';
	t = out_entry(o, CKO__TREE_KIND__TREE_SYMLINK, e->path);
	t->target = str_dup(target);
	return 0;
}

static int send_attr(struct out *o, const struct entry *e, struct error *err)
{
	CLEANUP_CLOSE int fd = *e->path ? entry_open(o->ts, e->path, O_PATH)
					: fcntl(o->ts->fd, F_DUPFD_CLOEXEC, 0);
	Cko__TreeEntry *t;

	if (fd < 0)
		return fd == -ENOENT && !o->pass->final ? 0 : error_sys(err, -fd, "/%s", e->path);
	t = out_entry(o, CKO__TREE_KIND__TREE_ATTR, e->path);
	t->inode = obj_inode_dump(fd, &e->st, !S_ISLNK(e->st.st_mode));
	t->inode->attributes = tree_attr_get(fd, e->st.st_mode);
	for (size_t i = 0; i < t->inode->n_xattrs; i++)
		o->bytes += t->inode->xattrs[i]->value.len + 64;
	return 0;
}

/* A file with several names: the first listed is sent, the others become links. */
struct link {
	ino_t ino;
	uint32_t first;
};

static const struct entry *first_name(struct list *l, struct link **links, size_t *n,
				      const struct entry *e)
{
	for (size_t i = 0; i < *n; i++)
		if ((*links)[i].ino == e->st.st_ino)
			return &l->e[(*links)[i].first];
	*links = mem_grow(*links, *n + 1, sizeof(**links));
	(*links)[*n] = (struct link){ e->st.st_ino, (uint32_t)(e - l->e) };
	(*n)++;
	return e;
}

static int send_entry(struct out *o, struct entry *e, struct entry *old, struct error *err)
{
	bool changed = !old || !same_meta(&old->st, &e->st) || old->racy;
	bool kind_same = old && ((old->st.st_mode ^ e->st.st_mode) & S_IFMT) == 0 &&
			 old->st.st_ino == e->st.st_ino && old->whiteout == e->whiteout;
	int n = 0;

	if (e->whiteout) {
		if (!kind_same)
			out_entry(o, CKO__TREE_KIND__TREE_REMOVE, e->path);
		return kind_same ? 0 : 2;
	}
	if (S_ISDIR(e->st.st_mode)) {
		e->attr = changed;
		if (kind_same && old->opaque == e->opaque)
			return 0;
		/* another folder than the one sent: nothing of it may be left. The first
		 * pass lays folders over those of the image. */
		if (old && !kind_same)
			out_entry(o, CKO__TREE_KIND__TREE_REMOVE, e->path);
		out_entry(o, e->opaque ? CKO__TREE_KIND__TREE_OPAQUE : CKO__TREE_KIND__TREE_DIR,
			  e->path);
		e->fresh = (old && !kind_same) || e->opaque;
		return 2;
	}
	if (old && !kind_same) {
		out_entry(o, CKO__TREE_KIND__TREE_REMOVE, e->path);
		n = 2;
	}
	if (S_ISREG(e->st.st_mode)) {
		int r;

		e->attr = changed;
		if (kind_same) {
			e->blocks = TAKE_PTR(old->blocks);
			e->nblocks = old->nblocks;
			e->sent_data = old->sent_data;
		}
		if (!changed && !(o->pass->final && o->ts->volatile_content))
			return 0;
		if (!changed)
			return send_file(o, e, false, true, err);
		/* after a first sending only blocks that differ */
		r = send_file(o, e, !e->sent_data, e->sent_data, err);
		return r < 0 ? r : r == 1 ? 1 : kind_same ? n : 2;
	}
	if (!changed)
		return 0;
	e->attr = true;
	if (S_ISLNK(e->st.st_mode)) {
		n = send_symlink(o, e, err);
		return n ? n : 2;
	}
	if (!kind_same) {
		Cko__TreeEntry *t = out_entry(o, CKO__TREE_KIND__TREE_NODE, e->path);

		t->inode = obj_inode_dump(-1, &e->st, false);
		t->rdev = e->st.st_rdev;
		return 2;
	}
	return n;
}

static void touch_parent(struct list *l, const char *path)
{
	struct entry *p = list_parent(l, path);

	if (p)
		p->touched = true;
}

/* What was there at the last pass and is no more; only the topmost name of a branch. */
static int send_removals(struct out *o, struct list *now, struct error *err)
{
	struct list *last = &o->ts->last;
	int n = 0;

	for (size_t i = 0; i < last->n && n == 0; i++) {
		const struct entry *old = &last->e[i];

		if (old->whiteout || list_find(now, old->path))
			continue;
		touch_parent(now, old->path);
		if (!list_parent(now, old->path) && list_parent(last, old->path))
			continue;
		out_entry(o, CKO__TREE_KIND__TREE_REMOVE, old->path);
		o->pass->changed++;
		n = out_room(o, err);
	}
	return n;
}

static int send_list(struct out *o, struct list *now, struct error *err)
{
	CLEANUP_FREE struct link *links = NULL;
	CLEANUP_FREE bool *is_link = mem_zalloc(now->n + 1);
	size_t nlinks = 0;
	int n = 0;

	for (size_t i = 0; i < now->n && n >= 0; i++) {
		struct entry *e = &now->e[i];
		struct entry *up = list_parent(now, e->path);
		struct entry *old;

		if (*e->path == '\0') {
			old = list_find(&o->ts->last, "");
			e->attr = !old || !same_meta(&old->st, &e->st);
			continue;
		}
		if (up && up->fresh)
			e->fresh = true;
		old = e->fresh ? NULL : list_find(&o->ts->last, e->path);
		if (S_ISREG(e->st.st_mode) && e->st.st_nlink > 1 &&
		    first_name(now, &links, &nlinks, e) != e) {
			is_link[i] = true;
			continue;
		}
		n = send_entry(o, e, old, err);
		if (n == 1) { /* gone while looked at: not noted, so that the next pass sees */
			memset(&e->st.st_ctim, 0, sizeof(e->st.st_ctim));
			e->attr = false;
			n = 0;
		}
		if (n == 2 || (n == 0 && e->attr && !S_ISDIR(e->st.st_mode)))
			o->pass->changed++;
		if (n == 2) {
			touch_parent(now, e->path);
			n = 0;
		}
		if (n == 0 && e->attr && !S_ISDIR(e->st.st_mode))
			n = send_attr(o, e, err);
		if (n == 0)
			n = out_room(o, err);
	}
	for (size_t i = 0; i < now->n && n >= 0; i++) {
		struct entry *e = &now->e[i], *old;
		const struct entry *first;
		Cko__TreeEntry *t;

		if (!is_link[i])
			continue;
		first = first_name(now, &links, &nlinks, e);
		old = e->fresh ? NULL : list_find(&o->ts->last, e->path);
		if (old && old->st.st_ino == e->st.st_ino && !first->fresh) {
			struct entry *old_first = list_find(&o->ts->last, first->path);

			if (old_first && old_first->st.st_ino == e->st.st_ino)
				continue; /* they were one file already */
		}
		t = out_entry(o, CKO__TREE_KIND__TREE_HARDLINK, e->path);
		t->target = str_dup(first->path);
		touch_parent(now, e->path);
		o->pass->changed++;
		n = out_room(o, err);
	}
	for (size_t i = now->n; i-- > 0 && n >= 0;) {
		struct entry *e = &now->e[i];

		if (S_ISDIR(e->st.st_mode) && (e->attr || e->touched || e->fresh))
			n = send_attr(o, e, err);
		if (n >= 0)
			n = out_room(o, err);
	}
	return n < 0 ? n : 0;
}

struct tree_source *tree_source_new_fd(int fd, const char *dest, struct error *err)
{
	struct tree_source *ts = mem_zalloc(sizeof(*ts));
	struct statfs fs;
	struct stat st;

	ts->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (ts->fd < 0 || fstat(ts->fd, &st) < 0 || fstatfs(ts->fd, &fs) < 0 ||
	    !S_ISDIR(st.st_mode)) {
		error_sys(err, errno, "opening the tree for %s", dest);
		if (ts->fd >= 0)
			close(ts->fd);
		free(ts);
		return NULL;
	}
	ts->dev = st.st_dev;
	ts->dest = str_dup(dest);
	ts->volatile_content = fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
	return ts;
}

struct tree_source *tree_source_new(const char *path, const char *dest, struct error *err)
{
	CLEANUP_CLOSE int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		error_sys(err, errno, "opening folder %s", path);
		return NULL;
	}
	return tree_source_new_fd(fd, dest, err);
}

void tree_source_free(struct tree_source *ts)
{
	if (!ts)
		return;
	list_free(&ts->last);
	close(ts->fd);
	free(ts->dest);
	free(ts);
}

int tree_source_pass(struct tree_source *ts, struct tree_pass *pass, struct error *err)
{
	struct out o = { .ts = ts, .pass = pass };
	struct list now = { 0 };
	struct entry *root;
	int n;

	pass->entries = pass->changed = 0;
	pass->bytes = 0;
	root = list_add(&now, str_dup(""));
	if (fstat(ts->fd, &root->st) < 0) {
		list_free(&now);
		return error_sys(err, errno, "looking at the tree of %s", ts->dest);
	}
	n = walk(ts, &now, ts->fd, "", 0, err);
	if (n == 0) {
		list_index(&now);
		pass->entries = now.n;
		n = send_removals(&o, &now, err);
	}
	if (n == 0)
		n = send_list(&o, &now, err);
	if (n == 0)
		n = out_flush(&o, err);
	out_drop(&o);
	free(o.entries);
	if (n < 0) {
		/* what went out is not known any more: the next pass begins anew */
		list_free(&now);
		list_free(&ts->last);
		return error_wrap(err, "tree at %s", ts->dest);
	}
	list_free(&ts->last);
	ts->last = now;
	return 0;
}
