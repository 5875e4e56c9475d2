// SPDX-License-Identifier: Apache-2.0
/* The volumes library with driver local: a whole life of volumes without Ceph. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "volumes/attachment.h"
#include "volumes/mount.h"
#include "volumes/volume.h"

struct fixture {
	char dir[64];
	char *run_dir, *state_dir;
	struct volumes *vs;
};

static struct error err;

#define OK(call)                                                                                   \
	do {                                                                                       \
		error_clear(&err);                                                                 \
		if (call)                                                                          \
			fail_msg("%s: %s", #call, err.msg);                                        \
	} while (0)
#define REFUSED(call, code, text)                                                                  \
	do {                                                                                       \
		error_clear(&err);                                                                 \
		assert_int_equal(call, -(code));                                                   \
		if (!strstr(err.msg, text))                                                        \
			fail_msg("%s: %s", #call, err.msg);                                        \
	} while (0)

static void reopen(struct fixture *f)
{
	struct volumes_config config = { .run_dir = f->run_dir,
					 .state_dir = f->state_dir,
					 .host = "unit" };

	volumes_close(f->vs);
	f->vs = NULL;
	OK(volumes_open(&config, &f->vs, &err));
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/ferry-local-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->run_dir = str_format("%s/run", f->dir);
	f->state_dir = str_format("%s/state", f->dir);
	*state = f;
	reopen(f);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	CLEANUP_JSON json_t *list = NULL;
	json_t *v;
	size_t i;

	if (volume_list(f->vs, &list, NULL) == 0)
		json_array_foreach (list, i, v) {
			volume_unmount(f->vs, json_str(v, "Name", ""), NULL);
			volume_detach(f->vs, json_str(v, "Name", ""), NULL);
		}
	volumes_close(f->vs);
	dir_remove(f->dir, NULL);
	free(f->run_dir);
	free(f->state_dir);
	free(f);
	return 0;
}

static void create(struct fixture *f, const char *name, const char *json)
{
	CLEANUP_JSON json_t *opts = json_loads(json, 0, NULL);

	assert_non_null(opts);
	OK(volume_create(f->vs, "local", name, opts, &err));
}

static json_t *inspect(struct fixture *f, const char *name)
{
	json_t *out = NULL;

	OK(volume_inspect(f->vs, name, &out, &err));
	return out;
}

static void assert_mode(struct fixture *f, const char *name, const char *mode)
{
	CLEANUP_JSON json_t *v = inspect(f, name);

	assert_string_equal(json_str(json_object_get(v, "Status"), "mode", "?"), mode);
}

static void test_data_survives_detach_and_restart(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *path = NULL, *file = NULL, *text = NULL;

	create(f, "db", "{\"size\": \"32m\", \"labels\": {\"app\": \"pg\"}}");
	OK(volume_attach(f->vs, "db", VOLUME_RW, &err));
	OK(volume_attach(f->vs, "db", VOLUME_RW, &err));
	OK(volume_mount(f->vs, "db", &path, &err));
	file = str_format("%s/hello", path);
	OK(file_write_atomic(file, "there", 5, 0600, &err));
	reopen(f); /* ferryd restarts: nothing changes for the volume */
	assert_mode(f, "db", "rw");
	assert_true(mount_is(path));
	OK(volume_sync(f->vs, "db", &err));
	OK(volume_detach(f->vs, "db", &err));
	OK(volume_detach(f->vs, "db", &err));
	assert_mode(f, "db", "detached");
	assert_false(mount_is(path));
	OK(volume_attach(f->vs, "db", VOLUME_RO, &err));
	OK(volume_mount(f->vs, "db", NULL, &err));
	OK(file_read(file, 100, &text, NULL, &err));
	assert_string_equal(text, "there");
	assert_int_equal(file_write_str(file, "x", NULL), -EROFS);
	OK(volume_unmount(f->vs, "db", &err));
	OK(volume_detach(f->vs, "db", &err));
	OK(volume_remove(f->vs, "db", &err));
	REFUSED(volume_remove(f->vs, "db", &err), ENOENT, "No such volume: db");
}

static void test_new_file_system_is_empty(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *path = NULL, *lost = NULL;

	create(f, "v", "{\"size\": 33554432}");
	OK(volume_attach(f->vs, "v", VOLUME_RW, &err));
	OK(volume_mount(f->vs, "v", &path, &err));
	lost = str_format("%s/lost+found", path);
	assert_int_not_equal(access(lost, F_OK), 0); /* initdb refuses it */
	OK(volume_detach(f->vs, "v", &err));
}

