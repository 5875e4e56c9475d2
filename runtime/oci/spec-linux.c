/* SPDX-License-Identifier: Apache-2.0 */
/* The `linux` object of config.json: namespaces, devices, resources, paths, propagation. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "base/json.h"
#include "base/str.h"
#include "runtime/oci/cgroup.h"
#include "runtime/oci/spec-internal.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

const char *const spec_ns_name[NS_COUNT] = { "pid", "net",    "mnt",  "ipc",
					     "uts", "cgroup", "time", "user" };
const int spec_ns_flag[NS_COUNT] = { CLONE_NEWPID, CLONE_NEWNET,    CLONE_NEWNS,   CLONE_NEWIPC,
				     CLONE_NEWUTS, CLONE_NEWCGROUP, CLONE_NEWTIME, CLONE_NEWUSER };

static int parse_namespaces(const json_t *linux_obj, struct spec *s, struct error *err)
{
	static const char *const types[NS_COUNT] = { "pid", "network", "mount", "ipc",
						     "uts", "cgroup",  "time",	"user" };
	json_t *arr, *v;
	size_t i;
	int r = spec_array(linux_obj, "namespaces", &arr, err);

	if (r < 0)
		return r;
	json_array_foreach (arr, i, v) {
		const char *type = NULL, *path = NULL;
		int k;

		if (json_want_str(v, "type", true, &type, err) < 0 ||
		    json_want_str(v, "path", false, &path, err) < 0)
			return error_wrap(err, "linux.namespaces[%zu]", i);
		for (k = 0; k < NS_COUNT && strcmp(types[k], type) != 0; k++)
			;
		if (k == NS_COUNT)
			return error_set(err, EINVAL, "linux.namespaces: unknown type \"%s\"",
					 type);
		if (s->ns[k].wanted)
			return error_set(err, EINVAL, "linux.namespaces: \"%s\" is given twice",
					 type);
		if (path && !path[0])
			path = NULL;
		if (path && path[0] != '/')
			return error_set(err, EINVAL,
					 "linux.namespaces: path of \"%s\" must be absolute", type);
		s->ns[k].wanted = true;
		s->ns[k].path = path;
	}
	if (!s->ns[NS_MNT].wanted)
		return error_set(
			err, EOPNOTSUPP,
			"linux.namespaces must hold \"mount\": a container without its own "
			"mount namespace is not supported");
	if (s->ns[NS_MNT].path)
		return error_set(
			err, EOPNOTSUPP,
			"joining a mount namespace by path is not supported; leave out its "
			"path");
	return 0;
}

static int parse_offsets(const json_t *linux_obj, struct spec *s, struct error *err)
{
	json_t *o, *m, *b;
	int r = spec_object(linux_obj, "timeOffsets", &o, err);

	if (r < 0 || !o)
		return r;
	if (!s->ns[NS_TIME].wanted || s->ns[NS_TIME].path)
		return error_set(err, EINVAL,
				 "linux.timeOffsets needs a new \"time\" namespace in "
				 "linux.namespaces");
	if (spec_object(o, "monotonic", &m, err) < 0 || spec_object(o, "boottime", &b, err) < 0 ||
	    json_want_int(m, "secs", false, INT64_MIN, INT64_MAX, &s->mono_s, err) < 0 ||
	    json_want_int(m, "nanosecs", false, 0, 999999999, &s->mono_ns, err) < 0 ||
	    json_want_int(b, "secs", false, INT64_MIN, INT64_MAX, &s->boot_s, err) < 0 ||
	    json_want_int(b, "nanosecs", false, 0, 999999999, &s->boot_ns, err) < 0)
		return error_wrap(err, "linux.timeOffsets");
	s->has_time_offsets = true;
	return 0;
}

static int parse_devices(const json_t *linux_obj, struct spec *s, struct error *err)
{
	json_t *arr, *v;
	size_t i;
	int r = spec_array(linux_obj, "devices", &arr, err);

	if (r < 0 || !arr)
		return r;
	s->devices = mem_zalloc(json_array_size(arr) * sizeof(*s->devices));
	json_array_foreach (arr, i, v) {
		struct spec_device *d = &s->devices[s->ndevices++];
		const char *type = NULL;
		int64_t mode = 0666, uid = 0, gid = 0;

		if (json_want_str(v, "path", true, &d->path, err) < 0 ||
		    json_want_str(v, "type", true, &type, err) < 0 ||
		    json_want_int(v, "major", false, 0, 4095, &d->major, err) < 0 ||
		    json_want_int(v, "minor", false, 0, 1048575, &d->minor, err) < 0 ||
		    json_want_int(v, "fileMode", false, 0, 0777777, &mode, err) < 0 ||
		    json_want_int(v, "uid", false, 0, UINT32_MAX - 1, &uid, err) < 0 ||
		    json_want_int(v, "gid", false, 0, UINT32_MAX - 1, &gid, err) < 0)
			return error_wrap(err, "linux.devices[%zu]", i);
		if (d->path[0] != '/' || strlen(type) != 1 || !strchr("cbup", type[0]))
			return error_set(
				err, EINVAL,
				"linux.devices[%zu]: wants an absolute path and type c, b, u "
				"or p",
				i);
		d->type = type[0];
		d->mode = (mode_t)(mode & 07777);
		d->uid = (uid_t)uid;
		d->gid = (gid_t)gid;
	}
	return 0;
}

/*
 * What every container may do, whatever the list says, as other runtimes have it: make any
 * node, and use those that the runtime makes itself.
 */
