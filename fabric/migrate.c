/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration, at the source. Its blackout is fabric/migrate_blackout.c, the destination's
 * half fabric/migrate_dest.c; stopped containers are fabric/migrate_cold.c, and what a
 * restarted daemon does about one that was cut is fabric/migrate_recover.c.
 *
 *   state     moves to            done here                         undo
 *   ADMIT     PREPARE, FAILED     preflight on both hosts           -
 *   PREPARE   PRECOPY, UNDO       document names the migration; B   B drops its skeleton
 *                                 builds a skeleton
 *   PRECOPY   BLACKOUT, UNDO      memory and files flow             B drops its skeleton
 *   BLACKOUT  COMMIT, UNDO        packets turned to B and held;     in reverse: volumes
 *                                 tasks frozen; volumes handed      retaken and thawed, tasks
 *                                 over; the rest of the state       resumed, packets turned
 *                                 sent                              back
 *   COMMIT    POSTCOPY, CLEANUP,  B swaps `host` in the document    none after the swap: the
 *             UNDO                and runs; if B is silent the      document decides
 *                                 document decides
 *   POSTCOPY  CLEANUP             tasks here stay frozen, the       none: B runs. If A or the
 *                                 engine serves the memory that     link is lost, so is the
 *                                 B lacks (fabric/migrate_late.c);  container, and B says so
 *                                 only where there is such
 *   CLEANUP   DONE                tasks killed, everything removed  retried by the next start
 *
 * The undo of each step stands in undo(), guarded by what was done.
 */
#include "fabric/migrate.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/rcu.h"

#define ADMIT_TIMEOUT_NS   10000000000ll
#define PREPARE_TIMEOUT_NS 300000000000ll
#define STEP_TIMEOUT_NS	   10000000000ll
#define COMMIT_TIMEOUT_NS  30000000000ll
#define DOWNTIME_NS	   50000000ll
#define PRECOPY_NS	   120000000000ll
#define LATE_NS		   86400000000000ll /* post-copy takes what it takes */
#define FENCE_AFTER_NS	   60000000000ll
/* Attempts after a first one that met a state which passes by itself; pauses grow. */
#define RETRIES	       3
#define RETRY_AFTER_NS 200000000ll

static const char *const state_names[] = { "ADMIT",    "PREPARE", "PRECOPY", "BLACKOUT", "COMMIT",
					   "POSTCOPY", "CLEANUP", "DONE",    "UNDO" };

void migrate_hold_point(struct fabric *f, const char *point)
{
	CLEANUP_FREE char *path = str_format("%s/migrate-hold", f->run_dir);
	CLEANUP_FREE char *held = str_format("%s/migrate-held", f->run_dir);
	CLEANUP_FREE char *text = NULL;

	if (file_read(path, 64, &text, NULL, NULL) < 0)
		return;
	text[strcspn(text, "\n")] = '\0';
	if (strcmp(text, point))
		return;
	file_write_atomic(held, point, strlen(point), 0600, NULL);
	clock_sleep_ns(2000000000ll);
}

void migration_enter(struct migration *m, enum migration_state state)
{
	CLEANUP_JSON json_t *p =
		json_pack("{s:s, s:s, s:s, s:s}", "State", state_names[state], "Id", m->id,
			  "Container", json_str(m->doc, "name", ""), "To", m->to);
	json_t *shown;

	pthread_mutex_lock(&m->f->lock);
	shown = json_object_get(m->f->outgoing, m->id);
	if (shown) {
		json_t *copy = json_copy(shown);

		json_set_str(copy, "State", state_names[state]);
		json_object_set_new(m->f->outgoing, m->id, copy);
	}
	pthread_mutex_unlock(&m->f->lock);
	log_debug("migration %s of %s: %s", m->id, json_str(m->doc, "name", ""),
		  state_names[state]);
	if (m->progress)
		m->progress(m->ctx, p);
	migrate_hold_point(m->f, state_names[state]);
}

int migration_rpc(struct migration *m, const char *method, json_t *params, int64_t timeout_ns,
		  json_t **result, struct error *err)
{
	int r;

	json_set_str(params, "migration", m->id);
	r = rpc_call(m->f->client, m->to, method, params, timeout_ns, result, err);
	json_decref(params);
	return r;
}

