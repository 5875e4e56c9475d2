/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an inode back to a path of the container: for hard links of deleted files and for
 * inotify watches, which the kernel shows by inode only. A breadth-first walk on the
 * inode's own file system, bounded, that never follows a link; what was found is
 * remembered, so that preflight pays for the walk and the freeze only for a stat.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"

#define WALK_MAX 2000000 /* entries looked at before the walk gives up */

struct known {
	dev_t dev;
	ino_t ino;
	char *path;
};
static struct known *known;
static size_t nknown;

static bool path_is(int root_fd, const char *path, dev_t dev, ino_t ino)
{
	CLEANUP_CLOSE int fd = obj_open_in_root(root_fd, path, O_PATH | O_NOFOLLOW, 0, 0);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

struct queue {
	char **paths;
	size_t head, n;
};

static void queue_push(struct queue *q, char *path)
{
	q->paths = mem_grow(q->paths, q->n + 1, sizeof(*q->paths));
	q->paths[q->n++] = path;
}

/* One folder: the entry that is the inode, or NULL; subfolders are queued. */
static char *walk_folder(int root_fd, const char *path, dev_t dev, ino_t ino, struct queue *q,
			 size_t *budget)
{
	int fd = obj_open_in_root(root_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, 0);
	CLEANUP_CLOSEDIR DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct stat here;
	struct dirent *e;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	if (fstat(fd, &here) < 0)
		return NULL;
	while ((e = readdir(dir)) && *budget) {
		bool folder = e->d_type == DT_DIR || e->d_type == DT_UNKNOWN;
		CLEANUP_FREE char *sub = NULL;
		struct stat st;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		(*budget)--;
		/* d_ino of an overlay may be the lower layer's: only a stat decides */
		if (!folder && here.st_dev == dev && e->d_ino != ino && major(here.st_dev) != 0)
			continue;
		if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
			continue;
		sub = str_format("%s/%s", strcmp(path, "/") == 0 ? "" : path, e->d_name);
		if (st.st_dev == dev && st.st_ino == ino)
			return TAKE_PTR(sub);
		if (S_ISDIR(st.st_mode) && strcmp(sub, "/proc") != 0 && strcmp(sub, "/sys") != 0)
			queue_push(q, TAKE_PTR(sub));
	}
	return NULL;
}

static char *walk(int root_fd, const char *from, dev_t dev, ino_t ino)
{
	struct queue q = { 0 };
	size_t budget = WALK_MAX;
	char *found = NULL;

	queue_push(&q, str_dup(from));
	while (!found && q.head < q.n && budget) {
		found = walk_folder(root_fd, q.paths[q.head], dev, ino, &q, &budget);
		q.head++;
	}
	for (size_t i = 0; i < q.n; i++)
		free(q.paths[i]);
	free(q.paths);
	return found;
}

char *obj_path_of_inode(int root_fd, dev_t dev, ino_t ino, const char *near)
{
	char *found;

	for (size_t i = 0; i < nknown; i++)
		if (known[i].dev == dev && known[i].ino == ino &&
		    path_is(root_fd, known[i].path, dev, ino))
			return str_dup(known[i].path);
	if (path_is(root_fd, "/", dev, ino))
		return str_dup("/");
	found = near ? walk(root_fd, near, dev, ino) : NULL;
	if (!found)
		found = walk(root_fd, "/", dev, ino);
	if (found) {
		known = mem_grow(known, nknown + 1, sizeof(*known));
		known[nknown++] = (struct known){ dev, ino, str_dup(found) };
	}
	return found;
}
