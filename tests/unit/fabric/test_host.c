/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts: registering, leases, a leader that notices who is gone. Every host has a store handle
 * of its own. Time to live is short here, so a host may be declared lost under load although it
 * runs: tests wait for what must come in the end, and do not count on what must not come.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/host.h"

#define SECOND	 1000000000ll
#define LONG_TTL (20 * SECOND)
#define TTL	 (SECOND / 2) /* where leases have to lapse */
#define PATIENCE (60 * SECOND)

static char dir[64];
static int number;
static struct store *store;

static struct store *open_store(void)
{
	CLEANUP_FREE char *path = str_format("%s/%d.db", dir, number);
	CLEANUP_FREE char *space = str_format("host-%d-%s", number, dir + strlen(dir) - 6);
	struct store_config c = { .driver = "embedded", .path = path };
	struct error err = { 0 };
	struct store *s = NULL;

	if (getenv("FERRY_TEST_POOL"))
		c = (struct store_config){ .driver = "rados",
					   .pool = getenv("FERRY_TEST_POOL"),
					   .ceph_conf = getenv("FERRY_TEST_CEPH_CONF"),
					   .ceph_user = getenv("FERRY_TEST_CEPH_USER"),
					   .space = space };
	if (store_open(&c, &s, &err) < 0)
		fail_msg("%s", err.msg);
	return s;
}

struct node {
	struct store *store;
	int64_t ttl_ns;
	struct hosts *hosts;
	json_t *previous;
	atomic_int lapsed, fenced, fail_first;
	char last[64];
};

static int on_lapsed(void *ctx, const char *name, json_t *host, struct error *err)
{
	struct node *n = ctx;

	assert_string_equal(json_str(host, "state", ""), "lost");
	if (atomic_fetch_sub(&n->fail_first, 1) > 0)
		return error_set(err, EAGAIN, "its volumes could not be fenced yet");
	snprintf(n->last, sizeof(n->last), "%s", name);
	atomic_fetch_add(&n->lapsed, 1);
	return 0;
}

static void on_fenced(void *ctx, json_t *host)
{
	struct node *n = ctx;

	(void)host;
	atomic_fetch_add(&n->fenced, 1);
}

static int start(struct node *n, const char *name, struct error *err)
{
	CLEANUP_JSON json_t *features = json_pack("{s:b}", "ublk", 1);
	struct hosts_config c = { .name = name,
				  .address = "10.0.0.1",
				  .port = 7946,
				  .features = features,
				  .ttl_ns = n->ttl_ns ? n->ttl_ns : LONG_TTL,
				  .ctx = n,
				  .lapsed = on_lapsed,
				  .fenced = on_fenced };
	int r;

	n->store = open_store();
	c.store = n->store;
	r = hosts_start(&c, &n->hosts, &n->previous, err);
	if (r < 0)
		store_close(n->store);
	return r;
}

static void must_start(struct node *n, const char *name)
{
	struct error err = { 0 };

	if (start(n, name, &err) < 0)
		fail_msg("%s", err.msg);
}

static void stop(struct node *n, bool leave)
{
	hosts_stop(n->hosts, leave);
	store_close(n->store);
	json_decref(n->previous);
	n->hosts = NULL;
	n->previous = NULL;
}

static int setup(void **state)
{
	(void)state;
	number++;
	store = open_store();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	store_close(store);
	return 0;
}

/* Waits until the host's document says so. */
static void expect_state(const char *name, const char *state)
{
	int64_t until = clock_mono_ns() + PATIENCE;
	char is[20] = "";

	while (clock_mono_ns() < until) {
		CLEANUP_JSON json_t *host = NULL;

		if (host_get(store, name, &host, NULL) == 0)
			snprintf(is, sizeof(is), "%s", json_str(host, "state", ""));
		if (!strcmp(is, state))
			return;
		clock_sleep_ns(10000000);
	}
	fail_msg("host %s is %s, not %s", name, is, state);
}

static bool is_alive(const char *name)
{
	CLEANUP_JSON json_t *host = NULL;

	return host_get(store, name, &host, NULL) == 0 && json_bool(host, "alive", false);
}

static void wait_for(atomic_int *counter, int n)
{
	int64_t until = clock_mono_ns() + PATIENCE;

	while (atomic_load(counter) < n && clock_mono_ns() < until)
		clock_sleep_ns(10000000);
	assert_true(atomic_load(counter) >= n);
}

static void test_a_host_registers_what_it_is(void **state)
{
	struct node a = { 0 };
	CLEANUP_JSON json_t *host = NULL, *list = NULL;
	CLEANUP_FREE char *address = NULL, *boot = NULL;
	struct error err = { 0 };
	uint16_t port = 0;

	(void)state;
	must_start(&a, "a");
	assert_null(a.previous);
	assert_int_equal(host_get(store, "a", &host, &err), 0);
	assert_string_equal(json_str(host, "address", ""), "10.0.0.1");
	assert_string_equal(json_str(host, "availability", ""), "active");
	assert_int_equal(host_boot_id(&boot, &err), 0);
	assert_string_equal(json_str(host, "boot_id", ""), boot);
	assert_true(json_int(host, "cpus", 0) > 0);
	assert_true(json_int(host, "memory_bytes", 0) > 1 << 20);
	assert_true(json_bool(json_object_get(host, "features"), "ublk", false));
	assert_int_equal(host_list(store, &list, &err), 0);
	assert_int_equal(json_array_size(list), 1);
	assert_int_equal(host_resolve(store, "a", &address, &port, &err), 0);
	assert_string_equal(address, "10.0.0.1");
	assert_int_equal(port, 7946);
	assert_int_equal(host_resolve(store, "none", &address, &port, &err), -ENOENT);
	assert_int_equal(host_get(store, "no/host", &host, &err), -ENOENT);
	stop(&a, true);
}

