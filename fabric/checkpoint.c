/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a checkpoint, on the host where the container runs.
 *
 *   state    done here                                          undo
 *   CHECK    preflight; nothing is paused                       -
 *   COPY     the intent is written; memory and files flow into  spool and intent go
 *            a spool file while the container runs
 *   FREEZE   egress blocked, tasks frozen; at the same time     snapshots go, egress opened,
 *            (a) each volume: FIFREEZE, snapshot, thaw          tasks resumed
 *            (b) the rest of memory, registers, objects
 *            leave running: resumed here
 *   KEEP     the stream is checked, copied to where it stays;   bytes and snapshots go,
 *            the document is written: the commit point          (not left running: resumed)
 *   STOP     not left running: tasks killed, all taken down     finished by the next start
 *
 * Why blocking egress is enough: what arrives after the dump is queued by the kernel but
 * cannot be acknowledged, so that a peer sends it again to whoever runs then.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/rcu.h"
#include "fabric/checkpoint_internal.h"

#define CREATE_TIMEOUT_NS 3600000000000ll
#define RETRIES		  3
#define RETRY_AFTER_NS	  200000000ll
#define SPARE_BYTES	  (64ll << 20)
#define SHOWN_PROCESSES	  256
#define SHOWN_SOCKETS	  64

struct checkpoint {
	struct migration m; /* what making one shares with a migration: check, copy, clocks */
	const char *name;
	bool leave_running;
	char *spool;
	int spool_fd;
	json_t *intent, *volumes, *clocks, *engine;
	bool begun, frozen, stopped_by_us, committed;
	int64_t pause_start_ns, pause_ns;
};

/* A moment at which a test may cut (see migrate_hold_point()). */
static void point(struct checkpoint *c, const char *name)
{
	CLEANUP_FREE char *full = str_format("CHECKPOINT-%s", name);

	migrate_hold_point(c->m.f, full);
}

static void enter(struct checkpoint *c, const char *state)
{
	CLEANUP_JSON json_t *p = json_pack("{s:s, s:s}", "State", state, "Container",
					   json_str(c->m.doc, "name", ""));

	log_debug("checkpoint %s of %s: %s", c->name, json_str(c->m.doc, "name", ""), state);
	if (c->m.progress)
		c->m.progress(c->m.ctx, p);
	point(c, state);
}

/* --- CHECK ------------------------------------------------------------------------------ */

static void add_obstacle(json_t *list, const char *what, const char *name, const char *why,
			 const char *remedy)
{
	json_array_append_new(list, json_pack("{s:i, s:i, s:s+, s:s, s:s}", "pid", 1, "fd", -1,
					      "object", what, name, "why", why, "remedy", remedy));
}

/* What no checkpoint can hold, besides what the engine finds. */
static json_t *obstacles(const struct checkpoint *c)
{
	json_t *list = json_array(), *v;
	size_t i;

	json_array_foreach (json_object_get(c->m.doc, "binds"), i, v)
		add_obstacle(list, "bind mount ", json_str(v, "source", ""),
			     "a folder of the host is in no checkpoint",
			     "use a volume of driver rbd instead");
	json_array_foreach (json_object_get(c->m.doc, "volumes"), i, v) {
		CLEANUP_JSON json_t *vol = NULL;

		if (!volume_inspect(c->m.f->volumes, json_str(v, "name", ""), &vol, NULL) &&
		    !strcmp(json_str(vol, "Driver", ""), "local"))
			add_obstacle(list, "volume ", json_str(v, "name", ""),
				     "driver local has no snapshots",
				     "copy the data to a volume of driver rbd");
	}
	if (!strcmp(json_str(c->m.doc, "network_mode", ""), "host"))
		add_obstacle(list, "host network", "", "it cannot be given to another container",
			     "run the container on a ferry network");
	return list;
}

static int want_space(struct checkpoint *c, struct error *err)
{
	int64_t need = c->m.memory_bytes + SPARE_BYTES, have;
	struct statvfs st;

	if (statvfs(c->spool, &st) < 0)
		return 0;
	have = (int64_t)st.f_bavail * (int64_t)st.f_frsize;
	if (have >= need)
		return 0;
	return error_set(err, ENOSPC,
			 "host %s has %lld MiB free below %s, the checkpoint needs some %lld MiB",
			 c->m.f->host, (long long)(have >> 20), c->m.f->state_dir,
			 (long long)(need >> 20));
}

