/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event bus: a ring of past events, a queue for each subscriber. event.h is the contract.
 * Events are JSON values shared by the ring and the queues, touched under the lock only; what
 * event_next() gives is a copy, for the caller's thread alone.
 */
#include "fabric/event.h"

#include <pthread.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"

#define DEFAULT_SIZE 1024

struct event_sub {
	struct event_bus *bus;
	json_t *filters; /* kind → array of strings */
	int64_t until_ns;
	json_t **queue; /* ring */
	size_t first, count, size;
	bool dropped, cancelled;
	pthread_cond_t wake;
	struct event_sub *next;
};

struct event_bus {
	pthread_mutex_t lock; /* everything, the subscriptions too */
	json_t **ring;
	size_t first, count, size;
	size_t queue;
	int64_t last_ns;
	bool down;
	struct event_sub *subs;
};

/* --- the bus ------------------------------------------------------------------------ */

struct event_bus *event_bus_new(size_t history, size_t queue)
{
	struct event_bus *b = mem_zalloc(sizeof(*b));

	b->size = history ? history : DEFAULT_SIZE;
	b->queue = queue ? queue : DEFAULT_SIZE;
	b->ring = mem_zalloc(b->size * sizeof(json_t *));
	pthread_mutex_init(&b->lock, NULL);
	return b;
}

void event_bus_free(struct event_bus *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->count; i++)
		json_decref(b->ring[(b->first + i) % b->size]);
	free(b->ring);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

void event_bus_shutdown(struct event_bus *b)
{
	pthread_mutex_lock(&b->lock);
	b->down = true;
	for (struct event_sub *s = b->subs; s; s = s->next)
		pthread_cond_broadcast(&s->wake);
	pthread_mutex_unlock(&b->lock);
}

/* --- filters ------------------------------------------------------------------------ */

/* Filter kinds that name an actor of one type by ID or name. */
static const char *const actor_kinds[] = { "container", "volume",  "network", "daemon", "host",
					   "plugin",	"service", "node",    "secret", "config" };

static bool is_actor_kind(const char *kind)
{
	for (size_t i = 0; i < sizeof(actor_kinds) / sizeof(actor_kinds[0]); i++)
		if (!strcmp(kind, actor_kinds[i]))
			return true;
	return false;
}

static bool is_kind(const char *kind)
{
	static const char *const others[] = { "type", "event", "image", "label", "scope" };

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (!strcmp(kind, others[i]))
			return true;
	return is_actor_kind(kind);
}

/* Docker's two forms of filters as kind → array. NULL with err set. */
static json_t *read_filters(json_t *filters, struct error *err)
{
	CLEANUP_JSON json_t *out = json_object();
	const char *kind;
	json_t *values;

	if (filters && !json_is_null(filters) && !json_is_object(filters)) {
		error_set(err, EINVAL, "filters must be a JSON object");
		return NULL;
	}
	json_object_foreach (filters, kind, values) {
		json_t *list = json_array(), *v;
		const char *key;
		size_t i;
		bool bad = false;

		json_object_set_new(out, kind, list);
		if (!is_kind(kind)) {
			error_set(err, EINVAL, "invalid filter '%s'", kind);
			return NULL;
		}
		if (json_is_array(values)) {
			json_array_foreach (values, i, v) {
				bad |= !json_is_string(v);
				json_array_append(list, v);
			}
		} else if (json_is_object(values)) {
			json_object_foreach (values, key, v)
				if (json_is_true(v))
					json_array_append_new(list, json_string(key));
		} else {
			bad = true;
		}
		if (bad) {
			error_set(err, EINVAL, "filter '%s' must be a list of strings", kind);
			return NULL;
		}
	}
	return TAKE_PTR(out);
}

static bool same(const char *a, const char *b)
{
	return a && b && !strcmp(a, b);
}

/* "k" or "k=v" against the actor's attributes. */
static bool label_matches(const json_t *attributes, const char *want)
{
	const char *eq = strchr(want, '='), *have;
	CLEANUP_FREE char *key =
		str_format("%.*s", (int)(eq ? eq - want : (long)strlen(want)), want);

	have = json_str(attributes, key, NULL);
	return have && (!eq || !strcmp(have, eq + 1));
}

