/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's life: adopt, signals, stop, pause, end, wait, remove, update. Starting it
 * is in start.c.
 *
 *     created ──start──► starting ──► running ──(init ends)──► exited ──start──► …
 *        ▲                  │            ▲
 *        └──── failed ──────┘            │
 *     created ──start(stub)──► created, stub ──adopt──┘
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/container/bundle.h"
#include "runtime/container/internal.h"
#include "runtime/container/jsonlog.h"

int container_oci(struct container_manager *m, const char *const args[], struct error *err)
{
	const char *argv[24] = { m->oci, "--root", m->oci_root };
	int n = 3;

	while (*args && n < 23)
		argv[n++] = *args++;
	return process_run(argv, NULL, err);
}

int container_cleanup(struct container_manager *m, const char *id, struct error *err)
{
	CLEANUP_FREE char *dir = str_format("%s/%s", m->oci_root, id);
	const char *const del[] = { "delete", "--force", id, NULL };
	int r = 0, r2;

	if (access(dir, F_OK) == 0)
		r = container_oci(m, del, err);
	r2 = rootfs_unmount(m, id, r ? NULL : err);
	return r ? r : r2;
}

void container_drop_pending(struct container *c)
{
	while (c->pending) {
		struct pending *p = c->pending;

		c->pending = p->next;
		close(p->fd);
		free(p);
	}
}

void container_set_now(json_t *doc, const char *key)
{
	CLEANUP_FREE char *now = time_format(clock_real_ns());

	json_set_str(doc, key, now);
}

static bool same_process(pid_t pid, uint64_t ticks)
{
	uint64_t now;

	return pid > 0 && process_start_time(pid, &now) == 0 && now == ticks;
}

static bool has_ended(const struct container *c)
{
	CLEANUP_CLOSE int fd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return fd < 0 || !same_process(c->pid, c->ticks) || poll(&p, 1, 0) > 0;
}

int container_adopt_begin(struct container_manager *m, const char *id, struct error *err)
{
	struct container *c = container_get(m, id, err);
	int r = 0;

	if (!c)
		return -ENOENT;
	pthread_mutex_lock(&c->op);
	pthread_mutex_lock(&m->lock);
	if (c->status == CREATED && c->stub) {
		c->stub = false;
		c->status = RUNNING;
		container_set_now(c->doc, "started");
		pthread_cond_broadcast(&m->changed);
	} else if (c->status == CREATED) {
		r = error_set(err, EBUSY, "container %.12s was not made for a restore", id);
	}
	pthread_mutex_unlock(&m->lock);
	pthread_mutex_unlock(&c->op);
	container_put(m, c);
	return r;
}

int container_adopt(struct container_manager *m, const char *id, struct error *err)
{
	const char *const adopt[] = { "adopt", id, NULL };
	struct container *c;
	int r = container_adopt_begin(m, id, err);

	if (r < 0)
		return r;
	c = container_get(m, id, err);
	if (!c)
		return -ENOENT;
	pthread_mutex_lock(&c->op);
	r = container_oci(m, adopt, err);
	pthread_mutex_lock(&m->lock);
	/* It has ended already: nothing is left to be adopted. */
	if (r < 0 && (c->status != RUNNING || has_ended(c))) {
		error_clear(err);
		r = 0;
	}
	if (!r && !c->removed)
		r = container_save(m, c, err);
	pthread_mutex_unlock(&m->lock);
	pthread_mutex_unlock(&c->op);
	container_put(m, c);
	return r;
}

/* --- the end ------------------------------------------------------------------------------- */

bool container_has_run(const struct container *c)
{
	return !str_starts(json_str(c->doc, "started", "0001-"), "0001-");
}

static void note_end(struct container *c, const json_t *e, int code)
{
	json_set_int(c->doc, "exit_code", code);
	json_set_bool(c->doc, "oom", json_bool(e, "oom", false));
	if (e)
		json_set_str(c->doc, "finished", json_str(e, "finished_at", ""));
	else
		container_set_now(c->doc, "finished");
}

