/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ferry-oci's command line on real bundles: the life of a container as an OCI engine drives
 * it, and that nothing is left of one that was not finished.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/oci/cgroup.h"

extern char **environ;

#define PATIENCE_NS 30000000000

static char *base, *oci, *root, *group;
static struct error err;

static json_t *config(const char *script)
{
	json_t *c = json_pack(
		"{s:s,s:{s:s},s:s,s:{s:[s,s,s],s:s,s:[s],s:{s:i,s:i}},s:[{s:s,s:s,s:s},"
		"{s:s,s:s,s:s,s:[s]}],s:{s:s,s:[{s:s},{s:s},{s:s},{s:s},{s:s},{s:s},{s:s}]}}",
		"ociVersion", "1.2.0", "root", "path", "rootfs", "hostname", "box", "process",
		"args", "sh", "-c", script, "cwd", "/", "env", "PATH=/bin", "user", "uid", 0, "gid",
		0, "mounts", "destination", "/proc", "type", "proc", "source", "proc",
		"destination", "/dev", "type", "tmpfs", "source", "tmpfs", "options", "mode=755",
		"linux", "cgroupsPath", group, "namespaces", "type", "pid", "type", "mount", "type",
		"ipc", "type", "uts", "type", "cgroup", "type", "network", "type", "time");

	assert_non_null(c);
	return c;
}

/* Writes config.json of the bundle (takes c). */
static void bundle(json_t *c)
{
	CLEANUP_FREE char *path = str_format("%s/config.json", base), *text = json_text(c);

	json_decref(c);
	assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, &err), 0);
}

static pid_t spawn(const char *const args[], const char *out)
{
	const char *argv[24] = { oci, "--root", root };
	posix_spawn_file_actions_t fa;
	pid_t pid;
	int n = 3;

	while (*args)
		argv[n++] = *args++;
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 1, out, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND,
					 0600);
	posix_spawn_file_actions_adddup2(&fa, 1, 2);
	assert_int_equal(posix_spawn(&pid, oci, &fa, NULL, (char *const *)(uintptr_t)argv, environ),
			 0);
	posix_spawn_file_actions_destroy(&fa);
	return pid;
}

/* Runs ferry-oci; its exit status, its output (and the container's) in *text. */
static int call(char **text, const char *const args[])
{
	CLEANUP_FREE char *out = str_format("%s/out", base);
	pid_t pid = spawn(args, out);
	int status;

	assert_int_equal(process_wait(pid, &status), 0);
	free(*text);
	*text = NULL;
	assert_int_equal(file_read(out, 1 << 20, text, NULL, &err), 0);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}
#define CALL(...) call(&text, (const char *const[]){ __VA_ARGS__, NULL })

static bool group_exists(void)
{
	CLEANUP_CGROUPS struct cgroups cg;
	bool any = false;

	assert_int_equal(cgroups_load(&cg, &err), 0);
	for (size_t i = 0; i < cg.n; i++) {
		CLEANUP_FREE char *p = str_format("%s%s", cg.hier[i].mount, group);

		any |= access(p, F_OK) == 0;
	}
	return any;
}

static bool state_left(const char *id)
{
	CLEANUP_FREE char *p = str_format("%s/%s", root, id);

	return access(p, F_OK) == 0;
}

