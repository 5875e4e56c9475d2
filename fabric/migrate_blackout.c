/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The blackout of a migration, at the source: packets turned to B, tasks stopped, and then
 * side by side what is left of the state sent and the volumes handed over:
 *
 *   engine    dump ─────────────────────────────────────────►
 *   volumes   FIFREEZE, quiesce ┬ B: preview, mount ─────────►
 *                               └ demote, then B: claim ─────►
 *
 * What was done is noted in struct migration; its undo is in fabric/migrate.c.
 */
#include "fabric/migrate.h"

#include <string.h>

#include "base/fd.h"

#define STEP_TIMEOUT_NS 10000000000ll

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
	s->result = json_array_size(volumes) ? -pthread_create(&thread, NULL, lock_thread, s) : 0;
	if (s->result < 0) {
		error_sys(&s->err, -s->result, "starting a thread");
		return NULL;
	}
	s->result = migration_rpc(m, "migrate.storage", json_object(), STEP_TIMEOUT_NS, &taken,
				  &s->err);
	if (json_array_size(volumes))
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

/* Packets are turned; tasks stopped, the rest of the state sent, volumes handed over. */
static int stop_and_send(struct migration *m, struct error *err)
{
	const char *id = json_str(m->doc, "id", "");
	CLEANUP_FREE char *to_address = network_host_address(m->f, m->to);
	CLEANUP_JSON json_t *freeze = NULL;
	CLEANUP_JSON json_t *dump = NULL;
	CLEANUP_FREE char *socket = migrate_socket(m->f, id);
	CLEANUP_FREE char *folder = str_format("%s/migrations", m->f->run_dir);
	json_t *args;
	struct storage storage = { .m = m };
	pthread_t thread;
	int64_t t;
	int r;

	r = netd_forward(m->f->netd, id, to_address, err);
	if (r < 0)
		return r;
	m->network_ns = clock_mono_ns() - m->blackout_start_ns;

	r = engine_call(m->engine, "freeze", NULL, &freeze, err);
	if (r < 0)
		return r;
	m->frozen = true;
	m->freeze_ns = json_int(freeze, "freeze_ns", 0);
	r = netd_block_egress(m->f->netd, id, true, err);
	if (!r && m->postcopy)
		r = dir_make(folder, 0700, err);
	if (r < 0)
		return r;
	r = pthread_create(&thread, NULL, storage_thread, &storage);
	if (r)
		return error_sys(err, r, "starting a thread");
	t = clock_mono_ns();
	args = json_pack("{s:b, s:b, s:s}", "verify", m->options.verify, "postcopy", m->postcopy,
			 "socket", socket);
	r = engine_call(m->engine, "dump", args, &dump, err);
	m->memory_ns = clock_mono_ns() - t;
	pthread_join(thread, NULL);
	m->storage_ns = storage.ns;
	if (r >= 0 && storage.result < 0)
		r = error_set(err, -storage.result, "%s", storage.err.msg);
	if (r < 0)
		return r;
	m->bytes += json_int(dump, "bytes", 0);
	m->postcopy = json_bool(dump, "postcopy", false);
	m->engine_dump = json_incref(json_object_get(dump, "timings"));
	return 0;
}

static void *repoint_thread(void *arg)
{
	struct migration *m = arg;

	network_repoint(m->f, m->doc, m->to, NULL);
	return NULL;
}

int migration_blackout(struct migration *m, struct error *err)
{
	pthread_t thread;
	int r;

	m->blackout_start_ns = clock_mono_ns();
	r = migration_rpc(m, "migrate.hold", json_object(), STEP_TIMEOUT_NS, NULL, err);
	if (r < 0)
		return r;
	m->turned = true;
	/* Until the other hosts have heard of it, what they send here is passed on. */
	r = pthread_create(&thread, NULL, repoint_thread, m);
	if (r)
		return error_sys(err, r, "starting a thread");
	r = stop_and_send(m, err);
	pthread_join(thread, NULL);
	return r;
}
