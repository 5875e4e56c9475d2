/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints in files: programs come back from them, and only from whole and signed ones. */
#include "tests/unit/checkpoint/harness.h"

#include <arpa/inet.h>
#include <libgen.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

static char folder[200]; /* of this program, and of the other tests */

/* The other tests' programs, each migration of which goes through a file instead. */
static void through_file(const char *name)
{
	CLEANUP_FREE char *path = str_format("%s/%s", folder, name);
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, 1);
		setenv("TRIAL_FILE", "1", 1);
		execl(path, path, NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define THROUGH_FILE(name)                                                                         \
	static void test_##name##_through_a_file(void **state)                                     \
	{                                                                                          \
		(void)state;                                                                       \
		through_file("test_" #name);                                                       \
	}
THROUGH_FILE(core)
THROUGH_FILE(mem)
THROUGH_FILE(obj_files)
THROUGH_FILE(obj_events)
THROUGH_FILE(obj_unix)
THROUGH_FILE(sock_move)

/* --- one that is left running ------------------------------------------------------------- */
/* Counts on; both copies find what the checkpoint found, and what they did themselves. */
static int counts(struct trial *t)
{
	volatile unsigned long before = 41, n = 0;
	char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int pipe_fds[2];
	char text[8] = "";

	if (pipe(pipe_fds) < 0 || write(pipe_fds[1], "queued", 6) != 6)
		return 1;
	strcpy(shared, "shared");
	before++;
	trial_ready(t);
	while (!trial_told(t, "go")) {
		n++;
		usleep(1000);
	}
	if (read(pipe_fds[0], text, sizeof(text)) != 6 || strcmp(text, "queued") != 0)
		return 2;
	if (strcmp(shared, "shared") != 0)
		return 3;
	strcpy(shared, "mine");
	return before == 42 && n > 0 ? 0 : 4;
}

static int status_of(pid_t *pid)
{
	int status = -1;

	for (int i = 0; i < 10000 && waitpid(*pid, &status, WNOHANG) != *pid; i++)
		usleep(2000);
	*pid = 0;
	return status;
}

static bool alive(pid_t pid)
{
	siginfo_t info = { 0 };

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && !info.si_pid;
}

static bool has_file(const struct trial *t, const char *name)
{
	return trial_told(t, name);
}

static void test_the_source_runs_on_and_copies_run_beside_it(void **state)
{
	struct trial t = { .program = counts };
	json_t *saved = NULL;
	int r;

	(void)state;
	trial_start(&t);
	r = trial_save(&t);
	assert_false(has_file(&t, "file"));
	if (r == 0)
		r = trial_step(&t, true, "resume", NULL, &saved);
	assert_true(r < 0 || json_is_true(json_object_get(saved, "saved")));
	assert_true(r < 0 || has_file(&t, "file"));
	json_decref(saved);
	if (r == 0)
		r = trial_load(&t, NULL);
	if (r == 0) {
		control_client_close(&t.ca);
		control_client_close(&t.cb);
		assert_true(alive(t.a) && alive(t.b));
		trial_touch(&t, "go");
		assert_int_equal(status_of(&t.b), 0);
		assert_int_equal(status_of(&t.a), 0);
	}
	trial_clean(&t);
	assert_int_equal(r, 0);
}

/* --- restored under another address --------------------------------------------------------- */
#define OLD	"10.77.0.2"
#define NEW	"10.77.0.9"
#define OUTSIDE "10.88.0.1" /* on the source's lo only */

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "# line %d: %s (errno %d)\n", __LINE__, #x, errno);        \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

static int other_addresses(struct trial *t, bool stub)
{
	/* with a way to the outside, and without */
	if (stub && t->arg && system("ip link set lo up && ip route add default dev lo") != 0)
		return 97;
	return system(stub ? "ip link set lo up && ip addr add " NEW "/24 dev lo"
			   : "ip link set lo up && ip addr add " OLD "/24 dev lo && "
			     "ip addr add " OUTSIDE "/24 dev lo")
		       ? 97
		       : 0;
}

static struct sockaddr_in at(const char *ip, int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

static int bound(int type, const char *ip, int port)
{
	struct sockaddr_in a = at(ip, port);
	int s = socket(AF_INET, type, 0), on = 1;

	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    (type == SOCK_STREAM && listen(s, 50) < 0))
		return -1;
	return s;
}

static int dial(const char *from, const char *ip, int port)
{
	struct sockaddr_in a = at(ip, port), me = at(from, 0);
	int s = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(s, (struct sockaddr *)&me, sizeof(me)) < 0 ||
	    connect(s, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -1;
	return s;
}

static bool is_at(int s, const char *ip, bool peer)
{
	struct sockaddr_in a = { 0 };
	socklen_t len = sizeof(a);
	char text[32];

	if ((peer ? getpeername : getsockname)(s, (struct sockaddr *)&a, &len) < 0)
		return false;
	return strcmp(inet_ntop(AF_INET, &a.sin_addr, text, sizeof(text)), ip) == 0;
}

/* The other end of a connection disappears without a word, as if it were on another host. */
static bool vanish(int s)
{
	int on = 1;

	return setsockopt(s, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) == 0 && close(s) == 0;
}

static bool talk(int a, int b)
{
	char text[8] = "";

	return send(a, "there", 5, 0) == 5 && recv(b, text, 8, 0) == 5 &&
	       send(b, "back", 4, 0) == 4 && recv(a, text, 8, 0) == 4;
}

static int moves(struct trial *t)
{
	int l = bound(SOCK_STREAM, OLD, 80), any = bound(SOCK_STREAM, "0.0.0.0", 81);
	int out = bound(SOCK_STREAM, OUTSIDE, 80), u = bound(SOCK_DGRAM, OLD, 53);
	int own_a = dial(OLD, OLD, 80), own_b = accept(l, NULL, NULL);
	int lo_a = dial("127.0.0.1", "127.0.0.1", 81), lo_b = accept(any, NULL, NULL);
	int there = dial(OLD, OUTSIDE, 80), gone = accept(out, NULL, NULL);
	int from = dial(OUTSIDE, OLD, 80), served = accept(l, NULL, NULL);
	int waits = dial(OUTSIDE, OLD, 80);
	struct pollfd p = { .fd = there, .events = POLLIN };
	char text[16] = "";

	CHECK(l >= 0 && any >= 0 && out >= 0 && u >= 0 && own_b >= 0 && lo_b >= 0);
	CHECK(there >= 0 && gone >= 0 && from >= 0 && served >= 0 && waits >= 0);
	CHECK(send(gone, "unread", 6, 0) == 6 && send(there, "lost", 4, 0) == 4);
	CHECK(send(own_a, "queued", 6, 0) == 6);
	CHECK(vanish(gone) && vanish(from) && vanish(waits) && close(out) == 0);
	trial_ready(t);
	trial_await(t);
	/* outside: what had come, then the reset */
	CHECK(is_at(there, NEW, false));
	CHECK(poll(&p, 1, 0) == 1 && (p.revents & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP));
	CHECK(recv(there, text, sizeof(text), 0) == 6 && memcmp(text, "unread", 6) == 0);
	CHECK(recv(there, text, sizeof(text), 0) < 0 && errno == ECONNRESET);
	CHECK(recv(there, text, sizeof(text), 0) == 0);
	CHECK(recv(served, text, sizeof(text), 0) < 0 && errno == ECONNRESET);
	/* its own: both ends, with what was on its way */
	CHECK(is_at(own_a, NEW, false) && is_at(own_a, NEW, true));
	CHECK(is_at(own_b, NEW, false) && is_at(own_b, NEW, true));
	CHECK(recv(own_b, text, sizeof(text), 0) == 6 && memcmp(text, "queued", 6) == 0);
	CHECK(talk(own_a, own_b) && talk(own_b, own_a));
	CHECK(is_at(lo_a, "127.0.0.1", true) && talk(lo_a, lo_b));
	/* listeners: nobody waits at the first, and both serve */
	CHECK(is_at(l, NEW, false) && is_at(any, "0.0.0.0", false) && is_at(u, NEW, false));
	p.fd = l;
	CHECK(poll(&p, 1, 0) == 0);
	CHECK((own_a = dial(NEW, NEW, 80)) >= 0 && (own_b = accept(l, NULL, NULL)) >= 0);
	CHECK(talk(own_a, own_b) && dial(NEW, NEW, 81) >= 0);
	return 0;
}

static json_t *new_addresses(void)
{
	return json_pack("{s:s,s:[{s:s,s:s}]}", "connections", "drop", "addresses", "old", OLD,
			 "new", NEW);
}

static void under_a_new_address(bool route)
{
	struct trial t = { .program = moves, .setup = other_addresses, .arg = route ? "" : NULL };
	int r, status = -1;

	trial_start(&t);
	r = trial_save(&t);
	if (r == 0)
		r = trial_step(&t, true, "kill", NULL, NULL);
	if (r == 0)
		r = trial_load(&t, new_addresses());
	if (r == 0)
		status = trial_finish(&t);
	trial_clean(&t);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
}

static void test_sockets_come_back_under_a_new_address(void **state)
{
	(void)state;
	under_a_new_address(true);
	under_a_new_address(false);
}

int main(int argc, char **argv)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_core_through_a_file),
		cmocka_unit_test(test_mem_through_a_file),
		cmocka_unit_test(test_obj_files_through_a_file),
		cmocka_unit_test(test_obj_events_through_a_file),
		cmocka_unit_test(test_obj_unix_through_a_file),
		cmocka_unit_test(test_sock_move_through_a_file),
		cmocka_unit_test(test_the_source_runs_on_and_copies_run_beside_it),
		cmocka_unit_test(test_sockets_come_back_under_a_new_address),
	};
	char self[200];

	(void)argc;
	snprintf(self, sizeof(self), "%s", argv[0]);
	snprintf(folder, sizeof(folder), "%s", dirname(self));
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
