/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of containers, their documents on disk, and the watcher: one thread that waits
 * on a connection to each running container's shim and deals with its end.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/container/bundle.h"
#include "runtime/container/internal.h"

char *container_dir(const struct container_manager *m, const char *id, const char *file)
{
	return str_format("%s/containers/%s%s%s", m->state_dir, id, file ? "/" : "",
			  file ? file : "");
}

char *container_run(const struct container_manager *m, const char *id, const char *file)
{
	return str_format("%s/containers/%s%s%s", m->run_dir, id, file ? "/" : "",
			  file ? file : "");
}

char *container_cgroup(const struct container_manager *m, const char *id)
{
	return str_format("/%s/%s", m->parent, id);
}

struct container *container_get(struct container_manager *m, const char *id, struct error *err)
{
	struct container *c;

	pthread_mutex_lock(&m->lock);
	for (c = m->containers; c; c = c->next)
		if (!c->removed && !strcmp(c->id, id))
			break;
	if (c)
		c->refs++;
	pthread_mutex_unlock(&m->lock);
	if (!c)
		error_set(err, ENOENT, "No such container: %s", id);
	return c;
}

static void container_free(struct container *c)
{
	while (c->pending) {
		struct pending *p = c->pending;

		c->pending = p->next;
		close(p->fd);
		free(p);
	}
	if (c->watch >= 0)
		close(c->watch);
	json_decref(c->doc);
	json_decref(c->stdio);
	pthread_mutex_destroy(&c->op);
	free(c->id);
	free(c);
}

void container_put(struct container_manager *m, struct container *c)
{
	bool last;

	pthread_mutex_lock(&m->lock);
	last = --c->refs == 0 && c->removed;
	if (last)
		for (struct container **at = &m->containers; *at; at = &(*at)->next)
			if (*at == c) {
				*at = c->next;
				break;
			}
	pthread_mutex_unlock(&m->lock);
	if (last)
		container_free(c);
}

static const char *const status_names[] = { "created", "starting", "running", "exited" };

int container_save(struct container_manager *m, struct container *c, struct error *err)
{
	CLEANUP_FREE char *path = container_dir(m, c->id, "container.json"), *text = NULL;

	json_set_str(c->doc, "status", status_names[c->status]);
	json_set_bool(c->doc, "stub", c->stub);
	json_set_int(c->doc, "pid", c->pid);
	json_set_int(c->doc, "ticks", (int64_t)c->ticks);
	text = json_text(c->doc);
	return file_write_atomic(path, text, strlen(text), 0600, err);
}

static struct container *container_new(const char *id, json_t *doc)
{
	struct container *c = mem_zalloc(sizeof(*c));

	c->id = str_dup(id);
	c->doc = doc;
	c->watch = -1;
	c->stdio = json_array();
	pthread_mutex_init(&c->op, NULL);
	return c;
}

static void set_never(json_t *doc, const char *key)
{
	json_set_str(doc, key, "0001-01-01T00:00:00Z");
}

int container_create(struct container_manager *m, const char *id, const char *name, json_t *docker,
		     json_t *image, char *const *lower, size_t nlower, struct error *err)
{
	CLEANUP_FREE char *dir = NULL, *when = NULL;
	json_t *doc, *layers;
	struct container *c;
	struct error ignored;
	int r = container_check(docker, image, err);

	if (r < 0)
		return r;
	if (!id || !str_is_name(id) || strlen(id) > 128)
		return error_set(err, EINVAL, "\"%s\" is no container id", id ? id : "");
	if (!nlower)
		return error_set(err, EINVAL, "the image has no layers");
	doc = json_object();
	layers = json_array();
	for (size_t i = 0; i < nlower; i++)
		json_array_append_new(layers, json_string(lower[i]));
	when = str_format("%lld", (long long)clock_real_ns());
	json_set_int(doc, "schema", 1);
	json_set_str(doc, "id", id);
	json_set_str(doc, "name", name);
	json_set_str(doc, "created_ns", when);
	json_object_set_new(doc, "docker", json_deep_copy(docker));
	json_set_str(doc, "image", json_str(image, "Id", ""));
	json_object_set_new(doc, "image_config",
			    json_is_object(json_object_get(image, "Config"))
				    ? json_deep_copy(json_object_get(image, "Config"))
				    : json_object());
	json_object_set_new(doc, "lower", layers);
	json_set_int(doc, "exit_code", 0);
	json_set_str(doc, "error", "");
	set_never(doc, "started");
	set_never(doc, "finished");

	dir = container_dir(m, id, NULL);
	pthread_mutex_lock(&m->lock);
	for (c = m->containers; c; c = c->next)
		if (!strcmp(c->id, id))
			break;
	if (c) {
		pthread_mutex_unlock(&m->lock);
		json_decref(doc);
		return error_set(err, EEXIST, "container %s exists already", id);
	}
	c = container_new(id, doc);
	c->next = m->containers;
	m->containers = c;
	c->refs++;
	r = dir_make(dir, 0700, err);
	if (!r)
		r = container_save(m, c, err);
	if (r < 0)
		c->removed = true;
	pthread_mutex_unlock(&m->lock);
	if (r < 0)
		dir_remove(dir, &ignored);
	container_put(m, c);
	return r;
}

