/* SPDX-License-Identifier: Apache-2.0 */
/* Calls between hosts: results, errors, progress, streams, and what bad peers get. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <endian.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/rpc.h"

#define SECOND	1000000000ll
#define LONG_NS (30 * SECOND)

static char dir[64], pin[65];
static struct tls_ctx *tls_a, *tls_b, *tls_stranger;
static struct rpc_server *server;
static struct rpc_client *client;
static uint16_t port;
static atomic_int calls, hung_up;

/* --- methods of host b ----------------------------------------------------------------------- */

static int m_echo(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		  struct error *err)
{
	(void)ctx;
	(void)err;
	atomic_fetch_add(&calls, 1);
	*result = json_object();
	json_object_set(*result, "params", params);
	json_set_str(*result, "peer", rpc_request_peer(req));
	return 0;
}

static int m_fail(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		  struct error *err)
{
	(void)ctx;
	(void)req;
	(void)params;
	(void)result;
	return error_set(err, EBUSY, "volume db is attached on host c");
}

static int m_progress(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		      struct error *err)
{
	(void)ctx;
	(void)params;
	(void)result;
	(void)err;
	for (int i = 0; i < 5; i++) {
		CLEANUP_JSON json_t *p = json_pack("{s:i}", "round", i);

		if (rpc_progress(req, p) < 0)
			return -EPIPE;
	}
	return 0;
}

/* Runs until its caller has gone. */
static int m_wait(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		  struct error *err)
{
	int64_t until = clock_mono_ns() + LONG_NS;

	(void)ctx;
	(void)params;
	(void)result;
	while (rpc_request_alive(req) && clock_mono_ns() < until)
		clock_sleep_ns(5000000);
	atomic_store(&hung_up, 1);
	return error_set(err, ECANCELED, "nobody listens");
}

static int m_hello(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		   struct error *err)
{
	(void)ctx;
	(void)params;
	(void)err;
	*result = json_object();
	json_set_bool(*result, "anonymous", !rpc_request_peer(req));
	return 0;
}

/* Sends back what it gets, and says how much that was. */
static int m_mirror(void *ctx, struct rpc_request *req, json_t *params, struct rpc_stream *st,
		    json_t **result, struct error *err)
{
	char block[100000];
	uint64_t total = 0;
	ssize_t n;
	int r;

	(void)ctx;
	(void)req;
	(void)params;
	while ((n = rpc_stream_read(st, block, sizeof(block), err)) > 0) {
		total += (uint64_t)n;
		r = rpc_stream_write(st, block, (size_t)n, err);
		if (r < 0)
			return r;
	}
	*result = json_object();
	json_set_int(*result, "bytes", (int64_t)total);
	return (int)n;
}

/* Takes a little and gives up, as one whose disk is full. */
static int m_choke(void *ctx, struct rpc_request *req, json_t *params, struct rpc_stream *st,
		   json_t **result, struct error *err)
{
	char block[1000];

	(void)ctx;
	(void)req;
	(void)params;
	(void)result;
	if (rpc_stream_read(st, block, sizeof(block), err) < 0)
		return -EIO;
	return error_set(err, ENOSPC, "no space left for the image");
}

static const struct rpc_method methods[] = {
	{ .name = "echo", .call = m_echo },
	{ .name = "fail", .call = m_fail },
	{ .name = "progress", .call = m_progress },
	{ .name = "wait", .call = m_wait },
	{ .name = "hello", .call = m_hello, .flags = RPC_ANONYMOUS },
	{ .name = "mirror", .stream = m_mirror },
	{ .name = "choke", .stream = m_choke },
	{ 0 },
};

/* --- set-up ------------------------------------------------------------------------- */

static struct tls_ctx *make_host(const char *ca, const char *ca_key, const char *name)
{
	CLEANUP_FREE char *key = NULL, *csr = NULL, *cert = NULL;
	CLEANUP_FREE char *kp = str_format("%s/%s.key", dir, name);
	CLEANUP_FREE char *cp = str_format("%s/%s.crt", dir, name);
	CLEANUP_FREE char *ap = str_format("%s/%s.ca", dir, name);

	assert_int_equal(tls_key_create(&key, NULL), 0);
	assert_int_equal(tls_csr_create(key, name, &csr, NULL), 0);
	assert_int_equal(tls_csr_sign(ca, ca_key, csr, name, NULL, 2, &cert, NULL), 0);
	assert_int_equal(file_write_atomic(kp, key, strlen(key), 0600, NULL), 0);
	assert_int_equal(file_write_atomic(cp, cert, strlen(cert), 0600, NULL), 0);
	assert_int_equal(file_write_atomic(ap, ca, strlen(ca), 0600, NULL), 0);
	return tls_ctx_new(cp, kp, ap, NULL);
}

