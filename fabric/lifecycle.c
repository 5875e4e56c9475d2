/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's life: start, stop, restart, kill, pause, rename, remove, and what follows
 * when it ends by itself. Each runs as one operation on the host that owns the container.
 *
 *	created ──start──► running ──pause──► paused
 *	                    │  ▲ ◄──unpause───┘
 *	        ended, stop ▼  │ start, restart policy
 *	                   exited ──remove──► (gone)
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/process.h"
#include "fabric/internal.h"

#define OP_TIMEOUT_NS 90000000000ll
#define KILL_WAIT_NS  10000000000ll

/* --- state in the document ---------------------------------------------------------- */

struct save {
	struct fabric *f;
	json_t *state; /* of the manager; NULL: unknown to it */
	const char *desired;
	bool ended; /* it has ended just now */
};

static int save_state(void *ctx, json_t *doc, struct error *err)
{
	struct save *s = ctx;
	static const char *const keys[] = { "Status",	 "Pid",	      "ExitCode",  "Error",
					    "OOMKilled", "StartedAt", "FinishedAt" };
	json_t *state = json_object_get(doc, "state");

	(void)err;
	if (strcmp(json_str(doc, "host", ""), s->f->host))
		return 1; /* it is another's by now */
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		json_t *v = json_object_get(s->state, keys[i]);

		if (v)
			json_object_set(state, keys[i], v);
	}
	/*
	 * Just started or paused, and over already: what follows its end (container_take_down())
	 * waits for this operation and must still find it running.
	 */
	if (!s->ended && !strcmp(json_str(state, "Status", ""), "exited"))
		json_set_str(state, "Status", "running");
	if (s->ended)
		json_set_int(state, "exits", json_int(state, "exits", 0) + 1);
	if (s->desired)
		json_set_str(doc, "desired", s->desired);
	return 0;
}

static int save(struct fabric *f, const char *id, const char *desired, bool ended, json_t **doc,
		struct error *err)
{
	CLEANUP_JSON json_t *state = NULL;
	CLEANUP_FREE char *key = container_key(id);
	struct save s = { f, NULL, desired, ended };
	int r = container_inspect(f->containers, id, &state, err);

	if (r < 0)
		return r;
	s.state = state;
	return document_change(f, key, save_state, &s, doc, err);
}

int container_state_save(struct fabric *f, const char *id, const char *desired, struct error *err)
{
	return save(f, id, desired, false, NULL, err);
}

/* --- sending an operation to the owner ---------------------------------------------- */

int container_forward(struct fabric *f, const json_t *doc, const char *op, json_t *args,
		      int64_t timeout_ns, json_t **result, struct error *err)
{
	CLEANUP_JSON json_t *params = json_pack("{s:s, s:s, s:O*}", "op", op, "id",
						json_str(doc, "id", ""), "args", args);

	if (!f->client)
		return error_set(err, EHOSTUNREACH,
				 "container %s belongs to host %s, and this host is in no cluster",
				 json_str(doc, "name", ""), json_str(doc, "host", ""));
	return rpc_call(f->client, json_str(doc, "host", ""), "container.op", params, timeout_ns,
			result, err);
}

/* --- start -------------------------------------------------------------------------- */

static int start_here(struct fabric *f, const json_t *doc, struct error *err)
{
	const char *id = json_str(doc, "id", "");
	CLEANUP_FREE char *netns = NULL;
	int r = container_volumes_up(f, doc, err);

	if (r < 0)
		return r;
	r = container_endpoints_up(f, doc, false, &netns, err);
	if (!r)
		r = container_publish(f, doc, err);
	if (!r)
		r = container_launch(f, doc, netns, false, NULL, NULL, err);
	if (!r) {
		r = container_state_save(f, id, "running", err);
		if (r < 0)
			container_stop(f->containers, id, 0, NULL);
	}
	if (r < 0) {
		container_endpoints_down(f, doc);
		container_volumes_down(f, doc, NULL);
		return r;
	}
	container_event(f, doc, "start", NULL, NULL);
	return 0;
}