/* --- ADMIT ------------------------------------------------------------------------------------ */

/* What the fabric itself knows to stand in the way, in the engine's form. */
json_t *migration_obstacles(const struct migration *m)
{
	json_t *list = json_array(), *v;
	size_t i;

	json_array_foreach (json_object_get(m->doc, "binds"), i, v)
		json_array_append_new(
			list, json_pack("{s:i, s:i, s:s+, s:s, s:s}", "pid", 1, "fd", -1, "object",
					"bind mount ", json_str(v, "source", ""), "why",
					"a folder of this host is not on the other one", "remedy",
					"use a volume of driver rbd instead"));
	json_array_foreach (json_object_get(m->doc, "volumes"), i, v) {
		CLEANUP_JSON json_t *vol = NULL;

		if (volume_inspect(m->f->volumes, json_str(v, "name", ""), &vol, NULL) < 0 ||
		    strcmp(json_str(vol, "Driver", ""), "local"))
			continue;
		json_array_append_new(
			list, json_pack("{s:i, s:i, s:s+, s:s, s:s}", "pid", 1, "fd", -1, "object",
					"volume ", json_str(v, "name", ""), "why",
					"driver local keeps its data on this host only", "remedy",
					"copy the data to a volume of driver rbd"));
	}
	if (!m->cold && !strcmp(json_str(m->doc, "network_mode", ""), "host"))
		json_array_append_new(list,
				      json_pack("{s:i, s:i, s:s, s:s, s:s}", "pid", 1, "fd", -1,
						"object", "host network", "why",
						"the addresses of this host stay on this host",
						"remedy", "run the container on a ferry network"));
	return list;
}

int migration_refuse(const json_t *list, struct error *err)
{
	const json_t *o = json_array_get(list, 0);
	CLEANUP_BUF struct buf more = { 0 };
	CLEANUP_BUF struct buf fd = { 0 };
	size_t n = json_array_size(list);

	buf_add(&more, "", 0);
	buf_add(&fd, "", 0);
	if (n > 1)
		buf_addf(&more, " (and %zu more: 'ferry migrate --check' lists them all)", n - 1);
	if (json_int(o, "fd", -1) >= 0)
		buf_addf(&fd, " fd %lld", (long long)json_int(o, "fd", -1));
	return error_set(err, EPROTO, "pid %lld%s: %s cannot travel: %s; %s%s",
			 (long long)json_int(o, "pid", 0), fd.data, json_str(o, "object", "?"),
			 json_str(o, "why", "?"), json_str(o, "remedy", "?"), more.data);
}

json_t *migration_check_args(const struct migration *m)
{
	static const char *const names[] = { "stdin", "stdout", "stderr" };
	json_t *args =
		json_pack("{s:O, s:O, s:[], s:[]}", "cgroup", json_object_get(m->live, "Cgroup"),
			  "init_pid", json_object_get(m->live, "Pid"), "externals", "volumes");
	json_t *stdio, *v;
	size_t i;

	json_array_foreach (json_object_get(m->live, "Stdio"), i, stdio) {
		int64_t fd = json_int(stdio, "fd", -1);

		if (fd >= 0 && fd <= 2 && strcmp(json_str(stdio, "link", ""), "/dev/null"))
			json_array_append_new(json_object_get(args, "externals"),
					      json_pack("{s:s, s:s}", "link",
							json_str(stdio, "link", ""), "name",
							names[fd]));
	}
	json_array_foreach (json_object_get(m->doc, "volumes"), i, v)
		json_array_append(json_object_get(args, "volumes"),
				  json_object_get(v, "destination"));
	return args;
}

