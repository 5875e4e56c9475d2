/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of Docker's create body ferry's runtime honours. Every field of HostConfig is in one
 * of three lists: honoured (here or by the caller), harmless when it says the default, or
 * refused when it says anything.
 */
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/container/bundle.h"

/* Refused unless null, false, 0, "", [] or {}. */
static const char *const refused_host[] = {
	"CpuRealtimePeriod",
	"CpuRealtimeRuntime",
	"DeviceRequests",
	"KernelMemory",
	"KernelMemoryTCP",
	"StorageOpt",
	"VolumesFrom",
	"CgroupParent",
	"Links",
	"IOMaximumBandwidth",
	"IOMaximumIOps",
	"CpuCount",
	"CpuPercent",
	"Init",
};

static bool says_nothing(const json_t *v)
{
	return !v || json_is_null(v) || json_is_false(v) ||
	       (json_is_integer(v) && !json_integer_value(v)) ||
	       (json_is_string(v) && !json_string_value(v)[0]) ||
	       (json_is_array(v) && !json_array_size(v)) ||
	       (json_is_object(v) && !json_object_size(v));
}

static int refuse(struct error *err, const char *field, const char *why)
{
	return error_set(err, EINVAL, "HostConfig.%s %s", field, why);
}

/* --device-read-bps and its like: block devices of this host. */
static int check_block_io(const json_t *hc, struct error *err)
{
	static const char *const lists[] = { "BlkioWeightDevice", "BlkioDeviceReadBps",
					     "BlkioDeviceWriteBps", "BlkioDeviceReadIOps",
					     "BlkioDeviceWriteIOps" };

	for (size_t k = 0; k < sizeof(lists) / sizeof(lists[0]); k++) {
		const json_t *list = json_object_get(hc, lists[k]), *d;
		size_t i;

		if (list && !json_is_null(list) && !json_is_array(list))
			return refuse(err, lists[k], "must be a list");
		json_array_foreach (list, i, d) {
			const char *path = json_str(d, "Path", "");
			struct stat st;

			if (stat(path, &st) < 0 || !S_ISBLK(st.st_mode))
				return error_set(err, EINVAL,
						 "HostConfig.%s: \"%s\" is no block device of this "
						 "host",
						 lists[k], path);
			if (json_int(d, k ? "Rate" : "Weight", -1) < 0 ||
			    (!k && json_int(d, "Weight", 0) > 1000))
				return refuse(err, lists[k], "holds a number out of range");
		}
	}
	return 0;
}

static int check_modes(const json_t *hc, struct error *err)
{
	const char *pid = json_str(hc, "PidMode", ""), *ipc = json_str(hc, "IpcMode", "");
	const char *uts = json_str(hc, "UTSMode", ""), *user = json_str(hc, "UsernsMode", "");
	const char *cg = json_str(hc, "CgroupnsMode", ""), *iso = json_str(hc, "Isolation", "");

	/* A namespace shared with the host or another container could not migrate. */
	if (pid[0] && strcmp(pid, "private") != 0)
		return refuse(err, "PidMode",
			      "must be empty: a container has its own pid namespace");
	if (ipc[0] && strcmp(ipc, "private") != 0 && strcmp(ipc, "shareable") != 0)
		return refuse(err, "IpcMode",
			      "must be private: a container has its own ipc namespace");
	if (uts[0] && strcmp(uts, "private") != 0)
		return refuse(err, "UTSMode",
			      "must be empty: a container has its own uts namespace");
	if (user[0] && strcmp(user, "host") != 0)
		return refuse(err, "UsernsMode", "is not supported: user namespaces are missing");
	if (cg[0] && strcmp(cg, "private") != 0)
		return refuse(err, "CgroupnsMode", "must be private");
	if (iso[0] && strcmp(iso, "default") != 0)
		return refuse(err, "Isolation", "is for Windows");
	return 0;
}

