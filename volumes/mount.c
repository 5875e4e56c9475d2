// SPDX-License-Identifier: Apache-2.0
/* File systems on this host; see mount.h, mount(2), ioctl_fs_freeze (linux/fs.h). */
#include "volumes/mount.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/process.h"
#include "base/rcu.h"
#include "base/str.h"

/* FS_IOC_SHUTDOWN of newer headers, EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN: all the same. */
#define SHUTDOWN_IOC	    _IOR('X', 125, uint32_t)
#define SHUTDOWN_NOLOGFLUSH 2

/* --- making ------------------------------------------------------------------------------- */

static int run(const char *const argv[], struct error *err)
{
	return process_run(argv, NULL, err);
}

static int make_ext4(const char *device, struct error *err)
{
	/* assume_storage_prezeroed: e2fsprogs >= 1.47; nothing is left for lazy init. */
	const char *const zeroed[] = { "mkfs.ext4", "-q",   "-F",
				       "-b",	    "4096", "-m",
				       "0",	    "-E",   "nodiscard,assume_storage_prezeroed=1",
				       device,	    NULL };
	const char *const lazy[] = {
		"mkfs.ext4", "-q",   "-F",
		"-b",	     "4096", "-m",
		"0",	     "-E",   "nodiscard,lazy_itable_init=1,lazy_journal_init=1",
		device,	     NULL
	};

	if (run(zeroed, NULL) == 0)
		return 0;
	return run(lazy, err);
}

static int make_xfs(const char *device, struct error *err)
{
	const char *const argv[] = { "mkfs.xfs", "-q", "-f", "-K", device, NULL };

	return run(argv, err);
}

/* initdb and others refuse a folder that is not empty; e2fsck makes a new one if needed. */
static int drop_lost_found(const char *device, const char *scratch, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/lost+found", scratch);
	int rc = mount_fs(device, "ext4", scratch, false, err);

	if (rc)
		return rc;
	if (rmdir(path) < 0 && errno != ENOENT)
		rc = error_sys(err, errno, "removing lost+found");
	if (mount_undo(scratch, false, rc ? NULL : err) && rc == 0)
		rc = -EIO;
	return rc;
}

int fs_make(const char *device, const char *fs, const char *scratch, struct error *err)
{
	int rc;

	if (strcmp(fs, "xfs") == 0)
		return make_xfs(device, err);
	if (strcmp(fs, "ext4") != 0)
		return error_set(err, EINVAL, "file system %s: known are ext4, xfs, none", fs);
	rc = make_ext4(device, err);
	return rc ? rc : drop_lost_found(device, scratch, err);
}

static int grow_xfs(const char *device, const char *path, const char *scratch, struct error *err)
{
	const char *const argv[] = { "xfs_growfs", path ? path : scratch, NULL };
	int rc = path ? 0 : mount_fs(device, "xfs", scratch, false, err);

	if (rc)
		return rc;
	rc = run(argv, err);
	if (!path && mount_undo(scratch, false, rc ? NULL : err) && rc == 0)
		rc = -EIO;
	return rc;
}

/*
 * Not e2fsck before, as resize2fs asks for: it would bring back lost+found. A mount replays
 * the journal; what a mounted ext4 is good enough for, -f is as well.
 */
static int grow_ext4(const char *device, const char *path, const char *scratch, struct error *err)
{
	const char *const mounted[] = { "resize2fs", device, NULL };
	const char *const forced[] = { "resize2fs", "-f", device, NULL };
	int rc;

	if (path) {
		rc = run(mounted, err);
		return rc ? error_wrap(err, "the device has grown, its mounted ext4 has not (that "
					    "needs CAP_SYS_RESOURCE; resize it while unmounted)")
			  : 0;
	}
	rc = mount_fs(device, "ext4", scratch, false, err);
	if (rc == 0)
		rc = mount_undo(scratch, false, err);
	return rc ? rc : run(forced, err);
}

int fs_grow(const char *device, const char *fs, const char *path, const char *scratch,
	    struct error *err)
{
	if (strcmp(fs, "ext4") == 0)
		return grow_ext4(device, path, scratch, err);
	return strcmp(fs, "xfs") == 0 ? grow_xfs(device, path, scratch, err) : 0;
}

/* --- mounting ------------------------------------------------------------------------------ */

bool mount_is(const char *path)
{
	struct statx st;

	if (statx(AT_FDCWD, path, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
		return errno == EIO; /* as an xfs that was shut down answers */
	return st.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

int mount_make_private(const char *dir, struct error *err)
{
	if (mount_is(dir))
		return 0;
	if (mount(dir, dir, NULL, MS_BIND, NULL) < 0)
		return error_sys(err, errno, "binding %s to itself", dir);
	if (mount(NULL, dir, NULL, MS_PRIVATE, NULL) < 0)
		return error_sys(err, errno, "making %s private", dir);
	return 0;
}

int mount_fs(const char *device, const char *fs, const char *path, bool read_only,
	     struct error *err)
{
	/* nouuid: while a volume moves, one kernel may see both ends of it (in the lab). */
	const char *data =
		strcmp(fs, "xfs") == 0 ? (read_only ? "nouuid,norecovery" : "nouuid") : NULL;

	if (mount(device, path, fs, read_only ? MS_RDONLY : 0, data) < 0)
		return error_sys(err, errno, "mounting %s (%s) at %s", device, fs, path);
	return 0;
}

int mount_undo(const char *path, bool lazy, struct error *err)
{
	if (umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return 0;
	if (errno == EINVAL || errno == ENOENT) /* not a mount point */
		return 0;
	if (errno == EBUSY)
		return error_set(err, EBUSY, "%s is in use: stop what uses it first", path);
	return error_sys(err, errno, "unmounting %s", path);
}

/* --- freezing ------------------------------------------------------------------------------ */

static int open_root(const char *path, struct error *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? error_sys(err, errno, "opening %s", path) : fd;
}

int mount_sync(const char *path, struct error *err)
{
	CLEANUP_CLOSE int fd = open_root(path, err);

	if (fd < 0)
		return fd;
	return syncfs(fd) < 0 ? error_sys(err, errno, "syncing %s", path) : 0;
}

int mount_freeze(const char *path, struct error *err)
{
	CLEANUP_CLOSE int fd = open_root(path, err);
	int rc = 0;

	if (fd < 0)
		return fd;
	rcu_expedite(true);
	if (ioctl(fd, FIFREEZE, 0) < 0 && errno != EBUSY)
		rc = -errno;
	rcu_expedite(false);
	return rc ? error_sys(err, -rc, "freezing %s", path) : 0;
}

int mount_thaw(const char *path, struct error *err)
{
	CLEANUP_CLOSE int fd = open_root(path, err);

	if (fd < 0)
		return fd;
	if (ioctl(fd, FITHAW, 0) < 0 && errno != EINVAL)
		return error_sys(err, errno, "thawing %s", path);
	return 0;
}

void mount_shut(const char *path)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint32_t flags = SHUTDOWN_NOLOGFLUSH;

	if (fd < 0) /* shut down already */
		return;
	if (ioctl(fd, SHUTDOWN_IOC, &flags) < 0)
		log_debug("shutting down the file system at %s: %s", path, strerror(errno));
	/* By the same descriptor: no other could be opened now, and while it is frozen, the
	 * kernel keeps it and its device even when nothing is mounted any more. */
	if (ioctl(fd, FITHAW, 0) < 0 && errno != EINVAL)
		log_warn("thawing %s: %s", path, strerror(errno));
}
