// SPDX-License-Identifier: Apache-2.0
/*
 * Volumes as the rest of ferry sees them: the handle, names, drivers, and the life of a
 * volume (create to clone). attach.c has attaching and mounting, handover.c the rest.
 */
#include "volumes/volume.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "volumes/mount.h"
#include "volumes/volumes.h"

#define BLOCK	     4096u
#define DEFAULT_SIZE (10ull << 30)
#define MIN_SIZE     (1ull << 20)
#define MIN_FS_SIZE  (16ull << 20) /* mkfs.xfs has its own, larger one */
#define MAX_SIZE     (1ull << 60)

/* --- the handle ------------------------------------------------------------------------------ */

static int driver_add(struct volumes *vs, const struct volume_driver *driver, struct error *err)
{
	int rc = driver->open(&vs->config, &vs->states[vs->ndrivers], err);

	if (vs->states[vs->ndrivers])
		vs->drivers[vs->ndrivers++] = driver;
	return rc;
}

int volumes_open(const struct volumes_config *config, struct volumes **out, struct error *err)
{
	struct volumes *vs = mem_zalloc(sizeof(*vs));
	CLEANUP_FREE char *vold = str_format("%s/vold", config->run_dir);
	CLEANUP_FREE char *mounts = str_format("%s/volumes", config->run_dir);
	int rc;

	vs->config.run_dir = str_dup(config->run_dir);
	vs->config.state_dir = str_dup(config->state_dir);
	vs->config.vold_path = str_dup(config->vold_path);
	vs->config.host = str_dup(config->host);
	vs->config.ceph_conf = str_dup(config->ceph_conf);
	vs->config.ceph_user = str_dup(config->ceph_user);
	vs->config.pool = str_dup(config->pool);
	pthread_mutex_init(&vs->lock, NULL);
	rc = str_is_name(config->host)
		     ? 0
		     : error_set(err, EINVAL, "host name \"%s\" is not valid", config->host);
	if (rc == 0)
		rc = dir_make(vold, 0700, err);
	if (rc == 0)
		rc = dir_make(mounts, 0711, err);
	if (rc == 0 && config->pool)
		rc = driver_add(vs, &volume_driver_rbd, err);
	if (rc == 0)
		rc = driver_add(vs, &volume_driver_local, err);
	if (rc) {
		volumes_close(vs);
		return error_wrap(err, "volumes");
	}
	*out = vs;
	return 0;
}

void volumes_close(struct volumes *vs)
{
	CLEANUP_FREE char *mounts = NULL;

	if (!vs)
		return;
	mounts = str_format("%s/volumes", vs->config.run_dir);
	mount_undo(mounts, false, NULL); /* stays while volumes are mounted below */
	for (size_t i = 0; i < vs->ndrivers; i++)
		vs->drivers[i]->close(vs->states[i]);
	while (vs->entries) {
		struct volume_entry *e = vs->entries;

		vs->entries = e->next;
		pthread_mutex_destroy(&e->lock);
		free(e->name);
		free(e);
	}
	pthread_mutex_destroy(&vs->lock);
	free((void *)vs->config.run_dir);
	free((void *)vs->config.state_dir);
	free((void *)vs->config.vold_path);
	free((void *)vs->config.host);
	free((void *)vs->config.ceph_conf);
	free((void *)vs->config.ceph_user);
	free((void *)vs->config.pool);
	free(vs);
}

/* --- one operation ------------------------------------------------------------------ */

static struct volume_entry *entry_get(struct volumes *vs, const char *name)
{
	struct volume_entry *e;

	pthread_mutex_lock(&vs->lock);
	for (e = vs->entries; e && strcmp(e->name, name) != 0; e = e->next)
		;
	if (!e) {
		e = mem_zalloc(sizeof(*e));
		e->name = str_dup(name);
		pthread_mutex_init(&e->lock, NULL);
		e->next = vs->entries;
		vs->entries = e;
	}
	pthread_mutex_unlock(&vs->lock);
	return e;
}

