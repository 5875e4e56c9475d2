/* SPDX-License-Identifier: Apache-2.0 */
/* TLS between hosts: who is let in, whole buffers, deadlines, two threads on one connection. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/str.h"
#include "base/tls.h"

#define LONG_NS (30ll * 1000000000)

static char dir[64];
static char ca_pin[65], other_pin[65];
static struct tls_ctx *host_a, *host_b, *stranger;

static char *path_of(const char *name)
{
	return str_format("%s/%s", dir, name);
}

static void save(const char *name, const char *text)
{
	CLEANUP_FREE char *p = path_of(name);

	assert_int_equal(file_write_atomic(p, text, strlen(text), 0600, NULL), 0);
}

/* A context of a host with a certificate of that CA. */
static struct tls_ctx *make_host(const char *ca, const char *ca_cert, const char *ca_key,
				 const char *host)
{
	CLEANUP_FREE char *key = NULL, *csr = NULL, *cert = NULL, *kn = NULL, *cn = NULL;
	CLEANUP_FREE char *kp = NULL, *cp = NULL, *can = NULL, *cap = NULL;
	struct error err = { 0 };
	struct tls_ctx *ctx;

	assert_int_equal(tls_key_create(&key, &err), 0);
	assert_int_equal(tls_csr_create(key, "whatever", &csr, &err), 0);
	assert_int_equal(tls_csr_sign(ca_cert, ca_key, csr, host, "127.0.0.1", 30, &cert, &err), 0);
	kn = str_format("%s.key", host);
	cn = str_format("%s.crt", host);
	can = str_format("%s.crt", ca);
	save(kn, key);
	save(cn, cert);
	save(can, ca_cert);
	kp = path_of(kn);
	cp = path_of(cn);
	cap = path_of(can);
	ctx = tls_ctx_new(cp, kp, cap, &err);
	assert_non_null(ctx);
	return ctx;
}

static int setup(void **state)
{
	CLEANUP_FREE char *cert = NULL, *key = NULL, *cert2 = NULL, *key2 = NULL;
	struct error err = { 0 };

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/ftls-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	if (tls_ca_create("ca one", 30, &cert, &key, &err) < 0 ||
	    tls_ca_create("ca two", 30, &cert2, &key2, &err) < 0)
		return -1;
	tls_cert_fingerprint(cert, ca_pin, NULL);
	tls_cert_fingerprint(cert2, other_pin, NULL);
	host_a = make_host("ca1", cert, key, "a");
	host_b = make_host("ca1", cert, key, "b");
	stranger = make_host("ca2", cert2, key2, "x");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tls_ctx_free(host_a);
	tls_ctx_free(host_b);
	tls_ctx_free(stranger);
	return dir_remove(dir, NULL);
}

/* --- one server connection in a thread ----------------------------------------------------- */

struct server {
	int listener;
	uint16_t port;
	bool anonymous;
	pthread_t thread;
	struct tls *tls;
	int result;
	struct error err;
};

static void *accept_one(void *arg)
{
	struct server *s = arg;
	int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

	s->result =
		fd < 0 ? -errno : tls_accept(host_b, fd, s->anonymous, LONG_NS, &s->tls, &s->err);
	return NULL;
}

static void server_start(struct server *s, bool anonymous)
{
	*s = (struct server){ .anonymous = anonymous };
	s->listener = tls_listen("127.0.0.1", 0, &s->port, &s->err);
	assert_true(s->listener >= 0);
	assert_int_equal(pthread_create(&s->thread, NULL, accept_one, s), 0);
}

static void server_wait(struct server *s)
{
	pthread_join(s->thread, NULL);
	close(s->listener);
}

/* A connected pair; both ends are hosts of the same cluster. */
static void pair(struct tls **client, struct tls **server)
{
	struct error err = { 0 };
	struct server s;

	server_start(&s, false);
	if (tls_connect(host_a, "127.0.0.1", s.port, LONG_NS, client, &err) < 0)
		fail_msg("%s", err.msg);
	server_wait(&s);
	if (s.result < 0)
		fail_msg("%s", s.err.msg);
	*server = s.tls;
}

/* --- tests -------------------------------------------------------------------------------- */

static void test_hosts_of_one_cluster_know_each_other_by_name(void **state)
{
	CLEANUP_TLS struct tls *c = NULL, *s = NULL;
	char buf[6] = "";

	(void)state;
	pair(&c, &s);
	assert_string_equal(tls_peer_name(c), "b");
	assert_string_equal(tls_peer_name(s), "a");
	assert_string_equal(tls_peer_address(s), "127.0.0.1");
	assert_int_equal(tls_write(c, "hello", 6, LONG_NS, NULL), 0);
	assert_int_equal(tls_read(s, buf, 6, LONG_NS, NULL), 0);
	assert_string_equal(buf, "hello");
	assert_true(tls_idle_ok(c));
	tls_close(TAKE_PTR(s));
	assert_int_equal(tls_read(c, buf, 1, LONG_NS, NULL), -ENODATA);
	assert_false(tls_idle_ok(c));
}

