/* SPDX-License-Identifier: Apache-2.0 */
/* runtime/oci/spec.h: what of a config.json is taken, what is refused and how it is said. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "base/json.h"
#include "base/str.h"
#include "runtime/oci/spec.h"

static const char whole[] =
	"{\"ociVersion\":\"1.2.0\",\"root\":{\"path\":\"rootfs\",\"readonly\":true},"
	"\"hostname\":\"h\",\"process\":{\"args\":[\"a\",\"b\"],\"env\":[\"X=1\"],\"cwd\":\"/w\","
	"\"user\":{\"uid\":1,\"gid\":2,\"umask\":63,\"additionalGids\":[3,4]},"
	"\"capabilities\":{\"bounding\":[\"CAP_CHOWN\",\"CAP_KILL\"],\"effective\":[\"CAP_KILL\"]},"
	"\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"soft\":10,\"hard\":-1}],"
	"\"oomScoreAdj\":5,\"noNewPrivileges\":true},"
	"\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"options\":[\"nosuid\"]}],"
	"\"hooks\":{\"poststop\":[{\"path\":\"/bin/true\",\"timeout\":3}]},"
	"\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"time\"},"
	"{\"type\":\"network\",\"path\":\"/n\"}],"
	"\"timeOffsets\":{\"monotonic\":{\"secs\":-5,\"nanosecs\":7}},"
	"\"rootfsPropagation\":\"rslave\",\"maskedPaths\":[\"/m\"],"
	"\"resources\":{\"memory\":{\"limit\":1048576},\"cpu\":{\"quota\":-1},"
	"\"devices\":[{\"allow\":false,\"access\":\"rwm\"},"
	"{\"allow\":true,\"type\":\"c\",\"major\":1,\"minor\":3,\"access\":\"rw\"}]}}}";

static void test_every_field_is_read(void **state)
{
	struct error err = { 0 };
	CLEANUP_SPEC struct spec *s = spec_parse(whole, strlen(whole), &err);

	(void)state;
	assert_non_null(s);
	assert_string_equal(s->rootfs, "rootfs");
	assert_true(s->rootfs_readonly);
	assert_int_equal(s->process.args.n, 2);
	assert_null(s->process.args.v[2]);
	assert_int_equal(s->process.uid, 1);
	assert_int_equal(s->process.groups[1], 4);
	assert_int_equal(s->process.umask, 077);
	assert_int_equal(s->process.caps[CAPSET_BOUNDING], 1 << 0 | 1 << 5);
	assert_int_equal(s->process.caps[CAPSET_PERMITTED], 0);
	assert_true(s->process.rlimits[0].lim.rlim_max == RLIM_INFINITY);
	assert_true(s->ns[NS_MNT].wanted && s->ns[NS_TIME].wanted && !s->ns[NS_PID].wanted);
	assert_string_equal(s->ns[NS_NET].path, "/n");
	assert_int_equal(s->mono_s, -5);
	assert_int_equal(s->mono_ns, 7);
	assert_int_equal(s->rootfs_propagation, MS_SLAVE | MS_REC);
	assert_int_equal(s->res.mem_limit, 1 << 20);
	assert_int_equal(s->res.cpu_quota, -1);
	assert_true(s->res.pids_limit == LIMIT_NONE);
	assert_true(s->res.ndevices > 2); /* and what every container may do */
	assert_int_equal(s->res.devices[0].type, 'a');
	assert_false(s->res.devices[1].mknod);
	assert_int_equal(s->nhooks[HOOK_POSTSTOP], 1);
}

/* The document with the value at a path of keys replaced. */
static char *with(const char *path, const char *value)
{
	CLEANUP_JSON json_t *j = json_loads(whole, 0, NULL);
	char *copy = str_dup(path), *last = strrchr(copy, '.');
	json_t *at = j;

	if (last) {
		*last = '\0';
		at = json_at(j, copy);
	}
	assert_non_null(at);
	json_object_set_new(at, last ? last + 1 : copy, json_loads(value, JSON_DECODE_ANY, NULL));
	free(copy);
	return json_text(j);
}

