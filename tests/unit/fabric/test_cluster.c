/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a cluster, tokens, joining. With FERRY_TEST_POOL set (tests/lab/30-store.t) the state
 * is in RADOS and a second host really joins; without, everything up to that.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/cluster.h"

#define SECOND 1000000000ll

static char dir[64], state_a[80], state_b[80];
static const char *pool;
static struct cluster *cluster;
static struct rpc_server *server;
static char peer[32];

static struct cluster_params params_of(const char *host)
{
	return (struct cluster_params){
		.state_dir = strcmp(host, "a") ? state_b : state_a,
		.host = host,
		.address = "127.0.0.1",
		.store_driver = pool ? "rados" : "embedded",
		.pool = pool,
		.ceph_conf = getenv("FERRY_TEST_CEPH_CONF"),
		.ceph_user = getenv("FERRY_TEST_CEPH_USER"),
		.name = "test",
	};
}

static void delete_documents(const char *prefix)
{
	struct store_entry *e = NULL;
	size_t n = 0;

	assert_int_equal(store_list(cluster_store(cluster), prefix, &e, &n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		store_delete(cluster_store(cluster), e[i].key, STORE_ANY, NULL);
	store_list_free(e, n);
}

static int setup(void **state)
{
	struct cluster_params p;
	struct error err = { 0 };

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/fclus-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(state_a, sizeof(state_a), "%s/a", dir);
	snprintf(state_b, sizeof(state_b), "%s/b", dir);
	p = params_of("a");
	if (cluster_init(&p, &err) < 0)
		fail_msg("%s", err.msg);
	if (cluster_load(state_a, &cluster, &err) < 0)
		fail_msg("%s", err.msg);
	if (rpc_serve(cluster_tls(cluster), "127.0.0.1", 0, cluster_methods, cluster, &server,
		      &err) < 0)
		fail_msg("%s", err.msg);
	snprintf(peer, sizeof(peer), "127.0.0.1:%u", rpc_server_port(server));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rpc_server_stop(server);
	if (pool) {
		delete_documents("members/");
		delete_documents("hosts/");
		delete_documents("cluster/");
	}
	cluster_close(cluster);
	return dir_remove(dir, NULL);
}

static void expect_no_membership(const char *state_dir)
{
	CLEANUP_FREE char *pki = str_format("%s/pki", state_dir);

	assert_false(cluster_exists(state_dir));
	assert_int_equal(access(pki, F_OK), -1);
}

static void test_a_new_cluster_knows_itself(void **state)
{
	CLEANUP_FREE char *key = str_format("%s/pki/ca.key", state_a);
	struct stat st;

	(void)state;
	assert_string_equal(cluster_host(cluster), "a");
	assert_string_equal(cluster_name(cluster), "test");
	assert_int_equal(cluster_port(cluster), RPC_PORT);
	assert_int_equal(strlen(cluster_id(cluster)), 32);
	assert_int_equal(json_int(cluster_document(cluster), "schema", 0), 1);
	assert_int_equal(stat(key, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true(pool || !cluster_ceph_conf(cluster));
}

static void test_a_host_makes_one_cluster_only(void **state)
{
	struct cluster_params p = params_of("a");
	struct error err = { 0 };

	(void)state;
	assert_int_equal(cluster_init(&p, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "already"));
	if (pool) { /* nor does another host in the same pool */
		p = params_of("b");
		assert_int_equal(cluster_init(&p, &err), -EEXIST);
		assert_non_null(strstr(err.msg, "\"test\""));
		expect_no_membership(state_b);
	}
}

static void test_bad_names_and_addresses_are_refused(void **state)
{
	struct cluster_params p = params_of("b");
	struct error err = { 0 };

	(void)state;
	p.host = "a b";
	assert_int_equal(cluster_init(&p, &err), -EINVAL);
	p.host = "-b";
	assert_int_equal(cluster_init(&p, &err), -EINVAL);
	p = params_of("b");
	p.address = "somewhere";
	assert_int_equal(cluster_init(&p, &err), -EINVAL);
	p = params_of("b");
	p.store_driver = "etcd";
	assert_int_equal(cluster_init(&p, &err), -EINVAL);
	expect_no_membership(state_b);
	assert_int_equal(cluster_load(state_b, &(struct cluster *){ 0 }, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "ferry cluster init"));
}

static int join(const char *host, const char *at, const char *token, struct error *err)
{
	struct cluster_params p = params_of(host);

	p.state_dir = state_b;
	return cluster_join(&p, at, token, err);
}

static void test_joining_with_a_bad_token_tells_what_to_do(void **state)
{
	CLEANUP_FREE char *token = NULL, *wrong_ca = NULL, *forged = NULL;
	struct error err = { 0 };

	(void)state;
	assert_int_equal(cluster_token_create(cluster, 0, &token, &err), 0);
	assert_int_equal(join("b", peer, "nonsense", &err), -EINVAL);
	assert_non_null(strstr(err.msg, "ferry cluster token"));

	wrong_ca = str_dup(token); /* the pin is the fourth part */
	*(strrchr(wrong_ca, '-') - 1) = token[strrchr(token, '-') - token - 1] == '0' ? '1' : '0';
	assert_int_equal(join("b", peer, wrong_ca, &err), -EKEYREJECTED);
	assert_non_null(strstr(err.msg, "not of the cluster"));

	forged = str_dup(token);
	forged[strlen(forged) - 1] = token[strlen(token) - 1] == '0' ? '1' : '0';
	assert_int_equal(join("b", peer, forged, &err), -EKEYREJECTED);
	assert_non_null(strstr(err.msg, "not made by this cluster"));

	assert_int_equal(join("b", "127.0.0.1:1", token, &err), -ECONNREFUSED);
	assert_int_equal(join("b", "127.0.0.1:x", token, &err), -EINVAL);
	expect_no_membership(state_b);
}

static int put_host(const char *name, const char *state, struct error *err)
{
	CLEANUP_JSON json_t *doc = json_pack("{s:s, s:s}", "name", name, "state", state);
	CLEANUP_FREE char *key = str_format("hosts/%s", name);

	return store_put(cluster_store(cluster), key, doc, STORE_ANY, NULL, err);
}

static void test_an_expired_token_is_told_from_a_wrong_one(void **state)
{
	CLEANUP_FREE char *token = NULL;
	struct error err = { 0 };
	int64_t until = clock_mono_ns() + 30 * SECOND;
	int r;

	(void)state;
	assert_int_equal(put_host("a", "up", &err), 0);
	assert_int_equal(cluster_token_create(cluster, 1, &token, &err), -EINVAL);
	assert_int_equal(cluster_token_create(cluster, SECOND, &token, &err), 0);
	do { /* until it has expired; before that it is the name, or the store, that is refused */
		clock_sleep_ns(50000000);
		r = join("a", peer, token, &err);
		if (r == 0)
			fail_msg("joined under the first host's name");
	} while (r != -ETIME && clock_mono_ns() < until);
	assert_int_equal(r, -ETIME);
	assert_non_null(strstr(err.msg, "expired"));
	expect_no_membership(state_b);
}

static void test_a_host_joins_once_and_under_its_own_name(void **state)
{
	CLEANUP_FREE char *token = NULL;
	CLEANUP_JSON json_t *answer = NULL, *member = NULL;
	struct cluster *joined = NULL;
	struct error err = { 0 };
	int r;

	(void)state;
	assert_int_equal(put_host("a", "up", &err), 0);
	assert_int_equal(cluster_token_create(cluster, 0, &token, &err), 0);
	if (!pool) {
		assert_int_equal(join("b", peer, token, &err), -EOPNOTSUPP);
		assert_non_null(strstr(err.msg, "one host only"));
		expect_no_membership(state_b);
		return;
	}
	assert_int_equal(join("a", peer, token, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "choose another name"));
	expect_no_membership(state_b);
	if (join("b", peer, token, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(join("b", peer, token, &err), -EEXIST);

	r = cluster_load(state_b, &joined, &err);
	if (r < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(cluster_host(joined), "b");
	assert_string_equal(cluster_id(joined), cluster_id(cluster));
	assert_int_equal(store_get(cluster_store(joined), "members/b", &member, NULL, &err), 0);
	/* Its certificate is good for calls, and it can admit others itself. */
	r = rpc_call_address(cluster_tls(joined), "127.0.0.1", rpc_server_port(server),
			     "cluster.ping", NULL, 30 * SECOND, &answer, &err);
	assert_int_equal(r, 0);
	assert_string_equal(json_str(answer, "host", ""), "a");
	free(TAKE_PTR(token));
	assert_int_equal(cluster_token_create(joined, 0, &token, &err), 0);
	cluster_close(joined);

	/* Installed anew it may come back under its name, once it is down. */
	assert_int_equal(dir_remove(state_b, NULL), 0);
	assert_int_equal(put_host("b", "up", &err), 0);
	assert_int_equal(join("b", peer, token, &err), -EEXIST);
	assert_int_equal(put_host("b", "down", &err), 0);
	assert_int_equal(join("b", peer, token, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_new_cluster_knows_itself),
		cmocka_unit_test(test_a_host_makes_one_cluster_only),
		cmocka_unit_test(test_bad_names_and_addresses_are_refused),
		cmocka_unit_test(test_joining_with_a_bad_token_tells_what_to_do),
		cmocka_unit_test(test_an_expired_token_is_told_from_a_wrong_one),
		cmocka_unit_test(test_a_host_joins_once_and_under_its_own_name),
	};

	pool = getenv("FERRY_TEST_POOL");
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
