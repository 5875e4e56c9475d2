/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a container: files, root file system, bundle, shim (which makes init), start.
 * On any failure everything is taken back and the container is "created" again.
 */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/container/bundle.h"
#include "runtime/container/internal.h"

extern char **environ;

struct files {
	char *hostname, *hosts, *resolv, *bundle, *name;
};

static void free_files(struct files *f)
{
	free(f->hostname);
	free(f->hosts);
	free(f->resolv);
	free(f->bundle);
	free(f->name);
}

int container_write_file(const char *path, const char *text, struct error *err)
{
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int r = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));

	return r < 0 ? error_sys(err, -r, "writing %s", path) : 0;
}

static char *default_hosts(const json_t *docker, const char *name)
{
	struct buf b = { 0 };
	json_t *v;
	size_t i;

	buf_addf(&b,
		 "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
		 "fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\n"
		 "ff02::2\tip6-allrouters\n127.0.1.1\t%s\n",
		 name);
	json_array_foreach (json_at(docker, "HostConfig.ExtraHosts"), i, v) {
		const char *s = json_string_value(v), *colon = s ? strchr(s, ':') : NULL;

		if (colon)
			buf_addf(&b, "%s\t%.*s\n", colon + 1, (int)(colon - s), s);
	}
	return b.data;
}

static int write_files(struct container_manager *m, const struct container *c, const json_t *doc,
		       const struct container_start_params *p, struct files *f, struct error *err)
{
	const json_t *docker = json_object_get(doc, "docker");
	CLEANUP_FREE char *hosts = NULL, *resolv = NULL, *line = NULL;
	const char *name =
		p->hostname && p->hostname[0] ? p->hostname : json_str(docker, "Hostname", "");
	int r;

	f->name = name[0] ? str_dup(name) : str_format("%.12s", c->id);
	f->hostname = container_dir(m, c->id, "hostname");
	f->hosts = container_dir(m, c->id, "hosts");
	f->resolv = container_dir(m, c->id, "resolv.conf");
	f->bundle = container_dir(m, c->id, "bundle");
	if (!p->hosts)
		hosts = default_hosts(docker, f->name);
	if (!p->resolv_conf && file_read("/etc/resolv.conf", 1 << 20, &resolv, NULL, NULL) < 0)
		resolv = str_dup("");
	line = str_format("%s\n", f->name);
	if ((r = dir_make(f->bundle, 0700, err)) < 0 ||
	    (r = container_write_file(f->hostname, line, err)) < 0 ||
	    (r = container_write_file(f->hosts, p->hosts ? p->hosts : hosts, err)) < 0)
		return r;
	return container_write_file(f->resolv, p->resolv_conf ? p->resolv_conf : resolv, err);
}

static int write_bundle(struct container_manager *m, const struct container *c, const json_t *doc,
			const struct container_start_params *p, const struct files *f,
			struct error *err)
{
	CLEANUP_FREE char *rootfs = container_dir(m, c->id, "rootfs"), *text = NULL;
	CLEANUP_FREE char *cgroup = container_cgroup(m, c->id);
	CLEANUP_FREE char *path = str_format("%s/config.json", f->bundle);
	struct bundle_input in = { .id = c->id,
				   .docker = json_object_get(doc, "docker"),
				   .image_config = json_object_get(doc, "image_config"),
				   .rootfs = rootfs,
				   .hostname = f->name,
				   .hosts_file = f->hosts,
				   .hostname_file = f->hostname,
				   .resolv_file = f->resolv,
				   .cgroup_path = cgroup,
				   .params = p };
	CLEANUP_JSON json_t *config = NULL;

	for (size_t i = 0; i < p->nmounts && !p->stub; i++)
		if (p->mounts[i].copy_up) {
			int r = rootfs_copy_up(rootfs, &p->mounts[i], err);

			if (r < 0)
				return r;
		}
	config = bundle_make(&in, err);
	if (!config)
		return err ? -err->code : -EINVAL;
	text = json_text(config);
	return container_write_file(path, text, err);
}

static int spawn_shim(const char *const argv[], int report, pid_t *pid)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	sigset_t none;
	int r;

	sigemptyset(&none);
	posix_spawnattr_init(&at);
	posix_spawnattr_setsigmask(&at, &none);
	posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSIGMASK);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, report, 3);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&fa, 0, 1);
	r = posix_spawn(pid, argv[0], &fa, &at, (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&at);
	return -r;
}

