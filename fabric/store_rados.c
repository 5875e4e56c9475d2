/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store in a RADOS pool: connection and documents. store_rados.h shows the layout.
 *
 * Compare-and-swap is one write operation of one object: omap_cmp on the version key and
 * omap_set, which the OSD does both or not at all. A missing key compares equal to the empty
 * string (PrimaryLogPG, CEPH_OSD_OP_OMAP_CMP), so "must not exist" is a comparison with "";
 * empty values are never stored. A missing object would give -ENOENT: it is made first, in
 * the same operation.
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/store_rados.h"

#define SHARDS	     16
#define TIMEOUT_NS   (10ll * 1000000000)
#define VERSION_TEXT 24

void rados_epoch_text(char out[EPOCH_TEXT], uint64_t epoch)
{
	snprintf(out, EPOCH_TEXT, "%020llu", (unsigned long long)epoch);
}

int rados_failed(const struct rados_impl *ri, int r, struct error *err, const char *what,
		 const char *name)
{
	switch (-r) {
	case ETIMEDOUT:
		return error_set(err, ETIMEDOUT,
				 "%s %s: the Ceph cluster did not answer in time "
				 "(see `ceph status`: are monitors and OSDs up?)",
				 what, name);
	case EOPNOTSUPP:
		return error_set(err, EOPNOTSUPP,
				 "%s %s: pool %s cannot hold the state: it must be "
				 "replicated, not erasure-coded",
				 what, name, ri->pool);
	case ESHUTDOWN:
		return error_set(err, ESHUTDOWN,
				 "%s %s: this host's Ceph client was blocklisted "
				 "(the host had been declared dead); restart ferryd",
				 what, name);
	case EPERM:
	case EACCES:
		return error_set(err, EACCES,
				 "%s %s: the Ceph user may not write in pool %s (caps: "
				 "mon 'profile rbd', osd 'allow rwx pool=%s')",
				 what, name, ri->pool, ri->pool);
	default:
		return error_sys(err, -r, "%s %s in pool %s", what, name, ri->pool);
	}
}

/* --- connection --------------------------------------------------------------------- */

static void set_option(rados_t cluster, const char *name, const char *value)
{
	int r = rados_conf_set(cluster, name, value);

	if (r < 0)
		log_debug("ceph option %s: %s", name, strerror(-r));
}

/* So that a cluster that is gone gives errors in bounded time. */
static void set_timeouts(rados_t cluster, int64_t timeout_ns)
{
	char seconds[32];

	if (timeout_ns <= 0)
		timeout_ns = TIMEOUT_NS;
	/* Whole seconds: some of these options are integers. */
	snprintf(seconds, sizeof(seconds), "%lld",
		 (long long)((timeout_ns + 999999999) / 1000000000));
	set_option(cluster, "rados_osd_op_timeout", seconds);
	set_option(cluster, "rados_mon_op_timeout", seconds);
	set_option(cluster, "client_mount_timeout", seconds);
	/* Find a moved or restarted OSD soon: 10.2 s become 2.3 s (DESIGN, section 11). */
	set_option(cluster, "objecter_tick_interval", "1");
	set_option(cluster, "objecter_timeout", "2");
	set_option(cluster, "log_to_stderr", "false");
	set_option(cluster, "err_to_stderr", "false");
	set_option(cluster, "log_file", "");
}

static int mon_command(rados_t cluster, json_t *command)
{
	CLEANUP_FREE char *text = NULL;
	char *out = NULL, *status = NULL;
	const char *argv[1];
	size_t out_len, status_len;
	int r;

	text = json_dumps(command, JSON_COMPACT);
	json_decref(command);
	argv[0] = text;
	r = rados_mon_command(cluster, argv, 1, "", 0, &out, &out_len, &status, &status_len);
	rados_buffer_free(out);
	rados_buffer_free(status);
	return r;
}

static int make_pool(struct rados_impl *ri, struct error *err)
{
	int r = mon_command(ri->cluster,
			    json_pack("{s:s, s:s, s:i, s:s}", "prefix", "osd pool create", "pool",
				      ri->pool, "pg_num", 16, "pool_type", "replicated"));

	if (r < 0 && r != -EEXIST)
		return error_sys(err, -r,
				 "making the pool %s (make it by hand: ceph osd pool create "
				 "%s 16)",
				 ri->pool, ri->pool);
	mon_command(ri->cluster,
		    json_pack("{s:s, s:s, s:s}", "prefix", "osd pool application enable", "pool",
			      ri->pool, "app", "ferry"));
	rados_wait_for_latest_osdmap(ri->cluster);
	return 0;
}

