// SPDX-License-Identifier: Apache-2.0
/*
 * Driver rbd: a volume is an RBD image of the same name in the configured pool. What ferry
 * must know of it is metadata of the image itself, so any host can list and use volumes
 * without asking a state store:
 *
 *   ferry.fs         ext4, xfs, none: this image is a ferry volume
 *   ferry.formatted  the file system has been made
 *   ferry.created    RFC 3339
 *   ferry.labels     JSON object
 *
 * This file: life of images, snapshots, clones. rbd_attach.c: volds. rbd_fence.c: fencing.
 */
#include "volumes/rbd.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "volumes/registry.h"

#define LAYERING       1u
#define EXCLUSIVE_LOCK 4u
#define MAX_METADATA   (64u << 10)

static const struct {
	const char *name;
	uint64_t bits;
} features[] = {
	{ "layering", LAYERING }, { "striping", 2 },	   { "exclusive-lock", EXCLUSIVE_LOCK },
	{ "object-map", 8 },	  { "fast-diff", 8 | 16 }, { "deep-flatten", 32 },
	{ "journaling", 64 },
};

static void cleanup_image(rbd_image_t *image)
{
	if (*image)
		rbd_close(*image);
}
#define CLEANUP_IMAGE __attribute__((cleanup(cleanup_image)))

/* --- the driver itself ---------------------------------------------------------------------- */

/* ferry-vold: as configured, else beside the running program, else in PATH. */
static char *find_vold(const char *configured)
{
	char self[4096], *slash;
	ssize_t n;

	if (configured)
		return str_dup(configured);
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0) {
		CLEANUP_FREE char *path = NULL;

		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash)
			*slash = '\0';
		path = str_format("%s/ferry-vold", self);
		if (access(path, X_OK) == 0)
			return TAKE_PTR(path);
	}
	return str_dup("ferry-vold");
}

static int driver_open(const struct volumes_config *config, void **state, struct error *err)
{
	struct rbd_driver *d = mem_zalloc(sizeof(*d));

	(void)err;
	d->config = config;
	d->vold_path = find_vold(config->vold_path);
	pthread_mutex_init(&d->lock, NULL);
	*state = d;
	return 0;
}

static void driver_close(void *state)
{
	struct rbd_driver *d = state;

	if (d->connected) {
		registry_remove(d->ceph.io, "-", d->config->host, d->ceph.address, NULL);
		ceph_disconnect(&d->ceph);
	}
	pthread_mutex_destroy(&d->lock);
	free(d->vold_path);
	free(d);
}

static int connect_once(struct rbd_driver *d, struct error *err)
{
	const struct volumes_config *c = d->config;
	struct error ignored = { 0 };
	int rc = ceph_connect(c->ceph_conf, c->ceph_user, c->pool, &d->ceph, err);

	if (rc)
		return rc;
	/* This connection takes no locks, and blocklists before it breaks one. */
	rados_conf_set(d->ceph.cluster, "rbd_blocklist_on_break_lock", "false");
	rc = registry_add(d->ceph.io, "-", c->host, d->ceph.address, "control", err);
	if (rc) {
		ceph_disconnect(&d->ceph);
		return rc;
	}
	d->connected = true;
	/* Leftovers of an earlier boot must not keep volumes locked. */
	if (rbd_clear_dead(d, NULL, &ignored))
		log_warn("clearing this host's dead RADOS clients: %s", ignored.msg);
	return 0;
}

int rbd_connect(struct rbd_driver *d, struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&d->lock);
	if (!d->connected)
		rc = connect_once(d, err);
	pthread_mutex_unlock(&d->lock);
	return rc;
}

int rbd_image_open(struct rbd_driver *d, const char *name, bool read_only, rbd_image_t *image,
		   struct error *err)
{
	int rc = read_only ? rbd_open_read_only(d->ceph.io, name, image, NULL)
			   : rbd_open(d->ceph.io, name, image, NULL);