static void test_what_is_wrong_is_named(void **state)
{
	static const struct {
		const char *path, *value, *says;
	} bad[] = {
		{ "ociVersion", "\"2.0\"", "ociVersion 2.0" },
		{ "ociVersion", "null", "ociVersion" },
		{ "root", "null", "\"root\" is missing" },
		{ "root.path", "7", "\"path\" must be a string" },
		{ "process.args", "[1]", "\"args\" must hold strings" },
		{ "process.cwd", "\"w\"", "absolute" },
		{ "process.user", "{\"uid\":-1}", "\"uid\"" },
		{ "process.user", "{\"additionalGids\":[\"x\"]}", "additionalGids" },
		{ "process.capabilities", "{\"bounding\":[\"CAP_FLY\"]}", "CAP_FLY" },
		{ "process.rlimits", "[{\"type\":\"RLIMIT_X\",\"soft\":1,\"hard\":1}]",
		  "RLIMIT_X" },
		{ "process.rlimits", "[{\"type\":\"RLIMIT_CPU\",\"soft\":2,\"hard\":1}]",
		  "soft is" },
		{ "process.oomScoreAdj", "2000", "oomScoreAdj" },
		{ "linux", "null", "linux" },
		{ "linux.namespaces", "[]", "mount" },
		{ "linux.namespaces",
		  "[{\"type\":\"mount\"},{\"type\":\"time\"},{\"type\":\"user\"}]",
		  "needs linux.uidMappings" },
		{ "linux.namespaces",
		  "[{\"type\":\"mount\"},{\"type\":\"time\"},{\"type\":\"user\",\"path\":\"/u\"}]",
		  "joining a user namespace" },
		{ "linux.namespaces", "[{\"type\":\"mount\"},{\"type\":\"mount\"}]", "twice" },
		{ "linux.namespaces", "[{\"type\":\"mount\"},{\"type\":\"soul\"}]", "soul" },
		{ "linux.namespaces", "[{\"type\":\"mount\"}]", "timeOffsets" },
		{ "linux.timeOffsets", "{\"monotonic\":{\"nanosecs\":-1}}", "nanosecs" },
		{ "linux.rootfsPropagation", "\"odd\"", "odd" },
		{ "linux.intelRdt", "{\"closID\":\"x\"}", "intelRdt" },
		{ "linux.uidMappings", "[{}]", "uidMappings[0]" },
		{ "linux.gidMappings", "[{\"containerID\":0,\"hostID\":1,\"size\":1}]",
		  "\"user\" namespace" },
		{ "linux.resources", "{\"blockIO\":{\"weight\":1001}}", "weight" },
		{ "linux.resources", "{\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":8}]}}",
		  "throttleReadBpsDevice[0]" },
		{ "linux.resources", "{\"cpu\":{\"realtimeRuntime\":1}}", "realtime" },
		{ "linux.resources", "{\"memory\":{\"limit\":4096,\"swap\":1}}", "swap" },
		{ "linux.resources", "{\"devices\":[{\"access\":\"x\"}]}", "devices[0]" },
		{ "linux.devices", "[{\"path\":\"x\",\"type\":\"c\"}]", "linux.devices[0]" },
		{ "linux.cgroupsPath", "\"/../x\"", "cgroupsPath" },
		{ "mounts", "[{\"type\":\"proc\"}]", "mounts[0]" },
		{ "mounts", "[{\"destination\":\"/x\",\"uidMappings\":[]}]", "id-mapped" },
		{ "hooks", "{\"poststart\":[{\"path\":\"x\"}]}", "absolute" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *text = with(bad[i].path, bad[i].value);
		struct error err = { 0 };
		struct spec *s = spec_parse(text, strlen(text), &err);

		if (s || !strstr(err.msg, bad[i].says))
			fail_msg("%s = %s: wanted \"%s\", got \"%s\"", bad[i].path, bad[i].value,
				 bad[i].says, s ? "no error" : err.msg);
		free(text);
	}
}

static void test_cut_documents_are_refused_not_crashed_on(void **state)
{
	(void)state;
	for (size_t n = 0; n < sizeof(whole) - 1; n++) {
		struct error err = { 0 };

		assert_null(spec_parse(whole, n, &err));
		assert_int_equal(err.code, EINVAL);
	}
}

static void test_capability_names(void **state)
{
	(void)state;
	assert_int_equal(spec_cap_number("CAP_CHOWN"), 0);
	assert_int_equal(spec_cap_number("sys_admin"), 21);
	assert_int_equal(spec_cap_number("CAP_5"), -1);
	assert_int_equal(spec_cap_number(""), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_field_is_read),
		cmocka_unit_test(test_what_is_wrong_is_named),
		cmocka_unit_test(test_cut_documents_are_refused_not_crashed_on),
		cmocka_unit_test(test_capability_names),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