static int connect_pool(struct rados_impl *ri, const struct store_config *c, struct error *err)
{
	const char *conf = c->ceph_conf ? c->ceph_conf : "/etc/ceph/ceph.conf";
	const char *user = c->ceph_user ? c->ceph_user : "admin";
	int r = rados_create(&ri->cluster, user);

	if (r < 0)
		return error_sys(err, -r, "making a Ceph client");
	r = rados_conf_read_file(ri->cluster, conf);
	if (r < 0)
		return error_sys(err, -r, "reading %s", conf);
	set_timeouts(ri->cluster, c->timeout_ns);
	r = rados_connect(ri->cluster);
	if (r == -ENOENT || r == -EACCES || r == -EPERM)
		return error_set(err, EACCES,
				 "connecting to Ceph as client.%s: no key for it was "
				 "found or it was refused (keyring beside %s?)",
				 user, conf);
	if (r < 0)
		return error_sys(err, -r, "connecting to Ceph by %s", conf);
	if (c->create_pool && rados_pool_lookup(ri->cluster, ri->pool) == -ENOENT) {
		r = make_pool(ri, err);
		if (r < 0)
			return r;
	}
	r = rados_ioctx_create(ri->cluster, ri->pool, &ri->io);
	if (r == -ENOENT)
		return error_set(err, ENOENT,
				 "there is no pool %s; make it with: ceph osd pool "
				 "create %s",
				 ri->pool, ri->pool);
	if (r < 0)
		return error_sys(err, -r, "opening the pool %s", ri->pool);
	rados_ioctx_set_namespace(ri->io, c->space ? c->space : "ferry");
	return 0;
}

static void driver_close(void *impl)
{
	struct rados_impl *ri = impl;

	if (ri->hub)
		rados_hub_stop(ri->hub);
	if (ri->io)
		rados_ioctx_destroy(ri->io);
	if (ri->cluster)
		rados_shutdown(ri->cluster);
	free(ri->pool);
	free(ri);
}

static int driver_open(struct store *s, const struct store_config *config, void **impl,
		       struct error *err)
{
	struct rados_impl *ri;
	int r;

	if (!config->pool)
		return error_set(err, EINVAL, "the name of the pool is missing");
	ri = mem_zalloc(sizeof(*ri));
	ri->pool = str_dup(config->pool);
	r = connect_pool(ri, config, err);
	if (r < 0) {
		driver_close(ri);
		return r;
	}
	ri->hub = rados_hub_start(ri, s);
	*impl = ri;
	return 0;
}

/* --- objects and keys --------------------------------------------------------------- */

/* FNV-1a: the same on every host and for ever, for it says where documents lie. */
static unsigned shard_of(const char *key)
{
	uint32_t h = 2166136261u;

	for (; *key; key++)
		h = (h ^ (unsigned char)*key) * 16777619u;
	return h % SHARDS;
}

static char *shard_name(const char *key, unsigned shard)
{
	return str_format("doc.%.*s.%02u", (int)strcspn(key, "/"), key, shard);
}

static char *object_of(const char *key)
{
	return shard_name(key, shard_of(key));
}

/* Gives a "d:KEY" entry of an omap to emit. */
static void emit_entry(const char *name, const char *val, size_t len, store_emit_fn *emit,
		       void *ctx)
{
	const char *nl = memchr(val, '\n', len);
	uint64_t version;
	char text[VERSION_TEXT];

	if (!nl || nl - val >= VERSION_TEXT || strncmp(name, "d:", 2) != 0)
		return;
	memcpy(text, val, (size_t)(nl - val));
	text[nl - val] = '\0';
	if (str_to_u64(text, UINT64_MAX - 1, &version) < 0)
		return;
	emit(ctx, name + 2, nl + 1, len - (size_t)(nl + 1 - val), version);
}

int rados_omap_text(struct rados_impl *ri, const char *object, const char *key, char **text,
		    size_t *len)
{
	rados_read_op_t op = rados_create_read_op();
	const char *keys[] = { key };
	const size_t lens[] = { strlen(key) };
	rados_omap_iter_t it = NULL;
	int r, r2 = 0;

	*text = NULL;
	rados_read_op_omap_get_vals_by_keys2(op, keys, 1, lens, &it, &r2);
	r = rados_read_op_operate(op, ri->io, object, 0);
	rados_release_read_op(op);
	if (r >= 0)
		r = r2;
	if (r >= 0) {
		char *name = NULL, *val = NULL;
		size_t name_len, val_len;

		r = rados_omap_get_next2(it, &name, &val, &name_len, &val_len);
		if (r >= 0 && name) {
			*text = mem_zalloc(val_len + 1);
			memcpy(*text, val, val_len);
			if (len)
				*len = val_len;
		}
	}
	if (it)
		rados_omap_get_end(it);
	return r == -ENOENT ? 0 : r; /* no object: no key */
}

