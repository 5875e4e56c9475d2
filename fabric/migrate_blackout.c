/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The blackout of a migration, at the source: packets turned to B while the tasks are being
 * stopped, and then side by side what is left of the state sent and the volumes handed over:
 *
 *   engine    freeze ─────────────┐ dump ───────────────────────────────────────►
 *   packets   B: hold ─ turned ───┴ egress blocked; flows read
 *   volumes                         FIFREEZE, quiesce ┬ B: preview, mount ───────►
 *                                                     └ demote, then B: claim ───►
 *   others                          told where the container is now ─────────────┄►
 *
 * Nothing reads a socket before packets are turned, tasks stopped and egress is blocked. What
 * was done is noted in struct migration; its undo is in fabric/migrate.c.
 */
#include "fabric/migrate.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "base/log.h"

#define STEP_TIMEOUT_NS 10000000000ll
#define HOLD_TIMEOUT_NS 5000000000ll /* the tasks stand still already */
#define WARM_NS		1000000000ll

/* --- before it ---------------------------------------------------------------------- */

static void *warm_thread(void *arg)
{
	struct migration *m = arg;
	int64_t end = clock_mono_ns() + WARM_NS;
	json_t *name;
	size_t i;

	/* At once at most: storage, claim and commit. */
	rpc_client_warm(m->f->client, m->to,
			json_array_size(json_object_get(m->doc, "volumes")) ? 3 : 1, WARM_NS);
	m->others = network_others(m->f, m->to, NULL);
	json_array_foreach (m->others, i, name)
		if (clock_mono_ns() < end)
			rpc_client_warm(m->f->client, json_string_value(name), 1,
					end - clock_mono_ns());
	return NULL;
}

void migration_warm(struct migration *m)
{
	m->warming = pthread_create(&m->warm, NULL, warm_thread, m) == 0;
}

void migration_warmed(struct migration *m)
{
	if (m->warming)
		pthread_join(m->warm, NULL);
	m->warming = false;
}

/* --- volumes, before it ------------------------------------------------------------- */

#define SYNC_PAUSE_NS 200000000ll

struct syncing {
	struct migration *m;
	pthread_t thread;
	pthread_mutex_t lock; /* end */
	pthread_cond_t wake;
	bool end;
};

static void sync_volumes(struct migration *m)
{
	struct error err = { 0 };
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(m->doc, "volumes"), i, v)
		if (volume_sync(m->f->volumes, json_str(v, "name", ""), &err) < 0)
			log_warn("migration %s: %s", m->id, err.msg);
}

/* False: it is to end. */
static bool sync_pause(struct syncing *s)
{
	int64_t until = clock_real_ns() + SYNC_PAUSE_NS;
	struct timespec ts = { until / 1000000000, until % 1000000000 };
	bool end;

	pthread_mutex_lock(&s->lock);
	while (!s->end && pthread_cond_timedwait(&s->wake, &s->lock, &ts) == 0)
		;
	end = s->end;
	pthread_mutex_unlock(&s->lock);
	return !end;
}

static void *sync_thread(void *arg)
{
	struct syncing *s = arg;

	while (sync_pause(s))
		sync_volumes(s->m);
	return NULL;
}

void migration_keep_synced(struct migration *m)
{
	struct syncing *s;

	if (!json_array_size(json_object_get(m->doc, "volumes")))
		return;
	sync_volumes(m);
	s = mem_zalloc(sizeof(*s));
	s->m = m;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->wake, NULL);
	if (pthread_create(&s->thread, NULL, sync_thread, s) == 0)
		m->syncing = s;
	else
		free(s);
}

void migration_synced(struct migration *m)
{
	struct syncing *s = m->syncing;

	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->end = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
	m->syncing = NULL;
}

/* --- volumes ------------------------------------------------------------------------ */

struct storage {
	struct migration *m;
	struct error err;
	int result;
	int64_t ns, freeze_ns, quiesce_ns, demote_ns, lock_ns;
	struct error locks_err;
	int locks;
};

/* The locks change hands while B mounts what it reads without them. */
static void *lock_thread(void *arg)
{
	struct storage *s = arg;
	struct migration *m = s->m;
	int64_t start = clock_mono_ns();
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(m->doc, "volumes"), i, v) {
		s->locks = volume_demote(m->f->volumes, json_str(v, "name", ""), &s->locks_err);
		if (s->locks < 0)
			return NULL;
	}
	s->demote_ns = clock_mono_ns() - start;
	s->locks = migration_rpc(m, "migrate.claim", json_object(), STEP_TIMEOUT_NS, NULL,
				 &s->locks_err);
	s->lock_ns = clock_mono_ns() - start;
	return NULL;
}