static void test_inspect_looks_like_docker(void **state)
{
	struct fixture *f = *state;
	CLEANUP_JSON json_t *v = NULL, *list = NULL;

	create(f, "v", "{\"size\": \"32MiB\", \"fs\": \"ext4\", \"labels\": {\"a\": \"b\"}}");
	v = inspect(f, "v");
	assert_string_equal(json_str(v, "Name", ""), "v");
	assert_string_equal(json_str(v, "Driver", ""), "local");
	assert_string_equal(json_str(v, "Scope", ""), "local");
	assert_true(str_ends(json_str(v, "Mountpoint", ""), "/run/volumes/v"));
	assert_string_equal(json_str(json_object_get(v, "Labels"), "a", ""), "b");
	assert_int_equal(json_int(json_object_get(v, "Status"), "size_bytes", 0), 32 << 20);
	assert_true(strlen(json_str(v, "CreatedAt", "")) == 20);
	OK(volume_list(f->vs, &list, &err));
	assert_int_equal(json_array_size(list), 1);
}

static void test_frozen_volume_waits_for_thaw(void **state)
{
	struct fixture *f = *state;
	CLEANUP_JSON json_t *v = NULL;

	create(f, "v", "{\"size\": \"32m\"}");
	OK(volume_attach(f->vs, "v", VOLUME_RW, &err));
	REFUSED(volume_freeze(f->vs, "v", &err), EINVAL, "not mounted");
	OK(volume_mount(f->vs, "v", NULL, &err));
	OK(volume_freeze(f->vs, "v", &err));
	OK(volume_freeze(f->vs, "v", &err));
	reopen(f);
	v = inspect(f, "v");
	assert_true(json_bool(json_object_get(v, "Status"), "frozen", false));
	OK(volume_thaw(f->vs, "v", &err));
	OK(volume_thaw(f->vs, "v", &err));
	OK(volume_freeze(f->vs, "v", &err));
	OK(volume_detach(f->vs, "v", &err)); /* thaws first */
}

static void test_busy_file_system_is_not_detached(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *path = NULL;
	CLEANUP_CLOSE int fd = -1;

	create(f, "v", "{\"size\": \"32m\"}");
	OK(volume_attach(f->vs, "v", VOLUME_RW, &err));
	OK(volume_mount(f->vs, "v", &path, &err));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	REFUSED(volume_detach(f->vs, "v", &err), EBUSY, "in use");
	REFUSED(volume_unmount(f->vs, "v", &err), EBUSY, "in use");
	assert_mode(f, "v", "rw");
	REFUSED(volume_remove(f->vs, "v", &err), EBUSY, "in use");
	close(TAKE_FD(fd));
	OK(volume_detach(f->vs, "v", &err));
}

static void test_volume_grows_with_its_file_system(void **state)
{
	struct fixture *f = *state;
	CLEANUP_JSON json_t *v = NULL;
	CLEANUP_FREE char *path = NULL;
	struct statvfs st;

	create(f, "v", "{\"size\": \"32m\"}");
	REFUSED(volume_resize(f->vs, "v", 16 << 20, &err), EINVAL, "only grow");
	OK(volume_resize(f->vs, "v", 64 << 20, &err));
	assert_mode(f, "v", "detached");
	OK(volume_attach(f->vs, "v", VOLUME_RW, &err));
	OK(volume_resize(f->vs, "v", 128 << 20, &err));
	v = inspect(f, "v");
	assert_int_equal(json_int(json_object_get(v, "Status"), "size_bytes", 0), 128 << 20);
	OK(volume_mount(f->vs, "v", &path, &err));
	assert_int_equal(statvfs(path, &st), 0);
	assert_true(st.f_blocks * st.f_frsize > 96 << 20);
	OK(volume_detach(f->vs, "v", &err));
}

static void test_raw_volume_has_a_device_and_no_mount(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *device = NULL;

	create(f, "raw", "{\"size\": \"4m\", \"fs\": \"none\"}");
	REFUSED(volume_device(f->vs, "raw", &device, &err), EINVAL, "not attached");
	OK(volume_attach(f->vs, "raw", VOLUME_RW, &err));
	OK(volume_device(f->vs, "raw", &device, &err));
	assert_true(str_starts(device, "/dev/loop"));
	REFUSED(volume_mount(f->vs, "raw", NULL, &err), EINVAL, "no file system");
	REFUSED(volume_attach(f->vs, "raw", VOLUME_RO, &err), EBUSY, "attached as rw");
	OK(volume_detach(f->vs, "raw", &err));
}

