/* SPDX-License-Identifier: Apache-2.0 */
/* Loop devices, and the few ioctls on block devices that volumes need. */
#ifndef FERRY_VOLUMES_LOOP_H
#define FERRY_VOLUMES_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Binds `file` to a free loop device with direct I/O and `block_size`. Autoclear: it frees
 * itself at the last close, so the fd that is returned keeps it. `device` gets a fresh
 * path ("/dev/loop3", caller frees). -errno with err set.
 */
struct loop_options {
	uint32_t block_size;
	bool read_only, autoclear;
};
int loop_attach(int file, const struct loop_options *o, char **device, struct error *err);

/* Lets the device go now, or at its last close when it is still open or mounted. */
int loop_clear(int loop);
/* A mounted or otherwise claimed device. Devices that are gone are not. */
bool block_in_use(const char *device);
/* The file behind a loop device changed its size. */
int loop_resize(int loop);

/*
 * Drops everything the kernel has cached of a device (BLKFLSBUF). (There is no BLKROSET here:
 * it outlives the loop device and would make the next one with that number read-only.)
 */
int block_drop_cache(const char *device, struct error *err);

#endif
