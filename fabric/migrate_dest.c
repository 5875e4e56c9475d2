/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration, at the destination: RPC methods that the source calls in order, each of
 * which may be repeated, and the commit, which is made here.
 *
 *   migrate.admit    nothing is changed: memory, CPU, image, ports
 *   migrate.prepare  image, container files, endpoint (standby), volumes (standby), a stub
 *                    process, an engine that listens for the source's
 *   migrate.hold     packets are queued from now on
 *   migrate.storage  volumes taken (tentatively), mounted in the stub's namespace; without
 *                    volumes there is no such call
 *   migrate.claim    meanwhile the source has given their locks away: taken
 *   migrate.commit   everything is built; the document is swapped; it runs
 *
 * From the moment the storage is there a thread waits for the engine to have built everything,
 * and arms it, so that a commit finds it done.
 *   migrate.abort    all of it away again
 *
 * What comes between is given up when the document stops naming the migration (the source
 * has undone it) or this daemon restarts without the document naming this host.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/rcu.h"
#include "fabric/migrate.h"

struct incoming {
	struct incoming *next;
	char *id; /* of the migration */
	char *container, *from;
	json_t *doc;
	struct engine *engine;
	pid_t stub;
	bool committed; /* the document names us: only forward */
	bool claimed;	/* the locks of its volumes are ours */
	bool arming;	/* arm_thread() was started */
	int armed;	/* what came of it: 1, or -errno with arm_error; 0: not yet */
	struct error arm_error;
	json_t *restored; /* the engine's word on what it has built */
	bool ending;	  /* somebody is taking it down */
	int users;	  /* RPC handlers that work on it */
};

/* --- the list ----------------------------------------------------------------------- */

static struct incoming *incoming_get(struct fabric *f, const char *id)
{
	struct incoming *in;

	pthread_mutex_lock(&f->lock);
	for (in = f->incoming; in; in = in->next)
		if (!strcmp(in->id, id) && !in->ending)
			break;
	if (in)
		in->users++;
	pthread_mutex_unlock(&f->lock);
	return in;
}

static void incoming_put(struct fabric *f, struct incoming *in)
{
	pthread_mutex_lock(&f->lock);
	in->users--;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

static struct incoming *incoming_new(struct fabric *f, const char *id, const char *from,
				     json_t *doc)
{
	struct incoming *in = mem_zalloc(sizeof(*in));

	in->id = str_dup(id);
	in->from = str_dup(from);
	in->container = str_dup(json_str(doc, "id", ""));
	in->doc = json_deep_copy(doc);
	in->users = 1;
	pthread_mutex_lock(&f->lock);
	in->next = f->incoming;
	f->incoming = in;
	pthread_mutex_unlock(&f->lock);
	return in;
}

/* Off the list once nobody works on it; true for the one caller that takes it down. */
static bool incoming_end(struct fabric *f, struct incoming *in, int own_users)
{
	struct incoming **p;

	pthread_mutex_lock(&f->lock);
	if (in->ending) {
		pthread_mutex_unlock(&f->lock);
		return false;
	}
	in->ending = true;
	pthread_cond_broadcast(&f->changed);
	while (in->users > own_users)
		pthread_cond_wait(&f->changed, &f->lock);
	for (p = &f->incoming; *p; p = &(*p)->next) {
		if (*p == in) {
			*p = in->next;
			break;
		}
	}
	pthread_mutex_unlock(&f->lock);
	return true;
}

static void incoming_free(struct incoming *in)
{
	engine_free(in->engine);
	json_decref(in->restored);
	free(in->id);
	free(in->container);
	free(in->from);
	json_decref(in->doc);
	free(in);
}

/* --- taking it down ----------------------------------------------------------------- */

static void give_volumes_back(struct fabric *f, const json_t *doc)
{
	struct error err = { 0 };
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(doc, "volumes"), i, v) {
		const char *name = json_str(v, "name", "");

		volume_unmount(f->volumes, name, NULL);
		volume_abandon(f->volumes, name, NULL);
		error_clear(&err);
		if (volume_detach(f->volumes, name, &err) < 0)
			log_warn("volume %s after an undone migration: %s", name, err.msg);
	}
}

