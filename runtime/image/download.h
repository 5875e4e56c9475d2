/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blobs on their way from a registry: ROOT/downloads/HEX grows while it comes, and stays
 * when a download is cut, so that the next one goes on there. Whoever fills it holds a
 * flock on it: two pulls of one layer fetch it once.
 */
#ifndef FERRY_RUNTIME_IMAGE_DOWNLOAD_H
#define FERRY_RUNTIME_IMAGE_DOWNLOAD_H

#include "runtime/image/registry.h"
#include "runtime/image/store.h"

/* A blob that is being fetched, or has been: its file, locked. */
struct download {
	char *path;
	int fd;
};

/*
 * Waits for whoever fetches the same blob and begins. *have: bytes that are there.
 * `stop` (may be NULL) ends the wait with ECANCELED.
 */
int download_begin(struct image_store *s, const char *hex, bool (*stop)(void *ctx), void *ctx,
		   struct download *d, uint64_t *have, struct error *err);

/* Fetches what is missing, through short failures of the network (registry.h). */
int download_fetch(struct download *d, struct registry *r, const char *hex, uint64_t size,
		   struct error *err);

/* Ends it; `remove`: the file goes (it is in the store, or worth nothing). */
void download_end(struct download *d, bool remove);

/* Removes files that nobody has touched for a week (hold the store's lock). */
void download_sweep(struct image_store *s);

#endif