static int resolve(void *ctx, const char *host, char **address, uint16_t *p, struct error *err)
{
	(void)ctx;
	if (strcmp(host, "b") != 0 && strcmp(host, "c") != 0)
		return error_set(err, ENOENT, "there is no host %s", host);
	*address = str_dup("127.0.0.1");
	*p = port;
	return 0;
}

static void start_server(void)
{
	struct error err = { 0 };

	if (rpc_serve(tls_b, "127.0.0.1", port, methods, NULL, &server, &err) < 0)
		fail_msg("%s", err.msg);
	port = rpc_server_port(server);
}

static int setup_all(void **state)
{
	CLEANUP_FREE char *ca = NULL, *ca_key = NULL, *ca2 = NULL, *ca2_key = NULL;

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/frpc-XXXXXX");
	if (!mkdtemp(dir) || tls_ca_create("one", 2, &ca, &ca_key, NULL) < 0 ||
	    tls_ca_create("two", 2, &ca2, &ca2_key, NULL) < 0)
		return -1;
	tls_cert_fingerprint(ca, pin, NULL);
	tls_a = make_host(ca, ca_key, "a");
	tls_b = make_host(ca, ca_key, "b");
	tls_stranger = make_host(ca2, ca2_key, "x");
	return 0;
}

static int teardown_all(void **state)
{
	(void)state;
	tls_ctx_free(tls_a);
	tls_ctx_free(tls_b);
	tls_ctx_free(tls_stranger);
	return dir_remove(dir, NULL);
}

static int setup(void **state)
{
	(void)state;
	port = 0;
	atomic_store(&calls, 0);
	start_server();
	client = rpc_client_new(tls_a, resolve, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rpc_client_free(client);
	rpc_server_stop(server);
	return 0;
}

static int call(const char *host, const char *method, json_t **result, struct error *err)
{
	CLEANUP_JSON json_t *params = json_pack("{s:s}", "x", "y");

	return rpc_call(client, host, method, params, LONG_NS, result, err);
}

/* --- calls -------------------------------------------------------------------------- */

static void test_a_call_gives_its_result_and_knows_its_caller(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		CLEANUP_JSON json_t *result = NULL;
		struct error err = { 0 };

		if (call("b", "echo", &result, &err) < 0)
			fail_msg("%s", err.msg);
		assert_string_equal(json_str(json_object_get(result, "params"), "x", ""), "y");
		assert_string_equal(json_str(result, "peer", ""), "a");
	}
	assert_int_equal(rpc_call(client, "b", "echo", NULL, 0, NULL, NULL), 0);
	assert_int_equal(atomic_load(&calls), 21);
}

static void test_errors_travel_with_errno_and_message(void **state)
{
	struct error err = { 0 };

	(void)state;
	assert_int_equal(call("b", "fail", NULL, &err), -EBUSY);
	assert_string_equal(err.msg, "host b: volume db is attached on host c");
	assert_int_equal(call("b", "no.such", NULL, &err), -ENOSYS);
	assert_int_equal(call("b", "mirror", NULL, &err), -EINVAL);
	assert_int_equal(call("nobody", "echo", NULL, &err), -ENOENT);
	assert_int_equal(call("b", "echo", NULL, &err), 0); /* the connection is still good */
}

static void count_rounds(void *ctx, json_t *body)
{
	int *n = ctx;

	assert_int_equal(json_int(body, "round", -1), *n);
	++*n;
}

static void test_progress_comes_in_order_before_the_result(void **state)
{
	struct error err = { 0 };
	int n = 0;

	(void)state;
	assert_int_equal(rpc_call_progress(client, "b", "progress", NULL, LONG_NS, count_rounds, &n,
					   NULL, &err),
			 0);
	assert_int_equal(n, 5);
}

static void test_a_timeout_hangs_up_and_the_callee_sees_it(void **state)
{
	int64_t until = clock_mono_ns() + LONG_NS;
	struct error err = { 0 };

	(void)state;
	atomic_store(&hung_up, 0);
	assert_int_equal(rpc_call(client, "b", "wait", NULL, 100000000, NULL, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.msg, "wait"));
	while (!atomic_load(&hung_up) && clock_mono_ns() < until)
		clock_sleep_ns(5000000);
	assert_int_equal(atomic_load(&hung_up), 1);
}

static void test_a_restarted_host_is_reached_again(void **state)
{
	struct error err = { 0 };

	(void)state;
	assert_int_equal(call("b", "echo", NULL, &err), 0);
	rpc_server_stop(server);
	start_server(); /* same port; the pooled connection is dead */
	assert_int_equal(call("b", "echo", NULL, &err), 0);
	rpc_server_stop(server);
	server = NULL;
	assert_int_equal(call("b", "echo", NULL, &err), -ECONNREFUSED);
	assert_int_equal(atomic_load(&calls), 2);
}