	if (rc == 0)
		return 0;
	*image = NULL;
	if (rc == -ENOENT)
		return error_set(err, ENOENT, "No such volume: %s", name);
	if (rc == -ESHUTDOWN)
		return error_set(err, ESHUTDOWN, "this host has been fenced: restart ferryd");
	return error_sys(err, -rc, "opening image %s/%s", d->config->pool, name);
}

/* --- metadata ------------------------------------------------------------------------------- */

static int metadata_set(rbd_image_t image, const char *key, const char *value, struct error *err)
{
	int rc = rbd_metadata_set(image, key, value);

	return rc < 0 ? error_sys(err, -rc, "noting %s at the image", key) : 0;
}

/* Caller frees; NULL where there is none. */
static char *metadata_get(rbd_image_t image, const char *key)
{
	size_t len = 256;

	for (int i = 0; i < 3 && len <= MAX_METADATA; i++) {
		CLEANUP_FREE char *value = mem_zalloc(len + 1);
		int rc = rbd_metadata_get(image, key, value, &len);

		if (rc >= 0)
			return TAKE_PTR(value);
		if (rc != -ERANGE)
			return NULL;
	}
	return NULL;
}

static int metadata_init(rbd_image_t image, const struct volume_spec *spec, struct error *err)
{
	CLEANUP_FREE char *labels = json_text(spec->labels);
	char created[32];
	time_t now = time(NULL);
	struct tm tm;
	int rc;

	gmtime_r(&now, &tm);
	strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", &tm);
	rc = metadata_set(image, "ferry.created", created, err);
	if (rc == 0)
		rc = metadata_set(image, "ferry.labels", labels, err);
	if (rc == 0)
		rc = metadata_set(image, "ferry.fs", spec->fs, err);
	return rc;
}

/* --- clones ------------------------------------------------------------------------------ */

/*
 * Clones by an own handle: that of a vold must not be turned to a snapshot. Since clones
 * are of format 2 (no protected parent, rbd(8) "clone"), only this list keeps a snapshot.
 */
static int driver_snapshot_clones(void *state, const char *name, const char *snap, json_t **out,
				  struct error *err)
{
	struct rbd_driver *d = state;
	CLEANUP_IMAGE rbd_image_t image = NULL;
	rbd_linked_image_spec_t *clones = NULL;
	size_t n = 16;
	int rc = rbd_connect(d, err);

	if (rc == 0)
		rc = rbd_image_open(d, name, true, &image, err);
	if (rc)
		return rc;
	rc = snap ? rbd_snap_set(image, snap) : 0;
	if (rc == -ENOENT)
		return error_set(err, ENOENT, "no such snapshot: %s", snap);
	while (rc == 0) {
		clones = mem_grow(clones, n, sizeof(*clones));
		rc = rbd_list_children3(image, clones, &n);
		if (rc != -ERANGE)
			break;
		rc = 0;
	}
	if (rc < 0) {
		free(clones);
		return error_sys(err, -rc, "listing the clones of volume %s", name);
	}
	*out = json_array();
	for (size_t i = 0; clones && i < n; i++)
		if (!clones[i].trash)
			json_array_append_new(*out, json_string(clones[i].image_name));
	rbd_linked_image_spec_list_cleanup(clones, n);
	free(clones);
	return 0;
}

/* EBUSY with the names of the clones, if there are any. */
static int refuse_clones(struct rbd_driver *d, const char *name, const char *snap,
			 struct error *err)
{
	CLEANUP_JSON json_t *clones = NULL;
	CLEANUP_BUF struct buf names = { 0 };
	json_t *clone;
	size_t i;
	int rc = driver_snapshot_clones(d, name, snap, &clones, err);

