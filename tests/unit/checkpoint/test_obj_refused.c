/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preflight names what cannot travel: process, descriptor, object, why, what to do; it
 * changes nothing, and a program without such objects has no obstacle. Also: what waits
 * in the container's stdin, which is the shim's pipe.
 */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>

#include <sys/fanotify.h>

#include "tests/unit/checkpoint/harness.h"

#define WANT(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "# %s:%d: %s: %s\n", __func__, __LINE__, #x,               \
				strerror(errno));                                                  \
			return __LINE__ % 100 + 1;                                                 \
		}                                                                                  \
	} while (0)

/* Of the test that runs: cleaned by the teardown, also where an assertion failed. */
static struct trial trial;

static int teardown(void **state)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	if (trial.dir[0])
		trial_clean(&trial);
	memset(&trial, 0, sizeof(trial));
	dup2(null, 0);
	close(null);
	return 0;
}

/* The obstacle for this descriptor, or NULL; borrowed. */
static json_t *obstacle(struct trial *t, int fd)
{
	size_t i;
	json_t *o;

	json_array_foreach (t->obstacles, i, o)
		if (json_integer_value(json_object_get(o, "fd")) == fd)
			return o;
	return NULL;
}

static void names_all(json_t *o)
{
	static const char *const keys[] = { "object", "why", "remedy" };

	assert_non_null(o);
	assert_int_equal(json_integer_value(json_object_get(o, "pid")), 1);
	for (int i = 0; i < 3; i++) {
		const char *s = json_string_value(json_object_get(o, keys[i]));

		assert_true(s && *s);
	}
}

enum { FD_URING = 100, FD_UFFD, FD_LEASE, FD_DEV, FD_FANOTIFY };

static void move(int fd, int to)
{
	if (fd < 0)
		return;
	dup2(fd, to);
	close(fd);
}

static int refused(struct trial *t)
{
	struct {
		uint32_t x[30];
	} params;
	int fd;

	memset(&params, 0, sizeof(params));
	fd = (int)syscall(425 /* io_uring_setup */, 4, &params);
	move(fd, FD_URING);
	fd = (int)syscall(323 /* userfaultfd */, O_CLOEXEC);
	move(fd, FD_UFFD);
	/* without a name: its content would have to be read, which breaks the lease */
	fd = open(t->dir, O_RDWR | O_TMPFILE, 0600);
	if (fcntl(fd, F_SETLEASE, F_WRLCK) == 0)
		move(fd, FD_LEASE);
	fd = open("/dev/loop-control", O_RDWR);
	move(fd, FD_DEV);
	fd = fanotify_init(FAN_CLASS_NOTIF, O_RDONLY);
	move(fd, FD_FANOTIFY);
	trial_ready(t);
	trial_await(t);
	return 0;
}

static bool holds(const struct trial *t, int fd)
{
	char path[64], to[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", t->a, fd);
	return readlink(path, to, sizeof(to)) > 0;
}

static void test_what_cannot_travel_is_named(void **state)
{
	struct trial *t = &trial;
	int r, status, seen = 0;

	(void)state;
	t->program = refused;
	trial_start(t);
	r = trial_check(t);
	assert_int_equal(r, 0);
	for (int fd = FD_URING; fd <= FD_FANOTIFY; fd++)
		if (holds(t, fd)) {
			names_all(obstacle(t, fd));
			seen++;
		}
	assert_true(seen >= 2);
	/* preflight has disturbed nothing: the lease is still there, the program ends well */
	status = trial_finish(t);
	assert_int_equal(status, 0);
}

static int outsiders(struct trial *t)
{
	trial_ready(t);
	trial_await(t);
	return 0;
}

static void test_a_connection_to_the_host_is_named(void **state)
{
	struct trial *t = &trial;
	int r, status, outside[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, outside), 0);
	r = dup2(outside[0], 0);
	assert_int_equal(r, 0);
	t->program = outsiders;
	trial_start(t);
	/* fd 0 is not declared as an external here: its other end is this test's */
	t->engine_a = trial_engine(&t->ca.sock, -1, -1);
	{
		json_t *answer = NULL;

		r = control_call(&t->ca, "check",
				 json_pack("{s:s,s:i,s:[]}", "cgroup", t->cg_a, "init_pid", t->a,
					   "externals"),
				 &answer, &t->err);
		assert_int_equal(r, 0);
		t->obstacles = json_incref(json_object_get(answer, "obstacles"));
		json_decref(answer);
	}
	names_all(obstacle(t, 0));
	status = trial_finish(t);
	close(outside[0]);
	close(outside[1]);
	assert_int_equal(status, 0);
}

static int harmless(struct trial *t)
{
	int ep = epoll_create1(0), p[2], s[2];
	struct epoll_event e = { .events = EPOLLIN };

	WANT(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	WANT(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e) == 0 &&
	     epoll_ctl(ep, EPOLL_CTL_ADD, s[0], &e) == 0);
	WANT(eventfd(0, 0) >= 0 && timerfd_create(CLOCK_MONOTONIC, 0) >= 0);
	WANT(inotify_add_watch(inotify_init(), t->dir, IN_CREATE) > 0);
	WANT(write(s[1], "in the queue", 12) == 12 && open(t->dir, O_RDONLY) >= 0);
	WANT(open("/dev/null", O_RDWR) >= 0 && memfd_create("m", 0) >= 0);
	trial_ready(t);
	trial_await(t);
	return 0;
}

static void test_ordinary_objects_are_no_obstacles(void **state)
{
	struct trial *t = &trial;
	int r, status;
	size_t n;

	(void)state;
	t->program = harmless;
	trial_start(t);
	r = trial_check(t);
	assert_int_equal(r, 0);
	n = json_array_size(t->obstacles);
	if (n) {
		char *text = json_dumps(t->obstacles, JSON_COMPACT);

		fprintf(stderr, "# %s\n", text);
		free(text);
	}
	status = trial_finish(t);
	assert_int_equal(n, 0);
	assert_int_equal(status, 0);
}

static int reads_stdin(struct trial *t)
{
	char buf[32] = "";

	trial_ready(t);
	trial_await(t);
	WANT(read(0, buf, sizeof(buf)) == 16);
	return memcmp(buf, "typed, not read!", 16) == 0 ? 0 : 1;
}

static void test_unread_stdin_travels(void **state)
{
	struct trial *t = &trial;
	int a[2], b[2], r, status = -1;

	(void)state;
	assert_int_equal(pipe2(a, O_CLOEXEC), 0);
	assert_int_equal(pipe2(b, O_CLOEXEC), 0);
	dup2(a[0], 0);
	t->program = reads_stdin;
	trial_start(t);
	assert_int_equal(write(a[1], "typed, not read!", 16), 16);
	dup2(b[0], 0);
	r = trial_migrate(t);
	if (r == 0)
		status = trial_finish(t);
	for (int i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
}

int main(void)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_what_cannot_travel_is_named, teardown),
		cmocka_unit_test_teardown(test_a_connection_to_the_host_is_named, teardown),
		cmocka_unit_test_teardown(test_ordinary_objects_are_no_obstacles, teardown),
		cmocka_unit_test_teardown(test_unread_stdin_travels, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
