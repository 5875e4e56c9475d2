/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device nodes: those the runtime specification wants in every container, those listed in
 * linux.devices, and the usual links in /dev. Where mknod is not permitted the host's node
 * is bound instead.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/oci/launch.h"

static const struct spec_device defaults[] = {
	{ "/dev/null", 'c', 1, 3, 0666, 0, 0 },	   { "/dev/zero", 'c', 1, 5, 0666, 0, 0 },
	{ "/dev/full", 'c', 1, 7, 0666, 0, 0 },	   { "/dev/random", 'c', 1, 8, 0666, 0, 0 },
	{ "/dev/urandom", 'c', 1, 9, 0666, 0, 0 }, { "/dev/tty", 'c', 5, 0, 0666, 0, 0 },
};

static int bind_node(int root, const char *path, struct error *err)
{
	CLEANUP_CLOSE int target = path_in_root(root, path, true, false, err);
	char to[64];

	if (target < 0)
		return target;
	snprintf(to, sizeof(to), "/proc/self/fd/%d", target);
	if (mount(path, to, NULL, MS_BIND, NULL) < 0)
		return error_sys(err, errno, "binding device %s", path);
	return 0;
}

static int make_node(int root, const struct spec_device *d, struct error *err)
{
	mode_t type = d->type == 'b' ? S_IFBLK : d->type == 'p' ? S_IFIFO : S_IFCHR;
	CLEANUP_FREE char *folder = str_dup(d->path);
	CLEANUP_CLOSE int dir = -1;
	char *base = strrchr(folder, '/');
	const char *name = d->path + (base - folder) + 1;

	*base = '\0';
	dir = path_in_root(root, folder[0] ? folder : "/", true, true, err);
	if (dir < 0)
		return dir;
	if (mknodat(dir, name, type | d->mode, makedev((unsigned)d->major, (unsigned)d->minor)) <
	    0) {
		struct stat st;

		if (errno == EEXIST && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    (st.st_mode & S_IFMT) == type &&
		    st.st_rdev == makedev((unsigned)d->major, (unsigned)d->minor))
			return 0;
		if (errno == EPERM)
			return bind_node(root, d->path, err);
		return error_sys(err, errno, "making device %s", d->path);
	}
	if (fchownat(dir, name, d->uid, d->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fchmodat(dir, name, d->mode, 0) < 0)
		return error_sys(err, errno, "setting owner and mode of device %s", d->path);
	return 0;
}

/* Is /dev the container's own, made by a mount of this spec (and not bound from the host)? */
static bool dev_is_ours(const struct spec *s)
{
	for (size_t i = 0; i < s->nmounts; i++)
		if (!strcmp(s->mounts[i].destination, "/dev"))
			return s->mounts[i].type && !strcmp(s->mounts[i].type, "tmpfs");
	return true;
}

int devices_make(const struct spec *s, int root, struct error *err)
{
	static const char *const links[][2] = {
		{ "/proc/self/fd", "fd" },	 { "/proc/self/fd/0", "stdin" },
		{ "/proc/self/fd/1", "stdout" }, { "/proc/self/fd/2", "stderr" },
		{ "/proc/kcore", "core" },	 { "pts/ptmx", "ptmx" },
	};
	CLEANUP_CLOSE int dev = -1;
	mode_t old = umask(0);
	int r = 0;

	if (dev_is_ours(s)) {
		for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]) && !r; i++)
			r = make_node(root, &defaults[i], err);
		if (!r)
			dev = r = path_in_root(root, "/dev", true, true, err);
		for (size_t i = 0; i < sizeof(links) / sizeof(links[0]) && r >= 0; i++)
			if (symlinkat(links[i][0], dev, links[i][1]) < 0 && errno != EEXIST)
				r = error_sys(err, errno, "making link /dev/%s", links[i][1]);
	}
	for (size_t i = 0; i < s->ndevices && r >= 0; i++)
		r = make_node(root, &s->devices[i], err);
	umask(old);
	return r < 0 ? r : 0;
}