	if (rc || !json_array_size(clones))
		return rc;
	json_array_foreach (clones, i, clone)
		buf_addf(&names, "%s%s", i ? ", " : "", json_string_value(clone));
	return snap ? error_set(err, EBUSY,
				"snapshot %s of volume %s has clones: remove them first: %s", snap,
				name, names.data)
		    : error_set(err, EBUSY,
				"volume %s has snapshots with clones: remove them first: %s", name,
				names.data);
}

/* --- create, remove ------------------------------------------------------------------------ */

static int feature_bits(json_t *wanted, uint64_t *bits, struct error *err)
{
	json_t *item;
	size_t i;

	*bits = LAYERING | EXCLUSIVE_LOCK;
	json_array_foreach (wanted, i, item) {
		const char *name = json_string_value(item);
		size_t f, n = sizeof(features) / sizeof(features[0]);

		for (f = 0; f < n && strcmp(features[f].name, name ? name : "") != 0; f++)
			;
		if (f == n)
			return error_set(err, EINVAL, "unknown RBD feature \"%s\"",
					 name ? name : "");
		*bits |= features[f].bits;
	}
	return 0;
}

static int image_create(struct rbd_driver *d, const char *name, const struct volume_spec *spec,
			uint64_t bits, struct error *err)
{
	rbd_image_options_t options;
	int rc;

	rbd_image_options_create(&options);
	rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_FEATURES, bits);
	if (spec->data_pool)
		rbd_image_options_set_string(options, RBD_IMAGE_OPTION_DATA_POOL, spec->data_pool);
	rc = rbd_create4(d->ceph.io, name, spec->size_bytes, options);
	rbd_image_options_destroy(options);
	if (rc == -EEXIST)
		return error_set(err, EEXIST, "volume %s exists already", name);
	if (rc < 0)
		return error_sys(err, -rc, "making image %s/%s", d->config->pool, name);
	return 0;
}

static int driver_create(void *state, const char *name, const struct volume_spec *spec,
			 struct error *err)
{
	struct rbd_driver *d = state;
	rbd_image_t image = NULL;
	uint64_t bits;
	int rc = feature_bits(spec->features, &bits, err);

	if (rc == 0)
		rc = rbd_connect(d, err);
	if (rc == 0)
		rc = image_create(d, name, spec, bits, err);
	if (rc)
		return rc;
	rc = rbd_image_open(d, name, false, &image, err);
	if (rc == 0)
		rc = metadata_init(image, spec, err);
	if (image)
		rbd_close(image);
	if (rc)
		rbd_remove(d->ceph.io, name);
	return rc;
}

static int driver_formatted(void *state, const char *name, struct error *err)
{
	struct rbd_driver *d = state;
	CLEANUP_IMAGE rbd_image_t image = NULL;
	int rc = rbd_connect(d, err);

	if (rc == 0)
		rc = rbd_image_open(d, name, false, &image, err);
	return rc ? rc : metadata_set(image, "ferry.formatted", "1", err);
}

/* Addresses that have the image open for writing, standby ones included. */
static bool is_watched_by(rbd_image_t image, const char *address)
{
	rbd_image_watcher_t watchers[64];
	size_t n = 64;
	bool found = false;

	if (rbd_watchers_list(image, watchers, &n) < 0)
		return true; /* cannot tell */
	for (size_t i = 0; i < n; i++)
		found |= strcmp(watchers[i].addr, address) == 0;
	rbd_watchers_list_cleanup(watchers, n);
	return found;
}

/* Attachments of a volume; those whose client is gone are left out. */
static int attachments(struct rbd_driver *d, rbd_image_t image, const char *name, const char *owner,
		       json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *list = NULL;
	json_t *entry;
	size_t i;
	int rc = registry_list(d->ceph.io, name, NULL, &list, err);

	if (rc)
		return rc;
	*out = json_array();
	json_array_foreach (list, i, entry) {
		const char *mode = json_str(entry, "mode", ""),
			   *addr = json_str(entry, "address", "");

		if (strcmp(mode, "ro") != 0 && !is_watched_by(image, addr))
			continue;
		if (owner && strcmp(owner, addr) == 0)
			mode = "rw";
		else if (strcmp(mode, "rw") == 0)
			mode = "standby";
		json_set_str(entry, "mode", mode);
		json_object_del(entry, "volume");
		json_object_del(entry, "schema");
		json_array_append(*out, entry);
	}
	return 0;
}