int fabric_container_start(struct fabric *f, const char *ref, bool *already, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	CLEANUP_JSON json_t *fresh = NULL;
	CLEANUP_FREE char *key = NULL;
	const char *id;
	int r = container_find(f, ref, &doc, err);

	if (already)
		*already = false;
	if (r < 0)
		return r;
	if (!container_is_local(f, doc)) {
		CLEANUP_JSON json_t *result = NULL;

		r = container_forward(f, doc, "start", NULL, OP_TIMEOUT_NS, &result, err);
		if (already)
			*already = json_bool(result, "already", false);
		return r;
	}
	id = json_str(doc, "id", "");
	key = container_key(id);
	r = op_begin(f, id, "starting", false, err);
	if (r < 0)
		return r;
	r = document_get(f, key, &fresh, err);
	if (!r && container_is_up(fresh)) {
		if (already)
			*already = true;
	} else if (!r) {
		r = start_here(f, fresh, err);
	}
	op_end(f, id);
	return r;
}

/* --- the end ------------------------------------------------------------------------ */

static void remove_ended(struct fabric *f, const json_t *doc, bool volumes);

/* How long a restart policy waits, 0: no restart. */
static int64_t restart_delay_ns(const json_t *doc, int exit_code)
{
	const json_t *policy = json_at(doc, "docker.HostConfig.RestartPolicy");
	const char *name = json_str(policy, "Name", "");
	int64_t exits = json_int(json_object_get(doc, "state"), "exits", 0);
	int64_t max = json_int(policy, "MaximumRetryCount", 0);
	int64_t delay = 100000000ll;

	if (strcmp(json_str(doc, "desired", ""), "running"))
		return 0;
	if (!strcmp(name, "on-failure") && (!exit_code || (max && exits > max)))
		return 0;
	if (strcmp(name, "on-failure") && strcmp(name, "always") && strcmp(name, "unless-stopped"))
		return 0;
	for (int64_t i = 1; i < exits && delay < 60000000000ll; i++)
		delay *= 2;
	return delay;
}

struct restart {
	struct fabric *f;
	char id[65];
	int64_t delay_ns;
};

static void *restart_later(void *arg)
{
	struct restart *rs = arg;
	CLEANUP_JSON json_t *doc = NULL;
	struct error err = { 0 };

	clock_sleep_ns(rs->delay_ns);
	if (!rs->f->closing && !container_find(rs->f, rs->id, &doc, NULL) &&
	    !strcmp(json_str(doc, "desired", ""), "running") &&
	    fabric_container_start(rs->f, rs->id, NULL, &err) < 0)
		log_warn("restarting container %.12s: %s", rs->id, err.msg);
	free(rs);
	return NULL;
}

static void detached(void *(*fn)(void *), void *arg)
{
	pthread_t thread;

	if (!pthread_create(&thread, NULL, fn, arg))
		pthread_detach(thread);
	else
		free(arg);
}

/* Under the container's operation. Does nothing the second time. */
void container_take_down(struct fabric *f, const char *id, int exit_code)
{
	CLEANUP_FREE char *key = container_key(id), *code = str_format("%d", exit_code);
	CLEANUP_FREE char *lost = NULL;
	CLEANUP_JSON json_t *before = NULL;
	CLEANUP_JSON json_t *doc = NULL;
	struct error err = { 0 };
	int64_t delay;

	if (document_get(f, key, &before, &err) < 0 || !container_is_local(f, before) ||
	    !container_is_up(before))
		return;
	lost = migrate_take_note(f, id);
	if (lost)
		container_set_error(f->containers, id, lost);
	container_endpoints_down(f, before);
	if (container_volumes_down(f, before, &err) < 0)
		log_warn("container %s ended: %s", json_str(before, "name", ""), err.msg);
	error_clear(&err);
	if (save(f, id, NULL, true, &doc, &err) < 0) {
		log_warn("container %s ended, its state could not be saved: %s",
			 json_str(before, "name", ""), err.msg);
		return;
	}
	if (lost)
		container_event(f, doc, "lost", "reason", lost);
	container_event(f, doc, "die", "exitCode", code);
	if (json_is_true(json_at(doc, "docker.HostConfig.AutoRemove"))) {
		remove_ended(f, doc, true);
		return;
	}
	delay = restart_delay_ns(doc, exit_code);
	if (delay && !f->closing) {
		struct restart *rs = mem_zalloc(sizeof(*rs));

		*rs = (struct restart){ .f = f, .delay_ns = delay };
		snprintf(rs->id, sizeof(rs->id), "%s", id);
		detached(restart_later, rs);
	}
}

