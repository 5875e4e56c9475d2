/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directory trees that travel: the upper layer of the container's overlay, and tmpfs
 * mounts inside of it.
 *
 *   source                                     destination
 *   tree_source_new("/…/upper", "/")
 *   tree_source_pass() ─── frames: everything ───► tree_dest_apply(root of the
 *       tasks run            (first pass)              mounted container)
 *   tree_source_pass() ─── frames: what changed ─►
 *       tasks run
 *   tree_source_pass(final) ─── the rest ────────►
 *       tasks frozen
 *
 * The source remembers each entry (inode, size, ctime, a hash of every 64 KiB of
 * content) and sends blocks that differ. Frames are applied through the container's
 * mounted root, never to an upper layer underneath a mounted overlay: whiteouts and
 * opaque folders of the source's layer become removals. Frames name their place and are
 * applied in order; applying holds no state.
 *
 * Not carried: names longer than PATH_MAX, overlay layers with redirects or metacopy
 * (refused). Files that are immutable or append only become so at the very end (tree_attr.h).
 */
#ifndef FERRY_CHECKPOINT_TREE_H
#define FERRY_CHECKPOINT_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

struct tree_source;

/*
 * `path`: a folder of this host; `dest`: the folder of the container onto which it is
 * laid ("/" for the overlay's root). NULL with err set where it is no folder.
 */
struct tree_source *tree_source_new(const char *path, const char *dest, struct error *err);
/* The same from a descriptor of the folder, which stays the caller's. */
struct tree_source *tree_source_new_fd(int fd, const char *dest, struct error *err);
/* NULL is fine. */
void tree_source_free(struct tree_source *ts);

struct tree_pass {
	bool final; /* nothing writes any more: content that may change without a trace
		       (tmpfs) is compared by its hash */
	/* Called with each packed frame, at most 2 MiB; a negative result ends the pass. */
	int (*emit)(void *ctx, const void *frame, size_t len, struct error *err);
	/* May be NULL: true where somebody else carries this file's content. */
	bool (*elsewhere)(void *ctx, dev_t dev, ino_t ino);
	void *ctx;
	/* out */
	size_t entries, changed;
	unsigned long long bytes; /* of content */
};
/* One pass. 0, or -errno with err set. */
int tree_source_pass(struct tree_source *ts, struct tree_pass *pass, struct error *err);

/*
 * Lays one frame onto the container whose root is `root_fd` (O_PATH, a mounted root).
 * Never leaves it, never follows a link, never crosses a mount below the frame's folder:
 * what a mount covers here was covered at the source as well, and is left alone. The
 * bytes come from another host and are not trusted. 0, or -errno with err set.
 */
int tree_dest_apply(int root_fd, const void *frame, size_t len, struct error *err);

#endif
