/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that nothing waits in, read by one pass (sock_idle.c): it notices every option
 * that a program may set, tells the same as the socket itself, and what it read arrives.
 */
#include "tests/unit/checkpoint/harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>

#include "runtime/checkpoint/sock_gate.h"
#include "runtime/checkpoint/sock_idle.h"
#include "runtime/checkpoint/sock_options.h"
#include "runtime/checkpoint/sock_tcp.h"

#define VALUE 64

struct pair {
	int fd[2]; /* client, server */
	int family;
};

static int pair_make(struct pair *p, int family)
{
	union sock_addr a = { 0 };
	socklen_t len = sizeof(a);
	int l = socket(family, SOCK_STREAM, 0), r;

	a.sa.sa_family = (sa_family_t)family;
	if (family == AF_INET)
		a.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		a.in6.sin6_addr = (struct in6_addr)IN6ADDR_LOOPBACK_INIT;
	p->family = family;
	p->fd[0] = socket(family, SOCK_STREAM, 0);
	r = bind(l, &a.sa, family == AF_INET ? sizeof(a.in) : sizeof(a.in6));
	if (r == 0)
		r = listen(l, 1);
	if (r == 0)
		r = getsockname(l, &a.sa, &len);
	if (r == 0)
		r = connect(p->fd[0], &a.sa, len);
	p->fd[1] = r == 0 ? accept(l, NULL, NULL) : -1;
	close(l);
	return p->fd[1] < 0 ? -errno : 0;
}

static struct ofd ofd_of(int fd)
{
	struct ofd o = { .id = 1, .fd = fd, .num = -1, .link = (char *)(uintptr_t) "socket" };

	assert_int_equal(fstat(fd, &o.st), 0);
	o.flags = fcntl(fd, F_GETFL);
	return o;
}

static socklen_t value_of(int fd, const struct sock_option_id *id, uint8_t *value)
{
	socklen_t len = VALUE;

	memset(value, 0, VALUE);
	return getsockopt(fd, id->level, id->name, value, &len) < 0 ? 0 : len;
}

/* Values that some option takes and another does not. */
static const struct candidate {
	socklen_t len;
	int v[4];
} candidates[] = {
	{ 4, { 1 } },
	{ 4, { 0 } },
	{ 4, { 2 } },
	{ 4, { 5 } },
	{ 4, { 16 } },
	{ 4, { 100 } },
	{ 4, { 1500 } },
	{ 4, { 20000 } },
	{ 8, { 1, 5 } },
	{ 8, { 16, 0 } },
	{ 8, { 123456, 0 } },
	{ 16, { 3, 0, 0, 0 } },
	{ 4, { 0x01000000 } },	  /* an interface, in network order */
	{ 4, { 0x00010101 } },	  /* IP_OPTIONS: three times nothing */
	{ 5, { 0x6f6e6572, 0 } }, /* "reno" */
};

/* Gives an option another value. False: none of those above changes it. */
static bool alter(int fd, const struct sock_option_id *id)
{
	uint8_t before[VALUE], after[VALUE];
	socklen_t n = value_of(fd, id, before);

	for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++)
		if (setsockopt(fd, id->level, id->name, candidates[i].v, candidates[i].len) == 0 &&
		    (value_of(fd, id, after) != n || memcmp(before, after, VALUE) != 0))
			return true;
	return false;
}

static bool key_of(int fd, struct buf *key)
{
	struct ofd o = ofd_of(fd);

	sock_idle_read(NULL);
	return sock_idle_key(&o, key);
}