/* "name" also matches "name:tag". */
static bool image_matches(const char *image, const char *want)
{
	size_t n = strlen(want);

	return image && !strncmp(image, want, n) && (image[n] == '\0' || image[n] == ':');
}

static bool value_matches(const json_t *event, const char *kind, const char *want)
{
	const json_t *actor = json_object_get(event, "Actor");
	const json_t *attributes = json_object_get(actor, "Attributes");
	const char *type = json_str(event, "Type", ""), *action = json_str(event, "Action", "");
	const char *id = json_str(actor, "ID", "");

	if (!strcmp(kind, "type"))
		return same(type, want);
	if (!strcmp(kind, "event")) /* "exec_create: sh" is matched by exec_create */
		return same(action, want) ||
		       (str_starts(action, want) && action[strlen(want)] == ':');
	if (!strcmp(kind, "scope"))
		return same(json_str(event, "scope", ""), want);
	if (!strcmp(kind, "label"))
		return label_matches(attributes, want);
	if (!strcmp(kind, "image"))
		return !strcmp(type, "image")
			       ? image_matches(id, want) ||
					 image_matches(json_str(attributes, "name", NULL), want)
			       : image_matches(json_str(attributes, "image", NULL), want);
	/* The type's own events, and those of others about it (a network's about a container). */
	if (!strcmp(type, kind))
		return same(id, want) || same(json_str(attributes, "name", NULL), want) ||
		       (strlen(want) >= 12 && str_starts(id, want));
	return same(json_str(attributes, kind, NULL), want);
}

static bool matches(const json_t *event, const json_t *filters)
{
	const char *kind;
	json_t *values, *v;
	size_t i;

	json_object_foreach ((json_t *)(uintptr_t)filters, kind, values) {
		bool any = json_array_size(values) == 0;

		json_array_foreach (values, i, v)
			any |= value_matches(event, kind, json_string_value(v));
		if (!any)
			return false;
	}
	return true;
}

/* --- publishing --------------------------------------------------------------------- */

static json_t *copy_attributes(json_t *attributes)
{
	json_t *out = json_object(), *v;
	const char *key;

	json_object_foreach (attributes, key, v) {
		if (json_is_string(v)) {
			json_object_set(out, key, v);
		} else if (!json_is_null(v)) {
			CLEANUP_FREE char *text = json_text(v);

			json_set_str(out, key, text);
		}
	}
	return out;
}

static json_t *make_event(const char *type, const char *action, const char *id, json_t *attributes,
			  int64_t now_ns)
{
	json_t *e = json_object(), *actor = json_object(), *copy = copy_attributes(attributes);

	if (!strcmp(type, "container")) { /* the form before API 1.22, which clients still read */
		json_set_str(e, "status", action);
		json_set_str(e, "id", id);
		json_set_str(e, "from", json_str(copy, "image", ""));
	}
	json_set_str(e, "Type", type);
	json_set_str(e, "Action", action);
	json_set_str(actor, "ID", id);
	json_object_set_new(actor, "Attributes", copy);
	json_object_set_new(e, "Actor", actor);
	json_set_str(e, "scope", "local");
	json_set_int(e, "time", now_ns / 1000000000);
	json_set_int(e, "timeNano", now_ns);
	return e;
}

static void clear_queue(struct event_sub *s)
{
	while (s->count > 0) {
		json_decref(s->queue[s->first]);
		s->first = (s->first + 1) % s->size;
		s->count--;
	}
}

/* Lock held. */
static void offer(struct event_sub *s, json_t *event)
{
	if (s->dropped || s->cancelled || !matches(event, s->filters))
		return;
	if (s->count == s->size) {
		s->dropped = true;
		clear_queue(s);
	} else {
		s->queue[(s->first + s->count++) % s->size] = json_incref(event);
	}
	pthread_cond_signal(&s->wake);
}

int64_t event_publish(struct event_bus *b, const char *type, const char *action,
		      const char *actor_id, json_t *attributes)
{
	int64_t now_ns;
	json_t *event;

	pthread_mutex_lock(&b->lock);
	now_ns = clock_real_ns();
	if (now_ns <= b->last_ns) /* the clock was set back, or two at once */
		now_ns = b->last_ns + 1;
	b->last_ns = now_ns;
	event = make_event(type, action, actor_id, attributes, now_ns);
	if (b->count == b->size) {
		json_decref(b->ring[b->first]);
		b->first = (b->first + 1) % b->size;
		b->count--;
	}
	b->ring[(b->first + b->count++) % b->size] = event;
	for (struct event_sub *s = b->subs; s; s = s->next)
		offer(s, event);
	pthread_mutex_unlock(&b->lock);
	return now_ns;
}