void migrate_abort_armed(struct fabric *f, const char *container)
{
	CLEANUP_FREE char *path = migrate_socket(f, container);
	struct engine *armed = NULL;

	if (!engine_reach(path, &armed, NULL))
		engine_call(armed, "abort", NULL, NULL, NULL);
	engine_free(armed);
	unlink(path);
}

void migrate_drop_skeleton(struct fabric *f, const json_t *doc, const char *from)
{
	const char *id = json_str(doc, "id", "");
	CLEANUP_FREE char *from_address = from ? network_host_address(f, from) : NULL;
	struct error err = { 0 };

	migrate_abort_armed(f, id);
	if (container_remove(f->containers, id, &err) < 0 && err.code != ENOENT)
		log_warn("removing the skeleton of container %.12s: %s", id, err.msg);
	if (from_address)
		netd_forward(f->netd, id, from_address, NULL); /* what was held goes back */
	container_endpoints_down(f, doc);
	give_volumes_back(f, doc);
}

static void abort_incoming(struct fabric *f, struct incoming *in, int own_users)
{
	if (in->engine)
		engine_kill(in->engine); /* whatever waits on it returns */
	if (!incoming_end(f, in, own_users))
		return;
	log_info("migration %s of container %.12s from host %s is undone", in->id, in->container,
		 in->from);
	engine_free(in->engine);
	in->engine = NULL;
	migrate_drop_skeleton(f, in->doc, in->from);
	incoming_free(in);
}

struct abort_job {
	struct fabric *f;
	char id[64];
};

static void *abort_thread(void *arg)
{
	struct abort_job *job = arg;
	struct incoming *in = incoming_get(job->f, job->id);

	if (in)
		abort_incoming(job->f, in, 1);
	free(job);
	return NULL;
}

void migrate_watch(struct fabric *f, const json_t *doc)
{
	const char *id = json_str(doc, "id", "");
	struct incoming *in;
	pthread_t thread;
	struct abort_job *job = NULL;

	pthread_mutex_lock(&f->lock);
	for (in = f->incoming; in; in = in->next) {
		if (strcmp(in->container, id) || in->ending || in->committed ||
		    !strcmp(json_str(doc, "host", ""), f->host) ||
		    !strcmp(json_str(json_object_get(doc, "migration"), "id", ""), in->id))
			continue;
		job = mem_zalloc(sizeof(*job));
		job->f = f;
		snprintf(job->id, sizeof(job->id), "%s", in->id);
		break;
	}
	pthread_mutex_unlock(&f->lock);
	if (!job)
		return;
	if (pthread_create(&thread, NULL, abort_thread, job))
		free(job);
	else
		pthread_detach(thread);
}

/* --- admit ------------------------------------------------------------------------------------ */

static int rpc_admit(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		     struct error *err)
{
	struct fabric *f = ctx;
	const json_t *doc = json_object_get(params, "doc");
	CLEANUP_JSON json_t *image = NULL;
	int r;

	(void)result;
	r = memory_admit(f, json_int(params, "memory_bytes", 0), err);
	if (!r)
		r = cpu_admit(f, (uint64_t)json_int(params, "xsave_mask", 0), err);
	if (r < 0)
		return r;
	r = image_ensure(f, json_str(doc, "image", ""), rpc_request_peer(req), &image, err);
	if (r < 0)
		return error_wrap(err, "host %s lacks the container's image", f->host);
	return 0;
}

/* --- prepare ------------------------------------------------------------------------ */

static int standby_volumes(struct fabric *f, const json_t *doc, struct error *err)
{
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(doc, "volumes"), i, v) {
		int r = volume_attach(f->volumes, json_str(v, "name", ""), VOLUME_STANDBY, err);

		if (r < 0)
			return error_wrap(err, "volume %s", json_str(v, "name", ""));
	}
	return 0;
}

char *migrate_socket(struct fabric *f, const char *container)
{
	return str_format("%s/migrations/%.12s.sock", f->run_dir, container);
}

json_t *migrate_externals(const json_t *stdio)
{
	static const char *const names[] = { "stdin", "stdout", "stderr" };
	json_t *externals = json_array(), *s;
	size_t i;

	json_array_foreach (stdio, i, s) {
		int64_t fd = json_int(s, "fd", -1);

		if (fd >= 0 && fd <= 2 && strcmp(json_str(s, "link", ""), "/dev/null"))
			json_array_append_new(externals, json_pack("{s:s, s:I}", "name", names[fd],
								   "fd_of_stub", (json_int_t)fd));
	}
	return externals;
}

