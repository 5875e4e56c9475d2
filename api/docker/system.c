/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon about itself: ping, version, info, disk usage. */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "api/docker/docker.h"
#include "api/docker/usage.h"
#include "api/request.h"
#include "api/version.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"

static const char *go_arch(const char *machine)
{
	return !strcmp(machine, "x86_64")    ? "amd64"
	       : !strcmp(machine, "aarch64") ? "arm64"
					     : machine;
}

static int ping(struct request *req, struct error *err)
{
	(void)err;
	reply_text(req, 200, "text/plain; charset=utf-8", "OK", 2);
	reply_header(req, "Builder-Version", "1");
	reply_header(req, "Swarm", "inactive");
	reply_header(req, "Cache-Control", "no-cache, no-store, must-revalidate");
	reply_header(req, "Pragma", "no-cache");
	return 0;
}

static int version(struct request *req, struct error *err)
{
	struct utsname u;
	json_t *engine;

	(void)err;
	uname(&u);
	engine =
		json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}}", "Name",
			  "Engine", "Version", FERRY_VERSION, "Details", "ApiVersion",
			  API_VERSION_MAX, "Arch", go_arch(u.machine), "BuildTime", "",
			  "Experimental", "true", "GitCommit", "", "GoVersion", "", "KernelVersion",
			  u.release, "MinAPIVersion", API_VERSION_MIN, "Os", "linux");
	return reply_json(req, 200,
			  json_pack("{s:{s:s}, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:[o]}",
				    "Platform", "Name", "ferry", "Version", FERRY_VERSION,
				    "ApiVersion", API_VERSION_MAX, "MinAPIVersion", API_VERSION_MIN,
				    "GitCommit", "", "GoVersion", "", "Os", "linux", "Arch",
				    go_arch(u.machine), "KernelVersion", u.release, "BuildTime", "",
				    "Components", engine));
}

/* PRETTY_NAME of /etc/os-release. */
static char *os_name(void)
{
	CLEANUP_FCLOSE FILE *f = fopen("/etc/os-release", "re");
	static const char key[] = "PRETTY_NAME=";
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		char *value = line + sizeof(key) - 1;

		if (!str_starts(line, key))
			continue;
		if (*value == '"')
			value++;
		value[strcspn(value, "\"\n")] = '\0';
		return str_dup(value);
	}
	return str_dup("Linux");
}