/* --- subscribing -------------------------------------------------------------------- */

int event_subscribe(struct event_bus *b, json_t *filters, int64_t since_ns, int64_t until_ns,
		    struct event_sub **out, struct error *err)
{
	json_t *read = read_filters(filters, err);
	struct event_sub *s;
	pthread_condattr_t attr;

	if (!read)
		return -EINVAL;
	s = mem_zalloc(sizeof(*s));
	s->bus = b;
	s->filters = read;
	s->until_ns = until_ns;
	/* The whole history must fit, besides what may lag. */
	s->size = b->queue + (since_ns ? b->size : 0);
	s->queue = mem_zalloc(s->size * sizeof(json_t *));
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_lock(&b->lock);
	for (size_t i = 0; since_ns && i < b->count; i++) {
		json_t *event = b->ring[(b->first + i) % b->size];

		if (json_int(event, "timeNano", 0) >= since_ns)
			offer(s, event);
	}
	s->next = b->subs;
	b->subs = s;
	pthread_mutex_unlock(&b->lock);
	*out = s;
	return 0;
}

/* When a wait for the next event ends, on CLOCK_MONOTONIC. */
static int64_t wait_until(const struct event_sub *s, int64_t deadline_ns)
{
	int64_t left;

	if (s->until_ns <= 0)
		return deadline_ns;
	left = s->until_ns - clock_real_ns();
	if (left > INT64_MAX / 2)
		return deadline_ns;
	left = clock_mono_ns() + (left > 0 ? left : 0);
	return left < deadline_ns ? left : deadline_ns;
}

static bool is_past(const struct event_sub *s, const json_t *event)
{
	return s->until_ns > 0 && json_int(event, "timeNano", 0) > s->until_ns;
}

int event_next(struct event_sub *s, int64_t timeout_ns, json_t **event)
{
	int64_t deadline_ns = timeout_ns < 0 ? INT64_MAX : clock_mono_ns() + timeout_ns;
	struct event_bus *b = s->bus;
	int r;

	pthread_mutex_lock(&b->lock);
	for (;;) {
		int64_t until;

		if (s->cancelled) {
			r = 0;
			break;
		}
		if (s->dropped) {
			r = -EOVERFLOW;
			break;
		}
		if (s->count > 0) {
			json_t *e = s->queue[s->first];

			if (is_past(s, e)) {
				r = 0;
				break;
			}
			s->first = (s->first + 1) % s->size;
			s->count--;
			*event = json_deep_copy(e);
			json_decref(e);
			r = *event ? 1 : -ENOMEM;
			break;
		}
		if (b->down || (s->until_ns > 0 && clock_real_ns() >= s->until_ns)) {
			r = 0;
			break;
		}
		if (clock_mono_ns() >= deadline_ns) {
			r = -ETIMEDOUT;
			break;
		}
		until = wait_until(s, deadline_ns);
		if (until == INT64_MAX) {
			pthread_cond_wait(&s->wake, &b->lock);
		} else {
			struct timespec ts = { .tv_sec = until / 1000000000,
					       .tv_nsec = until % 1000000000 };

			pthread_cond_timedwait(&s->wake, &b->lock, &ts);
		}
	}
	pthread_mutex_unlock(&b->lock);
	return r;
}

void event_cancel(struct event_sub *s)
{
	pthread_mutex_lock(&s->bus->lock);
	s->cancelled = true;
	pthread_cond_broadcast(&s->wake);
	pthread_mutex_unlock(&s->bus->lock);
}

void event_unsubscribe(struct event_sub *s)
{
	struct event_sub **p;

	if (!s)
		return;
	pthread_mutex_lock(&s->bus->lock);
	for (p = &s->bus->subs; *p != s; p = &(*p)->next)
		;
	*p = s->next;
	clear_queue(s);
	pthread_mutex_unlock(&s->bus->lock);
	pthread_cond_destroy(&s->wake);
	json_decref(s->filters);
	free(s->queue);
	free(s);
}