static int start_engine(struct fabric *f, struct incoming *in, const json_t *stdio,
			json_int_t *port, struct error *err)
{
	CLEANUP_FREE char *program = str_format("%s/ferry-checkpoint", f->bin_dir);
	CLEANUP_JSON json_t *live = NULL;
	CLEANUP_JSON json_t *answer = NULL;
	CLEANUP_JSON json_t *externals = migrate_externals(stdio);
	json_t *args;
	int r = engine_start(program, &in->engine, err);

	if (!r)
		r = container_inspect(f->containers, in->container, &live, err);
	if (r < 0)
		return r;
	args = json_pack("{s:i, s:O, s:O, s:s, s:s, s:{s:s, s:s, s:s}}", "init_pid", (int)in->stub,
			 "cgroup", json_object_get(live, "Cgroup"), "externals", externals,
			 "listen", cluster_address(f->cluster), "token", in->id, "tls", "cert",
			 cluster_cert_path(f->cluster), "key", cluster_key_path(f->cluster), "ca",
			 cluster_ca_path(f->cluster));
	r = engine_call(in->engine, "prepare", args, &answer, err);
	*port = json_int(answer, "port", 0);
	return r;
}

static void append_log(struct fabric *f, const char *container, const json_t *params)
{
	const char *tail = json_str(params, "log", NULL);
	CLEANUP_JSON json_t *live = NULL;
	CLEANUP_CLOSE int fd = -1;

	if (!tail || container_inspect(f->containers, container, &live, NULL) < 0)
		return;
	fd = open(json_str(live, "LogPath", ""), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
	if (fd < 0 || fd_write_all(fd, tail, strlen(tail)) < 0)
		log_warn("container %.12s: the log of the source host was not taken over",
			 container);
}

static int build_skeleton(struct fabric *f, struct incoming *in, json_t *params, json_int_t *port,
			  struct error *err)
{
	struct container_time_offsets offsets;
	CLEANUP_JSON json_t *image = NULL;
	CLEANUP_FREE char *netns = NULL;
	int r = image_ensure(f, json_str(in->doc, "image", ""), in->from, &image, err);

	if (!r)
		r = container_materialise(f, in->doc, err);
	if (!r) {
		append_log(f, in->container, params);
		r = standby_volumes(f, in->doc, err);
	}
	if (!r)
		r = container_endpoints_up(f, in->doc, true, &netns, err);
	if (r < 0)
		return r;
	offsets = migrate_offsets(json_object_get(params, "clocks"));
	r = container_launch(f, in->doc, netns, true, &offsets, &in->stub, err);
	return r < 0 ? r : start_engine(f, in, json_object_get(params, "stdio"), port, err);
}

static int rpc_prepare(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		       struct error *err)
{
	struct fabric *f = ctx;
	json_t *doc = json_object_get(params, "doc");
	const char *id = json_str(params, "migration", ""), *from = rpc_request_peer(req);
	struct incoming *in;
	json_int_t port = 0;
	int r;

	if (!json_is_object(doc) || !*id || !from)
		return error_set(err, EINVAL, "migrate.prepare: not a migration");
	in = incoming_new(f, id, from, doc);
	r = build_skeleton(f, in, params, &port, err);
	if (r < 0) {
		abort_incoming(f, in, 1);
		return r;
	}
	*result = json_pack("{s:I}", "port", port);
	incoming_put(f, in);
	return 0;
}

/* --- armed -------------------------------------------------------------------------- */

struct arm_job {
	struct fabric *f;
	struct incoming *in; /* one of its users */
};

static void *arm_thread(void *arg)
{
	struct arm_job *job = arg;
	struct incoming *in = job->in;
	struct fabric *f = job->f;
	CLEANUP_FREE char *path = migrate_socket(f, in->container);
	CLEANUP_FREE char *folder = str_format("%s/migrations", f->run_dir);
	CLEANUP_FREE char *note = migrate_note(f, in->container);
	struct error err = { 0 };
	json_t *restored = NULL;
	int r = dir_make(folder, 0700, &err);

	if (!r)
		r = engine_call(in->engine, "storage_ready", NULL, NULL, &err);
	if (!r)
		r = engine_call(in->engine, "wait_restored",
				json_pack("{s:s, s:s}", "socket", path, "note", note), &restored,
				&err);
	pthread_mutex_lock(&f->lock);
	in->restored = restored;
	in->armed = r < 0 ? r : 1;
	in->arm_error = err;
	in->users--;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
	free(job);
	return NULL;
}

/* Its storage is there. */
static int begin_arming(struct fabric *f, struct incoming *in, struct error *err)
{
	struct arm_job *job;
	pthread_t thread;
	bool begun;
	int r;

	pthread_mutex_lock(&f->lock);
	begun = in->arming;
	in->arming = true;
	in->users += !begun;
	pthread_mutex_unlock(&f->lock);
	if (begun)
		return 0;
	job = mem_zalloc(sizeof(*job));
	*job = (struct arm_job){ f, in };
	r = pthread_create(&thread, NULL, arm_thread, job);
	if (!r) {
		pthread_detach(thread);
		return 0;
	}
	free(job);
	pthread_mutex_lock(&f->lock);
	in->arming = false;
	in->users--;
	pthread_mutex_unlock(&f->lock);
	return error_sys(err, r, "starting a thread");
}

static int wait_armed(struct fabric *f, struct incoming *in, struct error *err)
{
	int r;

	pthread_mutex_lock(&f->lock);
	while (in->arming && !in->armed && !in->ending)
		pthread_cond_wait(&f->changed, &f->lock);
	r = in->armed;
	if (r < 0 && err)
		*err = in->arm_error;
	pthread_mutex_unlock(&f->lock);
	return r ? r : error_set(err, ECANCELED, "a commit before the storage was there");
}

/* --- hold, storage ------------------------------------------------------------------ */

static int incoming_want(struct fabric *f, const json_t *params, struct incoming **in,
			 struct error *err)
{
	*in = incoming_get(f, json_str(params, "migration", ""));
	return *in ? 0
		   : error_set(err, ECANCELED,
			       "host %s knows nothing of migration %s: it was undone", f->host,
			       json_str(params, "migration", ""));
}

static int rpc_hold(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		    struct error *err)
{
	struct fabric *f = ctx;
	struct incoming *in;
	int r = incoming_want(f, params, &in, err), nice;

	(void)req;
	(void)result;
	if (r < 0)
		return r;
	nice = thread_hurry();
	rcu_expedite(true);
	if (json_array_size(json_object_get(in->doc, "endpoints")))
		r = netd_hold(f->netd, in->container, err);
	rcu_expedite(false);
	if (!r && !json_array_size(json_object_get(in->doc, "volumes")))
		r = begin_arming(f, in, err);
	thread_calm(nice);
	incoming_put(f, in);
	return r;
}

static int take_volumes(struct fabric *f, struct incoming *in, json_t **laps, struct error *err)
{
	int64_t promote_ns = 0, mount_ns = 0;
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(in->doc, "volumes"), i, v) {
		const char *name = json_str(v, "name", "");
		CLEANUP_FREE char *path = NULL;
		int64_t t0 = clock_mono_ns(), t1;
		int r = volume_preview(f->volumes, name, err);

		t1 = clock_mono_ns();
		if (!r)
			r = volume_mount(f->volumes, name, &path, err);
		if (!r)
			r = container_mount_into(in->stub, path, json_str(v, "destination", ""),
						 !json_bool(v, "rw", true), err);
		if (r < 0)
			return error_wrap(err, "volume %s", name);
		promote_ns += t1 - t0;
		mount_ns += clock_mono_ns() - t1;
	}
	*laps = json_pack("{s:I, s:I}", "promote_ns", (json_int_t)promote_ns, "mount_ns",
			  (json_int_t)mount_ns);
	return begin_arming(f, in, err);
}