int container_check(json_t *docker, json_t *image, struct error *err)
{
	return bundle_check(docker, json_object_get(image, "Config"), err);
}

/* --- the watcher --------------------------------------------------------------------------- */

void container_watch(struct container_manager *m, struct container *c, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = c };

	pthread_mutex_lock(&m->lock);
	c->watch = fd;
	c->refs++; /* the watcher's, until the end */
	pthread_mutex_unlock(&m->lock);
	if (epoll_ctl(m->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		log_error("watching container %.12s: %s", c->id, strerror(errno));
}

static void report_ends(struct container_manager *m)
{
	for (;;) {
		struct container *c;
		container_exit_fn *fn;
		void *ctx;
		int code = 0;

		pthread_mutex_lock(&m->lock);
		fn = m->on_exit;
		ctx = m->on_exit_ctx;
		for (c = m->containers; c && fn; c = c->next)
			if (c->unreported)
				break;
		if (c && fn) {
			c->unreported = false;
			c->refs++;
			code = (int)json_int(c->doc, "exit_code", 0);
		}
		pthread_mutex_unlock(&m->lock);
		if (!c || !fn)
			return;
		fn(ctx, c->id, code);
		container_put(m, c);
	}
}

static void *watcher_main(void *arg)
{
	struct container_manager *m = arg;

	for (;;) {
		struct epoll_event ev[16];
		bool stop;
		int n = epoll_wait(m->epoll, ev, 16, -1);

		for (int i = 0; i < n; i++) {
			struct container *c = ev[i].data.ptr;
			uint64_t count;

			if (!c) {
				(void)!read(m->wake, &count, sizeof(count));
				continue;
			}
			epoll_ctl(m->epoll, EPOLL_CTL_DEL, c->watch, NULL);
			pthread_mutex_lock(&m->lock);
			close(TAKE_FD(c->watch));
			pthread_mutex_unlock(&m->lock);
			container_ended(m, c);
			container_put(m, c);
		}
		pthread_mutex_lock(&m->lock);
		stop = m->stopping;
		pthread_mutex_unlock(&m->lock);
		if (stop)
			return NULL;
		report_ends(m);
	}
}

static void wake(struct container_manager *m)
{
	uint64_t one = 1;

	(void)!write(m->wake, &one, sizeof(one));
}

int container_on_exit(struct container_manager *m, container_exit_fn *fn, void *ctx)
{
	pthread_mutex_lock(&m->lock);
	m->on_exit = fn;
	m->on_exit_ctx = ctx;
	pthread_mutex_unlock(&m->lock);
	wake(m);
	return 0;
}

/* --- finding everything again ---------------------------------------------------------------- */

static void reconcile(struct container_manager *m, struct container *c)
{
	CLEANUP_JSON json_t *info = NULL;
	CLEANUP_CLOSE int sock = -1;
	struct error err = { 0 };

	if (c->status == STARTING) {
		/* We died half way: nothing of it may stay. */
		if (container_cleanup(m, c->id, &err) < 0)
			log_warn("container %.12s: %s", c->id, err.msg);
		c->status = container_has_run(c) ? EXITED : CREATED;
		c->pid = 0;
		c->stub = false;
		container_save(m, c, NULL);
		return;
	}
	if (c->status != RUNNING && !c->stub)
		return;
	sock = shim_connect(m, c->id, &err);
	if (sock >= 0 && shim_ask(sock, json_pack("{s:s}", "op", "info"), &info, &err) == 0 &&
	    shim_send(sock, json_pack("{s:s}", "op", "wait"), -1, &err) == 0) {
		json_decref(c->stdio);
		c->stdio = json_incref(json_object_get(info, "stdio"));
		container_watch(m, c, TAKE_FD(sock));
		return;
	}
	container_ended(m, c);
}

static void load(struct container_manager *m, const char *id)
{
	CLEANUP_FREE char *path = container_dir(m, id, "container.json");
	struct error err = { 0 };
	struct container *c;
	const char *status;
	json_t *doc;

	if (access(path, F_OK) < 0) {
		CLEANUP_FREE char *dir = container_dir(m, id, NULL);

		/* Half removed, or never finished. */
		container_cleanup(m, id, NULL);
		dir_remove(dir, NULL);
		return;
	}
	doc = json_parse_file(path, 64 << 20, &err);
	if (!doc) {
		log_error("container %.12s is left alone: %s", id, err.msg);
		return;
	}
	c = container_new(id, doc);
	status = json_str(doc, "status", "created");
	for (int i = 0; i < 4; i++)
		if (!strcmp(status_names[i], status))
			c->status = (enum status)i;
	c->stub = json_bool(doc, "stub", false);
	c->pid = (pid_t)json_int(doc, "pid", 0);
	c->ticks = (uint64_t)json_int(doc, "ticks", 0);
	c->next = m->containers;
	m->containers = c;
	reconcile(m, c);
}

int container_manager_open(const struct container_config *cfg, struct container_manager **out,
			   struct error *err)
{
	struct container_manager *m = mem_zalloc(sizeof(*m));
	CLEANUP_FREE char *run = NULL, *state = NULL;
	CLEANUP_CLOSEDIR DIR *d = NULL;
	struct epoll_event ev = { .events = EPOLLIN };
	struct dirent *e;
	int r;

	m->run_dir = str_dup(cfg->run_dir);
	m->state_dir = str_dup(cfg->state_dir);
	m->oci = str_dup(cfg->oci_path);
	m->shim = str_dup(cfg->shim_path);
	m->parent = str_dup(cfg->cgroup_parent ? cfg->cgroup_parent : "ferry");
	m->oci_root = str_format("%s/oci", cfg->run_dir);
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->changed, NULL);
	m->epoll = epoll_create1(EPOLL_CLOEXEC);
	m->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	epoll_ctl(m->epoll, EPOLL_CTL_ADD, m->wake, &ev);
	run = str_format("%s/containers", m->run_dir);
	state = str_format("%s/containers", m->state_dir);
	if ((r = dir_make(run, 0711, err)) < 0 || (r = dir_make(state, 0711, err)) < 0)
		goto fail;
	if (access(m->oci, X_OK) < 0 || access(m->shim, X_OK) < 0) {
		r = error_set(err, ENOENT, "program %s is missing",
			      access(m->oci, X_OK) < 0 ? m->oci : m->shim);
		goto fail;
	}
	d = opendir(state);
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			load(m, e->d_name);
	r = pthread_create(&m->watcher, NULL, watcher_main, m);
	if (r) {
		r = error_sys(err, r, "starting the container watcher");
		goto fail;
	}
	*out = m;
	return 0;
fail:
	close(m->epoll);
	close(m->wake);
	while (m->containers) {
		struct container *c = m->containers;

		m->containers = c->next;
		container_free(c);
	}
	free(m->run_dir);
	free(m->state_dir);
	free(m->oci);
	free(m->shim);
	free(m->parent);
	free(m->oci_root);
	free(m);
	return r;
}

void container_manager_close(struct container_manager *m)
{
	if (!m)
		return;
	pthread_mutex_lock(&m->lock);
	m->stopping = true;
	pthread_mutex_unlock(&m->lock);
	wake(m);
	pthread_join(m->watcher, NULL);
	while (m->containers) {
		struct container *c = m->containers;

		m->containers = c->next;
		container_free(c);
	}
	while (m->execs) {
		struct exec *x = m->execs;

		m->execs = x->next;
		free(x->id);
		free(x->container);
		json_decref(x->config);
		free(x);
	}
	close(m->epoll);
	close(m->wake);
	pthread_mutex_destroy(&m->lock);
	pthread_cond_destroy(&m->changed);
	free(m->run_dir);
	free(m->state_dir);
	free(m->oci);
	free(m->shim);
	free(m->parent);
	free(m->oci_root);
	free(m);
}

int container_list(struct container_manager *m, json_t **ids, struct error *err)
{
	(void)err;
	*ids = json_array();
	pthread_mutex_lock(&m->lock);
	for (struct container *c = m->containers; c; c = c->next)
		if (!c->removed)
			json_array_append_new(*ids, json_string(c->id));
	pthread_mutex_unlock(&m->lock);
	return 0;
}