static int setup(void **state)
{
	static const char *const dirs[] = { "bin", "etc", "proc", "sys", "dev", "tmp" };
	static const char *const applets[] = { "sh",   "cat",  "sleep", "echo",	    "ls",    "id",
					       "grep", "test", "touch", "hostname", "mknod", "dd" };
	char dir[] = "/tmp/ferry-oci-XXXXXX", self[PATH_MAX] = "";
	CLEANUP_FREE char *bb = NULL;
	char *p;

	(void)state;
	assert_non_null(mkdtemp(dir));
	base = str_dup(dir);
	root = str_format("%s/run", base);
	group = str_format("/ferry-ot-%d/c", getpid());
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	p = strstr(self, "/tests/unit/");
	assert_non_null(p);
	*p = '\0';
	oci = str_format("%s/ferry-oci", getenv("FERRY_BIN") ? getenv("FERRY_BIN") : self);
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		CLEANUP_FREE char *d = str_format("%s/rootfs/%s", base, dirs[i]);

		assert_int_equal(dir_make(d, 0755, &err), 0);
	}
	bb = str_format("%s/rootfs/bin/busybox", base);
	const char *const cp[] = { "cp", "/bin/busybox", bb, NULL };

	assert_int_equal(process_run(cp, NULL, &err), 0);
	for (size_t i = 0; i < sizeof(applets) / sizeof(applets[0]); i++) {
		CLEANUP_FREE char *l = str_format("%s/rootfs/bin/%s", base, applets[i]);

		assert_int_equal(symlink("busybox", l), 0);
	}
	/* Whatever a test's container leaves becomes our child, to be waited for. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return 0;
}

/* After each test: a failed one must not fail the next. */
static int clean(void **state)
{
	CLEANUP_FREE char *text = NULL;
	DIR *d = opendir(root);
	struct dirent *e;

	(void)state;
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			CALL("delete", "--force", e->d_name);
	if (d)
		closedir(d);
	return 0;
}

static int teardown(void **state)
{
	CLEANUP_CGROUPS struct cgroups cg;
	CLEANUP_FREE char *parent = str_dup(group);

	(void)state;
	*strrchr(parent, '/') = '\0';
	if (cgroups_load(&cg, NULL) == 0)
		cgroup_remove(&cg, parent, NULL);
	dir_remove(base, &err);
	free(base);
	free(oci);
	free(root);
	free(group);
	return 0;
}

/* --- tests ------------------------------------------------------------------------------- */

static void test_run_gives_output_and_exit_status(void **state)
{
	CLEANUP_FREE char *text = NULL;

	(void)state;
	bundle(config("hostname; echo $$; exit 42"));
	assert_int_equal(CALL("run", "--bundle", base, "a"), 42);
	assert_string_equal(text, "box\n1\n");
	assert_false(state_left("a"));
	assert_false(group_exists());
}

static json_t *state_of(const char *id)
{
	CLEANUP_FREE char *text = NULL;

	assert_int_equal(CALL("state", id), 0);
	return json_loads(text, 0, NULL);
}

static void test_life_from_create_to_delete(void **state)
{
	CLEANUP_FREE char *text = NULL, *pidfile = str_format("%s/pid", base), *pid = NULL;
	CLEANUP_JSON json_t *s = NULL;
	int status;

	(void)state;
	bundle(config("sleep 1000"));
	assert_int_equal(CALL("create", "--bundle", base, "--pid-file", pidfile, "a"), 0);
	s = state_of("a");
	assert_string_equal(json_str(s, "status", ""), "created");
	assert_int_equal(file_read(pidfile, 64, &pid, NULL, &err), 0);
	assert_int_equal(json_int(s, "pid", 0), atoi(pid));
	assert_int_equal(CALL("create", "--bundle", base, "a"), 1);
	assert_non_null(strstr(text, "exists already"));
	assert_int_equal(CALL("exec", "a", "true"), 1);
	assert_int_equal(CALL("start", "a"), 0);
	assert_int_equal(CALL("start", "a"), 1);
	assert_non_null(strstr(text, "running"));
	json_decref(s);
	s = state_of("a");
	assert_string_equal(json_str(s, "status", ""), "running");
	assert_int_equal(CALL("delete", "a"), 1);
	assert_int_equal(CALL("pause", "a"), 0);
	json_decref(s);
	s = state_of("a");
	assert_string_equal(json_str(s, "status", ""), "paused");
	assert_int_equal(CALL("resume", "a"), 0);
	assert_int_equal(CALL("list", "--quiet"), 0);
	assert_string_equal(text, "a\n");
	assert_int_equal(CALL("ps", "--format", "json", "a"), 0);
	assert_int_equal(CALL("kill", "a", "NONSENSE"), 1);
	assert_int_equal(CALL("kill", "a", "KILL"), 0);
	assert_int_equal(process_wait(atoi(pid), &status), 0);
	json_decref(s);
	s = state_of("a");
	assert_string_equal(json_str(s, "status", ""), "stopped");
	assert_int_equal(CALL("kill", "a", "KILL"), 1);
	assert_int_equal(CALL("delete", "a"), 0);
	assert_int_equal(CALL("state", "a"), 1);
	assert_non_null(strstr(text, "does not exist"));
	assert_int_equal(CALL("delete", "--force", "a"), 0);
	assert_false(group_exists());
}