/* Starts the shim, which runs `ferry-oci create`; its one line on fd 3 says how it went. */
static int run_shim(struct container_manager *m, const struct container *c, const json_t *doc,
		    const struct files *f, bool stub, pid_t *init, struct error *err)
{
	const json_t *docker = json_object_get(doc, "docker");
	CLEANUP_FREE char *dir = container_run(m, c->id, NULL);
	CLEANUP_FREE char *state = container_dir(m, c->id, NULL);
	CLEANUP_FREE char *exit_file = container_dir(m, c->id, "exit.json");
	CLEANUP_FREE char *cgroup = container_cgroup(m, c->id), *oom = NULL;
	const char *argv[24] = { m->shim,     "--id",	  c->id,    "--dir", dir,
				 "--state",   state,	  "--oci",  m->oci,  "--oci-root",
				 m->oci_root, "--bundle", f->bundle };
	CLEANUP_CLOSE int rd = -1, wr = -1;
	CLEANUP_JSON json_t *answer = NULL;
	CLEANUP_BUF struct buf text = { 0 };
	int n = 13, p[2], r, status;
	char chunk[4096];
	ssize_t got;
	pid_t pid;

	unlink(exit_file);
	if ((r = dir_make(dir, 0700, err)) < 0)
		return r;
	oom = group_file("memory", cgroup, "memory.oom_control");
	if (!oom)
		oom = group_file("", cgroup, "memory.events");
	if (oom) {
		argv[n++] = "--oom-file";
		argv[n++] = oom;
	}
	if (stub)
		argv[n++] = "--stub";
	if (json_bool(docker, "Tty", false))
		argv[n++] = "--tty";
	if (json_bool(docker, "OpenStdin", false))
		argv[n++] = "--open-stdin";
	if (json_bool(docker, "StdinOnce", false))
		argv[n++] = "--stdin-once";
	if (pipe2(p, O_CLOEXEC) < 0)
		return error_sys(err, errno, "making a pipe");
	rd = p[0];
	wr = p[1];
	r = spawn_shim(argv, wr, &pid);
	if (r < 0)
		return error_sys(err, -r, "starting %s", m->shim);
	close(TAKE_FD(wr));
	process_wait(pid, &status);
	while ((got = read(rd, chunk, sizeof(chunk))) > 0 || (got < 0 && errno == EINTR))
		if (got > 0)
			buf_add(&text, chunk, (size_t)got);
	answer = text.len ? json_parse(text.data, text.len, "the shim's report", err) : NULL;
	if (!answer)
		return error_set(err, EIO, "the shim ended without a report; see %s/shim.log", dir);
	if (!json_bool(answer, "ok", false))
		return error_set(err, (int)json_int(answer, "code", EIO),
				 "OCI runtime create failed: %s",
				 json_str(answer, "error", "failed"));
	*init = (pid_t)json_int(answer, "pid", 0);
	return 0;
}

/* Hands over the attaches that came early, learns the stdio links, and begins to watch. */
static int meet_shim(struct container_manager *m, struct container *c, struct error *err)
{
	CLEANUP_CLOSE int sock = shim_connect(m, c->id, err);
	CLEANUP_JSON json_t *info = NULL;
	struct pending *list;
	int r;

	if (sock < 0)
		return sock;
	r = shim_ask(sock, json_pack("{s:s}", "op", "info"), &info, err);
	pthread_mutex_lock(&m->lock);
	list = c->pending;
	c->pending = NULL;
	pthread_mutex_unlock(&m->lock);
	while (list) {
		struct pending *p = list;

		list = p->next;
		if (!r &&
		    (r = shim_send(sock,
				   json_pack("{s:s,s:s,s:b,s:b,s:b}", "op", "attach", "proc", "",
					     "stdin", p->in, "stdout", p->out, "stderr", p->err),
				   p->fd, err)) == 0)
			r = shim_answer(sock, NULL, err);
		close(p->fd);
		free(p);
	}
	if (!r)
		r = shim_send(sock, json_pack("{s:s}", "op", "wait"), -1, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&m->lock);
	json_decref(c->stdio);
	c->stdio = json_incref(json_object_get(info, "stdio"));
	pthread_mutex_unlock(&m->lock);
	container_watch(m, c, TAKE_FD(sock));
	return 0;
}

