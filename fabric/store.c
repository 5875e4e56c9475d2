/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: keys, documents, leases held here; store.h is the contract. How texts get
 * into a database is the drivers' matter (store_driver.h), watching is store_watch.c's.
 */
#include "fabric/store.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/store_driver.h"

#define MAX_KEY	 255
#define MAX_TEXT (16u << 20)

static const struct store_driver *const drivers[] = { &store_embedded, &store_rados };

/* --- open, close -------------------------------------------------------------------------- */

int store_open(const struct store_config *config, struct store **out, struct error *err)
{
	const size_t n = sizeof(drivers) / sizeof(drivers[0]);
	struct store *s;
	size_t i = 0;
	int r;

	while (i < n && (!config->driver || strcmp(drivers[i]->name, config->driver) != 0))
		i++;
	if (i == n)
		return error_set(err, EINVAL,
				 "there is no store driver \"%s\": it is \"rados\" or "
				 "\"embedded\"",
				 config->driver ? config->driver : "");
	s = mem_zalloc(sizeof(*s));
	s->driver = drivers[i];
	pthread_mutex_init(&s->lease_lock, NULL);
	s->watches = store_watches_new(s, config->relist_ns);
	r = s->driver->open(s, config, &s->impl, err);
	if (r < 0) {
		store_close(s);
		error_wrap(err, "opening the %s store", config->driver);
		return r;
	}
	*out = s;
	return 0;
}

static void free_lease(struct store_lease *l)
{
	free(l->name);
	free(l->owner);
	free(l);
}

void store_close(struct store *s)
{
	if (!s)
		return;
	store_watches_stop(s->watches);
	if (s->impl)
		s->driver->close(s->impl);
	store_watches_free(s->watches);
	while (s->leases) {
		struct store_lease *l = s->leases;

		s->leases = l->next;
		free_lease(l);
	}
	pthread_mutex_destroy(&s->lease_lock);
	free(s);
}

void store_hint(struct store *s, const char *key)
{
	store_watches_hint(s->watches, key);
}

/* --- keys and documents --------------------------------------------------------------------- */

static const char part_chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				 "0123456789_.-";

/* Parts of [A-Za-z0-9_.-] with single slashes between; as a prefix it may end anywhere. */
static bool chars_ok(const char *s)
{
	const char *p = s;

	while (*p) {
		size_t n = strspn(p, part_chars);

		if (n == 0)
			return false;
		p += n;
		if (*p == '/')
			p++;
		else if (*p)
			return false;
	}
	return true;
}

static int check_key(const char *key, struct error *err)
{
	size_t n = strlen(key);

	if (n == 0 || n > MAX_KEY || !chars_ok(key) || !strchr(key, '/') || key[n - 1] == '/')
		return error_set(err, EINVAL,
				 "\"%.300s\" is no key: \"collection/name\" of letters, "
				 "digits, '_', '.', '-', at most %d bytes",
				 key, MAX_KEY);
	return 0;
}

static int check_lease_name(const char *name, struct error *err)
{
	size_t n = strlen(name);

	if (n == 0 || n > MAX_KEY || strspn(name, part_chars) != n)
		return error_set(err, EINVAL, "\"%.300s\" is no name for a lease", name);
	return 0;
}

/* The document as it is kept: with "schema". NULL with err set. */
static char *text_of(const char *key, json_t *value, size_t *len, struct error *err)
{
	CLEANUP_JSON json_t *copy = NULL;
	char *text;

	if (!json_is_object(value)) {
		error_set(err, EINVAL, "document %s: its value must be a JSON object", key);
		return NULL;
	}
	if (!json_object_get(value, "schema")) {
		copy = json_copy(value);
		json_set_int(copy, "schema", 1);
		value = copy;
	}
	text = json_text(value);
	*len = strlen(text);
	if (*len > MAX_TEXT) {
		free(text);
		error_set(err, EFBIG, "document %s is larger than %u MiB", key, MAX_TEXT >> 20);
		return NULL;
	}
	return text;
}

struct got {
	json_t *value;
	uint64_t version;
	struct error *err;
	bool bad;
};

static void take_one(void *ctx, const char *key, const char *text, size_t len, uint64_t version)
{
	struct got *g = ctx;

	json_decref(g->value);
	g->value = json_parse(text, len, key, g->err);
	g->version = version;
	g->bad = !g->value;
}

int store_get(struct store *s, const char *key, json_t **value, uint64_t *version,
	      struct error *err)
{
	struct got g = { .err = err };
	int r = check_key(key, err);

