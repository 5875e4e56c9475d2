/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration on one machine, without a container: a test program in fresh pid, mount,
 * net, ipc, uts and time namespaces and a freezer cgroup, a stub in another set, and two
 * engines that talk over a socket pair. Everything lives in this header, because each
 * tests/unit/checkpoint/test_*.c is linked as one file.
 *
 *   static int program(struct trial *t) {…}      runs as PID 1 of the "container"
 *     int x = 42;
 *     trial_ready(t);            tells the test that the state is made; goes on at once
 *     …                          work on, e.g. count
 *     trial_await(t);            returns when the test says so: after the migration
 *     return x == 42 ? 0 : 1;    the exit status the test sees
 *
 *   struct trial t = { .program = program };
 *   trial_start(&t);  trial_migrate(&t);  assert_int_equal(trial_finish(&t), 0);
 *
 * The program is told by a file in a folder that both sides see (t->dir), polled, so that
 * no descriptor is needed for it. fds 0, 1, 2 are externals. Use no library state in the
 * program that knows the pid of the parent; printf to stderr is fine.
 */
#ifndef FERRY_TEST_CHECKPOINT_HARNESS_H
#define FERRY_TEST_CHECKPOINT_HARNESS_H

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/str.h"
#include "base/tls.h"
#include "runtime/checkpoint/control.h"

/* Under a sanitizer the test program would carry terabytes of shadow memory along. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TRIAL_SANITIZED 1
#else
#define TRIAL_SANITIZED 0
#endif
/* First thing in main(): a TAP file that is skipped whole (cmocka's skip() reads as a failure). */
#define TRIAL_UNSANITIZED()                                                                        \
	do {                                                                                       \
		if (TRIAL_SANITIZED) {                                                             \
			puts("1..0 # SKIP sanitized programs cannot travel");                      \
			return 0;                                                                  \
		}                                                                                  \
	} while (0)

struct trial {
	int (*program)(struct trial *t);
	/* Runs in both sides' init before program or stub, e.g. to set up the network
	 * namespace (`ip link set lo up`); 0 or an exit status. NULL: nothing. */
	int (*setup)(struct trial *t, bool stub);
	bool no_precopy, no_verify;
	int lanes; /* further connections; 0: one, as engines have them by themselves; -1: none */
	bool keep_lane;
	int lane_end; /* of the first of them, where it is kept for the test to cut */
	void *arg;
	const char *file; /* trial_save() writes there instead of t->dir/file … */
	int save_fd;	  /* … or there; 0: no */
	/* set by the harness */
	char dir[64]; /* seen by both sides */
	char cg_a[128], cg_b[128];
	pid_t a, b; /* init of either side, in our pid namespace */
	pid_t engine_a, engine_b;
	struct control_client ca, cb;
	struct error err; /* of the step that failed */
	json_t *obstacles, *dumped, *restored, *precopied;
	bool migrated;
};

/* --- the program's side ------------------------------------------------------------------ */
static inline void trial_touch(const struct trial *t, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", t->dir, name);
	close(open(path, O_CREAT | O_WRONLY, 0600));
}

static inline bool trial_told(const struct trial *t, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", t->dir, name);
	return access(path, F_OK) == 0;
}

static inline void trial_ready(const struct trial *t)
{
	trial_touch(t, "ready");
}

static inline void trial_await(const struct trial *t)
{
	while (!trial_told(t, "go"))
		usleep(2000);
}

/* --- the test's side --------------------------------------------------------------------- */
static inline void trial_sleep_until(bool (*done)(struct trial *t), struct trial *t)
{
	for (int i = 0; i < 60000 && !done(t); i++) /* QEMU is slow */
		usleep(2000);
}

static inline bool trial_is_ready(struct trial *t)
{
	return trial_told(t, "ready") || waitpid(t->a, NULL, WNOHANG | WNOWAIT) == t->a;
}

static inline void trial_cgroup(char *path, size_t len, const char *side)
{
	const char *root = access("/sys/fs/cgroup/freezer/cgroup.procs", F_OK) == 0
				   ? "/sys/fs/cgroup/freezer"
				   : "/sys/fs/cgroup";

	char state[200];

	snprintf(path, len, "%s/fckpt-%d-%s", root, getpid(), side);
	if (mkdir(path, 0755) == 0)
		return;
	/* somebody of our pid has failed and left it frozen */
	snprintf(state, sizeof(state), "%s/%s", path,
		 strstr(root, "/freezer") ? "freezer.state" : "cgroup.freeze");
	file_write_str(state, strstr(root, "/freezer") ? "THAWED" : "0", NULL);
}