static int add_label(void *ctx, json_t *doc, struct error *err)
{
	(void)ctx;
	(void)err;
	json_set_str(json_object_get(doc, "labels"), "disk", "ssd");
	json_set_str(doc, "from_a_later_version", "kept");
	return 0;
}

static void test_a_restart_keeps_what_others_wrote(void **state)
{
	struct node a = { 0 };
	CLEANUP_JSON json_t *host = NULL;
	struct error err = { 0 };

	(void)state;
	must_start(&a, "a");
	assert_int_equal(store_update(store, "hosts/a", add_label, NULL, NULL, &err), 0);
	assert_int_equal(host_set_availability(store, "a", "drain", &err), 0);
	assert_int_equal(host_set_availability(store, "a", "sleep", &err), -EINVAL);
	assert_int_equal(host_set_availability(store, "b", "drain", &err), -ENOENT);
	stop(&a, false); /* ferryd is upgraded */
	must_start(&a, "a");
	assert_non_null(a.previous);
	assert_int_equal(host_get(store, "a", &host, &err), 0);
	assert_string_equal(json_str(host, "availability", ""), "drain");
	assert_string_equal(json_str(json_object_get(host, "labels"), "disk", ""), "ssd");
	assert_string_equal(json_str(host, "from_a_later_version", ""), "kept");
	assert_true(json_int(host, "incarnation", 0) >= 2);
	stop(&a, true);
}

static void test_leaving_frees_everything_at_once(void **state)
{
	struct node a = { 0 };
	struct error err = { 0 };

	(void)state;
	must_start(&a, "a");
	assert_int_equal(host_remove(store, "a", &err), -EBUSY);
	stop(&a, true);
	expect_state("a", "down");
	assert_false(is_alive("a"));
	assert_int_equal(store_lease_get(store, "leader", NULL, NULL, &err), -ENOENT);
	assert_int_equal(host_remove(store, "a", &err), 0);
	assert_int_equal(host_remove(store, "a", &err), -ENOENT);
}

static void test_the_leader_takes_over_from_a_dead_host(void **state)
{
	struct node a = { .fail_first = 2, .ttl_ns = TTL }, b = { .ttl_ns = TTL };

	(void)state;
	must_start(&a, "a");
	must_start(&b, "b");
	stop(&b, false);	   /* died: nobody renews its lease */
	expect_state("b", "down"); /* not before lapsed() has succeeded, at the third try */
	wait_for(&a.lapsed, 1);
	assert_string_equal(a.last, "b");
	assert_true(atomic_load(&a.fail_first) <= 0);
	stop(&a, true);
}

static void test_another_leads_when_the_leader_dies(void **state)
{
	struct node a = { .ttl_ns = TTL }, b = { .ttl_ns = TTL };
	int64_t until = clock_mono_ns() + PATIENCE;
	bool led = false;

	(void)state;
	must_start(&a, "a");
	while (!led && clock_mono_ns() < until) {
		led = hosts_is_leader(a.hosts);
		clock_sleep_ns(5000000);
	}
	assert_true(led);
	must_start(&b, "b");
	stop(&a, false);
	expect_state("a", "down");
	wait_for(&b.lapsed, 1);
	assert_string_equal(b.last, "a");
	stop(&b, true);
}

static int declare_down(void *ctx, json_t *doc, struct error *err)
{
	(void)ctx;
	(void)err;
	json_set_str(doc, "state", "down");
	return 0;
}

static void test_a_host_that_was_declared_dead_is_told(void **state)
{
	CLEANUP_FREE char *owner = NULL;
	struct node a = { .ttl_ns = 4 * SECOND };
	struct error err = { 0 };
	int64_t until = clock_mono_ns() + PATIENCE;
	int r = -EBUSY;

	(void)state;
	must_start(&a, "a");
	/* What a leader does to a host that hung: the lease is free, the state is down. */
	assert_int_equal(store_lease_get(store, "host.a", &owner, NULL, &err), 0);
	assert_int_equal(store_update(store, "hosts/a", declare_down, NULL, NULL, &err), 0);
	while (r != 0 && clock_mono_ns() < until)
		r = store_lease_release(a.store, "host.a", owner, &err);
	wait_for(&a.fenced, 1);
	expect_state("a", "up");
	stop(&a, true);
}

static void test_one_name_is_one_machine(void **state)
{
	struct node a = { 0 };
	struct error err = { 0 };

	(void)state;
	assert_int_equal(store_lease_acquire(store, "host.a", "a.elsewhere", PATIENCE, NULL, &err),
			 0);
	assert_int_equal(start(&a, "a", &err), -EBUSY);
	assert_non_null(strstr(err.msg, "another machine"));
	assert_int_equal(store_lease_release(store, "host.a", "a.elsewhere", &err), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_host_registers_what_it_is),
		T(test_a_restart_keeps_what_others_wrote),
		T(test_leaving_frees_everything_at_once),
		T(test_the_leader_takes_over_from_a_dead_host),
		T(test_another_leads_when_the_leader_dies),
		T(test_a_host_that_was_declared_dead_is_told),
		T(test_one_name_is_one_machine),
	};
	int failed;

	snprintf(dir, sizeof(dir), "/tmp/fhost-XXXXXX");
	if (!mkdtemp(dir))
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	dir_remove(dir, NULL);
	return failed;
}
