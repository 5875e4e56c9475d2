/* SPDX-License-Identifier: Apache-2.0 */
/* A layer's tar becomes a folder that overlayfs can use as a lower layer. */
#ifndef FERRY_RUNTIME_IMAGE_UNPACK_H
#define FERRY_RUNTIME_IMAGE_UNPACK_H

#include "runtime/image/image.h"

/*
 * Unpacks the uncompressed tar at path `tar` into the fresh, empty folder `dir`. *bytes:
 * what its files hold together. On failure `dir` may hold a part; the caller removes it.
 */
int image_layer_unpack(const char *tar, const char *dir, const struct image_limits *limits,
		       uint64_t *bytes, struct error *err);

#endif
