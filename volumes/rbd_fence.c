// SPDX-License-Identifier: Apache-2.0
/*
 * Shutting out RADOS clients: another host's (fencing), or this host's own dead ones. The
 * order matters: blocklist first, so that nothing of the client can land any more, then
 * break its locks, then forget it. A failure in between leaves the registry entry, so that
 * the next try starts again.
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "volumes/attachment.h"
#include "volumes/rbd.h"
#include "volumes/registry.h"

/* Breaks the lock of `volume` if `address` holds it. A volume that is gone: 0. */
static int break_lock(struct rbd_driver *d, const char *volume, const char *address,
		      struct error *err)
{
	CLEANUP_FREE char *owner = NULL;
	rbd_image_t image = NULL;
	int rc;

	if (strcmp(volume, "-") == 0)
		return 0;
	rc = rbd_image_open(d, volume, false, &image, err);
	if (rc == -ENOENT)
		return 0;
	if (rc)
		return rc;
	rc = ceph_lock_owner(image, &owner, err);
	if (rc == 0 && owner && strcmp(owner, address) == 0)
		rc = ceph_lock_break(image, address, err);
	rbd_close(image);
	return rc ? error_wrap(err, "volume %s", volume) : 0;
}

/* Shuts out every entry of a registry list. */
static int shut_out(struct rbd_driver *d, json_t *entries, struct error *err)
{
	json_t *entry;
	size_t i;
	int rc;

	json_array_foreach (entries, i, entry) {
		rc = ceph_blocklist(&d->ceph, json_str(entry, "address", ""), err);
		if (rc)
			return rc;
	}
	json_array_foreach (entries, i, entry) {
		const char *volume = json_str(entry, "volume", "-");
		const char *address = json_str(entry, "address", "");

		rc = break_lock(d, volume, address, err);
		if (rc == 0)
			rc = registry_remove(d->ceph.io, volume, json_str(entry, "host", ""),
					     address, err);
		if (rc)
			return rc;
	}
	return 0;
}

int rbd_driver_fence(void *state, const char *host, struct error *err)
{
	struct rbd_driver *d = state;
	CLEANUP_JSON json_t *entries = NULL;
	int rc = rbd_connect(d, err);

	if (rc == 0)
		rc = registry_list(d->ceph.io, NULL, host, &entries, err);
	if (rc == 0)
		rc = shut_out(d, entries, err);
	if (rc)
		return error_wrap(err, "fencing host %s", host);
	log_info("host %s is fenced: %zu RADOS clients shut out", host, json_array_size(entries));
	return 0;
}

/* Whether a registry entry of this host belongs to a process that runs (or may start). */
static bool entry_lives(struct rbd_driver *d, const json_t *entry)
{
	const char *volume = json_str(entry, "volume", "-"),
		   *address = json_str(entry, "address", "");
	struct attachment a;
	bool lives;

	if (strcmp(volume, "-") == 0)
		return strcmp(address, d->ceph.address) == 0;
	if (attachment_load(d->config->run_dir, volume, &a, NULL))
		return false;
	lives = a.pid == 0 ||
		(attachment_alive(&a) && a.address && strcmp(a.address, address) == 0);
	attachment_free(&a);
	return lives;
}

int rbd_clear_dead(struct rbd_driver *d, const char *volume, struct error *err)
{
	CLEANUP_JSON json_t *entries = NULL, *dead = json_array();
	json_t *entry;
	size_t i;
	int rc = registry_list(d->ceph.io, volume, d->config->host, &entries, err);

	json_array_foreach (entries, i, entry)
		if (rc == 0 && !entry_lives(d, entry))
			json_array_append(dead, entry);
	return rc ? rc : shut_out(d, dead, err);
}
