/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime/container/container.h on real containers: a busybox layer, ferry-oci and
 * ferry-shim from the build folder, no network. Each test makes its own containers and
 * removes them; the group teardown removes what a failed one left.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/container/container.h"
#include "runtime/container/shim.h"

#define PATIENCE_NS 30000000000

static char *base, *layer, *bin, *parent;
static struct container_manager *m;
static struct error err;

#define ok(call)                                                                                   \
	do {                                                                                       \
		int ok_r = (call);                                                                 \
		if (ok_r < 0)                                                                      \
			fail_msg("%s: %d %s", #call, ok_r, err.msg);                               \
	} while (0)

/* --- fixture ----------------------------------------------------------------------------- */

static char *program_folder(void)
{
	char self[PATH_MAX] = "";
	char *p;

	if (getenv("FERRY_BIN"))
		return str_dup(getenv("FERRY_BIN"));
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	p = strstr(self, "/tests/unit/");
	assert_non_null(p);
	*p = '\0';
	return str_dup(self);
}

static void make_layer(void)
{
	static const char *const dirs[] = {
		"bin", "etc", "proc", "sys", "dev", "tmp", "data", "usr"
	};
	static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
				     "web:x:33:44:web:/srv:/bin/sh\n";
	static const char group[] = "root:x:0:\nweb:x:44:\nlogs:x:55:web\n";
	const char *const install[] = { "/bin/busybox", "--install", "-s", NULL, NULL };
	const char *argv[5];
	CLEANUP_FREE char *bb = str_format("%s/bin/busybox", layer), *path = NULL, *path2 = NULL;
	CLEANUP_FREE char *b = str_format("%s/bin", layer), *marker = NULL, *link = NULL;
	const char *const cp[] = { "cp", "/bin/busybox", bb, NULL };

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		CLEANUP_FREE char *d = str_format("%s/%s", layer, dirs[i]);

		ok(dir_make(d, 0755, &err));
	}
	ok(process_run(cp, NULL, &err));
	memcpy(argv, install, sizeof(argv));
	argv[3] = b;
	ok(process_run(argv, NULL, &err));
	/* It links to where it is itself: /usr/bin/busybox where /bin is a link. */
	link = str_format("%s/usr/bin", layer);
	assert_int_equal(symlink("../bin", link), 0);
	path = str_format("%s/etc/passwd", layer);
	path2 = str_format("%s/etc/group", layer);
	marker = str_format("%s/data/seed", layer);
	ok(file_write_atomic(path, passwd, strlen(passwd), 0644, &err));
	ok(file_write_atomic(path2, group, strlen(group), 0644, &err));
	ok(file_write_atomic(marker, "seed\n", 5, 0640, &err));
	free(path);
	path = str_format("%s/data", layer);
	assert_int_equal(chown(path, 33, 44), 0);
}

static void open_manager(void)
{
	CLEANUP_FREE char *run = str_format("%s/run", base), *state = str_format("%s/state", base);
	CLEANUP_FREE char *oci = str_format("%s/ferry-oci", bin);
	CLEANUP_FREE char *shim = str_format("%s/ferry-shim", bin);
	struct container_config cfg = { run, state, oci, shim, parent };

	ok(container_manager_open(&cfg, &m, &err));
}

static int setup(void **state)
{
	char dir[] = "/tmp/ferry-ct-XXXXXX";

	(void)state;
	bin = program_folder();
	assert_non_null(mkdtemp(dir));
	chmod(dir, 0755);
	base = str_dup(dir);
	layer = str_format("%s/layer", base);
	parent = str_format("ferry-ct-%d", getpid());
	make_layer();
	open_manager();
	return 0;
}

static void remove_groups(void)
{
	DIR *d = opendir("/sys/fs/cgroup");
	struct dirent *e;

	while (d && (e = readdir(d))) {
		CLEANUP_FREE char *p = str_format("/sys/fs/cgroup/%s/%s", e->d_name, parent);

		rmdir(p);
	}
	if (d)
		closedir(d);
}

static int teardown(void **state)
{
	json_t *ids, *v;
	size_t i;

	(void)state;
	container_list(m, &ids, &err);
	json_array_foreach (ids, i, v) {
		container_stop(m, json_string_value(v), 0, NULL);
		container_remove(m, json_string_value(v), NULL);
	}
	json_decref(ids);
	container_manager_close(m);
	dir_remove(base, &err);
	remove_groups();
	free(base);
	free(layer);
	free(bin);
	free(parent);
	return 0;
}

/* --- helpers ------------------------------------------------------------------------------ */