static int use_driver(struct op *op, const char *name, struct error *err)
{
	for (size_t i = 0; i < op->vs->ndrivers; i++) {
		if (strcmp(op->vs->drivers[i]->name, name) == 0) {
			op->driver = op->vs->drivers[i];
			op->state = op->vs->states[i];
			return 0;
		}
	}
	if (strcmp(name, "rbd") == 0)
		return error_set(err, EINVAL,
				 "driver rbd needs a Ceph pool: this host is configured without");
	return error_set(err, EINVAL, "unknown volume driver \"%s\": known are rbd, local", name);
}

int volume_op_begin(struct op *op, struct volumes *vs, const char *name, struct error *err)
{
	struct error why = { 0 };
	int rc;

	memset(op, 0, sizeof(*op));
	if (!name || !str_is_name(name) || strlen(name) > 200)
		return error_set(err, EINVAL,
				 "invalid volume name \"%s\": only [a-zA-Z0-9][a-zA-Z0-9_.-]*, at "
				 "most 200 bytes",
				 name ? name : "");
	op->vs = vs;
	op->name = name;
	op->entry = entry_get(vs, name);
	pthread_mutex_lock(&op->entry->lock);
	rc = attachment_load(vs->config.run_dir, name, &op->a, &why);
	if (rc == -ENOENT)
		return 0;
	if (rc) {
		if (err)
			*err = why;
		return error_wrap(err, "volume %s", name);
	}
	op->attached = true;
	return use_driver(op, op->a.driver, err);
}

void volume_op_end(struct op *op)
{
	attachment_free(&op->a);
	if (op->entry)
		pthread_mutex_unlock(&op->entry->lock);
	op->entry = NULL;
}

int volume_op_begin_attached(struct op *op, struct volumes *vs, const char *name, struct error *err)
{
	int rc = volume_op_begin(op, vs, name, err);

	if (rc == 0 && !op->attached)
		rc = error_set(err, EINVAL, "volume %s is not attached to this host", name);
	return rc;
}

void volume_info_free(struct volume_info *info)
{
	free(info->fs);
	free(info->created);
	json_decref(info->labels);
	free(info->owner_host);
	free(info->owner_address);
	json_decref(info->attachments);
	memset(info, 0, sizeof(*info));
}

int op_find(struct op *op, bool full, struct volume_info *info, struct error *err)
{
	int rc = -ENOENT;

	if (op->driver)
		return op->driver->info(op->state, op->name, full, info, err);
	for (size_t i = 0; rc == -ENOENT && i < op->vs->ndrivers; i++) {
		volume_info_free(info);
		error_clear(err);
		op->driver = op->vs->drivers[i];
		op->state = op->vs->states[i];
		rc = op->driver->info(op->state, op->name, full, info, err);
	}
	return rc;
}

int op_refuse(const struct op *op, const char *what, struct error *err)
{
	return error_set(err, EOPNOTSUPP, "cannot %s volume %s: %s", what, op->name,
			 op->driver->why_not);
}

/* --- creating ----------------------------------------------------------------------- */

static int read_labels(json_t *labels, struct error *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(labels))
		return error_set(err, EINVAL, "labels: expected an object of strings");
	json_object_foreach (labels, key, value)
		if (!json_is_string(value))
			return error_set(err, EINVAL, "label %s: expected a string", key);
	return 0;
}

static int read_size(const json_t *value, uint64_t *size, struct error *err)
{
	if (json_is_integer(value) && json_integer_value(value) > 0)
		*size = (uint64_t)json_integer_value(value);
	else if (!json_is_string(value) || str_to_bytes(json_string_value(value), size))
		return error_set(err, EINVAL, "option size: expected bytes, or a size as 10GiB");
	if (*size < MIN_SIZE || *size > MAX_SIZE)
		return error_set(err, EINVAL, "option size: at least 1 MiB, at most 1 EiB");
	*size = (*size + BLOCK - 1) / BLOCK * BLOCK;
	return 0;
}

