/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conformance of the store: the promises of fabric/store.h, for every driver. Runs on the
 * embedded one; with FERRY_TEST_POOL set (and FERRY_TEST_CEPH_CONF, FERRY_TEST_CEPH_USER) on
 * `rados` in that pool, each test in a namespace of its own (tests/lab/30-store.t). With
 * FERRY_TEST_OUTAGE="COMMAND" too it also tries what happens while the cluster is gone: COMMAND
 * is run by the shell with "stop" and "go" behind it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/store.h"

#define SECOND	 1000000000ll
#define PATIENCE (30 * SECOND)

static char dir[64];
static char *space; /* namespace of the test that runs */
static const char *pool;

/* Another handle on the same data, as another host (rados) or the same one (embedded) has it. */
static struct store *open_store(void)
{
	CLEANUP_FREE char *path = str_format("%s/%s.db", dir, space);
	struct store_config c = { .driver = "embedded", .path = path, .relist_ns = SECOND };
	struct error err = { 0 };
	struct store *s = NULL;

	if (pool)
		c = (struct store_config){ .driver = "rados",
					   .pool = pool,
					   .ceph_conf = getenv("FERRY_TEST_CEPH_CONF"),
					   .ceph_user = getenv("FERRY_TEST_CEPH_USER"),
					   .space = space,
					   .create_pool = true,
					   .timeout_ns = PATIENCE,
					   .relist_ns = SECOND };
	if (store_open(&c, &s, &err) < 0)
		fail_msg("%s", err.msg);
	return s;
}

static int setup(void **state)
{
	free(space);
	space = str_random_hex(6);
	*state = open_store();
	return 0;
}

static int teardown(void **state)
{
	store_close(*state);
	return 0;
}