static int check(struct checkpoint *c, struct error *err)
{
	CLEANUP_FREE char *program = str_format("%s/ferry-checkpoint", c->m.f->bin_dir);
	CLEANUP_FREE char *key = checkpoint_key(json_str(c->m.doc, "id", ""), c->name);
	CLEANUP_JSON json_t *answer = NULL;
	CLEANUP_JSON json_t *there = NULL;
	CLEANUP_JSON json_t *list = NULL;
	struct error none = { 0 };
	int r = store_get(c->m.f->store, key, &there, NULL, &none);

	if (!r)
		return error_set(err, EEXIST, "container %s has a checkpoint %s already",
				 json_str(c->m.doc, "name", ""), c->name);
	if (r != -ENOENT)
		return error_set(err, -r, "%s", none.msg);
	r = container_inspect(c->m.f->containers, json_str(c->m.doc, "id", ""), &c->m.live, err);
	if (r < 0)
		return r;
	c->spool_fd = spool_new(c->m.f, c->m.id, &c->spool, err);
	if (c->spool_fd < 0)
		return c->spool_fd;
	r = engine_start_with(program, c->spool_fd, &c->m.engine, err);
	if (!r)
		r = engine_call(c->m.engine, "check", migration_check_args(&c->m), &answer, err);
	if (r < 0)
		return r;
	list = obstacles(c);
	json_array_extend(list, json_object_get(answer, "obstacles"));
	c->m.memory_bytes = json_int(answer, "memory_bytes", 0);
	c->engine = json_pack("{s:O*}", "xsave_mask", json_object_get(answer, "xsave_mask"));
	if (json_array_size(list))
		return migration_refuse(list, err);
	return want_space(c, err);
}

/* --- COPY ----------------------------------------------------------------------------- */

static int begin(struct checkpoint *c, struct error *err)
{
	CLEANUP_FREE char *snapshot = str_format("ferry-%s", c->m.id);
	struct fabric *f = c->m.f;
	json_t *args, *v;
	size_t i;
	int r;

	c->volumes = json_array();
	json_array_foreach (json_object_get(c->m.doc, "volumes"), i, v)
		json_array_append_new(c->volumes,
				      json_pack("{s:s, s:s, s:s}", "name", json_str(v, "name", ""),
						"destination", json_str(v, "destination", ""),
						"snapshot", snapshot));
	c->intent = json_pack("{s:s, s:s, s:s, s:s, s:s, s:O, s:b}", "id", c->m.id, "kind",
			      "create", "host", f->host, "container", json_str(c->m.doc, "id", ""),
			      "name", c->name, "volumes", c->volumes, "stop", !c->leave_running);
	r = intent_begin(f, c->intent, err);
	if (r < 0)
		return r;
	c->begun = true;
	args = json_pack("{s:i}", "fd", ENGINE_FILE);
	if (f->cluster) {
		json_set_str(args, "key", cluster_key_path(f->cluster));
		json_set_str(args, "cert", cluster_cert_path(f->cluster));
	}
	r = engine_call(c->m.engine, "save", args, NULL, err);
	return r < 0 ? r : migration_precopy(&c->m, err);
}

/* --- FREEZE ----------------------------------------------------------------------------- */

struct snapshots {
	struct checkpoint *c;
	struct error err;
	int result;
};

/* The tasks stand still: once it is snapshotted a volume can be thawed. */
static void *snapshot_thread(void *arg)
{
	struct snapshots *s = arg;
	struct volumes *vs = s->c->m.f->volumes;
	json_t *v;
	size_t i;

	json_array_foreach (s->c->volumes, i, v) {
		const char *name = json_str(v, "name", "");

		s->result = volume_freeze(vs, name, &s->err);
		if (!s->result)
			s->result = volume_snapshot_create(vs, name, json_str(v, "snapshot", ""),
							   &s->err);
		volume_thaw(vs, name, NULL);
		if (s->result < 0) {
			error_wrap(&s->err, "snapshot of volume %s", name);
			break;
		}
	}
	return NULL;
}

static int dump(struct checkpoint *c, struct error *err)
{
	struct snapshots s = { .c = c };
	pthread_t thread;
	int r = pthread_create(&thread, NULL, snapshot_thread, &s);

	if (r)
		return error_sys(err, r, "starting a thread");
	r = engine_call(c->m.engine, "dump", json_pack("{s:b}", "verify", 0), NULL, err);
	pthread_join(thread, NULL);
	if (r >= 0 && s.result < 0)
		r = error_set(err, -s.result, "%s", s.err.msg);
	return r;
}

