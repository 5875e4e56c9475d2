/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the shim's frames to what a Docker client reads: control frames are dropped, and
 * for a terminal the headers of the others are stripped. Works on any cut of the bytes.
 */
#ifndef FERRY_API_FRAMES_H
#define FERRY_API_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct frames {
	bool strip; /* a terminal's: payload only */
	unsigned char head[8];
	size_t have;   /* bytes of head that are there */
	uint32_t left; /* bytes of the payload still to come */
	bool drop;
};

/* Adds to `out` what the client gets of these bytes. */
void frames_feed(struct frames *f, const void *data, size_t len, struct buf *out);

/* Adds one frame of Docker's multiplexed stream (kind 1: stdout, 2: stderr, 0: stdin). */
void frames_add(struct buf *out, int kind, const void *data, size_t len);

#endif
