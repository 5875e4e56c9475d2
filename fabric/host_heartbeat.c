/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host's leases. Two threads: the heartbeat renews "host.NAME" and renews or tries to get
 * "leader", and does nothing else; the helper does everything that may take long: registering
 * again after the lease was lost, looking for lapsed hosts, all callbacks. host.h draws the
 * states.
 */
#include <pthread.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/host.h"

struct hosts {
	struct store *store;
	char *name, *address, *owner, *lease;
	uint16_t port;
	json_t *features;
	int64_t ttl_ns, started_ns;
	struct hosts_config on; /* the callbacks and their context */
	pthread_t heartbeat, helper;
	bool heartbeat_runs, helper_runs;
	pthread_mutex_t lock; /* what follows; never held in a call to the store */
	pthread_cond_t wake;
	bool stop;
	bool lost;		 /* our lease had lapsed; the helper has to look */
	int64_t member_until_ns; /* CLOCK_MONOTONIC */
	int64_t leader_until_ns; /* 0: not the leader */
};

/* --- registering --------------------------------------------------------------------------- */

/* Facts into the document; what is not ours there stays. */
static void fill(struct hosts *h, json_t *doc)
{
	CLEANUP_JSON json_t *facts = host_facts();
	json_t *features;

	json_object_update(doc, facts);
	json_set_str(doc, "name", h->name);
	json_set_str(doc, "address", h->address);
	json_set_int(doc, "port", h->port);
	json_set_int(doc, "incarnation", json_int(doc, "incarnation", 0) + 1);
	json_set_str(doc, "state", "up");
	json_set_int(doc, "registered_at", clock_real_ns());
	json_set_int(doc, "changed_at", clock_real_ns());
	if (!json_object_get(doc, "availability"))
		json_set_str(doc, "availability", "active");
	if (!json_object_get(doc, "labels"))
		json_object_set_new(doc, "labels", json_object());
	features = json_object_get(doc, "features");
	if (!json_is_object(features)) {
		features = json_object();
		json_object_set_new(doc, "features", features);
	}
	json_object_update(features, h->features);
}

/* Writes our document as up. *previous: as it was, or NULL. */
static int enroll(struct hosts *h, json_t **previous, struct error *err)
{
	CLEANUP_FREE char *key = str_format("hosts/%s", h->name);

	for (int i = 0; i < 20; i++) {
		CLEANUP_JSON json_t *old = NULL, *doc = NULL;
		uint64_t version = STORE_ABSENT;
		int r = store_get(h->store, key, &old, &version, err);

		if (r < 0 && r != -ENOENT)
			return r;
		doc = old ? json_deep_copy(old) : json_object();
		fill(h, doc);
		r = store_put(h->store, key, doc, version, NULL, err);
		if (r == 0 && previous)
			*previous = TAKE_PTR(old);
		if (r != -ECANCELED)
			return r;
	}
	return error_set(err, EAGAIN, "the document of host %s is being changed all the time",
			 h->name);
}

static int acquire(struct hosts *h, struct error *err)
{
	int64_t before = clock_mono_ns();
	int r = store_lease_acquire(h->store, h->lease, h->owner, h->ttl_ns, NULL, err);

	if (r == 0) {
		pthread_mutex_lock(&h->lock);
		h->member_until_ns = before + h->ttl_ns;
		pthread_mutex_unlock(&h->lock);
	}
	return r;
}

/* --- the heartbeat thread ----------------------------------------------------------- */

static void beat_member(struct hosts *h)
{
	int64_t before = clock_mono_ns();
	struct error err = { 0 };
	int r = store_lease_renew(h->store, h->lease, h->owner, h->ttl_ns, &err);

	if (r == -ESTALE) {
		/* Alive again at once; what happened meanwhile the helper finds out. */
		log_warn("host %s: %s", h->name, err.msg);
		r = acquire(h, &err);
		pthread_mutex_lock(&h->lock);
		h->lost = true;
		pthread_mutex_unlock(&h->lock);
	} else if (r == 0) {
		pthread_mutex_lock(&h->lock);
		h->member_until_ns = before + h->ttl_ns;
		pthread_mutex_unlock(&h->lock);
	}
	if (r < 0)
		log_warn("host %s: heartbeat: %s", h->name, err.msg);
}

static void beat_leader(struct hosts *h)
{
	int64_t before = clock_mono_ns(), until;
	bool leads = hosts_is_leader(h);
	struct error err = { 0 };
	int r;

	if (!hosts_is_member(h)) { /* who is not alive does not lead */
		until = 0;
	} else {
		r = leads ? store_lease_renew(h->store, "leader", h->owner, h->ttl_ns, &err)
			  : store_lease_acquire(h->store, "leader", h->owner, h->ttl_ns, NULL,
						&err);
		until = r == 0 ? before + h->ttl_ns : 0;
		if (r < 0 && r != -EBUSY && r != -ESTALE && leads)
			return; /* no answer: leader until it lapses */
	}
	pthread_mutex_lock(&h->lock);
	h->leader_until_ns = until;
	pthread_mutex_unlock(&h->lock);
}

