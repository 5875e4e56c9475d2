/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that a vold makes itself, past the gate: writing out the overlay, flushing. */
#ifndef FERRY_VOLUMES_VOLD_OWN_H
#define FERRY_VOLUMES_VOLD_OWN_H

#include "volumes/vold/image.h"
#include "volumes/vold/overlay.h"

/*
 * Writes the overlay (NULL: nothing) to the image, many pieces at a time within an epoch
 * and a flush behind each, and flushes at the end. Waits for all of it. 0 or -errno.
 */
int own_drain(const struct image_ops *ops, struct image *image, struct overlay *ov);

#endif
