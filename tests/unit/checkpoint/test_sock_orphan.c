/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that no descriptor leads to, moved by two engines. */
#include "tests/unit/checkpoint/harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#define PAIRS 20
#define BYTES 1500000

/* The peer of what waits is gone here, and would end it with a reset but for rfc1337. */
static int lo_up(struct trial *t, bool stub)
{
	(void)t;
	(void)stub;
	return system("ip link set lo up mtu 1500 && ip addr add 10.77.0.2/24 dev lo && "
		      "echo 1 >/proc/sys/net/ipv4/tcp_rfc1337")
		       ? 97
		       : 0;
}

static int dial(int family, const struct sockaddr *a, socklen_t len)
{
	int s = socket(family, SOCK_STREAM, 0);

	return connect(s, a, len) < 0 ? -1 : s;
}

static char content(int k, size_t i)
{
	return (char)((size_t)k * 31 + i * 7 + i / 253);
}

/* As much as the queues take; the reader does not read. */
static size_t fill(int s, int k)
{
	static char buf[BYTES];
	size_t sent = 0;
	ssize_t n;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = content(k, i);
	while (sent < sizeof(buf) &&
	       (n = send(s, buf + sent, sizeof(buf) - sent, MSG_DONTWAIT)) > 0)
		sent += (size_t)n;
	return sent;
}

static int drain(int s, int k, size_t want)
{
	static char got[65536];
	size_t at = 0;

	for (;;) {
		struct pollfd p = { .fd = s, .events = POLLIN };
		ssize_t n;

		CHECK(poll(&p, 1, 15000) == 1);
		n = recv(s, got, sizeof(got), 0);
		CHECK(n >= 0);
		if (n == 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			CHECK(got[i] == content(k, at + (size_t)i));
		at += (size_t)n;
	}
	CHECK(at == want);
	return 0;
}

/* A server answers and closes, before the client has read. */
static int program_orphans(struct trial *t)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(80) };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons(81) };
	int l = socket(AF_INET, SOCK_STREAM, 0), l6 = socket(AF_INET6, SOCK_STREAM, 0);
	int client[PAIRS], small = 60000;
	size_t sent[PAIRS];

	inet_pton(AF_INET, "10.77.0.2", &a.sin_addr);
	a6.sin6_addr = in6addr_loopback;
	CHECK(bind(l, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(l, 50) == 0);
	CHECK(bind(l6, (struct sockaddr *)&a6, sizeof(a6)) == 0 && listen(l6, 50) == 0);
	for (int i = 0; i < PAIRS; i++) {
		bool v6 = i % 2;
		int s;

		client[i] = v6 ? dial(AF_INET6, (struct sockaddr *)&a6, sizeof(a6))
			       : dial(AF_INET, (struct sockaddr *)&a, sizeof(a));
		s = accept(v6 ? l6 : l, NULL, NULL);
		CHECK(client[i] >= 0 && s >= 0);
		setsockopt(client[i], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
		if (i % 4 >= 2) /* LAST_ACK instead of FIN_WAIT1 */
			shutdown(client[i], SHUT_WR);
		sent[i] = fill(s, i);
		CHECK(sent[i] > 10000);
		close(s);
	}
	usleep(50000);
	trial_ready(t);
	trial_await(t);
	for (int i = 0; i < PAIRS; i++)
		CHECK(drain(client[i], i, sent[i]) == 0);
	return 0;
}

static void test_closed_connections_deliver_what_they_had(void **state)
{
	struct trial t = { .program = program_orphans, .setup = lo_up };

	(void)state;
	trial_run(&t, 0);
}

/* The state as /proc/net/tcp has it of the connection from this port; 0: none. */
static unsigned int state_of_port(unsigned int local)
{
	char line[400];
	unsigned int found = 0, port, state;
	FILE *f = fopen("/proc/net/tcp", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, " %*u: %*x:%x %*x:%*x %x", &port, &state) == 2 && port == local)
			found = state;
	if (f)
		fclose(f);
	return found;
}

static int program_time_wait(struct trial *t)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(80) };
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM, 0), s, c;
	unsigned int port;
	char byte;

	inet_pton(AF_INET, "10.77.0.2", &a.sin_addr);
	CHECK(bind(l, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(l, 50) == 0);
	c = dial(AF_INET, (struct sockaddr *)&a, sizeof(a));
	s = accept(l, NULL, NULL);
	CHECK(c >= 0 && s >= 0 && getsockname(c, (struct sockaddr *)&a, &len) == 0);
	port = ntohs(a.sin_port);
	trial_ready(t);
	/* young at the freeze: closed only when the engines are there */
	while (!trial_told(t, "close"))
		usleep(1000);
	shutdown(c, SHUT_WR);
	CHECK(recv(s, &byte, 1, 0) == 0);
	close(s);
	close(c);
	for (int i = 0; i < 5000 && state_of_port(port) != 6; i++)
		usleep(1000);
	CHECK(state_of_port(port) == 6);
	trial_touch(t, "waits");
	trial_await(t);
	CHECK(state_of_port(port) == 6);
	return 0;
}

static bool waits(struct trial *t)
{
	return trial_told(t, "waits") || waitpid(t->a, NULL, WNOHANG | WNOWAIT) == t->a;
}

static void test_time_wait_goes_on_waiting(void **state)
{
	struct trial t = { .program = program_time_wait, .setup = lo_up };
	int moved, status;

	(void)state;
	trial_start(&t);
	trial_connect(&t);
	trial_touch(&t, "close");
	trial_sleep_until(waits, &t);
	moved = trial_migrate(&t);
	status = trial_finish(&t);
	trial_clean(&t);
	assert_int_equal(moved, 0);
	assert_int_equal(status, 0);
}

int main(void)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_closed_connections_deliver_what_they_had),
		cmocka_unit_test(test_time_wait_goes_on_waiting),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