/* The whole preflight; nothing is paused. *obstacles: an array, perhaps empty. */
static int preflight(struct migration *m, json_t **obstacles, struct error *err)
{
	CLEANUP_FREE char *program = str_format("%s/ferry-checkpoint", m->f->bin_dir);
	CLEANUP_JSON json_t *answer = NULL;
	const char *id = json_str(m->doc, "id", "");
	json_t *list, *params;
	int64_t need;
	int r = container_inspect(m->f->containers, id, &m->live, err);

	if (!r)
		r = engine_start(program, &m->engine, err);
	if (!r)
		r = engine_call(m->engine, "check", migration_check_args(m), &answer, err);
	if (r < 0)
		return r;
	list = migration_obstacles(m);
	json_array_extend(list, json_object_get(answer, "obstacles"));
	*obstacles = list;
	m->memory_bytes = json_int(answer, "memory_bytes", 0);
	need = memory_to_carry(m->f, id); /* tmpfs that no task has open, too */
	if (need < m->memory_bytes)
		need = m->memory_bytes;
	params = json_pack("{s:O, s:I, s:O*}", "doc", m->doc, "memory_bytes", (json_int_t)need,
			   "xsave_mask", json_object_get(answer, "xsave_mask"));
	return migration_rpc(m, "migrate.admit", params, ADMIT_TIMEOUT_NS, NULL, err);
}

/* --- PREPARE ------------------------------------------------------------------------ */

int migration_mark(void *ctx, json_t *doc, struct error *err)
{
	struct migration *m = ctx;
	const json_t *other = json_object_get(doc, "migration");

	if (strcmp(json_str(doc, "host", ""), m->f->host))
		return error_set(err, EBUSY, "container %s has just moved to host %s",
				 json_str(doc, "name", ""), json_str(doc, "host", ""));
	if (json_is_object(other) && strcmp(json_str(other, "id", ""), m->id))
		return error_set(err, EBUSY, "container %s is migrating to host %s already",
				 json_str(doc, "name", ""), json_str(other, "to", "?"));
	json_object_set_new(doc, "migration", json_pack("{s:s, s:s}", "id", m->id, "to", m->to));
	return 0;
}

/*
 * The container's clocks, as seen together with the wall clock: B sets its offsets so that
 * they go on. Offsets are relative to the initial time namespace, so this host's own
 * ones are taken out.
 */
json_t *migration_clocks(const struct migration *m)
{
	struct fabric_clock own;
	const json_t *off = json_object_get(m->live, "TimeOffsets");

	fabric_clock_read(&own);
	return json_pack("{s:I, s:I, s:I}", "real_ns", (json_int_t)own.real_ns, "mono_ns",
			 (json_int_t)own.mono_ns + json_int(off, "mono_ns", 0), "boot_ns",
			 (json_int_t)own.boot_ns + json_int(off, "boot_ns", 0));
}

static int prepare(struct migration *m, struct error *err)
{
	CLEANUP_FREE char *key = container_key(json_str(m->doc, "id", ""));
	CLEANUP_JSON json_t *answer = NULL;
	json_t *args, *params;
	int r = document_change(m->f, key, migration_mark, m, NULL, err);

	if (r < 0)
		return r;
	m->marked = true;
	params = json_pack("{s:O, s:s, s:o, s:O}", "doc", m->doc, "from", m->f->host, "clocks",
			   migration_clocks(m), "stdio", json_object_get(m->live, "Stdio"));
	migrate_log_tail(m, params);
	r = migration_rpc(m, "migrate.prepare", params, PREPARE_TIMEOUT_NS, &answer, err);
	if (r < 0)
		return r;
	m->to_address = network_host_address(m->f, m->to);
	if (!m->to_address)
		return error_set(err, EHOSTUNREACH, "host %s has no address", m->to);
	args = json_pack("{s:s, s:I, s:s, s:{s:s, s:s, s:s}}", "address", m->to_address, "port",
			 (json_int_t)json_int(answer, "port", 0), "token", m->id, "tls", "cert",
			 cluster_cert_path(m->f->cluster), "key", cluster_key_path(m->f->cluster),
			 "ca", cluster_ca_path(m->f->cluster));
	json_set_int(args, "streams", m->options.streams);
	return engine_call(m->engine, "connect", args, NULL, err);
}

/* --- PRECOPY ------------------------------------------------------------------------ */