static int full_info(struct rbd_driver *d, rbd_image_t image, const char *name,
		     struct volume_info *out, struct error *err)
{
	int rc = ceph_lock_owner(image, &out->owner_address, err);

	if (rc == 0)
		rc = attachments(d, image, name, out->owner_address, &out->attachments, err);
	if (rc == 0 && out->owner_address)
		out->owner_host = registry_host_of(d->ceph.io, out->owner_address);
	return rc;
}

static int driver_info(void *state, const char *name, bool full, struct volume_info *out,
		       struct error *err)
{
	struct rbd_driver *d = state;
	CLEANUP_IMAGE rbd_image_t image = NULL;
	CLEANUP_FREE char *labels = NULL, *formatted = NULL;
	int rc = rbd_connect(d, err);

	if (rc == 0)
		rc = rbd_image_open(d, name, true, &image, err);
	if (rc)
		return rc;
	out->fs = metadata_get(image, "ferry.fs");
	if (!out->fs)
		return error_set(err, ENOENT, "No such volume: %s (RBD image %s/%s is not ferry's)",
				 name, d->config->pool, name);
	rc = rbd_get_size(image, &out->size_bytes);
	if (rc < 0)
		return error_sys(err, -rc, "asking for the size of volume %s", name);
	formatted = metadata_get(image, "ferry.formatted");
	out->formatted = formatted != NULL;
	out->created = metadata_get(image, "ferry.created");
	labels = metadata_get(image, "ferry.labels");
	out->labels = labels ? json_parse(labels, strlen(labels), "labels", NULL) : NULL;
	return full ? full_info(d, image, name, out, err) : 0;
}

static int driver_remove(void *state, const char *name, struct error *err)
{
	struct rbd_driver *d = state;
	int rc = rbd_connect(d, err);

	if (rc)
		return rc;
	rc = rbd_remove(d->ceph.io, name);
	if (rc == -ENOENT)
		return error_set(err, ENOENT, "No such volume: %s", name);
	if (rc == -ENOTEMPTY) {
		rc = refuse_clones(d, name, NULL, err);
		return rc ? rc
			  : error_set(err, EBUSY,
				      "volume %s has snapshots: remove them first (ferry "
				      "checkpoint ls)",
				      name);
	}
	if (rc == -EBUSY)
		return error_set(
			err, EBUSY,
			"volume %s is in use on some host; stop the container that uses it", name);
	if (rc < 0)
		return error_sys(err, -rc, "removing image %s/%s", d->config->pool, name);
	return registry_forget(d->ceph.io, name, err);
}

static int driver_list(void *state, json_t **names, struct error *err)
{
	struct rbd_driver *d = state;
	rbd_image_spec_t *images = NULL;
	size_t n = 128;
	int rc = rbd_connect(d, err);

	while (rc == 0) {
		images = mem_grow(images, n, sizeof(*images));
		rc = rbd_list2(d->ceph.io, images, &n);
		if (rc != -ERANGE)
			break;
		rc = 0;
	}
	if (rc < 0) {
		free(images);
		return err && err->code ? rc : error_sys(err, -rc, "listing images");
	}
	*names = json_array();
	for (size_t i = 0; images && i < n; i++)
		json_array_append_new(*names, json_string(images[i].name));
	rbd_image_spec_list_cleanup(images, n);
	free(images);
	return 0;
}

/* --- resizing, snapshots, clones: through the vold where it has the lock --------------------- */

