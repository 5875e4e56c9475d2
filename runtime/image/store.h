/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the image store: its folder, its lock, its index. Not for other parts.
 *
 * index.json:
 *	{"schema": 1,
 *	 "images":  {HEX of id: {"layers": [chain HEX, lowest first], "loaded": seconds}},
 *	 "tags":    {whole name: HEX of id},
 *	 "digests": {"host/path@sha256:HEX of the manifest": HEX of id},
 *	 "layers":  {chain HEX: {"diff": HEX, "size": bytes of its files,
 *		     "packed": {"digest": HEX, "size", "type", "from": "host/path"}}}}
 *
 * "packed" is how the layer lies in a registry, where it has been pulled or pushed.
 */
#ifndef FERRY_RUNTIME_IMAGE_STORE_H
#define FERRY_RUNTIME_IMAGE_STORE_H

#include "base/json.h"
#include "runtime/image/digest.h"
#include "runtime/image/image.h"

struct image_store {
	char *root;
	struct image_limits limits;
};

/* A folder ROOT/tmp/RANDOM, kept from the sweep as long as its lock fd is open. */
struct image_tmp {
	char *path;
	int lock;
};
int image_tmp_make(struct image_store *s, struct image_tmp *t, struct error *err);
/* Removes the folder and lets go of the lock; fine on one that was never made. */
void image_tmp_drop(struct image_tmp *t);

/* The store's lock, shared or exclusive: an fd to close, or -errno. */
int image_store_lock(struct image_store *s, bool exclusive, struct error *err);

/* The index as it is (hold the lock). A store without one gets an empty one. */
json_t *image_index_read(struct image_store *s, struct error *err);

/* The index as it is now; what it names may go at any moment. */
json_t *image_index_snapshot(struct image_store *s, struct error *err);

/* Replaces the index (hold the lock exclusively). */
int image_index_write(struct image_store *s, const json_t *index, struct error *err);

/*
 * Moves every blob and layer that `index` does not name into `trash` (hold the lock
 * exclusively; drop `trash` after letting go of it).
 */
int image_store_sweep(struct image_store *s, const json_t *index, struct image_tmp *trash,
		      struct error *err);

/* The config of an image, parsed. */
json_t *image_config_read(struct image_store *s, const char *id, struct error *err);

/*
 * The id (hex, a key of images) that `ref` means; *tag is the whole name, with its tag
 * or its digest, where it was found by one (caller frees), else NULL; `tag` may be NULL.
 */
int image_resolve(const json_t *index, const char *ref, const char **id, char **tag,
		  struct error *err);

/* Whole names of an image, sorted: a new list. */
json_t *image_names(const json_t *index, const char *id);

/* "host/path@sha256:HEX" of an image, sorted: a new list. */
json_t *image_digests(const json_t *index, const char *id);

#endif