void checkpoint_let_go(struct fabric *f, const json_t *doc)
{
	const char *id = json_str(doc, "id", "");
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(doc, "volumes"), i, v)
		volume_thaw(f->volumes, json_str(v, "name", ""), NULL);
	if (json_array_size(json_object_get(doc, "endpoints")))
		netd_block_egress(f->netd, id, false, NULL);
}

/* The tasks run again: by the engine, and if it has failed by the freezer. */
static int resume(struct checkpoint *c, bool discard, struct error *err)
{
	int r;

	checkpoint_let_go(c->m.f, c->m.doc);
	r = migrate_resume(&c->m, json_pack("{s:b}", "discard", discard), err);
	container_unpause(c->m.f->containers, json_str(c->m.doc, "id", ""), NULL);
	c->frozen = false;
	c->pause_ns = clock_mono_ns() - c->pause_start_ns;
	return r;
}

static int freeze_and_dump(struct checkpoint *c, struct error *err)
{
	const char *id = json_str(c->m.doc, "id", "");
	int r;

	c->pause_start_ns = clock_mono_ns();
	r = engine_call(c->m.engine, "freeze", NULL, NULL, err);
	if (r < 0)
		return r;
	c->frozen = true;
	c->clocks = migration_clocks(&c->m);
	if (json_array_size(json_object_get(c->m.doc, "endpoints"))) {
		r = netd_block_egress(c->m.f->netd, id, true, err);
		if (r < 0)
			return r;
	}
	return dump(c, err);
}

static int freeze(struct checkpoint *c, struct error *err)
{
	int r;

	rcu_expedite(true);
	r = freeze_and_dump(c, err);
	if (!r) {
		point(c, "FROZEN");
		if (c->leave_running)
			r = resume(c, false, err);
	}
	rcu_expedite(false);
	return r;
}

/* --- KEEP ----------------------------------------------------------------------------- */

static void cut(json_t *array, size_t max)
{
	while (json_array_size(array) > max)
		json_array_remove(array, json_array_size(array) - 1);
}

/* Reads all of it back: nothing is killed for a checkpoint that cannot be read. */
static int inspect(struct checkpoint *c, struct error *err)
{
	CLEANUP_FREE char *program = str_format("%s/ferry-checkpoint", c->m.f->bin_dir);
	CLEANUP_FREE char *text = str_format("%s.json", c->spool);
	const char *ca = c->m.f->cluster ? cluster_ca_path(c->m.f->cluster) : NULL;
	const char *const argv[] = {
		"sh",	 "-c",	   "exec \"$0\" --inspect \"$1\" ${3:+--ca \"$3\"} >\"$2\"",
		program, c->spool, text,
		ca,	 NULL
	};
	json_t *json = NULL;
	int r = process_run(argv, NULL, err);

	if (!r) {
		json = json_parse_file(text, 256 << 20, err);
		r = json ? 0 : -EINVAL;
	}
	unlink(text);
	if (r < 0)
		return error_wrap(err, "reading the checkpoint back");
	cut(json_object_get(json, "processes"), SHOWN_PROCESSES);
	cut(json_object_get(json, "sockets"), SHOWN_SOCKETS);
	json_object_update_missing(c->engine, json);
	json_decref(json);
	return 0;
}

static json_t *document(const struct checkpoint *c, uint64_t bytes)
{
	json_t *doc = json_deep_copy(c->m.doc), *out;

	json_object_del(doc, "migration");
	out = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:I, s:s, s:s, s:I, s:O, s:O, s:o, "
			"s:O, s:O, s:b}",
			"id", c->m.id, "name", c->name, "container", json_str(doc, "id", ""),
			"container_name", json_str(doc, "name", ""), "host", c->m.f->host,
			"created_ns", (json_int_t)json_int(c->clocks, "real_ns", 0), "place",
			blob_shared(c->m.f) ? "rados" : "file", "bytes", (json_int_t)bytes, "image",
			json_str(doc, "image", ""), "image_ref", json_str(doc, "image_ref", ""),
			"memory_bytes", (json_int_t)c->m.memory_bytes, "clocks", c->clocks, "stdio",
			json_object_get(c->m.live, "Stdio"), "doc", doc, "volumes", c->volumes,
			"engine", c->engine, "left_running", c->leave_running);
	if (json_object_get(c->engine, "xsave_mask"))
		json_object_set(out, "xsave_mask", json_object_get(c->engine, "xsave_mask"));
	if (c->m.f->cluster)
		json_set_str(out, "cluster", cluster_id(c->m.f->cluster));
	return out;
}