/* "a,b" as Docker's options are strings, or an array. */
static json_t *read_list(json_t *value)
{
	CLEANUP_FREE char *copy = NULL;
	json_t *list;
	char *save = NULL;

	if (!json_is_string(value))
		return json_incref(value);
	list = json_array();
	copy = str_dup(json_string_value(value));
	for (char *p = strtok_r(copy, ", ", &save); p; p = strtok_r(NULL, ", ", &save))
		json_array_append_new(list, json_string(p));
	return list;
}

static int read_option(struct volume_spec *spec, const char *key, json_t *value, struct error *err)
{
	if (strcmp(key, "size") == 0)
		return read_size(value, &spec->size_bytes, err);
	if (strcmp(key, "labels") == 0) {
		json_object_update(spec->labels, value);
		return read_labels(value, err);
	}
	if (strcmp(key, "features") == 0) {
		json_decref(spec->features);
		spec->features = read_list(value);
		return json_is_array(spec->features)
			       ? 0
			       : error_set(err, EINVAL, "option features: expected a list");
	}
	if (strcmp(key, "fs") != 0 && strcmp(key, "data_pool") != 0)
		return error_set(err, EINVAL,
				 "unknown volume option \"%s\": known are size, fs, "
				 "labels, features, data_pool",
				 key);
	if (!json_is_string(value))
		return error_set(err, EINVAL, "option %s: expected a string", key);
	if (strcmp(key, "fs") == 0)
		spec->fs = json_string_value(value);
	else
		spec->data_pool = json_string_value(value);
	return 0;
}

static int read_spec(json_t *opts, struct volume_spec *spec, struct error *err)
{
	const char *key;
	json_t *value;

	*spec = (struct volume_spec){ .size_bytes = DEFAULT_SIZE,
				      .fs = "ext4",
				      .labels = json_object() };
	if (opts && !json_is_null(opts) && !json_is_object(opts))
		return error_set(err, EINVAL, "volume options: expected an object");
	json_object_foreach (opts, key, value) {
		int rc = json_is_null(value) ? 0 : read_option(spec, key, value, err);

		if (rc)
			return rc;
	}
	if (strcmp(spec->fs, "ext4") != 0 && strcmp(spec->fs, "xfs") != 0 &&
	    strcmp(spec->fs, "none") != 0)
		return error_set(err, EINVAL, "option fs: \"%s\": known are ext4, xfs, none",
				 spec->fs);
	if (strcmp(spec->fs, "none") != 0 && spec->size_bytes < MIN_FS_SIZE)
		return error_set(err, EINVAL, "option size: a file system needs at least 16 MiB");
	return 0;
}

static int create(struct op *op, const struct volume_spec *spec, struct error *err)
{
	struct error ignored = { 0 };
	int rc = op->driver->create(op->state, op->name, spec, err);

	if (rc || strcmp(spec->fs, "none") == 0)
		return rc;
	rc = attach_locked(op, VOLUME_RW, err); /* makes the file system */
	if (rc == 0)
		rc = detach_locked(op, err);
	if (rc) {
		if (op->attached && detach_locked(op, &ignored))
			log_warn("volume %s: %s", op->name, ignored.msg);
		if (op->driver->remove(op->state, op->name, &ignored))
			log_warn("volume %s stays half made: %s", op->name, ignored.msg);
	}
	return rc;
}

int volume_create(struct volumes *vs, const char *driver, const char *name, json_t *opts,
		  struct error *err)
{
	CLEANUP_OP struct op op;
	struct volume_info info = { 0 };
	struct volume_spec spec = { 0 };
	int rc = volume_op_begin(&op, vs, name, err);

