// SPDX-License-Identifier: Apache-2.0
/* A vold's own requests: at most DEPTH in flight, the first error is kept. */
#include "volumes/vold/own.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/str.h"

#define DEPTH 32

struct own {
	const struct image_ops *ops;
	struct image *image;
	pthread_mutex_t lock;
	pthread_cond_t done;
	unsigned flying;
	int res; /* first error */
};

struct own_io {
	struct vold_io io; /* first */
	struct own *own;
};

static void complete(struct vold_io *io, int res)
{
	struct own_io *oio = (struct own_io *)io;
	struct own *own = oio->own;

	free(oio);
	pthread_mutex_lock(&own->lock);
	if (res && !own->res)
		own->res = res;
	own->flying--;
	pthread_cond_signal(&own->done);
	pthread_mutex_unlock(&own->lock);
}

/* Until fewer than `below` are in flight. */
static int wait_below(struct own *own, unsigned below)
{
	int res;

	pthread_mutex_lock(&own->lock);
	while (own->flying >= below)
		pthread_cond_wait(&own->done, &own->lock);
	res = own->res;
	pthread_mutex_unlock(&own->lock);
	return res;
}

static void start(struct own *own, enum vold_op op, uint64_t offset, size_t length, void *data)
{
	struct own_io *oio = mem_zalloc(sizeof(*oio));

	oio->own = own;
	oio->io.op = op;
	oio->io.offset = offset;
	oio->io.length = length;
	oio->io.buf = data;
	oio->io.complete = complete;
	pthread_mutex_lock(&own->lock);
	own->flying++;
	pthread_mutex_unlock(&own->lock);
	own->ops->submit(own->image, &oio->io);
}

static int write_piece(void *ctx, uint64_t offset, size_t length, void *data)
{
	start(ctx, data ? VOLD_WRITE : VOLD_ZERO, offset, length, data);
	return wait_below(ctx, DEPTH);
}

static int barrier(void *ctx)
{
	int res = wait_below(ctx, 1);

	if (res)
		return res;
	start(ctx, VOLD_FLUSH, 0, 0, NULL);
	return wait_below(ctx, 1);
}

int own_drain(const struct image_ops *ops, struct image *image, struct overlay *ov)
{
	struct own own = { .ops = ops, .image = image };
	struct overlay_sink sink = { .write = write_piece, .barrier = barrier, .ctx = &own };
	int res = 0;

	pthread_mutex_init(&own.lock, NULL);
	pthread_cond_init(&own.done, NULL);
	if (ov)
		res = overlay_drain(ov, &sink);
	if (res == 0)
		res = barrier(&own);
	wait_below(&own, 1);
	pthread_mutex_destroy(&own.lock);
	pthread_cond_destroy(&own.done);
	return res;
}
