/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wake-ups between the stores of a cluster: all watch one object, "hub"; after a write its
 * key is sent there as a notify {"from":INSTANCE,"keys":[…]}.
 *
 * A notify returns only when every watcher has answered, and a watcher that died makes it
 * wait its whole timeout (DESIGN, section 11). So one thread sends them, asynchronously and
 * without looking at the answers, with a bound on how many are under way; keys that come
 * meanwhile are sent together. What gets lost is found by the watches' listing.
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/store_rados.h"

#define HUB		"hub"
#define WATCH_TIMEOUT_S 10 /* a watcher silent for so long is forgotten by the OSD */
#define NOTIFY_MS	2000
#define MAX_UNDER_WAY	64
#define MAX_KEYS	200

struct rados_hub {
	struct rados_impl *ri;
	struct store *store;
	char *instance;
	pthread_mutex_t lock; /* everything below */
	pthread_cond_t wake;
	pthread_t thread;
	json_t *keys; /* to be announced: a set */
	unsigned under_way;
	bool stop, broken; /* broken: the watch must be made again */
	int64_t watch_at_ns;
	bool watching; /* the thread's own */
	uint64_t cookie;
};

/* --- hearing ------------------------------------------------------------------------ */

static void hear(struct rados_hub *hub, const void *data, size_t len)
{
	CLEANUP_JSON json_t *msg = json_parse(data, len, "notify", NULL);
	json_t *keys = json_object_get(msg, "keys"), *key;
	size_t i;

	if (!strcmp(json_str(msg, "from", ""), hub->instance))
		return; /* our own: told already */
	if (!json_is_array(keys)) {
		store_hint(hub->store, NULL);
		return;
	}
	json_array_foreach (keys, i, key)
		if (json_is_string(key))
			store_hint(hub->store, json_string_value(key));
}

/* In a thread of librados; the answer goes out first. */
static void on_notify(void *arg, uint64_t notify_id, uint64_t handle, uint64_t notifier, void *data,
		      size_t len)
{
	struct rados_hub *hub = arg;

	(void)notifier;
	rados_notify_ack(hub->ri->io, HUB, notify_id, handle, NULL, 0);
	hear(hub, data, len);
}

static void on_watch_error(void *arg, uint64_t cookie, int r)
{
	struct rados_hub *hub = arg;

	(void)cookie;
	(void)r;
	pthread_mutex_lock(&hub->lock);
	hub->broken = true;
	hub->watch_at_ns = 0;
	pthread_cond_signal(&hub->wake);
	pthread_mutex_unlock(&hub->lock);
}

/* In the hub's thread, lock not held. */
static void watch_again(struct rados_hub *hub)
{
	rados_write_op_t op;
	int r;

	if (hub->watching) {
		rados_unwatch2(hub->ri->io, hub->cookie);
		hub->watching = false;
	}
	op = rados_create_write_op();
	rados_write_op_create(op, LIBRADOS_CREATE_IDEMPOTENT, NULL);
	r = rados_write_op_operate2(op, hub->ri->io, HUB, NULL, 0);
	rados_release_write_op(op);
	if (r >= 0)
		r = rados_watch3(hub->ri->io, HUB, &hub->cookie, on_notify, on_watch_error,
				 WATCH_TIMEOUT_S, hub);
	hub->watching = r >= 0;
	pthread_mutex_lock(&hub->lock);
	hub->broken = !hub->watching;
	hub->watch_at_ns = clock_mono_ns() + 1000000000;
	pthread_mutex_unlock(&hub->lock);
	if (r < 0)
		log_debug("watching the state pool: %s", strerror(-r));
	else
		store_hint(hub->store, NULL); /* what happened while nobody listened */
}

/* --- telling ------------------------------------------------------------------------ */

static void on_sent(rados_completion_t done, void *arg)
{
	struct rados_hub *hub = arg;

	(void)done;
	pthread_mutex_lock(&hub->lock);
	hub->under_way--;
	pthread_cond_signal(&hub->wake);
	pthread_mutex_unlock(&hub->lock);
}