	if (r < 0)
		return r;
	r = s->driver->get(s->impl, key, take_one, &g, err);
	if (r < 0)
		return r;
	if (g.bad)
		return -EINVAL;
	if (version)
		*version = g.version;
	if (value)
		*value = TAKE_PTR(g.value);
	json_decref(g.value);
	return 0;
}

struct listing {
	struct store_entry *entries;
	size_t n, cap;
	struct error *err;
	bool bad;
};

static void take_many(void *ctx, const char *key, const char *text, size_t len, uint64_t version)
{
	struct listing *l = ctx;
	json_t *value = json_parse(text, len, key, l->err);

	if (!value) {
		l->bad = true;
		return;
	}
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 16;
		l->entries = mem_grow(l->entries, l->cap, sizeof(*l->entries));
	}
	l->entries[l->n++] = (struct store_entry){ str_dup(key), value, version };
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct store_entry *)a)->key, ((const struct store_entry *)b)->key);
}

int store_list(struct store *s, const char *prefix, struct store_entry **out, size_t *n,
	       struct error *err)
{
	struct listing l = { .err = err };
	int r;

	if (!chars_ok(prefix) || strlen(prefix) > MAX_KEY)
		return error_set(err, EINVAL, "\"%.300s\" is no prefix of a key", prefix);
	r = s->driver->list(s->impl, prefix, take_many, &l, err);
	if (r == 0 && l.bad)
		r = -EINVAL;
	if (r < 0) {
		store_list_free(l.entries, l.n);
		return r;
	}
	if (l.n > 1)
		qsort(l.entries, l.n, sizeof(*l.entries), by_key);
	*out = l.entries;
	*n = l.n;
	return 0;
}

void store_list_free(struct store_entry *entries, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(entries[i].key);
		json_decref(entries[i].value);
	}
	free(entries);
}

int store_list_values(struct store *s, const char *prefix, json_t **array, struct error *err)
{
	struct store_entry *entries = NULL;
	size_t n = 0;
	int r = store_list(s, prefix, &entries, &n, err);

	if (r < 0)
		return r;
	*array = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append(*array, entries[i].value);
	store_list_free(entries, n);
	return 0;
}

/* Watches here look at once; other hosts are told. */
static void changed(struct store *s, const char *key)
{
	store_hint(s, key);
	if (s->driver->announce)
		s->driver->announce(s->impl, key);
}

static int put(struct store *s, const char *key, json_t *value, uint64_t expected,
	       const struct store_fence *fence, uint64_t *new_version, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	uint64_t version = 0;
	size_t len;
	int r = check_key(key, err);

	if (r < 0)
		return r;
	text = text_of(key, value, &len, err);
	if (!text)
		return err ? -err->code : -EINVAL;
	r = s->driver->put(s->impl, key, text, len, expected, fence, &version, err);
	if (r < 0)
		return r;
	if (new_version)
		*new_version = version;
	changed(s, key);
	return 0;
}

int store_put(struct store *s, const char *key, json_t *value, uint64_t expected,
	      uint64_t *new_version, struct error *err)
{
	return put(s, key, value, expected, NULL, new_version, err);
}

int store_delete(struct store *s, const char *key, uint64_t expected, struct error *err)
{
	int r = check_key(key, err);

	if (r < 0)
		return r;
	if (expected == STORE_ABSENT)
		return error_set(err, EINVAL, "deleting %s: a document that is absent", key);
	r = s->driver->del(s->impl, key, expected, err);
	if (r == 0)
		changed(s, key);
	return r;
}

int store_update(struct store *s, const char *key, store_change_fn *change, void *ctx,
		 json_t **value, struct error *err)
{
	for (int attempt = 0; attempt < 100; attempt++) {
		CLEANUP_JSON json_t *doc = NULL;
		uint64_t version;
		int r = store_get(s, key, &doc, &version, err);

		if (r < 0)
			return r;
		r = change(ctx, doc, err);
		if (r < 0)
			return r;
		if (r == 0)
			r = store_put(s, key, doc, version, NULL, err);
		else
			r = 0;
		if (r == 0) {
			if (value)
				*value = TAKE_PTR(doc);
			return 0;
		}
		if (r != -ECANCELED)
			return r;
		error_clear(err);
		clock_sleep_ns((attempt % 10) * 1000000);
	}
	return error_set(err, EAGAIN, "document %s is being changed all the time; try again", key);
}

/* --- leases ----------------------------------------------------------------------------------- */