static json_t *remember(const struct container_start_params *p)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->nmounts; i++)
		json_array_append_new(list,
				      json_pack("{s:s,s:s,s:b}", "Source", p->mounts[i].source,
						"Destination", p->mounts[i].destination, "RW",
						!p->mounts[i].readonly));
	return json_pack("{s:s?,s:o,s:{s:b,s:I,s:I}}", "netns", p->netns, "mounts", list, "offsets",
			 "set", p->time_offsets.set, "mono_ns", (json_int_t)p->time_offsets.mono_ns,
			 "boot_ns", (json_int_t)p->time_offsets.boot_ns);
}

static int begin(struct container_manager *m, struct container *c,
		 const struct container_start_params *p, struct error *err)
{
	int r = 0;

	pthread_mutex_lock(&m->lock);
	if (c->removed)
		r = error_set(err, ENOENT, "No such container: %s", c->id);
	else if (c->status == RUNNING || c->status == STARTING || c->stub)
		r = error_set(err, EALREADY, "container %.12s is %s already", c->id,
			      c->stub ? "made for a restore" : "running");
	if (!r) {
		c->status = STARTING;
		json_set_str(c->doc, "error", "");
		json_object_set_new(c->doc, "start", remember(p));
		r = container_save(m, c, err);
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}

static int build(struct container_manager *m, struct container *c, const json_t *doc,
		 const struct container_start_params *p, pid_t *init, struct error *err)
{
	CLEANUP_FREE char *old = str_format("%s/%s", m->oci_root, c->id);
	const char *const start[] = { "start", c->id, NULL };
	struct files f = { 0 };
	int r = 0;

	if (access(old, F_OK) == 0)
		r = container_cleanup(m, c->id, err);
	if (!r && (r = write_files(m, c, doc, p, &f, err)) == 0 &&
	    (r = rootfs_mount(m, c->id, json_object_get(doc, "lower"), err)) == 0 &&
	    (r = write_bundle(m, c, doc, p, &f, err)) == 0 &&
	    (r = run_shim(m, c, doc, &f, p->stub, init, err)) == 0) {
		uint64_t ticks = 0;

		process_start_time(*init, &ticks);
		pthread_mutex_lock(&m->lock);
		c->pid = *init;
		c->ticks = ticks;
		c->stub = p->stub;
		pthread_mutex_unlock(&m->lock);
		r = meet_shim(m, c, err);
		if (!r && !p->stub)
			r = container_oci(m, start, err);
	}
	free_files(&f);
	return r;
}

/* The state after build(), unless a short life is over already. */
static void settle(struct container_manager *m, struct container *c,
		   const struct container_start_params *p, int r, const struct error *err)
{
	pthread_mutex_lock(&m->lock);
	if (c->status == STARTING)
		c->status = r >= 0 && !p->stub			       ? RUNNING
			    : r < 0 && p->stub && container_has_run(c) ? EXITED
								       : CREATED;
	if (r < 0) {
		c->stub = false;
		c->pid = 0;
		c->ends++; /* whoever waits for its next end has waited for this */
		container_drop_pending(c);
		json_set_str(c->doc, "error", err ? err->msg : "failed");
		json_set_int(c->doc, "exit_code", r == -ENOENT ? 127 : r == -EACCES ? 126 : 128);
	} else if (!p->stub) {
		container_set_now(c->doc, "started");
	}
	container_save(m, c, NULL);
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

int container_start(struct container_manager *m, const char *id,
		    const struct container_start_params *params, pid_t *init, struct error *err)
{
	static const struct container_start_params nothing;
	struct container *c = container_get(m, id, err);
	CLEANUP_JSON json_t *doc = NULL;
	struct error own = { 0 };
	pid_t pid = 0;
	int r;

	if (!c)
		return -ENOENT;
	if (!params)
		params = &nothing;
	if (!err)
		err = &own;
	pthread_mutex_lock(&c->op);
	r = begin(m, c, params, err);
	if (!r) {
		pthread_mutex_lock(&m->lock);
		doc = json_deep_copy(c->doc);
		pthread_mutex_unlock(&m->lock);
		r = build(m, c, doc, params, &pid, err);
		if (r < 0)
			container_cleanup(m, id, NULL);
		settle(m, c, params, r, err);
	}
	pthread_mutex_unlock(&c->op);
	container_put(m, c);
	if (r < 0)
		return error_wrap(err, "starting container %.12s", id);
	if (init)
		*init = pid;
	return 0;
}