static int driver_resize(void *state, const char *name, const struct attachment *a,
			 uint64_t size_bytes, struct error *err)
{
	struct rbd_driver *d = state;
	CLEANUP_IMAGE rbd_image_t image = NULL;
	int rc;

	if (a) {
		json_t *req = json_object();

		json_set_str(req, "op", "resize");
		json_set_int(req, "size_bytes", (int64_t)size_bytes);
		return rbd_vold(d, a, req, NULL, err);
	}
	rc = rbd_connect(d, err);
	if (rc == 0)
		rc = rbd_image_open(d, name, false, &image, err);
	if (rc)
		return rc;
	rc = rbd_resize(image, size_bytes);
	return rc < 0 ? error_sys(err, -rc, "resizing volume %s", name) : 0;
}

static int snapshot_change(struct rbd_driver *d, const char *name, const struct attachment *a,
			   const char *snap, bool create, struct error *err)
{
	CLEANUP_IMAGE rbd_image_t image = NULL;
	int rc;

	if (a) {
		json_t *req = json_object();

		json_set_str(req, "op", "snapshot");
		json_set_str(req, "name", snap);
		json_set_bool(req, "remove", !create);
		return rbd_vold(d, a, req, NULL, err);
	}
	rc = rbd_connect(d, err);
	if (rc == 0)
		rc = rbd_image_open(d, name, false, &image, err);
	if (rc)
		return rc;
	rc = create ? ceph_snapshot_create(image, snap, err)
		    : ceph_snapshot_remove(image, snap, err);
	if (rc == -EROFS)
		return error_set(err, EBUSY,
				 "volume %s is attached read-write on another host: ask there",
				 name);
	return rc;
}

static int driver_snapshot_create(void *state, const char *name, const struct attachment *a,
				  const char *snap, struct error *err)
{
	return snapshot_change(state, name, a, snap, true, err);
}

static int driver_snapshot_remove(void *state, const char *name, const struct attachment *a,
				  const char *snap, bool detach, struct error *err)
{
	int rc = rbd_connect(state, err);

	if (rc == 0 && !detach)
		rc = refuse_clones(state, name, snap, err);
	return rc ? rc : snapshot_change(state, name, a, snap, false, err);
}

static json_t *snapshot_entry(rbd_image_t image, const rbd_snap_info_t *snap)
{
	json_t *entry = json_object();
	struct timespec ts = { 0 };
	char created[32];
	struct tm tm;

	json_set_str(entry, "Name", snap->name);
	json_set_int(entry, "size_bytes", (int64_t)snap->size);
	if (rbd_snap_get_timestamp(image, snap->id, &ts) == 0) {
		gmtime_r(&ts.tv_sec, &tm);
		strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", &tm);
		json_set_str(entry, "CreatedAt", created);
	}
	return entry;
}

static int driver_snapshot_list(void *state, const char *name, json_t **out, struct error *err)
{
	struct rbd_driver *d = state;
	CLEANUP_IMAGE rbd_image_t image = NULL;
	rbd_snap_info_t *snaps = NULL;
	int max = 64, n, rc = rbd_connect(d, err);

	if (rc == 0)
		rc = rbd_image_open(d, name, true, &image, err);
	if (rc)
		return rc;
	do {
		snaps = mem_grow(snaps, (size_t)max, sizeof(*snaps));
		n = rbd_snap_list(image, snaps, &max);
	} while (n == -ERANGE);
	if (n < 0) {
		free(snaps);
		return error_sys(err, -n, "listing snapshots of volume %s", name);
	}
	*out = json_array();
	for (int i = 0; i < n; i++) {
		rbd_snap_namespace_type_t type;

		/* Those that were removed and kept for their clones are nobody's any more. */
		if (rbd_snap_get_namespace_type(image, snaps[i].id, &type) == 0 &&
		    type != RBD_SNAP_NAMESPACE_TYPE_USER)
			continue;
		json_array_append_new(*out, snapshot_entry(image, &snaps[i]));
	}
	if (n > 0)
		rbd_snap_list_end(snaps);
	free(snaps);
	return 0;
}

