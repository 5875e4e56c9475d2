/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docker exec: the table of execs (in memory: after a restart of the manager an exec that
 * runs goes on, but nobody can ask for it any more), started by the shim.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/container/bundle.h"
#include "runtime/container/internal.h"

static struct exec *find_exec(struct container_manager *m, const char *id)
{
	for (struct exec *x = m->execs; x; x = x->next)
		if (!strcmp(x->id, id))
			return x;
	return NULL;
}

int container_exec_create(struct container_manager *m, const char *id, json_t *config,
			  char **exec_id, struct error *err)
{
	struct container *c = container_get(m, id, err);
	struct exec *x;
	int r = 0;

	if (!c)
		return -ENOENT;
	pthread_mutex_lock(&m->lock);
	if (c->status != RUNNING)
		r = error_set(err, EBUSY, "container %.12s is not running", id);
	pthread_mutex_unlock(&m->lock);
	container_put(m, c);
	if (r < 0)
		return r;
	if (!json_is_object(config))
		return error_set(err, EINVAL, "the exec body must be an object");
	if (!json_array_size(json_object_get(config, "Cmd")))
		return error_set(err, EINVAL, "No exec command specified");
	x = mem_zalloc(sizeof(*x));
	x->id = str_random_hex(32);
	x->container = str_dup(id);
	x->config = json_deep_copy(config);
	*exec_id = str_dup(x->id);
	pthread_mutex_lock(&m->lock);
	x->next = m->execs;
	m->execs = x;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

/* Writes the process document of an exec for the shim; its path (caller frees). */
static int write_process(struct container_manager *m, const char *container, const char *exec_id,
			 const json_t *body, char **path, struct error *err)
{
	CLEANUP_FREE char *config_path = container_dir(m, container, "bundle/config.json");
	CLEANUP_FREE char *rootfs = container_dir(m, container, "rootfs"), *name = NULL;
	CLEANUP_JSON json_t *config = NULL, *p = NULL, *docker = NULL;
	CLEANUP_FREE char *text = NULL;
	struct container *c = container_get(m, container, err);

	if (!c)
		return -ENOENT;
	pthread_mutex_lock(&m->lock);
	docker = json_deep_copy(json_object_get(c->doc, "docker"));
	pthread_mutex_unlock(&m->lock);
	container_put(m, c);
	config = json_parse_file(config_path, 16 << 20, err);
	p = config ? bundle_exec(config, body, docker, rootfs, err) : NULL;
	if (!p)
		return err ? -err->code : -EINVAL;
	name = str_format("exec-%.16s.json", exec_id);
	*path = container_run(m, container, name);
	text = json_text(p);
	return container_write_file(*path, text, err);
}

int container_exec_start(struct container_manager *m, const char *exec_id, int *sock,
			 struct error *err)
{
	CLEANUP_FREE char *container = NULL, *path = NULL;
	CLEANUP_JSON json_t *body = NULL, *answer = NULL;
	CLEANUP_CLOSE int fd = -1;
	struct error own = { 0 };
	struct exec *x;
	int r = 0;

	if (!err)
		err = &own;
	pthread_mutex_lock(&m->lock);
	x = find_exec(m, exec_id);
	if (!x)
		r = error_set(err, ENOENT, "No such exec instance: %s", exec_id);
	else if (x->started)
		r = error_set(err, EALREADY, "exec %.12s was started already", exec_id);
	if (x && !r) {
		x->started = true;
		container = str_dup(x->container);
		body = json_deep_copy(x->config);
	}
	pthread_mutex_unlock(&m->lock);
	if (r < 0)
		return r;
	r = write_process(m, container, exec_id, body, &path, err);
	if (!r) {
		fd = shim_connect(m, container, err);
		r = fd < 0 ? fd : 0;
	}
	if (!r)
		r = shim_ask(fd,
			     json_pack("{s:s,s:s,s:s,s:b,s:b,s:b,s:b,s:b}", "op", "exec", "proc",
				       exec_id, "process", path, "tty",
				       json_bool(body, "Tty", false), "attach", sock != NULL,
				       "stdin", sock && json_bool(body, "AttachStdin", false),
				       "stdout", json_bool(body, "AttachStdout", false), "stderr",
				       json_bool(body, "AttachStderr", false)),
			     &answer, err);
	if (path)
		unlink(path);
	pthread_mutex_lock(&m->lock);
	x = find_exec(m, exec_id);
	if (x && r < 0) {
		x->done = true;
		x->exit_code = r == -ENOENT ? 127 : 126;
	} else if (x) {
		x->pid = (pid_t)json_int(answer, "pid", 0);
	}
	pthread_mutex_unlock(&m->lock);
	if (r < 0)
		return error_wrap(err, "OCI runtime exec failed");
	if (sock)
		*sock = TAKE_FD(fd);
	return 0;
}

/* Asks the shim how a started exec is; an exec that outlived its shim was killed with init. */
static void refresh(struct container_manager *m, const char *container, const char *exec_id)
{
	CLEANUP_CLOSE int fd = shim_connect(m, container, NULL);
	CLEANUP_JSON json_t *info = NULL;
	struct exec *x;
	int r = fd;

	if (fd >= 0)
		r = shim_ask(fd, json_pack("{s:s,s:s}", "op", "exec-info", "proc", exec_id), &info,
			     NULL);
	pthread_mutex_lock(&m->lock);
	x = find_exec(m, exec_id);
	if (x && !x->done && (r < 0 || !json_bool(info, "running", true))) {
		x->done = true;
		x->exit_code = r < 0 ? 137 : (int)json_int(info, "exit_code", 0);
	}
	pthread_mutex_unlock(&m->lock);
}

static json_t *describe(const struct exec *x)
{
	json_t *cmd = json_object_get(x->config, "Cmd"), *args = json_copy(cmd), *j = json_object();

	json_array_remove(args, 0);
	json_set_str(j, "ID", x->id);
	json_set_str(j, "ContainerID", x->container);
	json_set_bool(j, "Running", x->started && !x->done);
	json_object_set_new(j, "ExitCode", x->done ? json_integer(x->exit_code) : json_null());
	json_set_int(j, "Pid", x->pid);
	json_set_bool(j, "OpenStdin", json_bool(x->config, "AttachStdin", false));
	json_set_bool(j, "OpenStdout", json_bool(x->config, "AttachStdout", false));
	json_set_bool(j, "OpenStderr", json_bool(x->config, "AttachStderr", false));
	json_set_bool(j, "CanRemove", x->done);
	json_set_str(j, "DetachKeys", json_str(x->config, "DetachKeys", ""));
	json_object_set_new(j, "ProcessConfig",
			    json_pack("{s:b,s:O,s:o,s:b,s:s}", "tty",
				      json_bool(x->config, "Tty", false), "entrypoint",
				      json_array_get(cmd, 0), "arguments", args, "privileged",
				      json_bool(x->config, "Privileged", false), "user",
				      json_str(x->config, "User", "")));
	return j;
}

int container_exec_inspect(struct container_manager *m, const char *exec_id, json_t **out,
			   struct error *err)
{
	CLEANUP_FREE char *container = NULL;
	bool ask = false;
	struct exec *x;

	pthread_mutex_lock(&m->lock);
	x = find_exec(m, exec_id);
	if (x) {
		container = str_dup(x->container);
		ask = x->started && !x->done;
	}
	pthread_mutex_unlock(&m->lock);
	if (ask)
		refresh(m, container, exec_id);
	pthread_mutex_lock(&m->lock);
	x = find_exec(m, exec_id);
	*out = x ? describe(x) : NULL;
	pthread_mutex_unlock(&m->lock);
	return *out ? 0 : error_set(err, ENOENT, "No such exec instance: %s", exec_id);
}

int container_exec_resize(struct container_manager *m, const char *exec_id, unsigned rows,
			  unsigned cols, struct error *err)
{
	CLEANUP_FREE char *container = NULL;
	struct exec *x;

	pthread_mutex_lock(&m->lock);
	x = find_exec(m, exec_id);
	if (x)
		container = str_dup(x->container);
	pthread_mutex_unlock(&m->lock);
	if (!container)
		return error_set(err, ENOENT, "No such exec instance: %s", exec_id);
	return shim_resize(m, container, exec_id, rows, cols, err);
}
