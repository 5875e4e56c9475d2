/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents, networks and names of the fabric over an embedded store, without the parts of
 * a host: what is reserved once is not given twice, and what fails gives everything back.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/fd.h"
#include "fabric/internal.h"

struct host {
	struct fabric f;
	char dir[64];
};

static int setup(void **state)
{
	struct host *h = mem_zalloc(sizeof(*h));
	CLEANUP_FREE char *db = NULL;
	struct store_config c = { .driver = "embedded" };

	strcpy(h->dir, "/tmp/ferry-doc.XXXXXX");
	assert_non_null(mkdtemp(h->dir));
	db = str_format("%s/store.db", h->dir);
	c.path = db;
	h->f.host = str_dup("a");
	pthread_mutex_init(&h->f.lock, NULL);
	pthread_cond_init(&h->f.changed, NULL);
	h->f.docs = json_object();
	h->f.versions = json_object();
	h->f.events = event_bus_new(0, 0);
	assert_int_equal(store_open(&c, &h->f.store, NULL), 0);
	assert_int_equal(mirror_watch(&h->f, NULL), 0);
	*state = h;
	return 0;
}

static int teardown(void **state)
{
	struct host *h = *state;

	mirror_unwatch(&h->f);
	store_close(h->f.store);
	event_bus_free(h->f.events);
	json_decref(h->f.docs);
	json_decref(h->f.versions);
	free(h->f.host);
	dir_remove(h->dir, NULL);
	free(h);
	return 0;
}

static json_t *create(struct fabric *f, const char *name, const char *subnet, int want)
{
	CLEANUP_JSON json_t *body = json_pack("{s:s}", "Name", name);
	json_t *out = NULL;
	struct error err = { 0 };

	if (subnet)
		json_object_set_new(body, "IPAM",
				    json_pack("{s:[{s:s}]}", "Config", "Subnet", subnet));
	assert_int_equal(fabric_network_create(f, body, &out, &err), want);
	if (want < 0)
		assert_true(strlen(err.msg) > 10);
	return out;
}

static void test_networks_get_numbers_and_subnets_of_their_own(void **state)
{
	struct fabric *f = &((struct host *)*state)->f;
	CLEANUP_JSON json_t *one = create(f, "one", NULL, 0);
	CLEANUP_JSON json_t *two = create(f, "two", NULL, 0);
	CLEANUP_JSON json_t *a = NULL;
	CLEANUP_JSON json_t *b = NULL;

	assert_int_equal(network_find(f, "one", &a, NULL), 0);
	assert_int_equal(network_find(f, json_str(two, "Id", ""), &b, NULL), 0);
	assert_string_not_equal(json_str(a, "subnet", ""), json_str(b, "subnet", ""));
	assert_true(json_int(a, "vni", 0) != json_int(b, "vni", 0));
	assert_int_equal(network_find(f, "three", &a, NULL), -ENOENT);
}

static void test_a_network_name_is_given_once(void **state)
{
	struct fabric *f = &((struct host *)*state)->f;
	CLEANUP_JSON json_t *one = create(f, "one", "10.1.0.0/24", 0);

	json_decref(create(f, "one", "10.2.0.0/24", -EEXIST));
	json_decref(create(f, "host", NULL, -EPERM));
	json_decref(create(f, "no spaces", NULL, -EINVAL));
}

static void test_overlapping_subnets_are_refused_and_leave_the_name_free(void **state)
{
	struct fabric *f = &((struct host *)*state)->f;
	CLEANUP_JSON json_t *one = create(f, "one", "10.1.0.0/16", 0);
	CLEANUP_JSON json_t *two = NULL;

	json_decref(create(f, "two", "10.1.7.0/24", -EEXIST));
	json_decref(create(f, "two", "10.1.7.0/33", -EINVAL));
	two = create(f, "two", "10.2.7.0/24", 0);
	assert_non_null(two);
}

static void test_an_address_is_given_once_until_it_is_given_back(void **state)
{
	struct fabric *f = &((struct host *)*state)->f;
	CLEANUP_JSON json_t *made = create(f, "tiny", "10.1.0.0/29", 0);
	CLEANUP_JSON json_t *net = NULL;
	CLEANUP_FREE char *first = NULL, *again = NULL;
	struct error err = { 0 };
	char *ip;
	int n = 1;

	assert_non_null(made);
	assert_int_equal(network_find(f, "tiny", &net, NULL), 0);
	assert_int_equal(network_address_take(f, net, "c1", NULL, &first, NULL), 0);
	assert_string_not_equal(first, json_str(net, "gateway", ""));
	assert_int_equal(network_address_take(f, net, "c2", first, &ip, &err), -EADDRINUSE);
	while (!network_address_take(f, net, "c3", NULL, &ip, NULL)) {
		assert_string_not_equal(ip, first);
		free(ip);
		n++;
	}
	assert_int_equal(n, 5); /* of a /29: less network, broadcast and gateway */
	network_address_free(f, json_str(net, "id", ""), first);
	assert_int_equal(network_address_take(f, net, "c4", NULL, &again, NULL), 0);
	assert_string_equal(again, first);
}

