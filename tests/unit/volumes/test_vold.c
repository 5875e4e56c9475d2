// SPDX-License-Identifier: Apache-2.0
/*
 * A whole vold on a file image: the device, the control socket, what happens when it is
 * killed. The program is its own vold: with "--vold" it becomes one.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "volumes/loop.h"
#include "volumes/vold/vold.h"
#include "volumes/vold_client.h"

#define SIZE	   (64u << 20)
#define TIMEOUT_NS 30000000000ll

struct fixture {
	char dir[64];
	char *image, *socket, *log, *device;
	pid_t pid;
	uint64_t backing;
};

static char self[4096];

static int call(struct fixture *f, const char *op, json_t **answer, struct error *err)
{
	json_t *req = json_object();

	json_set_str(req, "op", op);
	return vold_call(f->socket, req, TIMEOUT_NS, answer, err);
}

static void assert_call(struct fixture *f, const char *op)
{
	struct error err = { 0 };

	if (call(f, op, NULL, &err))
		fail_msg("%s: %s", op, err.msg);
}

/* The FUSE file system behind a loop device (0: none): tells it from another's later. */
static uint64_t backing(const char *device)
{
	CLEANUP_CLOSE int fd = open(device, O_RDONLY | O_CLOEXEC);
	struct loop_info64 info;

	return fd >= 0 && ioctl(fd, LOOP_GET_STATUS64, &info) == 0 ? info.lo_device : 0;
}

static int spawn(struct fixture *f, const char *mode, struct error *err)
{
	char *const argv[] = { self,	   "--vold",  "--name",	   "v",	     "--host",
			       "a",	   "--image", f->image,	   "--mode", (char *)mode,
			       "--socket", f->socket, "--overlay", "4m",     NULL };
	CLEANUP_JSON json_t *report = NULL;
	int rc = vold_spawn(argv, f->log, &report, err);

	if (rc == 0) {
		free(f->device);
		f->device = str_dup(json_str(report, "device", NULL));
		f->pid = (pid_t)json_int(report, "pid", 0);
		assert_true(f->pid > 0);
		assert_non_null(f->device);
		f->backing = backing(f->device);
		assert_int_not_equal(f->backing, 0);
	}
	return rc;
}

static void start(struct fixture *f, const char *mode)
{
	struct error err = { 0 };

	if (spawn(f, mode, &err))
		fail_msg("%s", err.msg);
}

static bool gone(pid_t pid)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/stat", (int)pid), *stat = NULL;

	if (file_read(path, 4096, &stat, NULL, NULL))
		return true;
	return strstr(stat, ") Z ") != NULL;
}

/* The device of a vold that ended frees itself; poll, as the kernel does it by the way. */
static bool device_free(struct fixture *f)
{
	for (int i = 0; i < 3000; i++) {
		if (backing(f->device) != f->backing)
			return true;
		clock_sleep_ns(10000000);
	}
	return false;
}