static int driver_get(void *impl, const char *key, store_emit_fn *emit, void *ctx,
		      struct error *err)
{
	struct rados_impl *ri = impl;
	CLEANUP_FREE char *object = object_of(key);
	CLEANUP_FREE char *name = str_format("d:%s", key);
	CLEANUP_FREE char *text = NULL;
	size_t len = 0;
	int r = rados_omap_text(ri, object, name, &text, &len);

	if (r < 0)
		return rados_failed(ri, r, err, "reading", key);
	if (!text)
		return error_set(err, ENOENT, "there is no document %s", key);
	emit_entry(name, text, len, emit, ctx);
	return 0;
}

/* --- listing: all shards of a collection at once ------------------------------------ */

struct shard_read {
	char *object;
	char *after; /* last omap key so far */
	rados_read_op_t op;
	rados_completion_t done;
	rados_omap_iter_t it;
	unsigned char more;
	int result;
};

static int shard_start(struct rados_impl *ri, struct shard_read *s, const char *filter)
{
	int r;

	s->it = NULL;
	s->more = 0;
	s->result = 0;
	s->op = rados_create_read_op();
	rados_read_op_omap_get_vals2(s->op, s->after ? s->after : "", filter, 1000, &s->it,
				     &s->more, &s->result);
	r = rados_aio_create_completion2(NULL, NULL, &s->done);
	if (r == 0)
		r = rados_aio_read_op_operate(s->op, ri->io, s->done, s->object, 0);
	return r;
}

/* Waits for a shard and emits what it gave; s->more says whether there is more. */
static int shard_finish(struct shard_read *s, store_emit_fn *emit, void *ctx)
{
	char *name, *val;
	size_t name_len, val_len;
	int r;

	rados_aio_wait_for_complete(s->done);
	r = rados_aio_get_return_value(s->done);
	if (r >= 0)
		r = s->result;
	while (r >= 0 && s->it) {
		CLEANUP_FREE char *key = NULL;

		r = rados_omap_get_next2(s->it, &name, &val, &name_len, &val_len);
		if (r < 0 || !name)
			break;
		key = mem_zalloc(name_len + 1);
		memcpy(key, name, name_len);
		emit_entry(key, val, val_len, emit, ctx);
		free(s->after);
		s->after = TAKE_PTR(key);
	}
	if (r == -ENOENT) { /* a shard that nothing was written to yet */
		s->more = 0;
		r = 0;
	}
	return r;
}

static void shard_release(struct shard_read *s)
{
	if (s->it)
		rados_omap_get_end(s->it);
	if (s->done)
		rados_aio_release(s->done);
	if (s->op)
		rados_release_read_op(s->op);
	s->it = NULL;
	s->done = NULL;
	s->op = NULL;
}

static int list_collection(struct rados_impl *ri, const char *prefix, const char *filter,
			   store_emit_fn *emit, void *ctx, struct error *err)
{
	struct shard_read shards[SHARDS] = { 0 };
	bool more = true;
	int r = 0, r2;

	for (unsigned i = 0; i < SHARDS; i++) {
		shards[i].object = shard_name(prefix, i);
		shards[i].more = 1;
	}
	while (more && r == 0) {
		bool started[SHARDS] = { false };

		more = false;
		for (unsigned i = 0; i < SHARDS && r == 0; i++) {
			if (!shards[i].more)
				continue;
			r = shard_start(ri, &shards[i], filter);
			started[i] = r == 0;
		}
		for (unsigned i = 0; i < SHARDS; i++) {
			if (started[i]) {
				r2 = shard_finish(&shards[i], emit, ctx);
				if (r == 0)
					r = r2 < 0 ? r2 : 0;
				more |= shards[i].more != 0;
			}
			shard_release(&shards[i]);
		}
	}
	for (unsigned i = 0; i < SHARDS; i++) {
		free(shards[i].object);
		free(shards[i].after);
	}
	return r < 0 ? rados_failed(ri, r, err, "listing", prefix) : 0;
}

/* "doc.COLLECTION.NN": the collection with a slash behind it, or NULL. */
static char *collection_of(const char *object)
{
	size_t n = strlen(object);

	if (!str_starts(object, "doc.") || n < 8)
		return NULL;
	return str_format("%.*s/", (int)(n - 7), object + 4);
}

