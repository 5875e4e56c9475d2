/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server with very many connections. What the blackout costs is printed and not judged:
 *
 *   SOCKETS=10000 build/tests/unit/checkpoint/test_sock_many
 */
#include "tests/unit/checkpoint/harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <time.h>

static int pairs(void)
{
	const char *n = getenv("SOCKETS");
	struct rlimit lim = { 0 };
	int want = n ? atoi(n) : 10000;

	getrlimit(RLIMIT_NOFILE, &lim);
	if ((rlim_t)want + 200 > lim.rlim_max)
		want = (int)lim.rlim_max - 200;
	return want / 2;
}

static int lo_up(struct trial *t, bool stub)
{
	(void)t;
	(void)stub;
	return system("ip link set lo up && ip addr add 10.77.0.2/24 dev lo") ? 97 : 0;
}

static int program(struct trial *t)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(80) };
	int l = socket(AF_INET, SOCK_STREAM, 0), n = pairs();
	int *fd = calloc((size_t)n * 2, sizeof(*fd)), got;

	inet_pton(AF_INET, "10.77.0.2", &a.sin_addr);
	CHECK(bind(l, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(l, 50) == 0);
	for (int i = 0; i < n; i++) {
		fd[2 * i] = socket(AF_INET, SOCK_STREAM, 0);
		CHECK(connect(fd[2 * i], (struct sockaddr *)&a, sizeof(a)) == 0);
		fd[2 * i + 1] = accept(l, NULL, NULL);
		CHECK(fd[2 * i + 1] >= 0);
		if (i % 10 == 0)
			CHECK(send(fd[2 * i], &i, sizeof(i), 0) == sizeof(i));
	}
	trial_ready(t);
	trial_await(t);
	for (int i = 0; i < n; i++) {
		if (i % 10 == 0)
			CHECK(recv(fd[2 * i + 1], &got, sizeof(got), MSG_WAITALL) == sizeof(got) &&
			      got == i);
		got = -i;
		CHECK(send(fd[2 * i + 1], &got, sizeof(got), 0) == sizeof(got));
	}
	for (int i = 0; i < n; i++)
		CHECK(recv(fd[2 * i], &got, sizeof(got), MSG_WAITALL) == sizeof(got) && got == -i);
	return 0;
}

static double ms(json_t *from, const char *a, const char *b, const char *c)
{
	json_t *o = json_object_get(from, a);

	o = b ? json_object_get(o, b) : o;
	o = c ? json_object_get(o, c) : o;
	return (double)json_integer_value(o) / 1e6;
}

/* Processor time of an engine, all its threads: what does not depend on what else runs. */
static double cpu_ms(pid_t engine)
{
	struct timespec t = { 0 };
	clockid_t id;

	if (clock_getcpuclockid(engine, &id) != 0 || clock_gettime(id, &t) != 0)
		return 0;
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void test_ten_thousand_sockets(void **state)
{
	struct trial t = { .program = program, .setup = lo_up, .no_verify = true };
	struct rlimit lim = { 0 }, full;
	json_t *ran = NULL;
	int r, status = -1, n = 2 * pairs();
	double source = 0, destination = 0, built = 0;
	double k = n / 1000.0;

	(void)state;
	getrlimit(RLIMIT_NOFILE, &lim);
	full = lim;
	full.rlim_cur = full.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &full), 0);
	trial_start(&t);
	trial_connect(&t);
	r = trial_precopy(&t);
	source = cpu_ms(t.engine_a);
	destination = cpu_ms(t.engine_b);
	if (r == 0)
		r = trial_step(&t, true, "freeze", NULL, NULL);
	if (r == 0)
		r = trial_step(&t, true, "dump", json_pack("{s:b}", "verify", 0), &t.dumped);
	if (r == 0)
		r = trial_step(&t, false, "wait_restored", NULL, &t.restored);
	source = cpu_ms(t.engine_a) - source;
	built = cpu_ms(t.engine_b);
	if (r == 0)
		r = trial_step(&t, true, "kill", NULL, NULL);
	if (r == 0)
		r = trial_step(&t, false, "run", NULL, &ran);
	t.migrated = r == 0;
	destination = built - destination;
	built = cpu_ms(t.engine_b) - built;
	if (r == 0)
		status = trial_finish(&t);
	printf("# %d TCP sockets; milliseconds for each 1,000:\n", n);
	printf("#   descriptors found   %6.1f\n", ms(t.dumped, "timings", "parts", "fds_ns") / k);
	printf("#   read                %6.1f\n", ms(t.dumped, "timings", "objects_ns", NULL) / k);
	printf("#   (dump in all)       %6.1f\n", ms(t.dumped, "timings", "total_ns", NULL) / k);
	printf("#   made, installed     %6.1f\n",
	       ms(t.restored, "timings", "objects_ns", NULL) / k);
	printf("#   … installed         %6.1f\n",
	       ms(t.restored, "timings", "install_ns", NULL) / k);
	printf("#   … late              %6.1f\n", ms(t.restored, "timings", "late_ns", NULL) / k);
	printf("#   (build in all)      %6.1f\n", ms(t.restored, "timings", "total_ns", NULL) / k);
	printf("#   released            %6.1f\n", ms(ran, "run_ns", NULL, NULL) / k);
	printf("#   processor at the source %.1f, at the destination %.1f, and to release %.1f\n",
	       source / k, destination / k, built / k);
	json_decref(ran);
	trial_clean(&t);
	setrlimit(RLIMIT_NOFILE, &lim);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
}

int main(void)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ten_thousand_sockets),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