static int check_security(const json_t *hc, struct error *err)
{
	json_t *v, *list = json_object_get(hc, "SecurityOpt");
	size_t i;

	json_array_foreach (list, i, v) {
		const char *o = json_is_string(v) ? json_string_value(v) : "";

		if (!strcmp(o, "no-new-privileges") || !strcmp(o, "no-new-privileges:true") ||
		    !strcmp(o, "no-new-privileges=true") || !strcmp(o, "no-new-privileges:false") ||
		    !strcmp(o, "no-new-privileges=false") || str_starts(o, "seccomp=") ||
		    str_starts(o, "seccomp:") || !strcmp(o, "apparmor=unconfined") ||
		    !strcmp(o, "apparmor:unconfined") || !strcmp(o, "label=disable") ||
		    !strcmp(o, "label:disable"))
			continue;
		return error_set(err, EINVAL, "HostConfig.SecurityOpt \"%s\" is not supported", o);
	}
	return 0;
}

static int check_numbers(const json_t *hc, struct error *err)
{
	static const struct {
		const char *key;
		int64_t min, max;
	} numbers[] = {
		{ "Memory", 0, INT64_MAX },	 { "MemoryReservation", 0, INT64_MAX },
		{ "MemorySwap", -1, INT64_MAX }, { "MemorySwappiness", -1, 100 },
		{ "NanoCpus", 0, INT64_MAX },	 { "CpuShares", 0, 262144 },
		{ "CpuPeriod", 0, 1000000 },	 { "CpuQuota", -1, INT64_MAX },
		{ "PidsLimit", -1, INT_MAX },	 { "BlkioWeight", 0, 1000 },
		{ "ShmSize", 0, INT64_MAX },	 { "OomScoreAdj", -1000, 1000 },
	};
	int64_t v, mem = 0, swap = 0, nano = 0, quota = 0;
	int r;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		v = 0;
		r = json_want_int(hc, numbers[i].key, false, numbers[i].min, numbers[i].max, &v,
				  err);
		if (r < 0)
			return error_wrap(err, "HostConfig");
	}
	mem = json_int(hc, "Memory", 0);
	swap = json_int(hc, "MemorySwap", 0);
	nano = json_int(hc, "NanoCpus", 0);
	quota = json_int(hc, "CpuQuota", 0);
	if (mem && mem < 6 << 20)
		return error_set(err, EINVAL, "Minimum memory limit allowed is 6MB");
	if (swap > 0 && !mem)
		return error_set(
			err, EINVAL,
			"You should always set the Memory limit when using Memoryswap limit, "
			"see usage");
	if (swap > 0 && swap < mem)
		return error_set(err, EINVAL,
				 "Minimum memoryswap limit should be larger than memory limit, see "
				 "usage");
	if (nano && (quota || json_int(hc, "CpuPeriod", 0)))
		return error_set(
			err, EINVAL,
			"Conflicting options: Nano CPUs and CPU Period/Quota cannot both be "
			"set");
	return 0;
}

static int want_strings(const json_t *obj, const char *key, struct error *err)
{
	json_t *v, *list = json_object_get(obj, key);
	size_t i;

	if (!list || json_is_null(list))
		return 0;
	if (json_is_string(list))
		return 0; /* Cmd and Entrypoint may be one string */
	if (!json_is_array(list))
		return error_set(err, EINVAL, "field \"%s\" must be an array of strings", key);
	json_array_foreach (list, i, v)
		if (!json_is_string(v))
			return error_set(err, EINVAL, "field \"%s\" must be an array of strings",
					 key);
	return 0;
}