static void test_another_host_at_that_address_is_not_taken_for_it(void **state)
{
	struct error err = { 0 };

	(void)state;
	assert_int_equal(call("c", "echo", NULL, &err), -EKEYREJECTED);
	assert_non_null(strstr(err.msg, "it is host b"));
	assert_int_equal(atomic_load(&calls), 0);
}

static void *call_many(void *arg)
{
	(void)arg;
	for (int i = 0; i < 25; i++) {
		CLEANUP_JSON json_t *result = NULL;

		if (call("b", "echo", &result, NULL) < 0)
			return (void *)1;
	}
	return NULL;
}

static void test_many_threads_call_at_once(void **state)
{
	pthread_t threads[8];
	void *failed;

	(void)state;
	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, call_many, NULL), 0);
	for (int i = 0; i < 8; i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(atomic_load(&calls), 200);
}

/* --- who may call what -------------------------------------------------------------- */

static void test_only_marked_methods_work_without_a_certificate(void **state)
{
	struct tls_ctx *nobody = tls_ctx_new_pinned(pin, NULL);
	CLEANUP_JSON json_t *result = NULL;
	struct error err = { 0 };

	(void)state;
	assert_int_equal(
		rpc_call_address(nobody, "127.0.0.1", port, "echo", NULL, LONG_NS, NULL, &err),
		-EACCES);
	assert_int_equal(
		rpc_call_address(nobody, "127.0.0.1", port, "hello", NULL, LONG_NS, &result, &err),
		0);
	assert_true(json_bool(result, "anonymous", false));
	assert_true(rpc_call_address(tls_stranger, "127.0.0.1", port, "hello", NULL, LONG_NS, NULL,
				     &err) < 0);
	assert_int_equal(atomic_load(&calls), 0);
	tls_ctx_free(nobody);
}

static void send_raw(const void *bytes, size_t len)
{
	struct tls *t = NULL;
	struct error err = { 0 };
	char byte;

	assert_int_equal(tls_connect(tls_a, "127.0.0.1", port, LONG_NS, &t, &err), 0);
	assert_int_equal(tls_write(t, bytes, len, LONG_NS, &err), 0);
	assert_true(tls_read(t, &byte, 1, LONG_NS, &err) < 0); /* it hung up without a word */
	assert_int_not_equal(err.code, ETIMEDOUT);
	tls_close(t);
}