void container_ended(struct container_manager *m, struct container *c)
{
	CLEANUP_FREE char *path = container_dir(m, c->id, "exit.json");
	CLEANUP_JSON json_t *e = json_parse_file(path, 65536, NULL);
	struct error err = { 0 };
	int code = (int)json_int(e, "exit_code", 137);
	bool stub;

	if (!e && same_process(c->pid, c->ticks)) {
		log_error("container %.12s lost its shim and with it its stdio: killing it", c->id);
		process_kill(c->pid, SIGKILL);
	}
	if (container_cleanup(m, c->id, &err) < 0)
		log_error("container %.12s: %s", c->id, err.msg);
	pthread_mutex_lock(&m->lock);
	/* In "starting" without a word of the shim it never ran: container_start() says why. */
	if (c->status != STARTING || e) {
		c->unreported = c->status == RUNNING || c->status == STARTING;
		stub = c->stub;
		c->status = stub && !container_has_run(c) ? CREATED : EXITED;
		c->stub = false;
		c->pid = 0;
		c->ends++;
		json_array_clear(c->stdio);
		container_drop_pending(c);
		/* After a restore that was undone, its last end is the one before. */
		if (!stub)
			note_end(c, e, code);
		if (!c->removed && container_save(m, c, &err) < 0)
			log_error("container %.12s: %s", c->id, err.msg);
		pthread_cond_broadcast(&m->changed);
	}
	pthread_mutex_unlock(&m->lock);
}

static int wait_until(struct container_manager *m, const char *id, bool next, int *exit_code,
		      struct error *err)
{
	struct container *c = container_get(m, id, err);
	unsigned long before;

	if (!c)
		return -ENOENT;
	pthread_mutex_lock(&m->lock);
	before = c->ends;
	while (!c->removed &&
	       (next ? c->ends == before : c->status == RUNNING || c->status == STARTING))
		pthread_cond_wait(&m->changed, &m->lock);
	if (exit_code)
		*exit_code = (int)json_int(c->doc, "exit_code", 0);
	pthread_mutex_unlock(&m->lock);
	container_put(m, c);
	return 0;
}

int container_wait(struct container_manager *m, const char *id, int *exit_code, struct error *err)
{
	return wait_until(m, id, false, exit_code, err);
}

int container_wait_next(struct container_manager *m, const char *id, int *exit_code,
			struct error *err)
{
	return wait_until(m, id, true, exit_code, err);
}

/* --- signals ------------------------------------------------------------------------ */

static int signal_init(struct container_manager *m, struct container *c, int signo,
		       struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	uint64_t ticks;
	pid_t pid;

	pthread_mutex_lock(&m->lock);
	pid = c->pid;
	ticks = c->ticks;
	pthread_mutex_unlock(&m->lock);
	if (pid <= 0 || (fd = (int)syscall(SYS_pidfd_open, pid, 0)) < 0 ||
	    !same_process(pid, ticks))
		return error_set(err, EBUSY, "container %.12s is not running", c->id);
	if (syscall(SYS_pidfd_send_signal, fd, signo, NULL, 0) < 0)
		return errno == ESRCH
			       ? error_set(err, EBUSY, "container %.12s is not running", c->id)
			       : error_sys(err, errno, "sending signal %d to container %.12s",
					   signo, c->id);
	return 0;
}

static bool is_frozen(struct container_manager *m, const char *id)
{
	CLEANUP_FREE char *group = container_cgroup(m, id);

	return group_frozen(group);
}

static int thaw(struct container_manager *m, const char *id, struct error *err)
{
	const char *const resume[] = { "resume", id, NULL };

	return is_frozen(m, id) ? container_oci(m, resume, err) : 0;
}

int container_kill(struct container_manager *m, const char *id, int signo, struct error *err)
{
	struct container *c = container_get(m, id, err);
	int r;

	if (!c)
		return -ENOENT;
	r = signal_init(m, c, signo, err);
	if (!r && signo == SIGKILL)
		thaw(m, id, NULL); /* a task frozen by v1 dies only when thawed */
	container_put(m, c);
	return r;
}

static bool wait_ended(struct container_manager *m, struct container *c, int64_t ns)
{
	struct timespec until;
	bool ended;

	clock_gettime(CLOCK_REALTIME, &until);
	ns += until.tv_nsec;
	until.tv_sec += ns / 1000000000;
	until.tv_nsec = ns % 1000000000;
	pthread_mutex_lock(&m->lock);
	while (c->status == RUNNING || c->stub)
		if (pthread_cond_timedwait(&m->changed, &m->lock, &until))
			break;
	ended = c->status != RUNNING && !c->stub;
	pthread_mutex_unlock(&m->lock);
	return ended;
}

