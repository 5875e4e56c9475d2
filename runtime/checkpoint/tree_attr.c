/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes of chattr(1) and allocated space. An overlay keeps "immutable" and "append only"
 * in a mark of its upper layer (protattr) instead of on the file there; at the destination
 * everything is set through the mounted overlay, which does the same again.
 */
#include "runtime/checkpoint/tree_attr.h"

#include <errno.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"

#define SEALS	(FS_IMMUTABLE_FL | FS_APPEND_FL)
#define MEANING (FS_SYNC_FL | FS_DIRSYNC_FL | FS_NOATIME_FL | FS_NODUMP_FL | FS_PROJINHERIT_FL)
#define HINTS                                                                                      \
	(FS_COMPR_FL | FS_NOCOW_FL | FS_JOURNAL_DATA_FL | FS_TOPDIR_FL | FS_NOTAIL_FL |            \
	 FS_SECRM_FL | FS_UNRM_FL)

/* --- source ------------------------------------------------------------------------------ */
static uint32_t marks(int fd)
{
	static const char *const names[] = { "trusted.overlay.protattr", "user.overlay.protattr" };
	char path[40], v[16];
	uint32_t flags = 0;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (size_t i = 0; i < 2; i++) {
		ssize_t n = getxattr(path, names[i], v, sizeof(v));

		for (ssize_t k = 0; k < n; k++)
			flags |= v[k] == 'i'   ? (uint32_t)FS_IMMUTABLE_FL
				 : v[k] == 'a' ? (uint32_t)FS_APPEND_FL
					       : 0;
	}
	return flags;
}

uint32_t tree_attr_get(int fd, mode_t mode)
{
	CLEANUP_CLOSE int at = -1;
	int flags = 0;

	if (!S_ISREG(mode) && !S_ISDIR(mode))
		return 0;
	at = obj_reopen(fd, O_RDONLY | O_NONBLOCK | O_NOATIME);
	if (at < 0 || ioctl(at, FS_IOC_GETFLAGS, &flags) < 0)
		flags = 0;
	return ((uint32_t)flags & (SEALS | MEANING | HINTS)) | marks(fd);
}

void tree_space_get(int fd, Cko__TreeEntry *t)
{
	enum { MANY = 128 };
	size_t size = sizeof(struct fiemap) + MANY * sizeof(struct fiemap_extent);
	CLEANUP_FREE struct fiemap *m = mem_zalloc(size);
	uint64_t from = 0;
	bool last = false;

	while (!last) {
		memset(m, 0, size);
		m->fm_start = from;
		m->fm_length = ~0ull - from;
		m->fm_extent_count = MANY;
		if (ioctl(fd, FS_IOC_FIEMAP, m) < 0 || !m->fm_mapped_extents)
			return;
		for (uint32_t i = 0; i < m->fm_mapped_extents; i++) {
			const struct fiemap_extent *e = &m->fm_extents[i];
			Cko__TreeExtent *x;

			from = e->fe_logical + e->fe_length;
			last = e->fe_flags & FIEMAP_EXTENT_LAST;
			if (!(e->fe_flags & FIEMAP_EXTENT_UNWRITTEN))
				continue;
			x = mem_zalloc(sizeof(*x));
			cko__tree_extent__init(x);
			x->offset = e->fe_logical;
			x->zeros = e->fe_length;
			t->allocated =
				mem_grow(t->allocated, t->n_allocated + 1, sizeof(*t->allocated));
			t->allocated[t->n_allocated++] = x;
		}
	}
}

/* --- destination ------------------------------------------------------------------------ */
static struct sealed {
	char *dest, *path;
	uint32_t flags;
} * sealed;
static size_t nsealed;

static void note(const char *dest, const char *path, uint32_t flags)
{
	for (size_t i = 0; i < nsealed; i++)
		if (strcmp(sealed[i].path, path) == 0 && strcmp(sealed[i].dest, dest) == 0) {
			sealed[i].flags = flags;
			return;
		}
	if (!flags)
		return;
	sealed = mem_grow(sealed, nsealed + 1, sizeof(*sealed));
	sealed[nsealed++] = (struct sealed){ str_dup(dest), str_dup(path), flags };
}

/* What the file system here has no place for fails if it means something. */
static int set(int fd, uint32_t mask, uint32_t want, struct error *err)
{
	CLEANUP_CLOSE int at = obj_reopen(fd, O_RDONLY | O_NONBLOCK | O_NOATIME);
	int now = 0, flags;

	if (at < 0)
		return want ? error_sys(err, -at, "opening it for its attributes") : 0;
	if (ioctl(at, FS_IOC_GETFLAGS, &now) < 0 && !(want & ~(uint32_t)HINTS))
		return 0;
	flags = (int)(((uint32_t)now & ~mask) | (want & mask));
	if (flags == now || ioctl(at, FS_IOC_SETFLAGS, &flags) == 0)
		return 0;
	flags = (int)(((uint32_t)now & ~(mask & ~(uint32_t)HINTS)) |
		      (want & mask & ~(uint32_t)HINTS));
	if (flags == now || ioctl(at, FS_IOC_SETFLAGS, &flags) == 0)
		return 0;
	return error_sys(err, errno, "setting attributes %#x (chattr)", want & mask);
}

int tree_attr_set(int fd, mode_t mode, const char *dest, const char *path, uint32_t attributes,
		  struct error *err)
{
	if (!S_ISREG(mode) && !S_ISDIR(mode))
		return 0;
	note(dest, path, attributes & SEALS);
	return set(fd, MEANING | HINTS, attributes & (MEANING | HINTS), err);
}

int tree_space_set(int fd, const Cko__TreeEntry *t, struct error *err)
{
	for (size_t i = 0; i < t->n_allocated; i++) {
		const Cko__TreeExtent *x = t->allocated[i];

		if (x->offset > INT64_MAX || x->zeros > INT64_MAX - x->offset)
			return error_set(err, EBADMSG, "a tree's frame has a bad offset");
		if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)x->offset, (off_t)x->zeros) < 0 &&
		    errno != EOPNOTSUPP)
			return error_sys(err, errno, "allocating space");
	}
	return 0;
}

int tree_attr_seal(int root_fd, struct error *err)
{
	int n = 0;

	for (size_t i = 0; i < nsealed; i++) {
		struct sealed *s = &sealed[i];
		CLEANUP_CLOSE int dest =
			obj_open_in_root(root_fd, s->dest, O_PATH | O_DIRECTORY, 0, 0);
		int fd = dest < 0 ? dest
				  : obj_open_in_root(dest, *s->path ? s->path : ".",
						     O_PATH | O_NOFOLLOW, 0, 0);

		if (fd >= 0 && n == 0 && s->flags && set(fd, SEALS, s->flags, err) < 0) {
			n = -err->code;
			error_wrap(err, "%s of the tree at %s", s->path, s->dest);
		}
		if (fd >= 0)
			close(fd);
		free(s->dest);
		free(s->path);
	}
	free(sealed);
	sealed = NULL;
	nsealed = 0;
	return n;
}
