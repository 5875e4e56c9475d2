/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store in one SQLite file, for a single host without Ceph. Write-ahead log, every
 * write synced before it is acknowledged. One connection under one lock: documents are
 * small and few, and a statement takes microseconds.
 *
 * Versions come from one counter, so none is used twice. Leases are rows; they end by
 * CLOCK_MONOTONIC of this boot, so setting the clock does not end them and a restart of
 * the machine does.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/store_driver.h"

struct embedded {
	pthread_mutex_t lock; /* the connection */
	sqlite3 *db;
	char *path;
	char boot_id[40];
};

static const char schema[] =
	"PRAGMA journal_mode=WAL;"
	"PRAGMA synchronous=FULL;"
	"CREATE TABLE IF NOT EXISTS documents(key TEXT PRIMARY KEY, version INTEGER NOT NULL,"
	"	value TEXT NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS counter(id INTEGER PRIMARY KEY CHECK(id = 1),"
	"	value INTEGER NOT NULL);"
	"INSERT OR IGNORE INTO counter VALUES(1, 0);"
	"CREATE TABLE IF NOT EXISTS leases(name TEXT PRIMARY KEY, owner TEXT, boot TEXT NOT NULL,"
	"	until_ns INTEGER NOT NULL, epoch INTEGER NOT NULL) WITHOUT ROWID;";

static int db_error(const struct embedded *e, int rc, struct error *err)
{
	int code = EIO;

	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		code = ETIMEDOUT;
		break;
	case SQLITE_FULL:
		code = ENOSPC;
		break;
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_CANTOPEN:
		code = EACCES;
		break;
	default:
		break;
	}
	return error_set(err, code, "database %s: %s", e->path,
			 e->db ? sqlite3_errmsg(e->db) : sqlite3_errstr(rc));
}

static void embedded_close(void *impl)
{
	struct embedded *e = impl;

	sqlite3_close(e->db);
	pthread_mutex_destroy(&e->lock);
	free(e->path);
	free(e);
}

static int embedded_open(struct store *s, const struct store_config *config, void **impl,
			 struct error *err)
{
	CLEANUP_FREE char *boot = NULL;
	struct embedded *e;
	int rc, r;

	(void)s;
	if (!config->path)
		return error_set(err, EINVAL, "the path of the database is missing");
	r = file_read("/proc/sys/kernel/random/boot_id", 64, &boot, NULL, err);
	if (r < 0)
		return r;
	e = mem_zalloc(sizeof(*e));
	pthread_mutex_init(&e->lock, NULL);
	e->path = str_dup(config->path);
	snprintf(e->boot_id, sizeof(e->boot_id), "%.36s", boot);
	rc = sqlite3_open_v2(e->path, &e->db,
			     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
				     SQLITE_OPEN_PRIVATECACHE,
			     NULL);
	if (rc == SQLITE_OK) {
		sqlite3_busy_timeout(e->db, 5000);
		rc = sqlite3_exec(e->db, schema, NULL, NULL, NULL);
	}
	if (rc != SQLITE_OK) {
		r = db_error(e, rc, err);
		embedded_close(e);
		return r;
	}
	*impl = e;
	return 0;
}

/* --- statements ------------------------------------------------------------------------------ */

static void finalize(sqlite3_stmt **st)
{
	sqlite3_finalize(*st);
}
#define CLEANUP_STMT __attribute__((cleanup(finalize)))

static void unlock(struct embedded **e)
{
	pthread_mutex_unlock(&(*e)->lock);
}
/* The rest of the function has the connection for itself. */
#define WITH_DB(e)                                                                                 \
	__attribute__((cleanup(unlock))) struct embedded *e##_held = e;                            \
	pthread_mutex_lock(&e##_held->lock)

/* A prepared statement; arguments by format: s text, i int64. NULL with err set. */
static sqlite3_stmt *prepare(struct embedded *e, struct error *err, const char *sql,
			     const char *format, ...)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(e->db, sql, -1, &st, NULL);
	va_list ap;

	va_start(ap, format);
	for (int i = 0; format[i] && rc == SQLITE_OK; i++)
		rc = format[i] == 's' ? sqlite3_bind_text(st, i + 1, va_arg(ap, const char *), -1,
							  SQLITE_TRANSIENT)
				      : sqlite3_bind_int64(st, i + 1, va_arg(ap, int64_t));
	va_end(ap);
	if (rc != SQLITE_OK) {
		db_error(e, rc, err);
		sqlite3_finalize(st);
		return NULL;
	}
	return st;
}

/* Runs a statement that gives no rows. */
static int run(struct embedded *e, sqlite3_stmt *st, struct error *err)
{
	int rc;

	if (!st)
		return err && err->code ? -err->code : -EIO;
	rc = sqlite3_step(st);
	sqlite3_finalize(st);
	return rc == SQLITE_DONE ? 0 : db_error(e, rc, err);
}

