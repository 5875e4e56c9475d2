/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Putting images into the store, from an archive (load.c) or a registry (pull.c): files
 * are staged in a temporary folder, layers unpacked beside them, all of it without the
 * store's lock; then, under the lock, everything is moved into place and the index
 * replaced. A failure before the index is written leaves only things it does not name.
 */
#ifndef FERRY_RUNTIME_IMAGE_INSTALL_H
#define FERRY_RUNTIME_IMAGE_INSTALL_H

#include "runtime/image/stage.h"
#include "runtime/image/store.h"

#if defined(__aarch64__)
#define IMAGE_HOST_ARCH "arm64"
#else
#define IMAGE_HOST_ARCH "amd64"
#endif

struct image_layer;

struct image_install {
	struct image_store *s;
	struct image_tmp tmp;
	struct image_stage stage; /* what came in, in tmp */
	json_t *images;		  /* {id: {"layers": [chain], "loaded"}}, as in the index */
	json_t *names;		  /* [[whole name or null, id], ...] in the order they came */
	json_t *digests;	  /* {"host/path@sha256:HEX": id}, as in the index */
	struct image_layer *layers;
	size_t nlayers;
	struct image_file **configs;
	size_t nconfigs;
	/* Tells of a layer that is being unpacked, and that it has been; may be NULL. */
	void (*on_unpack)(void *ctx, const char *diff, bool done);
	void *ctx;
};

/* Begins; image_install_drop() ends it in every case. */
int image_install_begin(struct image_install *in, struct image_store *s, struct error *err);
void image_install_drop(struct image_install *in);

/*
 * One image: its config and layers (lowest first) are files of the stage, which grows no
 * more from here on; a layer that the store has may be NULL. Both are checked against
 * each other. `names`: whole names for it, may be empty or NULL.
 * EINVAL, EFBIG: no image, or above a limit; EBADMSG: a layer is not what the config says.
 */
int image_install_add(struct image_install *in, struct image_file *config,
		      struct image_file **files, size_t n, const json_t *names, struct error *err);

/* Notes how the layer with this diff id lies in a registry ("packed" of the index; taken over). */
void image_install_packed(struct image_install *in, const char *diff, json_t *packed);

/*
 * Unpacks what is new and puts all of it into the store. *names: what image_load() says.
 * ESTALE: a layer that was to be in the store has been removed meanwhile.
 */
int image_install_finish(struct image_install *in, json_t **names, struct error *err);

#endif