static void test_program_that_is_not_there_is_127(void **state)
{
	CLEANUP_FREE char *text = NULL;
	json_t *c = config("");

	(void)state;
	json_object_set_new(json_object_get(c, "process"), "args", json_pack("[s]", "/bin/none"));
	bundle(c);
	assert_int_equal(CALL("create", "--bundle", base, "a"), 127);
	assert_non_null(
		strstr(text, "exec: \"/bin/none\": stat /bin/none: no such file or directory"));
	assert_false(state_left("a"));
	assert_false(group_exists());
	c = config("");
	json_object_set_new(json_object_get(c, "process"), "args", json_pack("[s]", "none"));
	bundle(c);
	assert_int_equal(CALL("run", "--bundle", base, "a"), 127);
	assert_non_null(strstr(text, "exec: \"none\": executable file not found in $PATH"));
	c = config("");
	json_object_set_new(json_object_get(c, "process"), "args", json_pack("[s]", "/etc"));
	bundle(c);
	assert_int_equal(CALL("run", "--bundle", base, "a"), 126);
}

static void test_failed_create_leaves_nothing(void **state)
{
	CLEANUP_FREE char *text = NULL;
	json_t *c = config("true");

	(void)state;
	json_array_append_new(json_object_get(c, "mounts"),
			      json_pack("{s:s,s:s,s:s,s:[s]}", "destination", "/x", "type", "bind",
					"source", "/not/there", "options", "bind"));
	bundle(c);
	assert_int_equal(CALL("create", "--bundle", base, "a"), 1);
	assert_non_null(strstr(text, "/not/there"));
	assert_false(state_left("a"));
	assert_false(group_exists());
	assert_int_equal(CALL("--systemd-cgroup", "create", "--bundle", base, "a"), 1);
	assert_non_null(strstr(text, "systemd"));
}

