/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OCI runtime configuration of a container: Docker's defaults, then what the create
 * body and the image ask for. check.c has refused before what is not read here.
 */
#include "runtime/container/bundle.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/capability.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char *const default_caps[] = {
	"CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",	   "CAP_FOWNER",
	"CAP_MKNOD",   "CAP_NET_RAW",	   "CAP_SETGID",	   "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP",	   "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
	"CAP_KILL",    "CAP_AUDIT_WRITE",
};
static const char *const masked[] = {
	"/proc/asound",	    "/proc/acpi",	 "/proc/interrupts",
	"/proc/kcore",	    "/proc/keys",	 "/proc/latency_stats",
	"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
	"/proc/scsi",	    "/sys/firmware",	 "/sys/devices/virtual/powercap",
};
static const char *const readonly_paths[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
					      "/proc/sysrq-trigger" };

static bool listed(const json_t *list, const char *s)
{
	json_t *v;
	size_t i;

	json_array_foreach (list, i, v)
		if (json_is_string(v) && !strcmp(json_string_value(v), s))
			return true;
	return false;
}

static json_t *strings(const char *const *v, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(a, json_string(v[i]));
	return a;
}

/* --- command ------------------------------------------------------------------------------ */

static void append_words(json_t *to, const json_t *v)
{
	json_t *s;
	size_t i;

	if (json_is_string(v) && json_string_value(v)[0])
		json_array_append_new(to, json_string(json_string_value(v)));
	json_array_foreach (v, i, s)
		json_array_append(to, s);
}

static size_t words(const json_t *v)
{
	return json_is_string(v) ? json_string_value(v)[0] != '\0' : json_array_size(v);
}

json_t *bundle_args(const json_t *docker, const json_t *image)
{
	const json_t *entry = json_object_get(docker, "Entrypoint");
	const json_t *cmd = json_object_get(docker, "Cmd");
	const char *first = json_string_value(json_array_get(entry, 0));
	json_t *args = json_array();

	if (!words(entry)) {
		if (!words(cmd))
			cmd = json_object_get(image, "Cmd");
		entry = json_object_get(image, "Entrypoint");
	} else if (words(entry) == 1 && first && !first[0]) {
		entry = NULL; /* [""]: the image's entrypoint and command are taken away */
	}
	append_words(args, entry);
	append_words(args, cmd);
	return args;
}

/* A later value of a variable replaces an earlier one in its place. */
static void set_env(json_t *env, const char *kv, bool override)
{
	size_t n = strcspn(kv, "="), i;
	json_t *v;

	json_array_foreach (env, i, v) {
		const char *old = json_string_value(v);

		if (strncmp(old, kv, n) != 0 || (old[n] != '=' && old[n]))
			continue;
		if (override && kv[n])
			json_array_set_new(env, i, json_string(kv));
		else if (override)
			json_array_remove(env, i); /* "NAME" alone unsets */
		return;
	}
	if (kv[n])
		json_array_append_new(env, json_string(kv));
}

static json_t *environment(const json_t *docker, const json_t *image, const char *hostname,
			   const char *home)
{
	json_t *env = json_array(), *v;
	CLEANUP_FREE char *host = str_format("HOSTNAME=%s", hostname);
	CLEANUP_FREE char *h = str_format("HOME=%s", home && home[0] ? home : "/");
	size_t i;

	set_env(env, DEFAULT_PATH, true);
	set_env(env, host, true);
	if (json_bool(docker, "Tty", false))
		set_env(env, "TERM=xterm", true);
	json_array_foreach (json_object_get(image, "Env"), i, v)
		if (json_is_string(v))
			set_env(env, json_string_value(v), true);
	json_array_foreach (json_object_get(docker, "Env"), i, v)
		set_env(env, json_string_value(v), true);
	set_env(env, h, false);
	return env;
}

/* --- capabilities ---------------------------------------------------------------------------- */