static void test_a_stranger_is_refused_by_both_sides(void **state)
{
	CLEANUP_TLS struct tls *c = NULL;
	struct error err = { 0 };
	struct server s;

	(void)state;
	server_start(&s, false);
	assert_int_equal(tls_connect(stranger, "127.0.0.1", s.port, LONG_NS, &c, &err),
			 -EKEYREJECTED);
	assert_non_null(strstr(err.msg, "another cluster"));
	server_wait(&s);
	assert_true(s.result < 0);
	assert_null(s.tls);
}

/* A client that trusts the server but has no certificate of its own gets nothing. */
static void test_no_certificate_no_entry(void **state)
{
	CLEANUP_TLS struct tls *c = NULL;
	struct tls_ctx *nobody;
	struct error err = { 0 };
	struct server s;
	char byte;
	int r;

	(void)state;
	nobody = tls_ctx_new_pinned(ca_pin, &err);
	assert_non_null(nobody);
	server_start(&s, false);
	/* In TLS 1.3 the client may finish before the server has judged it. */
	r = tls_connect(nobody, "127.0.0.1", s.port, LONG_NS, &c, &err);
	server_wait(&s);
	assert_true(s.result < 0);
	if (r == 0)
		assert_true(tls_read(c, &byte, 1, LONG_NS, &err) < 0);
	tls_ctx_free(nobody);
}

static void test_pin_lets_a_new_host_check_the_cluster(void **state)
{
	struct tls_ctx *right, *wrong;
	struct error err = { 0 };
	struct tls *c = NULL;
	struct server s;

	(void)state;
	right = tls_ctx_new_pinned(ca_pin, &err);
	wrong = tls_ctx_new_pinned(other_pin, &err);
	assert_non_null(right);
	assert_non_null(wrong);
	assert_null(tls_ctx_new_pinned("12", &err));

	server_start(&s, true);
	assert_int_equal(tls_connect(right, "127.0.0.1", s.port, LONG_NS, &c, &err), 0);
	server_wait(&s);
	assert_int_equal(s.result, 0);
	assert_null(tls_peer_name(s.tls));
	assert_string_equal(tls_peer_name(c), "b");
	tls_close(c);
	tls_close(s.tls);

	c = NULL;
	server_start(&s, true);
	assert_int_equal(tls_connect(wrong, "127.0.0.1", s.port, LONG_NS, &c, &err), -EKEYREJECTED);
	assert_non_null(strstr(err.msg, "token"));
	server_wait(&s);
	tls_close(s.tls);
	tls_ctx_free(right);
	tls_ctx_free(wrong);
}

static void test_tls_1_2_is_not_spoken(void **state)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	CLEANUP_FREE char *to = NULL;
	struct server s;
	SSL *ssl;
	BIO *bio;

	(void)state;
	server_start(&s, true);
	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	to = str_format("127.0.0.1:%u", s.port);
	bio = BIO_new_connect(to);
	assert_int_equal(BIO_do_connect(bio), 1);
	ssl = SSL_new(ctx);
	SSL_set_bio(ssl, bio, bio);
	assert_true(SSL_connect(ssl) <= 0);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	server_wait(&s);
	assert_int_equal(s.result, -EPROTO);
}

struct flow {
	struct tls *t;
	size_t bytes;
	unsigned char seed;
	int result;
};

static void *send_all(void *arg)
{
	struct flow *f = arg;
	unsigned char block[70001];
	size_t done = 0;

	while (done < f->bytes && f->result == 0) {
		size_t n = f->bytes - done < sizeof(block) ? f->bytes - done : sizeof(block);

		for (size_t i = 0; i < n; i++)
			block[i] = (unsigned char)((done + i) * 7 + f->seed);
		f->result = tls_write(f->t, block, n, LONG_NS, NULL);
		done += n;
	}
	return NULL;
}

static void *receive_all(void *arg)
{
	struct flow *f = arg;
	unsigned char block[12345];
	size_t done = 0;

	while (done < f->bytes && f->result == 0) {
		size_t n = f->bytes - done < sizeof(block) ? f->bytes - done : sizeof(block);

		f->result = tls_read(f->t, block, n, LONG_NS, NULL);
		for (size_t i = 0; i < n && f->result == 0; i++)
			if (block[i] != (unsigned char)((done + i) * 7 + f->seed))
				f->result = -EBADMSG;
		done += n;
	}
	return NULL;
}

