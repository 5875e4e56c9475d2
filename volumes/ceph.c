// SPDX-License-Identifier: Apache-2.0
/* Connection, locks and blocklisting; see ceph.h. */
#include "volumes/ceph.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

/*
 * Settings that are ferry's own business; all else is the user's ceph.conf.
 * rbd_cache: acknowledged means acknowledged by the OSDs, and nothing is left to land
 *   later when the lock is given away.
 * rbd_disable_zero_copy_writes: buffers are stable until the write is answered.
 * rbd_blocklist_*: should librbd ever break a lock by itself, then for 20 years as well.
 * rbd_skip_partial_discard: zeroes must read as zeroes.
 * objecter_*: resend soon after an OSD died (10.2 s become 2.3 s).
 */
static const char *const settings[][2] = {
	{ "client_mount_timeout", "10" },
	{ "objecter_tick_interval", "1" },
	{ "objecter_timeout", "2" },
	{ "rbd_cache", "false" },
	{ "rbd_disable_zero_copy_writes", "false" },
	{ "rbd_blocklist_on_break_lock", "true" },
	{ "rbd_blocklist_expire_seconds", "630720000" },
	{ "rbd_skip_partial_discard", "false" },
	{ "rbd_discard_on_zeroed_write_same", "true" },
	{ "rbd_validate_pool", "false" },
	{ "log_to_stderr", "false" },
	{ "err_to_stderr", "false" },
};

#define EXPIRE_SECONDS 630720000.0 /* 20 years */

static char *own_address(rados_t cluster)
{
	char *addrs = NULL, *slash, *start;
	char *out = NULL;

	if (rados_getaddrs(cluster, &addrs) < 0 || !addrs)
		return NULL;
	/* "v2:10.0.0.1:0/123" or "[v2:10.0.0.1:0/123,v1:…]": the first, without its type. */
	start = addrs[0] == '[' && addrs[1] == 'v' ? addrs + 1 : addrs;
	if (str_starts(start, "v2:") || str_starts(start, "v1:"))
		start += 3;
	slash = strchr(start, '/');
	if (slash)
		out = str_format("%.*s", (int)(slash + 1 + strspn(slash + 1, "0123456789") - start),
				 start);
	rados_buffer_free(addrs);
	return out;
}

static int configure(rados_t cluster, const char *conf, struct error *err)
{
	int rc = rados_conf_read_file(cluster, conf);

	if (rc < 0)
		return error_sys(err, -rc, "reading %s", conf ? conf : "ceph.conf");
	/* A setting that this Ceph does not know is a default it no longer needs. */
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		rados_conf_set(cluster, settings[i][0], settings[i][1]);
	return 0;
}

int ceph_connect(const char *conf, const char *user, const char *pool, struct ceph *out,
		 struct error *err)
{
	int rc = rados_create(&out->cluster, user ? user : "admin");

	out->io = NULL;
	out->address = NULL;
	if (rc < 0) {
		out->cluster = NULL;
		return error_sys(err, -rc, "preparing a connection to Ceph");
	}
	rc = configure(out->cluster, conf, err);
	if (rc == 0) {
		rc = rados_connect(out->cluster);
		if (rc < 0)
			rc = error_sys(err, -rc, "connecting to Ceph as client.%s",
				       user ? user : "admin");
	}
	if (rc < 0) {
		/* Never connected: rados_shutdown() frees it all the same. */
		rados_shutdown(out->cluster);
		out->cluster = NULL;
		return rc;
	}
	rc = rados_ioctx_create(out->cluster, pool, &out->io);
	if (rc < 0) {
		out->io = NULL;
		rc = rc == -ENOENT ? error_set(err, ENOENT, "no such Ceph pool: %s", pool)
				   : error_sys(err, -rc, "opening Ceph pool %s", pool);
	} else {
		out->address = own_address(out->cluster);
		if (!out->address)
			rc = error_set(err, EIO, "Ceph does not tell this client's address");
	}
	if (rc)
		ceph_disconnect(out);
	return rc;
}

void ceph_disconnect(struct ceph *c)
{
	if (c->io)
		rados_ioctx_destroy(c->io);
	if (c->cluster)
		rados_shutdown(c->cluster);
	free(c->address);
	memset(c, 0, sizeof(*c));
}