int container_stop(struct container_manager *m, const char *id, int timeout_s, struct error *err)
{
	struct container *c = container_get(m, id, err);
	const char *name;
	bool alive;
	int signo, r = 0;

	if (!c)
		return -ENOENT;
	pthread_mutex_lock(&m->lock);
	name = json_str(json_object_get(c->doc, "docker"), "StopSignal", "");
	if (!name[0])
		name = json_str(json_object_get(c->doc, "image_config"), "StopSignal", "");
	signo = signal_number(name);
	if (timeout_s < 0)
		timeout_s = (int)json_int(json_object_get(c->doc, "docker"), "StopTimeout", 10);
	alive = c->status == RUNNING || c->stub;
	if (c->stub)
		signo = SIGKILL; /* nobody is there yet to listen to anything else */
	pthread_mutex_unlock(&m->lock);
	if (timeout_s < 0 || timeout_s > 86400 * 365)
		timeout_s = 86400 * 365;
	if (alive && signal_init(m, c, signo ? signo : SIGTERM, NULL) == 0) {
		thaw(m, id, NULL);
		if (!wait_ended(m, c, (int64_t)timeout_s * 1000000000))
			signal_init(m, c, SIGKILL, NULL);
	}
	if (alive && !wait_ended(m, c, 30000000000))
		r = error_set(err, ETIMEDOUT, "container %.12s does not end 30 s after SIGKILL",
			      id);
	container_put(m, c);
	return r;
}

static int freeze(struct container_manager *m, const char *id, bool on, struct error *err)
{
	const char *const args[] = { on ? "pause" : "resume", id, NULL };
	struct container *c = container_get(m, id, err);
	int r = 0;

	if (!c)
		return -ENOENT;
	pthread_mutex_lock(&c->op);
	pthread_mutex_lock(&m->lock);
	if (c->status != RUNNING)
		r = error_set(err, EBUSY, "container %.12s is not running", id);
	pthread_mutex_unlock(&m->lock);
	if (!r && is_frozen(m, id) == on)
		r = error_set(err, EBUSY, "container %.12s is %s", id,
			      on ? "already paused" : "not paused");
	if (!r)
		r = container_oci(m, args, err);
	pthread_mutex_unlock(&c->op);
	container_put(m, c);
	return r;
}

int container_pause(struct container_manager *m, const char *id, struct error *err)
{
	return freeze(m, id, true, err);
}

int container_unpause(struct container_manager *m, const char *id, struct error *err)
{
	return freeze(m, id, false, err);
}

/* --- remove, rename, update --------------------------------------------------------- */

static void forget_execs(struct container_manager *m, const char *id)
{
	for (struct exec **at = &m->execs; *at;) {
		struct exec *x = *at;

		if (strcmp(x->container, id) != 0) {
			at = &x->next;
			continue;
		}
		*at = x->next;
		free(x->id);
		free(x->container);
		json_decref(x->config);
		free(x);
	}
}

int container_remove(struct container_manager *m, const char *id, struct error *err)
{
	struct container *c = container_get(m, id, err);
	CLEANUP_FREE char *dir = container_dir(m, id, NULL), *run = container_run(m, id, NULL);
	CLEANUP_FREE char *doc = container_dir(m, id, "container.json");
	bool stub = false;
	int r = 0;

	if (!c)
		return -ENOENT;
	pthread_mutex_lock(&c->op);
	pthread_mutex_lock(&m->lock);
	if (c->removed)
		r = error_set(err, ENOENT, "No such container: %s", id);
	else if (c->status == RUNNING)
		r = error_set(err, EBUSY,
			      "container %.12s is running: stop the container before removing or "
			      "force remove",
			      id);
	stub = c->stub;
	pthread_mutex_unlock(&m->lock);
	if (!r && stub) {
		signal_init(m, c, SIGKILL, NULL);
		thaw(m, id, NULL);
		if (!wait_ended(m, c, 30000000000))
			r = error_set(err, ETIMEDOUT, "container %.12s does not die", id);
	}
	if (!r)
		r = container_cleanup(m, id, err);
	if (!r) {
		/* Without its document the folder is rubbish that the next start sweeps out. */
		unlink(doc);
		r = dir_remove(dir, err);
	}
	if (!r) {
		dir_remove(run, NULL);
		pthread_mutex_lock(&m->lock);
		c->removed = true;
		container_drop_pending(c);
		forget_execs(m, id);
		pthread_cond_broadcast(&m->changed);
		pthread_mutex_unlock(&m->lock);
	}
	pthread_mutex_unlock(&c->op);
	container_put(m, c);
	return r;
}