static int info(struct request *req, struct error *err)
{
	static const char *const yes[] = { "MemoryLimit",	 "SwapLimit",
					   "CpuCfsPeriod",	 "CpuCfsQuota",
					   "CPUShares",		 "CPUSet",
					   "PidsLimit",		 "IPv4Forwarding",
					   "LiveRestoreEnabled", "ExperimentalBuild" };
	static const char *const no[] = { "OomKillDisable", "Debug" };
	CLEANUP_FREE char *os = os_name();
	CLEANUP_FREE char *now = NULL;
	json_t *j = NULL;
	struct tm tm;
	time_t t = time(NULL);
	size_t i;
	int r = fabric_info(req->fabric, &j, err);

	if (r < 0)
		return r;
	gmtime_r(&t, &tm);
	now = mem_zalloc(40);
	strftime(now, 40, "%Y-%m-%dT%H:%M:%SZ", &tm);
	for (i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		json_set_bool(j, yes[i], true);
	for (i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		json_set_bool(j, no[i], false);
	json_set_str(j, "ServerVersion", FERRY_VERSION);
	json_set_str(j, "OperatingSystem", os);
	json_set_str(j, "OSVersion", "");
	json_set_str(j, "SystemTime", now);
	json_set_str(j, "LoggingDriver", "json-file");
	json_set_str(j, "CgroupDriver", "cgroupfs");
	json_set_str(j, "DefaultRuntime", "ferry-oci");
	json_set_str(j, "Isolation", "");
	json_set_str(j, "InitBinary", "");
	json_set_str(j, "IndexServerAddress", "");
	json_set_int(j, "NFd", 0);
	json_set_int(j, "NGoroutines", 0);
	json_set_int(j, "NEventsListener", 0);
	json_object_set_new(j, "RegistryConfig", json_null());
	json_object_set_new(j, "Runtimes",
			    json_pack("{s:{s:s}}", "ferry-oci", "path", "ferry-oci"));
	json_object_set_new(j, "Swarm",
			    json_pack("{s:s, s:s, s:s, s:b, s:s, s:n}", "NodeID", "", "NodeAddr",
				      "", "LocalNodeState", "inactive", "ControlAvailable", 0,
				      "Error", "", "RemoteManagers"));
	json_object_set_new(j, "SecurityOptions", json_pack("[s]", "name=seccomp,profile=builtin"));
	json_object_set_new(j, "DriverStatus", json_array());
	json_object_set_new(j, "Labels", json_array());
	json_object_set_new(j, "Warnings", json_array());
	return reply_json(req, 200, j);
}

/* --- disk usage --------------------------------------------------------------------- */

static bool type_wanted(const struct request *req, const char *type)
{
	bool any = false;

	for (size_t i = 0; i < req->query.n; i++) {
		if (strcmp(req->query.pairs[i].key, "type"))
			continue;
		any = true;
		if (!strcmp(req->query.pairs[i].value, type))
			return true;
	}
	return !any;
}

static int count_users(const json_t *containers, const char *key, const char *name)
{
	json_t *c, *m;
	size_t i, k;
	int n = 0;

	json_array_foreach (containers, i, c) {
		n += !strcmp(key, "ImageID") && !strcmp(json_str(c, "ImageID", ""), name);
		json_array_foreach (json_object_get(c, "Mounts"), k, m)
			n += !strcmp(key, "Mounts") && !strcmp(json_str(m, "Name", ""), name);
	}
	return n;
}

static int df_volumes(struct request *req, const json_t *containers, json_t *out, struct error *err)
{
	json_t *volumes = NULL, *v;
	size_t i;
	int r = fabric_volume_list(req->fabric, &volumes, err);

	if (r < 0)
		return r;
	/* What a volume's file system really occupies is known only to who mounts it: -1. */
	json_array_foreach (volumes, i, v)
		json_object_set_new(
			v, "UsageData",
			json_pack("{s:i, s:i}", "Size", -1, "RefCount",
				  count_users(containers, "Mounts", json_str(v, "Name", ""))));
	json_object_set_new(out, "Volumes", volumes);
	return 0;
}

static int df_images(struct request *req, const json_t *containers, json_t *out, struct error *err)
{
	json_t *images = NULL, *image;
	json_int_t sum = 0;
	size_t i;
	int r = fabric_image_list(req->fabric, &images, err);

	if (r < 0)
		return r;
	json_array_foreach (images, i, image) {
		json_set_int(image, "Containers",
			     count_users(containers, "ImageID", json_str(image, "Id", "")));
		json_set_int(image, "SharedSize", 0);
		sum += json_int(image, "Size", 0);
	}
	json_set_int(out, "LayersSize", sum);
	json_object_set_new(out, "Images", images);
	return 0;
}

static int df(struct request *req, struct error *err)
{
	CLEANUP_JSON json_t *containers = NULL;
	CLEANUP_JSON json_t *out =
		json_pack("{s:i, s:[], s:[], s:[], s:[], s:i}", "LayersSize", 0, "Images",
			  "Containers", "Volumes", "BuildCache", "BuilderSize", 0);
	json_t *c;
	size_t i;
	int r = fabric_container_list(req->fabric, true, NULL, &containers, err);

	if (!r && type_wanted(req, "image"))
		r = df_images(req, containers, out, err);
	if (!r && type_wanted(req, "volume"))
		r = df_volumes(req, containers, out, err);
	if (r < 0)
		return r;
	if (type_wanted(req, "container")) {
		json_array_foreach (containers, i, c)
			usage_add_container(req->fabric, c);
		json_object_set(out, "Containers", containers);
	}
	return reply_json(req, 200, TAKE_PTR(out));
}

static int empty_list(struct request *req, struct error *err)
{
	(void)err;
	return reply_json(req, 200, json_array());
}

const struct route docker_system_routes[] = {
	{ .method = "GET", .pattern = "/_ping", .handler = ping },
	{ .method = "GET", .pattern = "/version", .handler = version },
	{ .method = "GET", .pattern = "/info", .handler = info },
	{ .method = "GET", .pattern = "/system/df", .handler = df },
	{ .method = "GET", .pattern = "/plugins", .handler = empty_list },
	{ 0 },
};
