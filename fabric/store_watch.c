/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watches of the store, for every driver alike. One thread holds, for each watch, the
 * versions it has told; a hint (a key that may have changed) makes it read that key, and
 * now and then, or when hints were lost, it lists the whole prefix. Whatever differs from
 * what was told is told. So a lost hint costs time, never truth.
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/store_driver.h"

#define RELIST_NS (5ll * 1000000000)
#define RETRY_NS  (1ll * 1000000000) /* after a listing that failed */
#define MAX_HINTS 512		     /* more at once: list everything */

struct store_watch {
	struct store_watches *all;
	char *prefix;
	store_watch_fn *fn;
	void *ctx;
	json_t *known;	    /* key → version that was told; the thread's own */
	int64_t list_at_ns; /* when the next listing is due */
	bool gone;	    /* unwatched; freed by store_unwatch() */
	struct store_watch *next;
};

struct store_watches {
	struct store *store;
	int64_t relist_ns;
	pthread_mutex_t lock; /* everything below; not held in callbacks and driver calls */
	pthread_cond_t wake, idle;
	pthread_t thread;
	bool running, stop;
	struct store_watch *first;
	struct store_watch *busy; /* whose turn it is in the thread */
	json_t *hints;		  /* set of keys */
	bool lost;		  /* too many hints: list everything */
};

struct store_watches *store_watches_new(struct store *s, int64_t relist_ns)
{
	struct store_watches *w = mem_zalloc(sizeof(*w));
	pthread_condattr_t attr;

	w->store = s;
	w->relist_ns = relist_ns > 0 ? relist_ns : RELIST_NS;
	w->hints = json_object();
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->wake, &attr);
	pthread_cond_init(&w->idle, &attr);
	pthread_condattr_destroy(&attr);
	return w;
}

void store_watches_stop(struct store_watches *w)
{
	bool running;

	pthread_mutex_lock(&w->lock);
	w->stop = true;
	running = w->running;
	w->running = false;
	pthread_cond_broadcast(&w->wake);
	pthread_mutex_unlock(&w->lock);
	if (running)
		pthread_join(w->thread, NULL);
}

static void free_watch(struct store_watch *w)
{
	json_decref(w->known);
	free(w->prefix);
	free(w);
}