	if (rc == 0)
		rc = read_spec(opts, &spec, err);
	if (rc == 0) {
		rc = op_find(&op, false, &info, err);
		if (rc == 0)
			rc = error_set(err, EEXIST, "volume %s exists already", name);
		else if (rc == -ENOENT)
			rc = 0;
		volume_info_free(&info);
	}
	if (rc == 0)
		rc = use_driver(&op, driver && *driver ? driver : vs->drivers[0]->name, err);
	if (rc == 0) {
		error_clear(err);
		rc = create(&op, &spec, err);
	}
	json_decref(spec.labels);
	json_decref(spec.features);
	return rc ? error_wrap(err, "creating volume %s", name ? name : "") : 0;
}

/* --- the rest of its life ----------------------------------------------------------- */

static int refuse_users(const struct op *op, const struct volume_info *info, struct error *err)
{
	const json_t *user = json_array_get(info->attachments, 0);

	if (op->attached)
		return error_set(err, EBUSY,
				 "volume %s is in use: it is attached to this host (%s)", op->name,
				 op->a.mode);
	if (info->owner_address || user)
		return error_set(
			err, EBUSY, "volume %s is in use on host %s; stop or migrate its container",
			op->name,
			info->owner_host ? info->owner_host : json_str(user, "host", "(unknown)"));
	return 0;
}

int volume_remove(struct volumes *vs, const char *name, struct error *err)
{
	CLEANUP_OP struct op op;
	struct volume_info info = { 0 };
	int rc = volume_op_begin(&op, vs, name, err);

	if (rc == 0)
		rc = op_find(&op, true, &info, err);
	if (rc == 0)
		rc = refuse_users(&op, &info, err);
	if (rc == 0)
		rc = op.driver->remove(op.state, name, err);
	volume_info_free(&info);
	return rc;
}

static json_t *describe(struct op *op, const struct volume_info *info, bool full)
{
	CLEANUP_FREE char *path = volume_path(op->vs, op->name);
	json_t *out = json_object(), *status = NULL, *options = json_object();
	char *mode = NULL;
	bool dead;

	if (op->attached && full)
		op_status(op, &mode, &dead, &status, NULL);
	if (!status)
		status = json_object();
	json_set_str(status, "mode", mode ? mode : op->attached ? op->a.mode : "detached");
	json_set_bool(status, "mounted", mount_is(path));
	json_set_bool(status, "frozen", op->a.frozen);
	json_set_str(status, "device", op->a.device);
	json_set_int(status, "pid", op->a.pid > 0 ? op->a.pid : 0);
	json_set_int(status, "size_bytes", (int64_t)info->size_bytes);
	json_set_str(status, "fs", info->fs);
	if (full) {
		json_set_str(status, "host", info->owner_host);
		json_set_str(status, "owner", info->owner_address);
		json_object_set(status, "attachments", info->attachments);
	}
	json_set_str(out, "Name", op->name);
	json_set_str(out, "Driver", op->driver->name);
	json_set_str(out, "Scope", op->driver->scope);
	json_set_str(out, "Mountpoint", path);
	json_set_str(out, "CreatedAt", info->created);
	json_object_set_new(out, "Labels",
			    info->labels ? json_incref(info->labels) : json_object());
	json_object_set_new(options, "size",
			    json_sprintf("%llu", (unsigned long long)info->size_bytes));
	json_set_str(options, "fs", info->fs);
	json_object_set_new(out, "Options", options);
	json_object_set_new(out, "Status", status);
	free(mode);
	return out;
}

int volume_inspect(struct volumes *vs, const char *name, json_t **out, struct error *err)
{
	CLEANUP_OP struct op op;
	struct volume_info info = { 0 };
	int rc = volume_op_begin(&op, vs, name, err);

	if (rc == 0)
		rc = op_find(&op, true, &info, err);
	if (rc == 0)
		*out = describe(&op, &info, true);
	volume_info_free(&info);
	return rc;
}

