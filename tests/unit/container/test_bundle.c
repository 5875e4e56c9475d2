/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Docker's create body to an OCI configuration (bundle.h), users of a root file system, the
 * json-file log, signals. Nothing here runs a container.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/container/bundle.h"
#include "runtime/container/jsonlog.h"

static struct error err;

static json_t *parse(const char *text)
{
	json_t *j = json_loads(text, 0, NULL);

	assert_non_null(j);
	return j;
}

static void check_args(const char *docker, const char *image, const char *want)
{
	CLEANUP_JSON json_t *d = parse(docker), *i = parse(image), *a = bundle_args(d, i);
	CLEANUP_FREE char *text = json_text(a);

	assert_string_equal(text, want);
}

static void test_entrypoint_and_command_merge_as_docker_does(void **state)
{
	static const char image[] = "{\"Entrypoint\":[\"e\"],\"Cmd\":[\"c\"]}";

	(void)state;
	check_args("{}", image, "[\"e\",\"c\"]");
	check_args("{\"Cmd\":[\"x\"]}", image, "[\"e\",\"x\"]");
	check_args("{\"Entrypoint\":[\"y\"]}", image, "[\"y\"]");
	check_args("{\"Entrypoint\":[\"y\"],\"Cmd\":[\"z\"]}", image, "[\"y\",\"z\"]");
	check_args("{\"Entrypoint\":[\"\"],\"Cmd\":[\"z\"]}", image, "[\"z\"]");
	check_args("{\"Cmd\":\"one\"}", "{}", "[\"one\"]");
	check_args("{\"Entrypoint\":null,\"Cmd\":null}", "{\"Cmd\":[\"c\"]}", "[\"c\"]");
}

static void test_what_is_not_honoured_is_refused_by_name(void **state)
{
	static const struct {
		const char *host, *says;
	} bad[] = {
		{ "{\"PidMode\":\"host\"}", "PidMode" },
		{ "{\"IpcMode\":\"host\"}", "IpcMode" },
		{ "{\"UTSMode\":\"host\"}", "UTSMode" },
		{ "{\"CgroupnsMode\":\"host\"}", "CgroupnsMode" },
		{ "{\"SecurityOpt\":[\"apparmor=x\"]}", "apparmor=x" },
		{ "{\"Memory\":1000}", "6MB" },
		{ "{\"Memory\":8000000,\"MemorySwap\":7000000}", "memoryswap" },
		{ "{\"NanoCpus\":1,\"CpuQuota\":1}", "Conflicting" },
		{ "{\"CapAdd\":[\"FLY\"]}", "CAP_FLY" },
		{ "{\"CapDrop\":[5]}", "CapDrop" },
		{ "{\"Init\":true}", "Init" },
		{ "{\"DeviceRequests\":[{}]}", "DeviceRequests" },
		{ "{\"VolumesFrom\":[\"x\"]}", "VolumesFrom" },
		{ "{\"LogConfig\":{\"Type\":\"syslog\"}}", "syslog" },
		{ "{\"Ulimits\":[{\"Name\":\"nofile\"}]}", "Ulimits" },
		{ "{\"Tmpfs\":{\"x\":\"\"}}", "Tmpfs" },
		{ "{\"OomKillDisable\":true}", "OomKillDisable" },
		{ "{\"Runtime\":\"kata\"}", "Runtime" },
		{ "{\"StorageOpt\":{\"size\":\"1\"}}", "StorageOpt" },
	};
	CLEANUP_JSON json_t *image = parse("{\"Cmd\":[\"x\"]}"), *none = json_object();

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CLEANUP_JSON json_t *hc = parse(bad[i].host), *d = json_object();

		json_object_set(d, "HostConfig", hc);
		error_clear(&err);
		if (bundle_check(d, image, &err) != -EINVAL || !strstr(err.msg, bad[i].says))
			fail_msg("%s: \"%s\"", bad[i].host, err.msg);
	}
	assert_int_equal(bundle_check(none, image, &err), 0);
	assert_int_equal(bundle_check(none, none, &err), -EINVAL); /* no command */
}