static json_t *body(const char *script, json_t *host)
{
	json_t *b = json_pack("{s:[s,s,s]}", "Cmd", "sh", "-c", script);

	json_object_set_new(b, "HostConfig", host ? host : json_object());
	return b;
}

static void create(const char *id, json_t *b)
{
	CLEANUP_JSON json_t *image =
		json_pack("{s:s,s:{s:[s]}}", "Id", "sha256:0", "Config", "Env", "FROM_IMAGE=1");
	char *lower[] = { layer };

	ok(container_create(m, id, id, b, image, lower, 1, &err));
	json_decref(b);
}

static int collect(void *ctx, int stream, const void *p, size_t n)
{
	struct buf *out = ctx;

	(void)stream;
	buf_add(out, p, n);
	return 0;
}

static char *logs(const char *id)
{
	struct container_log_options o = { .stdout_ = true, .stderr_ = true, .tail = -1 };
	struct buf out = { 0 };

	buf_add(&out, "", 0);
	ok(container_logs(m, id, &o, collect, &out, &err));
	return out.data;
}

/* Creates, starts, waits, removes; the output is the caller's. */
static int run(const char *id, json_t *b, char **output)
{
	int code = -1;

	create(id, b);
	ok(container_start(m, id, NULL, NULL, &err));
	ok(container_wait(m, id, &code, &err));
	if (output)
		*output = logs(id);
	ok(container_remove(m, id, &err));
	return code;
}

static char *status(const char *id)
{
	CLEANUP_JSON json_t *j = NULL;

	ok(container_inspect(m, id, &j, &err));
	return str_dup(json_str(j, "Status", ""));
}

static void wait_for_log(const char *id, const char *want)
{
	int64_t deadline = clock_mono_ns() + PATIENCE_NS;

	for (;;) {
		CLEANUP_FREE char *text = logs(id);

		if (strstr(text, want))
			return;
		if (clock_mono_ns() > deadline)
			fail_msg("\"%s\" never came; there is: %s", want, text);
		clock_sleep_ns(10000000);
	}
}

/* One frame of a shim socket; its kind, or -1 at the end. */
static int frame(int fd, char *text, size_t room)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	unsigned char h[SHIM_HEADER];
	uint32_t n;

	assert_int_equal(poll(&pfd, 1, 30000), 1);
	if (fd_read_all(fd, h, sizeof(h)) < 0)
		return -1;
	n = shim_length(h);
	assert_true(n < room);
	assert_int_equal(fd_read_all(fd, text, n), 0);
	text[n] = '\0';
	return h[0];
}

