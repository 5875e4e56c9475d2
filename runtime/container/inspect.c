/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at a container: inspect and top, and finding the cgroup files of its group. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/container/bundle.h"
#include "runtime/container/internal.h"
#include "runtime/container/jsonlog.h"

/* Mount point of the v1 hierarchy with that controller, or of v2 for "". */
static char *group_mount(const char *controller)
{
	CLEANUP_FREE char *text = NULL;
	char *save = NULL, *found = NULL;

	if (file_read("/proc/self/mountinfo", 16 << 20, &text, NULL, NULL) < 0)
		return NULL;
	for (char *l = strtok_r(text, "\n", &save); l && !found; l = strtok_r(NULL, "\n", &save)) {
		char *dash = strstr(l, " - "), *point = l, *end, *opts;
		bool v2;

		if (!dash ||
		    (!str_starts(dash + 3, "cgroup ") && !str_starts(dash + 3, "cgroup2 ")))
			continue;
		v2 = dash[9] == '2';
		if (v2 != !controller[0])
			continue;
		opts = strrchr(dash, ' ') + 1;
		for (char *o = strtok_r(opts, ",", &end); o && !v2; o = strtok_r(NULL, ",", &end))
			v2 |= !strcmp(o, controller);
		if (!v2)
			continue;
		for (int i = 0; i < 4 && point; i++)
			point = strchr(point, ' ') ? strchr(point, ' ') + 1 : NULL;
		if (point)
			found = str_format("%.*s", (int)strcspn(point, " "), point);
	}
	return found;
}

char *group_file(const char *controller, const char *path, const char *file)
{
	CLEANUP_FREE char *mount = group_mount(controller);

	return mount ? str_format("%s%s/%s", mount, path, file) : NULL;
}

char *group_read(const char *controller, const char *path, const char *file)
{
	CLEANUP_FREE char *full = group_file(controller, path, file);
	char *text = NULL;

	if (full)
		file_read(full, 1 << 20, &text, NULL, NULL);
	return text;
}

bool group_frozen(const char *path)
{
	CLEANUP_FREE char *v1 = group_read("freezer", path, "freezer.state");
	CLEANUP_FREE char *v2 = group_read("", path, "cgroup.events");

	return (v1 && str_starts(v1, "FROZEN")) || (v2 && strstr(v2, "frozen 1"));
}

/* --- inspect ------------------------------------------------------------------------------- */

static json_t *stdio(const json_t *links)
{
	json_t *out = json_array(), *v;
	size_t i;

	json_array_foreach (links, i, v)
		json_array_append_new(out, json_pack("{s:i,s:O}", "fd", (int)i, "link", v));
	return out;
}

static void describe_start(json_t *j, const json_t *start)
{
	const json_t *offsets = json_object_get(start, "offsets");
	const json_t *mounts = json_object_get(start, "mounts");

	json_object_set_new(j, "TimeOffsets",
			    json_pack("{s:I,s:I}", "mono_ns",
				      (json_int_t)json_int(offsets, "mono_ns", 0), "boot_ns",
				      (json_int_t)json_int(offsets, "boot_ns", 0)));
	json_set_str(j, "Netns", json_str(start, "netns", NULL));
	json_object_set_new(j, "Mounts",
			    json_is_array(mounts) ? json_deep_copy(mounts) : json_array());
}