static void test_what_needs_a_second_host_is_refused(void **state)
{
	struct fixture *f = *state;

	create(f, "v", "{\"size\": \"4m\", \"fs\": \"none\"}");
	REFUSED(volume_attach(f->vs, "v", VOLUME_STANDBY, &err), EOPNOTSUPP, "one host");
	assert_mode(f, "v", "detached");
	OK(volume_attach(f->vs, "v", VOLUME_RW, &err));
	REFUSED(volume_promote(f->vs, "v", false, &err), EOPNOTSUPP, "one host");
	REFUSED(volume_demote(f->vs, "v", &err), EOPNOTSUPP, "driver rbd");
	REFUSED(volume_retake(f->vs, "v", &err), EOPNOTSUPP, "one host");
	REFUSED(volume_settle(f->vs, "v", &err), EOPNOTSUPP, "one host");
	REFUSED(volume_abandon(f->vs, "v", &err), EOPNOTSUPP, "one host");
	REFUSED(volume_snapshot_create(f->vs, "v", "s", &err), EOPNOTSUPP, "no snapshots");
	OK(volume_fence(f->vs, "other", &err));
	REFUSED(volume_fence(f->vs, "unit", &err), EINVAL, "itself");
	OK(volume_detach(f->vs, "v", &err));
}

static void refuse_options(struct fixture *f, const char *json, const char *text)
{
	CLEANUP_JSON json_t *opts = json_loads(json, JSON_DECODE_ANY, NULL);
	CLEANUP_JSON json_t *list = NULL;

	REFUSED(volume_create(f->vs, "local", "v", opts, &err), EINVAL, text);
	OK(volume_list(f->vs, &list, &err));
	assert_int_equal(json_array_size(list), 0);
}

static void test_bad_input_changes_nothing(void **state)
{
	struct fixture *f = *state;
	json_t *out = NULL;

	refuse_options(f, "{\"size\": \"lots\"}", "size");
	refuse_options(f, "{\"size\": -4}", "size");
	refuse_options(f, "{\"size\": 0}", "size");
	refuse_options(f, "{\"size\": \"1k\"}", "1 MiB");
	refuse_options(f, "{\"size\": \"2m\"}", "16 MiB");
	refuse_options(f, "{\"fs\": \"fat\"}", "ext4");
	refuse_options(f, "{\"fs\": 4}", "string");
	refuse_options(f, "{\"colour\": \"red\"}", "colour");
	refuse_options(f, "{\"labels\": [1]}", "labels");
	refuse_options(f, "{\"labels\": {\"a\": 1}}", "label a");
	refuse_options(f, "{\"features\": \"journaling\"}", "driver rbd");
	refuse_options(f, "[1]", "object");
	REFUSED(volume_create(f->vs, "local", "../x", NULL, &err), EINVAL, "invalid volume name");
	REFUSED(volume_create(f->vs, "local", "", NULL, &err), EINVAL, "invalid volume name");
	REFUSED(volume_create(f->vs, "floppy", "v", NULL, &err), EINVAL, "floppy");
	REFUSED(volume_create(f->vs, "rbd", "v", NULL, &err), EINVAL, "pool");
	REFUSED(volume_attach(f->vs, "none", VOLUME_RW, &err), ENOENT, "No such volume: none");
	REFUSED(volume_inspect(f->vs, "none", &out, &err), ENOENT, "No such volume: none");
	REFUSED(volume_mount(f->vs, "none", NULL, &err), EINVAL, "not attached");
	REFUSED(volume_fence(f->vs, "a/b", &err), EINVAL, "host name");
	OK(volume_detach(f->vs, "none", &err));
	create(f, "v", "{\"size\": \"4m\", \"fs\": \"none\"}");
	REFUSED(volume_create(f->vs, "local", "v", NULL, &err), EEXIST, "exists already");
}

static void test_corrupt_state_file_is_an_error_not_a_crash(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *path = attachment_path(f->run_dir, "v", "json");

	OK(file_write_atomic(path, "{\"driver\":", 10, 0600, &err));
	error_clear(&err);
	assert_true(volume_attach(f->vs, "v", VOLUME_RW, &err) < 0);
	OK(file_write_atomic(path, "{\"driver\":\"tape\"}", 17, 0600, &err));
	REFUSED(volume_detach(f->vs, "v", &err), EINVAL, "tape");
	unlink(path);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_data_survives_detach_and_restart),
		T(test_new_file_system_is_empty),
		T(test_inspect_looks_like_docker),
		T(test_frozen_volume_waits_for_thaw),
		T(test_busy_file_system_is_not_detached),
		T(test_volume_grows_with_its_file_system),
		T(test_raw_volume_has_a_device_and_no_mount),
		T(test_what_needs_a_second_host_is_refused),
		T(test_bad_input_changes_nothing),
		T(test_corrupt_state_file_is_an_error_not_a_crash),
	};

	if (access("/dev/loop-control", W_OK) < 0) {
		puts("1..0 # SKIP no /dev/loop-control");
		return 0;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