/* A process that is PID 1 of fresh namespaces, in the cgroup. */
static inline pid_t trial_spawn(struct trial *t, bool stub)
{
	const char *cg = stub ? t->cg_b : t->cg_a;
	int sync[2];
	pid_t pid;
	char byte = 0;

	if (pipe2(sync, O_CLOEXEC) < 0)
		return -1;
	pid = (pid_t)syscall(SYS_clone,
			     CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC |
				     CLONE_NEWUTS | SIGCHLD,
			     0, 0, 0, 0);
	if (pid == 0) {
		int r;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(sync[1]);
		if (read(sync[0], &byte, 1) != 1)
			_exit(120);
		close(sync[0]);
		close_range(3, ~0u, 0);
		/* cmocka catches these, and would run the rest of the tests in here. */
		for (int sig = 1; sig < 32; sig++)
			signal(sig, SIG_DFL);
		prctl(PR_SET_PDEATHSIG, 0);
		setsid();
		if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("proc", "/proc", "proc", 0, NULL) < 0)
			_exit(121);
		if (t->setup && (r = t->setup(t, stub)) != 0)
			_exit(r);
		if (stub) {
			trial_touch(t, "stub");
			for (;;)
				pause();
		}
		_exit(t->program(t));
	}
	close(sync[0]);
	if (pid > 0) {
		char path[200], num[16];

		snprintf(path, sizeof(path), "%s/cgroup.procs", cg);
		snprintf(num, sizeof(num), "%d", pid);
		file_write_str(path, num, NULL);
		if (write(sync[1], "g", 1) != 1)
			kill(pid, SIGKILL);
	}
	close(sync[1]);
	return pid;
}

/* Makes t->dir, where a test needs it before the program runs. */
static inline void trial_prepare(struct trial *t)
{
	snprintf(t->dir, sizeof(t->dir), "/tmp/fckpt-XXXXXX");
	assert_non_null(mkdtemp(t->dir));
}

static inline void trial_start(struct trial *t)
{
	if (!t->dir[0])
		trial_prepare(t);
	trial_cgroup(t->cg_a, sizeof(t->cg_a), "a");
	trial_cgroup(t->cg_b, sizeof(t->cg_b), "b");
	t->ca.sock = t->cb.sock = -1;
	t->a = trial_spawn(t, false);
	assert_true(t->a > 0);
	trial_sleep_until(trial_is_ready, t);
	assert_true(trial_told(t, "ready"));
}

/* Forks an engine; its end of the control socket and of the stream are inherited. */
/* The other side's ends of further connections: an engine must not hold them open. */
static int trial_foreign[16];
static size_t trial_nforeign;

static inline pid_t trial_engine(int *control, int stream, int other)
{
	int pair[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		close(other);
		for (size_t i = 0; i < trial_nforeign; i++)
			close(trial_foreign[i]);
		(void)stream;
		_exit(control_serve(pair[1]));
	}
	close(pair[1]);
	*control = pair[0];
	return pid;
}

static inline json_t *trial_externals(pid_t pid)
{
	json_t *list = json_array();

	for (int i = 0; i < 3; i++) {
		char path[64], to[256];
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, i);
		n = readlink(path, to, sizeof(to) - 1);
		if (n < 0)
			continue;
		to[n] = '\0';
		snprintf(path, sizeof(path), "std%d", i);
		json_array_append_new(list, json_pack("{s:s,s:s,s:i}", "link", to, "name", path,
						      "fd_of_stub", i));
	}
	return list;
}

static inline void trial_event(void *ctx, json_t *event)
{
	if (getenv("TRIAL_EVENTS")) {
		char *text = json_dumps(event, JSON_COMPACT);

		fprintf(stderr, "# %s\n", text);
		free(text);
	}
	(void)ctx;
}

static inline bool trial_stub_is_ready(struct trial *t)
{
	return trial_told(t, "stub") || waitpid(t->b, NULL, WNOHANG) == t->b;
}