/* A prefix that does not hold a whole collection name: every collection that fits. */
static int list_collections(struct rados_impl *ri, const char *prefix, store_emit_fn *emit,
			    void *ctx, struct error *err)
{
	json_t *seen = json_object(), *value;
	rados_list_ctx_t list;
	const char *object, *name;
	int r = rados_nobjects_list_open(ri->io, &list);

	while (r == 0) {
		CLEANUP_FREE char *collection = NULL;

		r = rados_nobjects_list_next(list, &object, NULL, NULL);
		if (r < 0)
			break;
		collection = collection_of(object);
		if (collection && str_starts(collection, prefix))
			json_object_set_new(seen, collection, json_true());
	}
	if (r == -ENOENT) { /* the end of the list */
		rados_nobjects_list_close(list);
		r = 0;
	}
	if (r < 0)
		r = rados_failed(ri, r, err, "listing", "all objects");
	json_object_foreach (seen, name, value)
		if (r == 0)
			r = list_collection(ri, name, "d:", emit, ctx, err);
	json_decref(seen);
	return r;
}

static int driver_list(void *impl, const char *prefix, store_emit_fn *emit, void *ctx,
		       struct error *err)
{
	struct rados_impl *ri = impl;
	CLEANUP_FREE char *filter = NULL;

	if (!strchr(prefix, '/'))
		return list_collections(ri, prefix, emit, ctx, err);
	filter = str_format("d:%s", prefix);
	return list_collection(ri, prefix, filter, emit, ctx, err);
}

/* --- writing ------------------------------------------------------------------------ */

static int current_version(struct rados_impl *ri, const char *object, const char *vkey,
			   uint64_t *version)
{
	CLEANUP_FREE char *text = NULL;
	int r = rados_omap_text(ri, object, vkey, &text, NULL);

	*version = 0;
	if (r < 0 || !text)
		return r;
	return str_to_u64(text, UINT64_MAX - 1, version);
}

static void compare_version(rados_write_op_t op, const char *vkey, uint64_t version)
{
	char text[VERSION_TEXT] = "";

	if (version != STORE_ABSENT)
		snprintf(text, sizeof(text), "%llu", (unsigned long long)version);
	rados_write_op_omap_cmp2(op, vkey, LIBRADOS_CMPXATTR_OP_EQ, text, strlen(vkey),
				 strlen(text), NULL);
}

static void set_one(rados_write_op_t op, const char *key, const char *val, size_t len)
{
	const size_t key_len = strlen(key);

	rados_write_op_omap_set2(op, &key, &val, &key_len, &len, 1);
}

/*
 * Lets the operation go on only where no greater epoch has written to this object. A
 * missing key (nobody yet) is less than any epoch.
 */
static void compare_fence(rados_write_op_t op, const struct store_fence *fence)
{
	CLEANUP_FREE char *key = str_format("f:%s", fence->lease);
	char next[EPOCH_TEXT];

	rados_epoch_text(next, fence->epoch + 1);
	rados_write_op_omap_cmp2(op, key, LIBRADOS_CMPXATTR_OP_LT, next, strlen(key), strlen(next),
				 NULL);
}

static void set_fence(rados_write_op_t op, const struct store_fence *fence)
{
	CLEANUP_FREE char *key = str_format("f:%s", fence->lease);
	char ours[EPOCH_TEXT];

	rados_epoch_text(ours, fence->epoch);
	set_one(op, key, ours, strlen(ours));
}

/* Whether a later holder of the lease has written to this object. */
static bool is_fenced(struct rados_impl *ri, const char *object, const struct store_fence *fence)
{
	CLEANUP_FREE char *key = str_format("f:%s", fence->lease);
	CLEANUP_FREE char *text = NULL;
	uint64_t epoch = 0;

	return rados_omap_text(ri, object, key, &text, NULL) == 0 && text &&
	       str_to_u64(text, UINT64_MAX - 1, &epoch) == 0 && epoch > fence->epoch;
}

