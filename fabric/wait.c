/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for containers, on the documents, so that it follows one that migrates. A
 * waiter is in a list and told of every document before it enters the mirror: one that is
 * woken only after the container was removed still knows how it ended.
 */
#include <string.h>

#include "fabric/internal.h"

struct fabric_waiter {
	struct fabric_waiter *next;
	struct fabric *f;
	char *key;
	enum fabric_wait until;
	int64_t exits; /* ends seen when the wait began */
	int exit_code;
	bool over, cancelled;
};

static bool is_over(const struct fabric_waiter *w, const json_t *doc)
{
	if (!doc)
		return true;
	if (w->until == FABRIC_WAIT_NOT_RUNNING)
		return !container_is_up(doc);
	return w->until == FABRIC_WAIT_NEXT_EXIT &&
	       json_int(json_object_get(doc, "state"), "exits", 0) > w->exits;
}

static void look(struct fabric_waiter *w, const json_t *doc)
{
	if (w->over)
		return;
	if (doc)
		w->exit_code = (int)json_int(json_object_get(doc, "state"), "ExitCode", 0);
	w->over = is_over(w, doc);
}

void waiters_see(struct fabric *f, const char *key, const json_t *doc)
{
	for (struct fabric_waiter *w = f->waiters; w; w = w->next)
		if (!strcmp(w->key, key))
			look(w, doc);
}

int fabric_wait_begin(struct fabric *f, const char *ref, enum fabric_wait until,
		      struct fabric_waiter **out, struct error *err)
{
	struct fabric_waiter *w;
	CLEANUP_JSON json_t *doc = NULL;
	const json_t *now;
	int r = container_find(f, ref, &doc, err);

	if (r < 0)
		return r;
	w = mem_zalloc(sizeof(*w));
	w->f = f;
	w->key = container_key(json_str(doc, "id", ""));
	w->until = until;
	pthread_mutex_lock(&f->lock);
	now = json_object_get(f->docs, w->key);
	w->exits = json_int(json_object_get(now ? now : doc, "state"), "exits", 0);
	look(w, now);
	w->next = f->waiters;
	f->waiters = w;
	pthread_mutex_unlock(&f->lock);
	*out = w;
	return 0;
}

void fabric_wait_cancel(struct fabric_waiter *w)
{
	pthread_mutex_lock(&w->f->lock);
	w->cancelled = true;
	pthread_cond_broadcast(&w->f->changed);
	pthread_mutex_unlock(&w->f->lock);
}

int fabric_wait_for(struct fabric_waiter *w, int *exit_code, struct error *err)
{
	struct fabric *f = w->f;
	int r = 0;

	pthread_mutex_lock(&f->lock);
	while (!w->over && !w->cancelled && !f->closing)
		pthread_cond_wait(&f->changed, &f->lock);
	*exit_code = w->exit_code;
	if (!w->over)
		r = error_set(err, ECANCELED, "%s",
			      w->cancelled ? "the wait was given up" : "ferryd is stopping");
	pthread_mutex_unlock(&f->lock);
	return r;
}

void fabric_wait_end(struct fabric_waiter *w)
{
	struct fabric_waiter **p;

	pthread_mutex_lock(&w->f->lock);
	for (p = &w->f->waiters; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			break;
		}
	}
	pthread_mutex_unlock(&w->f->lock);
	free(w->key);
	free(w);
}

int fabric_container_wait(struct fabric *f, const char *ref, enum fabric_wait until, int *exit_code,
			  struct error *err)
{
	struct fabric_waiter *w;
	int r = fabric_wait_begin(f, ref, until, &w, err);

	if (r < 0)
		return r;
	r = fabric_wait_for(w, exit_code, err);
	fabric_wait_end(w);
	return r;
}