/* A hook holds create half way; its caller is killed; the container's init must be gone. */
static void test_killed_caller_leaves_no_init(void **state)
{
	CLEANUP_FREE char *text = NULL, *out = str_format("%s/out", base);
	CLEANUP_FREE char *mark = str_format("%s/mark", base);
	CLEANUP_FREE char *script = str_format("echo here > %s; exec sleep 1000", mark);
	const char *const args[] = { "create", "--bundle", base, "a", NULL };
	int64_t deadline = clock_mono_ns() + PATIENCE_NS;
	CLEANUP_CGROUPS struct cgroups cg;
	CLEANUP_FREE pid_t *inside = NULL;
	json_t *c = config("true");
	size_t n = 1;
	int status;
	pid_t pid;

	(void)state;
	json_object_set_new(c, "hooks",
			    json_pack("{s:[{s:s,s:[s,s,s]}]}", "createRuntime", "path", "/bin/sh",
				      "args", "sh", "-c", script));
	bundle(c);
	pid = spawn(args, out);
	while (access(mark, F_OK) < 0 && clock_mono_ns() < deadline)
		clock_sleep_ns(5000000);
	assert_int_equal(access(mark, F_OK), 0);
	assert_int_equal(process_kill(pid, SIGKILL), 0);
	assert_int_equal(process_wait(pid, &status), 0);
	assert_int_equal(cgroups_load(&cg, &err), 0);
	while (n && clock_mono_ns() < deadline) {
		free(inside);
		inside = NULL;
		if (cgroup_pids(&cg, group, &inside, &n) < 0)
			break;
		/* Dead ones are reparented to us and leave the group when they are reaped. */
		for (size_t i = 0; i < n; i++)
			waitpid(inside[i], NULL, WNOHANG);
		clock_sleep_ns(5000000);
	}
	assert_int_equal(n, 0);
	assert_int_equal(CALL("delete", "--force", "a"), 0);
	assert_false(state_left("a"));
	assert_false(group_exists());
	/* The hook itself was a child of the killed one and is now ours. */
	for (DIR *d = opendir("/proc/self/task"); d; closedir(d), d = NULL) {
		CLEANUP_FREE char *kids = NULL,
				  *path = str_format("/proc/self/task/%d/children", getpid());

		if (file_read(path, 4096, &kids, NULL, NULL) == 0)
			for (char *save = NULL, *k = strtok_r(kids, " \n", &save); k;
			     k = strtok_r(NULL, " \n", &save)) {
				process_kill(atoi(k), SIGKILL);
				process_wait(atoi(k), &status);
			}
	}
}

static void test_hooks_see_the_state_in_order(void **state)
{
	static const char *const kinds[] = { "prestart",       "createRuntime", "createContainer",
					     "startContainer", "poststart",	"poststop" };
	CLEANUP_FREE char *text = NULL, *log = str_format("%s/hooks", base), *got = NULL;
	json_t *c = config("exit 0"), *hooks = json_object();

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		CLEANUP_FREE char *outside =
			str_format("grep -q '\"id\": \"a\"' && echo %s >> %s", kinds[i], log);

		/* startContainer runs inside, where the log is not. */
		json_object_set_new(hooks, kinds[i],
				    json_pack("[{s:s,s:[s,s,s],s:[s]}]", "path", "/bin/sh", "args",
					      "sh", "-c",
					      i == 3 ? "PATH=/bin grep -q created" : outside, "env",
					      "PATH=/bin:/usr/bin"));
	}
	json_object_set_new(c, "hooks", hooks);
	bundle(c);
	assert_int_equal(CALL("run", "--bundle", base, "a"), 0);
	assert_int_equal(file_read(log, 4096, &got, NULL, &err), 0);
	assert_string_equal(got, "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop\n");
}

static void test_exec_joins_all_namespaces(void **state)
{
	CLEANUP_FREE char *text = NULL;
	int status;

	(void)state;
	bundle(config("sleep 1000"));
	assert_int_equal(CALL("create", "--bundle", base, "a"), 0);
	assert_int_equal(CALL("start", "a"), 0);
	CLEANUP_JSON json_t *s = state_of("a");

	assert_int_equal(CALL("exec", "--env", "A=b", "--user", "5:6", "--cwd", "/tmp", "a", "sh",
			      "-c",
			      "hostname; echo $A; id -u; id -g; pwd; cat /proc/1/comm; exit 3"),
			 3);
	assert_string_equal(text, "box\nb\n5\n6\n/tmp\nsleep\n");
	assert_int_equal(CALL("exec", "a", "nothing"), 127);
	assert_int_equal(CALL("delete", "--force", "a"), 0);
	assert_int_equal(process_wait((pid_t)json_int(s, "pid", 0), &status), 0);
}