static void on_engine_event(void *ctx, json_t *event)
{
	struct migration *m = ctx;
	CLEANUP_JSON json_t *p = NULL;

	if (!m->progress)
		return;
	if (!strcmp(json_str(event, "event", ""), "throttle")) {
		p = json_pack("{s:s, s:s, s:s, s:I}", "State", "THROTTLE", "Id", m->id, "Container",
			      json_str(m->doc, "name", ""), "Percent",
			      (json_int_t)json_int(event, "percent", 0));
		m->progress(m->ctx, p);
		return;
	}
	if (strcmp(json_str(event, "event", ""), "round"))
		return;
	p = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "State", "PRECOPY", "Id",
		      m->id, "Container", json_str(m->doc, "name", ""), "Round",
		      (json_int_t)json_int(event, "n", 0), "SentBytes",
		      (json_int_t)json_int(event, "sent_bytes", 0), "RateBps",
		      (json_int_t)json_int(event, "rate_bps", 0), "DirtyBytes",
		      (json_int_t)json_int(event, "dirty_bytes", 0), "DirtyRateBps",
		      (json_int_t)json_int(event, "dirty_rate_bps", 0), "PredictedNs",
		      (json_int_t)json_int(event, "predicted_ns", 0));
	m->progress(m->ctx, p);
}

/* The upper layer, /dev/shm and tmpfs mounts: their files travel like memory does. */
static json_t *trees(struct migration *m)
{
	json_t *list = json_array(), *v;
	int64_t pid = json_int(m->live, "Pid", 0);
	const char *path;

	json_array_append_new(list, json_pack("{s:s, s:s}", "source",
					      json_str(m->live, "Upper", ""), "dest", "/"));
	json_array_append_new(list,
			      json_pack("{s:o, s:s}", "source",
					json_sprintf("/proc/%lld/root/dev/shm", (long long)pid),
					"dest", "/dev/shm"));
	json_object_foreach (json_at(m->doc, "docker.HostConfig.Tmpfs"), path, v)
		json_array_append_new(
			list, json_pack("{s:o, s:s}", "source",
					json_sprintf("/proc/%lld/root%s", (long long)pid, path),
					"dest", path));
	return list;
}

int migration_precopy(struct migration *m, struct error *err)
{
	const struct fabric_migrate_options *o = &m->options;
	CLEANUP_JSON json_t *answer = NULL;
	json_t *args = json_pack(
		"{s:I, s:I, s:s, s:b, s:o, s:b}", "downtime_ns",
		(json_int_t)(o->downtime_ns ? o->downtime_ns : DOWNTIME_NS), "timeout_ns",
		(json_int_t)(o->timeout_ns ? o->timeout_ns : PRECOPY_NS), "on_timeout",
		o->late_on_timeout    ? "postcopy"
		: o->force_on_timeout ? "go"
				      : "refuse",
		"auto_converge", !o->no_auto_converge, "trees", trees(m), "postcopy", o->postcopy);
	int r;

	if (o->tracker[0])
		json_set_str(args, "tracker", o->tracker);
	migration_keep_synced(m);
	m->engine->control.on_event = on_engine_event;
	m->engine->control.ctx = m;
	m->precopy_ns = clock_mono_ns();
	r = engine_call(m->engine, "precopy", args, &answer, err);
	m->precopy_ns = clock_mono_ns() - m->precopy_ns;
	m->engine->control.on_event = NULL;
	migration_synced(m);
	if (r < 0)
		return r;
	m->rounds = json_int(answer, "rounds", 0);
	m->bytes = json_int(answer, "bytes", 0);
	m->postcopy = json_bool(answer, "postcopy", false);
	return 0;
}

/* --- COMMIT ------------------------------------------------------------------------- */

static int unmark(void *ctx, json_t *doc, struct error *err)
{
	struct migration *m = ctx;

	(void)err;
	if (strcmp(json_str(doc, "host", ""), m->f->host)) {
		m->committed = true;
		return 1;
	}
	return json_object_del(doc, "migration") < 0 ? 1 : 0;
}

/*
 * After a failure the document decides: where it still names this host the migration is
 * taken out of it, and B's swap can no longer succeed; where it names B, B owns the
 * container. Until the store answers nothing may run, so this waits for it.
 */