static size_t check_options(int family)
{
	struct sock_option_id all[SOCK_OPTIONS_MAX];
	size_t n = sock_options_of_connection(family, all, SOCK_OPTIONS_MAX), altered = 0;

	for (size_t i = 0; i < n; i++) {
		CLEANUP_BUF struct buf before = { 0 }, after = { 0 };
		struct pair p;

		assert_int_equal(pair_make(&p, family), 0);
		assert_true(key_of(p.fd[0], &before));
		if (alter(p.fd[0], &all[i])) {
			altered++;
			/* one that is no ordinary connection any more is noticed too */
			if (key_of(p.fd[0], &after) && before.len == after.len &&
			    memcmp(before.data, after.data, after.len) == 0)
				fail_msg("option %d of level %d goes unnoticed", all[i].name,
					 all[i].level);
		}
		close(p.fd[0]);
		close(p.fd[1]);
	}
	return altered;
}

static bool able(void)
{
	sock_idle_enough = 0;
	if (sock_idle_load(1) == 0)
		return true;
	puts("# this kernel cannot: nothing to be tested");
	return false;
}

static int own_network(void **state)
{
	(void)state;
	return unshare(CLONE_NEWNET) < 0 || system("ip link set lo up") ? -1 : 0;
}

static void test_every_option_is_noticed(void **state)
{
	size_t v4, v6;

	(void)state;
	if (!able())
		return;
	v4 = check_options(AF_INET);
	v6 = check_options(AF_INET6);
	printf("# %zu options of IPv4 and %zu of IPv6 were changed, and noticed\n", v4, v6);
	assert_true(v4 >= 35 && v6 >= 45);
}

static Cks__Tcp *read_as(bool idle, const struct ofd *o)
{
	CLEANUP_BUF struct buf body = { 0 };
	struct error err = { 0 };
	struct ofd copy = *o;
	Cks__Tcp *m;

	sock_idle_forget();
	if (idle) {
		sock_idle_read(NULL);
		assert_int_equal(sock_idle_dump(NULL, o, &body, &err), 1);
	} else {
		assert_int_equal(tcp_dump(NULL, &copy, &body, &err), 0);
		sock_gate_close(false);
	}
	m = cks__tcp__unpack(NULL, body.len, (uint8_t *)body.data);
	assert_non_null(m);
	return m;
}

static void assert_same_address(const Cks__Address *a, const Cks__Address *b)
{
	assert_int_equal(a->family, b->family);
	assert_int_equal(a->port, b->port);
	assert_int_equal(a->ip.len, b->ip.len);
	assert_memory_equal(a->ip.data, b->ip.data, a->ip.len);
	assert_string_equal(a->interface, b->interface);
	assert_int_equal(a->flowinfo, b->flowinfo);
}

static void assert_same(const Cks__Tcp *a, const Cks__Tcp *b)
{
	const Cks__TcpSequence *s = a->seq, *t = b->seq;

	assert_int_equal(a->state, b->state);
	assert_int_equal(a->common->family, b->common->family);
	assert_int_equal(a->common->protocol, b->common->protocol);
	assert_int_equal(a->common->flags, b->common->flags);
	assert_int_equal(a->common->sndbuf, b->common->sndbuf);
	assert_int_equal(a->common->rcvbuf, b->common->rcvbuf);
	assert_int_equal(a->common->buf_lock, b->common->buf_lock);
	assert_int_equal(a->common->reuseaddr, b->common->reuseaddr);
	assert_int_equal(a->common->peek_off, b->common->peek_off);
	assert_same_address(a->common->local, b->common->local);
	assert_same_address(a->common->peer, b->common->peer);
	assert_int_equal(s->rcv_nxt, t->rcv_nxt);
	assert_int_equal(s->write_seq, t->write_seq);
	assert_int_equal(s->mss, t->mss);
	assert_int_equal(s->wscale_ok, t->wscale_ok);
	assert_int_equal(s->snd_wscale, t->snd_wscale);
	assert_int_equal(s->rcv_wscale, t->rcv_wscale);
	assert_int_equal(s->sack, t->sack);
	assert_int_equal(s->timestamps, t->timestamps);
	/* milliseconds, or microseconds where the lowest bit is set */
	assert_int_equal(s->timestamp & 1, t->timestamp & 1);
	assert_true(t->timestamp - s->timestamp < (s->timestamp & 1 ? 60000000u : 60000u));
	assert_int_equal(s->window->snd_wl1, t->window->snd_wl1);
	assert_int_equal(s->window->snd_wnd, t->window->snd_wnd);
	assert_int_equal(s->window->max_window, t->window->max_window);
	assert_int_equal(s->window->rcv_wnd, t->window->rcv_wnd);
	assert_int_equal(s->window->rcv_wup, t->window->rcv_wup);
}