static int rpc_claim(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		     struct error *err)
{
	struct fabric *f = ctx;
	struct incoming *in;
	int r = incoming_want(f, params, &in, err);
	json_t *v;
	size_t i;

	(void)req;
	(void)result;
	if (r < 0)
		return r;
	json_array_foreach (json_object_get(in->doc, "volumes"), i, v)
		if (!r)
			r = volume_claim(f->volumes, json_str(v, "name", ""), err);
	in->claimed = !r;
	incoming_put(f, in);
	return r;
}

static int rpc_storage(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		       struct error *err)
{
	struct fabric *f = ctx;
	struct incoming *in;
	int r = incoming_want(f, params, &in, err), nice;

	(void)req;
	if (r < 0)
		return r;
	nice = thread_hurry();
	rcu_expedite(true);
	r = take_volumes(f, in, result, err);
	rcu_expedite(false);
	thread_calm(nice);
	incoming_put(f, in);
	return r;
}

/* --- commit ------------------------------------------------------------------------- */

struct swap {
	struct fabric *f;
	const char *from, *migration;
};

static int swap_host(void *ctx, json_t *doc, struct error *err)
{
	struct swap *s = ctx;

	if (!strcmp(json_str(doc, "host", ""), s->f->host))
		return 1; /* an earlier try had got through after all */
	if (strcmp(json_str(doc, "host", ""), s->from) ||
	    strcmp(json_str(json_object_get(doc, "migration"), "id", ""), s->migration))
		return error_set(err, ECANCELED, "host %s has undone migration %s", s->from,
				 s->migration);
	json_set_str(doc, "host", s->f->host);
	json_object_del(doc, "migration");
	return 0;
}