/* Root inside is nobody outside; what the host's root owns stays out of reach. */
static void test_user_namespace_maps_ids(void **state)
{
	CLEANUP_FREE char *text = NULL, *secret = str_format("%s/rootfs/etc/secret", base);
	CLEANUP_FREE char *path = NULL, *maps = NULL;
	json_t *c = config("sleep 1000"); /* silent: its output goes where ours is read */
	json_t *l = json_object_get(c, "linux");
	struct stat st;
	int status;

	(void)state;
	assert_int_equal(file_write_atomic(secret, "s", 1, 0600, &err), 0);
	json_array_append_new(json_object_get(l, "namespaces"), json_pack("{s:s}", "type", "user"));
	json_object_set_new(
		l, "uidMappings",
		json_pack("[{s:i,s:i,s:i}]", "containerID", 0, "hostID", 100000, "size", 1000));
	json_object_set_new(
		l, "gidMappings",
		json_pack("[{s:i,s:i,s:i}]", "containerID", 0, "hostID", 200000, "size", 1000));
	bundle(c);
	assert_int_equal(CALL("create", "--bundle", base, "a"), 0);
	assert_int_equal(CALL("start", "a"), 0);
	CLEANUP_JSON json_t *s = state_of("a");

	path = str_format("/proc/%d", (int)json_int(s, "pid", 0));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, 100000);
	assert_int_equal(CALL("exec", "a", "sh", "-c", "id -u; id -g; cat /proc/self/uid_map"), 0);
	maps = str_dup(text);
	assert_true(str_starts(maps, "0\n0\n"));
	assert_non_null(strstr(maps, "100000"));
	assert_int_equal(CALL("exec", "--user", "5:6", "a", "sh", "-c",
			      "id -u; cat /etc/secret 2>/dev/null || echo no; "
			      "echo z >/dev/null && echo dev"),
			 0);
	assert_string_equal(text, "5\nno\ndev\n");
	assert_int_equal(
		CALL("exec", "a", "sh", "-c",
		     "cat /etc/secret 2>/dev/null || echo no; "
		     "touch /etc/made 2>/dev/null || echo no; test -c /dev/zero && echo dev"),
		0);
	assert_string_equal(text, "no\nno\ndev\n");
	assert_int_equal(CALL("delete", "--force", "a"), 0);
	assert_int_equal(process_wait((pid_t)json_int(s, "pid", 0), &status), 0);
	assert_int_equal(unlink(secret), 0);
}

/* A rate that the kernel keeps, where there is a block device to give one for. */
static void test_block_io_rates_reach_the_group(void **state)
{
	CLEANUP_CGROUPS struct cgroups cg;
	CLEANUP_FREE char *text = NULL, *path = NULL, *got = NULL, *want = NULL;
	json_t *c = config("sleep 1000");
	const struct cgroup_hier *h;
	int major = 0, minor = 0, status;
	FILE *f = fopen("/proc/partitions", "re");
	char line[200];

	(void)state;
	assert_int_equal(cgroups_load(&cg, &err), 0);
	h = cgroups_find(&cg, "io") ? cgroups_find(&cg, "io") : cgroups_find(&cg, "blkio");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, " %d %d", &major, &minor) == 2 && major > 0)
			break;
	if (f)
		fclose(f);
	if (!h || major <= 0) {
		json_decref(c);
		skip();
	}
	json_object_set_new(json_object_get(c, "linux"), "resources",
			    json_pack("{s:{s:[{s:i,s:i,s:i}]}}", "blockIO", "throttleReadBpsDevice",
				      "major", major, "minor", minor, "rate", 1048576));
	bundle(c);
	assert_int_equal(CALL("create", "--bundle", base, "a"), 0);
	CLEANUP_JSON json_t *s = state_of("a");

	path = str_format("%s%s/%s", h->mount, group,
			  h->v2 ? "io.max" : "blkio.throttle.read_bps_device");
	assert_int_equal(file_read(path, 4096, &got, NULL, &err), 0);
	want = str_format(h->v2 ? "%d:%d rbps=1048576" : "%d:%d 1048576", major, minor);
	assert_non_null(strstr(got, want));
	assert_int_equal(CALL("delete", "a"), 1); /* it is not stopped */
	assert_int_equal(CALL("delete", "--force", "a"), 0);
	assert_int_equal(process_wait((pid_t)json_int(s, "pid", 0), &status), 0);
}

