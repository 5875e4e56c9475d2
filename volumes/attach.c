// SPDX-License-Identifier: Apache-2.0
/* Volumes on this host: attaching, detaching, mounting. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "volumes/loop.h"
#include "volumes/mount.h"
#include "volumes/volumes.h"

char *volume_path(const struct volumes *vs, const char *name)
{
	return str_format("%s/volumes/%s", vs->config.run_dir, name);
}

int op_set_mode(struct op *op, const char *mode, struct error *err)
{
	attachment_set(&op->a.mode, mode);
	return attachment_save(op->vs->config.run_dir, &op->a, err);
}

int op_status(struct op *op, char **mode, bool *dead, json_t **status, struct error *err)
{
	CLEANUP_JSON json_t *st = NULL;
	pid_t pid = op->a.pid;
	int rc = op->driver->status(op->state, &op->a, &st, err);

	if (rc)
		return rc;
	*mode = str_dup(json_str(st, "mode", "failed"));
	*dead = json_bool(st, "dead", false);
	/* An earlier ferryd may have died before it could save what the vold had done. */
	if (op->a.pid != pid || (!*dead && strcmp(*mode, op->a.mode) != 0))
		rc = op_set_mode(op, *mode, err);
	if (status)
		*status = TAKE_PTR(st);
	return rc;
}

/* --- attaching ---------------------------------------------------------------------- */

static const char *const mode_names[] = {
	[VOLUME_RW] = "rw", [VOLUME_RO] = "ro", [VOLUME_STANDBY] = "standby"
};

/* 0: it is as wanted; EBUSY: in another mode; EIO: it failed. */
static int already(struct op *op, enum volume_mode mode, struct error *err)
{
	CLEANUP_FREE char *now = NULL;
	CLEANUP_JSON json_t *status = NULL;
	bool dead;
	int rc = op_status(op, &now, &dead, &status, err);

	if (rc)
		return rc;
	if (strcmp(now, mode_names[mode]) == 0)
		return 0;
	if (strcmp(now, "failed") == 0)
		return error_set(err, EIO, "it is attached and failed: %s",
				 json_str(status, "error", "unknown reason"));
	return error_set(err, EBUSY, "it is attached as %s already", now);
}

static int make_fs(struct op *op, const char *fs, struct error *err)
{
	CLEANUP_FREE char *scratch =
		str_format("%s/vold/%s.mkfs", op->vs->config.run_dir, op->name);
	int rc = dir_make(scratch, 0700, err);

	if (rc == 0)
		rc = fs_make(op->a.device, fs, scratch, err);
	rmdir(scratch);
	if (rc == 0)
		rc = op->driver->formatted(op->state, op->name, err);
	if (rc == 0) {
		op->a.formatted = true;
		rc = attachment_save(op->vs->config.run_dir, &op->a, err);
	}
	return rc ? error_wrap(err, "making its file system") : 0;
}

static int attach_with(struct op *op, enum volume_mode mode, struct error *err)
{
	const char *run_dir = op->vs->config.run_dir;
	int rc;

	op->a.name = str_dup(op->name);
	op->a.driver = str_dup(op->driver->name);
	op->a.mode = str_dup(mode_names[mode]);
	/* Written before anything starts: a restarted ferryd finds what it may have to clean. */
	rc = attachment_save(run_dir, &op->a, err);
	if (rc == 0)
		rc = op->driver->attach(op->state, mode, &op->a, err);
	if (rc) {
		attachment_forget(run_dir, op->name, NULL);
		attachment_free(&op->a);
	}
	return rc;
}

/* Asks drivers whose volumes are local first: they answer from a file. */
static int attach_any(struct op *op, enum volume_mode mode, struct error *err)
{
	int rc = -ENOENT;

	if (op->driver)
		return attach_with(op, mode, err);
	for (size_t i = op->vs->ndrivers; rc == -ENOENT && i-- > 0;) {
		error_clear(err);
		op->driver = op->vs->drivers[i];
		op->state = op->vs->states[i];
		rc = attach_with(op, mode, err);
	}
	return rc == -ENOENT ? error_set(err, ENOENT, "No such volume: %s", op->name) : rc;
}

int attach_locked(struct op *op, enum volume_mode mode, struct error *err)
{
	int rc;

	if (op->attached)
		return already(op, mode, err);
	rc = attach_any(op, mode, err);
	if (rc)
		return rc;
	op->attached = true;
	rc = attachment_save(op->vs->config.run_dir, &op->a, err);
	if (rc == 0 && mode == VOLUME_RW && !op->a.formatted && strcmp(op->a.fs, "none") != 0)
		rc = make_fs(op, op->a.fs, err);
	if (rc)
		detach_locked(op, NULL);
	return rc;
}