static char *cap_name(const char *s)
{
	char *n = str_format("%s%s", strncasecmp(s, "CAP_", 4) ? "CAP_" : "", s);

	for (char *p = n; *p; p++)
		*p = (char)(*p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
	return n;
}

static json_t *all_caps(void)
{
	json_t *a = json_array();

	for (int c = 0; c <= CAP_LAST_CAP; c++) {
		char *name = cap_to_name(c);
		CLEANUP_FREE char *up = name ? cap_name(name) : NULL;

		if (up && strncmp(up, "CAP_", 4) == 0 && !(up[4] >= '0' && up[4] <= '9'))
			json_array_append_new(a, json_string(up));
		cap_free(name);
	}
	return a;
}

json_t *bundle_caps(const json_t *hc, struct error *err)
{
	const json_t *add = json_object_get(hc, "CapAdd"), *drop = json_object_get(hc, "CapDrop");
	CLEANUP_JSON json_t *all = all_caps();
	json_t *caps, *v;
	size_t i, k;

	for (k = 0; k < 2; k++)
		json_array_foreach (k ? drop : add, i, v) {
			CLEANUP_FREE char *n = cap_name(json_string_value(v));

			if (strcmp(n, "CAP_ALL") != 0 && !listed(all, n)) {
				error_set(err, EINVAL, "invalid Cap%s: unknown capability: \"%s\"",
					  k ? "Drop" : "Add", n);
				return NULL;
			}
		}
	if (json_bool(hc, "Privileged", false))
		return json_incref(all);
	caps = json_array();
	for (i = 0; i < json_array_size(all); i++) {
		const char *name = json_string_value(json_array_get(all, i));
		bool have = false, added = false, dropped = false, add_all = false;
		bool drop_all = false;

		for (k = 0; k < sizeof(default_caps) / sizeof(default_caps[0]); k++)
			have |= !strcmp(default_caps[k], name);
		json_array_foreach (add, k, v) {
			CLEANUP_FREE char *n = cap_name(json_string_value(v));

			add_all |= !strcmp(n, "CAP_ALL");
			added |= !strcmp(n, name);
		}
		json_array_foreach (drop, k, v) {
			CLEANUP_FREE char *n = cap_name(json_string_value(v));

			drop_all |= !strcmp(n, "CAP_ALL");
			dropped |= !strcmp(n, name);
		}
		/* As Docker: "all but …", "nothing but …", else the default changed. */
		if (add_all ? !dropped : drop_all ? added : (have || added) && !dropped)
			json_array_append_new(caps, json_string(name));
	}
	return caps;
}

/* --- resources -------------------------------------------------------------------------------- */

static void set_positive(json_t *to, const char *name, int64_t v)
{
	if (v > 0)
		json_set_int(to, name, v);
}

/* Limits of single devices; one that is not there (any more) is left to container_check(). */
static json_t *block_io(const json_t *hc)
{
	static const char *const lists[][3] = {
		{ "BlkioWeightDevice", "weightDevice", "weight" },
		{ "BlkioDeviceReadBps", "throttleReadBpsDevice", "rate" },
		{ "BlkioDeviceWriteBps", "throttleWriteBpsDevice", "rate" },
		{ "BlkioDeviceReadIOps", "throttleReadIOPSDevice", "rate" },
		{ "BlkioDeviceWriteIOps", "throttleWriteIOPSDevice", "rate" },
	};
	json_t *out = json_object();

	set_positive(out, "weight", json_int(hc, "BlkioWeight", 0));
	for (size_t k = 0; k < sizeof(lists) / sizeof(lists[0]); k++) {
		json_t *to = json_array(), *d;
		size_t i;

		json_array_foreach (json_object_get(hc, lists[k][0]), i, d) {
			const char *value = lists[k][2][0] == 'w' ? "Weight" : "Rate";
			struct stat st;

			if (stat(json_str(d, "Path", ""), &st) == 0 && S_ISBLK(st.st_mode))
				json_array_append_new(to,
						      json_pack("{s:i, s:i, s:I}", "major",
								(int)major(st.st_rdev), "minor",
								(int)minor(st.st_rdev), lists[k][2],
								(json_int_t)json_int(d, value, 0)));
		}
		if (json_array_size(to))
			json_object_set(out, lists[k][1], to);
		json_decref(to);
	}
	return out;
}

json_t *bundle_resources(const json_t *hc)
{
	json_t *res = json_object(), *mem = json_object(), *cpu = json_object();
	int64_t limit = json_int(hc, "Memory", 0), swap = json_int(hc, "MemorySwap", 0);
	int64_t nano = json_int(hc, "NanoCpus", 0), pids = json_int(hc, "PidsLimit", 0);
	int64_t swappiness = json_int(hc, "MemorySwappiness", -1);
	CLEANUP_JSON json_t *blkio = NULL;
	const char *cpus = json_str(hc, "CpusetCpus", ""), *mems = json_str(hc, "CpusetMems", "");

	set_positive(mem, "limit", limit);
	set_positive(mem, "reservation", json_int(hc, "MemoryReservation", 0));
	if (swap)
		json_set_int(mem, "swap", swap);
	else if (limit && limit <= INT64_MAX / 2)
		json_set_int(mem, "swap", limit * 2);
	if (swappiness >= 0)
		json_set_int(mem, "swappiness", swappiness);
	set_positive(cpu, "shares", json_int(hc, "CpuShares", 0));
	if (nano) {
		json_set_int(cpu, "period", 100000);
		json_set_int(cpu, "quota", (int64_t)((double)nano / 1e9 * 100000));
	} else {
		set_positive(cpu, "period", json_int(hc, "CpuPeriod", 0));
		if (json_int(hc, "CpuQuota", 0))
			json_set_int(cpu, "quota", json_int(hc, "CpuQuota", 0));
	}
	if (cpus[0])
		json_set_str(cpu, "cpus", cpus);
	if (mems[0])
		json_set_str(cpu, "mems", mems);
	json_object_set_new(res, "memory", mem);
	json_object_set_new(res, "cpu", cpu);
	if (pids)
		json_object_set_new(res, "pids", json_pack("{s:I}", "limit", (json_int_t)pids));
	blkio = block_io(hc);
	if (json_object_size(blkio))
		json_object_set(res, "blockIO", blkio);
	return res;
}

/* --- devices ------------------------------------------------------------------------ */

static json_t *device_rule(bool allow, const char *type, int major, int minor, const char *access)
{
	json_t *r = json_pack("{s:b,s:s}", "allow", allow, "access", access);

	if (type)
		json_set_str(r, "type", type);
	if (major >= 0)
		json_set_int(r, "major", major);
	if (minor >= 0)
		json_set_int(r, "minor", minor);
	return r;
}

static int add_device(json_t *devices, json_t *rules, const char *host, const char *inside,
		      const char *access, struct error *err)
{
	struct stat st;
	const char *type;
	json_t *d;

	if (stat(host, &st) < 0)
		return error_sys(err, errno, "device %s", host);
	if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
		return error_set(err, EINVAL, "%s is no device node", host);
	type = S_ISBLK(st.st_mode) ? "b" : "c";
	d = json_pack("{s:s,s:s,s:i,s:i,s:i,s:i,s:i}", "path", inside, "type", type, "major",
		      (int)major(st.st_rdev), "minor", (int)minor(st.st_rdev), "fileMode",
		      (int)(st.st_mode & 07777), "uid", (int)st.st_uid, "gid", (int)st.st_gid);
	json_array_append_new(devices, d);
	json_array_append_new(rules, device_rule(true, type, (int)major(st.st_rdev),
						 (int)minor(st.st_rdev), access));
	return 0;
}

/* Privileged: every node below the host's /dev that is not a file system of its own. */
static void host_devices(json_t *devices, json_t *rules, const char *dir)
{
	static const char *const skip[] = {
		"pts",	"shm",	"mqueue", "fd",	     "console", "null",
		"zero", "full", "random", "urandom", "tty",	"ptmx"
	};
	CLEANUP_CLOSEDIR DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		CLEANUP_FREE char *path = str_format("%s/%s", dir, e->d_name);
		bool skipped = e->d_name[0] == '.';

		for (size_t i = 0; i < sizeof(skip) / sizeof(skip[0]); i++)
			skipped |= !strcmp(dir, "/dev") && !strcmp(skip[i], e->d_name);
		if (skipped)
			continue;
		if (e->d_type == DT_DIR)
			host_devices(devices, rules, path);
		else if (e->d_type == DT_CHR || e->d_type == DT_BLK)
			add_device(devices, rules, path, path, "rwm", NULL);
	}
}