/* Hands the volumes over while the engine sends what is left of memory and objects. */
static void *storage_thread(void *arg)
{
	struct storage *s = arg;
	struct migration *m = s->m;
	CLEANUP_JSON json_t *taken = NULL;
	int64_t start = clock_mono_ns();
	json_t *volumes = json_object_get(m->doc, "volumes"), *v;
	pthread_t thread;
	size_t i;

	json_array_foreach (volumes, i, v) {
		const char *name = json_str(v, "name", "");
		int64_t t0 = clock_mono_ns(), t1;

		s->result = volume_freeze(m->f->volumes, name, &s->err);
		t1 = clock_mono_ns();
		if (!s->result)
			s->result = volume_quiesce(m->f->volumes, name, &s->err);
		if (s->result < 0)
			return NULL;
		s->freeze_ns += t1 - t0;
		s->quiesce_ns += clock_mono_ns() - t1;
	}
	s->result = -pthread_create(&thread, NULL, lock_thread, s);
	if (s->result < 0) {
		error_sys(&s->err, -s->result, "starting a thread");
		return NULL;
	}
	s->result = migration_rpc(m, "migrate.storage", json_object(), STEP_TIMEOUT_NS, &taken,
				  &s->err);
	pthread_join(thread, NULL);
	if (s->result >= 0 && s->locks < 0) {
		s->result = s->locks;
		s->err = s->locks_err;
	}
	m->storage_laps = json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I}", "freeze_ns", (json_int_t)s->freeze_ns,
		"quiesce_ns", (json_int_t)s->quiesce_ns, "unlock_ns", (json_int_t)s->demote_ns,
		"lock_ns", (json_int_t)(s->lock_ns - s->demote_ns), "promote_ns",
		(json_int_t)json_int(taken, "promote_ns", 0), "mount_ns",
		(json_int_t)json_int(taken, "mount_ns", 0));
	s->ns = clock_mono_ns() - start;
	return NULL;
}

/* --- the blackout ------------------------------------------------------------------- */

/*
 * Tasks stop while B begins to hold packets and they are turned there: neither needs the
 * other. What a task still sends is let through until all stand still.
 */
static int turn_and_stop(struct migration *m, struct error *err)
{
	const char *id = json_str(m->doc, "id", "");
	CLEANUP_JSON json_t *freeze = NULL;
	int r = engine_send(m->engine, "freeze", NULL, err), stopped;

	if (r < 0)
		return r;
	r = migration_rpc(m, "migrate.hold", json_object(), HOLD_TIMEOUT_NS, NULL, err);
	if (!r) {
		m->turned = true;
		r = netd_forward(m->f->netd, id, m->to_address, err);
	}
	stopped = engine_receive(m->engine, "freeze", &freeze, r < 0 ? NULL : err);
	m->frozen = stopped >= 0;
	m->freeze_ns = json_int(freeze, "freeze_ns", 0);
	if (r >= 0)
		r = stopped;
	if (r >= 0)
		r = netd_block_egress(m->f->netd, id, true, err);
	m->network_ns = clock_mono_ns() - m->blackout_start_ns - m->freeze_ns;
	return r;
}

static void *repoint_thread(void *arg)
{
	struct migration *m = arg;

	network_repoint_at(m->f, m->doc, m->to, m->others);
	return NULL;
}

/* Until the other hosts have heard of it, what they send here is passed on. */
static int repoint_begin(struct migration *m, struct error *err)
{
	int r = pthread_create(&m->repoint, NULL, repoint_thread, m);

	m->repointing = !r;
	return r ? error_sys(err, r, "starting a thread") : 0;
}

void migration_repointed(struct migration *m)
{
	if (m->repointing)
		pthread_join(m->repoint, NULL);
	m->repointing = false;
}

/* All that is left of the state, by the engine; *dump: its answer. */
static int dump(struct migration *m, json_t **answer, struct error *err)
{
	CLEANUP_FREE char *socket = migrate_socket(m->f, json_str(m->doc, "id", ""));
	CLEANUP_FREE char *folder = str_format("%s/migrations", m->f->run_dir);
	int64_t start = clock_mono_ns();
	int r = m->postcopy ? dir_make(folder, 0700, err) : 0;

	if (!r)
		r = engine_send(m->engine, "dump",
				json_pack("{s:b, s:b, s:s}", "verify", m->options.verify,
					  "postcopy", m->postcopy, "socket", socket),
				err);
	if (r < 0)
		return r;
	/* No packet passes any more: these are all. */
	netd_flows_export(m->f->netd, json_str(m->doc, "id", ""), &m->flows, NULL);
	r = engine_receive(m->engine, "dump", answer, err);
	m->memory_ns = clock_mono_ns() - start;
	return r;
}

static int send_rest(struct migration *m, struct error *err)
{
	bool volumes = json_array_size(json_object_get(m->doc, "volumes")) > 0;
	CLEANUP_JSON json_t *answer = NULL;
	struct storage storage = { .m = m };
	pthread_t thread;
	int r = volumes ? pthread_create(&thread, NULL, storage_thread, &storage) : 0;

	if (r)
		return error_sys(err, r, "starting a thread");
	r = repoint_begin(m, err);
	if (!r)
		r = dump(m, &answer, err);
	if (volumes)
		pthread_join(thread, NULL);
	m->storage_ns = storage.ns;
	if (r >= 0 && storage.result < 0)
		r = error_set(err, -storage.result, "%s", storage.err.msg);
	if (r < 0)
		return r;
	m->bytes += json_int(answer, "bytes", 0);
	m->postcopy = json_bool(answer, "postcopy", false);
	m->engine_dump = json_incref(json_object_get(answer, "timings"));
	return 0;
}

int migration_blackout(struct migration *m, struct error *err)
{
	int r;

	m->blackout_start_ns = clock_mono_ns();
	r = turn_and_stop(m, err);
	return r < 0 ? r : send_rest(m, err);
}