static void wait_gone(struct fixture *f)
{
	for (int i = 0; i < 3000 && !gone(f->pid); i++)
		clock_sleep_ns(10000000);
	assert_true(gone(f->pid));
	assert_true(device_free(f));
	f->pid = 0;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	CLEANUP_FREE char *path = NULL;
	int fd;

	strcpy(f->dir, "/tmp/ferry-vold-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	path = str_format("%s/image", f->dir);
	f->image = str_format("file:%s", path);
	f->socket = str_format("%s/sock", f->dir);
	f->log = str_format("%s/log", f->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	close(fd);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->pid) {
		kill(f->pid, SIGKILL);
		for (int i = 0; i < 1000 && !gone(f->pid); i++)
			clock_sleep_ns(10000000);
	}
	dir_remove(f->dir, NULL);
	free(f->image);
	free(f->socket);
	free(f->log);
	free(f->device);
	free(f);
	return 0;
}

/* --- helpers on the device -------------------------------------------------------------------- */

static int device_open(struct fixture *f, int flags)
{
	int fd = open(f->device, flags | O_DIRECT | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void *block_of(char fill)
{
	void *p = NULL;

	assert_int_equal(posix_memalign(&p, VOLD_BLOCK, VOLD_BLOCK), 0);
	memset(p, fill, VOLD_BLOCK);
	return p;
}

/* 0 or -errno. */
static int put(struct fixture *f, unsigned block, char fill)
{
	CLEANUP_CLOSE int fd = device_open(f, O_RDWR);
	CLEANUP_FREE void *p = block_of(fill);
	ssize_t n = pwrite(fd, p, VOLD_BLOCK, (off_t)block * VOLD_BLOCK);

	return n == VOLD_BLOCK ? 0 : -errno;
}

static int get(struct fixture *f, unsigned block)
{
	CLEANUP_CLOSE int fd = device_open(f, O_RDONLY);
	CLEANUP_FREE void *p = block_of('?');
	ssize_t n = pread(fd, p, VOLD_BLOCK, (off_t)block * VOLD_BLOCK);

	return n == VOLD_BLOCK ? ((char *)p)[99] : -errno;
}

static int raw(struct fixture *f, unsigned block)
{
	CLEANUP_CLOSE int fd = open(f->image + strlen("file:"), O_RDONLY | O_CLOEXEC);
	char c = '?';

	assert_int_equal(pread(fd, &c, 1, (off_t)block * VOLD_BLOCK + 99), 1);
	return c;
}

/* --- the promises ------------------------------------------------------------------- */

static void test_device_reads_writes_discards(void **state)
{
	struct fixture *f = *state;
	uint64_t size = 0, range[2] = { 7 * VOLD_BLOCK, VOLD_BLOCK };
	CLEANUP_CLOSE int fd = -1;
	CLEANUP_FREE char *big = NULL, *back = NULL;

	start(f, "rw");
	fd = device_open(f, O_RDWR);
	assert_int_equal(ioctl(fd, BLKGETSIZE64, &size), 0);
	assert_int_equal(size, SIZE);
	assert_int_equal(put(f, 7, 'q'), 0);
	assert_int_equal(get(f, 7), 'q');
	assert_int_equal(raw(f, 7), 'q');
	assert_int_equal(ioctl(fd, BLKZEROOUT, range), 0);
	assert_int_equal(get(f, 7), 0);
	assert_int_equal(put(f, 7, 'r'), 0);
	assert_int_equal(ioctl(fd, BLKDISCARD, range), 0);
	assert_int_equal(raw(f, 7), 0);
	/* A write larger than one request, unlike itself everywhere. */
	assert_int_equal(posix_memalign((void **)&big, VOLD_BLOCK, 8 << 20), 0);
	assert_int_equal(posix_memalign((void **)&back, VOLD_BLOCK, 8 << 20), 0);
	for (size_t i = 0; i < 8 << 20; i++)
		big[i] = (char)(i * 7 + (i >> 12));
	assert_int_equal(pwrite(fd, big, 8 << 20, 1 << 20), 8 << 20);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(pread(fd, back, 8 << 20, 1 << 20), 8 << 20);
	assert_memory_equal(big, back, 8 << 20);
	close(TAKE_FD(fd));
	assert_call(f, "shutdown");
	wait_gone(f);
	assert_int_not_equal(access(f->socket, F_OK), 0);
}

static void test_handover_by_control_socket(void **state)
{
	struct fixture *f = *state;
	CLEANUP_JSON json_t *st = NULL;
	struct error err = { 0 };

	start(f, "standby");
	assert_int_equal(put(f, 1, 'x'), -EIO);
	assert_int_equal(vold_call(f->socket,
				   json_pack("{s:s,s:b}", "op", "promote", "tentative", 1),
				   TIMEOUT_NS, NULL, &err),
			 0);
	assert_int_equal(put(f, 1, 't'), 0);
	assert_int_equal(get(f, 1), 't');
	assert_int_equal(raw(f, 1), 0);
	assert_int_equal(call(f, "status", &st, &err), 0);
	assert_string_equal(json_str(st, "mode", ""), "tentative");
	assert_int_equal(json_int(st, "tentative_bytes", 0), VOLD_BLOCK);
	assert_call(f, "settle");
	assert_int_equal(raw(f, 1), 't');
	assert_call(f, "demote");
	assert_int_equal(put(f, 1, 'x'), -EIO);
	assert_call(f, "retake");
	assert_int_equal(put(f, 1, 'y'), 0);
	assert_int_equal(raw(f, 1), 'y');
	assert_call(f, "shutdown");
	wait_gone(f);
}

static void test_second_vold_is_refused(void **state)
{
	struct fixture *f = *state, other = *f;
	struct error err = { 0 };

	start(f, "rw");
	other.socket = str_format("%s/sock2", f->dir);
	assert_int_equal(spawn(&other, "rw", &err), -EBUSY);
	assert_non_null(strstr(err.msg, "lock"));
	free(other.socket);
	assert_call(f, "shutdown");
	wait_gone(f);
}

static void test_killed_vold_leaves_no_device(void **state)
{
	struct fixture *f = *state;
	struct error err = { 0 };
	CLEANUP_CLOSE int fd = -1;
	char byte[1] = { 1 };

	start(f, "rw");
	fd = open(f->device, O_RDWR | O_CLOEXEC); /* through the cache: dirty when it dies */
	assert_int_equal(pwrite(fd, byte, 1, 0), 1);
	kill(f->pid, SIGKILL);
	for (int i = 0; i < 3000 && !gone(f->pid); i++)
		clock_sleep_ns(10000000);
	assert_true(gone(f->pid));
	(void)fsync(fd); /* ends, one way or the other */
	close(TAKE_FD(fd));
	wait_gone(f);
	assert_true(call(f, "status", NULL, &err) < 0);
	start(f, "rw"); /* again, over the stale socket */
	assert_call(f, "shutdown");
	wait_gone(f);
}

static void test_killed_with_dirty_cache_does_not_hang(void **state)
{
	struct fixture *f = *state;
	char byte[1] = { 1 };
	int fd;

	start(f, "rw");
	fd = open(f->device, O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, byte, 1, 0), 1);
	close(fd); /* the vold's own descriptor is the last one now */
	kill(f->pid, SIGKILL);
	wait_gone(f);
}

static void test_sigterm_ends_an_idle_vold_and_spares_a_mounted_one(void **state)
{
	struct fixture *f = *state;
	CLEANUP_CLOSE int claim = -1;
	CLEANUP_JSON json_t *st = NULL;
	struct error err = { 0 };

	start(f, "rw");
	claim = open(f->device, O_RDONLY | O_EXCL | O_CLOEXEC); /* as a mount does */
	assert_true(claim >= 0);
	kill(f->pid, SIGTERM);
	assert_int_equal(call(f, "status", &st, &err), 0);
	clock_sleep_ns(50000000);
	assert_false(gone(f->pid));
	close(TAKE_FD(claim));
	kill(f->pid, SIGTERM);
	wait_gone(f);
}

static void test_device_follows_the_image(void **state)
{
	struct fixture *f = *state;
	CLEANUP_JSON json_t *answer = NULL;
	struct error err = { 0 };
	uint64_t size = 0;
	CLEANUP_CLOSE int fd = -1;

	start(f, "rw");
	assert_int_equal(truncate(f->image + strlen("file:"), 2 * SIZE), 0);
	assert_int_equal(call(f, "refresh", &answer, &err), 0);
	assert_int_equal(json_int(answer, "size_bytes", 0), 2 * SIZE);
	fd = device_open(f, O_RDWR);
	assert_int_equal(ioctl(fd, BLKGETSIZE64, &size), 0);
	assert_int_equal(size, 2 * SIZE);
	assert_int_equal(put(f, SIZE / VOLD_BLOCK + 1, 'n'), 0);
	assert_int_equal(get(f, SIZE / VOLD_BLOCK + 1), 'n');
	close(TAKE_FD(fd));
	assert_call(f, "shutdown");
	wait_gone(f);
}

static void test_malformed_requests_are_answered(void **state)
{
	struct fixture *f = *state;
	static const char *const bad[] = { "{",
					   "[]",
					   "null",
					   "{}",
					   "{\"op\":7}",
					   "{\"op\":\"fly\"}",
					   "{\"op\":\"demote\",\"timeout_ns\":-1}",
					   "{\"op\":\"resize\"}",
					   "{\"op\":\"snapshot\"}" };
	struct error err = { 0 };

	start(f, "rw");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CLEANUP_CLOSE int fd = fd_unix_connect(f->socket, &err);
		char answer[1024] = "";

		assert_true(fd >= 0);
		assert_int_equal(fd_write_all(fd, bad[i], strlen(bad[i])), 0);
		assert_int_equal(fd_write_all(fd, "\n", 1), 0);
		assert_true(read(fd, answer, sizeof(answer) - 1) > 0);
		assert_non_null(strstr(answer, "\"ok\":false"));
	}
	assert_call(f, "status");
	assert_call(f, "shutdown");
	wait_gone(f);
}

static void test_bad_starts_are_reported(void **state)
{
	struct fixture *f = *state;
	struct error err = { 0 };
	char *const none[] = { self, "--vold", "--name", "v", NULL };
	char *const nobody[] = { "/nonexistent/ferry-vold", NULL };
	json_t *report = NULL;

	assert_int_equal(spawn(f, "upside-down", &err), -EINVAL);
	assert_int_equal(vold_spawn(none, f->log, &report, &err), -EINVAL);
	assert_int_equal(vold_spawn(nobody, f->log, &report, &err), -ENOENT);
	unlink(f->image + strlen("file:"));
	assert_int_equal(spawn(f, "rw", &err), -ENOENT);
}

int main(int argc, char *argv[])
{
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_device_reads_writes_discards),
		T(test_handover_by_control_socket),
		T(test_second_vold_is_refused),
		T(test_killed_vold_leaves_no_device),
		T(test_killed_with_dirty_cache_does_not_hang),
		T(test_sigterm_ends_an_idle_vold_and_spares_a_mounted_one),
		T(test_device_follows_the_image),
		T(test_malformed_requests_are_answered),
		T(test_bad_starts_are_reported),
	};
	ssize_t n;

	if (argc > 1 && strcmp(argv[1], "--vold") == 0) {
		argv[1] = argv[0];
		return vold_main(argc - 1, argv + 1);
	}
	if (access("/dev/fuse", W_OK) < 0 || access("/dev/loop-control", W_OK) < 0) {
		puts("1..0 # SKIP no /dev/fuse or /dev/loop-control");
		return 0;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = '\0';
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