static int devices(const json_t *hc, json_t *list, json_t *rules, struct error *err)
{
	static const int always[][2] = { { 1, 3 }, { 1, 5 }, { 1, 7 }, { 1, 8 },   { 1, 9 },
					 { 5, 0 }, { 5, 1 }, { 5, 2 }, { 136, -1 } };
	json_t *v;
	size_t i;
	int r;

	if (json_bool(hc, "Privileged", false)) {
		json_array_append_new(rules, device_rule(true, NULL, -1, -1, "rwm"));
		host_devices(list, rules, "/dev");
		json_array_clear(rules);
		json_array_append_new(rules, device_rule(true, NULL, -1, -1, "rwm"));
		return 0;
	}
	json_array_append_new(rules, device_rule(false, NULL, -1, -1, "rwm"));
	json_array_append_new(rules, device_rule(true, "c", -1, -1, "m"));
	json_array_append_new(rules, device_rule(true, "b", -1, -1, "m"));
	for (i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		json_array_append_new(rules,
				      device_rule(true, "c", always[i][0], always[i][1], "rwm"));
	json_array_foreach (json_object_get(hc, "Devices"), i, v) {
		const char *host = json_str(v, "PathOnHost", "");
		const char *inside = json_str(v, "PathInContainer", "");
		const char *access = json_str(v, "CgroupPermissions", "");

		r = add_device(list, rules, host, inside[0] ? inside : host,
			       access[0] ? access : "rwm", err);
		if (r < 0)
			return r;
	}
	json_array_foreach (json_object_get(hc, "DeviceCgroupRules"), i, v) {
		char type, ma[16], mi[16], access[8];

		if (sscanf(json_string_value(v), "%c %15[0-9*]:%15[0-9*] %7[rwm]", &type, ma, mi,
			   access) != 4 ||
		    !strchr("abc", type))
			return error_set(err, EINVAL, "invalid device cgroup rule format: '%s'",
					 json_string_value(v));
		json_array_append_new(rules, device_rule(true, (char[]){ type, 0 },
							 ma[0] == '*' ? -1 : atoi(ma),
							 mi[0] == '*' ? -1 : atoi(mi), access));
	}
	return 0;
}

/* --- mounts ------------------------------------------------------------------------- */

static void mount_add(json_t *list, const char *dest, const char *type, const char *source,
		      const char *options)
{
	CLEANUP_FREE char *copy = str_dup(options);
	json_t *opts = json_array();

	for (char *save = NULL, *o = strtok_r(copy, ",", &save); o; o = strtok_r(NULL, ",", &save))
		json_array_append_new(opts, json_string(o));
	json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:o}", "destination", dest, "type",
					      type, "source", source, "options", opts));
}