/* The stub, set up: it is in pause(), or will be, and both are fine. */
static inline void trial_stub(struct trial *t)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/stub", t->dir);
	unlink(path);
	/* made before, and empty since: somebody may have tidied it up */
	trial_cgroup(t->cg_b, sizeof(t->cg_b), "b");
	t->b = trial_spawn(t, true);
	assert_true(t->b > 0);
	trial_sleep_until(trial_stub_is_ready, t);
	assert_true(trial_told(t, "stub"));
}

/* Engines and stub. After it: precopy, freeze, dump, … by control_call(). */
static inline void trial_connect(struct trial *t)
{
	size_t lanes = t->lanes < 0 ? 0 : t->lanes ? (size_t)t->lanes : 1;
	json_t *lane_fds[2] = { json_array(), json_array() };
	int pair[2], lane[16][2], r;

	trial_stub(t);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	for (size_t i = 0; i < lanes; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, lane[i]), 0);
		for (int side = 0; side < 2; side++)
			json_array_append_new(lane_fds[side], json_integer(lane[i][side]));
	}
	for (int side = 0; side < 2; side++) {
		for (size_t i = 0; i < lanes; i++)
			trial_foreign[i] = lane[i][!side];
		trial_nforeign = lanes;
		*(side ? &t->engine_b : &t->engine_a) =
			trial_engine(side ? &t->cb.sock : &t->ca.sock, pair[side], pair[!side]);
	}
	trial_nforeign = 0;
	t->ca.on_event = t->cb.on_event = trial_event;
	r = control_call(&t->cb, "prepare",
			 json_pack("{s:i,s:s,s:o,s:i,s:o,s:s}", "init_pid", t->b, "cgroup", t->cg_b,
				   "externals", trial_externals(t->b), "fd", pair[1], "lane_fds",
				   lane_fds[1], "token", "t"),
			 NULL, &t->err);
	if (r == 0)
		r = control_call(&t->cb, "storage_ready", NULL, NULL, &t->err);
	if (r == 0)
		r = control_call(&t->ca, "connect",
				 json_pack("{s:s,s:i,s:o,s:i,s:o,s:s}", "cgroup", t->cg_a,
					   "init_pid", t->a, "externals", trial_externals(t->a),
					   "fd", pair[0], "lane_fds", lane_fds[0], "token", "t"),
				 NULL, &t->err);
	close(pair[0]);
	close(pair[1]);
	if (t->keep_lane)
		t->lane_end = fcntl(lane[0][0], F_DUPFD_CLOEXEC, 10);
	for (size_t i = 0; i < lanes; i++) {
		close(lane[i][0]);
		close(lane[i][1]);
	}
	if (r)
		fprintf(stderr, "# connecting: %s\n", t->err.msg);
	assert_int_equal(r, 0);
}

/* The obstacles of a preflight, in t->obstacles. Before trial_connect() or after. */
static inline int trial_check(struct trial *t)
{
	json_t *answer = NULL;
	bool own = t->ca.sock < 0;
	int r;

	if (own)
		t->engine_a = trial_engine(&t->ca.sock, -1, -1);
	r = control_call(&t->ca, "check",
			 json_pack("{s:s,s:i,s:o}", "cgroup", t->cg_a, "init_pid", t->a,
				   "externals", trial_externals(t->a)),
			 &answer, &t->err);
	if (answer) {
		json_decref(t->obstacles);
		t->obstacles = json_incref(json_object_get(answer, "obstacles"));
		json_decref(answer);
	}
	if (own) {
		control_client_close(&t->ca);
		process_wait(t->engine_a, &(int){ 0 });
		t->engine_a = 0;
	}
	return r;
}

static inline int trial_step(struct trial *t, bool source, const char *op, json_t *args,
			     json_t **out)
{
	json_t *answer = NULL;
	int r = control_call(source ? &t->ca : &t->cb, op, args, &answer, &t->err);

	if (r < 0)
		fprintf(stderr, "# %s: %s\n", op, t->err.msg);
	if (getenv("TRIAL_EVENTS") && answer) {
		char *text = json_dumps(answer, JSON_COMPACT);

		fprintf(stderr, "# %s: %s\n", op, text);
		free(text);
	}
	if (out) {
		json_decref(*out);
		*out = answer;
	} else {
		json_decref(answer);
	}
	return r;
}

