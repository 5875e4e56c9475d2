/* SPDX-License-Identifier: Apache-2.0 */
/* TCP sockets between two network namespaces that stand for hosts; no container. */
#include "tests/unit/checkpoint/socknet.h"

#define MIB (1u << 20)

static int setup(void **state)
{
	(void)state;
	net_up();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	net_down();
	return 0;
}

static void pump_both(struct conn *c, size_t n)
{
	conn_pump(c, 0, n);
	conn_pump(c, 1, n);
}

static void open_one(struct conn *c, int *listener)
{
	static int port = 7200;

	net_start();
	*listener = listen_at(NET_A, AF_INET, "0.0.0.0", port++, 0);
	conn_open(c, *listener, AF_INET, "10.9.0.2");
	pump_both(c, 100000);
}

static void test_established_connection_goes_on(void **state)
{
	struct conn c;
	int l;

	(void)state;
	open_one(&c, &l);
	net_move((int *const[]){ &c.own, &l }, 2);
	assert_int_equal(sock_state(c.own), TCP_ESTABLISHED);
	pump_both(&c, 2 * MIB);
	conn_close(&c);
	conn_open(&c, l, AF_INET, "10.9.0.2");
	pump_both(&c, MIB);
	conn_close(&c);
	close(l);
}

static void test_undone_dump_leaves_the_source_as_it_was(void **state)
{
	struct conn c;
	int l;

	(void)state;
	open_one(&c, &l);
	sock_opt_set(c.own, SOL_SOCKET, SO_REUSEADDR, 1);
	conn_send(&c, 0, 70000);
	conn_send(&c, 1, 8 * MIB);
	for (int i = 0; i < 3; i++)
		net_undo((int *const[]){ &c.own, &l }, 2);
	assert_int_equal(sock_opt_int(c.own, IPPROTO_TCP, TCP_REPAIR, -1), 0);
	assert_int_equal(sock_opt_int(c.own, SOL_SOCKET, SO_REUSEADDR, -1), 1);
	pump_both(&c, MIB);
	conn_close(&c);
	conn_open(&c, l, AF_INET, "10.9.0.2");
	pump_both(&c, MIB);
	conn_close(&c);
	close(l);
}

/* What a killed engine left in repair mode, the next one's undo takes out of it. */
static void test_undo_ends_a_repair_mode_left_behind(void **state)
{
	struct ofd o = { .num = -1 };
	struct conn c;
	int l;

	(void)state;
	open_one(&c, &l);
	conn_send(&c, 0, 7000);
	assert_int_equal(sock_opt_set(c.own, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON), 0);
	o.fd = c.own;
	assert_int_equal(fstat(c.own, &o.st), 0);
	assert_int_equal(object_type_for(&o)->dump_undo(NULL, &o), 0);
	assert_int_equal(sock_opt_int(c.own, IPPROTO_TCP, TCP_REPAIR, -1), 0);
	pump_both(&c, 100000);
	conn_close(&c);
	close(l);
}

static void test_full_queues_both_ways_with_zero_windows(void **state)
{
	struct conn c;
	int l;

	(void)state;
	open_one(&c, &l);
	for (int i = 0; i < 10; i++) {
		conn_send(&c, 0, 64 * MIB);
		conn_send(&c, 1, 64 * MIB);
		usleep(20000);
	}
	assert_true(sock_int(c.own, SIOCINQ) > 0);
	assert_true(sock_int(c.own, SIOCOUTQNSD) > 0);
	net_move((int *const[]){ &c.own, &l }, 2);
	pump_both(&c, 2 * MIB);
	conn_close(&c);
	close(l);
}

static void test_sent_but_not_acknowledged_data_arrives(void **state)
{
	struct conn c;
	int l;

	(void)state;
	open_one(&c, &l);
	net_block(0, 1); /* what A sends is lost */
	conn_send(&c, 1, 5000);
	usleep(20000);
	assert_int_equal(sock_int(c.own, SIOCOUTQ), 5000);
	assert_int_equal(sock_int(c.own, SIOCOUTQNSD), 0);
	net_move((int *const[]){ &c.own, &l }, 2);
	pump_both(&c, MIB);
	conn_close(&c);
	close(l);
}