static size_t depth(const json_t *m)
{
	const char *p = json_str(m, "destination", "");
	size_t n = 0;

	for (; *p; p++)
		n += *p == '/' && p[1] && p[1] != '/';
	return n;
}

/* Parents before children, else in the given order: a mount must not hide a later one. */
static json_t *sort_mounts(json_t *list)
{
	json_t *out = json_array(), *v;
	size_t i, max = 0;

	json_array_foreach (list, i, v)
		max = depth(v) > max ? depth(v) : max;
	for (size_t d = 0; d <= max; d++)
		json_array_foreach (list, i, v)
			if (depth(v) == d)
				json_array_append(out, v);
	json_decref(list);
	return out;
}

static bool claimed(const struct bundle_input *in, const char *dest)
{
	if (json_object_get(json_at(in->docker, "HostConfig.Tmpfs"), dest))
		return true;
	for (size_t i = 0; i < in->params->nmounts; i++)
		if (!strcmp(in->params->mounts[i].destination, dest))
			return true;
	return false;
}

static json_t *mounts(const struct bundle_input *in)
{
	const json_t *hc = json_object_get(in->docker, "HostConfig");
	bool priv = json_bool(hc, "Privileged", false);
	int64_t shm = json_int(hc, "ShmSize", 0);
	json_t *list = json_array(), *v;
	CLEANUP_FREE char *shm_opts = str_format("nosuid,noexec,nodev,mode=1777,size=%lld",
						 (long long)(shm > 0 ? shm : 64 << 20));
	const char *dest;

	mount_add(list, "/proc", "proc", "proc", "nosuid,noexec,nodev");
	mount_add(list, "/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k");
	mount_add(list, "/sys", "sysfs", "sysfs",
		  priv ? "nosuid,noexec,nodev,rw" : "nosuid,noexec,nodev,ro");
	mount_add(list, "/dev/pts", "devpts", "devpts",
		  "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5");
	mount_add(list, "/sys/fs/cgroup", "cgroup", "cgroup",
		  priv ? "nosuid,noexec,nodev,relatime,rw" : "nosuid,noexec,nodev,relatime,ro");
	mount_add(list, "/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev");
	if (!claimed(in, "/dev/shm"))
		mount_add(list, "/dev/shm", "tmpfs", "shm", shm_opts);
	json_object_foreach ((json_t *)(uintptr_t)json_object_get(hc, "Tmpfs"), dest, v) {
		CLEANUP_FREE char *o = str_format("nosuid,nodev,noexec,%s", json_string_value(v));

		mount_add(list, dest, "tmpfs", "tmpfs", o);
	}
	if (in->hostname_file && !claimed(in, "/etc/hostname"))
		mount_add(list, "/etc/hostname", "bind", in->hostname_file, "rbind,rprivate");
	if (in->hosts_file && !claimed(in, "/etc/hosts"))
		mount_add(list, "/etc/hosts", "bind", in->hosts_file, "rbind,rprivate");
	if (in->resolv_file && !claimed(in, "/etc/resolv.conf"))
		mount_add(list, "/etc/resolv.conf", "bind", in->resolv_file, "rbind,rprivate");
	for (size_t i = 0; i < in->params->nmounts; i++)
		mount_add(list, in->params->mounts[i].destination, "bind",
			  in->params->mounts[i].source,
			  in->params->mounts[i].readonly ? "rbind,rprivate,ro" : "rbind,rprivate");
	return sort_mounts(list);
}