static void test_pivot_leaves_no_mount_of_the_host(void **state)
{
	CLEANUP_FREE char *text = NULL;

	(void)state;
	bundle(config("cat /proc/self/mountinfo | while read a b c d e f; do echo $e; done; "
		      "ls /tmp /etc; cat /proc/self/fd/3 2>&1; ls /proc/self/fd"));
	assert_int_equal(CALL("run", "--bundle", base, "a"), 0);
	assert_true(str_starts(text, "/\n/proc\n/dev\n"));
	assert_null(strstr(text, "/sys/fs"));
	assert_null(strstr(text, "passwd"));
}

static void test_link_in_the_image_cannot_lead_a_mount_outside(void **state)
{
	CLEANUP_FREE char *text = NULL, *link = str_format("%s/rootfs/escape", base);
	CLEANUP_FREE char *outside = str_format("%s/outside", base);
	CLEANUP_FREE char *source = str_format("%s/source", base);
	CLEANUP_FREE char *inside = str_format("%s/rootfs%s", base, outside);
	json_t *c = config("true");

	(void)state;
	assert_int_equal(dir_make(outside, 0755, &err), 0);
	assert_int_equal(dir_make(source, 0755, &err), 0);
	assert_int_equal(symlink(outside, link), 0);
	assert_int_equal(dir_make(inside, 0755, &err), 0);
	json_array_append_new(json_object_get(c, "mounts"),
			      json_pack("{s:s,s:s,s:s,s:[s]}", "destination", "/escape/made",
					"type", "bind", "source", source, "options", "rbind"));
	bundle(c);
	assert_int_equal(CALL("run", "--bundle", base, "a"), 0);
	link[0] = '/';
	CLEANUP_FREE char *made = str_format("%s/made", outside);

	assert_int_equal(access(made, F_OK), -1);
	/* And /proc must be a folder, not a link of the image. */
	CLEANUP_FREE char *proc = str_format("%s/rootfs/proc", base);
	CLEANUP_FREE char *keep = str_format("%s/rootfs/tmp/proc", base);

	assert_int_equal(dir_make(keep, 0755, &err), 0);
	assert_int_equal(rmdir(proc), 0);
	assert_int_equal(symlink("/tmp/proc", proc), 0);
	assert_int_equal(CALL("run", "--bundle", base, "a"), 1);
	assert_non_null(strstr(text, "must be a folder"));
	assert_int_equal(unlink(proc), 0);
	assert_int_equal(mkdir(proc, 0755), 0);
}

static void test_devices_are_refused_but_the_allowed(void **state)
{
	CLEANUP_FREE char *text = NULL;
	json_t *c = config("dd if=/dev/zero of=/dev/null bs=1 count=1 2>/dev/null && echo yes; "
			   "mknod /dev/kmsg2 c 1 11; cat /dev/kmsg2 >/dev/null 2>&1 || echo no");

	(void)state;
	json_object_set_new(
		json_object_get(c, "linux"), "resources",
		json_pack(
			"{s:[{s:b,s:s},{s:b,s:s,s:s},{s:b,s:s,s:i,s:i,s:s},{s:b,s:s,s:i,s:i,s:s}]}",
			"devices", "allow", 0, "access", "rwm", "allow", 1, "type", "c", "access",
			"m", "allow", 1, "type", "c", "major", 1, "minor", 3, "access", "rw",
			"allow", 1, "type", "c", "major", 1, "minor", 5, "access", "rwm"));
	bundle(c);
	assert_int_equal(CALL("run", "--bundle", base, "a"), 0);
	assert_string_equal(text, "yes\nno\n");
}