int container_inspect(struct container_manager *m, const char *id, json_t **out, struct error *err)
{
	static const char *const names[] = { "created", "created", "running", "exited" };
	struct container *c = container_get(m, id, err);
	CLEANUP_FREE char *group = container_cgroup(m, id), *log = NULL, *created = NULL;
	CLEANUP_FREE char *rootfs = container_dir(m, id, "rootfs");
	CLEANUP_FREE char *upper = container_dir(m, id, "upper");
	CLEANUP_FREE char *bundle = container_dir(m, id, "bundle"), *log_name = NULL;
	const json_t *doc, *docker;
	json_t *j, *args, *ids;
	int64_t ns = 0;
	bool frozen;

	if (!c)
		return -ENOENT;
	log_name = str_format("%s-json.log", id);
	log = container_dir(m, id, log_name);
	frozen = group_frozen(group);
	j = json_object();
	pthread_mutex_lock(&m->lock);
	doc = c->doc;
	docker = json_object_get(doc, "docker");
	str_to_i64(json_str(doc, "created_ns", "0"), 0, INT64_MAX, &ns);
	created = time_format(ns);
	json_set_str(j, "Id", id);
	json_set_str(j, "Name", json_str(doc, "name", ""));
	json_set_str(j, "Status", c->status == RUNNING && frozen ? "paused" : names[c->status]);
	json_set_int(j, "Pid", c->pid);
	json_set_bool(j, "Stub", c->stub);
	json_set_int(j, "ExitCode", c->status == RUNNING ? 0 : json_int(doc, "exit_code", 0));
	json_set_str(j, "Error", json_str(doc, "error", ""));
	json_set_bool(j, "OOMKilled", json_bool(doc, "oom", false));
	json_set_str(j, "CreatedAt", created);
	json_set_str(j, "StartedAt", json_str(doc, "started", ""));
	json_set_str(j, "FinishedAt", json_str(doc, "finished", ""));
	json_set_str(j, "Cgroup", group);
	json_set_str(j, "LogPath", log);
	json_set_str(j, "Rootfs", rootfs);
	json_set_str(j, "Upper", upper);
	json_set_str(j, "Bundle", bundle);
	json_set_bool(j, "Tty", json_bool(docker, "Tty", false));
	json_set_bool(j, "OpenStdin", json_bool(docker, "OpenStdin", false));
	json_object_set_new(j, "Stdio", stdio(c->stdio));
	describe_start(j, json_object_get(doc, "start"));
	args = bundle_args(docker, json_object_get(doc, "image_config"));
	json_set_str(j, "Path", json_string_value(json_array_get(args, 0)));
	json_array_remove(args, 0);
	json_object_set_new(j, "Args", args);
	json_object_set_new(j, "Docker", json_deep_copy(docker));
	json_set_str(j, "Image", json_str(doc, "image", ""));
	ids = json_array();
	for (struct exec *x = m->execs; x; x = x->next)
		if (!strcmp(x->container, id) && !x->done)
			json_array_append_new(ids, json_string(x->id));
	json_object_set_new(j, "ExecIDs", ids);
	pthread_mutex_unlock(&m->lock);
	container_put(m, c);
	*out = j;
	return 0;
}

/* --- top ------------------------------------------------------------------------------------- */

/* A line of ps in `n` fields, the last one with the rest. */
static json_t *fields(char *line, size_t n)
{
	json_t *row = json_array();

	while (*line && (n == 0 || json_array_size(row) + 1 < n)) {
		size_t len;

		line += strspn(line, " ");
		len = strcspn(line, " ");
		if (len)
			json_array_append_new(row, json_stringn(line, len));
		line += len;
	}
	line += strspn(line, " ");
	if (*line)
		json_array_append_new(row, json_string(line));
	return row;
}

/* cgroup.procs has one pid a line. */
static bool is_inside(const char *procs, const char *pid)
{
	char key[32];

	snprintf(key, sizeof(key), "\n%s\n", pid);
	return str_starts(procs, key + 1) || strstr(procs, key);
}

/* ps's table, of which only the processes in `procs` stay. */
static int filter_ps(char *text, const char *procs, json_t **titles, json_t *rows,
		     struct error *err)
{
	size_t pid_at = SIZE_MAX, i;
	char *save = NULL;
	json_t *v;

	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		CLEANUP_JSON json_t *row = NULL;
		const char *pid;

		if (!*titles) {
			*titles = fields(l, 0);
			json_array_foreach (*titles, i, v)
				if (!strcmp(json_string_value(v), "PID"))
					pid_at = i;
			if (pid_at == SIZE_MAX)
				return error_set(err, EINVAL,
						 "Couldn't find PID field in ps output");
			continue;
		}
		row = fields(l, json_array_size(*titles));
		pid = json_string_value(json_array_get(row, pid_at));
		if (pid && is_inside(procs, pid))
			json_array_append(rows, row);
	}
	return 0;
}

int container_top(struct container_manager *m, const char *id, const char *ps_args, json_t **out,
		  struct error *err)
{
	struct container *c = container_get(m, id, err);
	CLEANUP_FREE char *group = container_cgroup(m, id), *inside = NULL, *text = NULL;
	CLEANUP_FREE char *args = str_dup(ps_args && ps_args[0] ? ps_args : "-ef");
	CLEANUP_JSON json_t *rows = json_array(), *titles = NULL;
	const char *argv[16] = { "ps" };
	bool running;
	char *save = NULL;
	int n = 1, r = 0;

	if (!c)
		return -ENOENT;
	pthread_mutex_lock(&m->lock);
	running = c->status == RUNNING;
	pthread_mutex_unlock(&m->lock);
	container_put(m, c);
	if (!running)
		return error_set(err, EBUSY, "container %.12s is not running", id);
	for (char *a = strtok_r(args, " ", &save); a && n < 15; a = strtok_r(NULL, " ", &save))
		argv[n++] = a;
	inside = group_read("pids", group, "cgroup.procs");
	if (!inside)
		inside = group_read("", group, "cgroup.procs");
	if (!inside)
		return error_set(err, EIO, "reading the processes of container %.12s failed", id);
	if ((r = process_run(argv, &text, err)) < 0 ||
	    (r = filter_ps(text, inside, &titles, rows, err)) < 0)
		return r;
	*out = json_pack("{s:O,s:O}", "Titles", titles, "Processes", rows);
	return *out ? 0 : error_set(err, EIO, "ps printed nothing");
}