/* First row: 1 (columns can be read), 0: no row, -errno. */
static int first(struct embedded *e, sqlite3_stmt *st, struct error *err)
{
	int rc = st ? sqlite3_step(st) : SQLITE_ERROR;

	if (!st)
		return err && err->code ? -err->code : -EIO;
	return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : db_error(e, rc, err);
}

static int begin(struct embedded *e, struct error *err)
{
	return run(e, prepare(e, err, "BEGIN IMMEDIATE", ""), err);
}

/* Ends the transaction: commits where r is 0, else rolls back. Gives r, or the new error. */
static int end(struct embedded *e, int r, struct error *err)
{
	if (r == 0)
		r = run(e, prepare(e, err, "COMMIT", ""), err);
	if (r != 0)
		sqlite3_exec(e->db, "ROLLBACK", NULL, NULL, NULL);
	return r;
}

/* --- documents ---------------------------------------------------------------------- */

static void emit_row(sqlite3_stmt *st, store_emit_fn *emit, void *ctx)
{
	emit(ctx, (const char *)sqlite3_column_text(st, 0),
	     (const char *)sqlite3_column_text(st, 1), (size_t)sqlite3_column_bytes(st, 1),
	     (uint64_t)sqlite3_column_int64(st, 2));
}

static int embedded_get(void *impl, const char *key, store_emit_fn *emit, void *ctx,
			struct error *err)
{
	struct embedded *e = impl;
	WITH_DB(e);
	CLEANUP_STMT sqlite3_stmt *st = prepare(
		e, err, "SELECT key, value, version FROM documents WHERE key = ?", "s", key);
	int r = first(e, st, err);

	if (r == 0)
		return error_set(err, ENOENT, "there is no document %s", key);
	if (r < 0)
		return r;
	emit_row(st, emit, ctx);
	return 0;
}

static int embedded_list(void *impl, const char *prefix, store_emit_fn *emit, void *ctx,
			 struct error *err)
{
	struct embedded *e = impl;
	/* Keys are ASCII: everything that begins with the prefix sorts before prefix + 0x7f. */
	CLEANUP_FREE char *past = str_format("%s\x7f", prefix);
	WITH_DB(e);
	CLEANUP_STMT sqlite3_stmt *st =
		prepare(e, err,
			"SELECT key, value, version FROM documents WHERE key >= ? AND key < ? "
			"ORDER BY key",
			"ss", prefix, past);
	int r;

	for (r = first(e, st, err); r == 1; r = first(e, st, err))
		emit_row(st, emit, ctx);
	return r;
}

/* The version of a document, 0 where there is none. */
static int version_of(struct embedded *e, const char *key, uint64_t *version, struct error *err)
{
	CLEANUP_STMT sqlite3_stmt *st =
		prepare(e, err, "SELECT version FROM documents WHERE key = ?", "s", key);
	int r = first(e, st, err);

	*version = r == 1 ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
	return r < 0 ? r : 0;
}

static int next_version(struct embedded *e, uint64_t *version, struct error *err)
{
	CLEANUP_STMT sqlite3_stmt *st = NULL;
	int r = run(e, prepare(e, err, "UPDATE counter SET value = value + 1", ""), err);

	if (r < 0)
		return r;
	st = prepare(e, err, "SELECT value FROM counter", "");
	r = first(e, st, err);
	if (r == 1)
		*version = (uint64_t)sqlite3_column_int64(st, 0);
	return r == 1 ? 0 : r < 0 ? r : error_set(err, EIO, "database %s: no counter", e->path);
}

static int check_version(struct embedded *e, const char *key, uint64_t expected, uint64_t *version,
			 struct error *err)
{
	int r = version_of(e, key, version, err);

	if (r < 0 || expected == STORE_ANY || expected == *version)
		return r;
	if (expected == STORE_ABSENT)
		return error_set(err, ECANCELED, "document %s exists already", key);
	return error_set(err, ECANCELED, "document %s has changed meanwhile", key);
}

/* Row of a lease that is held now: 1 with owner and epoch; 0: nobody holds it. */
static int lease_row(struct embedded *e, const char *name, char **owner, uint64_t *epoch,
		     struct error *err)
{
	CLEANUP_STMT sqlite3_stmt *st =
		prepare(e, err, "SELECT owner, boot, until_ns, epoch FROM leases WHERE name = ?",
			"s", name);
	int r = first(e, st, err);
	const char *who, *boot;

	*owner = NULL;
	*epoch = 0;
	if (r <= 0)
		return r;
	who = (const char *)sqlite3_column_text(st, 0);
	boot = (const char *)sqlite3_column_text(st, 1);
	*epoch = (uint64_t)sqlite3_column_int64(st, 3);
	if (!who || !boot || strcmp(boot, e->boot_id) != 0 ||
	    sqlite3_column_int64(st, 2) <= clock_mono_ns())
		return 0;
	*owner = str_dup(who);
	return 1;
}

static int check_fence(struct embedded *e, const struct store_fence *fence, struct error *err)
{
	CLEANUP_FREE char *owner = NULL;
	uint64_t epoch;
	int r = lease_row(e, fence->lease, &owner, &epoch, err);

	if (r < 0)
		return r;
	if (r == 0 || strcmp(owner, fence->owner) != 0 || epoch != fence->epoch)
		return error_set(err, ESTALE, "the lease %s is not held by %s any more",
				 fence->lease, fence->owner);
	return 0;
}