static int list_one(struct volumes *vs, size_t driver, const char *name, json_t *out,
		    struct error *err)
{
	CLEANUP_OP struct op op;
	struct volume_info info = { 0 };
	int rc = volume_op_begin(&op, vs, name, err);

	if (rc == 0) {
		op.driver = vs->drivers[driver];
		op.state = vs->states[driver];
		rc = op.driver->info(op.state, name, false, &info, err);
	}
	if (rc == 0)
		json_array_append_new(out, describe(&op, &info, false));
	volume_info_free(&info);
	return rc == -ENOENT || rc == -EINVAL ? 0 : rc; /* gone meanwhile, or not ferry's */
}

int volume_list(struct volumes *vs, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *list = json_array();

	for (size_t d = 0; d < vs->ndrivers; d++) {
		CLEANUP_JSON json_t *names = NULL;
		json_t *name;
		size_t i;
		int rc = vs->drivers[d]->list(vs->states[d], &names, err);

		json_array_foreach (names, i, name)
			if (rc == 0)
				rc = list_one(vs, d, json_string_value(name), list, err);
		if (rc)
			return error_wrap(err, "listing volumes");
	}
	*out = TAKE_PTR(list);
	return 0;
}

/* Grows the file system of an attached volume, mounted or not. */
static int grow_fs(struct op *op, const char *fs, struct error *err)
{
	CLEANUP_FREE char *path = volume_path(op->vs, op->name);
	CLEANUP_FREE char *scratch =
		str_format("%s/vold/%s.grow", op->vs->config.run_dir, op->name);
	int rc = dir_make(scratch, 0700, err);

	if (rc == 0)
		rc = fs_grow(op->a.device, fs, mount_is(path) ? path : NULL, scratch, err);
	rmdir(scratch);
	return rc;
}

/* As the vold says, not as it was saved. */
static bool is_rw(struct op *op)
{
	CLEANUP_FREE char *mode = NULL;
	bool dead = false;

	return op_status(op, &mode, &dead, NULL, NULL) == 0 && strcmp(mode, "rw") == 0;
}

static int resize(struct op *op, const struct volume_info *info, uint64_t size_bytes,
		  struct error *err)
{
	bool fs = strcmp(info->fs, "none") != 0 && info->formatted, here = op->attached;
	int rc;

	if (size_bytes < info->size_bytes)
		return error_set(err, EINVAL, "volume %s has %llu bytes: volumes only grow",
				 op->name, (unsigned long long)info->size_bytes);
	if (!op->driver->resize)
		return op_refuse(op, "resize", err);
	if (here && !is_rw(op))
		return error_set(err, EBUSY, "volume %s is attached as %s: only rw can be resized",
				 op->name, op->a.mode);
	rc = here ? 0 : refuse_users(op, info, err);
	if (rc == 0)
		rc = op->driver->resize(op->state, op->name, here ? &op->a : NULL, size_bytes, err);
	if (rc || !fs)
		return rc;
	if (!here)
		rc = attach_locked(op, VOLUME_RW, err);
	if (rc == 0)
		rc = grow_fs(op, info->fs, err);
	if (!here && op->attached && detach_locked(op, rc ? NULL : err) && rc == 0)
		rc = -EIO;
	return rc;
}

int volume_resize(struct volumes *vs, const char *name, uint64_t size_bytes, struct error *err)
{
	CLEANUP_OP struct op op;
	struct volume_info info = { 0 };
	int rc = volume_op_begin(&op, vs, name, err);

	if (rc == 0 && size_bytes > MAX_SIZE)
		rc = error_set(err, EINVAL, "a volume has at most 1 EiB");
	if (rc == 0)
		rc = op_find(&op, true, &info, err);
	if (rc == 0)
		rc = resize(&op, &info, (size_bytes + BLOCK - 1) / BLOCK * BLOCK, err);
	volume_info_free(&info);
	return rc ? error_wrap(err, "resizing volume %s", name ? name : "") : 0;
}

