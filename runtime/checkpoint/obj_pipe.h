/* SPDX-License-Identifier: Apache-2.0 */
/* Looking into a pipe without taking anything out. */
#ifndef FERRY_CHECKPOINT_OBJ_PIPE_H
#define FERRY_CHECKPOINT_OBJ_PIPE_H

#include "runtime/checkpoint/obj_common.h"

/*
 * Calls chunk() for what is in the pipe behind `fd` (any of its ends), in order; with
 * packet mode each packet is a chunk. Nothing is taken out. 0, -errno, or what chunk()
 * returned.
 */
int pipe_peek(int fd, int (*chunk)(void *ctx, const void *data, size_t len), void *ctx,
	      struct error *err);

#endif
