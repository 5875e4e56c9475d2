/* SPDX-License-Identifier: Apache-2.0 */
/* Handshakes on their way, between two network namespaces that stand for hosts. */
#include "tests/unit/checkpoint/socknet.h"

#include "runtime/checkpoint/sock_half_open.h"
#include "runtime/checkpoint/sock_orphan.h"

enum { FEW = 6 };

static int setup(void **state)
{
	(void)state;
	net_up();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sock_half_open_release();
	net_down();
	return 0;
}

/* The clients in P see themselves connected, the listener in A has only requests. */
static void dial_without_end(int *c, int family, const char *ip, int port)
{
	net_run(NET_P,
		"nft add table inet h; nft 'add chain inet h out { type filter hook "
		"postrouting priority 200; }'; nft add rule inet h out tcp dport %d "
		"'tcp flags & (syn|ack) == ack' drop",
		port);
	for (int i = 0; i < FEW; i++)
		c[i] = connect_from(NET_P, family, ip, port);
	for (int i = 0; i < FEW; i++)
		await_tcp_state(c[i], TCP_ESTABLISHED);
}

static void move_listener(int *l, struct sock_orphans *o)
{
	struct error err = { 0 };

	net_block(3, 3);
	net_enter(NET_A);
	assert_int_equal(sock_orphans_read(NULL, o, &err), 0);
	net_enter(NET_HOME);
	net_move((int *const[]){ l }, 1);
	net_block(3, 3); /* until all is ready there */
}

static void try_family(int family, const char *any, const char *ip, int port)
{
	struct sock_orphans o;
	struct error err = { 0 };
	int c[FEW], l;
	char byte;

	net_start();
	l = listen_at(NET_A, family, any, port, 0);
	dial_without_end(c, family, ip, port);
	move_listener(&l, &o);
	assert_true(o.half.n_request >= FEW); /* those of a closed listener stay a while */
	net_enter(NET_B);
	assert_int_equal(sock_half_open_restore(NULL, &o.half, &err), 0);
	net_enter(NET_HOME);
	net_run(NET_P, "nft delete table inet h");
	net_block(1, 1);
	for (int i = 0; i < FEW; i++) {
		byte = (char)('a' + i);
		assert_int_equal(send(c[i], &byte, 1, MSG_NOSIGNAL), 1);
	}
	for (int i = 0; i < FEW; i++) {
		struct pollfd p = { .fd = l, .events = POLLIN };
		int s;

		assert_int_equal(poll(&p, 1, 30000), 1);
		s = accept(l, NULL, NULL);
		assert_true(s >= 0);
		assert_int_equal(recv(s, &byte, 1, 0), 1);
		assert_true(byte >= 'a' && byte < 'a' + FEW);
		assert_int_equal(send(s, "ok", 2, 0), 2);
		close(s);
	}
	for (int i = 0; i < FEW; i++) {
		char got[3] = "";

		assert_int_equal(recv(c[i], got, 2, MSG_WAITALL), 2);
		assert_string_equal(got, "ok");
		close(c[i]);
	}
	sock_orphans_free(&o);
	sock_half_open_release();
	close(l);
}

static void test_clients_that_saw_the_answer_are_accepted(void **state)
{
	(void)state;
	if (!tcp_pending_possible())
		return; /* not in this kernel */
	try_family(AF_INET, "0.0.0.0", "10.9.0.2", 7600);
	try_family(AF_INET6, "::", "fd09::2", 7601);
}

/* Who has seen no answer begins anew. */
static void test_clients_that_saw_no_answer_try_again(void **state)
{
	union sock_addr a;
	socklen_t len = net_address(&a, AF_INET, "10.9.0.2", 7602);
	struct pollfd p = { .events = POLLOUT };
	struct sock_orphans o;
	struct error err = { 0 };
	int c, l, error = -1;

	(void)state;
	net_start();
	l = listen_at(NET_A, AF_INET, "0.0.0.0", 7602, 0);
	net_block(0, 1); /* the SYN goes there, the answer is lost */
	net_enter(NET_P);
	c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	net_enter(NET_HOME);
	assert_true(connect(c, &a.sa, len) < 0 && errno == EINPROGRESS);
	usleep(50000);
	move_listener(&l, &o);
	assert_int_equal(o.half.n_request, 1);
	net_enter(NET_B);
	assert_int_equal(sock_half_open_restore(NULL, &o.half, &err), 0);
	net_enter(NET_HOME);
	net_block(1, 1);
	p.fd = c;
	assert_int_equal(poll(&p, 1, 30000), 1);
	len = sizeof(error);
	assert_int_equal(getsockopt(c, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	assert_int_equal(error, 0);
	sock_orphans_free(&o);
	close(c);
	close(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_clients_that_saw_the_answer_are_accepted,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_clients_that_saw_no_answer_try_again, setup,
						teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