struct ended {
	struct fabric *f;
	char id[65];
	int code;
};

static void *ended_thread(void *arg)
{
	struct ended *e = arg;

	if (!op_begin(e->f, e->id, "ending", true, NULL)) {
		CLEANUP_JSON json_t *state = NULL;

		/* Whoever held the operation may have started it again. */
		if (container_inspect(e->f->containers, e->id, &state, NULL) < 0 ||
		    !strcmp(json_str(state, "Status", ""), "exited"))
			container_take_down(e->f, e->id, e->code);
		op_end(e->f, e->id);
	}
	free(e);
	return NULL;
}

void container_on_ended(void *ctx, const char *id, int exit_code)
{
	struct ended *e = mem_zalloc(sizeof(*e));

	*e = (struct ended){ .f = ctx, .code = exit_code };
	snprintf(e->id, sizeof(e->id), "%s", id);
	detached(ended_thread, e);
}

/* --- stop, kill, restart, pause ----------------------------------------------------- */

static int set_desired(void *ctx, json_t *doc, struct error *err)
{
	(void)err;
	if (!strcmp(json_str(doc, "desired", ""), ctx))
		return 1;
	json_set_str(doc, "desired", ctx);
	return 0;
}

static int stop_here(struct fabric *f, const json_t *doc, int timeout_s, bool *was_down,
		     struct error *err)
{
	const char *id = json_str(doc, "id", "");
	CLEANUP_FREE char *key = container_key(id);
	char desired[] = "stopped";
	int code = 0, r;

	*was_down = !container_is_up(doc);
	r = document_change(f, key, set_desired, desired, NULL, err);
	if (r < 0 || *was_down)
		return r;
	r = container_stop(f->containers, id, timeout_s, err);
	if (!r)
		r = container_wait(f->containers, id, &code, err);
	if (r < 0)
		return r;
	container_event(f, doc, "stop", NULL, NULL);
	container_take_down(f, id, code);
	return 0;
}

/* What every operation on a local container begins with; a fresh document in *doc. */
static int begin(struct fabric *f, json_t **doc, const char *what, struct error *err)
{
	CLEANUP_FREE char *key = container_key(json_str(*doc, "id", ""));
	CLEANUP_FREE char *id = str_dup(json_str(*doc, "id", ""));
	json_t *fresh = NULL;
	int r = op_begin(f, id, what, false, err);

	if (r < 0)
		return r;
	r = document_get(f, key, &fresh, err);
	if (!r && !container_is_local(f, fresh)) {
		json_decref(fresh);
		r = error_set(err, EBUSY,
			      "container %.12s has just moved to another host; try again", id);
	}
	if (r < 0) {
		op_end(f, id);
		return r == -ENOENT ? error_set(err, ENOENT, "No such container: %s", id) : r;
	}
	json_decref(*doc);
	*doc = fresh;
	return 0;
}

int fabric_container_stop(struct fabric *f, const char *ref, int timeout_s, bool *already,
			  struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	bool was_down = false;
	int r = container_find(f, ref, &doc, err);

	if (r < 0)
		return r;
	if (!container_is_local(f, doc)) {
		CLEANUP_JSON json_t *args = json_pack("{s:i}", "timeout", timeout_s);
		CLEANUP_JSON json_t *result = NULL;

		r = container_forward(f, doc, "stop", args,
				      OP_TIMEOUT_NS +
					      (timeout_s > 0 ? timeout_s : 0) * 1000000000ll,
				      &result, err);
		was_down = json_bool(result, "already", false);
	} else {
		r = begin(f, &doc, "stopping", err);
		if (!r) {
			r = stop_here(f, doc, timeout_s, &was_down, err);
			op_end(f, json_str(doc, "id", ""));
		}
	}
	if (already)
		*already = was_down;
	return r;
}

int fabric_container_restart(struct fabric *f, const char *ref, int timeout_s, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	int r = fabric_container_stop(f, ref, timeout_s, NULL, err);

	if (!r)
		r = fabric_container_start(f, ref, NULL, err);
	if (!r && !container_find(f, ref, &doc, NULL))
		container_event(f, doc, "restart", NULL, NULL);
	return r;
}