static void test_half_closed_by_the_container(void **state)
{
	struct conn c;
	int l;

	(void)state;
	open_one(&c, &l);
	conn_send(&c, 0, 3000);
	shutdown(c.own, SHUT_WR);
	await_tcp_state(c.own, TCP_FIN_WAIT2);
	net_move((int *const[]){ &c.own, &l }, 2);
	assert_int_equal(sock_state(c.own), TCP_FIN_WAIT2);
	assert_true(send(c.own, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	conn_await_end(&c, 1);
	conn_pump(&c, 0, MIB);
	shutdown(c.peer, SHUT_WR);
	conn_await_end(&c, 0);
	conn_close(&c);
	close(l);
}

static void test_half_closed_with_unsent_data(void **state)
{
	struct conn c;
	int l;

	(void)state;
	open_one(&c, &l);
	for (int i = 0; i < 5; i++) {
		conn_send(&c, 1, 64 * MIB);
		usleep(20000);
	}
	shutdown(c.own, SHUT_WR);
	assert_int_equal(sock_state(c.own), TCP_FIN_WAIT1);
	assert_true(sock_int(c.own, SIOCOUTQNSD) > 1);
	net_move((int *const[]){ &c.own, &l }, 2);
	assert_int_equal(sock_state(c.own), TCP_FIN_WAIT1);
	conn_await_end(&c, 1);
	conn_pump(&c, 0, MIB);
	conn_close(&c);
	close(l);
}

static void test_half_closed_by_the_peer(void **state)
{
	struct conn c;
	int l;

	(void)state;
	open_one(&c, &l);
	conn_send(&c, 0, 5000);
	shutdown(c.peer, SHUT_WR);
	await_tcp_state(c.own, TCP_CLOSE_WAIT);
	net_move((int *const[]){ &c.own, &l }, 2);
	assert_int_equal(sock_state(c.own), TCP_CLOSE_WAIT);
	conn_await_end(&c, 0);
	conn_pump(&c, 1, 2 * MIB);
	shutdown(c.own, SHUT_WR);
	conn_await_end(&c, 1);
	conn_close(&c);
	close(l);
}

static void test_own_fin_in_flight(void **state)
{
	struct conn c;
	int l;

	(void)state;
	open_one(&c, &l);
	net_block(0, 1);
	conn_send(&c, 1, 2000);
	shutdown(c.own, SHUT_WR);
	usleep(10000);
	assert_int_equal(sock_state(c.own), TCP_FIN_WAIT1);
	assert_int_equal(sock_int(c.own, SIOCOUTQNSD), 0);
	net_move((int *const[]){ &c.own, &l }, 2);
	conn_await_end(&c, 1);
	conn_pump(&c, 0, MIB);
	conn_close(&c);
	close(l);
}

static void test_both_fins_crossing(void **state)
{
	struct conn c;
	int l;

	(void)state;
	open_one(&c, &l);
	net_block(0, 1);
	conn_send(&c, 1, 1000);
	shutdown(c.own, SHUT_WR);
	conn_send(&c, 0, 1000);
	shutdown(c.peer, SHUT_WR);
	await_tcp_state(c.own, TCP_CLOSING);
	net_move((int *const[]){ &c.own, &l }, 2);
	conn_await_end(&c, 1);
	conn_await_end(&c, 0);
	conn_close(&c);
	close(l);
}

static void test_last_ack(void **state)
{
	(void)state;
	for (int unsent = 0; unsent < 2; unsent++) {
		struct conn c;
		int l;

		open_one(&c, &l);
		shutdown(c.peer, SHUT_WR);
		await_tcp_state(c.own, TCP_CLOSE_WAIT);
		if (!unsent)
			net_block(0, 1);
		for (int i = 0; i < 5; i++) {
			conn_send(&c, 1, unsent ? 64 * MIB : 1000);
			usleep(10000);
		}
		shutdown(c.own, SHUT_WR);
		assert_int_equal(sock_state(c.own), TCP_LAST_ACK);
		net_move((int *const[]){ &c.own, &l }, 2);
		conn_await_end(&c, 1);
		conn_await_end(&c, 0);
		await_tcp_state(c.own, TCP_CLOSE);
		conn_close(&c);
		close(l);
	}
}

static void test_ipv6_and_mapped_addresses(void **state)
{
	struct conn c6, c4;
	int l;

	(void)state;
	net_start();
	l = listen_at(NET_A, AF_INET6, "::", 7000, 0);
	conn_open(&c6, l, AF_INET6, "fd09::2");
	conn_open(&c4, l, AF_INET, "10.9.0.2");
	conn_send(&c6, 0, 50000);
	conn_send(&c4, 1, 50000);
	shutdown(c6.peer, SHUT_WR);
	shutdown(c4.peer, SHUT_WR);
	await_tcp_state(c6.own, TCP_CLOSE_WAIT);
	await_tcp_state(c4.own, TCP_CLOSE_WAIT);
	net_move((int *const[]){ &l, &c6.own, &c4.own }, 3);
	conn_await_end(&c6, 0);
	conn_await_end(&c4, 0);
	conn_pump(&c6, 1, MIB);
	conn_pump(&c4, 1, MIB);
	conn_close(&c6);
	conn_close(&c4);
	conn_open(&c6, l, AF_INET6, "fd09::2");
	conn_open(&c4, l, AF_INET, "10.9.0.2");
	pump_both(&c6, MIB);
	pump_both(&c4, MIB);
	conn_close(&c6);
	conn_close(&c4);
	close(l);
}

static void test_connections_inside_the_container(void **state)
{
	static const char *const ips[] = { "127.0.0.1", "10.9.0.2" };
	struct conn c[4];
	int l[2];

	(void)state;
	net_start();
	for (int i = 0; i < 4; i++) {
		union sock_addr a;
		socklen_t len = net_address(&a, AF_INET, ips[i % 2], 7001 + i % 2);

		if (i < 2)
			l[i] = listen_at(NET_A, AF_INET, ips[i], 7001 + i, 0);
		memset(&c[i], 0, sizeof(c[i]));
		net_enter(NET_A);
		c[i].peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		net_enter(NET_HOME);
		assert_int_equal(connect(c[i].peer, &a.sa, len), 0);
		c[i].own = accept(l[i % 2], NULL, NULL);
		conn_send(&c[i], 0, 3 * MIB);
		conn_send(&c[i], 1, i % 2 ? 3 * MIB : 1000);
	}
	shutdown(c[2].peer, SHUT_WR);
	shutdown(c[3].own, SHUT_WR);
	usleep(50000);
	net_move((int *const[]){ &c[0].own, &c[0].peer, &l[0], &c[1].peer, &c[2].own, &l[1],
				 &c[1].own, &c[2].peer, &c[3].peer, &c[3].own },
		 10);
	pump_both(&c[0], MIB);
	pump_both(&c[1], MIB);
	conn_await_end(&c[2], 0);
	conn_pump(&c[2], 1, MIB);
	conn_await_end(&c[3], 1);
	conn_pump(&c[3], 0, MIB);
	for (int i = 0; i < 4; i++)
		conn_close(&c[i]);
	close(l[0]);
	close(l[1]);
}

static void test_a_thousand_connections(void **state)
{
	enum { N = 1000 };
	struct conn *c = calloc(N, sizeof(*c));
	int **fds = calloc(N + 1, sizeof(*fds)), l;

	(void)state;
	net_start();
	l = listen_at(NET_A, AF_INET, "0.0.0.0", 7000, 0);
	for (int i = 0; i < N; i++) {
		conn_open(&c[i], l, AF_INET, "10.9.0.2");
		conn_send(&c[i], i % 2, 1000);
		fds[i] = &c[i].own;
	}
	fds[N] = &l;
	net_move((int *const *)fds, N + 1);
	for (int i = 0; i < N; i++) {
		pump_both(&c[i], 5000);
		conn_close(&c[i]);
	}
	close(l);
	free(fds);
	free(c);
}

static void test_closed_and_dead_sockets(void **state)
{
	struct conn reset, ended;
	int l, fresh, bound;
	union sock_addr a;
	socklen_t len = net_address(&a, AF_INET, "10.9.0.2", 7070);
	struct pollfd p;
	char byte[2000];

	(void)state;
	open_one(&reset, &l);
	conn_open(&ended, l, AF_INET, "10.9.0.2");
	net_enter(NET_A);
	fresh = socket(AF_INET, SOCK_STREAM, 0);
	bound = socket(AF_INET, SOCK_STREAM, 0);
	net_enter(NET_HOME);
	assert_int_equal(bind(bound, &a.sa, len), 0);
	conn_send(&reset, 0, 1000);
	usleep(20000);
	assert_int_equal(setsockopt(reset.peer, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 },
				    sizeof(struct linger)),
			 0);
	close(reset.peer);
	await_tcp_state(reset.own, TCP_CLOSE);
	shutdown(ended.peer, SHUT_WR);
	await_tcp_state(ended.own, TCP_CLOSE_WAIT);
	shutdown(ended.own, SHUT_WR);
	await_tcp_state(ended.own, TCP_CLOSE);
	net_move((int *const[]){ &l, &reset.own, &ended.own, &fresh, &bound }, 5);
	p = (struct pollfd){ .fd = reset.own, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 0), 1);
	assert_true(p.revents & POLLERR);
	assert_int_equal(recv(reset.own, byte, sizeof(byte), MSG_DONTWAIT), 1000);
	assert_true(recv(reset.own, byte, 1, MSG_DONTWAIT) < 0 && errno == ECONNRESET);
	assert_int_equal(recv(reset.own, byte, 1, MSG_DONTWAIT), 0);
	assert_int_equal(recv(ended.own, byte, 1, MSG_DONTWAIT), 0);
	assert_true(send(ended.own, byte, 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	assert_true(recv(fresh, byte, 1, MSG_DONTWAIT) < 0 && errno == ENOTCONN);
	assert_int_equal(getsockname(bound, &a.sa, &len), 0);
	assert_int_equal(ntohs(a.in.sin_port), 7070);
	assert_int_equal(listen(bound, 5), 0);
	close(reset.own);
	close(ended.peer);
	close(ended.own);
	close(fresh);
	close(bound);
	close(l);
}

static void test_handshake_under_way_completes(void **state)
{
	union sock_addr a;
	socklen_t len = net_address(&a, AF_INET, "10.9.0.1", 7100);
	struct pollfd p = { 0 };
	int l, s, peer, error = -1;

	(void)state;
	net_start();
	l = listen_at(NET_P, AF_INET, "0.0.0.0", 7100, 0);
	net_enter(NET_A);
	s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	net_enter(NET_HOME);
	net_block(0, 1);
	assert_true(connect(s, &a.sa, len) < 0 && errno == EINPROGRESS);
	assert_int_equal(sock_state(s), TCP_SYN_SENT);
	net_move((int *const[]){ &s }, 1);
	p.fd = s;
	p.events = POLLOUT;
	assert_int_equal(poll(&p, 1, 30000), 1);
	len = sizeof(error);
	assert_int_equal(getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	assert_int_equal(error, 0);
	peer = accept(l, NULL, NULL);
	assert_true(peer >= 0);
	close(peer);
	close(s);
	close(l);
}

static void test_options_are_carried(void **state)
{
	static const struct {
		int level, name, value;
	} opts[] = {
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },    { IPPROTO_TCP, TCP_KEEPIDLE, 77 },
		{ IPPROTO_TCP, TCP_KEEPINTVL, 33 }, { IPPROTO_TCP, TCP_KEEPCNT, 4 },
		{ IPPROTO_TCP, TCP_NODELAY, 1 },    { IPPROTO_TCP, TCP_USER_TIMEOUT, 12345 },
		{ IPPROTO_IP, IP_TOS, 0x20 },	    { IPPROTO_IP, IP_TTL, 33 },
		{ SOL_SOCKET, SO_PRIORITY, 3 },	    { SOL_SOCKET, SO_MARK, 42 },
		{ SOL_SOCKET, SO_RCVLOWAT, 1 },	    { IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16384 },
		{ SOL_SOCKET, SO_OOBINLINE, 1 },    { IPPROTO_TCP, TCP_LINGER2, 9 },
		{ SOL_SOCKET, SO_REUSEADDR, 0 },    { SOL_SOCKET, SO_SNDBUF, 50000 },
		{ SOL_SOCKET, SO_TIMESTAMPNS, 1 },
	};
	struct timeval tv = { 5, 240000 }, got;
	char cc[16] = "reno";
	struct conn c;
	socklen_t len;
	int l;

	(void)state;
	net_start();
	l = listen_at(NET_A, AF_INET, "0.0.0.0", 7000, SOCK_NONBLOCK);
	sock_opt_set(l, IPPROTO_TCP, TCP_DEFER_ACCEPT, 3);
	sock_opt_set(l, SOL_SOCKET, SO_REUSEPORT, 0);
	sock_opt_set(l, SOL_SOCKET, SO_RCVBUF, 30000);
	sock_opt_set(l, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
	fcntl(l, F_SETFL, 0);
	conn_open(&c, l, AF_INET, "10.9.0.2");
	fcntl(l, F_SETFL, O_NONBLOCK);
	for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++)
		assert_int_equal(sock_opt_set(c.own, opts[i].level, opts[i].name, opts[i].value),
				 0);
	setsockopt(c.own, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	assert_int_equal(setsockopt(c.own, IPPROTO_TCP, TCP_CONGESTION, cc, 4), 0);
	fcntl(c.own, F_SETFL, O_NONBLOCK);
	sock_opt_set(l, IPPROTO_TCP, TCP_DEFER_ACCEPT, 3);
	net_move((int *const[]){ &c.own, &l }, 2);
	for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++) {
		int v = sock_opt_int(c.own, opts[i].level, opts[i].name, -1);

		if (opts[i].name == SO_SNDBUF && opts[i].level == SOL_SOCKET)
			v /= 2;
		assert_int_equal(v, opts[i].value);
	}
	assert_int_equal(sock_opt_int(c.own, SOL_SOCKET, 72 /* SO_BUF_LOCK */, -1), 3);
	assert_int_equal(sock_opt_int(l, SOL_SOCKET, 72, -1), 2);
	assert_int_equal(sock_opt_int(l, SOL_SOCKET, SO_RCVBUF, -1), 60000);
	assert_int_equal(sock_opt_int(l, IPPROTO_TCP, TCP_DEFER_ACCEPT, -1), 3);
	assert_int_equal(sock_opt_int(l, SOL_SOCKET, SO_REUSEADDR, -1), 0);
	assert_int_equal(fcntl(c.own, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_int_equal(fcntl(l, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	len = sizeof(got);
	assert_int_equal(getsockopt(c.own, SOL_SOCKET, SO_RCVTIMEO, &got, &len), 0);
	assert_memory_equal(&tv, &got, sizeof(tv));
	len = sizeof(cc);
	assert_int_equal(getsockopt(c.own, IPPROTO_TCP, TCP_CONGESTION, cc, &len), 0);
	assert_string_equal(cc, "reno");
	conn_close(&c);
	close(l);
}

static void test_socket_bound_to_a_device(void **state)
{
	struct conn c;
	int l;

	(void)state;
	open_one(&c, &l);
	assert_int_equal(setsockopt(c.own, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 4), 0);
	conn_send(&c, 0, 1000);
	shutdown(c.peer, SHUT_WR);
	await_tcp_state(c.own, TCP_CLOSE_WAIT);
	net_move((int *const[]){ &c.own, &l }, 2);
	conn_await_end(&c, 0);
	conn_pump(&c, 1, MIB);
	conn_close(&c);
	close(l);
}

/* A read ends at the mark; behind it lie the urgent byte and the rest. */
static void test_urgent_data_keeps_its_place(void **state)
{
	char buf[100] = "", byte = 0;
	struct conn c;
	int l, at = 0, before;

	(void)state;
	for (int taken = 0; taken < 2; taken++) {
		open_one(&c, &l);
		/* since Linux 6.10 it can be looked behind what comes before the mark */
		before = sock_opt_set(c.own, SOL_SOCKET, SO_PEEK_OFF, -1) == 0 ? 6 : 0;
		if (before)
			assert_int_equal(send(c.peer, "before", 6, 0), 6);
		assert_int_equal(send(c.peer, "!", 1, MSG_OOB), 1);
		assert_int_equal(send(c.peer, "after", 5, 0), 5);
		sock_opt_set(c.own, SOL_SOCKET, SO_OOBINLINE, 1);
		for (int i = 0; i < 10000 && sock_int(c.own, SIOCINQ) < before + 6; i++)
			usleep(1000);
		sock_opt_set(c.own, SOL_SOCKET, SO_OOBINLINE, 0);
		if (taken)
			assert_int_equal(recv(c.own, &byte, 1, MSG_OOB), 1);
		net_move((int *const[]){ &c.own, &l }, 2);
		if (before) {
			assert_int_equal(recv(c.own, buf, sizeof(buf), MSG_DONTWAIT), 6);
			assert_memory_equal(buf, "before", 6);
		}
		assert_int_equal(ioctl(c.own, SIOCATMARK, &at), 0);
		assert_int_equal(at, 1);
		assert_int_equal(recv(c.own, &byte, 1, MSG_OOB), taken ? -1 : 1);
		assert_int_equal(byte, '!');
		assert_int_equal(recv(c.own, buf, sizeof(buf), MSG_DONTWAIT), 5);
		assert_memory_equal(buf, "after", 5);
		conn_pump(&c, 1, MIB);
		conn_close(&c);
		close(l);
	}
}

static void test_reuseport_group_is_made_again(void **state)
{
	union sock_addr a;
	socklen_t len = net_address(&a, AF_INET, "0.0.0.0", 7000);
	struct conn c;
	int l[3];

	(void)state;
	net_start();
	for (int i = 0; i < 3; i++) {
		net_enter(NET_A);
		l[i] = socket(AF_INET, SOCK_STREAM, 0);
		net_enter(NET_HOME);
		assert_int_equal(fchown(l[i], 1234, 1234), 0);
		sock_opt_set(l[i], SOL_SOCKET, SO_REUSEPORT, 1);
		assert_int_equal(bind(l[i], &a.sa, len), 0);
		assert_int_equal(listen(l[i], 5), 0);
	}
	net_move((int *const[]){ &l[0], &l[1], &l[2] }, 3);
	for (int i = 0; i < 20; i++) {
		struct pollfd p[3] = { { l[0], POLLIN, 0 },
				       { l[1], POLLIN, 0 },
				       { l[2], POLLIN, 0 } };

		c.peer = connect_from(NET_P, AF_INET, "10.9.0.2", 7000);
		assert_int_equal(poll(p, 3, 10000), 1);
		for (int k = 0; k < 3; k++)
			if (p[k].revents)
				close(accept(l[k], NULL, NULL));
		close(c.peer);
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(sock_opt_int(l[i], SOL_SOCKET, SO_REUSEPORT, -1), 1);
		close(l[i]);
	}
}

/* Clients that the server has not accepted yet: one silent, one that has sent something,
 * one that has sent something and shut down. */
static void dial_waiting(struct conn *c, int family, const char *ip, int port)
{
	for (int i = 0; i < 3; i++) {
		memset(&c[i], 0, sizeof(c[i]));
		c[i].peer = connect_from(NET_P, family, ip, port);
		if (i)
			conn_send(&c[i], 0, 20000);
		if (i == 2)
			shutdown(c[i].peer, SHUT_WR);
	}
	usleep(50000);
}

static void take_waiting(struct conn *c, int l)
{
	for (int i = 0; i < 3; i++) {
		struct pollfd p = { .fd = l, .events = POLLIN };

		assert_int_equal(poll(&p, 1, 10000), 1);
		c[i].own = accept(l, NULL, NULL);
		assert_true(c[i].own >= 0);
	}
	for (int i = 0; i < 3; i++) {
		conn_pump(&c[i], 1, MIB);
		if (i < 2)
			conn_pump(&c[i], 0, MIB);
		else
			conn_await_end(&c[i], 0);
		conn_close(&c[i]);
	}
}

static void test_accept_queue_travels(void **state)
{
	struct conn c4[3], c6[3];
	int l4, l6;

	(void)state;
	if (!tcp_pending_possible())
		return; /* before Linux 6.9 it is refused */
	net_start();
	l4 = listen_at(NET_A, AF_INET, "0.0.0.0", 7300, 0);
	l6 = listen_at(NET_A, AF_INET6, "::", 7301, 0);
	dial_waiting(c4, AF_INET, "10.9.0.2", 7300);
	dial_waiting(c6, AF_INET6, "fd09::2", 7301);
	net_move((int *const[]){ &l4, &l6 }, 2);
	take_waiting(c4, l4);
	take_waiting(c6, l6);
	close(l4);
	close(l6);
}

static void test_accept_queue_is_put_back_on_undo(void **state)
{
	struct conn c[3];
	int l;

	(void)state;
	if (!tcp_pending_possible())
		return;
	net_start();
	l = listen_at(NET_A, AF_INET6, "::", 7302, 0);
	dial_waiting(c, AF_INET, "10.9.0.2", 7302);
	net_undo((int *const[]){ &l }, 1);
	net_undo((int *const[]){ &l }, 1);
	take_waiting(c, l);
	close(l);
}

/* Go listens this way; clients without MPTCP get plain TCP connections. */
static void test_mptcp_listener_and_its_plain_connections(void **state)
{
	union sock_addr a;
	socklen_t len = net_address(&a, AF_INET, "0.0.0.0", 7400);
	struct conn c;
	int l;

	(void)state;
	net_start();
	net_enter(NET_A);
	l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 262 /* IPPROTO_MPTCP */);
	net_enter(NET_HOME);
	if (l < 0)
		return; /* not in this kernel */
	assert_int_equal(bind(l, &a.sa, len), 0);
	assert_int_equal(listen(l, 5), 0);
	conn_open(&c, l, AF_INET, "10.9.0.2");
	conn_send(&c, 0, 5000);
	net_move((int *const[]){ &c.own, &l }, 2);
	pump_both(&c, MIB);
	conn_close(&c);
	assert_int_equal(sock_opt_int(l, SOL_SOCKET, SO_PROTOCOL, 0), 262);
	conn_open(&c, l, AF_INET, "10.9.0.2");
	pump_both(&c, MIB);
	conn_close(&c);
	close(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_established_connection_goes_on, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_undone_dump_leaves_the_source_as_it_was, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_undo_ends_a_repair_mode_left_behind, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_full_queues_both_ways_with_zero_windows, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_sent_but_not_acknowledged_data_arrives, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_half_closed_by_the_container, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_closed_with_unsent_data, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_closed_by_the_peer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_fin_in_flight, setup, teardown),
		cmocka_unit_test_setup_teardown(test_both_fins_crossing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_last_ack, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ipv6_and_mapped_addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_connections_inside_the_container, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_thousand_connections, setup, teardown),
		cmocka_unit_test_setup_teardown(test_closed_and_dead_sockets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_handshake_under_way_completes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_options_are_carried, setup, teardown),
		cmocka_unit_test_setup_teardown(test_socket_bound_to_a_device, setup, teardown),
		cmocka_unit_test_setup_teardown(test_urgent_data_keeps_its_place, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reuseport_group_is_made_again, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_mptcp_listener_and_its_plain_connections,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_accept_queue_travels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_accept_queue_is_put_back_on_undo, setup,
						teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