int migrate_swap(struct fabric *f, const char *container, const char *from, const char *migration,
		 struct error *err)
{
	CLEANUP_FREE char *key = container_key(container);
	struct swap s = { f, from, migration };

	for (;;) {
		int r;

		error_clear(err);
		r = document_change_known(f, key, swap_host, &s, err);
		/* Unknown whether it was written: the same swap again finds out. */
		if (r != -ETIMEDOUT && r != -EHOSTUNREACH)
			return r;
		log_warn("migration %s: the store does not say whether it is committed: %s",
			 migration, err->msg);
		clock_sleep_ns(200000000);
	}
}

/* After the swap: everything here is tried to the end; what fails is logged. */
static void settle_volumes(struct fabric *f, const json_t *doc)
{
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(doc, "volumes"), i, v) {
		struct error err = { 0 };

		if (volume_settle(f->volumes, json_str(v, "name", ""), &err) < 0)
			log_error("volume %s: %s", json_str(v, "name", ""), err.msg);
	}
}

static void settle_rest(struct fabric *f, const json_t *doc)
{
	const char *id = json_str(doc, "id", "");
	struct error err = { 0 };

	if (container_adopt(f->containers, id, &err) < 0)
		log_error("container %.12s: %s", id, err.msg);
	error_clear(&err);
	if (container_publish(f, doc, &err) < 0)
		log_error("container %.12s: %s", id, err.msg);
	error_clear(&err);
	if (container_state_save(f, id, "running", &err) < 0)
		log_error("container %.12s: %s", id, err.msg);
}

void migrate_settle(struct fabric *f, const json_t *doc)
{
	settle_volumes(f, doc);
	settle_rest(f, doc);
}

void migrate_roll_forward(struct fabric *f, const json_t *doc)
{
	const char *id = json_str(doc, "id", "");
	CLEANUP_FREE char *path = migrate_socket(f, id);
	CLEANUP_JSON json_t *ran = NULL;
	struct engine *e = NULL;
	struct error err = { 0 };

	container_adopt_begin(f->containers, id, NULL);
	if (!engine_reach(path, &e, NULL) && engine_call(e, "run", NULL, &ran, &err) < 0)
		log_error("container %.12s: %s", id, err.msg);
	if (json_bool(ran, "postcopy", false)) {
		migrate_watch_memory(f, doc, e, "the host it came from");
	} else {
		engine_free(e);
		unlink(path);
	}
	if (json_array_size(json_object_get(doc, "endpoints")))
		netd_release(f->netd, id, NULL);
	migrate_settle(f, doc);
}

static void *settle_thread(void *arg)
{
	const struct arm_job *job = arg;

	settle_volumes(job->f, job->in->doc);
	return NULL;
}