int volume_attach(struct volumes *vs, const char *name, enum volume_mode mode, struct error *err)
{
	CLEANUP_OP struct op op;
	int rc = volume_op_begin(&op, vs, name, err);

	if (rc == 0)
		rc = attach_locked(&op, mode, err);
	return rc ? error_wrap(err, "attaching volume %s", name ? name : "") : 0;
}

/* --- detaching ---------------------------------------------------------------------- */

/* A file system whose writes can no longer land goes, whoever still has it open. */
static int tear_down(const char *path, struct error *err)
{
	mount_shut(path);
	return mount_undo(path, true, err);
}

static int unmount_writable(struct op *op, const char *path, struct error *err)
{
	int rc = 0;

	if (op->a.frozen)
		rc = mount_thaw(path, err);
	if (rc == 0)
		rc = mount_undo(path, false, err);
	if (rc == 0 && block_in_use(op->a.device))
		rc = error_set(err, EBUSY,
			       "%s is still mounted in another mount namespace (a "
			       "container's?)",
			       op->a.device);
	return rc;
}

int detach_locked(struct op *op, struct error *err)
{
	CLEANUP_FREE char *path = volume_path(op->vs, op->name), *mode = NULL;
	bool dead = false, writable;
	int rc;

	if (!op->attached)
		return 0;
	rc = op_status(op, &mode, &dead, NULL, err);
	if (rc)
		return rc;
	writable = strcmp(mode, "rw") == 0 || strcmp(mode, "settling") == 0;
	if (writable)
		rc = unmount_writable(op, path, err);
	else if (mount_is(path))
		rc = strcmp(mode, "ro") == 0 ? mount_undo(path, false, err) : tear_down(path, err);
	if (rc == 0)
		rc = op->driver->detach(op->state, &op->a, dead, err);
	if (rc)
		return rc;
	rmdir(path);
	rc = attachment_forget(op->vs->config.run_dir, op->name, err);
	if (rc == 0) {
		attachment_free(&op->a);
		op->attached = false;
	}
	return rc;
}

int volume_detach(struct volumes *vs, const char *name, struct error *err)
{
	CLEANUP_OP struct op op;
	int rc = volume_op_begin(&op, vs, name, err);

	if (rc == 0)
		rc = detach_locked(&op, err);
	return rc ? error_wrap(err, "detaching volume %s", name ? name : "") : 0;
}

int volume_device(struct volumes *vs, const char *name, char **device, struct error *err)
{
	CLEANUP_OP struct op op;
	int rc = volume_op_begin_attached(&op, vs, name, err);

	if (rc == 0)
		*device = str_dup(op.a.device);
	return rc;
}

/* --- mounting ----------------------------------------------------------------------- */

static int mount_locked(struct op *op, const char *path, struct error *err)
{
	CLEANUP_FREE char *parent = str_format("%s/volumes", op->vs->config.run_dir), *mode = NULL;
	const char *fs = op->a.fs ? op->a.fs : "none";
	bool dead;
	int rc = op_status(op, &mode, &dead, NULL, err);

	if (rc == 0 && strcmp(mode, "rw") != 0 && strcmp(mode, "ro") != 0 &&
	    strcmp(mode, "tentative") != 0 && strcmp(mode, "settling") != 0)
		rc = error_set(err, EINVAL, "it is attached as %s", mode);
	if (rc == 0 && strcmp(fs, "none") == 0)
		rc = error_set(err, EINVAL, "it has no file system: use its device %s",
			       op->a.device);
	if (rc == 0)
		rc = mount_make_private(parent, err);
	if (rc == 0)
		rc = dir_make(path, 0755, err);
	if (rc == 0)
		rc = mount_fs(op->a.device, fs, path, strcmp(mode, "ro") == 0, err);
	return rc;
}

int volume_mount(struct volumes *vs, const char *name, char **path, struct error *err)
{
	CLEANUP_OP struct op op;
	CLEANUP_FREE char *where = NULL;
	int rc = volume_op_begin_attached(&op, vs, name, err);

	if (rc == 0) {
		where = volume_path(vs, name);
		if (!mount_is(where))
			rc = mount_locked(&op, where, err);
	}
	if (rc)
		return error_wrap(err, "mounting volume %s", name ? name : "");
	if (path)
		*path = TAKE_PTR(where);
	return 0;
}

int volume_unmount(struct volumes *vs, const char *name, struct error *err)
{
	CLEANUP_OP struct op op;
	CLEANUP_FREE char *path = NULL;
	int rc = volume_op_begin(&op, vs, name, err);

	if (rc == 0) {
		path = volume_path(vs, name);
		rc = mount_undo(path, false, err);
		if (rc == 0)
			rmdir(path);
	}
	return rc ? error_wrap(err, "unmounting volume %s", name ? name : "") : 0;
}