/* The commit point. A store that does not say whether it was written is asked again. */
static int commit(struct checkpoint *c, json_t *doc, struct error *err)
{
	CLEANUP_FREE char *key = checkpoint_key(json_str(c->m.doc, "id", ""), c->name);

	for (;;) {
		CLEANUP_JSON json_t *there = NULL;
		int r;

		error_clear(err);
		r = store_put(c->m.f->store, key, doc, STORE_ABSENT, NULL, err);
		if (r == -ECANCELED && !store_get(c->m.f->store, key, &there, NULL, NULL)) {
			if (!strcmp(json_str(there, "id", ""), c->m.id))
				return 0;
			return error_set(err, EEXIST, "container %s has a checkpoint %s already",
					 json_str(c->m.doc, "name", ""), c->name);
		}
		if (r != -ETIMEDOUT && r != -EHOSTUNREACH)
			return r;
		log_warn("checkpoint %s: the store does not say whether it is kept: %s", c->name,
			 err->msg);
		clock_sleep_ns(200000000);
	}
}

static int keep(struct checkpoint *c, json_t **doc, struct error *err)
{
	uint64_t bytes = 0;
	int r = inspect(c, err);

	if (!r)
		r = blob_write(c->m.f, c->m.id, c->spool_fd, &bytes, err);
	if (r < 0)
		return r;
	point(c, "KEPT");
	*doc = document(c, bytes);
	r = commit(c, *doc, err);
	if (!r)
		c->committed = true;
	return r;
}

/* --- STOP, undo --------------------------------------------------------------------------- */

static int set_stopped(void *ctx, json_t *doc, struct error *err)
{
	(void)ctx;
	(void)err;
	json_set_str(doc, "desired", "stopped");
	return 0;
}

/* Committed: only forward. Egress stays blocked, so that peers hear of no end. */
static void stop(struct checkpoint *c)
{
	const char *id = json_str(c->m.doc, "id", "");
	CLEANUP_FREE char *key = container_key(id);
	struct error err = { 0 };
	int code = 137;

	if (document_change(c->m.f, key, set_stopped, NULL, NULL, &err) < 0)
		log_warn("container %.12s: %s", id, err.msg);
	error_clear(&err);
	if (engine_call(c->m.engine, "kill", NULL, NULL, &err) < 0) {
		log_warn("container %.12s: %s", id, err.msg);
		container_kill(c->m.f->containers, id, SIGKILL, NULL);
	}
	container_wait(c->m.f->containers, id, &code, NULL);
	c->pause_ns = clock_mono_ns() - c->pause_start_ns;
	container_take_down(c->m.f, id, code);
}

static void undo(struct checkpoint *c)
{
	struct error err = { 0 };
	bool clean = true;
	json_t *v;
	size_t i;

	if (c->frozen && resume(c, true, &err) < 0)
		log_warn("checkpoint %s: %s", c->name, err.msg);
	if (!c->begun)
		return;
	json_array_foreach (c->volumes, i, v) {
		error_clear(&err);
		if (checkpoint_snapshot_drop(c->m.f, json_str(v, "name", ""),
					     json_str(v, "snapshot", ""), true, &err) < 0) {
			log_warn("checkpoint %s: %s", c->name, err.msg);
			clean = false;
		}
	}
	error_clear(&err);
	if (blob_remove(c->m.f, c->m.id, &err) < 0) {
		log_warn("checkpoint %s: %s", c->name, err.msg);
		clean = false;
	}
	intent_end(c->m.f, c->intent, clean);
}

static int run(struct checkpoint *c, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	int r;

	enter(c, "CHECK");
	r = check(c, err);
	if (!r) {
		enter(c, "COPY");
		r = begin(c, err);
	}
	if (!r) {
		enter(c, "FREEZE");
		r = freeze(c, err);
	}
	if (!r) {
		enter(c, "KEEP");
		r = keep(c, &doc, err);
	}
	if (r < 0) {
		undo(c);
		return r;
	}
	if (!c->leave_running) {
		enter(c, "STOP");
		stop(c);
	}
	intent_end(c->m.f, c->intent, true);
	*out = checkpoint_show(doc, true);
	json_set_int(*out, "PauseNs", c->leave_running ? c->pause_ns : 0);
	json_set_int(*out, "TotalNs", clock_mono_ns() - c->m.start_ns);
	json_set_int(*out, "Rounds", c->m.rounds);
	return 0;
}