static void test_malformed_frames_are_hung_up_on(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {
		{ "\0\0\0\0\0", 5 },	    /* no kind */
		{ "\xff\xff\xff\xffJ", 5 }, /* 4 GiB */
		{ "\0\0\0\x05J{\"a\"", 9 }, /* no JSON */
		{ "\0\0\0\x03J[]", 7 },	    /* no object */
		{ "\0\0\0\x03J{}", 7 },	    /* no method */
		{ "\0\0\0\x02Xx", 6 },	    /* unknown kind */
		{ "\0\0\0\x02"
		  "Ex",
		  6 }, /* an end with a body */
		{ "\0\0\0\x02"
		  "Dx",
		  6 }, /* bytes, but no stream */
		{ "GET / HTTP/1.1\r\n\r\n", 18 },
		{ "\0\0\0\x19J{\"method\":1,\"params\":[]}", 29 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		send_raw(bad[i].bytes, bad[i].len);
	assert_int_equal(call("b", "echo", NULL, NULL), 0);
}

static void test_frames_are_parsed_within_their_bounds(void **state)
{
	struct rpc_frame f;
	struct error err = { 0 };
	char buf[64] = "\0\0\0\x0bJ{\"a\": 12 }";

	(void)state;
	for (size_t n = 0; n < 15; n++)
		assert_int_equal(rpc_frame_parse(buf, n, &f, &err), 0);
	assert_int_equal(rpc_frame_parse(buf, 16, &f, &err), 15);
	assert_int_equal(f.kind, 'J');
	assert_int_equal(json_int(f.json, "a", 0), 12);
	json_decref(f.json);
	assert_int_equal(rpc_frame_parse("\0\0\0\x01"
					 "E",
					 5, &f, &err),
			 5);
	assert_int_equal(rpc_frame_parse("\0\x10\0\x02"
					 "Dx",
					 6, &f, &err),
			 -EBADMSG);
}

/* --- streams
 * ------------------------------------------------------------------------------------------------
 */

struct reader {
	struct rpc_stream *st;
	uint64_t bytes;
	bool wrong;
};

static void *read_mirror(void *arg)
{
	struct reader *r = arg;
	unsigned char block[77777];
	ssize_t n;

	while ((n = rpc_stream_read(r->st, block, sizeof(block), NULL)) > 0)
		for (ssize_t i = 0; i < n; i++)
			r->wrong |= block[i] != (unsigned char)(r->bytes++ * 31 % 251);
	r->wrong |= n < 0;
	return NULL;
}

static void test_a_stream_carries_bytes_both_ways(void **state)
{
	const uint64_t total = 5000000;
	struct rpc_stream *st = NULL;
	CLEANUP_JSON json_t *result = NULL;
	unsigned char *bytes = mem_zalloc(total);
	struct reader reader = { 0 };
	struct error err = { 0 };
	pthread_t t;

	(void)state;
	for (uint64_t i = 0; i < total; i++)
		bytes[i] = (unsigned char)(i * 31 % 251);
	assert_int_equal(rpc_stream_open(client, "b", "mirror", NULL, LONG_NS, &st, &err), 0);
	reader.st = st;
	pthread_create(&t, NULL, read_mirror, &reader);
	assert_int_equal(rpc_stream_write(st, bytes, total, &err), 0);
	assert_int_equal(rpc_stream_end(st, &err), 0);
	pthread_join(t, NULL);
	if (rpc_stream_finish(st, &result, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(json_int(result, "bytes", 0), total);
	assert_int_equal(reader.bytes, total);
	assert_false(reader.wrong);
	free(bytes);
}

static void test_a_stream_goes_from_file_to_file(void **state)
{
	CLEANUP_CLOSE int in = memfd_create("in", MFD_CLOEXEC),
			  out = memfd_create("out", MFD_CLOEXEC);
	struct rpc_stream *st = NULL;
	uint64_t sent = 0, received = 0;
	struct error err = { 0 };
	char text[] = "one image", back[16] = "";

	(void)state;
	assert_int_equal(fd_write_all(in, text, sizeof(text)), 0);
	lseek(in, 0, SEEK_SET);
	assert_int_equal(rpc_stream_open(client, "b", "mirror", NULL, LONG_NS, &st, &err), 0);
	assert_int_equal(rpc_stream_send_fd(st, in, &sent, &err), 0);
	assert_int_equal(rpc_stream_end(st, &err), 0);
	assert_int_equal(rpc_stream_receive_fd(st, out, &received, &err), 0);
	assert_int_equal(rpc_stream_finish(st, NULL, &err), 0);
	assert_int_equal(sent, sizeof(text));
	assert_int_equal(received, sizeof(text));
	assert_int_equal(pread(out, back, sizeof(back), 0), sizeof(text));
	assert_string_equal(back, text);
}

static void test_a_callee_that_gives_up_ends_the_stream_with_its_reason(void **state)
{
	struct rpc_stream *st = NULL;
	struct error err = { 0 };
	char *block = mem_zalloc(1 << 20);
	int r = 0;

	(void)state;
	assert_int_equal(rpc_stream_open(client, "b", "choke", NULL, LONG_NS, &st, &err), 0);
	for (int i = 0; i < 1000 && r == 0; i++) /* more than any buffer holds */
		r = rpc_stream_write(st, block, 1 << 20, &err);
	assert_true(r < 0);
	assert_int_equal(rpc_stream_finish(st, NULL, &err), -ENOSPC);
	assert_string_equal(err.msg, "host b: no space left for the image");
	free(block);

	assert_int_equal(rpc_stream_open(client, "b", "no.such", NULL, LONG_NS, &st, &err), 0);
	assert_int_equal(rpc_stream_finish(st, NULL, &err), -ENOSYS);
	assert_int_equal(rpc_stream_open(client, "b", "mirror", NULL, LONG_NS, &st, &err), 0);
	rpc_stream_close(st);
	assert_int_equal(call("b", "echo", NULL, &err), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_call_gives_its_result_and_knows_its_caller),
		T(test_errors_travel_with_errno_and_message),
		T(test_progress_comes_in_order_before_the_result),
		T(test_a_timeout_hangs_up_and_the_callee_sees_it),
		T(test_a_restarted_host_is_reached_again),
		T(test_another_host_at_that_address_is_not_taken_for_it),
		T(test_many_threads_call_at_once),
		T(test_only_marked_methods_work_without_a_certificate),
		T(test_malformed_frames_are_hung_up_on),
		T(test_frames_are_parsed_within_their_bounds),
		T(test_a_stream_carries_bytes_both_ways),
		T(test_a_stream_goes_from_file_to_file),
		T(test_a_callee_that_gives_up_ends_the_stream_with_its_reason),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