/*
 * Whoever kills expects it dead: a start right afterwards would find it still running. As
 * Docker, this waits for 10 s at most (it may hang in the kernel).
 */
static void await_end(struct fabric *f, const json_t *before)
{
	const char *id = json_str(before, "id", "");
	int64_t exits = json_int(json_object_get(before, "state"), "exits", 0);
	int64_t end = clock_mono_ns() + KILL_WAIT_NS;

	while (clock_mono_ns() < end) {
		CLEANUP_JSON json_t *doc = NULL;

		if (container_find(f, id, &doc, NULL) < 0 || !container_is_up(doc) ||
		    json_int(json_object_get(doc, "state"), "exits", 0) > exits)
			return;
		clock_sleep_ns(5000000);
	}
}

int fabric_container_kill(struct fabric *f, const char *ref, const char *signal, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	int signo = signal && *signal ? signal_number(signal) : SIGKILL;
	int r = container_find(f, ref, &doc, err);

	if (r < 0)
		return r;
	if (signo <= 0)
		return error_set(err, EINVAL, "Invalid signal: %s", signal);
	if (!container_is_local(f, doc)) {
		CLEANUP_JSON json_t *args = json_pack("{s:s*}", "signal", signal);

		return container_forward(f, doc, "kill", args, OP_TIMEOUT_NS, NULL, err);
	}
	if (!container_is_up(doc))
		return error_set(err, EBUSY,
				 "cannot kill container: %s: container %s is not running", ref,
				 json_str(doc, "id", ""));
	if (signo == SIGKILL || signo == SIGTERM) {
		CLEANUP_FREE char *key = container_key(json_str(doc, "id", ""));
		char desired[] = "stopped";

		r = document_change(f, key, set_desired, desired, NULL, err);
	}
	if (!r)
		r = container_kill(f->containers, json_str(doc, "id", ""), signo, err);
	if (!r) {
		CLEANUP_FREE char *number = str_format("%d", signo);

		container_event(f, doc, "kill", "signal", number);
		/* A paused one dies when it goes on. */
		if (signo == SIGKILL && !strcmp(container_status(doc), "running"))
			await_end(f, doc);
	}
	return r;
}

static int freeze(struct fabric *f, const char *ref, bool on, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	const char *id;
	int r = container_find(f, ref, &doc, err);

	if (r < 0)
		return r;
	if (!container_is_local(f, doc))
		return container_forward(f, doc, on ? "pause" : "unpause", NULL, OP_TIMEOUT_NS,
					 NULL, err);
	r = begin(f, &doc, on ? "pausing" : "unpausing", err);
	if (r < 0)
		return r;
	id = json_str(doc, "id", "");
	r = on ? container_pause(f->containers, id, err)
	       : container_unpause(f->containers, id, err);
	if (!r)
		r = container_state_save(f, id, NULL, err);
	if (!r)
		container_event(f, doc, on ? "pause" : "unpause", NULL, NULL);
	op_end(f, id);
	return r;
}

int fabric_container_pause(struct fabric *f, const char *ref, struct error *err)
{
	return freeze(f, ref, true, err);
}

int fabric_container_unpause(struct fabric *f, const char *ref, struct error *err)
{
	return freeze(f, ref, false, err);
}

/* --- rename, update, remove --------------------------------------------------------- */

static int set_name(void *ctx, json_t *doc, struct error *err)
{
	(void)err;
	json_set_str(doc, "name", ctx);
	return 0;
}