void migration_decide(struct migration *m)
{
	CLEANUP_FREE char *key = container_key(json_str(m->doc, "id", ""));

	for (;;) {
		struct error err = { 0 };
		int r = document_change(m->f, key, unmark, m, NULL, &err);

		if (r >= 0 || r == -ENOENT)
			return;
		log_warn("migration %s: asking the store who owns container %s: %s", m->id,
			 json_str(m->doc, "name", ""), err.msg);
		clock_sleep_ns(500000000);
	}
}

/* B says so at once when packets flow again; what it does afterwards is no pause. */
static void on_commit_progress(void *ctx, json_t *body)
{
	struct migration *m = ctx;

	if (json_bool(body, "released", false))
		m->released_ns = clock_mono_ns();
}

static int commit(struct migration *m, struct error *err)
{
	CLEANUP_JSON json_t *answer = NULL;
	CLEANUP_JSON json_t *params =
		json_pack("{s:s, s:O*}", "migration", m->id, "flows", m->flows);
	int r;

	migrate_log_tail(m, params);
	r = rpc_call_progress(m->f->client, m->to, "migrate.commit", params, COMMIT_TIMEOUT_NS,
			      on_commit_progress, m, &answer, err);
	m->blackout_ns = (m->released_ns ? m->released_ns : clock_mono_ns()) - m->blackout_start_ns;
	if (r < 0)
		return r;
	m->committed = true;
	m->restore_ns = json_int(answer, "restore_ns", 0);
	m->commit_ns = json_int(answer, "commit_ns", 0);
	m->network_ns += json_int(answer, "release_ns", 0);
	m->verified = json_bool(answer, "verified", false);
	m->engine_restore = json_incref(json_object_get(answer, "timings"));
	return 0;
}

/* --- UNDO and CLEANUP --------------------------------------------------------------- */

/*
 * The lock of a volume comes back within moments, or once B's restarted ferryd has cleaned up.
 * A host that is lost does not: when its lease has lapsed for long, it is fenced. Until the
 * lock is ours the container must stand still, since its writes would fail.
 */
static void retake_volume(struct fabric *f, const char *name, const char *from)
{
	int64_t start = clock_mono_ns(), said = start;
	bool fenced = false;

	for (;;) {
		struct error err = { 0 };
		int r = volume_retake(f->volumes, name, &err);
		int64_t now = clock_mono_ns();

		if (!r || r == -EINVAL || r == -ENOENT)
			break;
		if (r != -EBUSY && r != -EAGAIN && r != -ETIMEDOUT) {
			log_error("taking volume %s back: %s", name, err.msg);
			break;
		}
		if (now - said > 5000000000ll) {
			log_warn("taking volume %s back: %s", name, err.msg);
			said = now;
		}
		if (from && !fenced && now - start > FENCE_AFTER_NS) {
			log_warn("host %s does not let go of volume %s: fencing it", from, name);
			fenced = volume_fence(f->volumes, from, &err) == 0;
		}
		clock_sleep_ns(now - start < 2000000000ll ? 20000000 : 250000000);
	}
	volume_thaw(f->volumes, name, NULL);
}

void migrate_take_back(struct fabric *f, const json_t *doc, const char *from)
{
	const char *id = json_str(doc, "id", "");
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(doc, "volumes"), i, v)
		retake_volume(f, json_str(v, "name", ""), from);
	netd_forward(f->netd, id, NULL, NULL);
	network_repoint(f, doc, f->host, NULL);
	netd_block_egress(f->netd, id, false, NULL);
}

static void undo(struct migration *m)
{
	CLEANUP_FREE char *socket = migrate_socket(m->f, json_str(m->doc, "id", ""));
	struct error err = { 0 };

	migration_enter(m, MIGRATION_UNDO);
	if (m->marked &&
	    migration_rpc(m, "migrate.abort", json_object(), STEP_TIMEOUT_NS, NULL, &err) < 0)
		log_warn("migration %s: host %s cleans up by itself: %s", m->id, m->to, err.msg);
	migration_repointed(m);
	if (m->turned)
		migrate_take_back(m->f, m->doc, m->to);
	error_clear(&err);
	if (m->engine && (m->frozen || m->marked) && migrate_resume(m, NULL, &err) < 0)
		log_error("migration %s: %s", m->id, err.msg);
	if (m->postcopy)
		unlink(socket);
	/* The engine may be what failed; the freezer must not keep the container then. */
	if (m->frozen)
		container_unpause(m->f->containers, json_str(m->doc, "id", ""), NULL);
}

