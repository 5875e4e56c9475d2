/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases of the `rados` store: an exclusive cls_lock with a duration on the object
 * "lease.NAME", whose cookie is the owner. The OSD's clock ends it. cls_lock knows its
 * holder as (client instance, cookie); a restarted daemon is another instance, so it breaks
 * the lock of its former self, which has the same cookie, and takes it anew.
 *
 * cls locks are advisory: the write that counts the epoch up carries `lock.assert_locked`,
 * so it lands only while the lock is ours.
 */
#include <endian.h>
#include <string.h>
#include <sys/time.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "fabric/store_rados.h"

#define LOCK_NAME "ferry"

static char *object_of(const char *lease)
{
	return str_format("lease.%s", lease);
}

/* Ceph's encoding of a string: length (little endian), bytes. */
static void add_string(struct buf *b, const char *s)
{
	uint32_t len = htole32((uint32_t)strlen(s));

	buf_add(b, &len, sizeof(len));
	buf_add(b, s, strlen(s));
}

/* cls_lock_assert_op (ceph: src/cls/lock/cls_lock_ops.h): name, type, cookie, tag. */
static void add_assert_locked(rados_write_op_t op, const char *cookie)
{
	CLEANUP_BUF struct buf body = { 0 }, in = { 0 };
	const uint8_t exclusive = 1, version[2] = { 1, 1 };
	uint32_t len;

	add_string(&body, LOCK_NAME);
	buf_add(&body, &exclusive, 1);
	add_string(&body, cookie);
	add_string(&body, "");
	len = htole32((uint32_t)body.len);
	buf_add(&in, version, sizeof(version));
	buf_add(&in, &len, sizeof(len));
	buf_add(&in, body.data, body.len);
	rados_write_op_exec(op, "lock", "assert_locked", in.data, in.len, NULL);
}

/* The locker of a lease: 1 with its client and cookie, 0: nobody, -errno. */
static int locker(struct rados_impl *ri, const char *object, char **client, char **cookie)
{
	char tag[64], clients[256], cookies[512], addrs[512];
	size_t tag_len = sizeof(tag), clients_len = sizeof(clients), cookies_len = sizeof(cookies);
	size_t addrs_len = sizeof(addrs);
	int exclusive;
	ssize_t n =
		rados_list_lockers(ri->io, object, LOCK_NAME, &exclusive, tag, &tag_len, clients,
				   &clients_len, cookies, &cookies_len, addrs, &addrs_len);

	*client = *cookie = NULL;
	if (n == -ENOENT)
		return 0;
	if (n <= 0)
		return (int)n;
	*client = str_dup(clients);
	*cookie = str_dup(cookies);
	return 1;
}

static int take_lock(struct rados_impl *ri, const char *object, const char *owner, int64_t ttl_ns,
		     uint8_t flags)
{
	struct timeval tv = { .tv_sec = ttl_ns / 1000000000,
			      .tv_usec = ttl_ns % 1000000000 / 1000 };

	return rados_lock_exclusive(ri->io, object, LOCK_NAME, owner, "", &tv, flags);
}

/* Counts the epoch up while we hold the lock. -EBUSY: we do not any more. */
static int next_epoch(struct rados_impl *ri, const char *object, const char *owner, uint64_t *epoch)
{
	for (;;) {
		CLEANUP_FREE char *old = NULL;
		rados_write_op_t op;
		const char *key = "epoch", *val;
		char text[EPOCH_TEXT];
		size_t key_len = strlen(key), val_len;
		int r;

		r = rados_omap_text(ri, object, key, &old, NULL);
		if (r == 0 && old)
			r = str_to_u64(old, UINT64_MAX - 2, epoch);
		else
			*epoch = 0;
		if (r < 0)
			return r;
		rados_epoch_text(text, ++*epoch);
		val = text;
		val_len = strlen(text);
		op = rados_create_write_op();
		add_assert_locked(op, owner);
		rados_write_op_omap_cmp2(op, key, LIBRADOS_CMPXATTR_OP_EQ, old ? old : "", key_len,
					 old ? strlen(old) : 0, NULL);
		rados_write_op_omap_set2(op, &key, &val, &key_len, &val_len, 1);
		r = rados_write_op_operate2(op, ri->io, object, NULL, 0);
		rados_release_write_op(op);
		if (r != -ECANCELED)
			return r;
	}
}

int rados_lease_acquire(void *impl, const char *name, const char *owner, int64_t ttl_ns,
			uint64_t *epoch, struct error *err)
{
	struct rados_impl *ri = impl;
	CLEANUP_FREE char *object = object_of(name);
	int r = -EBUSY;

	/* A few rounds, for the holder may change while we look at him. */
	for (int i = 0; i < 5; i++) {
		CLEANUP_FREE char *client = NULL, *cookie = NULL;

		r = take_lock(ri, object, owner, ttl_ns, LIBRADOS_LOCK_FLAG_MAY_RENEW);
		if (r == 0) {
			r = next_epoch(ri, object, owner, epoch);
			if (r == 0)
				return 0;
		}
		if (r != -EBUSY)
			return rados_failed(ri, r, err, "taking the lease", name);
		r = locker(ri, object, &client, &cookie);
		if (r < 0)
			return rados_failed(ri, r, err, "taking the lease", name);
		if (r == 1 && strcmp(cookie, owner) != 0)
			return error_set(err, EBUSY, "lease %s is held by %s", name, cookie);
		if (r == 1) {
			r = rados_break_lock(ri->io, object, LOCK_NAME, client, cookie);
			if (r < 0 && r != -ENOENT)
				return rados_failed(ri, r, err, "taking the lease", name);
		}
	}
	return error_set(err, EBUSY, "lease %s changes hands all the time", name);
}

static int stale(struct error *err, const char *name, const char *owner)
{
	return error_set(err, ESTALE, "lease %s is not held by %s any more", name, owner);
}

int rados_lease_renew(void *impl, const char *name, const char *owner, int64_t ttl_ns,
		      struct error *err)
{
	struct rados_impl *ri = impl;
	CLEANUP_FREE char *object = object_of(name);
	int r = take_lock(ri, object, owner, ttl_ns, LIBRADOS_LOCK_FLAG_MUST_RENEW);

	if (r == -ENOENT || r == -EBUSY)
		return stale(err, name, owner);
	return r < 0 ? rados_failed(ri, r, err, "renewing the lease", name) : 0;
}

int rados_lease_release(void *impl, const char *name, const char *owner, struct error *err)
{
	struct rados_impl *ri = impl;
	CLEANUP_FREE char *object = object_of(name);
	int r = rados_unlock(ri->io, object, LOCK_NAME, owner);

	if (r == -ENOENT || r == -EBUSY)
		return stale(err, name, owner);
	return r < 0 ? rados_failed(ri, r, err, "giving up the lease", name) : 0;
}

int rados_lease_get(void *impl, const char *name, char **owner, uint64_t *epoch, struct error *err)
{
	struct rados_impl *ri = impl;
	CLEANUP_FREE char *object = object_of(name);
	CLEANUP_FREE char *client = NULL, *text = NULL;
	int r = locker(ri, object, &client, owner);

	if (r == 0)
		return error_set(err, ENOENT, "nobody holds the lease %s", name);
	if (r > 0)
		r = rados_omap_text(ri, object, "epoch", &text, NULL);
	if (r < 0) {
		free(*owner);
		*owner = NULL;
		return rados_failed(ri, r, err, "reading the lease", name);
	}
	*epoch = 0;
	if (text)
		str_to_u64(text, UINT64_MAX - 2, epoch);
	return 0;
}
