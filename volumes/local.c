// SPDX-License-Identifier: Apache-2.0
/*
 * Driver local: a sparse file with a loop device, for a single host without Ceph.
 *
 *   state_dir/volumes/NAME/data.img    the image
 *   state_dir/volumes/NAME/meta.json   size, file system, labels
 *
 * No process: the kernel serves the device. What needs a second host is refused.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "volumes/attachment.h"
#include "volumes/driver.h"
#include "volumes/loop.h"

#define BLOCK_SIZE 4096
#define MAX_META   (1u << 20)

struct local {
	char *dir, *run_dir, *host;
};

static char *path_of(const struct local *l, const char *name, const char *file)
{
	return file ? str_format("%s/%s/%s", l->dir, name, file)
		    : str_format("%s/%s", l->dir, name);
}

static int local_open(const struct volumes_config *config, void **state, struct error *err)
{
	struct local *l = mem_zalloc(sizeof(*l));
	int rc;

	l->dir = str_format("%s/volumes", config->state_dir);
	l->run_dir = str_dup(config->run_dir);
	l->host = str_dup(config->host);
	*state = l;
	rc = dir_make(l->dir, 0700, err);
	if (rc == 0) {
		char *real = realpath(l->dir, NULL); /* as the kernel names loop files */

		if (real) {
			free(l->dir);
			l->dir = real;
		}
	}
	return rc;
}

static void local_close(void *state)
{
	struct local *l = state;

	free(l->dir);
	free(l->run_dir);
	free(l->host);
	free(l);
}

/* --- life --------------------------------------------------------------------------------- */

static int meta_load(const struct local *l, const char *name, json_t **meta, struct error *err)
{
	CLEANUP_FREE char *path = path_of(l, name, "meta.json");

	if (access(path, F_OK) < 0 && errno == ENOENT)
		return error_set(err, ENOENT, "No such volume: %s", name);
	*meta = json_parse_file(path, MAX_META, err);
	return *meta ? 0 : -EIO;
}

static int meta_save(const struct local *l, const char *name, const json_t *meta, struct error *err)
{
	CLEANUP_FREE char *path = path_of(l, name, "meta.json");
	CLEANUP_FREE char *text = json_text(meta);

	return file_write_atomic(path, text, strlen(text), 0600, err);
}

static int image_make(const char *path, uint64_t size, struct error *err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return error_sys(err, errno, "making %s", path);
	if (ftruncate(fd, (off_t)size) < 0)
		return error_sys(err, errno, "sizing %s", path);
	return 0;
}

static int local_create(void *state, const char *name, const struct volume_spec *spec,
			struct error *err)
{
	struct local *l = state;
	CLEANUP_FREE char *dir = path_of(l, name, NULL), *image = path_of(l, name, "data.img");
	CLEANUP_JSON json_t *meta = json_object();
	char created[32];
	time_t now = time(NULL);
	struct tm tm;
	int rc;

	if (spec->features || spec->data_pool)
		return error_set(err, EINVAL, "options features and data_pool are for driver rbd");
	if (mkdir(dir, 0700) < 0)
		return errno == EEXIST ? error_set(err, EEXIST, "volume %s exists already", name)
				       : error_sys(err, errno, "making %s", dir);
	gmtime_r(&now, &tm);
	strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", &tm);
	json_set_int(meta, "schema", 1);
	json_set_str(meta, "fs", spec->fs);
	json_set_str(meta, "created", created);
	json_object_set(meta, "labels", spec->labels);
	rc = image_make(image, spec->size_bytes, err);
	if (rc == 0)
		rc = meta_save(l, name, meta, err);
	if (rc)
		dir_remove(dir, NULL);
	return rc;
}

static int local_formatted(void *state, const char *name, struct error *err)
{
	CLEANUP_JSON json_t *meta = NULL;
	int rc = meta_load(state, name, &meta, err);

	if (rc)
		return rc;
	json_set_bool(meta, "formatted", true);
	return meta_save(state, name, meta, err);
}

static int local_remove(void *state, const char *name, struct error *err)
{
	CLEANUP_FREE char *dir = path_of(state, name, NULL);

	return dir_remove(dir, err);
}

static int local_info(void *state, const char *name, bool full, struct volume_info *out,
		      struct error *err)
{
	struct local *l = state;
	CLEANUP_FREE char *image = path_of(l, name, "data.img");
	CLEANUP_JSON json_t *meta = NULL;
	struct attachment a;
	struct stat st;
	int rc = meta_load(l, name, &meta, err);