/* Sleeps; true: go on. */
static bool pause_for(struct hosts *h, int64_t ns)
{
	int64_t until = clock_mono_ns() + ns;
	struct timespec ts = { .tv_sec = until / 1000000000, .tv_nsec = until % 1000000000 };
	bool stop;

	pthread_mutex_lock(&h->lock);
	while (!h->stop && clock_mono_ns() < until)
		pthread_cond_timedwait(&h->wake, &h->lock, &ts);
	stop = h->stop;
	pthread_mutex_unlock(&h->lock);
	return !stop;
}

static void *heartbeat_thread(void *arg)
{
	struct hosts *h = arg;

	do {
		beat_member(h);
		beat_leader(h);
	} while (pause_for(h, h->ttl_ns / 4));
	return NULL;
}

/* --- the helper thread: our own return ---------------------------------------------- */

/* We were away. Were we declared dead? */
static void come_back(struct hosts *h)
{
	CLEANUP_FREE char *key = str_format("hosts/%s", h->name);
	CLEANUP_JSON json_t *doc = NULL;
	struct error err = { 0 };
	int r = store_get(h->store, key, &doc, NULL, &err);
	bool was_up = r == 0 && !strcmp(json_str(doc, "state", ""), "up");

	if (r < 0 && r != -ENOENT) {
		log_warn("host %s: %s", h->name, err.msg);
		return; /* again in the next round */
	}
	if (!was_up) {
		log_warn("host %s had been declared %s", h->name, json_str(doc, "state", "gone"));
		if (h->on.fenced)
			h->on.fenced(h->on.ctx, doc);
		r = enroll(h, NULL, &err);
		if (r < 0) {
			log_warn("host %s: registering again: %s", h->name, err.msg);
			return;
		}
	}
	pthread_mutex_lock(&h->lock);
	h->lost = false;
	pthread_mutex_unlock(&h->lock);
}

/* --- the helper thread: the leader's watch ------------------------------------------ */

static int put_state(struct hosts *h, const char *key, json_t *doc, const char *state,
		     uint64_t *version, struct error *err)
{
	json_set_str(doc, "state", state);
	json_set_int(doc, "changed_at", clock_real_ns());
	return store_put_leased(h->store, "leader", key, doc, *version, version, err);
}

/* A host without a lease: mark it lost, have it taken over, mark it down. */
static int take_over(struct hosts *h, const struct store_entry *e, struct error *err)
{
	const char *name = json_str(e->value, "name", "");
	uint64_t version = e->version;
	int r = 0;

	if (strcmp(json_str(e->value, "state", ""), "lost") != 0) {
		log_warn("host %s does not answer any more", name);
		r = put_state(h, e->key, e->value, "lost", &version, err);
	}
	if (r == 0 && h->on.lapsed) {
		r = h->on.lapsed(h->on.ctx, name, e->value, err);
		if (r < 0)
			error_wrap(err, "taking over from host %s", name);
	}
	if (r == 0)
		r = put_state(h, e->key, e->value, "down", &version, err);
	/* It has come back, or another leader is at it: not ours to say. */
	return r == -ECANCELED || r == -ESTALE ? 0 : r;
}

static void look_for_lapsed(struct hosts *h)
{
	struct store_entry *e = NULL;
	struct error err = { 0 };
	size_t n = 0;

	if (store_list(h->store, "hosts/", &e, &n, &err) < 0) {
		log_warn("leader: %s", err.msg);
		return;
	}
	for (size_t i = 0; i < n && hosts_is_leader(h); i++) {
		const char *name = e[i].key + strlen("hosts/");
		CLEANUP_FREE char *lease = str_format("host.%s", name);

		if (!strcmp(name, h->name) || !strcmp(json_str(e[i].value, "state", ""), "down"))
			continue;
		if (store_lease_get(h->store, lease, NULL, NULL, &err) != -ENOENT)
			continue;
		if (take_over(h, &e[i], &err) < 0)
			log_warn("leader: %s; trying again", err.msg);
	}
	store_list_free(e, n);
}

static void *helper_thread(void *arg)
{
	struct hosts *h = arg;
	bool led = false;

	do {
		bool leads = hosts_is_leader(h), lost;

		pthread_mutex_lock(&h->lock);
		lost = h->lost;
		pthread_mutex_unlock(&h->lock);
		if (lost && hosts_is_member(h))
			come_back(h);
		if (leads != led) {
			log_info("host %s %s the leader", h->name,
				 leads ? "is now" : "is no longer");
			if (h->on.leader)
				h->on.leader(h->on.ctx, leads);
			led = leads;
		}
		/*
		 * After a power cut all hosts start at about the same time, and the first must
		 * not take the others for dead: they get one TTL to come.
		 */
		if (leads && clock_mono_ns() - h->started_ns > h->ttl_ns)
			look_for_lapsed(h);
	} while (pause_for(h, h->ttl_ns / 8));
	if (led && h->on.leader)
		h->on.leader(h->on.ctx, false);
	return NULL;
}