static void clean_up(struct migration *m)
{
	CLEANUP_FREE char *socket = migrate_socket(m->f, json_str(m->doc, "id", ""));
	struct error err = { 0 };

	migration_enter(m, MIGRATION_CLEANUP);
	if (m->engine && engine_call(m->engine, "kill", NULL, NULL, &err) < 0)
		log_warn("migration %s: %s", m->id, err.msg);
	migration_repointed(m);
	container_unmake(m->f, m->doc);
	unlink(socket);
}

/*
 * What is left of the blackout: words between daemons and engines, and waiting for a
 * processor. The others follow one another, but for storage, which is beside memory.
 */
static int64_t other_ns(const struct migration *m)
{
	int64_t named = m->freeze_ns + m->network_ns + m->restore_ns + m->commit_ns;

	named += m->memory_ns > m->storage_ns ? m->memory_ns : m->storage_ns;
	return m->blackout_ns > named ? m->blackout_ns - named : 0;
}

static json_t *summary(const struct migration *m)
{
	return json_pack(
		"{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:b, s:b, "
		"s:O*, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I}, s:{s:O*, s:O*, s:O*}, s:I}",
		"State", "DONE", "Id", m->id, "Container", json_str(m->doc, "name", ""), "From",
		m->f->host, "To", m->to, "TotalNs", (json_int_t)(clock_mono_ns() - m->start_ns),
		"Rounds", (json_int_t)m->rounds, "Bytes", (json_int_t)m->bytes, "MemoryBytes",
		(json_int_t)m->memory_bytes, "BlackoutNs", (json_int_t)m->blackout_ns, "Verified",
		m->verified, "Cold", m->cold, "PostCopy", m->late, "Split", "FreezeNs",
		(json_int_t)m->freeze_ns, "StorageNs", (json_int_t)m->storage_ns, "MemoryNs",
		(json_int_t)m->memory_ns, "RestoreNs", (json_int_t)m->restore_ns, "NetworkNs",
		(json_int_t)m->network_ns, "CommitNs", (json_int_t)m->commit_ns, "OtherNs",
		(json_int_t)other_ns(m), "Engine", "dump", m->engine_dump, "restore",
		m->engine_restore, "storage", m->storage_laps, "PrecopyNs",
		(json_int_t)m->precopy_ns);
}

/* --- the machine -------------------------------------------------------------------- */

static int run_live(struct migration *m, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *obstacles = NULL;
	int r, nice;

	migration_enter(m, MIGRATION_ADMIT);
	r = preflight(m, &obstacles, err);
	if (!r && m->options.check) {
		*out = json_pack("{s:O, s:s, s:s}", "Obstacles", obstacles, "Container",
				 json_str(m->doc, "name", ""), "To", m->to);
		return 0;
	}
	if (!r && json_array_size(obstacles))
		r = migration_refuse(obstacles, err);
	if (r < 0)
		return r;
	migration_enter(m, MIGRATION_PREPARE);
	r = prepare(m, err);
	if (!r) {
		migration_enter(m, MIGRATION_PRECOPY);
		migration_warm(m);
		r = migration_precopy(m, err);
		migration_warmed(m);
	}
	nice = thread_hurry();
	rcu_expedite(true);
	if (!r) {
		migration_enter(m, MIGRATION_BLACKOUT);
		r = migration_blackout(m, err);
	}
	if (!r) {
		migration_enter(m, MIGRATION_COMMIT);
		r = commit(m, err);
	}
	rcu_expedite(false);
	thread_calm(nice);
	if (r < 0 && m->marked)
		migration_decide(m);
	if (!m->committed) {
		undo(m);
		return r;
	}
	error_clear(err);
	r = 0;
	if (m->postcopy) {
		migration_enter(m, MIGRATION_POSTCOPY);
		r = migration_serve(m, err);
	}
	clean_up(m);
	return r;
}

