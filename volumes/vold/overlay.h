/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The write-back overlay of a tentative promote: blocks that were written but must not
 * reach the image yet. It is a log of epochs, not a plain map: a flush closes the epoch,
 * and a block written again in a later epoch gets a second version. So overlay_drain() can
 * repeat the writes with the barriers the file system asked for, and a crash in the middle
 * of it leaves what a power cut of a real disk would leave.
 *
 * Not locked: the caller does. Memory is reserved at once and bounded; nothing is given
 * back before overlay_free().
 */
#ifndef FERRY_VOLUMES_VOLD_OVERLAY_H
#define FERRY_VOLUMES_VOLD_OVERLAY_H

#include <stddef.h>
#include <stdint.h>

struct overlay;

/* An overlay of at most `budget` bytes of data. NULL: no memory. */
struct overlay *overlay_new(size_t budget);
void overlay_free(struct overlay *ov);

/*
 * Keeps a write; data NULL: zeroes. Offset and length are multiples of VOLD_BLOCK. 0, or
 * -ENOSPC when it does not fit: then nothing of it was kept.
 */
int overlay_write(struct overlay *ov, uint64_t offset, size_t length, const void *data);

/* A flush: what comes later must not be written out before what came earlier. */
void overlay_flush(struct overlay *ov);

/* How much of a range is in the overlay. */
enum overlay_cover { OVERLAY_NONE, OVERLAY_PART, OVERLAY_ALL };
enum overlay_cover overlay_covers(const struct overlay *ov, uint64_t offset, size_t length);

/* Copies the blocks that are in the overlay over `buf`, which holds the range. */
void overlay_read(const struct overlay *ov, uint64_t offset, size_t length, void *buf);

/* Bytes it holds (zeroes count as data here). */
uint64_t overlay_bytes(const struct overlay *ov);

/*
 * Gives every kept write, epoch by epoch, neighbouring blocks of an epoch in one piece of
 * at most VOLD_MAX_IO, and calls barrier() behind each epoch. Data stays valid until
 * overlay_free(). Stops at the first error and returns it.
 */
struct overlay_sink {
	int (*write)(void *ctx, uint64_t offset, size_t length, void *data);
	int (*barrier)(void *ctx);
	void *ctx;
};
int overlay_drain(struct overlay *ov, const struct overlay_sink *sink);

#endif