static void test_what_the_docker_cli_sends_by_default_is_accepted(void **state)
{
	/* docker run busybox true, docker CLI 28 */
	static const char text[] =
		"{\"Hostname\":\"\",\"Domainname\":\"\",\"User\":\"\",\"AttachStdin\":false,"
		"\"AttachStdout\":true,\"AttachStderr\":true,\"Tty\":false,\"OpenStdin\":false,"
		"\"StdinOnce\":false,\"Env\":null,\"Cmd\":[\"true\"],\"Image\":\"busybox\","
		"\"Volumes\":{},\"WorkingDir\":\"\",\"Entrypoint\":null,\"OnBuild\":null,"
		"\"Labels\":{},\"HostConfig\":{\"Binds\":null,\"ContainerIDFile\":\"\","
		"\"LogConfig\":{\"Type\":\"\",\"Config\":{}},\"NetworkMode\":\"default\","
		"\"PortBindings\":{},\"RestartPolicy\":{\"Name\":\"no\",\"MaximumRetryCount\":0},"
		"\"AutoRemove\":false,\"VolumeDriver\":\"\",\"VolumesFrom\":null,"
		"\"ConsoleSize\":[24,80],\"CapAdd\":null,\"CapDrop\":null,\"CgroupnsMode\":\"\","
		"\"Dns\":[],\"DnsOptions\":[],\"DnsSearch\":[],\"ExtraHosts\":null,\"GroupAdd\":"
		"null,"
		"\"IpcMode\":\"\",\"Cgroup\":\"\",\"Links\":null,\"OomScoreAdj\":0,\"PidMode\":"
		"\"\","
		"\"Privileged\":false,\"PublishAllPorts\":false,\"ReadonlyRootfs\":false,"
		"\"SecurityOpt\":null,\"UTSMode\":\"\",\"UsernsMode\":\"\",\"ShmSize\":0,"
		"\"Isolation\":\"\",\"CpuShares\":0,\"Memory\":0,\"NanoCpus\":0,\"CgroupParent\":"
		"\"\","
		"\"BlkioWeight\":0,\"BlkioWeightDevice\":[],\"BlkioDeviceReadBps\":[],"
		"\"BlkioDeviceWriteBps\":[],\"BlkioDeviceReadIOps\":[],\"BlkioDeviceWriteIOps\":[],"
		"\"CpuPeriod\":0,\"CpuQuota\":0,\"CpuRealtimePeriod\":0,\"CpuRealtimeRuntime\":0,"
		"\"CpusetCpus\":\"\",\"CpusetMems\":\"\",\"Devices\":[],\"DeviceCgroupRules\":null,"
		"\"DeviceRequests\":null,\"MemoryReservation\":0,\"MemorySwap\":0,"
		"\"MemorySwappiness\":-1,\"OomKillDisable\":false,\"PidsLimit\":0,\"Ulimits\":[],"
		"\"CpuCount\":0,\"CpuPercent\":0,\"IOMaximumIOps\":0,\"IOMaximumBandwidth\":0,"
		"\"MaskedPaths\":null,\"ReadonlyPaths\":null},\"NetworkingConfig\":{}}";
	CLEANUP_JSON json_t *d = parse(text), *image = json_object();

	(void)state;
	if (bundle_check(d, image, &err) < 0)
		fail_msg("%s", err.msg);
}

static void test_resources(void **state)
{
	CLEANUP_JSON json_t *hc = parse("{\"Memory\":1000000000,\"NanoCpus\":1500000000,"
					"\"PidsLimit\":7,\"CpuShares\":512}");
	CLEANUP_JSON json_t *r = bundle_resources(hc);

	(void)state;
	assert_int_equal(json_integer_value(json_at(r, "memory.swap")), 2000000000);
	assert_int_equal(json_integer_value(json_at(r, "cpu.quota")), 150000);
	assert_int_equal(json_integer_value(json_at(r, "cpu.period")), 100000);
	assert_int_equal(json_integer_value(json_at(r, "pids.limit")), 7);
	assert_null(json_at(r, "memory.reservation"));
}