/* --- start, stop -------------------------------------------------------------------- */

bool hosts_is_member(struct hosts *h)
{
	bool is;

	pthread_mutex_lock(&h->lock);
	is = clock_mono_ns() < h->member_until_ns;
	pthread_mutex_unlock(&h->lock);
	return is;
}

bool hosts_is_leader(struct hosts *h)
{
	bool is;

	pthread_mutex_lock(&h->lock);
	is = clock_mono_ns() < h->leader_until_ns;
	pthread_mutex_unlock(&h->lock);
	return is;
}

/*
 * Who we are for the lease: name and machine. A daemon that restarts, or comes back after a
 * reboot, takes its lease again at once; another machine of the same name does not.
 */
static char *owner_name(const char *name)
{
	CLEANUP_FREE char *id = NULL;

	if (file_read("/etc/machine-id", 64, &id, NULL, NULL) < 0 || strlen(id) < 32) {
		free(TAKE_PTR(id));
		if (host_boot_id(&id, NULL) < 0)
			return str_dup(name);
	}
	return str_format("%s.%.8s", name, id);
}

static void free_hosts(struct hosts *h)
{
	pthread_cond_destroy(&h->wake);
	pthread_mutex_destroy(&h->lock);
	json_decref(h->features);
	free(h->name);
	free(h->address);
	free(h->owner);
	free(h->lease);
	free(h);
}

static struct hosts *new_hosts(const struct hosts_config *c)
{
	struct hosts *h = mem_zalloc(sizeof(*h));
	pthread_condattr_t attr;

	h->on = *c;
	h->store = c->store;
	h->name = str_dup(c->name);
	h->address = str_dup(c->address);
	h->port = c->port;
	h->features = c->features ? json_deep_copy(c->features) : json_object();
	h->ttl_ns = c->ttl_ns > 0 ? c->ttl_ns : HOST_TTL_NS;
	h->started_ns = clock_mono_ns();
	h->owner = owner_name(c->name);
	h->lease = str_format("host.%s", c->name);
	pthread_mutex_init(&h->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&h->wake, &attr);
	pthread_condattr_destroy(&attr);
	return h;
}

static void stop_threads(struct hosts *h)
{
	pthread_mutex_lock(&h->lock);
	h->stop = true;
	pthread_cond_broadcast(&h->wake);
	pthread_mutex_unlock(&h->lock);
	if (h->helper_runs)
		pthread_join(h->helper, NULL);
	if (h->heartbeat_runs)
		pthread_join(h->heartbeat, NULL);
}

int hosts_start(const struct hosts_config *config, struct hosts **out, json_t **previous,
		struct error *err)
{
	struct hosts *h;
	int r;

	if (!str_is_name(config->name) || strlen(config->name) > 63)
		return error_set(err, EINVAL, "\"%.80s\" is no name for a host", config->name);
	h = new_hosts(config);
	if (previous)
		*previous = NULL;
	r = acquire(h, err);
	if (r == -EBUSY) {
		error_wrap(err, "a host named %s runs already on another machine", h->name);
		goto fail;
	}
	if (r == 0)
		r = enroll(h, previous, err);
	if (r < 0)
		goto fail;
	r = pthread_create(&h->heartbeat, NULL, heartbeat_thread, h);
	h->heartbeat_runs = r == 0;
	if (r == 0) {
		r = pthread_create(&h->helper, NULL, helper_thread, h);
		h->helper_runs = r == 0;
	}
	if (r != 0) {
		r = error_sys(err, r, "starting a thread");
		stop_threads(h);
		goto fail;
	}
	*out = h;
	return 0;
fail:
	free_hosts(h);
	return r;
}

static int set_down(void *ctx, json_t *doc, struct error *err)
{
	(void)ctx;
	(void)err;
	json_set_str(doc, "state", "down");
	json_set_int(doc, "changed_at", clock_real_ns());
	return 0;
}

void hosts_stop(struct hosts *h, bool leave)
{
	struct error err = { 0 };

	if (!h)
		return;
	stop_threads(h);
	if (hosts_is_leader(h)) /* so that another need not wait for it to lapse */
		store_lease_release(h->store, "leader", h->owner, &err);
	if (leave) {
		CLEANUP_FREE char *key = str_format("hosts/%s", h->name);

		if (store_update(h->store, key, set_down, NULL, NULL, &err) < 0)
			log_warn("host %s: %s", h->name, err.msg);
		store_lease_release(h->store, h->lease, h->owner, &err);
	}
	free_hosts(h);
}