static uint64_t put(struct store *s, const char *key, int n, uint64_t expected)
{
	CLEANUP_JSON json_t *v = json_pack("{s:i}", "n", n);
	struct error err = { 0 };
	uint64_t version = 0;

	if (store_put(s, key, v, expected, &version, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(version != STORE_ABSENT && version != STORE_ANY);
	return version;
}

static int try_put(struct store *s, const char *key, int n, uint64_t expected)
{
	CLEANUP_JSON json_t *v = json_pack("{s:i}", "n", n);
	struct error err = { 0 };
	int r = store_put(s, key, v, expected, NULL, &err);

	if (r < 0) {
		assert_int_equal(r, -err.code);
		assert_true(err.msg[0] != '\0');
	}
	return r;
}

static int64_t get(struct store *s, const char *key)
{
	CLEANUP_JSON json_t *v = NULL;
	struct error err = { 0 };

	if (store_get(s, key, &v, NULL, &err) < 0)
		return -1;
	return json_int(v, "n", -2);
}

/* --- documents --------------------------------------------------------------------------- */

static void test_what_was_put_is_read_with_its_version(void **state)
{
	struct store *s = *state, *other = open_store();
	CLEANUP_JSON json_t *v = NULL;
	uint64_t v1, v2, version = 0;
	struct error err = { 0 };

	assert_int_equal(store_get(s, "hosts/a", NULL, NULL, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "hosts/a"));
	v1 = put(s, "hosts/a", 1, STORE_ABSENT);
	v2 = put(s, "hosts/a", 2, v1);
	assert_true(v2 > v1);
	assert_int_equal(store_get(other, "hosts/a", &v, &version, &err), 0);
	assert_int_equal(json_int(v, "n", 0), 2);
	assert_int_equal(json_int(v, "schema", 0), 1);
	assert_true(version == v2);
	store_close(other);
}

static void test_only_the_expected_version_is_replaced(void **state)
{
	struct store *s = *state;
	uint64_t v1 = put(s, "c/x", 1, STORE_ABSENT), v2;

	assert_int_equal(try_put(s, "c/x", 2, STORE_ABSENT), -ECANCELED);
	v2 = put(s, "c/x", 3, v1);
	assert_int_equal(try_put(s, "c/x", 4, v1), -ECANCELED);
	assert_int_equal(try_put(s, "c/y", 4, v1), -ECANCELED);
	assert_int_equal(get(s, "c/x"), 3);
	assert_int_equal(get(s, "c/y"), -1);
	put(s, "c/x", 5, STORE_ANY);
	assert_int_equal(try_put(s, "c/x", 6, v2), -ECANCELED);
	put(s, "c/z", 7, STORE_ANY);
	assert_int_equal(get(s, "c/z"), 7);
}

static void test_delete_wants_the_version_too(void **state)
{
	struct store *s = *state;
	struct error err = { 0 };
	uint64_t v1 = put(s, "c/x", 1, STORE_ABSENT), v2 = put(s, "c/x", 2, v1), v3;

	assert_int_equal(store_delete(s, "c/x", v1, &err), -ECANCELED);
	assert_int_equal(store_delete(s, "c/x", STORE_ABSENT, &err), -EINVAL);
	assert_int_equal(store_delete(s, "c/x", v2, &err), 0);
	assert_int_equal(store_delete(s, "c/x", v2, &err), -ENOENT);
	assert_int_equal(store_delete(s, "c/none", STORE_ANY, &err), -ENOENT);
	assert_int_equal(get(s, "c/x"), -1);

	/* Made again it has a new version: who knew the old one cannot overwrite it. */
	v3 = put(s, "c/x", 3, STORE_ABSENT);
	assert_true(v3 != v1 && v3 != v2);
	assert_int_equal(try_put(s, "c/x", 4, v2), -ECANCELED);
	assert_int_equal(store_delete(s, "c/x", STORE_ANY, &err), 0);
}

static void test_lists_hold_the_prefix_and_nothing_else(void **state)
{
	struct store *s = *state;
	CLEANUP_JSON json_t *values = NULL;
	struct store_entry *e;
	struct error err = { 0 };
	size_t n;

	for (int i = 0; i < 60; i++) {
		CLEANUP_FREE char *key = str_format("containers/%03d", i);

		put(s, key, i, STORE_ABSENT);
	}
	put(s, "containers-old/1", 1, STORE_ABSENT);
	put(s, "networks/1/endpoints/a", 1, STORE_ABSENT);
	put(s, "networks/1/endpoints/b", 2, STORE_ABSENT);
	put(s, "networks/10/endpoints/a", 3, STORE_ABSENT);

	assert_int_equal(store_list(s, "containers/", &e, &n, &err), 0);
	assert_int_equal(n, 60);
	for (int i = 0; i < 60; i++) {
		assert_int_equal(json_int(e[i].value, "n", -1), i); /* in order of the keys */
		assert_true(e[i].version > 0);
	}
	store_list_free(e, n);
	assert_int_equal(store_list(s, "networks/1/", &e, &n, &err), 0);
	assert_int_equal(n, 2);
	assert_string_equal(e[1].key, "networks/1/endpoints/b");
	store_list_free(e, n);
	assert_int_equal(store_list(s, "nothing/", &e, &n, &err), 0);
	assert_int_equal(n, 0);
	store_list_free(e, n);
	assert_int_equal(store_list(s, "", &e, &n, &err), 0);
	assert_int_equal(n, 64);
	store_list_free(e, n);
	assert_int_equal(store_list(s, "containers", &e, &n, &err), 0);
	assert_int_equal(n, 61);
	store_list_free(e, n);
	assert_int_equal(store_list_values(s, "networks/", &values, &err), 0);
	assert_int_equal(json_array_size(values), 3);
}

static void test_bad_keys_and_values_are_refused(void **state)
{
	static const char *const keys[] = { "", "a", "/a", "a/", "a//b", "a/b c", "a/\n", "ä/b" };
	struct store *s = *state;
	CLEANUP_JSON json_t *array = json_array();
	struct store_entry *e;
	struct error err = { 0 };
	char longkey[400] = "a/";
	size_t n;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		assert_int_equal(try_put(s, keys[i], 1, STORE_ANY), -EINVAL);
	memset(longkey + 2, 'x', 300);
	assert_int_equal(try_put(s, longkey, 1, STORE_ANY), -EINVAL);
	assert_int_equal(store_put(s, "a/b", array, STORE_ANY, NULL, &err), -EINVAL);
	assert_int_equal(store_list(s, "a b", &e, &n, &err), -EINVAL);
}

static int increment(void *ctx, json_t *doc, struct error *err)
{
	(void)ctx;
	(void)err;
	json_set_int(doc, "n", json_int(doc, "n", 0) + 1);
	return 0;
}

static void test_unknown_fields_survive_an_update(void **state)
{
	struct store *s = *state;
	CLEANUP_JSON json_t *v = json_pack("{s:i, s:{s:[i,i]}, s:i, s:s}", "n", 1, "later", "list",
					   1, 2, "schema", 7, "text", "süß \\ \" \x01");
	CLEANUP_JSON json_t *after = NULL, *read = NULL;
	struct error err = { 0 };

	assert_int_equal(store_put(s, "c/x", v, STORE_ABSENT, NULL, &err), 0);
	assert_int_equal(store_update(s, "c/x", increment, NULL, &after, &err), 0);
	assert_int_equal(store_get(s, "c/x", &read, NULL, &err), 0);
	json_set_int(v, "n", 2);
	assert_true(json_equal(read, v));
	assert_true(json_equal(after, v));
	assert_int_equal(store_update(s, "c/none", increment, NULL, NULL, &err), -ENOENT);
}

static void *increment_many(void *arg)
{
	struct store *s = open_store();
	int *times = arg;

	for (int i = 0; i < *times; i++) {
		struct error err = { 0 };

		if (store_update(s, "c/counter", increment, NULL, NULL, &err) < 0) {
			store_close(s);
			return (void *)1;
		}
	}
	store_close(s);
	return NULL;
}

static void test_no_update_is_lost_among_writers(void **state)
{
	struct store *s = *state;
	pthread_t threads[4];
	int times = 25;
	void *failed;

	put(s, "c/counter", 0, STORE_ABSENT);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, increment_many, &times), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(get(s, "c/counter"), 100);
}

static void test_large_documents_are_kept_whole(void **state)
{
	struct store *s = *state;
	CLEANUP_JSON json_t *v = json_object(), *read = NULL;
	CLEANUP_FREE char *text = mem_zalloc(600001);
	struct error err = { 0 };

	memset(text, 'x', 600000);
	json_set_str(v, "text", text);
	assert_int_equal(store_put(s, "c/large", v, STORE_ABSENT, NULL, &err), 0);
	assert_int_equal(store_get(s, "c/large", &read, NULL, &err), 0);
	assert_string_equal(json_str(read, "text", ""), text);
}

/* --- watches ------------------------------------------------------------------------------- */

struct seen {
	pthread_mutex_t lock;
	json_t *now; /* key → n, as the watch has told it */
	unsigned calls;
};

static void on_change(void *ctx, const char *key, json_t *value, uint64_t version)
{
	struct seen *seen = ctx;

	pthread_mutex_lock(&seen->lock);
	seen->calls++;
	if (value) {
		assert_true(version > 0);
		json_object_set(seen->now, key, json_object_get(value, "n"));
	} else {
		json_object_del(seen->now, key);
	}
	pthread_mutex_unlock(&seen->lock);
}

/* Waits until the watch has told that key is n (-1: gone). */
static void expect(struct seen *seen, const char *key, int n)
{
	int64_t until = clock_mono_ns() + PATIENCE, is = -2;

	while (clock_mono_ns() < until) {
		pthread_mutex_lock(&seen->lock);
		is = json_int(seen->now, key, -1);
		pthread_mutex_unlock(&seen->lock);
		if (is == n)
			return;
		clock_sleep_ns(2000000);
	}
	fail_msg("%s is %lld for the watch, not %d", key, (long long)is, n);
}

static void test_watches_tell_what_is_and_what_changes(void **state)
{
	struct seen seen = { .lock = PTHREAD_MUTEX_INITIALIZER, .now = json_object() };
	struct store *s = *state, *other = open_store();
	struct store_watch *w, *all;
	struct seen rest = { .lock = PTHREAD_MUTEX_INITIALIZER, .now = json_object() };
	struct error err = { 0 };

	put(s, "c/before", 1, STORE_ABSENT);
	assert_int_equal(store_watch(s, "c/", on_change, &seen, &w, &err), 0);
	assert_int_equal(store_watch(s, "d/x", on_change, &rest, &all, &err), 0);
	expect(&seen, "c/before", 1);
	put(s, "c/here", 2, STORE_ABSENT);
	expect(&seen, "c/here", 2);
	put(other, "c/there", 3, STORE_ABSENT); /* another handle: another host */
	expect(&seen, "c/there", 3);
	put(other, "c/here", 4, STORE_ANY);
	expect(&seen, "c/here", 4);
	assert_int_equal(store_delete(other, "c/before", STORE_ANY, &err), 0);
	expect(&seen, "c/before", -1);
	put(s, "d/x1", 5, STORE_ABSENT);
	put(s, "d/y", 6, STORE_ABSENT);
	expect(&rest, "d/x1", 5);
	assert_int_equal(json_object_size(rest.now), 1);
	store_unwatch(w);
	store_unwatch(all);
	assert_int_equal(json_object_size(seen.now), 2);
	json_decref(seen.now);
	json_decref(rest.now);
	store_close(other);
}

static void test_a_watch_ends_with_the_newest_state(void **state)
{
	struct seen seen = { .lock = PTHREAD_MUTEX_INITIALIZER, .now = json_object() };
	struct store *s = *state, *other = open_store();
	struct store_watch *w;
	struct error err = { 0 };

	assert_int_equal(store_watch(other, "c/", on_change, &seen, &w, &err), 0);
	for (int i = 0; i <= 40; i++) {
		put(s, "c/x", i, STORE_ANY);
		put(i % 2 ? s : other, "c/y", i, STORE_ANY);
	}
	expect(&seen, "c/x", 40);
	expect(&seen, "c/y", 40);
	store_unwatch(w);
	put(s, "c/x", 41, STORE_ANY);
	assert_int_equal(json_int(seen.now, "c/x", 0), 40);
	assert_int_equal(store_watch(s, "c", on_change, &seen, &w, &err), -EINVAL);
	json_decref(seen.now);
	store_close(other);
}

/* --- leases ---------------------------------------------------------------------------------- */

static void test_one_holder_at_a_time(void **state)
{
	struct store *s = *state, *other = open_store();
	CLEANUP_FREE char *owner = NULL;
	struct error err = { 0 };
	uint64_t e1 = 0, e2 = 0, e = 0;

	assert_int_equal(store_lease_get(s, "leader", NULL, NULL, &err), -ENOENT);
	assert_int_equal(store_lease_acquire(s, "leader", "a", 60 * SECOND, &e1, &err), 0);
	assert_int_equal(store_lease_acquire(other, "leader", "b", 60 * SECOND, NULL, &err),
			 -EBUSY);
	assert_non_null(strstr(err.msg, "held by a"));
	assert_int_equal(store_lease_get(other, "leader", &owner, &e, &err), 0);
	assert_string_equal(owner, "a");
	assert_true(e == e1);
	assert_int_equal(store_lease_renew(other, "leader", "b", SECOND, &err), -ESTALE);
	assert_int_equal(store_lease_release(other, "leader", "b", &err), -ESTALE);
	assert_int_equal(store_lease_renew(s, "leader", "a", 60 * SECOND, &err), 0);
	assert_int_equal(store_lease_acquire(other, "another", "b", 60 * SECOND, NULL, &err), 0);
	assert_int_equal(store_lease_release(s, "leader", "a", &err), 0);
	assert_int_equal(store_lease_get(s, "leader", NULL, NULL, &err), -ENOENT);
	assert_int_equal(store_lease_acquire(other, "leader", "b", 60 * SECOND, &e2, &err), 0);
	assert_true(e2 > e1);
	store_close(other);
}

static void test_a_restarted_owner_takes_its_lease_again(void **state)
{
	struct store *s = *state, *other = open_store();
	struct error err = { 0 };
	uint64_t e1 = 0, e2 = 0;

	assert_int_equal(store_lease_acquire(other, "host.a", "a", 60 * SECOND, &e1, &err), 0);
	store_close(other); /* died; the lease goes on */
	assert_int_equal(store_lease_acquire(s, "host.a", "b", 60 * SECOND, NULL, &err), -EBUSY);
	assert_int_equal(store_lease_acquire(s, "host.a", "a", 60 * SECOND, &e2, &err), 0);
	assert_true(e2 > e1);
	assert_int_equal(store_lease_renew(s, "host.a", "a", 60 * SECOND, &err), 0);
}

/* Waits until `who` gets the lease: until the former one has lapsed. */
static void acquire_lapsed(struct store *s, const char *name, const char *who, uint64_t *epoch)
{
	int64_t until = clock_mono_ns() + PATIENCE;
	struct error err = { 0 };
	int r = -EBUSY;

	while (r == -EBUSY && clock_mono_ns() < until) {
		r = store_lease_acquire(s, name, who, 60 * SECOND, epoch, &err);
		if (r == -EBUSY)
			clock_sleep_ns(20000000);
	}
	assert_int_equal(r, 0);
}

static void test_a_lease_lapses_and_then_is_anothers(void **state)
{
	struct store *s = *state, *other = open_store();
	struct error err = { 0 };
	uint64_t e1 = 0, e2 = 0;

	assert_int_equal(store_lease_acquire(s, "leader", "a", SECOND / 2, &e1, &err), 0);
	acquire_lapsed(other, "leader", "b", &e2);
	assert_true(e2 > e1);
	assert_int_equal(store_lease_renew(s, "leader", "a", SECOND, &err), -ESTALE);
	assert_int_equal(store_lease_acquire(s, "leader", "a", SECOND, NULL, &err), -EBUSY);
	store_close(other);
}

static void test_a_former_holder_cannot_overwrite_his_successor(void **state)
{
	struct store *s = *state, *other = open_store();
	CLEANUP_JSON json_t *v = json_pack("{s:i}", "n", 1), *w = json_pack("{s:i}", "n", 2);
	uint64_t e1 = 0, e2 = 0, version = 0;
	struct error err = { 0 };

	assert_int_equal(store_put_leased(s, "leader", "c/x", v, STORE_ABSENT, NULL, &err),
			 -ESTALE);
	assert_int_equal(store_lease_acquire(s, "leader", "a", 2 * SECOND, &e1, &err), 0);
	assert_int_equal(store_put_leased(s, "leader", "c/x", v, STORE_ABSENT, &version, &err), 0);
	acquire_lapsed(other, "leader", "b", &e2);
	assert_int_equal(store_put_leased(other, "leader", "c/x", w, version, NULL, &err), 0);
	assert_int_equal(store_put_leased(s, "leader", "c/x", v, STORE_ANY, NULL, &err), -ESTALE);
	assert_int_equal(get(s, "c/x"), 2);
	assert_int_equal(store_put_leased(other, "leader", "c/x", v, STORE_ABSENT, NULL, &err),
			 -ECANCELED);
	store_close(other);
}

/*
 * The same where the former holder's clock tells it nothing: two handles of one owner, of
 * which the first does not know that the second has acquired the lease anew.
 */
static void test_an_older_epoch_cannot_write_after_a_newer(void **state)
{
	struct store *s = *state, *other = open_store();
	CLEANUP_JSON json_t *v = json_pack("{s:i}", "n", 1), *w = json_pack("{s:i}", "n", 2);
	struct error err = { 0 };

	assert_int_equal(store_lease_acquire(s, "leader", "a", 60 * SECOND, NULL, &err), 0);
	assert_int_equal(store_put_leased(s, "leader", "c/x", v, STORE_ABSENT, NULL, &err), 0);
	assert_int_equal(store_lease_acquire(other, "leader", "a", 60 * SECOND, NULL, &err), 0);
	assert_int_equal(store_put_leased(other, "leader", "c/x", w, STORE_ANY, NULL, &err), 0);
	assert_int_equal(store_put_leased(s, "leader", "c/x", v, STORE_ANY, NULL, &err), -ESTALE);
	assert_int_equal(get(s, "c/x"), 2);
	store_close(other);
}

/* --- a cluster that is gone ------------------------------------------------------------------- */

static void outage(const char *what)
{
	CLEANUP_FREE char *command = str_format("%s %s", getenv("FERRY_TEST_OUTAGE"), what);

	assert_int_equal(system(command), 0);
}

/* One write with this handle's timeout; waits until one succeeds. */
static void put_until_done(struct store *s, const char *key, int n)
{
	int64_t until = clock_mono_ns() + 2 * PATIENCE;
	int r;

	do
		r = try_put(s, key, n, STORE_ANY);
	while (r < 0 && clock_mono_ns() < until);
	assert_int_equal(r, 0);
}

static void test_a_dead_cluster_is_an_error_not_a_hang(void **state)
{
	struct store_config c = { .driver = "rados",
				  .pool = pool,
				  .ceph_conf = getenv("FERRY_TEST_CEPH_CONF"),
				  .ceph_user = getenv("FERRY_TEST_CEPH_USER"),
				  .space = space,
				  .timeout_ns = 2 * SECOND,
				  .relist_ns = SECOND };
	struct seen seen = { .lock = PTHREAD_MUTEX_INITIALIZER, .now = json_object() };
	struct store *s = NULL, *late = NULL, *other = *state;
	struct store_watch *w;
	struct store_entry *e;
	struct error err = { 0 };
	size_t n;

	if (store_open(&c, &s, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(store_watch(s, "c/", on_change, &seen, &w, &err), 0);
	put(s, "c/x", 1, STORE_ABSENT);
	expect(&seen, "c/x", 1);
	outage("stop");
	assert_int_equal(store_get(s, "c/x", NULL, NULL, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.msg, "ceph status"));
	assert_int_equal(try_put(s, "c/x", 2, STORE_ANY), -ETIMEDOUT);
	assert_int_equal(store_list(s, "c/", &e, &n, &err), -ETIMEDOUT);
	assert_int_equal(store_lease_acquire(s, "leader", "a", SECOND, NULL, &err), -ETIMEDOUT);
	assert_int_equal(store_open(&c, &late, &err), -ETIMEDOUT);
	outage("go");
	/* The same handle works again, and its watch hears again. */
	put_until_done(s, "c/x", 3);
	expect(&seen, "c/x", 3);
	put_until_done(other, "c/y", 4);
	expect(&seen, "c/y", 4);
	store_unwatch(w);
	store_close(s);
	json_decref(seen.now);
}

/* The program as a host that only watches, until it is killed. */
static int be_watcher(void)
{
	struct seen seen = { .lock = PTHREAD_MUTEX_INITIALIZER, .now = json_object() };
	struct store_watch *w;
	struct store *s;

	space = getenv("FERRY_TEST_WATCHER");
	s = open_store();
	if (store_watch(s, "c/", on_change, &seen, &w, NULL) < 0)
		return 1;
	clock_sleep_ns(SECOND); /* the watch is registered in the background */
	if (write(STDOUT_FILENO, "x", 1) != 1)
		return 1;
	for (;;)
		pause();
}

/* A handle that does not answer notifies any more, as of a host that lost its power. */
static void test_a_dead_watcher_holds_nobody_up(void **state)
{
	struct seen seen = { .lock = PTHREAD_MUTEX_INITIALIZER, .now = json_object() };
	struct store *s = *state, *other;
	struct store_watch *w;
	struct error err = { 0 };
	int64_t begin;
	pid_t child;
	int ready[2];
	char byte;

	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (child == 0) { /* a program of its own: threads do not survive a fork */
		setenv("FERRY_TEST_WATCHER", space, 1);
		dup2(ready[1], STDOUT_FILENO);
		execl("/proc/self/exe", "test_store", NULL);
		_exit(127);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	close(ready[0]);
	close(ready[1]);
	other = open_store();
	assert_int_equal(store_watch(other, "c/", on_change, &seen, &w, &err), 0);
	begin = clock_mono_ns();
	for (int i = 0; i < 50; i++)
		put(s, "c/x", i, STORE_ANY);
	/* 50 notifies of 2 s each, one behind another, would take 100 s. */
	assert_true(clock_mono_ns() - begin < PATIENCE);
	expect(&seen, "c/x", 49);
	store_unwatch(w);
	store_close(other);
	json_decref(seen.now);
}

static void test_an_unknown_driver_is_named(void **state)
{
	const struct store_config c = { .driver = "etcd" };
	struct error err = { 0 };
	struct store *s = NULL;

	(void)state;
	assert_int_equal(store_open(&c, &s, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "etcd"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_what_was_put_is_read_with_its_version),
		T(test_only_the_expected_version_is_replaced),
		T(test_delete_wants_the_version_too),
		T(test_lists_hold_the_prefix_and_nothing_else),
		T(test_bad_keys_and_values_are_refused),
		T(test_unknown_fields_survive_an_update),
		T(test_no_update_is_lost_among_writers),
		T(test_large_documents_are_kept_whole),
		T(test_watches_tell_what_is_and_what_changes),
		T(test_a_watch_ends_with_the_newest_state),
		T(test_one_holder_at_a_time),
		T(test_a_restarted_owner_takes_its_lease_again),
		T(test_a_lease_lapses_and_then_is_anothers),
		T(test_a_former_holder_cannot_overwrite_his_successor),
		T(test_an_older_epoch_cannot_write_after_a_newer),
		T(test_an_unknown_driver_is_named),
		/* rados only */
		T(test_a_dead_watcher_holds_nobody_up),
		T(test_a_dead_cluster_is_an_error_not_a_hang),
	};
	size_t n = sizeof(tests) / sizeof(tests[0]);
	int failed;

	pool = getenv("FERRY_TEST_POOL");
	if (pool && getenv("FERRY_TEST_WATCHER"))
		return be_watcher();
	if (!pool)
		n -= 2;
	else if (!getenv("FERRY_TEST_OUTAGE"))
		n -= 1;
	snprintf(dir, sizeof(dir), "/tmp/fstore-XXXXXX");
	if (!mkdtemp(dir))
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = _cmocka_run_group_tests("store", tests, n, NULL, NULL);
	dir_remove(dir, NULL);
	free(space);
	return failed;
}