/* --- the whole ---------------------------------------------------------------------- */

static bool security_flag(const json_t *hc, const char *key)
{
	json_t *v;
	size_t i, n = strlen(key);

	json_array_foreach (json_object_get(hc, "SecurityOpt"), i, v) {
		const char *o = json_string_value(v);

		if (!strncmp(o, key, n) &&
		    (!o[n] || !strcmp(o + n, ":true") || !strcmp(o + n, "=true")))
			return true;
	}
	return false;
}

/* New reference or NULL: unconfined; a profile comes as JSON text, as the docker CLI sends it. */
static int seccomp_of(const json_t *hc, const json_t *caps, json_t **out, struct error *err)
{
	json_t *v;
	size_t i;

	*out = NULL;
	json_array_foreach (json_object_get(hc, "SecurityOpt"), i, v) {
		const char *o = json_string_value(v);

		if (strncmp(o, "seccomp", 7) != 0)
			continue;
		o += 8;
		if (!strcmp(o, "unconfined"))
			return 0;
		if (!strcmp(o, "builtin"))
			continue;
		*out = json_parse(o, strlen(o), "seccomp profile", err);
		if (!*out)
			return err ? -err->code : -EINVAL;
		if (json_object_get(*out, "archMap") || !json_is_object(*out)) {
			json_decref(*out);
			*out = NULL;
			return error_set(err, EINVAL,
					 "seccomp profile: Docker's archMap form is not supported; "
					 "use \"architectures\" and rules without includes");
		}
		return 0;
	}
	if (!json_bool(hc, "Privileged", false))
		*out = seccomp_default(caps);
	return 0;
}