int container_rename(struct container_manager *m, const char *id, const char *name,
		     struct error *err)
{
	struct container *c = container_get(m, id, err);
	int r;

	if (!c)
		return -ENOENT;
	pthread_mutex_lock(&m->lock);
	json_set_str(c->doc, "name", name);
	r = container_save(m, c, err);
	pthread_mutex_unlock(&m->lock);
	container_put(m, c);
	return r;
}

static bool is_empty(const json_t *v)
{
	return json_is_null(v) || json_is_false(v) ||
	       (json_is_integer(v) && !json_integer_value(v)) ||
	       (json_is_string(v) && !json_string_length(v)) ||
	       (json_is_array(v) && !json_array_size(v)) ||
	       (json_is_object(v) && !json_object_size(v));
}

static int merge_resources(json_t *hc, json_t *resources, struct error *err)
{
	static const char *const fields[] = {
		"Memory",     "MemorySwap", "MemoryReservation", "NanoCpus",
		"CpuShares",  "CpuPeriod",  "CpuQuota",		 "CpusetCpus",
		"CpusetMems", "PidsLimit",  "BlkioWeight",	 "RestartPolicy",
	};
	const char *key;
	json_t *v;

	json_object_foreach (resources, key, v) {
		bool known = false;

		for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
			known |= !strcmp(fields[i], key);
		if (is_empty(v))
			continue; /* the docker CLI sends every field */
		if (!known)
			return error_set(err, EINVAL, "updating %s is not supported", key);
		json_object_set(hc, key, v);
		/* NanoCpus and quota with period exclude one another: the newer one counts. */
		if (!strcmp(key, "NanoCpus")) {
			json_object_del(hc, "CpuQuota");
			json_object_del(hc, "CpuPeriod");
		} else if (!strcmp(key, "CpuQuota") || !strcmp(key, "CpuPeriod")) {
			json_object_del(hc, "NanoCpus");
		}
	}
	return 0;
}

void container_set_error(struct container_manager *m, const char *id, const char *text)
{
	struct container *c = container_get(m, id, NULL);

	if (!c)
		return;
	pthread_mutex_lock(&m->lock);
	json_set_str(c->doc, "error", text);
	container_save(m, c, NULL);
	pthread_mutex_unlock(&m->lock);
	container_put(m, c);
}

int container_update(struct container_manager *m, const char *id, json_t *resources,
		     struct error *err)
{
	struct container *c = container_get(m, id, err);
	CLEANUP_JSON json_t *docker = NULL, *image = NULL, *res = NULL;
	CLEANUP_FREE char *text = NULL, *file = container_dir(m, id, "resources.json");
	const char *const update[] = { "update", "--resources", file, id, NULL };
	json_t *hc;
	bool running;
	int r;

	if (!c)
		return -ENOENT;
	pthread_mutex_lock(&c->op);
	pthread_mutex_lock(&m->lock);
	docker = json_deep_copy(json_object_get(c->doc, "docker"));
	image = json_deep_copy(json_object_get(c->doc, "image_config"));
	running = c->status == RUNNING;
	pthread_mutex_unlock(&m->lock);
	hc = json_object_get(docker, "HostConfig");
	if (!json_is_object(hc)) {
		hc = json_object();
		json_object_set_new(docker, "HostConfig", hc);
	}
	r = merge_resources(hc, resources, err);
	if (!r)
		r = bundle_check(docker, image, err);
	if (!r && running) {
		res = bundle_resources(hc);
		text = json_text(res);
		r = container_write_file(file, text, err);
		if (!r)
			r = container_oci(m, update, err);
	}
	if (!r) {
		pthread_mutex_lock(&m->lock);
		json_object_set(c->doc, "docker", docker);
		r = container_save(m, c, err);
		pthread_mutex_unlock(&m->lock);
	}
	pthread_mutex_unlock(&c->op);
	container_put(m, c);
	return r;
}