static int driver_snapshot_rollback(void *state, const char *name, const char *snap,
				    struct error *err)
{
	struct rbd_driver *d = state;
	CLEANUP_IMAGE rbd_image_t image = NULL;
	CLEANUP_FREE char *mark = str_random_hex(16);
	int rc = rbd_connect(d, err);

	if (rc == 0)
		rc = rbd_image_open(d, name, false, &image, err);
	/* Whoever was demoted before must not go on with what it has cached. */
	if (rc == 0)
		rc = registry_writer_set(d->ceph.io, name, mark, err);
	if (rc)
		return rc;
	rc = rbd_snap_rollback(image, snap);
	if (rc == -ENOENT)
		return error_set(err, ENOENT, "no such snapshot: %s", snap);
	return rc < 0 ? error_sys(err, -rc, "rolling volume %s back to %s", name, snap) : 0;
}

static int driver_clone(void *state, const char *name, const char *snap, const char *clone,
			struct error *err)
{
	struct rbd_driver *d = state;
	CLEANUP_IMAGE rbd_image_t image = NULL, copy = NULL;
	CLEANUP_FREE char *fs = NULL, *labels = NULL;
	CLEANUP_JSON json_t *obj = NULL;
	struct volume_spec spec = { 0 };
	rbd_image_options_t options;
	int rc = rbd_connect(d, err);

	if (rc == 0)
		rc = rbd_image_open(d, name, true, &image, err);
	if (rc)
		return rc;
	rbd_image_options_create(&options);
	rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_FEATURES, LAYERING | EXCLUSIVE_LOCK);
	/* Format 2: the snapshot may be removed before the clone, and needs no protection. */
	rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_CLONE_FORMAT, 2);
	rc = rbd_clone3(d->ceph.io, name, snap, d->ceph.io, clone, options);
	rbd_image_options_destroy(options);
	if (rc == -EEXIST)
		return error_set(err, EEXIST, "volume %s exists already", clone);
	if (rc == -ENOENT)
		return error_set(err, ENOENT, "no such snapshot: %s", snap);
	if (rc < 0)
		return error_sys(err, -rc, "cloning volume %s", name);
	fs = metadata_get(image, "ferry.fs");
	labels = metadata_get(image, "ferry.labels");
	obj = labels ? json_parse(labels, strlen(labels), "labels", NULL) : NULL;
	spec.fs = fs ? fs : "none";
	spec.labels = obj;
	rc = rbd_image_open(d, clone, false, &copy, err);
	if (rc == 0)
		rc = metadata_set(copy, "ferry.formatted", "1", err);
	return rc ? rc : metadata_init(copy, &spec, err);
}

const struct volume_driver volume_driver_rbd = {
	.name = "rbd",
	.scope = "global",
	.why_not = "driver rbd cannot",
	.open = driver_open,
	.close = driver_close,
	.create = driver_create,
	.formatted = driver_formatted,
	.remove = driver_remove,
	.info = driver_info,
	.list = driver_list,
	.resize = driver_resize,
	.snapshot_create = driver_snapshot_create,
	.snapshot_list = driver_snapshot_list,
	.snapshot_remove = driver_snapshot_remove,
	.snapshot_clones = driver_snapshot_clones,
	.snapshot_rollback = driver_snapshot_rollback,
	.clone = driver_clone,
	.attach = rbd_driver_attach,
	.detach = rbd_driver_detach,
	.status = rbd_driver_status,
	.promote = rbd_driver_promote,
	.quiesce = rbd_driver_quiesce,
	.preview = rbd_driver_preview,
	.claim = rbd_driver_claim,
	.settle = rbd_driver_settle,
	.abandon = rbd_driver_abandon,
	.demote = rbd_driver_demote,
	.retake = rbd_driver_retake,
	.fence = rbd_driver_fence,
};