static int check_target(struct fabric *f, const json_t *doc, const char *host, struct error *err)
{
	CLEANUP_JSON json_t *hosts = NULL;
	CLEANUP_BUF struct buf names = { 0 };
	json_t *h;
	size_t i;
	int r;

	if (!f->cluster)
		return error_set(
			err, ENOENT,
			"unknown host %s: this host is in no cluster; see 'ferry cluster init'",
			host);
	r = host_list(f->store, &hosts, err);
	if (r < 0)
		return r;
	buf_add(&names, "", 0);
	json_array_foreach (hosts, i, h) {
		if (strcmp(json_str(h, "name", ""), host)) {
			buf_addf(&names, "%s%s", names.len ? ", " : "", json_str(h, "name", ""));
			continue;
		}
		if (!strcmp(json_str(doc, "host", ""), host))
			return error_set(err, EINVAL,
					 "container %s is on host %s already; name another host",
					 json_str(doc, "name", ""), host);
		if (!json_bool(h, "alive", false))
			return error_set(
				err, EHOSTUNREACH,
				"host %s is down; start ferryd there or choose another host", host);
		return 0;
	}
	return error_set(err, ENOENT, "unknown host %s; the hosts are: %s", host, names.data);
}

static int run(struct migration *m, json_t **out, struct error *err)
{
	CLEANUP_FREE char *key = container_key(json_str(m->doc, "id", ""));
	json_t *fresh = NULL;
	int r = document_get(m->f, key, &fresh, err);

	if (r < 0)
		return r;
	json_decref(m->doc);
	m->doc = fresh;
	r = check_target(m->f, m->doc, m->to, err);
	if (r < 0)
		return r;
	if (!strcmp(container_status(m->doc), "paused"))
		return error_set(err, EBUSY, "container %s is paused; unpause it, then migrate it",
				 json_str(m->doc, "name", ""));
	pthread_mutex_lock(&m->f->lock);
	json_object_set_new(m->f->outgoing, m->id,
			    json_pack("{s:s, s:s, s:s, s:s, s:s}", "Id", m->id, "Container",
				      json_str(m->doc, "name", ""), "From", m->f->host, "To", m->to,
				      "State", "ADMIT"));
	pthread_mutex_unlock(&m->f->lock);
	m->cold = !container_is_up(m->doc);
	r = migrate_wait_whole(m->f, m->doc, err);
	if (r < 0)
		return r;
	r = m->cold ? migrate_cold(m, err) : run_live(m, out, err);
	engine_free(m->engine);
	m->engine = NULL;
	pthread_mutex_lock(&m->f->lock);
	json_object_del(m->f->outgoing, m->id);
	pthread_mutex_unlock(&m->f->lock);
	if (!r && !*out)
		*out = summary(m);
	return r;
}

/* One attempt, under an id of its own. */
static int attempt(struct fabric *f, const json_t *doc, const char *host,
		   const struct fabric_migrate_options *options, fabric_progress *progress,
		   void *ctx, json_t **out, struct error *err)
{
	CLEANUP_FREE char *id = str_random_hex(8);
	struct migration m = {
		.f = f,
		.id = id,
		.to = host,
		.options = *options,
		.progress = progress,
		.ctx = ctx,
		.start_ns = clock_mono_ns(),
	};
	int r;

	m.doc = json_deep_copy(doc);
	*out = NULL;
	r = run(&m, out, err);
	if (!r && !options->check)
		container_event(f, m.doc, "migrate", "to", host);
	json_decref(m.doc);
	json_decref(m.live);
	json_decref(m.engine_dump);
	json_decref(m.storage_laps);
	json_decref(m.engine_restore);
	json_decref(m.late);
	json_decref(m.flows);
	json_decref(m.others);
	free(m.to_address);
	return r;
}

/*
 * Some states pass by themselves and cannot be looked at meanwhile (events that were not
 * read yet, requests in flight): the engine says EAGAIN, the container has run on, and a
 * moment later it is tried again.
 */