static int check_objects(const json_t *hc, struct error *err)
{
	static const char *const lists[] = { "CapAdd",	      "CapDrop",	  "ExtraHosts",
					     "GroupAdd",      "SecurityOpt",	  "MaskedPaths",
					     "ReadonlyPaths", "DeviceCgroupRules" };
	json_t *v, *obj;
	const char *key;
	size_t i;

	for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		if (want_strings(hc, lists[i], err) < 0)
			return error_wrap(err, "HostConfig");
	obj = json_object_get(hc, "Tmpfs");
	if (!says_nothing(obj) && !json_is_object(obj))
		return refuse(err, "Tmpfs", "must be an object");
	json_object_foreach (obj, key, v)
		if (key[0] != '/' || !json_is_string(v))
			return refuse(err, "Tmpfs", "wants absolute paths with options");
	obj = json_object_get(hc, "Sysctls");
	json_object_foreach (obj, key, v)
		if (!json_is_string(v))
			return refuse(err, "Sysctls", "wants strings");
	json_array_foreach (json_object_get(hc, "Ulimits"), i, v)
		if (!json_str(v, "Name", NULL) || !json_is_integer(json_object_get(v, "Soft")) ||
		    !json_is_integer(json_object_get(v, "Hard")))
			return refuse(err, "Ulimits", "wants Name, Soft and Hard");
	json_array_foreach (json_object_get(hc, "Devices"), i, v)
		if (json_str(v, "PathOnHost", "")[0] != '/')
			return refuse(err, "Devices", "wants absolute paths");
	return 0;
}

int bundle_check(const json_t *docker, const json_t *image, struct error *err)
{
	static const char *const lists[] = { "Cmd", "Entrypoint", "Env" };
	const json_t *hc = json_object_get(docker, "HostConfig");
	CLEANUP_JSON json_t *args = NULL, *caps = NULL;
	const char *log = json_str(json_object_get(hc, "LogConfig"), "Type", "");
	const char *sig = json_str(docker, "StopSignal", "");
	const char *wd = json_str(docker, "WorkingDir", "");
	int r;

	if (!json_is_object(docker))
		return error_set(err, EINVAL, "the create body must be an object");
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		if ((r = want_strings(docker, lists[i], err)) < 0)
			return r;
	args = bundle_args(docker, image);
	if (!json_array_size(args))
		return error_set(err, EINVAL, "no command specified");
	if (!json_string_value(json_array_get(args, 0))[0])
		return error_set(err, EINVAL, "the command is empty");
	if (wd[0] && wd[0] != '/')
		return error_set(
			err, EINVAL,
			"the working directory '%s' is invalid, it needs to be an absolute "
			"path",
			wd);
	if (sig[0] && !signal_number(sig))
		return error_set(err, EINVAL, "invalid signal: %s", sig);
	if (hc && !json_is_null(hc) && !json_is_object(hc))
		return error_set(err, EINVAL, "HostConfig must be an object");
	for (size_t i = 0; i < sizeof(refused_host) / sizeof(refused_host[0]); i++)
		if (!says_nothing(json_object_get(hc, refused_host[i])))
			return refuse(err, refused_host[i], "is not supported");
	if (json_bool(hc, "OomKillDisable", false))
		return refuse(err, "OomKillDisable", "is not supported");
	if (log[0] && strcmp(log, "json-file") != 0 && strcmp(log, "none") != 0)
		return error_set(err, EINVAL,
				 "HostConfig.LogConfig.Type %s is not supported; use json-file",
				 log);
	if (json_str(hc, "Runtime", "")[0] && strcmp(json_str(hc, "Runtime", ""), "ferry") != 0 &&
	    strcmp(json_str(hc, "Runtime", ""), "runc") != 0)
		return refuse(err, "Runtime", "must be \"ferry\"");
	if ((r = check_modes(hc, err)) < 0 || (r = check_block_io(hc, err)) < 0 ||
	    (r = check_security(hc, err)) < 0 || (r = check_numbers(hc, err)) < 0 ||
	    (r = check_objects(hc, err)) < 0)
		return r;
	caps = bundle_caps(hc, err);
	return caps ? 0 : err ? -err->code : -EINVAL;
}