static int embedded_put(void *impl, const char *key, const char *text, size_t len,
			uint64_t expected, const struct store_fence *fence, uint64_t *version,
			struct error *err)
{
	struct embedded *e = impl;
	WITH_DB(e);
	uint64_t old;
	int r = begin(e, err);

	(void)len;
	if (r < 0)
		return r;
	if (fence)
		r = check_fence(e, fence, err);
	if (r == 0)
		r = check_version(e, key, expected, &old, err);
	if (r == 0)
		r = next_version(e, version, err);
	if (r == 0)
		r = run(e,
			prepare(e, err, "INSERT OR REPLACE INTO documents VALUES(?, ?, ?)", "sis",
				key, (int64_t)*version, text),
			err);
	return end(e, r, err);
}

static int embedded_del(void *impl, const char *key, uint64_t expected, struct error *err)
{
	struct embedded *e = impl;
	WITH_DB(e);
	uint64_t old = 0;
	int r = begin(e, err);

	if (r < 0)
		return r;
	r = version_of(e, key, &old, err);
	if (r == 0 && old == 0)
		r = error_set(err, ENOENT, "there is no document %s", key);
	if (r == 0)
		r = check_version(e, key, expected, &old, err);
	if (r == 0)
		r = run(e, prepare(e, err, "DELETE FROM documents WHERE key = ?", "s", key), err);
	return end(e, r, err);
}

/* --- leases ------------------------------------------------------------------------- */

static int set_lease(struct embedded *e, const char *name, const char *owner, int64_t ttl_ns,
		     uint64_t epoch, struct error *err)
{
	return run(e,
		   prepare(e, err, "INSERT OR REPLACE INTO leases VALUES(?, ?, ?, ?, ?)", "sssii",
			   name, owner, e->boot_id, clock_mono_ns() + ttl_ns, (int64_t)epoch),
		   err);
}

static int embedded_acquire(void *impl, const char *name, const char *owner, int64_t ttl_ns,
			    uint64_t *epoch, struct error *err)
{
	struct embedded *e = impl;
	CLEANUP_FREE char *holder = NULL;
	WITH_DB(e);
	int r = begin(e, err);

	if (r < 0)
		return r;
	r = lease_row(e, name, &holder, epoch, err);
	if (r == 1 && strcmp(holder, owner) != 0)
		r = error_set(err, EBUSY, "lease %s is held by %s", name, holder);
	else if (r >= 0)
		r = set_lease(e, name, owner, ttl_ns, ++*epoch, err);
	return end(e, r, err);
}

/* Begins a transaction for the holder of a lease; -ESTALE (ended) where it is not his. */
static int begin_held(struct embedded *e, const char *name, const char *owner, uint64_t *epoch,
		      struct error *err)
{
	CLEANUP_FREE char *holder = NULL;
	int r = begin(e, err);

	if (r < 0)
		return r;
	r = lease_row(e, name, &holder, epoch, err);
	if (r == 0 || (r == 1 && strcmp(holder, owner) != 0))
		r = error_set(err, ESTALE, "lease %s is not held by %s any more", name, owner);
	return r < 0 ? end(e, r, err) : 0;
}

static int embedded_renew(void *impl, const char *name, const char *owner, int64_t ttl_ns,
			  struct error *err)
{
	struct embedded *e = impl;
	WITH_DB(e);
	uint64_t epoch;
	int r = begin_held(e, name, owner, &epoch, err);

	if (r < 0)
		return r;
	return end(e, set_lease(e, name, owner, ttl_ns, epoch, err), err);
}

static int embedded_release(void *impl, const char *name, const char *owner, struct error *err)
{
	struct embedded *e = impl;
	WITH_DB(e);
	uint64_t epoch;
	int r = begin_held(e, name, owner, &epoch, err);

	if (r < 0)
		return r;
	/* The row stays: it keeps the epoch. */
	r = run(e, prepare(e, err, "UPDATE leases SET owner = NULL WHERE name = ?", "s", name),
		err);
	return end(e, r, err);
}

static int embedded_lease_get(void *impl, const char *name, char **owner, uint64_t *epoch,
			      struct error *err)
{
	struct embedded *e = impl;
	WITH_DB(e);
	int r = lease_row(e, name, owner, epoch, err);

	if (r == 0)
		return error_set(err, ENOENT, "nobody holds the lease %s", name);
	return r < 0 ? r : 0;
}

const struct store_driver store_embedded = {
	.name = "embedded",
	.open = embedded_open,
	.close = embedded_close,
	.get = embedded_get,
	.list = embedded_list,
	.put = embedded_put,
	.del = embedded_del,
	.lease_acquire = embedded_acquire,
	.lease_renew = embedded_renew,
	.lease_release = embedded_release,
	.lease_get = embedded_lease_get,
};