/* The lease as this handle holds it, or NULL. Lock held. */
static struct store_lease **find_lease(struct store *s, const char *name)
{
	struct store_lease **p = &s->leases;

	while (*p && strcmp((*p)->name, name) != 0)
		p = &(*p)->next;
	return p;
}

static void drop_lease(struct store *s, const char *name)
{
	struct store_lease **p, *l;

	pthread_mutex_lock(&s->lease_lock);
	p = find_lease(s, name);
	l = *p;
	if (l) {
		*p = l->next;
		free_lease(l);
	}
	pthread_mutex_unlock(&s->lease_lock);
}

static void hold_lease(struct store *s, const char *name, const char *owner, uint64_t epoch,
		       int64_t until_mono_ns)
{
	struct store_lease **p, *l;

	pthread_mutex_lock(&s->lease_lock);
	p = find_lease(s, name);
	l = *p;
	if (!l) {
		l = *p = mem_zalloc(sizeof(*l));
		l->name = str_dup(name);
	}
	free(l->owner);
	l->owner = str_dup(owner);
	l->epoch = epoch;
	l->until_mono_ns = until_mono_ns;
	pthread_mutex_unlock(&s->lease_lock);
}

static int check_lease(const char *name, const char *owner, int64_t ttl_ns, struct error *err)
{
	int r = check_lease_name(name, err);

	if (r < 0)
		return r;
	if (!str_is_name(owner))
		return error_set(err, EINVAL, "\"%.300s\" is no name for a lease's owner", owner);
	if (ttl_ns < 1000000)
		return error_set(err, EINVAL, "lease %s: a time to live under 1 ms", name);
	return 0;
}

int store_lease_acquire(struct store *s, const char *name, const char *owner, int64_t ttl_ns,
			uint64_t *epoch, struct error *err)
{
	int64_t before = clock_mono_ns();
	uint64_t e = 0;
	int r = check_lease(name, owner, ttl_ns, err);

	if (r < 0)
		return r;
	r = s->driver->lease_acquire(s->impl, name, owner, ttl_ns, &e, err);
	if (r < 0)
		return r;
	hold_lease(s, name, owner, e, before + ttl_ns);
	if (epoch)
		*epoch = e;
	return 0;
}

int store_lease_renew(struct store *s, const char *name, const char *owner, int64_t ttl_ns,
		      struct error *err)
{
	int64_t before = clock_mono_ns();
	struct store_lease *l;
	int r = check_lease(name, owner, ttl_ns, err);

	if (r < 0)
		return r;
	r = s->driver->lease_renew(s->impl, name, owner, ttl_ns, err);
	if (r == -ESTALE)
		drop_lease(s, name);
	if (r < 0)
		return r;
	pthread_mutex_lock(&s->lease_lock);
	l = *find_lease(s, name);
	if (l && !strcmp(l->owner, owner))
		l->until_mono_ns = before + ttl_ns;
	pthread_mutex_unlock(&s->lease_lock);
	return 0;
}

int store_lease_release(struct store *s, const char *name, const char *owner, struct error *err)
{
	int r = check_lease(name, owner, 1000000, err);

	if (r < 0)
		return r;
	drop_lease(s, name);
	return s->driver->lease_release(s->impl, name, owner, err);
}

int store_lease_get(struct store *s, const char *name, char **owner, uint64_t *epoch,
		    struct error *err)
{
	CLEANUP_FREE char *who = NULL;
	uint64_t e = 0;
	int r = check_lease_name(name, err);

	if (r < 0)
		return r;
	r = s->driver->lease_get(s->impl, name, &who, &e, err);
	if (r < 0)
		return r;
	if (owner)
		*owner = TAKE_PTR(who);
	if (epoch)
		*epoch = e;
	return 0;
}

int store_put_leased(struct store *s, const char *lease, const char *key, json_t *value,
		     uint64_t expected, uint64_t *new_version, struct error *err)
{
	CLEANUP_FREE char *owner = NULL;
	struct store_fence fence = { .lease = lease };
	const struct store_lease *l;
	int r = check_lease_name(lease, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&s->lease_lock);
	l = *find_lease(s, lease);
	if (l && clock_mono_ns() < l->until_mono_ns) {
		owner = str_dup(l->owner);
		fence.epoch = l->epoch;
	}
	pthread_mutex_unlock(&s->lease_lock);
	if (!owner)
		return error_set(err, ESTALE, "writing %s: the lease %s is not held here any more",
				 key, lease);
	fence.owner = owner;
	return put(s, key, value, expected, &fence, new_version, err);
}