static inline int trial_precopy(struct trial *t)
{
	return trial_step(t, true, "precopy",
			  json_pack("{s:I,s:I,s:s}", "downtime_ns", (json_int_t)200000000,
				    "timeout_ns", (json_int_t)10000000000, "on_timeout", "go"),
			  &t->precopied);
}

/* --- through a file ------------------------------------------------------------------------ */
/* A host's key and certificate and its cluster's CA: key.pem, cert.pem, ca.pem in `dir`. */
static inline void trial_identity(const char *dir, const char *host)
{
	char *ca = NULL, *ca_key = NULL, *key = NULL, *csr = NULL, *cert = NULL;
	struct error err = { 0 };

	assert_int_equal(tls_ca_create("test", 1, &ca, &ca_key, &err), 0);
	assert_int_equal(tls_key_create(&key, &err), 0);
	assert_int_equal(tls_csr_create(key, host, &csr, &err), 0);
	assert_int_equal(tls_csr_sign(ca, ca_key, csr, host, NULL, 1, &cert, &err), 0);
	for (int i = 0; i < 3; i++) {
		const char *const name[] = { "key.pem", "cert.pem", "ca.pem" };
		const char *text = i == 0 ? key : i == 1 ? cert : ca;
		CLEANUP_FREE char *path = str_format("%s/%s", dir, name[i]);

		assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, &err), 0);
	}
	free(ca);
	free(ca_key);
	free(key);
	free(csr);
	free(cert);
}

/* The source's engine, told to save into t->dir/file; precopy, freeze, dump may follow. */
static inline int trial_save_begin(struct trial *t)
{
	CLEANUP_FREE char *key = str_format("%s/key.pem", t->dir);
	CLEANUP_FREE char *cert = str_format("%s/cert.pem", t->dir);
	CLEANUP_FREE char *path = t->file ? str_dup(t->file) : str_format("%s/file", t->dir);
	json_t *args = json_pack("{s:s,s:i,s:o,s:s,s:s}", "cgroup", t->cg_a, "init_pid", t->a,
				 "externals", trial_externals(t->a), "key", key, "cert", cert);

	if (access(key, F_OK) < 0)
		trial_identity(t->dir, "host-a");
	if (t->save_fd)
		json_object_set_new(args, "fd", json_integer(t->save_fd));
	else
		json_object_set_new(args, "path", json_string(path));
	t->engine_a = trial_engine(&t->ca.sock, -1, -1);
	t->ca.on_event = trial_event;
	return trial_step(t, true, "save", args, NULL);
}

/* All of it up to the answer of dump: `resume` or `kill` has to follow. */
static inline int trial_save(struct trial *t)
{
	int r = trial_save_begin(t);

	if (r == 0 && !t->no_precopy)
		r = trial_precopy(t);
	if (r == 0)
		r = trial_step(t, true, "freeze", NULL, NULL);
	if (r == 0)
		r = trial_step(t, true, "dump", json_pack("{s:b}", "verify", !t->no_verify),
			       &t->dumped);
	return r;
}

/* The destination's engine; `load` and `more` (may be NULL) are taken over. */
static inline int trial_load_begin(struct trial *t, json_t *load, json_t *more)
{
	json_t *args = more ? more : json_object();

	trial_stub(t);
	t->engine_b = trial_engine(&t->cb.sock, -1, -1);
	t->cb.on_event = trial_event;
	json_object_set_new(args, "init_pid", json_integer(t->b));
	json_object_set_new(args, "cgroup", json_string(t->cg_b));
	json_object_set_new(args, "externals", trial_externals(t->b));
	json_object_set_new(args, "load", load);
	return trial_step(t, false, "prepare", args, NULL);
}

/* From t->dir/file, until it runs. */
static inline int trial_load(struct trial *t, json_t *more)
{
	CLEANUP_FREE char *ca = str_format("%s/ca.pem", t->dir);
	CLEANUP_FREE char *path = str_format("%s/file", t->dir);
	int r = trial_load_begin(t, json_pack("{s:s,s:s}", "path", path, "ca", ca), more);

	if (r == 0)
		r = trial_step(t, false, "storage_ready", NULL, NULL);
	if (r == 0)
		r = trial_step(t, false, "wait_restored", NULL, &t->restored);
	if (r == 0)
		r = trial_step(t, false, "run", NULL, NULL);
	t->migrated = r == 0;
	return r;
}