static void test_a_reader_and_a_writer_share_a_connection(void **state)
{
	CLEANUP_TLS struct tls *c = NULL, *s = NULL;
	const size_t bytes = 6u << 20;
	struct flow flows[4];
	pthread_t threads[4];

	(void)state;
	pair(&c, &s);
	flows[0] = (struct flow){ .t = c, .bytes = bytes, .seed = 1 };
	flows[1] = (struct flow){ .t = s, .bytes = bytes, .seed = 1 };
	flows[2] = (struct flow){ .t = s, .bytes = bytes, .seed = 2 };
	flows[3] = (struct flow){ .t = c, .bytes = bytes, .seed = 2 };
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, i % 2 ? receive_all : send_all, &flows[i]);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(flows[i].result, 0);
	}
}

static void test_a_silent_peer_is_a_timeout_not_a_hang(void **state)
{
	CLEANUP_TLS struct tls *c = NULL, *s = NULL;
	static char big[4 << 20];
	struct error err = { 0 };
	char byte;
	int r;

	(void)state;
	pair(&c, &s);
	assert_int_equal(tls_read(c, &byte, 1, 50000000, &err), -ETIMEDOUT);
	do /* fill what the kernel buffers */
		r = tls_write(s, big, sizeof(big), 300000000, &err);
	while (r == 0);
	assert_int_equal(r, -ETIMEDOUT);
}

static void *read_one(void *arg)
{
	struct flow *f = arg;
	char byte;

	f->result = tls_read(f->t, &byte, 1, 0, NULL);
	return NULL;
}

static void test_abort_wakes_a_reader(void **state)
{
	CLEANUP_TLS struct tls *c = NULL, *s = NULL;
	struct flow f = { 0 };
	pthread_t t;

	(void)state;
	pair(&c, &s);
	f.t = c;
	pthread_create(&t, NULL, read_one, &f);
	clock_sleep_ns(20000000);
	tls_abort(c);
	pthread_join(t, NULL);
	assert_int_equal(f.result, -ECONNABORTED);
}

static void test_nobody_there_is_said_plainly(void **state)
{
	struct error err = { 0 };
	struct tls *c = NULL;
	uint16_t port;
	int fd;

	(void)state;
	fd = tls_listen("127.0.0.1", 0, &port, &err);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(tls_connect(host_a, "127.0.0.1", port, LONG_NS, &c, &err), -ECONNREFUSED);
	assert_non_null(strstr(err.msg, "connecting to 127.0.0.1 port"));
}

static void test_certificates_are_issued_for_good_requests_only(void **state)
{
	CLEANUP_FREE char *cert = NULL, *key = NULL, *k = NULL, *csr = NULL, *out = NULL;
	CLEANUP_FREE char *name = NULL;
	char m1[65], m2[65], m3[65];
	struct error err = { 0 };
	int64_t end = 0;
	char *p;

	(void)state;
	assert_int_equal(tls_ca_create("ca", 30, &cert, &key, &err), 0);
	assert_int_equal(tls_csr_sign(cert, key, "no request", "a", NULL, 1, &out, &err), -EINVAL);
	assert_int_equal(tls_key_create(&k, &err), 0);
	assert_int_equal(tls_csr_create(k, "a", &csr, &err), 0);
	assert_int_equal(tls_csr_sign(cert, key, csr, "a,IP:1.2.3.4", NULL, 1, &out, &err),
			 -EINVAL);
	p = csr + strlen(csr) / 2; /* inside the base64 of the public key */
	*p = *p == 'A' ? 'B' : 'A';
	assert_int_equal(tls_csr_sign(cert, key, csr, "a", NULL, 1, &out, &err), -EINVAL);
	assert_int_equal(tls_cert_info(cert, &name, &end, &err), 0);
	assert_string_equal(name, "ca");
	assert_true(end > clock_real_ns() / 1000000000 + 29 * 86400);
	assert_int_equal(tls_key_mac(key, "p", "text", m1, &err), 0);
	assert_int_equal(tls_key_mac(key, "p", "text", m2, &err), 0);
	assert_int_equal(tls_key_mac(k, "p", "text", m3, &err), 0);
	assert_string_equal(m1, m2);
	assert_string_not_equal(m1, m3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hosts_of_one_cluster_know_each_other_by_name),
		cmocka_unit_test(test_a_stranger_is_refused_by_both_sides),
		cmocka_unit_test(test_no_certificate_no_entry),
		cmocka_unit_test(test_pin_lets_a_new_host_check_the_cluster),
		cmocka_unit_test(test_tls_1_2_is_not_spoken),
		cmocka_unit_test(test_a_reader_and_a_writer_share_a_connection),
		cmocka_unit_test(test_a_silent_peer_is_a_timeout_not_a_hang),
		cmocka_unit_test(test_abort_wakes_a_reader),
		cmocka_unit_test(test_nobody_there_is_said_plainly),
		cmocka_unit_test(test_certificates_are_issued_for_good_requests_only),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