/* Takes up to MAX_KEYS keys out of the set as a message. Lock held. */
static char *take_message(struct rados_hub *hub)
{
	CLEANUP_JSON json_t *msg = json_object();
	json_t *keys = json_array(), *value;
	const char *key;
	void *tmp;

	json_set_str(msg, "from", hub->instance);
	json_object_foreach_safe (hub->keys, tmp, key, value) {
		if (json_array_size(keys) == MAX_KEYS)
			break;
		json_array_append_new(keys, json_string(key));
		json_object_del(hub->keys, key);
	}
	json_object_set_new(msg, "keys", keys);
	return json_text(msg);
}

/* Lock not held. */
static void send_message(struct rados_hub *hub, const char *text)
{
	rados_completion_t done;
	int r = rados_aio_create_completion2(hub, on_sent, &done);

	if (r == 0) {
		r = rados_aio_notify(hub->ri->io, HUB, done, text, (int)strlen(text), NOTIFY_MS,
				     NULL, NULL);
		rados_aio_release(done);
	}
	if (r < 0) { /* the callback will not come */
		pthread_mutex_lock(&hub->lock);
		hub->under_way--;
		pthread_mutex_unlock(&hub->lock);
	}
}

static void sleep_hub(struct rados_hub *hub)
{
	struct timespec ts = { .tv_sec = hub->watch_at_ns / 1000000000,
			       .tv_nsec = hub->watch_at_ns % 1000000000 };

	if (hub->broken)
		pthread_cond_timedwait(&hub->wake, &hub->lock, &ts);
	else
		pthread_cond_wait(&hub->wake, &hub->lock);
}

static void *hub_thread(void *arg)
{
	struct rados_hub *hub = arg;

	pthread_mutex_lock(&hub->lock);
	for (;;) {
		if (hub->stop && (json_object_size(hub->keys) == 0 || hub->broken))
			break;
		if (hub->broken && clock_mono_ns() >= hub->watch_at_ns) {
			pthread_mutex_unlock(&hub->lock);
			watch_again(hub);
			pthread_mutex_lock(&hub->lock);
		} else if (json_object_size(hub->keys) > 0 &&
			   (hub->under_way < MAX_UNDER_WAY || hub->stop)) {
			CLEANUP_FREE char *text = take_message(hub);

			hub->under_way++;
			pthread_mutex_unlock(&hub->lock);
			send_message(hub, text);
			pthread_mutex_lock(&hub->lock);
		} else {
			sleep_hub(hub);
		}
	}
	pthread_mutex_unlock(&hub->lock);
	return NULL;
}

void rados_hub_announce(struct rados_hub *hub, const char *key)
{
	pthread_mutex_lock(&hub->lock);
	json_object_set_new(hub->keys, key, json_true());
	pthread_cond_signal(&hub->wake);
	pthread_mutex_unlock(&hub->lock);
}

struct rados_hub *rados_hub_start(struct rados_impl *ri, struct store *s)
{
	struct rados_hub *hub = mem_zalloc(sizeof(*hub));
	pthread_condattr_t attr;

	hub->ri = ri;
	hub->store = s;
	hub->instance = str_random_hex(8);
	hub->keys = json_object();
	hub->broken = true;
	pthread_mutex_init(&hub->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&hub->wake, &attr);
	pthread_condattr_destroy(&attr);
	if (pthread_create(&hub->thread, NULL, hub_thread, hub) != 0)
		abort(); /* out of threads at start */
	return hub;
}

void rados_hub_stop(struct rados_hub *hub)
{
	pthread_mutex_lock(&hub->lock);
	hub->stop = true;
	pthread_cond_signal(&hub->wake);
	pthread_mutex_unlock(&hub->lock);
	pthread_join(hub->thread, NULL);
	if (hub->watching)
		rados_unwatch2(hub->ri->io, hub->cookie);
	rados_watch_flush(hub->ri->cluster); /* no callback comes any more */
	rados_aio_flush(hub->ri->io);
	/* Notifies under way end by their timeout at the latest. */
	pthread_mutex_lock(&hub->lock);
	while (hub->under_way > 0)
		pthread_cond_wait(&hub->wake, &hub->lock);
	pthread_mutex_unlock(&hub->lock);
	json_decref(hub->keys);
	free(hub->instance);
	pthread_cond_destroy(&hub->wake);
	pthread_mutex_destroy(&hub->lock);
	free(hub);
}
