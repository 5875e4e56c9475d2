/* SPDX-License-Identifier: Apache-2.0 */
/* Threads and progress of pulls and pushes; transfer.h is the contract. */
#include "runtime/image/transfer.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/process.h"
#include "base/str.h"

#define TELL_NS	    100000000ll
#define MAX_THREADS 8

void transfer_init(struct transfer *x, const struct image_transfer *t)
{
	*x = (struct transfer){ .t = t };
	pthread_mutex_init(&x->lock, NULL);
}

void transfer_free(struct transfer *x)
{
	pthread_mutex_destroy(&x->lock);
}

void transfer_line(struct transfer *x, json_t *line)
{
	pthread_mutex_lock(&x->lock);
	if (x->t->progress)
		x->t->progress(x->t->ctx, line);
	pthread_mutex_unlock(&x->lock);
	json_decref(line);
}

void transfer_step(struct transfer *x, const char *status, const char *hex)
{
	CLEANUP_FREE char *id = str_format("%.12s", hex);

	transfer_line(x,
		      json_pack("{s:s, s:{}, s:s}", "status", status, "progressDetail", "id", id));
}

bool transfer_stopped(void *ctx)
{
	struct transfer *x = ctx;

	return atomic_load(&x->failed) || (x->t->stop && x->t->stop(x->t->ctx));
}

/* What one thread is moving; it lives as long as the thread. */
struct moving {
	struct transfer *x;
	char id[16];
	const char *status;
	uint64_t have, total;
	int64_t told_ns;
};
static __thread struct moving moving;

static bool tick(void *ctx, uint64_t bytes)
{
	struct moving *m = ctx;
	int64_t now = clock_mono_ns();

	if (transfer_stopped(m->x))
		return true;
	if (!bytes || now - m->told_ns < TELL_NS)
		return false;
	m->told_ns = now;
	transfer_line(m->x, json_pack("{s:s, s:{s:I, s:I}, s:s}", "status", m->status,
				      "progressDetail", "current", (json_int_t)(m->have + bytes),
				      "total", (json_int_t)m->total, "id", m->id));
	return false;
}

void transfer_begin_layer(struct transfer *x, struct registry *reg, const char *hex,
			  const char *status, uint64_t have, uint64_t total)
{
	moving = (struct moving){ .x = x, .status = status, .have = have, .total = total };
	snprintf(moving.id, sizeof(moving.id), "%.12s", hex);
	registry_watch(reg, tick, &moving);
}

struct crew {
	struct transfer *x;
	const char *url, *path;
	bool push;
	size_t n;
	atomic_size_t next;
	int (*work)(void *ctx, size_t i, struct registry *reg, struct error *err);
	void *ctx;
	struct error err; /* the first */
};

static int work_through(struct crew *c, struct error *err)
{
	struct registry *reg = NULL;
	int r = registry_open(c->x->t->registries, c->x->t->login, c->url, c->path, c->push, &reg,
			      err);
	size_t i;

	while (r == 0 && !atomic_load(&c->x->failed) && (i = atomic_fetch_add(&c->next, 1)) < c->n)
		r = transfer_stopped(c->x) ? error_set(err, ECANCELED, "stopped")
					   : c->work(c->ctx, i, reg, err);
	registry_close(reg);
	return r;
}

static void *member(void *arg)
{
	struct crew *c = arg;
	struct error err = { 0 };

	if (work_through(c, &err) == 0)
		return NULL;
	pthread_mutex_lock(&c->x->lock);
	if (!c->err.code)
		c->err = err;
	atomic_store(&c->x->failed, true);
	pthread_mutex_unlock(&c->x->lock);
	return NULL;
}

int transfer_run(struct transfer *x, const char *url, const char *path, bool push, size_t n,
		 size_t threads,
		 int (*work)(void *ctx, size_t i, struct registry *reg, struct error *err),
		 void *ctx, struct error *err)
{
	struct crew c = {
		.x = x, .url = url, .path = path, .push = push, .n = n, .work = work, .ctx = ctx
	};
	pthread_t ids[MAX_THREADS];
	size_t started = 0;

	if (!n)
		return 0;
	threads = threads > n ? n : threads;
	while (started + 1 < threads && started < MAX_THREADS &&
	       pthread_create(&ids[started], NULL, member, &c) == 0)
		started++;
	member(&c); /* this thread works as well */
	for (size_t i = 0; i < started; i++)
		pthread_join(ids[i], NULL);
	if (!c.err.code)
		return 0;
	*err = c.err;
	return -err->code;
}