static void test_it_tells_the_same_as_the_socket(void **state)
{
	static const int families[] = { AF_INET, AF_INET6 };
	int size = 300000, one = 1;
	char text[3000] = { 0 };

	(void)state;
	if (!able())
		return;
	for (size_t k = 0; k < 4; k++) {
		struct pair p;

		assert_int_equal(pair_make(&p, families[k % 2]), 0);
		if (k >= 2) {
			assert_int_equal(send(p.fd[0], text, sizeof(text), 0), sizeof(text));
			assert_int_equal(recv(p.fd[1], text, sizeof(text), MSG_WAITALL),
					 sizeof(text));
			setsockopt(p.fd[0], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
			setsockopt(p.fd[1], SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
			fcntl(p.fd[0], F_SETFL, O_NONBLOCK);
			/* what was sent is acknowledged 40 ms later at most */
			usleep(100000);
		}
		for (int i = 0; i < 2; i++) {
			struct ofd o = ofd_of(p.fd[i]);
			Cks__Tcp *a = read_as(true, &o), *b = read_as(false, &o);

			assert_same(a, b);
			cks__tcp__free_unpacked(a, NULL);
			cks__tcp__free_unpacked(b, NULL);
		}
		close(p.fd[0]);
		close(p.fd[1]);
	}
	sock_gate_detach();
}

static void test_what_waits_is_left_to_others(void **state)
{
	struct error err = { 0 };
	CLEANUP_BUF struct buf body = { 0 };
	struct ofd o;
	struct pair p;

	(void)state;
	if (!able())
		return;
	assert_int_equal(pair_make(&p, AF_INET), 0);
	assert_int_equal(send(p.fd[0], "x", 1, 0), 1);
	sock_idle_read(NULL);
	o = ofd_of(p.fd[1]);
	assert_false(sock_idle_has(&o));
	assert_int_equal(sock_idle_dump(NULL, &o, &body, &err), 0);
	/* a socket with the number of another is not taken for it */
	assert_int_equal(recv(p.fd[1], &(char){ 0 }, 1, 0), 1);
	sock_idle_read(NULL);
	assert_true(sock_idle_has(&o));
	o.fd = p.fd[0];
	assert_int_equal(sock_idle_dump(NULL, &o, &body, &err), 0);
	close(p.fd[0]);
	close(p.fd[1]);
}

/* --- through a migration ------------------------------------------------------------------ */
#define PAIRS 60

static void give_options(int fd, int i)
{
	struct linger linger = { 1, i };
	struct timeval time = { i + 1, 0 };
	int one = 1, ms = 1000 + i, size = 30000 + 1000 * i;

	if (i % 2)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (i % 3 == 1)
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	if (i % 5 == 1)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	if (i % 5 == 2)
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
	if (i % 7 == 3)
		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	if (i % 11 == 4)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if (i % 11 == 5)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (i % 11 == 6)
		fcntl(fd, F_SETFL, O_NONBLOCK);
}

struct seen {
	uint8_t options[SOCK_OPTIONS_MAX][VALUE];
	int sndbuf, rcvbuf, reuse, flags;
};

static void look(int fd, int family, struct seen *s)
{
	struct sock_option_id all[SOCK_OPTIONS_MAX];
	size_t n = sock_options_of_connection(family, all, SOCK_OPTIONS_MAX);

	memset(s, 0, sizeof(*s));
	/* a client's IPV6_V6ONLY is set where it is bound to its address, and means nothing */
	for (size_t i = 0; i < n; i++)
		if (all[i].level != IPPROTO_IPV6 || all[i].name != IPV6_V6ONLY)
			value_of(fd, &all[i], s->options[i]);
	s->sndbuf = sock_opt_int(fd, SOL_SOCKET, SO_SNDBUF, -1);
	s->rcvbuf = sock_opt_int(fd, SOL_SOCKET, SO_RCVBUF, -1);
	s->reuse = sock_opt_int(fd, SOL_SOCKET, SO_REUSEADDR, -1);
	s->flags = fcntl(fd, F_GETFL);
}

static int tell_difference(int i, int family, const struct seen *was, const struct seen *is)
{
	struct sock_option_id all[SOCK_OPTIONS_MAX];
	size_t n = sock_options_of_connection(family, all, SOCK_OPTIONS_MAX);

	for (size_t k = 0; k < n; k++)
		if (memcmp(was->options[k], is->options[k], VALUE) != 0)
			fprintf(stderr, "# socket %d: option %d of level %d is another\n", i,
				all[k].name, all[k].level);
	if (was->sndbuf != is->sndbuf || was->rcvbuf != is->rcvbuf || was->reuse != is->reuse ||
	    was->flags != is->flags)
		fprintf(stderr,
			"# socket %d: buffers %d and %d, were %d and %d; reuse %d, was %d; flags "
			"%#x, were %#x\n",
			i, is->sndbuf, is->rcvbuf, was->sndbuf, was->rcvbuf, is->reuse, was->reuse,
			(unsigned int)is->flags, (unsigned int)was->flags);
	return memcmp(was, is, sizeof(*was));
}

static int program(struct trial *t)
{
	struct pair *p = calloc(PAIRS, sizeof(*p));
	struct seen *s = calloc(2 * PAIRS, sizeof(*s)), now;
	char byte;

	for (int i = 0; i < PAIRS; i++) {
		CHECK(pair_make(&p[i], i % 4 == 3 ? AF_INET6 : AF_INET) == 0);
		give_options(p[i].fd[i % 2], i);
		if (i % 10 == 9)
			CHECK(send(p[i].fd[0], "q", 1, 0) == 1);
	}
	for (int i = 0; i < 2 * PAIRS; i++)
		look(p[i / 2].fd[i % 2], p[i / 2].family, &s[i]);
	trial_ready(t);
	trial_await(t);
	for (int i = 0; i < 2 * PAIRS; i++) {
		look(p[i / 2].fd[i % 2], p[i / 2].family, &now);
		CHECK(tell_difference(i, p[i / 2].family, &s[i], &now) == 0);
	}
	for (int i = 0; i < PAIRS; i++) {
		if (i % 10 == 9)
			CHECK(recv(p[i].fd[1], &byte, 1, MSG_WAITALL) == 1 && byte == 'q');
		for (int k = 0; k < 2; k++) {
			fcntl(p[i].fd[!k], F_SETFL, 0);
			CHECK(send(p[i].fd[k], "z", 1, 0) == 1);
			CHECK(recv(p[i].fd[!k], &byte, 1, MSG_WAITALL) == 1 && byte == 'z');
		}
	}
	return 0;
}

static void test_they_arrive_with_all_options(void **state)
{
	struct trial t = { .program = program, .setup = trial_lo_up };

	(void)state;
	if (TRIAL_SANITIZED)
		return;
	sock_idle_enough = 1;
	trial_run(&t, 0);
}

int main(void)
{
	/* the first one's program must not have maps of the others */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_they_arrive_with_all_options),
		cmocka_unit_test(test_every_option_is_noticed),
		cmocka_unit_test(test_it_tells_the_same_as_the_socket),
		cmocka_unit_test(test_what_waits_is_left_to_others),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, own_network, NULL);
}
