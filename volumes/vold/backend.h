/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attach backends: how ferry-vold's image becomes a block device. A backend takes the
 * kernel's requests, hands each as a struct vold_io to core_submit() and answers the
 * kernel in io->done. Known names: "fuse" (one FUSE file with a loop device on it, works
 * on every kernel), "ublk" (>= 6.0 with ublk_drv), "nbd", "krbd". Backends that are built
 * are in the table vold_backends; the first whose probe() answers 0 is taken unless one is
 * asked for by name.
 */
#ifndef FERRY_VOLUMES_VOLD_BACKEND_H
#define FERRY_VOLUMES_VOLD_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct core;

/* Logical block size of every device and unit of every request: offsets and lengths. */
#define VOLD_BLOCK 4096u
/* Largest request, in bytes. */
#define VOLD_MAX_IO (1u << 20)

enum vold_op { VOLD_READ, VOLD_WRITE, VOLD_ZERO, VOLD_FLUSH };

/*
 * One request. The backend fills the first part and keeps the struct and `buf` alive and
 * unchanged until done() is called: once, from any thread, perhaps before core_submit()
 * returns. res: 0 or -errno. VOLD_ZERO: may deallocate (discard, write zeroes).
 */
struct vold_io {
	enum vold_op op;
	uint64_t offset;
	size_t length;
	void *buf;
	void (*done)(struct vold_io *io, int res);

	/* used by the core and the image while the request is theirs */
	struct core *core;
	void (*complete)(struct vold_io *io, int res);
	struct vold_io *next;
	bool writing, patched;
};

struct vold_backend {
	const char *name;
	/* 0 where this kernel can do it, else -errno with the reason. */
	int (*probe)(struct error *err);
	/* Makes the device, of `size` bytes; requests may come before it returns. */
	int (*start)(struct core *core, uint64_t size, bool read_only, void **state,
		     struct error *err);
	const char *(*device)(void *state); /* "/dev/loop3" */
	/* The image has `size` bytes now. */
	int (*resize)(void *state, uint64_t size, struct error *err);
	/*
	 * Takes the device down. When somebody still has it open or mounted it goes at the
	 * last close; every request after stop() gets EIO from the kernel.
	 */
	void (*stop)(void *state);
};

extern const struct vold_backend *const vold_backends[]; /* NULL-terminated */
/* By name, or the first that probes (name NULL). NULL with err set. */
const struct vold_backend *vold_backend_find(const char *name, struct error *err);

#endif