static json_t *rlimits(const json_t *hc)
{
	json_t *list = json_array(), *v;
	size_t i;

	json_array_foreach (json_object_get(hc, "Ulimits"), i, v) {
		CLEANUP_FREE char *name = str_format("RLIMIT_%s", json_str(v, "Name", ""));

		for (char *p = name; *p; p++)
			*p = (char)(*p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
		json_array_append_new(list, json_pack("{s:s,s:O,s:O}", "type", name, "soft",
						      json_object_get(v, "Soft"), "hard",
						      json_object_get(v, "Hard")));
	}
	return list;
}

static json_t *cap_sets(json_t *caps, int64_t uid)
{
	json_t *none = json_array();
	json_t *sets =
		json_pack("{s:O,s:O,s:O,s:O,s:O}", "bounding", caps, "permitted", uid ? none : caps,
			  "effective", uid ? none : caps, "inheritable", none, "ambient", none);

	json_decref(none);
	return sets;
}

static json_t *user_object(int64_t uid, int64_t gid, json_t *groups)
{
	return json_pack("{s:I,s:I,s:o}", "uid", (json_int_t)uid, "gid", (json_int_t)gid,
			 "additionalGids", groups);
}

static json_t *process(const struct bundle_input *in, json_t *caps, struct error *err)
{
	const json_t *hc = json_object_get(in->docker, "HostConfig");
	const char *user = json_str(in->docker, "User", ""),
		   *cwd = json_str(in->docker, "WorkingDir", "");
	CLEANUP_FREE char *home = NULL;
	json_t *p = json_object(), *groups = NULL;
	int64_t uid, gid;

	if (!user[0])
		user = json_str(in->image_config, "User", "");
	if (!cwd[0])
		cwd = json_str(in->image_config, "WorkingDir", "");
	if (user_resolve(in->rootfs, user, json_object_get(hc, "GroupAdd"), &uid, &gid, &groups,
			 &home, err) < 0) {
		json_decref(p);
		return NULL;
	}
	json_object_set_new(p, "args", bundle_args(in->docker, in->image_config));
	json_object_set_new(p, "env",
			    environment(in->docker, in->image_config, in->hostname, home));
	json_set_str(p, "cwd", cwd[0] ? cwd : "/");
	json_set_bool(p, "terminal", json_bool(in->docker, "Tty", false));
	json_object_set_new(p, "user", user_object(uid, gid, groups));
	json_object_set_new(p, "capabilities", cap_sets(caps, uid));
	json_object_set_new(p, "rlimits", rlimits(hc));
	json_set_bool(p, "noNewPrivileges", security_flag(hc, "no-new-privileges"));
	if (json_int(hc, "OomScoreAdj", 0))
		json_set_int(p, "oomScoreAdj", json_int(hc, "OomScoreAdj", 0));
	if (json_array_size(json_object_get(hc, "ConsoleSize")) == 2) {
		json_t *size = json_object_get(hc, "ConsoleSize");

		json_object_set_new(p, "consoleSize",
				    json_pack("{s:O,s:O}", "height", json_array_get(size, 0),
					      "width", json_array_get(size, 1)));
	}
	return p;
}

static json_t *namespaces(const struct container_start_params *params)
{
	static const char *const own[] = { "pid", "mount", "ipc", "uts", "cgroup", "time" };
	json_t *list = json_array();

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		json_array_append_new(list, json_pack("{s:s}", "type", own[i]));
	if (params->netns)
		json_array_append_new(
			list, json_pack("{s:s,s:s}", "type", "network", "path", params->netns));
	return list;
}

static json_t *sysctls(const json_t *hc, bool own_net)
{
	json_t *s = json_object(), *v;
	const char *key;

	if (own_net) {
		json_set_str(s, "net.ipv4.ip_unprivileged_port_start", "0");
		json_set_str(s, "net.ipv4.ping_group_range", "0 2147483647");
	}
	json_object_foreach ((json_t *)(uintptr_t)json_object_get(hc, "Sysctls"), key, v)
		json_object_set(s, key, v);
	return s;
}

static json_t *offset(int64_t ns)
{
	int64_t s = ns / 1000000000, rest = ns % 1000000000;

	if (rest < 0) {
		rest += 1000000000;
		s--;
	}
	return json_pack("{s:I,s:I}", "secs", (json_int_t)s, "nanosecs", (json_int_t)rest);
}

static json_t *linux_object(const struct bundle_input *in, json_t *caps, struct error *err)
{
	const json_t *hc = json_object_get(in->docker, "HostConfig");
	const struct container_time_offsets *t = &in->params->time_offsets;
	const json_t *mp = json_object_get(hc, "MaskedPaths");
	const json_t *rp = json_object_get(hc, "ReadonlyPaths");
	bool priv = json_bool(hc, "Privileged", false);
	json_t *l = json_object(), *devs = json_array(), *rules = json_array(), *res, *sec;
	int r = devices(hc, devs, rules, err);

	if (!r)
		r = seccomp_of(hc, caps, &sec, err);
	if (r < 0) {
		json_decref(devs);
		json_decref(rules);
		json_decref(l);
		return NULL;
	}
	res = bundle_resources(hc);
	json_object_set_new(res, "devices", rules);
	json_object_set_new(l, "resources", res);
	json_object_set_new(l, "devices", devs);
	if (sec)
		json_object_set_new(l, "seccomp", sec);
	json_object_set_new(l, "namespaces", namespaces(in->params));
	json_object_set_new(l, "sysctl", sysctls(hc, in->params->netns));
	json_set_str(l, "cgroupsPath", in->cgroup_path);
	if (t->set)
		json_object_set_new(l, "timeOffsets",
				    json_pack("{s:o,s:o}", "monotonic", offset(t->mono_ns),
					      "boottime", offset(t->boot_ns)));
	if (!priv || json_is_array(mp))
		json_object_set_new(l, "maskedPaths",
				    json_is_array(mp)
					    ? json_deep_copy(mp)
					    : strings(masked, sizeof(masked) / sizeof(*masked)));
	if (!priv || json_is_array(rp))
		json_object_set_new(l, "readonlyPaths",
				    json_is_array(rp) ? json_deep_copy(rp)
						      : strings(readonly_paths,
								sizeof(readonly_paths) /
									sizeof(*readonly_paths)));
	return l;
}

json_t *bundle_make(const struct bundle_input *in, struct error *err)
{
	const json_t *hc = json_object_get(in->docker, "HostConfig");
	CLEANUP_JSON json_t *caps = bundle_caps(hc, err), *p = NULL, *l = NULL;
	json_t *c;

	if (!caps || !(p = process(in, caps, err)) || !(l = linux_object(in, caps, err)))
		return NULL;
	c = json_pack("{s:s,s:{s:s,s:b},s:s,s:O,s:o,s:O}", "ociVersion", "1.2.0", "root", "path",
		      in->rootfs, "readonly", json_bool(hc, "ReadonlyRootfs", false), "hostname",
		      in->hostname, "process", p, "mounts", mounts(in), "linux", l);
	if (c && json_str(in->docker, "Domainname", "")[0])
		json_set_str(c, "domainname", json_str(in->docker, "Domainname", ""));
	if (!c)
		error_set(err, EINVAL,
			  "the container's configuration holds text that is not UTF-8");
	return c;
}

json_t *bundle_exec(const json_t *config, const json_t *body, const json_t *docker,
		    const char *rootfs, struct error *err)
{
	const json_t *base = json_object_get(config, "process");
	const char *user = json_str(body, "User", ""), *cwd = json_str(body, "WorkingDir", "");
	json_t *p, *env, *args, *v, *groups = NULL;
	CLEANUP_FREE char *home = NULL;
	int64_t uid, gid;
	size_t i;

	args = json_array();
	append_words(args, json_object_get(body, "Cmd"));
	json_array_foreach (args, i, v)
		if (!json_is_string(v)) {
			json_array_clear(args);
			break;
		}
	if (!json_array_size(args)) {
		json_decref(args);
		error_set(err, EINVAL, "No exec command specified");
		return NULL;
	}
	p = json_deep_copy(base);
	json_object_set_new(p, "args", args);
	json_set_bool(p, "terminal", json_bool(body, "Tty", false));
	json_object_del(p, "consoleSize");
	if (json_array_size(json_object_get(body, "ConsoleSize")) == 2)
		json_object_set_new(
			p, "consoleSize",
			json_pack("{s:O,s:O}", "height",
				  json_array_get(json_object_get(body, "ConsoleSize"), 0), "width",
				  json_array_get(json_object_get(body, "ConsoleSize"), 1)));
	if (cwd[0])
		json_set_str(p, "cwd", cwd);
	env = json_object_get(p, "env");
	if (user[0]) {
		CLEANUP_JSON json_t *caps = json_incref(json_at(base, "capabilities.bounding"));

		if (user_resolve(rootfs, user, json_at(docker, "HostConfig.GroupAdd"), &uid, &gid,
				 &groups, &home, err) < 0) {
			json_decref(p);
			return NULL;
		}
		json_object_set_new(p, "user", user_object(uid, gid, groups));
		if (caps)
			json_object_set_new(p, "capabilities", cap_sets(caps, uid));
		if (home) {
			CLEANUP_FREE char *h = str_format("HOME=%s", home);

			set_env(env, h, true);
		}
	}
	if (json_bool(body, "Privileged", false)) {
		CLEANUP_JSON json_t *all = all_caps();

		json_object_set_new(p, "capabilities", cap_sets(all, 0));
	}
	if (json_bool(body, "Tty", false))
		set_env(env, "TERM=xterm", false);
	json_array_foreach (json_object_get(body, "Env"), i, v)
		if (json_is_string(v))
			set_env(env, json_string_value(v), true);
	return p;
}