/* One attempt, under an id of its own; the container's operation is held. */
static int attempt(struct fabric *f, const char *container, const char *name, bool leave_running,
		   fabric_progress *progress, void *ctx, json_t **out, struct error *err)
{
	CLEANUP_FREE char *id = str_random_hex(16);
	CLEANUP_FREE char *key = container_key(container);
	struct checkpoint c = {
		.m = { .f = f,
		       .id = id,
		       .to = "",
		       .progress = progress,
		       .ctx = ctx,
		       .options = { .force_on_timeout = true },
		       .start_ns = clock_mono_ns() },
		.name = name,
		.leave_running = leave_running,
		.spool_fd = -1,
	};
	int r = document_get(f, key, &c.m.doc, err);

	if (!r && !container_is_local(f, c.m.doc))
		r = error_set(err, EBUSY, "container %s has just moved to host %s; try again",
			      json_str(c.m.doc, "name", ""), json_str(c.m.doc, "host", ""));
	if (!r && strcmp(container_status(c.m.doc), "running"))
		r = error_set(err, EBUSY,
			      "container %s is %s; only a running one can be checkpointed",
			      json_str(c.m.doc, "name", ""), container_status(c.m.doc));
	if (!r)
		r = migrate_wait_whole(f, c.m.doc, err);
	if (!r)
		r = run(&c, out, err);
	engine_free(c.m.engine);
	if (!r)
		container_event(f, c.m.doc, "checkpoint", "checkpoint", name);
	if (c.spool_fd >= 0)
		close(c.spool_fd);
	spool_remove(&c.spool);
	json_decref(c.m.doc);
	json_decref(c.m.live);
	json_decref(c.intent);
	json_decref(c.volumes);
	json_decref(c.clocks);
	json_decref(c.engine);
	return r;
}

/* States that pass by themselves (EAGAIN) are met again, as by a migration. */
static int create_here(struct fabric *f, const json_t *known, const char *name, bool leave_running,
		       fabric_progress *progress, void *ctx, json_t **out, struct error *err)
{
	CLEANUP_FREE char *container = str_dup(json_str(known, "id", ""));
	int r;

	checkpoint_sweep(f);
	r = op_begin(f, container, "checkpointing", false, err);
	if (r < 0)
		return r;
	for (int tries = 1;; tries++) {
		r = attempt(f, container, name, leave_running, progress, ctx, out, err);
		if (r != -EAGAIN || tries > RETRIES)
			break;
		log_info("checkpoint %s of %s, attempt %d: %s", name, json_str(known, "name", ""),
			 tries, err->msg);
		error_clear(err);
		clock_sleep_ns(RETRY_AFTER_NS * tries);
	}
	op_end(f, container);
	return r;
}

/* --- from any host ---------------------------------------------------------------------- */

static int check_name(const char *name, struct error *err)
{
	if (str_is_name(name) && strlen(name) <= CHECKPOINT_NAME_MAX)
		return 0;
	return error_set(err, EINVAL,
			 "Invalid checkpoint name (%.200s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are "
			 "allowed, at most %d of them",
			 name, CHECKPOINT_NAME_MAX);
}

int fabric_checkpoint_create(struct fabric *f, const char *container, const char *name,
			     bool leave_running, fabric_progress *progress, void *ctx, json_t **out,
			     struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	CLEANUP_JSON json_t *params = NULL;
	struct progress_relay relay = { progress, ctx };
	int r = check_name(name, err);

	if (!r)
		r = container_find(f, container, &doc, err);
	if (r < 0)
		return r;
	if (container_is_local(f, doc))
		return create_here(f, doc, name, leave_running, progress, ctx, out, err);
	params = json_pack("{s:s, s:s, s:b}", "container", json_str(doc, "id", ""), "name", name,
			   "leave_running", leave_running);
	return rpc_call_progress(f->client, json_str(doc, "host", ""), "checkpoint.create", params,
				 CREATE_TIMEOUT_NS, progress_relay, &relay, out, err);
}

int checkpoint_rpc_create(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
			  struct error *err)
{
	struct fabric *f = ctx;
	const char *name = NULL;
	CLEANUP_FREE char *key = container_key(json_str(params, "container", ""));
	CLEANUP_JSON json_t *doc = NULL;
	int r = json_want_str(params, "name", true, &name, err);

	if (!r)
		r = check_name(name, err);
	if (!r)
		r = document_get(f, key, &doc, err);
	return r < 0 ? r
		     : create_here(f, doc, name, json_bool(params, "leave_running", false),
				   progress_send, req, result, err);
}