void store_watches_free(struct store_watches *w)
{
	while (w->first) {
		struct store_watch *one = w->first;

		w->first = one->next;
		free_watch(one);
	}
	json_decref(w->hints);
	pthread_cond_destroy(&w->wake);
	pthread_cond_destroy(&w->idle);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void store_watches_hint(struct store_watches *w, const char *key)
{
	pthread_mutex_lock(&w->lock);
	if (w->first) {
		if (!key || json_object_size(w->hints) >= MAX_HINTS)
			w->lost = true;
		else
			json_object_set_new(w->hints, key, json_true());
		pthread_cond_signal(&w->wake);
	}
	pthread_mutex_unlock(&w->lock);
}

/* --- telling ------------------------------------------------------------------------------- */

static void tell(struct store_watch *w, const char *key, json_t *value, uint64_t version)
{
	const json_t *old = json_object_get(w->known, key);

	if (value) {
		if (old && (uint64_t)json_integer_value(old) == version)
			return;
		json_object_set_new(w->known, key, json_integer((json_int_t)version));
	} else {
		if (!old)
			return;
		json_object_del(w->known, key);
	}
	w->fn(w->ctx, key, value, version);
}

static void read_one(struct store_watch *w, const char *key)
{
	CLEANUP_JSON json_t *value = NULL;
	struct error err = { 0 };
	uint64_t version = 0;
	int r = store_get(w->all->store, key, &value, &version, &err);

	if (r == 0 || r == -ENOENT) {
		tell(w, key, value, version);
	} else {
		log_debug("watch %s: %s", w->prefix, err.msg);
		w->list_at_ns = 0;
	}
}

static void read_all(struct store_watch *w)
{
	CLEANUP_JSON json_t *gone = NULL;
	struct store_entry *entries = NULL;
	struct error err = { 0 };
	const char *key;
	json_t *value;
	size_t n = 0;

	if (store_list(w->all->store, w->prefix, &entries, &n, &err) < 0) {
		log_warn("watch %s: %s", w->prefix, err.msg);
		w->list_at_ns = clock_mono_ns() + RETRY_NS;
		return;
	}
	w->list_at_ns = clock_mono_ns() + w->all->relist_ns;
	gone = json_copy(w->known);
	for (size_t i = 0; i < n; i++) {
		json_object_del(gone, entries[i].key);
		tell(w, entries[i].key, entries[i].value, entries[i].version);
	}
	store_list_free(entries, n);
	json_object_foreach (gone, key, value)
		tell(w, key, NULL, 0);
}

static void look(struct store_watch *w, json_t *hints, bool lost)
{
	const char *key;
	json_t *value;

	if (lost || clock_mono_ns() >= w->list_at_ns) {
		read_all(w);
		return;
	}
	json_object_foreach (hints, key, value)
		if (str_starts(key, w->prefix))
			read_one(w, key);
}

/* Sleeps until there is something to do. Lock held. */
static void wait_for_work(struct store_watches *all)
{
	while (!all->stop && !all->lost && json_object_size(all->hints) == 0) {
		int64_t due = INT64_MAX;
		struct timespec ts;

		for (struct store_watch *w = all->first; w; w = w->next)
			if (w->list_at_ns < due)
				due = w->list_at_ns;
		if (due <= clock_mono_ns())
			return;
		if (due == INT64_MAX) {
			pthread_cond_wait(&all->wake, &all->lock);
			continue;
		}
		ts.tv_sec = due / 1000000000;
		ts.tv_nsec = due % 1000000000;
		pthread_cond_timedwait(&all->wake, &all->lock, &ts);
	}
}

static void *watch_thread(void *arg)
{
	struct store_watches *all = arg;

	pthread_mutex_lock(&all->lock);
	for (;;) {
		json_t *hints;
		bool lost;

		wait_for_work(all);
		if (all->stop)
			break;
		hints = all->hints;
		all->hints = json_object();
		lost = all->lost;
		all->lost = false;
		/* A watch added meanwhile is at the front and gets its turn in the next round. */
		for (struct store_watch *w = all->first; w && !all->stop;) {
			if (!w->gone) {
				all->busy = w;
				pthread_mutex_unlock(&all->lock);
				look(w, hints, lost);
				pthread_mutex_lock(&all->lock);
				all->busy = NULL;
			}
			/* `gone` watches are unlinked by store_unwatch(), which waits for idle. */
			w = w->next;
			pthread_cond_broadcast(&all->idle);
		}
		json_decref(hints);
	}
	pthread_mutex_unlock(&all->lock);
	return NULL;
}

/* --- watch, unwatch --------------------------------------------------------------------------- */

int store_watch(struct store *s, const char *prefix, store_watch_fn *fn, void *ctx,
		struct store_watch **out, struct error *err)
{
	struct store_watches *all = s->watches;
	struct store_watch *w;
	int r = 0;

	if (!strchr(prefix, '/'))
		return error_set(err, EINVAL,
				 "watching \"%s\": a watch needs a whole collection, "
				 "as in \"hosts/\"",
				 prefix);
	w = mem_zalloc(sizeof(*w));
	w->all = all;
	w->prefix = str_dup(prefix);
	w->fn = fn;
	w->ctx = ctx;
	w->known = json_object();
	pthread_mutex_lock(&all->lock);
	w->next = all->first;
	all->first = w;
	if (!all->running) {
		r = pthread_create(&all->thread, NULL, watch_thread, all);
		all->running = r == 0;
		if (r != 0)
			all->first = w->next;
	}
	pthread_cond_signal(&all->wake);
	pthread_mutex_unlock(&all->lock);
	if (r != 0) {
		free_watch(w);
		return error_sys(err, r, "starting the store's thread");
	}
	*out = w;
	return 0;
}

void store_unwatch(struct store_watch *w)
{
	struct store_watches *all;
	struct store_watch **p;

	if (!w)
		return;
	all = w->all;
	pthread_mutex_lock(&all->lock);
	w->gone = true;
	while (all->busy == w)
		pthread_cond_wait(&all->idle, &all->lock);
	for (p = &all->first; *p != w; p = &(*p)->next)
		;
	*p = w->next;
	pthread_mutex_unlock(&all->lock);
	free_watch(w);
}
