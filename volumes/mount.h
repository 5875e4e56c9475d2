/* SPDX-License-Identifier: Apache-2.0 */
/* File systems of attached volumes on this host: making, mounting, freezing. */
#ifndef FERRY_VOLUMES_MOUNT_H
#define FERRY_VOLUMES_MOUNT_H

#include <stdbool.h>

#include "base/error.h"

/*
 * mkfs of "ext4" or "xfs" on a device that reads as zeroes, but for what an interrupted
 * mkfs may have left: that spares writing zeroes. Without a lost+found folder, which
 * databases refuse. scratch: a folder that may be used as mount point.
 */
int fs_make(const char *device, const char *fs, const char *scratch, struct error *err);
/*
 * The file system takes in a device that has grown. path: where it is mounted (ext4 then
 * needs CAP_SYS_RESOURCE, as the kernel says), or NULL: not mounted, scratch may be used.
 */
int fs_grow(const char *device, const char *fs, const char *path, const char *scratch,
	    struct error *err);

/* Makes `dir` a mount of its own that shares nothing with other mount namespaces. */
int mount_make_private(const char *dir, struct error *err);
/* Whether something is mounted exactly at `path`. */
bool mount_is(const char *path);
int mount_fs(const char *device, const char *fs, const char *path, bool read_only,
	     struct error *err);
/* lazy: detaches it at once, whoever still uses it. Nothing mounted: 0. */
int mount_undo(const char *path, bool lazy, struct error *err);

int mount_sync(const char *path, struct error *err);
/* FIFREEZE with expedited RCU grace periods (30–50 ms become 6). Already frozen: 0. */
int mount_freeze(const char *path, struct error *err);
/* FITHAW. Not frozen: 0. */
int mount_thaw(const char *path, struct error *err);
/*
 * The file system forgets what it has not written, every further use of it fails, and it is
 * no longer frozen: who waited in it gets EIO.
 */
void mount_shut(const char *path);

#endif