static void test_containers_are_found_by_name_id_and_unambiguous_beginning(void **state)
{
	struct fabric *f = &((struct host *)*state)->f;
	CLEANUP_JSON json_t *a =
		json_pack("{s:s, s:s, s:s}", "id", "abc111", "name", "db", "host", "a");
	CLEANUP_JSON json_t *b =
		json_pack("{s:s, s:s, s:s}", "id", "abc222", "name", "web", "host", "b");
	CLEANUP_JSON json_t *found = NULL;
	json_t *d;

	assert_int_equal(document_new(f, "containers/abc111", a, NULL), 0);
	assert_int_equal(document_new(f, "containers/abc222", b, NULL), 0);
	assert_int_equal(document_new(f, "containers/abc222", b, NULL), -EEXIST);
	assert_int_equal(container_find(f, "/db", &found, NULL), 0);
	assert_true(container_is_local(f, found));
	assert_int_equal(container_find(f, "abc2", &d, NULL), 0);
	assert_false(container_is_local(f, d));
	json_decref(d);
	assert_int_equal(container_find(f, "abc", &d, NULL), -EINVAL);
	assert_int_equal(container_find(f, "", &d, NULL), -ENOENT);
}

static int only_from_a(void *ctx, json_t *doc, struct error *err)
{
	if (strcmp(json_str(doc, "host", ""), "a"))
		return error_set(err, ECANCELED, "not on a");
	json_set_str(doc, "host", ctx);
	return 0;
}

static void test_the_owner_is_swapped_once(void **state)
{
	struct fabric *f = &((struct host *)*state)->f;
	CLEANUP_JSON json_t *a = json_pack("{s:s, s:s}", "id", "x1", "host", "a");
	CLEANUP_JSON json_t *now = NULL;
	char b[] = "b", c[] = "c";

	assert_int_equal(document_new(f, "containers/x1", a, NULL), 0);
	assert_int_equal(document_change(f, "containers/x1", only_from_a, b, NULL, NULL), 0);
	assert_int_equal(document_change(f, "containers/x1", only_from_a, c, NULL, NULL),
			 -ECANCELED);
	now = document_cached(f, "containers/x1");
	assert_string_equal(json_str(now, "host", ""), "b");
}

static void test_names_of_running_containers_resolve_on_their_network_only(void **state)
{
	struct fabric *f = &((struct host *)*state)->f;
	CLEANUP_JSON json_t *doc =
		json_pack("{s:s, s:s, s:s, s:{s:s}, s:[{s:s, s:s, s:[s]}]}", "id", "abcdefabcdef00",
			  "name", "db", "host", "a", "state", "Status", "running", "endpoints",
			  "network", "net1", "ip", "10.1.0.2", "aliases", "primary");
	CLEANUP_JSON json_t *ips = NULL;
	json_t *none;

	assert_int_equal(document_new(f, "containers/abcdefabcdef00", doc, NULL), 0);
	assert_int_equal(network_lookup(f, "net1", "db", &ips), 0);
	assert_string_equal(json_string_value(json_array_get(ips, 0)), "10.1.0.2");
	json_decref(ips);
	assert_int_equal(network_lookup(f, "net1", "primary", &ips), 0);
	json_decref(ips);
	assert_int_equal(network_lookup(f, "net1", "10.1.0.2", &ips), 0);
	assert_string_equal(json_string_value(json_array_get(ips, 0)), "db");
	assert_int_equal(network_lookup(f, "net2", "db", &none), -ENOENT);
	assert_int_equal(network_lookup(f, "net1", "other", &none), -ENOENT);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_networks_get_numbers_and_subnets_of_their_own),
		T(test_a_network_name_is_given_once),
		T(test_overlapping_subnets_are_refused_and_leave_the_name_free),
		T(test_an_address_is_given_once_until_it_is_given_back),
		T(test_containers_are_found_by_name_id_and_unambiguous_beginning),
		T(test_the_owner_is_swapped_once),
		T(test_names_of_running_containers_resolve_on_their_network_only),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