static const struct spec_device_rule always[] = {
	{ true, 'c', -1, -1, false, false, true }, { true, 'b', -1, -1, false, false, true },
	{ true, 'c', 1, 3, true, true, true },	   { true, 'c', 1, 5, true, true, true },
	{ true, 'c', 1, 7, true, true, true },	   { true, 'c', 1, 8, true, true, true },
	{ true, 'c', 1, 9, true, true, true },	   { true, 'c', 5, 0, true, true, true },
	{ true, 'c', 5, 2, true, true, true },	   { true, 'c', 136, -1, true, true, true },
};

static int parse_device_rules(const json_t *res, struct spec_resources *out, struct error *err)
{
	json_t *arr, *v;
	size_t i;
	int r = spec_array(res, "devices", &arr, err);

	if (r < 0 || !arr)
		return r;
	out->devices = mem_zalloc(json_array_size(arr) * sizeof(*out->devices) + sizeof(always));
	json_array_foreach (arr, i, v) {
		struct spec_device_rule *d = &out->devices[out->ndevices++];
		const char *type = "a", *access = "rwm";

		d->major = d->minor = -1;
		if (spec_want_bool(v, "allow", &d->allow, err) < 0 ||
		    json_want_str(v, "type", false, &type, err) < 0 ||
		    json_want_str(v, "access", false, &access, err) < 0 ||
		    json_want_int(v, "major", false, -1, 4095, &d->major, err) < 0 ||
		    json_want_int(v, "minor", false, -1, 1048575, &d->minor, err) < 0)
			return error_wrap(err, "linux.resources.devices[%zu]", i);
		d->type = type[0] ? type[0] : 'a';
		if (!strchr("abc", d->type) || strspn(access, "rwm") != strlen(access))
			return error_set(err, EINVAL,
					 "linux.resources.devices[%zu]: type must be a, b or c and "
					 "access made of r, w, m",
					 i);
		d->read = strchr(access, 'r');
		d->write = strchr(access, 'w');
		d->mknod = strchr(access, 'm');
	}
	if (out->ndevices) {
		memcpy(&out->devices[out->ndevices], always, sizeof(always));
		out->ndevices += sizeof(always) / sizeof(always[0]);
	}
	return 0;
}

int spec_resources_parse(const json_t *res, struct spec_resources *o, struct error *err)
{
	const int64_t big = INT64_MAX;
	json_t *mem, *cpu, *pids, *rdma, *net;

	memset(o, 0, sizeof(*o));
	o->mem_limit = o->mem_reservation = o->mem_swap = o->mem_swappiness = LIMIT_NONE;
	o->mem_kernel_tcp = LIMIT_NONE;
	o->cpu_shares = o->cpu_quota = o->cpu_period = o->cpu_idle = LIMIT_NONE;
	o->pids_limit = LIMIT_NONE;
	if (!res)
		return 0;
	if (spec_object(res, "memory", &mem, err) < 0 || spec_object(res, "cpu", &cpu, err) < 0 ||
	    spec_object(res, "pids", &pids, err) < 0 ||
	    spec_object(res, "blockIO", &o->blkio, err) < 0 ||
	    spec_object(res, "rdma", &rdma, err) < 0 ||
	    spec_object(res, "network", &net, err) < 0 ||
	    spec_object(res, "unified", &o->unified, err) < 0 ||
	    spec_array(res, "hugepageLimits", &o->hugepages, err) < 0 ||
	    json_want_int(mem, "limit", false, -1, big, &o->mem_limit, err) < 0 ||
	    json_want_int(mem, "reservation", false, -1, big, &o->mem_reservation, err) < 0 ||
	    json_want_int(mem, "swap", false, -1, big, &o->mem_swap, err) < 0 ||
	    json_want_int(mem, "swappiness", false, 0, 100, &o->mem_swappiness, err) < 0 ||
	    json_want_int(mem, "kernelTCP", false, -1, big, &o->mem_kernel_tcp, err) < 0 ||
	    spec_want_bool(mem, "disableOOMKiller", &o->mem_disable_oom_killer, err) < 0 ||
	    json_want_int(cpu, "shares", false, 0, 262144, &o->cpu_shares, err) < 0 ||
	    json_want_int(cpu, "quota", false, -1, big, &o->cpu_quota, err) < 0 ||
	    json_want_int(cpu, "period", false, 0, 1000000, &o->cpu_period, err) < 0 ||
	    json_want_int(cpu, "idle", false, 0, 1, &o->cpu_idle, err) < 0 ||
	    json_want_str(cpu, "cpus", false, &o->cpus, err) < 0 ||
	    json_want_str(cpu, "mems", false, &o->mems, err) < 0 ||
	    json_want_int(pids, "limit", false, -1, big, &o->pids_limit, err) < 0 ||
	    cgroup_blkio_check(o->blkio, err) < 0)
		return error_wrap(err, "linux.resources");
	if (rdma && json_object_size(rdma))
		return error_set(err, EOPNOTSUPP, "linux.resources.rdma is not supported");
	if (net && json_object_size(net))
		return error_set(
			err, EOPNOTSUPP,
			"linux.resources.network is not supported: ferry classifies traffic "
			"in BPF");
	if (json_object_get(cpu, "realtimeRuntime") || json_object_get(cpu, "realtimePeriod") ||
	    json_object_get(cpu, "burst"))
		return error_set(
			err, EOPNOTSUPP,
			"linux.resources.cpu: realtimeRuntime, realtimePeriod and burst are "
			"not supported");
	if (o->mem_limit > 0 && o->mem_swap > 0 && o->mem_swap < o->mem_limit)
		return error_set(err, EINVAL,
				 "linux.resources.memory: swap (memory and swap together) is below "
				 "limit");
	return parse_device_rules(res, o, err);
}

