/* SPDX-License-Identifier: Apache-2.0 */
/* root/ID/state.json: what ferry-oci remembers of a container between its commands. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/oci/cgroup.h"
#include "runtime/oci/oci.h"

void state_free(struct state *s)
{
	free(s->id);
	free(s->bundle);
	free(s->rootfs);
	free(s->cgroup);
	free(s->created);
	free(s->version);
	json_decref(s->annotations);
	memset(s, 0, sizeof(*s));
}

char *state_path(const struct global *g, const char *id, const char *file)
{
	return str_format("%s/%s%s%s", g->root, id, file ? "/" : "", file ? file : "");
}

static int check_id(const char *id, struct error *err)
{
	if (!id || !id[0] || !str_is_name(id))
		return error_set(err, EINVAL, "\"%s\" is no container id", id ? id : "");
	return 0;
}

int state_load(const struct global *g, const char *id, struct state *s, struct error *err)
{
	CLEANUP_FREE char *path = NULL;
	CLEANUP_JSON json_t *j = NULL;
	int r = check_id(id, err);

	memset(s, 0, sizeof(*s));
	if (r < 0)
		return r;
	path = state_path(g, id, "state.json");
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return error_set(err, ENOENT, "container %s does not exist", id);
	j = json_parse_file(path, 1 << 20, err);
	if (!j)
		return err ? -err->code : -EIO;
	s->id = str_dup(id);
	s->bundle = str_dup(json_str(j, "bundle", ""));
	s->rootfs = str_dup(json_str(j, "rootfs", ""));
	s->cgroup = str_dup(json_str(j, "cgroup", ""));
	s->created = str_dup(json_str(j, "created", ""));
	s->version = str_dup(json_str(j, "ociVersion", "1.0.2"));
	s->pid = (pid_t)json_int(j, "pid", 0);
	s->start = (uint64_t)json_int(j, "start", 0);
	s->stub = json_bool(j, "stub", false);
	s->annotations = json_incref(json_object_get(j, "annotations"));
	return 0;
}

int state_save(const struct global *g, const struct state *s, struct error *err)
{
	CLEANUP_FREE char *path = state_path(g, s->id, "state.json"), *text = NULL;
	CLEANUP_FREE char *tmp = str_format("%s.new", path);
	CLEANUP_CLOSE int fd = -1;
	CLEANUP_JSON json_t *j = json_object();
	int r;

	json_set_str(j, "id", s->id);
	json_set_str(j, "bundle", s->bundle);
	json_set_str(j, "rootfs", s->rootfs);
	json_set_str(j, "cgroup", s->cgroup);
	json_set_str(j, "created", s->created);
	json_set_str(j, "ociVersion", s->version);
	json_set_int(j, "pid", s->pid);
	json_set_int(j, "start", (int64_t)s->start);
	json_set_bool(j, "stub", s->stub);
	if (s->annotations)
		json_object_set(j, "annotations", s->annotations);
	text = json_text(j);
	/* The root is a tmpfs that dies with the processes: atomic, but nothing to sync. */
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
	if (!r && rename(tmp, path) < 0)
		r = -errno;
	return r < 0 ? error_sys(err, -r, "writing %s", path) : 0;
}

/* Alive, and not a zombie that only waits for its parent. */
static bool init_alive(const struct state *s)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/stat", s->pid), *text = NULL;
	uint64_t start;
	const char *p;

	if (s->pid <= 0 || process_start_time(s->pid, &start) < 0 || start != s->start)
		return false;
	if (file_read(path, 65536, &text, NULL, NULL) < 0)
		return false;
	p = strrchr(text, ')');
	return p && p[1] && p[2] != 'Z' && p[2] != 'X';
}

const char *state_status(const struct global *g, const struct state *s)
{
	CLEANUP_FREE char *fifo = NULL;
	CLEANUP_CGROUPS struct cgroups cg = { 0 };

	if (!s->pid)
		return "creating";
	if (!init_alive(s))
		return "stopped";
	fifo = state_path(g, s->id, "exec.fifo");
	if (access(fifo, F_OK) == 0)
		return "created";
	if (s->cgroup[0] && cgroups_load(&cg, NULL) == 0 && cgroup_frozen(&cg, s->cgroup))
		return "paused";
	return "running";
}

char *state_text(const struct state *s, const char *status, pid_t pid)
{
	CLEANUP_JSON json_t *j = json_object();
	char *text;

	json_set_str(j, "ociVersion", s->version);
	json_set_str(j, "id", s->id);
	json_set_str(j, "status", status);
	json_set_int(j, "pid", pid);
	json_set_str(j, "bundle", s->bundle);
	json_set_str(j, "rootfs", s->rootfs);
	json_set_str(j, "created", s->created);
	if (s->annotations)
		json_object_set(j, "annotations", s->annotations);
	text = json_dumps(j, JSON_INDENT(2));
	if (!text)
		abort();
	return text;
}

int state_pidfd(const struct state *s, struct error *err)
{
	int fd;

	if (s->pid <= 0 || (fd = (int)syscall(SYS_pidfd_open, s->pid, 0)) < 0)
		return error_set(err, ESRCH, "container %s is not running", s->id);
	/* The pid may be somebody else's by now; the fd is not. */
	if (!init_alive(s)) {
		close(fd);
		return error_set(err, ESRCH, "container %s is not running", s->id);
	}
	return fd;
}

int state_lock(const struct global *g, const char *id, struct error *err)
{
	CLEANUP_FREE char *dir = NULL;
	int fd, r = check_id(id, err);

	if (r < 0)
		return r;
	dir = state_path(g, id, NULL);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? error_set(err, ENOENT, "container %s does not exist", id)
				       : error_sys(err, errno, "opening %s", dir);
	do
		r = flock(fd, LOCK_EX);
	while (r < 0 && errno == EINTR);
	return fd;
}

struct spec *state_spec(const struct global *g, const char *id, struct error *err)
{
	CLEANUP_FREE char *path = state_path(g, id, "config.json"), *text = NULL;
	size_t len;

	return file_read(path, 16 << 20, &text, &len, err) < 0 ? NULL : spec_parse(text, len, err);
}
