/* SPDX-License-Identifier: Apache-2.0 */
/* What files of a tree have beyond stat(2) and xattrs: attributes of chattr(1), and space that
 * is allocated and not written. */
#ifndef FERRY_CHECKPOINT_TREE_ATTR_H
#define FERRY_CHECKPOINT_TREE_ATTR_H

#include "runtime/checkpoint/obj_common.h"

/* Source: FS_*_FL of a file or folder (O_PATH will do), those that can be set. */
uint32_t tree_attr_get(int fd, mode_t mode);
/* Source: notes in `t` what is allocated and not written. */
void tree_space_get(int fd, Cko__TreeEntry *t);

/*
 * Destination: sets them on `fd` (O_PATH will do), but for "immutable" and "append only", which
 * would be in the way of what still comes: those are noted for `path` below `dest`.
 */
int tree_attr_set(int fd, mode_t mode, const char *dest, const char *path, uint32_t attributes,
		  struct error *err);
int tree_space_set(int fd, const Cko__TreeEntry *t, struct error *err);
/* Destination, when nothing is to be written any more: what was noted. */
int tree_attr_seal(int root_fd, struct error *err);

#endif