static void send_frame(int fd, int kind, const char *text)
{
	unsigned char h[SHIM_HEADER];

	shim_header(h, kind, (uint32_t)strlen(text));
	assert_int_equal(fd_write_all(fd, h, sizeof(h)), 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

/* All output until EOF, by stream; the exit code of the last control frame. */
static int drain(int fd, struct buf *out, struct buf *errs)
{
	static char text[SHIM_FRAME_MAX + 1];
	int kind, code = -1;

	while ((kind = frame(fd, text, sizeof(text))) >= 0) {
		if (kind == SHIM_STDOUT)
			buf_add(out, text, strlen(text));
		else if (kind == SHIM_STDERR)
			buf_add(errs, text, strlen(text));
		else if (kind == SHIM_CONTROL) {
			CLEANUP_JSON json_t *j = json_loads(text, 0, NULL);

			code = (int)json_int(j, "exit_code", -1);
		}
	}
	return code;
}

/* --- tests ---------------------------------------------------------------------------------- */

static void test_runs_and_keeps_exit_code_and_logs(void **state)
{
	CLEANUP_FREE char *out = NULL;

	(void)state;
	assert_int_equal(run("exit7", body("echo hello; hostname; exit 7", NULL), &out), 7);
	assert_string_equal(out, "hello\nexit7\n");
}

static void test_killed_by_signal_is_128_plus_signal(void **state)
{
	(void)state;
	assert_int_equal(run("sig", body("kill -9 $$", NULL), NULL), 0); /* PID 1 ignores it */
	create("sig2", body("exec sleep 1000", NULL));
	ok(container_start(m, "sig2", NULL, NULL, &err));
	ok(container_kill(m, "sig2", SIGKILL, &err));
	int code = 0;

	ok(container_wait(m, "sig2", &code, &err));
	assert_int_equal(code, 137);
	ok(container_remove(m, "sig2", &err));
}

static void test_missing_program_is_127_and_directory_126(void **state)
{
	CLEANUP_JSON json_t *j = NULL;

	(void)state;
	create("nofile", json_pack("{s:[s]}", "Cmd", "no-such-program"));
	assert_int_equal(container_start(m, "nofile", NULL, NULL, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "executable file not found in $PATH"));
	ok(container_inspect(m, "nofile", &j, &err));
	assert_string_equal(json_str(j, "Status", ""), "created");
	assert_int_equal(json_int(j, "ExitCode", 0), 127);
	ok(container_remove(m, "nofile", &err));
	create("adir", json_pack("{s:[s]}", "Cmd", "/etc"));
	assert_int_equal(container_start(m, "adir", NULL, NULL, &err), -EACCES);
	assert_non_null(strstr(err.msg, "permission denied"));
	ok(container_remove(m, "adir", &err));
}

static void *wait_next(void *arg)
{
	container_wait_next(m, "never", arg, NULL);
	return NULL;
}

static void test_failed_start_ends_the_wait_for_the_next_exit(void **state)
{
	int64_t deadline = clock_mono_ns() + PATIENCE_NS;
	pthread_t thread;
	int code = 0;

	(void)state;
	create("never", json_pack("{s:[s]}", "Cmd", "no-such-program"));
	assert_int_equal(pthread_create(&thread, NULL, wait_next, &code), 0);
	/* It may begin to wait after a failure; the next one then ends it. */
	do
		assert_int_equal(container_start(m, "never", NULL, NULL, &err), -ENOENT);
	while (pthread_tryjoin_np(thread, NULL) != 0 && clock_mono_ns() < deadline);
	assert_int_equal(code, 127);
	ok(container_remove(m, "never", &err));
}

static void test_environment_user_and_capabilities(void **state)
{
	CLEANUP_FREE char *out = NULL;
	json_t *b = body("id -u; id -g; id -G; echo $HOME $FROM_IMAGE $MINE; pwd; "
			 "grep CapEff /proc/self/status",
			 NULL);

	(void)state;
	json_set_str(b, "User", "web");
	json_set_str(b, "WorkingDir", "/made/here");
	json_object_set_new(b, "Env", json_pack("[s]", "MINE=2"));
	assert_int_equal(run("user", b, &out), 0);
	assert_string_equal(out, "33\n44\n44 55\n/srv 1 2\n/made/here\n"
				 "CapEff:\t0000000000000000\n");
	b = body("true", NULL);
	json_set_str(b, "User", "nobody-here");
	create("nouser", b);
	assert_int_equal(container_start(m, "nouser", NULL, NULL, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "unable to find user nobody-here"));
	ok(container_remove(m, "nouser", &err));
}

static void test_default_capabilities_and_seccomp_are_dockers(void **state)
{
	CLEANUP_FREE char *out = NULL, *out2 = NULL;

	(void)state;
	assert_int_equal(
		run("caps",
		    body("grep -E '^(CapEff|CapBnd|Seccomp|NoNewPrivs):' /proc/self/status; "
			 "unshare -m true 2>/dev/null || echo refused",
			 NULL),
		    &out),
		0);
	assert_non_null(strstr(out, "CapEff:\t00000000a80425fb"));
	assert_non_null(strstr(out, "CapBnd:\t00000000a80425fb"));
	assert_non_null(strstr(out, "Seccomp:\t2"));
	assert_non_null(strstr(out, "refused"));
	assert_int_equal(
		run("caps2",
		    body("grep -E '^(CapEff|Seccomp|NoNewPrivs):' /proc/self/status",
			 json_pack("{s:[s],s:[s],s:[s,s]}", "CapDrop", "ALL", "CapAdd", "NET_ADMIN",
				   "SecurityOpt", "seccomp=unconfined", "no-new-privileges")),
		    &out2),
		0);
	assert_non_null(strstr(out2, "CapEff:\t0000000000001000"));
	assert_non_null(strstr(out2, "Seccomp:\t0"));
	assert_non_null(strstr(out2, "NoNewPrivs:\t1"));
}

static void test_memory_limit_kills_and_says_so(void **state)
{
	CLEANUP_JSON json_t *j = NULL;
	int code = 0;

	(void)state;
	create("oom", body("x=a; while :; do x=$x$x$x$x; done",
			   json_pack("{s:I,s:I}", "Memory", (json_int_t)(16 << 20), "MemorySwap",
				     (json_int_t)(16 << 20))));
	ok(container_start(m, "oom", NULL, NULL, &err));
	ok(container_wait(m, "oom", &code, &err));
	ok(container_inspect(m, "oom", &j, &err));
	assert_int_equal(code, 137);
	assert_true(json_bool(j, "OOMKilled", false));
	ok(container_remove(m, "oom", &err));
}

static void test_pids_limit_and_tmpfs_and_readonly_root(void **state)
{
	CLEANUP_FREE char *out = NULL;

	(void)state;
	assert_int_equal(
		run("ro",
		    body("touch /x 2>&1; touch /scratch/y && echo wrote; df -k /dev/shm | tail -1 "
			 "| "
			 "awk '{print $2}'; (for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done) 2>&1 | "
			 "grep -q -i fork && echo limited; true",
			 json_pack("{s:b,s:{s:s},s:I,s:i}", "ReadonlyRootfs", 1, "Tmpfs",
				   "/scratch", "size=1m", "ShmSize", (json_int_t)(2 << 20),
				   "PidsLimit", 8)),
		    &out),
		0);
	assert_non_null(strstr(out, "Read-only file system"));
	assert_non_null(strstr(out, "wrote\n2048\n"));
	assert_non_null(strstr(out, "limited"));
}

static void test_masked_paths_and_no_host_mounts(void **state)
{
	CLEANUP_FREE char *out = NULL;

	(void)state;
	assert_int_equal(
		run("mask",
		    body("exec 2>&1; echo 1 > /proc/sys/kernel/hostname; wc -c < /proc/keys; "
			 "awk '{print $2}' /proc/mounts | grep -E '^/(mnt|home|boot)'; true",
			 NULL),
		    &out),
		0);
	assert_non_null(strstr(out, "Read-only file system"));
	assert_non_null(strstr(out, "\n0\n"));
	assert_null(strstr(out, "/mnt"));
}

static void test_stop_sends_the_stop_signal_first(void **state)
{
	json_t *b =
		body("trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.1; done", NULL);
	CLEANUP_FREE char *out = NULL;
	int code = 0;

	(void)state;
	json_set_str(b, "StopSignal", "SIGUSR1");
	create("stop", b);
	ok(container_start(m, "stop", NULL, NULL, &err));
	wait_for_log("stop", "ready");
	ok(container_stop(m, "stop", 20, &err));
	ok(container_wait(m, "stop", &code, &err));
	out = logs("stop");
	assert_int_equal(code, 3);
	assert_non_null(strstr(out, "got"));
	ok(container_stop(m, "stop", 0, &err)); /* stopping twice is fine */
	ok(container_remove(m, "stop", &err));
}

static void test_pause_freezes_and_kill_still_ends_it(void **state)
{
	CLEANUP_FREE char *s = NULL, *s2 = NULL;
	int code = 0;

	(void)state;
	create("pause", body("sleep 1000", NULL));
	ok(container_start(m, "pause", NULL, NULL, &err));
	ok(container_pause(m, "pause", &err));
	s = status("pause");
	assert_string_equal(s, "paused");
	assert_int_equal(container_pause(m, "pause", &err), -EBUSY);
	ok(container_unpause(m, "pause", &err));
	s2 = status("pause");
	assert_string_equal(s2, "running");
	ok(container_pause(m, "pause", &err));
	ok(container_kill(m, "pause", SIGKILL, &err));
	ok(container_wait(m, "pause", &code, &err));
	assert_int_equal(code, 137);
	ok(container_remove(m, "pause", &err));
}

static void test_running_one_cannot_be_removed_or_started_again(void **state)
{
	(void)state;
	create("busy", body("sleep 1000", NULL));
	ok(container_start(m, "busy", NULL, NULL, &err));
	assert_int_equal(container_remove(m, "busy", &err), -EBUSY);
	assert_int_equal(container_start(m, "busy", NULL, NULL, &err), -EALREADY);
	ok(container_stop(m, "busy", 0, &err));
	ok(container_remove(m, "busy", &err));
	assert_int_equal(container_remove(m, "busy", &err), -ENOENT);
}

static void test_restart_keeps_what_was_written(void **state)
{
	CLEANUP_FREE char *out = NULL;

	(void)state;
	create("again", body("cat /kept; echo once > /kept", NULL));
	for (int i = 0; i < 2; i++) {
		ok(container_start(m, "again", NULL, NULL, &err));
		ok(container_wait(m, "again", NULL, &err));
	}
	out = logs("again");
	assert_non_null(strstr(out, "once"));
	ok(container_remove(m, "again", &err));
}

static void test_attach_before_start_sees_everything(void **state)
{
	struct container_attach_options o = { .stdin_ = true, .stdout_ = true, .stderr_ = true };
	json_t *b = body("echo begin; read x; echo \"got $x\" >&2; cat; exit 4", NULL);
	CLEANUP_BUF struct buf out = { 0 }, errs = { 0 };
	CLEANUP_CLOSE int sock = -1;

	(void)state;
	json_set_bool(b, "OpenStdin", true);
	json_set_bool(b, "StdinOnce", true);
	create("attach", b);
	ok(container_attach(m, "attach", &o, &sock, &err));
	ok(container_start(m, "attach", NULL, NULL, &err));
	send_frame(sock, SHIM_STDIN, "line\nrest\n");
	send_frame(sock, SHIM_STDIN, "");
	assert_int_equal(drain(sock, &out, &errs), 4);
	assert_string_equal(out.data, "begin\nrest\n");
	assert_string_equal(errs.data, "got line\n");
	ok(container_wait(m, "attach", NULL, &err));
	ok(container_remove(m, "attach", &err));
}

static void test_terminal_is_a_terminal_with_a_size(void **state)
{
	struct container_attach_options o = { .stdin_ = true, .stdout_ = true };
	json_t *b = body("read go; test -t 0 && tty; stty size; exit 5", NULL);
	CLEANUP_BUF struct buf out = { 0 }, errs = { 0 };
	CLEANUP_JSON json_t *j = NULL;
	CLEANUP_CLOSE int sock = -1;

	(void)state;
	json_set_bool(b, "Tty", true);
	json_set_bool(b, "OpenStdin", true);
	create("tty", b);
	ok(container_attach(m, "tty", &o, &sock, &err));
	ok(container_start(m, "tty", NULL, NULL, &err));
	ok(container_resize(m, "tty", 33, 99, &err));
	ok(container_inspect(m, "tty", &j, &err));
	assert_string_equal(json_str(json_array_get(json_object_get(j, "Stdio"), 0), "link", ""),
			    "/dev/pts/0");
	send_frame(sock, SHIM_STDIN, "go\n");
	assert_int_equal(drain(sock, &out, &errs), 5);
	assert_non_null(strstr(out.data, "33 99"));
	assert_non_null(strstr(out.data, "/dev/"));
	ok(container_wait(m, "tty", NULL, &err));
	ok(container_remove(m, "tty", &err));
}

static void test_exec_has_its_own_stdio_and_exit_code(void **state)
{
	CLEANUP_JSON json_t *cfg =
		json_pack("{s:[s,s,s],s:b,s:b,s:b,s:s,s:[s]}", "Cmd", "sh", "-c",
			  "cat; id -u; echo $MORE >&2; exit 9", "AttachStdin", 1, "AttachStdout", 1,
			  "AttachStderr", 1, "User", "33", "Env", "MORE=more");
	CLEANUP_JSON json_t *bad = json_pack("{s:[s]}", "Cmd", "nothing-like-it"), *j = NULL;
	CLEANUP_BUF struct buf out = { 0 }, errs = { 0 };
	CLEANUP_FREE char *id = NULL, *id2 = NULL;
	CLEANUP_CLOSE int sock = -1;

	(void)state;
	create("exec", body("sleep 1000", NULL));
	ok(container_start(m, "exec", NULL, NULL, &err));
	ok(container_exec_create(m, "exec", cfg, &id, &err));
	ok(container_exec_start(m, id, &sock, &err));
	send_frame(sock, SHIM_STDIN, "in\n");
	send_frame(sock, SHIM_STDIN, "");
	assert_int_equal(drain(sock, &out, &errs), 9);
	assert_string_equal(out.data, "in\n33\n");
	assert_string_equal(errs.data, "more\n");
	ok(container_exec_inspect(m, id, &j, &err));
	assert_false(json_bool(j, "Running", true));
	assert_int_equal(json_int(j, "ExitCode", -1), 9);
	ok(container_exec_create(m, "exec", bad, &id2, &err));
	assert_int_equal(container_exec_start(m, id2, NULL, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "executable file not found"));
	ok(container_stop(m, "exec", 0, &err));
	ok(container_remove(m, "exec", &err));
}

static void test_exec_output_larger_than_any_queue_is_whole(void **state)
{
	CLEANUP_JSON json_t *cfg =
		json_pack("{s:[s,s,s],s:b}", "Cmd", "sh", "-c",
			  "head -c 8000000 /dev/zero | tr '\\0' x", "AttachStdout", 1);
	CLEANUP_BUF struct buf out = { 0 }, errs = { 0 };
	CLEANUP_FREE char *id = NULL;
	CLEANUP_CLOSE int sock = -1;

	(void)state;
	create("big", body("sleep 1000", NULL));
	ok(container_start(m, "big", NULL, NULL, &err));
	ok(container_exec_create(m, "big", cfg, &id, &err));
	ok(container_exec_start(m, id, &sock, &err));
	assert_int_equal(drain(sock, &out, &errs), 0);
	assert_int_equal(out.len, 8000000);
	ok(container_stop(m, "big", 0, &err));
	ok(container_remove(m, "big", &err));
}

static void test_logs_tail_since_and_follow(void **state)
{
	struct container_log_options o = { .stdout_ = true, .tail = 2 };
	CLEANUP_BUF struct buf out = { 0 }, all = { 0 };

	(void)state;
	create("logs", body("for i in 1 2 3 4 5; do echo line$i; echo err$i >&2; done; sleep 0.3; "
			    "echo last",
			    NULL));
	ok(container_start(m, "logs", NULL, NULL, &err));
	o.follow = true;
	o.tail = -1;
	ok(container_logs(m, "logs", &o, collect, &all, &err)); /* returns at the end */
	assert_string_equal(all.data, "line1\nline2\nline3\nline4\nline5\nlast\n");
	ok(container_wait(m, "logs", NULL, &err));
	o.follow = false;
	o.tail = 2;
	ok(container_logs(m, "logs", &o, collect, &out, &err));
	assert_string_equal(out.data, "line5\nlast\n");
	out.len = 0;
	o.tail = -1;
	o.since_ns = clock_real_ns();
	ok(container_logs(m, "logs", &o, collect, &out, &err));
	assert_int_equal(out.len, 0);
	ok(container_remove(m, "logs", &err));
}

static void test_volume_is_filled_from_the_image_and_mounted(void **state)
{
	CLEANUP_FREE char *vol = str_format("%s/vol", base),
			  *seed = str_format("%s/vol/seed", base);
	CLEANUP_FREE char *out = NULL;
	struct container_mount mount = { vol, "/data", false, true };
	struct container_start_params p = { .mounts = &mount,
					    .nmounts = 1,
					    .hostname = "named",
					    .hosts = "10.0.0.1 peer\n",
					    .resolv_conf = "nameserver 127.0.0.11\n" };
	struct stat st;

	(void)state;
	ok(dir_make(vol, 0755, &err));
	create("vol", body("cat /data/seed /etc/hosts /etc/resolv.conf; hostname; echo new > "
			   "/data/new",
			   NULL));
	ok(container_start(m, "vol", &p, NULL, &err));
	ok(container_wait(m, "vol", NULL, &err));
	out = logs("vol");
	assert_string_equal(out, "seed\n10.0.0.1 peer\nnameserver 127.0.0.11\nnamed\n");
	assert_int_equal(stat(vol, &st), 0);
	assert_int_equal(st.st_uid, 33);
	assert_int_equal(access(seed, F_OK), 0);
	ok(container_remove(m, "vol", &err));
}

static void test_mount_into_a_running_container(void **state)
{
	CLEANUP_FREE char *vol = str_format("%s/late", base), *file = str_format("%s/late/f", base);
	pid_t init;

	(void)state;
	ok(dir_make(vol, 0755, &err));
	ok(file_write_atomic(file, "late\n", 5, 0644, &err));
	create("late", body("while ! cat /deep/er/f 2>/dev/null; do sleep 0.05; done; touch "
			    "/deep/er/g || echo readonly",
			    NULL));
	ok(container_start(m, "late", NULL, &init, &err));
	ok(container_mount_into(init, vol, "/deep/er", true, &err));
	ok(container_wait(m, "late", NULL, &err));
	CLEANUP_FREE char *out = logs("late");

	assert_non_null(strstr(out, "late\n"));
	assert_non_null(strstr(out, "readonly"));
	ok(container_remove(m, "late", &err));
}

static void test_stub_waits_and_is_adopted(void **state)
{
	struct container_start_params p = {
		.stub = true, .time_offsets = { true, 5000000000000, 5000000000000 }
	};
	CLEANUP_JSON json_t *j = NULL;
	CLEANUP_FREE char *s = NULL;
	char have[256] = "", path[64];
	pid_t init;
	int code = 0;

	(void)state;
	create("stub", body("echo never", NULL));
	ok(container_start(m, "stub", &p, &init, &err));
	ok(container_inspect(m, "stub", &j, &err));
	assert_string_equal(json_str(j, "Status", ""), "created");
	assert_true(json_bool(j, "Stub", false));
	/* The links given for the checkpoint engine are those of init's descriptors. */
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", init, i);
		memset(have, 0, sizeof(have));
		assert_true(readlink(path, have, sizeof(have) - 1) > 0);
		assert_string_equal(json_str(json_array_get(json_object_get(j, "Stdio"), (size_t)i),
					     "link", ""),
				    have);
	}
	snprintf(path, sizeof(path), "/proc/%d/fd/3", init);
	assert_int_equal(access(path, F_OK), -1); /* nothing but stdio */
	assert_int_equal(container_start(m, "stub", &p, NULL, &err), -EALREADY);
	ok(container_adopt(m, "stub", &err));
	s = status("stub");
	assert_string_equal(s, "running");
	assert_int_equal(process_kill(init, SIGKILL), 0);
	ok(container_wait(m, "stub", &code, &err));
	assert_int_equal(code, 137);
	ok(container_remove(m, "stub", &err));
	/* A half-built one is simply removed. */
	create("stub2", body("echo never", NULL));
	ok(container_start(m, "stub2", &p, &init, &err));
	ok(container_remove(m, "stub2", &err));
	assert_int_equal(process_kill(init, 0), -ESRCH);
}

static void test_time_offsets_move_the_clocks(void **state)
{
	struct container_start_params p = { .time_offsets = { true, 1000000000000000,
							      1000000000000000 } };
	CLEANUP_FREE char *out = NULL;

	(void)state;
	create("time", body("cut -d. -f1 /proc/uptime", NULL));
	ok(container_start(m, "time", &p, NULL, &err));
	ok(container_wait(m, "time", NULL, &err));
	out = logs("time");
	assert_true(atoll(out) >= 1000000);
	ok(container_remove(m, "time", &err));
}

/* --- survival --------------------------------------------------------------------------------- */

static int told_code;
static char told_id[64];
static pthread_mutex_t told_lock = PTHREAD_MUTEX_INITIALIZER;

static void told(void *ctx, const char *id, int code)
{
	(void)ctx;
	pthread_mutex_lock(&told_lock);
	snprintf(told_id, sizeof(told_id), "%s", id);
	told_code = code;
	pthread_mutex_unlock(&told_lock);
}

static void wait_told(const char *id, int code)
{
	int64_t deadline = clock_mono_ns() + PATIENCE_NS;

	for (;;) {
		bool yes;

		pthread_mutex_lock(&told_lock);
		yes = !strcmp(told_id, id) && told_code == code;
		pthread_mutex_unlock(&told_lock);
		if (yes)
			return;
		if (clock_mono_ns() > deadline)
			fail_msg("the end of %s was not told", id);
		clock_sleep_ns(5000000);
	}
}

static void test_containers_survive_the_manager(void **state)
{
	CLEANUP_FREE char *s = NULL, *out = NULL, *log = NULL;
	int code = 0;

	(void)state;
	create("gone", body("exit 8", NULL));
	create("live", body("echo before; while ! test -e /go; do sleep 0.05; done; echo after; "
			    "exit 6",
			    NULL));
	ok(container_start(m, "live", NULL, NULL, &err));
	wait_for_log("live", "before");
	container_manager_close(m);
	open_manager();
	s = status("live");
	assert_string_equal(s, "running");
	ok(container_on_exit(m, told, NULL));
	log = str_format("%s/state/containers/live/rootfs/go", base);
	ok(file_write_atomic(log, "", 0, 0644, &err));
	ok(container_wait(m, "live", &code, &err));
	assert_int_equal(code, 6);
	wait_told("live", 6);
	out = logs("live");
	assert_non_null(strstr(out, "after"));
	ok(container_remove(m, "live", &err));
	ok(container_remove(m, "gone", &err));
}

static void test_end_while_nobody_watches_is_told_afterwards(void **state)
{
	CLEANUP_FREE char *exit_file = str_format("%s/state/containers/quiet/exit.json", base);
	int64_t deadline = clock_mono_ns() + PATIENCE_NS;
	int code = 0;

	(void)state;
	create("quiet", body("while ! test -e /go; do sleep 0.05; done; exit 11", NULL));
	ok(container_start(m, "quiet", NULL, NULL, &err));
	container_manager_close(m);
	CLEANUP_FREE char *go = str_format("%s/state/containers/quiet/rootfs/go", base);

	ok(file_write_atomic(go, "", 0, 0644, &err));
	while (access(exit_file, F_OK) < 0 && clock_mono_ns() < deadline)
		clock_sleep_ns(5000000);
	open_manager();
	ok(container_on_exit(m, told, NULL));
	wait_told("quiet", 11);
	ok(container_wait(m, "quiet", &code, &err));
	assert_int_equal(code, 11);
	ok(container_remove(m, "quiet", &err));
}

static void test_nothing_is_left_behind(void **state)
{
	CLEANUP_FREE char *mounts = NULL, *oci = str_format("%s/run/oci", base);
	DIR *d;
	struct dirent *e;

	(void)state;
	assert_int_equal(run("clean", body("true", NULL), NULL), 0);
	ok(file_read("/proc/self/mountinfo", 1 << 24, &mounts, NULL, &err));
	assert_null(strstr(mounts, base));
	d = opendir(oci);
	while (d && (e = readdir(d)))
		assert_true(e->d_name[0] == '.');
	if (d)
		closedir(d);
	CLEANUP_FREE char *group = str_format("/sys/fs/cgroup/pids/%s/clean", parent);
	CLEANUP_FREE char *group2 = str_format("/sys/fs/cgroup/%s/clean", parent);

	assert_int_equal(access(group, F_OK), -1);
	assert_int_equal(access(group2, F_OK), -1);
}

static void test_stats_top_update_rename(void **state)
{
	CLEANUP_JSON json_t *s = NULL, *t = NULL, *j = NULL;
	CLEANUP_JSON json_t *res = json_pack("{s:I,s:I}", "Memory", (json_int_t)(64 << 20),
					     "MemorySwap", (json_int_t)(128 << 20));
	CLEANUP_JSON json_t *bad = json_pack("{s:s}", "CgroupParent", "/x");

	(void)state;
	create("stats", body("sleep 1000", json_pack("{s:I}", "Memory", (json_int_t)(32 << 20))));
	ok(container_start(m, "stats", NULL, NULL, &err));
	ok(container_stats(m, "stats", &s, &err));
	assert_int_equal(json_int(json_object_get(s, "memory_stats"), "limit", 0), 32 << 20);
	assert_true(json_int(json_object_get(s, "pids_stats"), "current", 0) >= 1);
	ok(container_top(m, "stats", NULL, &t, &err));
	assert_true(json_array_size(json_object_get(t, "Processes")) >= 1);
	ok(container_update(m, "stats", res, &err));
	json_decref(s);
	ok(container_stats(m, "stats", &s, &err));
	assert_int_equal(json_int(json_object_get(s, "memory_stats"), "limit", 0), 64 << 20);
	assert_int_equal(container_update(m, "stats", bad, &err), -EINVAL);
	ok(container_rename(m, "stats", "other", &err));
	ok(container_inspect(m, "stats", &j, &err));
	assert_string_equal(json_str(j, "Name", ""), "other");
	ok(container_stop(m, "stats", 0, &err));
	ok(container_remove(m, "stats", &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs_and_keeps_exit_code_and_logs),
		cmocka_unit_test(test_killed_by_signal_is_128_plus_signal),
		cmocka_unit_test(test_missing_program_is_127_and_directory_126),
		cmocka_unit_test(test_failed_start_ends_the_wait_for_the_next_exit),
		cmocka_unit_test(test_environment_user_and_capabilities),
		cmocka_unit_test(test_default_capabilities_and_seccomp_are_dockers),
		cmocka_unit_test(test_memory_limit_kills_and_says_so),
		cmocka_unit_test(test_pids_limit_and_tmpfs_and_readonly_root),
		cmocka_unit_test(test_masked_paths_and_no_host_mounts),
		cmocka_unit_test(test_stop_sends_the_stop_signal_first),
		cmocka_unit_test(test_pause_freezes_and_kill_still_ends_it),
		cmocka_unit_test(test_running_one_cannot_be_removed_or_started_again),
		cmocka_unit_test(test_restart_keeps_what_was_written),
		cmocka_unit_test(test_attach_before_start_sees_everything),
		cmocka_unit_test(test_terminal_is_a_terminal_with_a_size),
		cmocka_unit_test(test_exec_has_its_own_stdio_and_exit_code),
		cmocka_unit_test(test_exec_output_larger_than_any_queue_is_whole),
		cmocka_unit_test(test_logs_tail_since_and_follow),
		cmocka_unit_test(test_volume_is_filled_from_the_image_and_mounted),
		cmocka_unit_test(test_mount_into_a_running_container),
		cmocka_unit_test(test_stub_waits_and_is_adopted),
		cmocka_unit_test(test_time_offsets_move_the_clocks),
		cmocka_unit_test(test_containers_survive_the_manager),
		cmocka_unit_test(test_end_while_nobody_watches_is_told_afterwards),
		cmocka_unit_test(test_nothing_is_left_behind),
		cmocka_unit_test(test_stats_top_update_rename),
	};

	if (access("/bin/busybox", X_OK) < 0 || geteuid() != 0) {
		printf("1..0 # SKIP needs root and busybox-static\n");
		return 0;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
