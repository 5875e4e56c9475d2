/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Part "tree": the folders that ferryd names (the overlay's upper layer), and every tmpfs
 * that is mounted inside the container and nowhere on the host (/dev/shm, /run, /tmp …):
 * each pre-copy round a pass, the last one frozen.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"
#include "runtime/checkpoint/tree.h"
#include "runtime/checkpoint/tree_attr.h"

static struct {
	char *key; /* source or mount point, so that it is found again */
	struct tree_source *ts;
} * trees;
static size_t ntrees;

static bool tree_known(const char *key)
{
	for (size_t i = 0; i < ntrees; i++)
		if (strcmp(trees[i].key, key) == 0)
			return true;
	return false;
}

static void tree_add(const char *key, struct tree_source *ts)
{
	trees = mem_grow(trees, ntrees + 1, sizeof(*trees));
	trees[ntrees].key = str_dup(key);
	trees[ntrees++].ts = ts;
}

/* Undoes the \040 of mountinfo in place. */
static void unescape(char *s)
{
	char *w = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*w++ = (char)((s[1] & 3) << 6 | (s[2] & 7) << 3 | (s[3] & 7));
			s += 3;
		} else {
			*w++ = *s;
		}
	}
	*w = '\0';
}

/* Does a line of this mountinfo begin "ID PARENT MAJ:MIN "? */
static bool has_device(const char *mountinfo, const char *majmin)
{
	for (const char *p = mountinfo; p && *p;) {
		char dev[32] = "";

		if (sscanf(p, "%*d %*d %31s", dev) == 1 && strcmp(dev, majmin) == 0)
			return true;
		p = strchr(p, '\n');
		if (p)
			p++;
	}
	return false;
}

static int tree_find_tmpfs(struct dump *d, struct error *err)
{
	struct task *init = dump_task(d, 1);
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FREE char *inside = NULL;
	CLEANUP_FREE char *host = NULL;
	char *save = NULL;

	if (!init && dump_task_count(d))
		init = dump_task_at(d, 0);
	if (!init)
		return 0;
	path = str_format("/proc/%d/mountinfo", task_pid(init));
	if (file_read(path, 64 << 20, &inside, NULL, err) < 0)
		return error_wrap(err, "listing the container's mounts");
	for (char *line = strtok_r(inside, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char dev[32], root[4096], point[4096], type[64];
		const char *dash = strstr(line, " - ");
		CLEANUP_CLOSE int fd = -1;
		struct tree_source *ts;
		struct stat st;

		if (!dash || sscanf(line, "%*d %*d %31s %4095s %4095s", dev, root, point) != 3 ||
		    sscanf(dash, " - %63s", type) != 1)
			continue;
		unescape(point);
		if (strcmp(type, "tmpfs") != 0 || strcmp(root, "/") != 0 ||
		    strcmp(point, "/") == 0 || str_starts(point, "/proc/") ||
		    str_starts(point, "/sys/") || tree_known(point))
			continue;
		/* The host's list is long, and all are known when the tasks stand still. */
		if (!host && file_read("/proc/self/mountinfo", 64 << 20, &host, NULL, err) < 0)
			return error_wrap(err, "listing the host's mounts");
		if (has_device(host, dev))
			continue;
		fd = obj_open_in_root(dump_root_fd(d), point, O_PATH | O_DIRECTORY, 0, 0);
		/* another mount may cover this one */
		if (fd < 0 || fstat(fd, &st) < 0)
			continue;
		snprintf(root, sizeof(root), "%u:%u", major(st.st_dev), minor(st.st_dev));
		if (strcmp(root, dev) != 0)
			continue;
		ts = tree_source_new_fd(fd, point, err);
		if (!ts)
			return error_wrap(err, "tmpfs %s", point);
		tree_add(point, ts);
	}
	return 0;
}

static int tree_find_named(json_t *args, struct error *err)
{
	json_t *list = json_object_get(args, "trees"), *t;
	size_t i;

	json_array_foreach (list, i, t) {
		const char *source = json_str(t, "source", NULL);
		const char *dest = json_str(t, "dest", "/");
		struct tree_source *ts;

		if (!source)
			return error_set(err, EINVAL, "trees[%zu] has no \"source\"", i);
		/* Mounts inside the container are found below, by mountinfo: a path through
		 * /proc/PID/root would follow the container's links into the host. */
		if (tree_known(source) || str_starts(source, "/proc/"))
			continue;
		ts = tree_source_new(source, dest, err);
		if (!ts)
			return -(err ? err->code : EIO);
		tree_add(source, ts);
	}
	return 0;
}

static int tree_emit(void *ctx, const void *frame, size_t len, struct error *err)
{
	return dump_send_part(ctx, obj_tree_part.name, frame, len, err);
}

static bool tree_elsewhere(void *ctx, dev_t dev, ino_t ino)
{
	return dump_shared_id(ctx, dev, ino) != 0;
}

static int tree_passes(struct dump *d, bool final, struct error *err)
{
	for (size_t i = 0; i < ntrees; i++) {
		struct tree_pass p = {
			.final = final, .emit = tree_emit, .elsewhere = tree_elsewhere, .ctx = d
		};
		int n = tree_source_pass(trees[i].ts, &p, err);

		if (n < 0)
			return n;
	}
	return 0;
}

static int tree_round(struct dump *d, int n, json_t *args, struct error *err)
{
	int rc = tree_find_named(args, err);

	(void)n;
	if (rc == 0)
		rc = tree_find_tmpfs(d, err);
	return rc < 0 ? rc : tree_passes(d, false, err);
}

static int tree_dump(struct dump *d, struct error *err)
{
	int rc = tree_find_tmpfs(d, err);

	return rc < 0 ? rc : tree_passes(d, true, err);
}

static int tree_undo(struct dump *d)
{
	(void)d;
	for (size_t i = 0; i < ntrees; i++) {
		free(trees[i].key);
		tree_source_free(trees[i].ts);
	}
	free(trees);
	trees = NULL;
	ntrees = 0;
	return 0;
}

static int tree_receive(struct restore *r, const void *body, size_t len, struct error *err)
{
	return tree_dest_apply(restore_root_fd(r), body, len, err);
}

static int tree_seal(struct restore *r, struct error *err)
{
	return tree_attr_seal(restore_root_fd(r), err);
}

const struct checkpoint_part obj_tree_part = {
	.name = "tree",
	.round = tree_round,
	.dump = tree_dump,
	.dump_undo = tree_undo,
	.receive = tree_receive,
	.seal = tree_seal,
};
