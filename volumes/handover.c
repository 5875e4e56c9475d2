// SPDX-License-Identifier: Apache-2.0
/*
 * What moves a volume between hosts while it is in use: syncing, freezing, demote,
 * promote, settle and their undo, and fencing. volume.h draws the states.
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "volumes/loop.h"
#include "volumes/mount.h"
#include "volumes/volumes.h"

/* An attached volume and its mount; ENOENT-like trouble is EINVAL with a message. */
static int begin_mounted(struct op *op, struct volumes *vs, const char *name, char **path,
			 struct error *err)
{
	int rc = volume_op_begin_attached(op, vs, name, err);

	if (rc)
		return rc;
	*path = volume_path(vs, name);
	if (!mount_is(*path))
		return error_set(err, EINVAL, "volume %s is not mounted on this host", name);
	return 0;
}

int volume_sync(struct volumes *vs, const char *name, struct error *err)
{
	CLEANUP_OP struct op op;
	CLEANUP_FREE char *path = NULL;
	int rc = begin_mounted(&op, vs, name, &path, err);

	return rc ? rc : mount_sync(path, err);
}

static int note_frozen(struct op *op, bool frozen, struct error *err)
{
	op->a.frozen = frozen;
	return attachment_save(op->vs->config.run_dir, &op->a, err);
}

int volume_freeze(struct volumes *vs, const char *name, struct error *err)
{
	CLEANUP_OP struct op op;
	CLEANUP_FREE char *path = NULL;
	int rc = begin_mounted(&op, vs, name, &path, err);

	if (rc == 0 && !op.a.frozen)
		rc = note_frozen(&op, true, err); /* first: whoever comes after knows to thaw */
	if (rc == 0) {
		rc = mount_freeze(path, err);
		if (rc)
			note_frozen(&op, false, NULL);
	}
	return rc;
}

int volume_thaw(struct volumes *vs, const char *name, struct error *err)
{
	CLEANUP_OP struct op op;
	CLEANUP_FREE char *path = NULL;
	int rc = begin_mounted(&op, vs, name, &path, err);

	if (rc == 0)
		rc = mount_thaw(path, err);
	if (rc == 0 && op.a.frozen)
		rc = note_frozen(&op, false, err);
	return rc;
}

/* --- hand-over ---------------------------------------------------------------------- */

typedef int handover_fn(void *state, struct attachment *a, struct error *err);

/* One of the driver's transitions, and the mode it leads to. */
static int transition(struct op *op, handover_fn *fn, const char *what, const char *mode,
		      struct error *err)
{
	int rc = fn ? fn(op->state, &op->a, err) : op_refuse(op, what, err);

	return rc ? rc : op_set_mode(op, mode, err);
}

int volume_quiesce(struct volumes *vs, const char *name, struct error *err)
{
	CLEANUP_OP struct op op;
	int rc = volume_op_begin_attached(&op, vs, name, err);

	if (rc == 0)
		rc = transition(&op, op.driver->quiesce, "demote", "demoted", err);
	return rc ? error_wrap(err, "closing volume %s to writes", name ? name : "") : 0;
}

int volume_demote(struct volumes *vs, const char *name, struct error *err)
{
	CLEANUP_OP struct op op;
	int rc = volume_op_begin_attached(&op, vs, name, err);

	if (rc == 0)
		rc = transition(&op, op.driver->demote, "demote", "demoted", err);
	return rc ? error_wrap(err, "demoting volume %s", name ? name : "") : 0;
}

int volume_retake(struct volumes *vs, const char *name, struct error *err)
{
	CLEANUP_OP struct op op;
	int rc = volume_op_begin_attached(&op, vs, name, err);

	if (rc == 0)
		rc = transition(&op, op.driver->retake, "retake", "rw", err);
	return rc ? error_wrap(err, "retaking volume %s", name ? name : "") : 0;
}

/* Up to date, and nothing that was read before and may have changed since. */
static int promoted(struct op *op, bool tentative, struct error *err)
{
	CLEANUP_FREE char *path = volume_path(op->vs, op->a.name);
	int rc = mount_is(path) ? 0 : block_drop_cache(op->a.device, err);

	return rc ? rc : op_set_mode(op, tentative ? "tentative" : "rw", err);
}

int volume_promote(struct volumes *vs, const char *name, bool tentative, struct error *err)
{
	CLEANUP_OP struct op op;
	int rc = volume_op_begin_attached(&op, vs, name, err);

	if (rc == 0 && !op.driver->promote)
		rc = op_refuse(&op, "promote", err);
	else if (rc == 0)
		rc = op.driver->promote(op.state, &op.a, tentative, err);
	if (rc == 0)
		rc = promoted(&op, tentative, err);
	return rc ? error_wrap(err, "promoting volume %s", name ? name : "") : 0;
}

int volume_preview(struct volumes *vs, const char *name, struct error *err)
{
	CLEANUP_OP struct op op;
	int rc = volume_op_begin_attached(&op, vs, name, err);

	if (rc == 0 && !op.driver->preview)
		rc = op_refuse(&op, "promote", err);
	else if (rc == 0)
		rc = op.driver->preview(op.state, &op.a, err);
	if (rc == 0)
		rc = promoted(&op, true, err);
	return rc ? error_wrap(err, "promoting volume %s", name ? name : "") : 0;
}

int volume_claim(struct volumes *vs, const char *name, struct error *err)
{
	CLEANUP_OP struct op op;
	int rc = volume_op_begin_attached(&op, vs, name, err);

	if (rc == 0 && !op.driver->claim)
		rc = op_refuse(&op, "promote", err);
	else if (rc == 0)
		rc = op.driver->claim(op.state, &op.a, err);
	return rc ? error_wrap(err, "promoting volume %s", name ? name : "") : 0;
}

int volume_settle(struct volumes *vs, const char *name, struct error *err)
{
	CLEANUP_OP struct op op;
	int rc = volume_op_begin_attached(&op, vs, name, err);

	if (rc == 0)
		rc = transition(&op, op.driver->settle, "settle", "rw", err);
	return rc ? error_wrap(err, "settling volume %s", name ? name : "") : 0;
}

int volume_abandon(struct volumes *vs, const char *name, struct error *err)
{
	CLEANUP_OP struct op op;
	CLEANUP_FREE char *path = NULL;
	int rc = volume_op_begin_attached(&op, vs, name, err);

	if (rc == 0) {
		path = volume_path(vs, name);
		if (mount_is(path))
			rc = error_set(err, EBUSY, "it is mounted: unmount it first");
	}
	if (rc == 0)
		rc = transition(&op, op.driver->abandon, "abandon", "standby", err);
	return rc ? error_wrap(err, "abandoning volume %s", name ? name : "") : 0;
}

int volume_fence(struct volumes *vs, const char *host, struct error *err)
{
	if (!host || !str_is_name(host))
		return error_set(err, EINVAL, "invalid host name \"%s\"", host ? host : "");
	if (strcmp(host, vs->config.host) == 0)
		return error_set(err, EINVAL, "host %s cannot fence itself", host);
	for (size_t i = 0; i < vs->ndrivers; i++) {
		int rc =
			vs->drivers[i]->fence ? vs->drivers[i]->fence(vs->states[i], host, err) : 0;

		if (rc)
			return rc;
	}
	return 0;
}
