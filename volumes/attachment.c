// SPDX-License-Identifier: Apache-2.0
/* State files of attached volumes; see attachment.h. */
#include "volumes/attachment.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"

#define MAX_FILE (64u << 10)

char *attachment_path(const char *run_dir, const char *name, const char *suffix)
{
	return str_format("%s/vold/%s.%s", run_dir, name, suffix);
}

void attachment_free(struct attachment *a)
{
	free(a->name);
	free(a->driver);
	free(a->device);
	free(a->mode);
	free(a->address);
	free(a->fs);
	memset(a, 0, sizeof(*a));
}

void attachment_set(char **field, const char *value)
{
	char *copy = str_dup(value);

	free(*field);
	*field = copy;
}

int attachment_load(const char *run_dir, const char *name, struct attachment *a, struct error *err)
{
	CLEANUP_FREE char *path = attachment_path(run_dir, name, "json");
	CLEANUP_JSON json_t *obj = NULL;

	memset(a, 0, sizeof(*a));
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return error_set(err, ENOENT, "volume %s is not attached to this host", name);
	obj = json_parse_file(path, MAX_FILE, err);
	if (!obj)
		return err && err->code ? -err->code : -EIO;
	a->name = str_dup(name);
	a->driver = str_dup(json_str(obj, "driver", ""));
	a->device = str_dup(json_str(obj, "device", NULL));
	a->mode = str_dup(json_str(obj, "mode", ""));
	a->address = str_dup(json_str(obj, "address", NULL));
	a->fs = str_dup(json_str(obj, "fs", NULL));
	a->formatted = json_bool(obj, "formatted", false);
	a->pid = (pid_t)json_int(obj, "pid", 0);
	a->start_time = (uint64_t)json_int(obj, "start_time", 0);
	a->frozen = json_bool(obj, "frozen", false);
	return 0;
}

/* run_dir does not outlive the kernel: nothing to sync, only never a half file. */
static int replace(const char *path, const char *text, struct error *err)
{
	CLEANUP_FREE char *temp = str_format("%s.tmp", path);
	CLEANUP_CLOSE int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int rc = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));

	if (rc == 0 && rename(temp, path) < 0)
		rc = -errno;
	return rc ? error_sys(err, -rc, "writing %s", path) : 0;
}

int attachment_save(const char *run_dir, const struct attachment *a, struct error *err)
{
	CLEANUP_FREE char *path = attachment_path(run_dir, a->name, "json");
	CLEANUP_FREE char *text = NULL;
	CLEANUP_JSON json_t *obj = json_object();

	json_set_int(obj, "schema", 1);
	json_set_str(obj, "name", a->name);
	json_set_str(obj, "driver", a->driver);
	json_set_str(obj, "device", a->device);
	json_set_str(obj, "mode", a->mode);
	json_set_str(obj, "address", a->address);
	json_set_str(obj, "fs", a->fs);
	json_set_bool(obj, "formatted", a->formatted);
	json_set_int(obj, "pid", a->pid);
	json_set_int(obj, "start_time", (int64_t)a->start_time);
	json_set_bool(obj, "frozen", a->frozen);
	text = json_text(obj);
	return replace(path, text, err);
}

int attachment_forget(const char *run_dir, const char *name, struct error *err)
{
	static const char *const suffixes[] = { "sock", "log", "json" };

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		CLEANUP_FREE char *path = attachment_path(run_dir, name, suffixes[i]);

		if (unlink(path) < 0 && errno != ENOENT)
			return error_sys(err, errno, "removing %s", path);
	}
	return 0;
}

/* A zombie serves nothing; whoever is its parent may take its time to reap it. */
static bool is_zombie(pid_t pid)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/stat", (int)pid), *stat = NULL;
	char *paren;

	if (file_read(path, 4096, &stat, NULL, NULL))
		return true;
	paren = strrchr(stat, ')');
	return !paren || paren[1] != ' ' || paren[2] == 'Z' || paren[2] == 'X';
}

bool attachment_alive(const struct attachment *a)
{
	uint64_t ticks;

	return a->pid > 0 && process_start_time(a->pid, &ticks) == 0 && ticks == a->start_time &&
	       !is_zombie(a->pid);
}