static int parse_propagation(const json_t *linux_obj, struct spec *s, struct error *err)
{
	static const struct {
		const char *name;
		unsigned long flags;
	} kinds[] = {
		{ "private", MS_PRIVATE },	 { "rprivate", MS_PRIVATE | MS_REC },
		{ "slave", MS_SLAVE },		 { "rslave", MS_SLAVE | MS_REC },
		{ "shared", MS_SHARED },	 { "rshared", MS_SHARED | MS_REC },
		{ "unbindable", MS_UNBINDABLE }, { "runbindable", MS_UNBINDABLE | MS_REC },
	};
	const char *name = NULL;
	int r = json_want_str(linux_obj, "rootfsPropagation", false, &name, err);

	if (r < 0 || !name || !name[0])
		return r;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(kinds[i].name, name))
			s->rootfs_propagation = kinds[i].flags;
	return s->rootfs_propagation
		       ? 0
		       : error_set(err, EINVAL, "linux.rootfsPropagation: unknown value \"%s\"",
				   name);
}

int spec_linux_parse(struct spec *s, struct error *err)
{
	static const char *const refused[] = { "intelRdt", "personality", "memoryPolicy",
					       "netDevices" };
	json_t *l, *res;
	int r = spec_object(s->doc, "linux", &l, err);

	if (r < 0)
		return r;
	if (!l)
		return error_set(err, EINVAL, "field \"linux\" is missing");
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		json_t *v = json_object_get(l, refused[i]);

		if (!v || json_is_null(v) || (json_is_array(v) && !json_array_size(v)) ||
		    (json_is_string(v) && !json_string_value(v)[0]) ||
		    (json_is_object(v) && !json_object_size(v)))
			continue;
		if (!strcmp(refused[i], "personality") &&
		    !strcmp(json_str(v, "domain", ""), "LINUX") &&
		    !json_array_size(json_object_get(v, "flags")))
			continue;
		return error_set(err, EOPNOTSUPP, "linux.%s is not supported; remove it",
				 refused[i]);
	}
	s->mount_label = json_str(l, "mountLabel", NULL);
	if (s->mount_label && !*s->mount_label)
		s->mount_label = NULL;
	if ((r = parse_namespaces(l, s, err)) < 0 || (r = spec_userns_parse(l, s, err)) < 0 ||
	    (r = parse_offsets(l, s, err)) < 0 || (r = parse_devices(l, s, err)) < 0 ||
	    (r = parse_propagation(l, s, err)) < 0 ||
	    (r = spec_object(l, "resources", &res, err)) < 0 ||
	    (r = spec_resources_parse(res, &s->res, err)) < 0 ||
	    (r = spec_strings(l, "maskedPaths", &s->masked, err)) < 0 ||
	    (r = spec_strings(l, "readonlyPaths", &s->readonly_paths, err)) < 0 ||
	    (r = spec_object(l, "sysctl", &s->sysctl, err)) < 0 ||
	    (r = spec_object(l, "seccomp", &s->seccomp, err)) < 0 ||
	    (r = json_want_str(l, "cgroupsPath", false, &s->cgroups_path, err)) < 0)
		return r;
	if (s->cgroups_path && strstr(s->cgroups_path, ".."))
		return error_set(err, EINVAL, "linux.cgroupsPath must not hold \"..\"");
	return 0;
}
