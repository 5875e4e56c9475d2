/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets of a whole container, moved by two engines. */
#include "tests/unit/checkpoint/harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <poll.h>

static int lo_up(struct trial *t, bool stub)
{
	(void)t;
	(void)stub;
	return system("ip link set lo up && ip addr add 10.77.0.2/24 dev lo") ? 97 : 0;
}

static struct sockaddr_in at(const char *ip, int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

static int listener(const char *ip, int port)
{
	struct sockaddr_in a = at(ip, port);
	int s = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(s, 50) < 0)
		return -1;
	return s;
}

static int dial(const char *ip, int port)
{
	struct sockaddr_in a = at(ip, port);
	int s = socket(AF_INET, SOCK_STREAM, 0);

	return connect(s, (struct sockaddr *)&a, sizeof(a)) < 0 ? -1 : s;
}

static int all(int fd, char *buf, size_t n, bool out)
{
	for (size_t at_ = 0; at_ < n;) {
		ssize_t r = out ? send(fd, buf + at_, n - at_, 0) : recv(fd, buf + at_, n - at_, 0);

		if (r <= 0)
			return -1;
		at_ += (size_t)r;
	}
	return 0;
}

static char big[300000], got[300000];

static int program_tcp(struct trial *t)
{
	int l = listener("10.77.0.2", 80), a = dial("10.77.0.2", 80), b = accept(l, NULL, NULL);
	int c, d, ep = epoll_create1(0);
	struct epoll_event e = { .events = EPOLLIN, .data.u32 = 5 };

	CHECK(l >= 0 && a >= 0 && b >= 0);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7 + i / 255);
	CHECK(all(a, big, 50000, true) == 0);
	CHECK(all(b, big, 1000, true) == 0);
	epoll_ctl(ep, EPOLL_CTL_ADD, l, &e);
	fcntl(l, F_SETFL, O_NONBLOCK);
	trial_ready(t);
	trial_await(t);
	CHECK(all(b, got, 50000, false) == 0 && memcmp(got, big, 50000) == 0);
	CHECK(all(a, got, 1000, false) == 0 && memcmp(got, big, 1000) == 0);
	if (fork() == 0) {
		all(a, big, sizeof(big), true);
		shutdown(a, SHUT_WR);
		_exit(0);
	}
	close(a);
	CHECK(all(b, got, sizeof(got), false) == 0 && memcmp(got, big, sizeof(got)) == 0);
	CHECK(recv(b, got, 1, 0) == 0);
	/* the listener still listens, and epoll sees it */
	CHECK(epoll_wait(ep, &e, 1, 0) == 0);
	c = dial("10.77.0.2", 80);
	CHECK(c >= 0 && epoll_wait(ep, &e, 1, 5000) == 1 && e.data.u32 == 5);
	d = accept(l, NULL, NULL);
	CHECK(d >= 0 && all(c, big, 5000, true) == 0 && all(d, got, 5000, false) == 0);
	return 0;
}

static void test_tcp_inside_the_container(void **state)
{
	struct trial t = { .program = program_tcp, .setup = lo_up };

	(void)state;
	trial_run(&t, 0);
}

static int program_blocked(struct trial *t)
{
	int l = listener("127.0.0.1", 81), a = dial("127.0.0.1", 81), b = accept(l, NULL, NULL);
	pid_t child;
	char byte = 0;
	int status;

	CHECK(l >= 0 && a >= 0 && b >= 0);
	child = fork();
	if (child == 0) {
		/* frozen in accept() and in recv() */
		int c = accept(l, NULL, NULL);

		_exit(c >= 0 && recv(b, &byte, 1, 0) == 1 && byte == 'x' ? 0 : 1);
	}
	usleep(20000);
	trial_ready(t);
	trial_await(t);
	CHECK(dial("127.0.0.1", 81) >= 0);
	CHECK(send(a, "x", 1, 0) == 1);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	return 0;
}

static void test_tasks_blocked_in_socket_calls_go_on(void **state)
{
	struct trial t = { .program = program_blocked, .setup = lo_up };

	(void)state;
	trial_run(&t, 0);
}

static int program_udp(struct trial *t)
{
	struct sockaddr_in a = at("0.0.0.0", 53), b = at("127.0.0.1", 53), from = { 0 };
	socklen_t len = sizeof(from);
	int s = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
	char buf[100];

	CHECK(bind(s, (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK(connect(c, (struct sockaddr *)&b, sizeof(b)) == 0);
	CHECK(send(c, "before", 6, 0) == 6);
	usleep(10000);
	trial_ready(t);
	trial_await(t);
	CHECK(recvfrom(s, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&from, &len) == 6);
	CHECK(memcmp(buf, "before", 6) == 0);
	CHECK(sendto(s, "answer", 6, 0, (struct sockaddr *)&from, len) == 6);
	CHECK(recv(c, buf, sizeof(buf), 0) == 6);
	return 0;
}

static void test_udp_inside_the_container(void **state)
{
	struct trial t = { .program = program_udp, .setup = lo_up };

	(void)state;
	trial_run(&t, 0);
}

static int program_netlink(struct trial *t)
{
	int s = socket(AF_NETLINK, SOCK_RAW, 4);

	CHECK(s >= 0 && socket(AF_NETLINK, SOCK_RAW, 12 /* netfilter */) >= 0);
	trial_ready(t);
	trial_await(t);
	return 0;
}

static void test_preflight_names_sockets_that_cannot_travel(void **state)
{
	struct trial t = { .program = program_netlink, .setup = lo_up };
	json_t *o;
	int r, status;

	(void)state;
	trial_start(&t);
	r = trial_check(&t);
	o = json_array_get(t.obstacles, 0);
	if (r == 0 && o) {
		assert_int_equal(json_array_size(t.obstacles), 1);
		assert_int_equal(json_integer_value(json_object_get(o, "pid")), 1);
		assert_non_null(strstr(json_string_value(json_object_get(o, "object")), "netlink"));
		assert_non_null(strstr(json_string_value(json_object_get(o, "why")), "netfilter"));
	}
	status = trial_finish(&t);
	trial_clean(&t);
	assert_int_equal(r, 0);
	assert_non_null(o);
	assert_int_equal(status, 0);
}

int main(void)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp_inside_the_container),
		cmocka_unit_test(test_tasks_blocked_in_socket_calls_go_on),
		cmocka_unit_test(test_udp_inside_the_container),
		cmocka_unit_test(test_preflight_names_sockets_that_cannot_travel),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