static inline int trial_through_file(struct trial *t)
{
	int r = trial_save(t);

	if (r == 0)
		r = trial_step(t, true, "kill", NULL, NULL);
	return r < 0 ? r : trial_load(t, NULL);
}

/*
 * All of it; the program runs on in the stub's namespaces. 0, or -errno with t->err. With
 * TRIAL_FILE in the environment it goes through a file, and the source has ended before the
 * destination begins (test_file.c runs other tests so).
 */
static inline int trial_migrate(struct trial *t)
{
	int r;

	if (!t->engine_b && getenv("TRIAL_FILE"))
		return trial_through_file(t);
	if (!t->engine_b)
		trial_connect(t);
	r = t->no_precopy ? 0 : trial_precopy(t);
	if (r == 0)
		r = trial_step(t, true, "freeze", NULL, NULL);
	if (r == 0)
		r = trial_step(t, true, "dump", json_pack("{s:b}", "verify", !t->no_verify),
			       &t->dumped);
	if (r == 0)
		r = trial_step(t, false, "wait_restored", NULL, &t->restored);
	if (r == 0)
		r = trial_step(t, true, "kill", NULL, NULL);
	if (r == 0)
		r = trial_step(t, false, "run", NULL, NULL);
	t->migrated = r == 0;
	return r;
}

/* Lets the program go on and gives its exit status (128 + signal where it was killed). */
static inline int trial_finish(struct trial *t)
{
	pid_t pid = t->migrated ? t->b : t->a;
	int status = 0, i;

	control_client_close(&t->ca);
	control_client_close(&t->cb);
	trial_touch(t, "go");
	for (i = 0; i < 10000; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			break;
		usleep(2000);
	}
	if (i == 10000) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		fprintf(stderr, "# the program did not come to its end\n");
	}
	if (pid == t->a)
		t->a = 0;
	else
		t->b = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Removes everything; call it always, e.g. as cmocka's teardown. */
static inline void trial_clean(struct trial *t)
{
	int status;

	control_client_close(&t->ca);
	control_client_close(&t->cb);
	for (pid_t *p = &t->engine_a; p; p = p == &t->engine_a ? &t->engine_b : NULL)
		if (*p > 0) {
			/* It ends by itself when its control socket closes. */
			for (int i = 0; i < 5000 && waitpid(*p, &status, WNOHANG) == 0; i++)
				usleep(1000);
			kill(*p, SIGKILL);
			waitpid(*p, &status, 0);
			*p = 0;
		}
	for (int k = 0; k < 2; k++) {
		char path[200];
		pid_t *p = k ? &t->b : &t->a;

		snprintf(path, sizeof(path), "%s/%s", k ? t->cg_b : t->cg_a,
			 strstr(t->cg_a, "/freezer/") ? "freezer.state" : "cgroup.freeze");
		if (*p > 0)
			kill(*p, SIGKILL);
		file_write_str(path, strstr(path, "/freezer/") ? "THAWED" : "0", NULL);
		if (*p > 0)
			waitpid(*p, &status, 0);
		*p = 0;
		for (int i = 0; i < 2000 && rmdir(k ? t->cg_b : t->cg_a) < 0 && errno == EBUSY; i++)
			usleep(1000);
	}
	if (t->lane_end > 0)
		close(t->lane_end);
	t->lane_end = 0;
	dir_remove(t->dir, NULL);
	json_decref(t->obstacles);
	json_decref(t->dumped);
	json_decref(t->restored);
	json_decref(t->precopied);
	t->obstacles = t->dumped = t->restored = t->precopied = NULL;
}

/* Start, migrate with verify, finish, clean; the usual test. */
static inline void trial_run(struct trial *t, int expect)
{
	int r, status = -1;

	if (TRIAL_SANITIZED) {
		skip();
		return;
	}
	trial_start(t);
	r = trial_migrate(t);
	if (r == 0)
		status = trial_finish(t);
	trial_clean(t);
	assert_int_equal(r, 0);
	assert_int_equal(status, expect);
}

/* For programs: says what was not so, and ends with 1. */
#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "# line %d: %s (errno %d)\n", __LINE__, #x, errno);        \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

/* A setup: the loopback device, on both sides. */
static inline int trial_lo_up(struct trial *t, bool stub)
{
	(void)t;
	(void)stub;
	return system("ip link set lo up") ? 97 : 0;
}

#endif