/* The v2 filter on a group of its own, where v2 is mounted at all. */
static void test_v2_device_filter_decides_as_v1(void **state)
{
	static const struct spec_device_rule rules[] = {
		{ false, 'a', -1, -1, true, true, true },
		{ true, 'c', 1, 5, true, false, false },
		{ true, 'c', 1, 7, true, true, false },
		{ false, 'c', 1, 7, false, true, false },
	};
	static const struct {
		const char *path;
		int flags;
		bool allowed;
	} cases[] = { { "/dev/zero", O_RDONLY, true },
		      { "/dev/zero", O_WRONLY, false },
		      { "/dev/null", O_RDONLY, false },
		      { "/dev/full", O_RDONLY, true },
		      { "/dev/full", O_RDWR, false } };
	CLEANUP_CGROUPS struct cgroups cg;
	CLEANUP_FREE char *dir = NULL, *procs = NULL;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(cgroups_load(&cg, &err), 0);
	if (cg.v2 < 0)
		skip();
	assert_int_equal(cgroup_make(&cg, group, &err), 0);
	dir = str_format("%s%s", cg.hier[cg.v2].mount, group);
	procs = str_format("%s/cgroup.procs", dir);
	if (cgroup_devices_bpf(dir, rules, 4, &err) < 0)
		fail_msg("%s", err.msg);
	pid = fork();
	if (!pid) {
		if (file_write_str(procs, "0", NULL) < 0)
			_exit(100);
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
			if ((open(cases[i].path, cases[i].flags | O_CLOEXEC) >= 0) !=
			    cases[i].allowed)
				_exit(1 + (int)i);
		_exit(0);
	}
	assert_int_equal(process_wait(pid, &status), 0);
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(cgroup_remove(&cg, group, &err), 0);
}

static void test_seccomp_arguments_and_new_calls(void **state)
{
	CLEANUP_FREE char *text = NULL;
	json_t *c = config("hostname other 2>&1; touch /tmp/x && echo fine; exit 0");

	(void)state;
	json_object_set_new(json_object_get(c, "linux"), "seccomp",
			    json_pack("{s:s,s:[{s:[s,s],s:s},{s:[s],s:s,s:i}]}", "defaultAction",
				      "SCMP_ACT_ALLOW", "syscalls", "names", "sethostname",
				      "not_a_call", "action", "SCMP_ACT_ERRNO", "names", "mseal",
				      "action", "SCMP_ACT_ERRNO", "errnoRet", 38));
	bundle(c);
	assert_int_equal(CALL("run", "--bundle", base, "a"), 0);
	assert_non_null(strstr(text, "not permitted"));
	assert_non_null(strstr(text, "fine"));
	c = config("true");
	json_object_set_new(json_object_get(c, "linux"), "seccomp",
			    json_pack("{s:s}", "defaultAction", "SCMP_ACT_NOTIFY"));
	bundle(c);
	assert_int_equal(CALL("run", "--bundle", base, "a"), 1);
	assert_non_null(strstr(text, "NOTIFY"));
	assert_false(state_left("a"));
}

static void test_host_sysctls_are_refused_namespaced_ones_set(void **state)
{
	CLEANUP_FREE char *text = NULL;
	json_t *c = config("cat /proc/sys/kernel/msgmax");

	(void)state;
	json_object_set_new(json_object_get(c, "linux"), "sysctl",
			    json_pack("{s:s}", "kernel.msgmax", "4321"));
	bundle(c);
	assert_int_equal(CALL("run", "--bundle", base, "a"), 0);
	assert_string_equal(text, "4321\n");
	c = config("true");
	json_object_set_new(json_object_get(c, "linux"), "sysctl",
			    json_pack("{s:s}", "kernel.pid_max", "4321"));
	bundle(c);
	assert_int_equal(CALL("run", "--bundle", base, "a"), 1);
	assert_non_null(strstr(text, "kernel.pid_max would change the host"));
}