static void test_capabilities(void **state)
{
	CLEANUP_JSON json_t *none = json_object(), *d = bundle_caps(none, &err);
	CLEANUP_JSON json_t *hc = parse("{\"CapDrop\":[\"ALL\"],\"CapAdd\":[\"net_raw\"]}");
	CLEANUP_JSON json_t *c = bundle_caps(hc, &err), *hc2 = parse("{\"CapAdd\":[\"ALL\"]}");
	CLEANUP_JSON json_t *all = bundle_caps(hc2, &err);

	(void)state;
	assert_int_equal(json_array_size(d), 14);
	assert_int_equal(json_array_size(c), 1);
	assert_string_equal(json_string_value(json_array_get(c, 0)), "CAP_NET_RAW");
	assert_true(json_array_size(all) >= 40);
}

static void test_seccomp_profile_follows_capabilities(void **state)
{
	CLEANUP_JSON json_t *none = json_array(), *admin = parse("[\"CAP_SYS_ADMIN\"]");
	CLEANUP_JSON json_t *a = seccomp_default(none), *b = seccomp_default(admin);
	CLEANUP_FREE char *ta = json_text(a), *tb = json_text(b);

	(void)state;
	assert_null(strstr(ta, "\"mount\""));
	assert_non_null(strstr(tb, "\"mount\""));
	assert_non_null(strstr(ta, "\"clone3\"],\"action\":\"SCMP_ACT_ERRNO\""));
	assert_non_null(strstr(ta, "2114060288"));
	assert_null(strstr(tb, "2114060288"));
	assert_string_equal(json_str(a, "defaultAction", ""), "SCMP_ACT_ERRNO");
}

static void put(const char *dir, const char *name, const char *text)
{
	CLEANUP_FREE char *path = str_format("%s/%s", dir, name);

	assert_int_equal(file_write_atomic(path, text, strlen(text), 0644, &err), 0);
}

static void resolve(const char *root, const char *spec, const char *want)
{
	CLEANUP_FREE char *home = NULL, *text = NULL, *got = NULL;
	CLEANUP_JSON json_t *groups = NULL;
	int64_t uid, gid;

	if (user_resolve(root, spec, NULL, &uid, &gid, &groups, &home, &err) < 0)
		got = str_dup("error");
	else
		got = str_format("%d %d %s %s", (int)uid, (int)gid, text = json_text(groups),
				 home ? home : "-");
	assert_string_equal(got, want);
}

static void test_users_come_from_the_roots_own_files(void **state)
{
	char root[] = "/tmp/ferry-user-XXXXXX";
	CLEANUP_FREE char *etc = NULL, *link = NULL;

	(void)state;
	assert_non_null(mkdtemp(root));
	etc = str_format("%s/etc", root);
	assert_int_equal(dir_make(etc, 0755, &err), 0);
	put(etc, "passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:44::/srv:/bin/sh\n");
	put(etc, "group", "root:x:0:\nweb:x:44:\nlogs:x:55:web,other\n7:x:77:\n");
	resolve(root, "", "0 0 [] /root");
	resolve(root, "web", "33 44 [55] /srv");
	resolve(root, "33", "33 44 [55] /srv");
	resolve(root, "web:logs", "33 55 [] /srv");
	resolve(root, "1000", "1000 0 [] -");
	resolve(root, "1000:1001", "1000 1001 [] -");
	resolve(root, "0:7", "0 77 [] /root");
	resolve(root, "ghost", "error");
	resolve(root, "web:ghosts", "error");
	/* A link of the image cannot lead to the host's file. */
	link = str_format("%s/passwd", etc);
	unlink(link);
	assert_int_equal(symlink("/../../../../etc/passwd", link), 0);
	resolve(root, "daemon", "error");
	assert_int_equal(dir_remove(root, &err), 0);
}