/* --- snapshots ---------------------------------------------------------------------- */

static int begin_snapshot(struct op *op, struct volumes *vs, const char *name, const char *snap,
			  bool full, struct volume_info *info, struct error *err)
{
	int rc = volume_op_begin(op, vs, name, err);

	if (rc == 0 && snap && !str_is_name(snap))
		rc = error_set(err, EINVAL, "invalid snapshot name \"%s\"", snap);
	if (rc == 0)
		rc = op_find(op, full, info, err);
	if (rc == 0 && !op->driver->snapshot_create)
		rc = op_refuse(op, "use snapshots of", err);
	return rc;
}

int volume_snapshot_create(struct volumes *vs, const char *name, const char *snap,
			   struct error *err)
{
	CLEANUP_OP struct op op;
	const struct attachment *here = NULL; /* where its vold has the lock */
	struct volume_info info = { 0 };
	int rc = begin_snapshot(&op, vs, name, snap, false, &info, err);

	if (rc == 0 && op.attached && is_rw(&op))
		here = &op.a;
	if (rc == 0)
		rc = op.driver->snapshot_create(op.state, name, here, snap, err);
	volume_info_free(&info);
	return rc;
}

int volume_snapshot_list(struct volumes *vs, const char *name, json_t **out, struct error *err)
{
	CLEANUP_OP struct op op;
	struct volume_info info = { 0 };
	int rc = begin_snapshot(&op, vs, name, NULL, false, &info, err);

	if (rc == 0)
		rc = op.driver->snapshot_list(op.state, name, out, err);
	volume_info_free(&info);
	return rc;
}

int volume_snapshot_remove(struct volumes *vs, const char *name, const char *snap, bool detach,
			   struct error *err)
{
	CLEANUP_OP struct op op;
	const struct attachment *here = NULL; /* where its vold has the lock */
	struct volume_info info = { 0 };
	int rc = begin_snapshot(&op, vs, name, snap, false, &info, err);

	if (rc == 0 && op.attached && is_rw(&op))
		here = &op.a;
	if (rc == 0)
		rc = op.driver->snapshot_remove(op.state, name, here, snap, detach, err);
	volume_info_free(&info);
	return rc;
}

int volume_snapshot_clones(struct volumes *vs, const char *name, const char *snap, json_t **out,
			   struct error *err)
{
	CLEANUP_OP struct op op;
	struct volume_info info = { 0 };
	int rc = begin_snapshot(&op, vs, name, snap, false, &info, err);

	if (rc == 0)
		rc = op.driver->snapshot_clones(op.state, name, snap, out, err);
	volume_info_free(&info);
	return rc;
}

int volume_snapshot_rollback(struct volumes *vs, const char *name, const char *snap,
			     struct error *err)
{
	CLEANUP_OP struct op op;
	struct volume_info info = { 0 };
	int rc = begin_snapshot(&op, vs, name, snap, true, &info, err);

	if (rc == 0)
		rc = refuse_users(&op, &info, err);
	if (rc == 0)
		rc = op.driver->snapshot_rollback(op.state, name, snap, err);
	volume_info_free(&info);
	return rc;
}

int volume_clone(struct volumes *vs, const char *name, const char *snap, const char *clone,
		 struct error *err)
{
	CLEANUP_OP struct op op;
	struct volume_info info = { 0 };
	int rc = begin_snapshot(&op, vs, name, snap, false, &info, err);

	if (rc == 0 && (!str_is_name(clone) || strlen(clone) > 200))
		rc = error_set(err, EINVAL, "invalid volume name \"%s\"", clone);
	if (rc == 0)
		rc = op.driver->clone(op.state, name, snap, clone, err);
	volume_info_free(&info);
	return rc;
}
