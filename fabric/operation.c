/* SPDX-License-Identifier: Apache-2.0 */
/* One operation at a time on a container of this host; progress of those on others. */
#include <stdlib.h>
#include <string.h>

#include "fabric/internal.h"

static struct operation *find(struct fabric *f, const char *id)
{
	for (struct operation *o = f->operations; o; o = o->next)
		if (!strcmp(o->id, id))
			return o;
	return NULL;
}

int op_begin(struct fabric *f, const char *id, const char *what, bool wait, struct error *err)
{
	struct operation *o;

	pthread_mutex_lock(&f->lock);
	while ((o = find(f, id))) {
		if (!wait && !strcmp(o->what, "migrating")) {
			pthread_mutex_unlock(&f->lock);
			return error_set(
				err, EBUSY,
				"container %.12s is migrating; try again when that is done", id);
		}
		pthread_cond_wait(&f->changed, &f->lock);
	}
	o = mem_zalloc(sizeof(*o));
	snprintf(o->id, sizeof(o->id), "%s", id);
	o->what = what;
	o->next = f->operations;
	f->operations = o;
	pthread_mutex_unlock(&f->lock);
	return 0;
}

void op_end(struct fabric *f, const char *id)
{
	struct operation **p, *o;

	pthread_mutex_lock(&f->lock);
	for (p = &f->operations; (o = *p); p = &o->next) {
		if (strcmp(o->id, id))
			continue;
		*p = o->next;
		free(o);
		break;
	}
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

void progress_relay(void *ctx, json_t *body)
{
	struct progress_relay *r = ctx;

	if (r->progress)
		r->progress(r->ctx, body);
}

void progress_send(void *ctx, const json_t *progress)
{
	rpc_progress(ctx, (json_t *)(uintptr_t)progress);
}
