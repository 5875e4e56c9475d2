/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's root: overlayfs over the image's layers, mounted in the host's mount
 * namespace; filling of new volumes; and mounts moved into a running container.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/str.h"
#include "base/tar.h"
#include "runtime/container/internal.h"

int rootfs_mount(struct container_manager *m, const char *id, const json_t *lower,
		 struct error *err)
{
	CLEANUP_FREE char *upper = container_dir(m, id, "upper"),
			  *work = container_dir(m, id, "work");
	CLEANUP_FREE char *root = container_dir(m, id, "rootfs");
	CLEANUP_BUF struct buf data = { 0 };
	CLEANUP_FREE int *fds = mem_zalloc(json_array_size(lower) * sizeof(int) + 1);
	size_t total = 0, i, opened = 0;
	bool by_fd = false;
	json_t *v;
	int r;

	if ((r = dir_make(upper, 0755, err)) < 0 || (r = dir_make(work, 0700, err)) < 0 ||
	    (r = dir_make(root, 0755, err)) < 0)
		return r;
	json_array_foreach (lower, i, v) {
		total += json_string_length(v) + 1;
		by_fd |= strpbrk(json_string_value(v), ":,\\") != NULL;
	}
	/* mount(2) takes one page of options (fs/namespace.c copy_mount_options). */
	by_fd |= total + strlen(upper) + strlen(work) > 3900;
	buf_addf(&data, "lowerdir=");
	json_array_foreach (lower, i, v) {
		const char *dir = json_string_value(v);

		if (!by_fd) {
			buf_addf(&data, "%s%s", i ? ":" : "", dir);
			continue;
		}
		fds[i] = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fds[i] < 0) {
			r = error_sys(err, errno, "opening layer %s", dir);
			break;
		}
		opened++;
		buf_addf(&data, "%s/proc/self/fd/%d", i ? ":" : "", fds[i]);
	}
	buf_addf(&data, ",upperdir=%s,workdir=%s", upper, work);
	if (!r && mount("overlay", root, "overlay", 0, data.data) < 0)
		r = error_sys(err, errno, "mounting the root file system (%.300s)", data.data);
	/* The image's own mode and owner of / are in the lowest upper: overlayfs shows upper's. */
	for (i = 0; i < opened; i++)
		close(fds[i]);
	return r;
}

int rootfs_unmount(struct container_manager *m, const char *id, struct error *err)
{
	CLEANUP_FREE char *root = container_dir(m, id, "rootfs");

	for (int i = 0; i < 16; i++) {
		if (umount2(root, UMOUNT_NOFOLLOW) == 0)
			continue; /* it may be mounted more than once */
		if (errno == EINVAL || errno == ENOENT)
			return 0;
		if (errno != EBUSY)
			return error_sys(err, errno, "unmounting %s", root);
		if (umount2(root, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL)
			return error_sys(err, errno, "unmounting %s", root);
	}
	return 0;
}

static bool is_empty(const char *dir)
{
	CLEANUP_CLOSEDIR DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    strcmp(e->d_name, "lost+found") != 0)
			return false;
	return d != NULL;
}

int rootfs_copy_up(const char *rootfs, const struct container_mount *mount, struct error *err)
{
	CLEANUP_CLOSE int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_CLOSE int from =
		root < 0 ? -1 : tar_open_in(root, mount->destination, O_PATH | O_DIRECTORY, true);
	CLEANUP_FREE char *link = NULL, *source = NULL, *to = NULL;
	char real[4096];
	ssize_t n;
	int r;

	if (from < 0 || !is_empty(mount->source))
		return 0;
	link = str_format("/proc/self/fd/%d", from);
	n = readlink(link, real, sizeof(real) - 1);
	if (n < 0)
		return error_sys(err, errno, "resolving %s", mount->destination);
	real[n] = '\0';
	source = str_format("%s/.", real);
	to = str_format("%s/", mount->source);
	const char *const cp[] = { "cp", "-a", "--", source, to, NULL };

	r = process_run(cp, NULL, err);
	return r < 0 ? error_wrap(err, "filling a new volume with the image's %s",
				  mount->destination)
		     : 0;
}

/* --- into a running container ------------------------------------------------------- */

/* In a child that has entered the mount namespace: makes dest below / and moves tree there. */
static int move_in(int tree, const char *dest, bool dir)
{
	CLEANUP_FREE char *copy = str_dup(dest);
	CLEANUP_CLOSE int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), at = -1;
	int fd;

	/* The namespace's root is the container's: links resolve inside. */
	for (char *p = copy + 1; root >= 0; p++) {
		char old = *p;

		if (old != '/' && old)
			continue;
		*p = '\0';
		fd = tar_open_in(root, copy, O_PATH, true);
		if (fd < 0) {
			if ((old || dir) ? mkdir(copy, 0755) < 0
					 : mknod(copy, S_IFREG | 0644, 0) < 0)
				return -errno;
		} else {
			close(fd);
		}
		*p = old;
		if (!old)
			break;
	}
	at = tar_open_in(root, dest, O_PATH, true);
	if (at < 0)
		return at;
	if (syscall(SYS_move_mount, tree, "", at, "",
		    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

int container_mount_into(pid_t pid, const char *source, const char *dest, bool readonly,
			 struct error *err)
{
	struct mount_attr attr = { .attr_set = readonly ? MOUNT_ATTR_RDONLY : 0,
				   .propagation = MS_PRIVATE };
	CLEANUP_CLOSE int tree = -1, ns = -1;
	char path[64];
	struct stat st;
	int status = 0, r;
	pid_t child;

	if (dest[0] != '/')
		return error_set(err, EINVAL, "mount destination %s must be absolute", dest);
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, source,
			    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (tree < 0)
		return error_sys(err, errno, "opening mount %s", source);
	if (fstat(tree, &st) < 0 || syscall(SYS_mount_setattr, tree, "",
					    AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return error_sys(err, errno, "setting the options of mount %s", source);
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0)
		return error_sys(err, errno, "opening %s", path);
	/* setns to a mount namespace is for single-threaded processes: a child does it. */
	child = fork();
	if (child < 0)
		return error_sys(err, errno, "making a helper process");
	if (!child) {
		r = setns(ns, CLONE_NEWNS) < 0 ? -errno : move_in(tree, dest, S_ISDIR(st.st_mode));
		_exit(-r & 0xff);
	}
	r = process_wait(child, &status);
	if (r < 0)
		return error_sys(err, -r, "waiting for a helper process");
	if (!WIFEXITED(status))
		return error_set(err, EIO, "mounting %s on %s: the helper was killed", source,
				 dest);
	if (WEXITSTATUS(status))
		return error_sys(err, WEXITSTATUS(status), "mounting %s on %s of process %d",
				 source, dest, pid);
	return 0;
}
