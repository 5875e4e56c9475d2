/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What pulling and pushing have in common: layers worked through by a few threads, each
 * with its own connection, and the lines of progress that come of it.
 */
#ifndef FERRY_RUNTIME_IMAGE_TRANSFER_H
#define FERRY_RUNTIME_IMAGE_TRANSFER_H

#include <pthread.h>
#include <stdatomic.h>

#include "runtime/image/registry.h"

struct transfer {
	const struct image_transfer *t;
	pthread_mutex_t lock; /* of progress, and of error */
	atomic_bool failed;   /* the others may stop */
};

void transfer_init(struct transfer *x, const struct image_transfer *t);
void transfer_free(struct transfer *x);

/* One line of progress (taken over). */
void transfer_line(struct transfer *x, json_t *line);

/* {"status", "progressDetail": {}, "id": first 12 digits of hex} */
void transfer_step(struct transfer *x, const char *status, const char *hex);

/*
 * From now on what `reg` moves is told as the progress of a layer: `status`, `have` and
 * what comes of `total` bytes, ten times a second at most. Ends with registry_watch(NULL).
 */
void transfer_begin_layer(struct transfer *x, struct registry *reg, const char *hex,
			  const char *status, uint64_t have, uint64_t total);

/* For waits: true when the caller has stopped it, or another thread failed (ctx: transfer). */
bool transfer_stopped(void *x);

/*
 * Calls work(ctx, i, its registry) for each i below n, in `threads` threads at most. The
 * first error ends it.
 */
int transfer_run(struct transfer *x, const char *url, const char *path, bool push, size_t n,
		 size_t threads,
		 int (*work)(void *ctx, size_t i, struct registry *reg, struct error *err),
		 void *ctx, struct error *err);

#endif