	if (rc)
		return rc;
	if (stat(image, &st) < 0)
		return error_sys(err, errno, "volume %s lost its image %s", name, image);
	out->size_bytes = (uint64_t)st.st_size;
	out->fs = str_dup(json_str(meta, "fs", "none"));
	out->formatted = json_bool(meta, "formatted", false);
	out->created = str_dup(json_str(meta, "created", ""));
	out->labels = json_incref(json_object_get(meta, "labels"));
	out->attachments = json_array();
	if (full && attachment_load(l->run_dir, name, &a, NULL) == 0) {
		json_t *entry = json_object();

		json_set_str(entry, "host", l->host);
		json_set_str(entry, "mode", a.mode);
		json_array_append_new(out->attachments, entry);
		if (strcmp(a.mode, "rw") == 0)
			out->owner_host = str_dup(l->host);
		attachment_free(&a);
	}
	return 0;
}

static int local_list(void *state, json_t **names, struct error *err)
{
	struct local *l = state;
	CLEANUP_CLOSEDIR DIR *dir = opendir(l->dir);
	struct dirent *entry;

	if (!dir)
		return error_sys(err, errno, "reading %s", l->dir);
	*names = json_array();
	while ((entry = readdir(dir)))
		if (str_is_name(entry->d_name))
			json_array_append_new(*names, json_string(entry->d_name));
	return 0;
}

static int local_resize(void *state, const char *name, const struct attachment *a,
			uint64_t size_bytes, struct error *err)
{
	CLEANUP_FREE char *image = path_of(state, name, "data.img");
	CLEANUP_CLOSE int loop = -1;
	int rc;

	if (truncate(image, (off_t)size_bytes) < 0)
		return error_sys(err, errno, "resizing %s", image);
	if (!a)
		return 0;
	loop = open(a->device, O_RDWR | O_CLOEXEC);
	rc = loop < 0 ? -errno : loop_resize(loop);
	return rc ? error_sys(err, -rc, "resizing %s", a->device) : 0;
}

/* --- attaching ---------------------------------------------------------------------------- */

static int local_attach(void *state, enum volume_mode mode, struct attachment *a, struct error *err)
{
	CLEANUP_FREE char *image = path_of(state, a->name, "data.img"), *device = NULL;
	struct loop_options o = { .block_size = BLOCK_SIZE, .read_only = mode == VOLUME_RO };
	CLEANUP_CLOSE int file = -1, loop = -1;
	CLEANUP_JSON json_t *meta = NULL;
	int rc = meta_load(state, a->name, &meta, err);

	if (rc)
		return rc;
	if (mode == VOLUME_STANDBY)
		return error_set(err, EOPNOTSUPP,
				 "driver local keeps a volume on one host: there is no standby");
	file = open(image, (o.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (file < 0)
		return error_sys(err, errno, "opening %s", image);
	loop = loop_attach(file, &o, &device, err);
	if (loop < 0)
		return loop;
	attachment_set(&a->device, device);
	attachment_set(&a->fs, json_str(meta, "fs", "none"));
	a->formatted = json_bool(meta, "formatted", false);
	attachment_set(&a->mode, o.read_only ? "ro" : "rw");
	return 0;
}

/* Whether the loop device is still this volume's, not another's after a reboot. */
static bool device_is_ours(const struct local *l, const struct attachment *a)
{
	CLEANUP_FREE char *image = path_of(l, a->name, "data.img"), *backing = NULL;
	CLEANUP_FREE char *path = NULL;

	if (!a->device || !str_starts(a->device, "/dev/"))
		return false;
	path = str_format("/sys/block/%s/loop/backing_file", a->device + strlen("/dev/"));
	if (file_read(path, 8192, &backing, NULL, NULL))
		return false;
	backing[strcspn(backing, "\n")] = '\0';
	if (strcmp(backing, image) == 0)
		return true;
	/* The kernel writes the path as it was in another root or namespace: compare its end. */
	return str_ends(backing, image) || str_ends(image, backing);
}

static int local_detach(void *state, struct attachment *a, bool dead, struct error *err)
{
	CLEANUP_CLOSE int loop = -1;
	int rc;

	(void)dead;
	if (!device_is_ours(state, a))
		return 0;
	loop = open(a->device, O_RDONLY | O_CLOEXEC);
	rc = loop < 0 ? -errno : loop_clear(loop);
	return rc && rc != -ENXIO ? error_sys(err, -rc, "freeing %s", a->device) : 0;
}

static int local_status(void *state, struct attachment *a, json_t **out, struct error *err)
{
	bool ours = device_is_ours(state, a);

	(void)err;
	*out = json_object();
	json_set_str(*out, "mode", ours ? a->mode : "failed");
	json_set_bool(*out, "dead", !ours);
	if (!ours)
		json_set_str(*out, "error", "its loop device is gone");
	return 0;
}

const struct volume_driver volume_driver_local = {
	.name = "local",
	.scope = "local",
	.why_not = "driver local keeps its volumes on one host and has no snapshots; "
		   "use driver rbd",
	.open = local_open,
	.close = local_close,
	.create = local_create,
	.formatted = local_formatted,
	.remove = local_remove,
	.info = local_info,
	.list = local_list,
	.resize = local_resize,
	.attach = local_attach,
	.detach = local_detach,
	.status = local_status,
};
