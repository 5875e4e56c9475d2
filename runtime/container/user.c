/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users and groups of a root file system, read from its own /etc/passwd and /etc/group:
 * never through the host's name service. The files are opened inside the root, so a link
 * of the image cannot point at the host's.
 */
#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/container/bundle.h"

static FILE *open_in(const char *rootfs, const char *path)
{
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	CLEANUP_CLOSE int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = root < 0 ? -1 : (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

	if (!f && fd >= 0)
		close(fd);
	return f;
}

#define LINE_BYTES 262144 /* a group's line names all its members */

/* Threads start containers side by side: not fgetgrent(), which has one buffer for all. */
static bool next_group(FILE *f, struct group *g, char *line)
{
	struct group *found;

	return f && fgetgrent_r(f, g, line, LINE_BYTES, &found) == 0;
}

static bool next_user(FILE *f, struct passwd *pw, char *line)
{
	struct passwd *found;

	return f && fgetpwent_r(f, pw, line, LINE_BYTES, &found) == 0;
}

static int find_group(const char *rootfs, const char *name, int64_t *gid, struct error *err)
{
	CLEANUP_FCLOSE FILE *f = open_in(rootfs, "/etc/group");
	CLEANUP_FREE char *line = mem_zalloc(LINE_BYTES);
	struct group g;

	while (next_group(f, &g, line))
		if (!strcmp(g.gr_name, name)) {
			*gid = g.gr_gid;
			return 0;
		}
	if (str_to_i64(name, 0, INT32_MAX, gid) == 0)
		return 0;
	return error_set(err, ENOENT, "unable to find group %s: no matching entries in group file",
			 name);
}

static void add_group(json_t *groups, int64_t gid)
{
	json_t *v;
	size_t i;

	json_array_foreach (groups, i, v)
		if (json_integer_value(v) == gid)
			return;
	json_array_append_new(groups, json_integer(gid));
}

int user_resolve(const char *rootfs, const char *spec, const json_t *group_add, int64_t *uid,
		 int64_t *gid, json_t **groups, char **home, struct error *err)
{
	CLEANUP_FREE char *copy = str_dup(spec ? spec : ""), *login = NULL;
	CLEANUP_FREE char *line = mem_zalloc(LINE_BYTES);
	CLEANUP_FCLOSE FILE *pwf = open_in(rootfs, "/etc/passwd"), *grf = NULL;
	char *colon = strchr(copy, ':'), *group = NULL;
	json_t *list = json_array(), *v;
	struct passwd pw;
	struct group gr;
	bool number, found = false;
	int64_t n = 0;
	size_t i;
	int r = 0;

	if (colon) {
		*colon = '\0';
		group = colon + 1;
	}
	*uid = *gid = 0;
	*home = NULL;
	number = !copy[0] || str_to_i64(copy, 0, INT32_MAX, &n) == 0;
	while (!found && next_user(pwf, &pw, line)) {
		/* A name wins over a number that looks the same. */
		if (copy[0] && !strcmp(pw.pw_name, copy))
			found = true;
		else if (number && pw.pw_uid == (uid_t)n)
			found = true;
		if (found) {
			*uid = pw.pw_uid;
			*gid = pw.pw_gid;
			login = str_dup(pw.pw_name);
			*home = str_dup(pw.pw_dir);
		}
	}
	if (!found && !number)
		r = error_set(err, ENOENT,
			      "unable to find user %s: no matching entries in passwd file", copy);
	else if (!found)
		*uid = n;
	if (!r && group && group[0]) {
		r = find_group(rootfs, group, gid, err);
	} else if (!r && login) {
		/* Without an explicit group the user's memberships count. */
		grf = open_in(rootfs, "/etc/group");
		while (next_group(grf, &gr, line))
			for (char **m = gr.gr_mem; *m; m++)
				if (!strcmp(*m, login))
					add_group(list, gr.gr_gid);
	}
	if (!r)
		json_array_foreach (group_add, i, v) {
			int64_t extra;

			if (!json_is_string(v))
				continue;
			r = find_group(rootfs, json_string_value(v), &extra, err);
			if (r < 0)
				break;
			add_group(list, extra);
		}
	if (r < 0) {
		json_decref(list);
		free(*home);
		*home = NULL;
		return r;
	}
	*groups = list;
	return 0;
}