static void test_log_lines_are_dockers(void **state)
{
	char path[] = "/tmp/ferry-log-XXXXXX";
	struct jsonlog l = { .fd = mkstemp(path) };
	CLEANUP_FREE char *text = NULL, *line = NULL;
	CLEANUP_BUF struct buf big = { 0 };
	size_t len, count = 0;
	int64_t ns;
	int stream;

	(void)state;
	jsonlog_add(&l, 1, "one\ntw", 6);
	jsonlog_add(&l, 2, "err \"q\" \xff\n", 10);
	jsonlog_add(&l, 1, "o\n", 2);
	jsonlog_add(&l, 1, "tail", 4);
	jsonlog_flush(&l, 1);
	jsonlog_flush(&l, 2);
	assert_int_equal(file_read(path, 1 << 20, &text, NULL, &err), 0);
	assert_true(str_starts(text, "{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"20"));
	assert_non_null(strstr(text, "\"err \\\"q\\\" \xef\xbf\xbd\\n\",\"stream\":\"stderr\""));
	assert_non_null(strstr(text, "{\"log\":\"two\\n\""));
	assert_non_null(strstr(text, "{\"log\":\"tail\""));
	assert_int_equal(jsonlog_parse(text, strcspn(text, "\n"), &stream, &line, &len, &ns), 0);
	assert_int_equal(stream, 1);
	assert_string_equal(line, "one\n");
	assert_int_equal(jsonlog_parse("{\"log\":", 7, &stream, &line, &len, &ns), -EINVAL);
	/* 40,000 bytes without a newline: pieces of 16 KiB, only the last with a newline */
	assert_int_equal(ftruncate(l.fd, 0), 0);
	lseek(l.fd, 0, SEEK_SET);
	for (int i = 0; i < 40000; i++)
		buf_add(&big, "x", 1);
	buf_add(&big, "\n", 1);
	jsonlog_add(&l, 1, big.data, big.len);
	free(text);
	text = NULL;
	assert_int_equal(file_read(path, 1 << 20, &text, NULL, &err), 0);
	for (char *p = text; (p = strstr(p, "\"log\"")); p++)
		count++;
	assert_int_equal(count, 3);
	jsonlog_flush(&l, 1);
	close(l.fd);
	unlink(path);
}

static void test_times_survive_formatting(void **state)
{
	CLEANUP_FREE char *t = time_format(1764350000123456789);
	int64_t ns = 0;

	(void)state;
	assert_string_equal(t, "2025-11-28T17:13:20.123456789Z");
	assert_int_equal(time_parse(t, &ns), 0);
	assert_int_equal(ns, 1764350000123456789);
	assert_int_equal(time_parse("yesterday", &ns), -EINVAL);
}

static void test_signals_by_any_name(void **state)
{
	(void)state;
	assert_int_equal(signal_number("15"), SIGTERM);
	assert_int_equal(signal_number("term"), SIGTERM);
	assert_int_equal(signal_number("SIGUSR1"), SIGUSR1);
	assert_int_equal(signal_number("RTMIN+3"), SIGRTMIN + 3);
	assert_int_equal(signal_number("0"), 0);
	assert_int_equal(signal_number("SIGNOPE"), 0);
	assert_int_equal(signal_number(""), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entrypoint_and_command_merge_as_docker_does),
		cmocka_unit_test(test_what_is_not_honoured_is_refused_by_name),
		cmocka_unit_test(test_what_the_docker_cli_sends_by_default_is_accepted),
		cmocka_unit_test(test_resources),
		cmocka_unit_test(test_capabilities),
		cmocka_unit_test(test_seccomp_profile_follows_capabilities),
		cmocka_unit_test(test_users_come_from_the_roots_own_files),
		cmocka_unit_test(test_log_lines_are_dockers),
		cmocka_unit_test(test_times_survive_formatting),
		cmocka_unit_test(test_signals_by_any_name),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