static int put_once(struct rados_impl *ri, const char *key, const char *object, const char *text,
		    size_t len, uint64_t expected, const struct store_fence *fence,
		    uint64_t *version, struct error *err)
{
	CLEANUP_FREE char *vkey = str_format("v:%s", key);
	CLEANUP_FREE char *dkey = str_format("d:%s", key);
	CLEANUP_BUF struct buf doc = { 0 };
	rados_write_op_t op = rados_create_write_op();
	char vtext[VERSION_TEXT];
	int r;

	/*
	 * A document's first version is the time, so that one that was deleted and made again
	 * does not get a version it has had; in microseconds it stays exact as a JSON number.
	 */
	*version = expected ? expected + 1 : (uint64_t)(clock_real_ns() / 1000);
	snprintf(vtext, sizeof(vtext), "%llu", (unsigned long long)*version);
	buf_addf(&doc, "%s\n", vtext);
	buf_add(&doc, text, len);

	rados_write_op_create(op, LIBRADOS_CREATE_IDEMPOTENT, NULL);
	/*
	 * All comparisons before the first change: once an operation has set a key, a comparison
	 * reads from the disk, where a new object is not yet (-ENOENT).
	 */
	if (fence)
		compare_fence(op, fence);
	compare_version(op, vkey, expected);
	if (fence)
		set_fence(op, fence);
	set_one(op, vkey, vtext, strlen(vtext));
	set_one(op, dkey, doc.data, doc.len);
	r = rados_write_op_operate2(op, ri->io, object, NULL, 0);
	rados_release_write_op(op);
	if (r == -ECANCELED && fence && is_fenced(ri, object, fence))
		return error_set(err, ESTALE,
				 "writing %s: a later holder of the lease %s has written "
				 "already",
				 key, fence->lease);
	if (r == -ECANCELED)
		return expected
			       ? error_set(err, ECANCELED, "document %s has changed meanwhile", key)
			       : error_set(err, ECANCELED, "document %s exists already", key);
	return r < 0 ? rados_failed(ri, r, err, "writing", key) : 0;
}

/* The version that an operation without expectation takes for its comparison. */
static int any_version(struct rados_impl *ri, const char *key, const char *object,
		       uint64_t *version, struct error *err)
{
	CLEANUP_FREE char *vkey = str_format("v:%s", key);
	int r = current_version(ri, object, vkey, version);

	return r < 0 ? rados_failed(ri, r, err, "reading", key) : 0;
}

static int driver_put(void *impl, const char *key, const char *text, size_t len, uint64_t expected,
		      const struct store_fence *fence, uint64_t *version, struct error *err)
{
	struct rados_impl *ri = impl;
	CLEANUP_FREE char *object = object_of(key);
	int r;

	for (;;) {
		uint64_t compare = expected;

		if (expected == STORE_ANY) {
			r = any_version(ri, key, object, &compare, err);
			if (r < 0)
				return r;
		}
		r = put_once(ri, key, object, text, len, compare, fence, version, err);
		if (r != -ECANCELED || expected != STORE_ANY)
			return r;
		error_clear(err);
	}
}

static int del_once(struct rados_impl *ri, const char *key, const char *object, uint64_t expected,
		    struct error *err)
{
	CLEANUP_FREE char *vkey = str_format("v:%s", key);
	CLEANUP_FREE char *dkey = str_format("d:%s", key);
	const char *keys[] = { vkey, dkey };
	const size_t lens[] = { strlen(vkey), strlen(dkey) };
	rados_write_op_t op = rados_create_write_op();
	int r;

	compare_version(op, vkey, expected);
	rados_write_op_omap_rm_keys2(op, keys, lens, 2);
	r = rados_write_op_operate2(op, ri->io, object, NULL, 0);
	rados_release_write_op(op);
	if (r == -ECANCELED)
		return error_set(err, ECANCELED, "document %s has changed meanwhile", key);
	return r < 0 ? rados_failed(ri, r, err, "deleting", key) : 0;
}

static int driver_del(void *impl, const char *key, uint64_t expected, struct error *err)
{
	struct rados_impl *ri = impl;
	CLEANUP_FREE char *object = object_of(key);
	uint64_t version;
	int r;

	for (;;) {
		r = any_version(ri, key, object, &version, err);
		if (r < 0)
			return r;
		if (version == 0)
			return error_set(err, ENOENT, "there is no document %s", key);
		r = del_once(ri, key, object, expected == STORE_ANY ? version : expected, err);
		if (r != -ECANCELED || expected != STORE_ANY)
			return r;
		error_clear(err);
	}
}

static void driver_announce(void *impl, const char *key)
{
	struct rados_impl *ri = impl;

	rados_hub_announce(ri->hub, key);
}

const struct store_driver store_rados = {
	.name = "rados",
	.open = driver_open,
	.close = driver_close,
	.get = driver_get,
	.list = driver_list,
	.put = driver_put,
	.del = driver_del,
	.announce = driver_announce,
	.lease_acquire = rados_lease_acquire,
	.lease_renew = rados_lease_renew,
	.lease_release = rados_lease_release,
	.lease_get = rados_lease_get,
};