static void test_stub_keeps_everything_and_cannot_be_started(void **state)
{
	CLEANUP_FREE char *text = NULL, *path = NULL, *got = NULL;
	json_t *c = config("true");
	int status;

	(void)state;
	json_object_set_new(json_object_get(c, "process"), "user",
			    json_pack("{s:i,s:i}", "uid", 5, "gid", 6));
	json_object_set_new(json_object_get(c, "process"), "noNewPrivileges", json_true());
	bundle(c);
	assert_int_equal(CALL("create", "--bundle", base, "--stub", "a"), 0);
	CLEANUP_JSON json_t *s = state_of("a");

	assert_string_equal(json_str(s, "status", ""), "created");
	path = str_format("/proc/%d/status", (int)json_int(s, "pid", 0));
	assert_int_equal(file_read(path, 65536, &got, NULL, &err), 0);
	assert_non_null(strstr(got, "Uid:\t0\t0"));
	assert_non_null(strstr(got, "NoNewPrivs:\t0"));
	assert_non_null(strstr(got, "Threads:\t1"));
	assert_int_equal(CALL("start", "a"), 1);
	assert_non_null(strstr(text, "--stub"));
	assert_int_equal(CALL("adopt", "a"), 0);
	CLEANUP_JSON json_t *s2 = state_of("a");

	assert_string_equal(json_str(s2, "status", ""), "running");
	assert_int_equal(CALL("delete", "--force", "a"), 0);
	assert_int_equal(process_wait((pid_t)json_int(s, "pid", 0), &status), 0);
}

static void test_bad_command_lines(void **state)
{
	CLEANUP_FREE char *text = NULL;

	(void)state;
	assert_int_equal(CALL("dance"), 1);
	assert_non_null(strstr(text, "unknown command"));
	assert_int_equal(CALL("create"), 1);
	assert_int_equal(CALL("create", "--no-pivot", "a"), 1);
	assert_int_equal(CALL("state", "../x"), 1);
	assert_int_equal(CALL("create", "--bundle", "/nowhere", "a"), 1);
	assert_non_null(strstr(text, "/nowhere"));
	assert_int_equal(CALL("features"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_run_gives_output_and_exit_status, clean),
		cmocka_unit_test_teardown(test_life_from_create_to_delete, clean),
		cmocka_unit_test_teardown(test_program_that_is_not_there_is_127, clean),
		cmocka_unit_test_teardown(test_failed_create_leaves_nothing, clean),
		cmocka_unit_test_teardown(test_killed_caller_leaves_no_init, clean),
		cmocka_unit_test_teardown(test_hooks_see_the_state_in_order, clean),
		cmocka_unit_test_teardown(test_exec_joins_all_namespaces, clean),
		cmocka_unit_test_teardown(test_user_namespace_maps_ids, clean),
		cmocka_unit_test_teardown(test_block_io_rates_reach_the_group, clean),
		cmocka_unit_test_teardown(test_pivot_leaves_no_mount_of_the_host, clean),
		cmocka_unit_test_teardown(test_link_in_the_image_cannot_lead_a_mount_outside,
					  clean),
		cmocka_unit_test_teardown(test_devices_are_refused_but_the_allowed, clean),
		cmocka_unit_test_teardown(test_v2_device_filter_decides_as_v1, clean),
		cmocka_unit_test_teardown(test_seccomp_arguments_and_new_calls, clean),
		cmocka_unit_test_teardown(test_host_sysctls_are_refused_namespaced_ones_set, clean),
		cmocka_unit_test_teardown(test_stub_keeps_everything_and_cannot_be_started, clean),
		cmocka_unit_test_teardown(test_bad_command_lines, clean),
	};

	if (access("/bin/busybox", X_OK) < 0 || geteuid() != 0) {
		printf("1..0 # SKIP needs root and busybox-static\n");
		return 0;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