static int commit(struct fabric *f, struct incoming *in, struct rpc_request *req, json_t *params,
		  json_t **result, struct error *err)
{
	CLEANUP_FREE char *path = migrate_socket(f, in->container);
	CLEANUP_JSON json_t *released = json_pack("{s:b}", "released", 1);
	CLEANUP_JSON json_t *ran = NULL;
	bool connected = json_array_size(json_object_get(in->doc, "endpoints")) > 0;
	bool volumes = json_array_size(json_object_get(in->doc, "volumes")) > 0, settling;
	struct arm_job job = { f, in };
	struct error why = { 0 };
	pthread_t thread;
	int64_t t0 = clock_mono_ns(), t1, t2, t3, run_ns;
	int r, nice;

	if (volumes && !in->claimed)
		return error_set(err, EPROTO, "a commit before the volumes' locks changed hands");
	nice = thread_hurry();
	if (connected && json_object_get(params, "flows"))
		netd_flows_import(f->netd, in->container, json_object_get(params, "flows"), NULL);
	append_log(f, in->container, params);
	r = wait_armed(f, in, err);
	t1 = clock_mono_ns();
	if (r >= 0) {
		migrate_hold_point(f, "ARMED");
		r = migrate_swap(f, in->container, in->from, in->id, err);
	}
	if (r < 0) {
		thread_calm(nice);
		return r;
	}
	in->committed = true;
	migrate_hold_point(f, "SWAPPED");
	t2 = clock_mono_ns();
	/* The first thing that is written durably waits for it. */
	settling = volumes && pthread_create(&thread, NULL, settle_thread, &job) == 0;
	/* It may end the moment it runs; migrate_settle() tells what fails here. */
	container_adopt_begin(f->containers, in->container, NULL);
	if (engine_call(in->engine, "run", NULL, &ran, &why) < 0)
		log_error("container %.12s: %s", in->container, why.msg);
	if (json_bool(ran, "postcopy", false)) {
		migrate_watch_memory(f, in->doc, in->engine, in->from);
		in->engine = NULL;
	} else {
		unlink(path);
	}
	run_ns = clock_mono_ns() - t2;
	error_clear(&why);
	if (connected && netd_release(f->netd, in->container, &why) < 0)
		log_error("container %.12s: %s", in->container, why.msg);
	t3 = clock_mono_ns();
	rpc_progress(req, released);
	thread_calm(nice);
	if (settling)
		pthread_join(thread, NULL);
	else
		settle_volumes(f, in->doc);
	settle_rest(f, in->doc);
	*result = json_pack("{s:I, s:I, s:I, s:b, s:O*}", "restore_ns",
			    (json_int_t)(t1 - t0 + run_ns), "commit_ns", (json_int_t)(t2 - t1),
			    "release_ns", (json_int_t)(t3 - t2 - run_ns), "verified",
			    json_bool(in->restored, "verified", false), "timings",
			    json_object_get(in->restored, "timings"));
	return 0;
}

static int rpc_commit(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		      struct error *err)
{
	struct fabric *f = ctx;
	struct incoming *in;
	int r = incoming_want(f, params, &in, err);

	if (r < 0)
		return r;
	rcu_expedite(true);
	r = commit(f, in, req, params, result, err);
	rcu_expedite(false);
	if (r < 0 && !in->committed) {
		abort_incoming(f, in, 1);
		return r;
	}
	if (incoming_end(f, in, 1)) {
		CLEANUP_JSON json_t *doc = NULL;

		if (!container_find(f, in->container, &doc, NULL))
			container_event(f, doc, "migrated", "from", in->from);
		incoming_free(in);
	}
	return r;
}

static int rpc_abort(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		     struct error *err)
{
	struct fabric *f = ctx;
	struct incoming *in = incoming_get(f, json_str(params, "migration", ""));

	(void)req;
	(void)result;
	(void)err;
	if (in && in->committed)
		incoming_put(f, in);
	else if (in)
		abort_incoming(f, in, 1);
	return 0;
}

const struct rpc_method migrate_methods[] = {
	{ "migrate.start", migrate_rpc_start, NULL, 0 }, { "migrate.admit", rpc_admit, NULL, 0 },
	{ "migrate.prepare", rpc_prepare, NULL, 0 },	 { "migrate.hold", rpc_hold, NULL, 0 },
	{ "migrate.storage", rpc_storage, NULL, 0 },	 { "migrate.claim", rpc_claim, NULL, 0 },
	{ "migrate.commit", rpc_commit, NULL, 0 },	 { "migrate.abort", rpc_abort, NULL, 0 },
	{ "migrate.cold", NULL, migrate_rpc_cold, 0 },	 { NULL, NULL, NULL, 0 },
};