int fabric_container_rename(struct fabric *f, const char *ref, const char *name, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	CLEANUP_JSON json_t *name_doc = NULL;
	CLEANUP_FREE char *key = NULL, *new_key = NULL, *old_key = NULL, *copy = NULL;
	int r;

	if (name[0] == '/')
		name++;
	copy = str_dup(name);
	if (!str_is_name(name))
		return error_set(
			err, EINVAL,
			"Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
			name);
	r = container_find(f, ref, &doc, err);
	if (r < 0)
		return r;
	if (!strcmp(json_str(doc, "name", ""), name))
		return error_set(err, EINVAL,
				 "Renaming a container with the same name as its current name");
	key = container_key(json_str(doc, "id", ""));
	new_key = str_format("names/%s", name);
	old_key = str_format("names/%s", json_str(doc, "name", ""));
	name_doc = json_pack("{s:s}", "id", json_str(doc, "id", ""));
	r = document_new(f, new_key, name_doc, err);
	if (r == -EEXIST)
		return error_set(err, EEXIST,
				 "Conflict. The container name \"/%s\" is already in use", name);
	if (!r)
		r = document_change(f, key, set_name, copy, NULL, err);
	if (r < 0) {
		document_delete(f, new_key, NULL);
		return r;
	}
	document_delete(f, old_key, NULL);
	if (container_is_local(f, doc))
		container_rename(f->containers, json_str(doc, "id", ""), name, NULL);
	container_event(f, doc, "rename", "oldName", json_str(doc, "name", ""));
	return 0;
}

static int merge_resources(void *ctx, json_t *doc, struct error *err)
{
	(void)err;
	json_object_update(json_at(doc, "docker.HostConfig"), ctx);
	return 0;
}

int fabric_container_update(struct fabric *f, const char *ref, const json_t *resources,
			    struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	CLEANUP_JSON json_t *copy = json_deep_copy(resources);
	CLEANUP_FREE char *key = NULL;
	int r = container_find(f, ref, &doc, err);

	if (r < 0)
		return r;
	if (!container_is_local(f, doc))
		return container_forward(f, doc, "update", copy, OP_TIMEOUT_NS, NULL, err);
	r = begin(f, &doc, "updating", err);
	if (r < 0)
		return r;
	key = container_key(json_str(doc, "id", ""));
	r = container_update(f->containers, json_str(doc, "id", ""), copy, err);
	if (!r)
		r = document_change(f, key, merge_resources, copy, NULL, err);
	op_end(f, json_str(doc, "id", ""));
	return r;
}

/* A container that does not run: its files, its names, its document. */
static void remove_ended(struct fabric *f, const json_t *doc, bool volumes)
{
	const char *id = json_str(doc, "id", "");
	CLEANUP_FREE char *key = container_key(id);
	CLEANUP_FREE char *name_key = str_format("names/%s", json_str(doc, "name", ""));
	struct error err = { 0 };
	json_t *ep, *v;
	size_t i;

	if (container_remove(f->containers, id, &err) < 0 && err.code != ENOENT)
		log_warn("removing container %.12s: %s", id, err.msg);
	json_array_foreach (json_object_get(doc, "endpoints"), i, ep)
		network_address_free(f, json_str(ep, "network", ""), json_str(ep, "ip", ""));
	error_clear(&err);
	if (document_delete(f, key, &err) < 0 || document_delete(f, name_key, &err) < 0)
		log_warn("removing the document of container %.12s: %s", id, err.msg);
	json_array_foreach (json_object_get(doc, "volumes"), i, v)
		if (volumes && json_bool(v, "anonymous", false))
			volume_remove(f->volumes, json_str(v, "name", ""), NULL);
	container_event(f, doc, "destroy", NULL, NULL);
}

int fabric_container_remove(struct fabric *f, const char *ref, bool force, bool volumes,
			    struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	CLEANUP_FREE char *id = NULL;
	bool down;
	int r = container_find(f, ref, &doc, err);

	if (r < 0)
		return r;
	if (!container_is_local(f, doc)) {
		CLEANUP_JSON json_t *args =
			json_pack("{s:b, s:b}", "force", force, "volumes", volumes);

		return container_forward(f, doc, "remove", args, OP_TIMEOUT_NS, NULL, err);
	}
	r = begin(f, &doc, "removing", err);
	if (r < 0)
		return r;
	id = str_dup(json_str(doc, "id", ""));
	if (container_is_up(doc) && !force)
		r = error_set(err, EBUSY,
			      "cannot remove container \"/%s\": container is %s: stop the "
			      "container before removing or force remove",
			      json_str(doc, "name", ""), container_status(doc));
	else if (container_is_up(doc))
		r = stop_here(f, doc, 0, &down, err);
	if (!r)
		remove_ended(f, doc, volumes);
	op_end(f, id);
	return r;
}