/* What the image said when it was opened: enough for a handle that was opened just now. */
static int owner_at_open(rbd_image_t image, char **address, struct error *err)
{
	char tag[256], clients[1024], cookies[1024], addrs[1024];
	size_t tag_len = sizeof(tag), clients_len = sizeof(clients);
	size_t cookies_len = sizeof(cookies), addrs_len = sizeof(addrs);
	int exclusive = 0;
	ssize_t n = rbd_list_lockers(image, &exclusive, tag, &tag_len, clients, &clients_len,
				     cookies, &cookies_len, addrs, &addrs_len);

	if (n == 0 || n == -ENOENT)
		return 0;
	if (n < 0)
		return error_sys(err, (int)-n, "asking for the owner of the exclusive lock");
	*address = str_dup(addrs); /* the first of NUL-separated ones; exclusive: the only one */
	return 0;
}

int ceph_lock_owner(rbd_image_t image, char **address, struct error *err)
{
	rbd_lock_mode_t mode;
	char *owners[4] = { NULL };
	size_t n = 4;
	int rc = rbd_lock_get_owners(image, &mode, owners, &n);

	*address = NULL;
	if (rc == -EINVAL) /* opened read-only */
		return owner_at_open(image, address, err);
	if (rc == -ENOENT || (rc == 0 && n == 0))
		return 0;
	if (rc < 0)
		return error_sys(err, -rc, "asking for the owner of the exclusive lock");
	*address = str_dup(owners[0]);
	rbd_lock_get_owners_cleanup(owners, n);
	return 0;
}

int ceph_blocklist(struct ceph *c, const char *address, struct error *err)
{
	CLEANUP_JSON json_t *cmd = json_object();
	CLEANUP_FREE char *text = NULL;
	const char *cmds[1];
	char *out = NULL, *status = NULL;
	size_t outlen = 0, statuslen = 0;
	int rc;

	json_set_str(cmd, "prefix", "osd blocklist");
	json_set_str(cmd, "blocklistop", "add");
	json_set_str(cmd, "addr", address);
	json_object_set_new(cmd, "expire", json_real(EXPIRE_SECONDS));
	text = json_text(cmd);
	cmds[0] = text;
	rc = rados_mon_command(c->cluster, cmds, 1, "", 0, &out, &outlen, &status, &statuslen);
	if (rc < 0)
		error_sys(err, -rc, "blocklisting RADOS client %s (%.*s)", address, (int)statuslen,
			  status ? status : "");
	if (out)
		rados_buffer_free(out);
	if (status)
		rados_buffer_free(status);
	if (rc == 0) {
		rc = rados_wait_for_latest_osdmap(c->cluster);
		if (rc < 0)
			error_sys(err, -rc, "waiting for the OSD map with the blocklist");
	}
	return rc < 0 ? rc : 0;
}

int ceph_lock_break(rbd_image_t image, const char *address, struct error *err)
{
	int rc = rbd_lock_break(image, RBD_LOCK_MODE_EXCLUSIVE, address);

	if (rc == -ENOENT || rc == -EBUSY) { /* released, or another one's by now */
		CLEANUP_FREE char *owner = NULL;

		rc = ceph_lock_owner(image, &owner, err);
		if (rc == 0 && owner && strcmp(owner, address) == 0)
			rc = error_set(err, EBUSY, "the lock of %s cannot be broken", address);
		return rc;
	}
	return rc < 0 ? error_sys(err, -rc, "breaking the lock of %s", address) : 0;
}

int ceph_snapshot_create(rbd_image_t image, const char *snap, struct error *err)
{
	int rc = rbd_snap_create(image, snap);

	if (rc == -EEXIST)
		return error_set(err, EEXIST, "snapshot %s exists already", snap);
	return rc < 0 ? error_sys(err, -rc, "making snapshot %s", snap) : 0;
}

int ceph_snapshot_remove(rbd_image_t image, const char *snap, struct error *err)
{
	int protected = 0, rc = rbd_snap_is_protected(image, snap, &protected);

	if (rc == 0 && protected)
		rc = rbd_snap_unprotect(image, snap);
	if (rc == -EBUSY)
		return error_set(err, EBUSY, "snapshot %s has clones: remove them first", snap);
	if (rc == 0)
		rc = rbd_snap_remove(image, snap);
	if (rc == -ENOENT)
		return error_set(err, ENOENT, "no such snapshot: %s", snap);
	return rc < 0 ? error_sys(err, -rc, "removing snapshot %s", snap) : 0;
}