static int migrate_here(struct fabric *f, const json_t *doc, const char *host,
			const struct fabric_migrate_options *options, fabric_progress *progress,
			void *ctx, json_t **out, struct error *err)
{
	CLEANUP_FREE char *container = str_dup(json_str(doc, "id", ""));
	int r = op_begin(f, container, "migrating", false, err);

	if (r < 0)
		return r;
	for (int tries = 1;; tries++) {
		CLEANUP_JSON json_t *p = NULL;

		r = attempt(f, doc, host, options, progress, ctx, out, err);
		if (r != -EAGAIN || options->check || tries > RETRIES)
			break;
		log_info("migrating %s to %s, attempt %d: %s", json_str(doc, "name", ""), host,
			 tries, err->msg);
		container_event(f, doc, "migrate-retry", "reason", err->msg);
		p = json_pack("{s:s, s:s, s:s, s:i, s:s}", "State", "RETRY", "Container",
			      json_str(doc, "name", ""), "To", host, "Attempt", tries + 1, "Reason",
			      err->msg);
		if (progress)
			progress(ctx, p);
		error_clear(err);
		clock_sleep_ns(RETRY_AFTER_NS * tries);
	}
	op_end(f, container);
	return r;
}

/* --- from any host ------------------------------------------------------------------ */

int fabric_migrate(struct fabric *f, const char *ref, const char *host,
		   const struct fabric_migrate_options *options, fabric_progress *progress,
		   void *ctx, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	CLEANUP_JSON json_t *params = NULL;
	struct progress_relay relay = { progress, ctx };
	int64_t timeout = options->timeout_ns ? options->timeout_ns : PRECOPY_NS;
	int r = container_find(f, ref, &doc, err);

	if (!r)
		r = check_target(f, doc, host, err);
	if (r < 0)
		return r;
	if (container_is_local(f, doc))
		return migrate_here(f, doc, host, options, progress, ctx, out, err);
	params = json_pack("{s:s, s:s, s:I, s:I, s:b, s:b, s:b, s:b, s:b, s:b}", "container",
			   json_str(doc, "id", ""), "host", host, "downtime_ns",
			   (json_int_t)options->downtime_ns, "timeout_ns",
			   (json_int_t)options->timeout_ns, "force", options->force_on_timeout,
			   "no_auto_converge", options->no_auto_converge, "verify", options->verify,
			   "check", options->check, "postcopy", options->postcopy,
			   "late_on_timeout", options->late_on_timeout);
	json_set_str(params, "tracker", options->tracker);
	json_set_int(params, "streams", options->streams);
	if (options->postcopy || options->late_on_timeout)
		timeout += LATE_NS;
	return rpc_call_progress(f->client, json_str(doc, "host", ""), "migrate.start", params,
				 timeout + PREPARE_TIMEOUT_NS, progress_relay, &relay, out, err);
}

int migrate_rpc_start(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		      struct error *err)
{
	struct fabric *f = ctx;
	struct fabric_migrate_options o = {
		.downtime_ns = json_int(params, "downtime_ns", 0),
		.timeout_ns = json_int(params, "timeout_ns", 0),
		.force_on_timeout = json_bool(params, "force", false),
		.no_auto_converge = json_bool(params, "no_auto_converge", false),
		.verify = json_bool(params, "verify", false),
		.check = json_bool(params, "check", false),
		.postcopy = json_bool(params, "postcopy", false),
		.late_on_timeout = json_bool(params, "late_on_timeout", false),
		.streams = (int)json_int(params, "streams", 0),
	};
	CLEANUP_FREE char *key = container_key(json_str(params, "container", ""));
	CLEANUP_JSON json_t *doc = NULL;
	int r = document_get(f, key, &doc, err);

	snprintf(o.tracker, sizeof(o.tracker), "%s", json_str(params, "tracker", ""));
	if (r < 0)
		return r;
	if (!container_is_local(f, doc))
		return error_set(err, EBUSY, "container %s has just moved to host %s; try again",
				 json_str(doc, "name", ""), json_str(doc, "host", ""));
	return migrate_here(f, doc, json_str(params, "host", ""), &o, progress_send, req, result,
			    err);
}

int fabric_migration_list(struct fabric *f, json_t **out, struct error *err)
{
	const char *id;
	json_t *v;

	(void)err;
	*out = json_array();
	pthread_mutex_lock(&f->lock);
	json_object_foreach (f->outgoing, id, v)
		json_array_append(*out, v);
	pthread_mutex_unlock(&f->lock);
	return 0;
}
