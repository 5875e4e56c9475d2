/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.resources to the files of cgroup v1 and v2. The conversions are those of the
 * runtime specification's users (runc, crun): Documentation/admin-guide/cgroup-v1/ and
 * cgroup-v2.rst name the files.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/oci/cgroup.h"
#include "runtime/oci/report.h"

struct target {
	const struct cgroup_hier *h;
	const char *path;
};

static bool has(const struct target *t, const char *name)
{
	CLEANUP_FREE char *p = str_format("%s%s/%s", t->h->mount, t->path, name);

	return access(p, F_OK) == 0;
}

static int put(const struct target *t, const char *name, const char *value, struct error *err)
{
	CLEANUP_FREE char *p = str_format("%s%s/%s", t->h->mount, t->path, name);

	return file_write_str(p, value, err);
}

static int put_int(const struct target *t, const char *name, int64_t v, struct error *err)
{
	CLEANUP_FREE char *text = str_format("%lld", (long long)v);

	return put(t, name, text, err);
}

/* v2 writes "max" where v1 wants -1. */
static int put_max(const struct target *t, const char *name, int64_t v, struct error *err)
{
	return v < 0 ? put(t, name, "max", err) : put_int(t, name, v, err);
}

static int find(const struct cgroups *cg, const char *path, const char *controller,
		struct target *t, struct error *err)
{
	t->path = path;
	t->h = cgroups_find(cg, controller);
	if (!t->h)
		return error_set(
			err, EOPNOTSUPP,
			"this machine has no %s cgroup controller: the container's %s limit "
			"cannot be kept",
			controller, controller);
	return 0;
}

static int memory_v1(const struct target *t, const struct spec_resources *r, struct error *err)
{
	static const char limit[] = "memory.limit_in_bytes", swap[] = "memory.memsw.limit_in_bytes";
	bool have_swap = has(t, swap);
	int ret;

	if (r->mem_swap != LIMIT_NONE && !have_swap)
		report_warn("the kernel has no swap accounting: the swap limit is not kept");
	if (r->mem_limit != LIMIT_NONE) {
		/* memory <= memory+swap must hold at each step, so growing starts with the sum. */
		bool first = have_swap && r->mem_swap != LIMIT_NONE &&
			     put_int(t, swap, r->mem_swap, NULL) == 0;

		ret = put_int(t, limit, r->mem_limit, err);
		if (ret < 0)
			return ret;
		if (have_swap && r->mem_swap != LIMIT_NONE && !first &&
		    (ret = put_int(t, swap, r->mem_swap, err)) < 0)
			return ret;
	} else if (r->mem_swap != LIMIT_NONE && have_swap) {
		ret = put_int(t, swap, r->mem_swap, err);
		if (ret < 0)
			return ret;
	}
	if (r->mem_reservation != LIMIT_NONE &&
	    (ret = put_int(t, "memory.soft_limit_in_bytes", r->mem_reservation, err)) < 0)
		return ret;
	if (r->mem_swappiness != LIMIT_NONE &&
	    (ret = put_int(t, "memory.swappiness", r->mem_swappiness, err)) < 0)
		return ret;
	/* Of kernel memory alone the kernel keeps no limit any more (Linux 5.16). */
	if (r->mem_kernel_tcp != LIMIT_NONE && has(t, "memory.kmem.tcp.limit_in_bytes") &&
	    (ret = put_int(t, "memory.kmem.tcp.limit_in_bytes", r->mem_kernel_tcp, err)) < 0)
		return ret;
	return r->mem_disable_oom_killer ? put(t, "memory.oom_control", "1", err) : 0;
}

static int memory_v2(const struct target *t, const struct spec_resources *r, struct error *err)
{
	int ret;

	if (r->mem_swap != LIMIT_NONE && has(t, "memory.swap.max")) {
		int64_t swap = r->mem_swap;

		/* The specification's swap is memory and swap together, v2's is swap alone. */
		if (swap > 0 && r->mem_limit > 0)
			swap -= r->mem_limit;
		if ((ret = put_max(t, "memory.swap.max", swap, err)) < 0)
			return ret;
	}
	if (r->mem_limit != LIMIT_NONE && (ret = put_max(t, "memory.max", r->mem_limit, err)) < 0)
		return ret;
	if (r->mem_reservation != LIMIT_NONE &&
	    (ret = put_max(t, "memory.low", r->mem_reservation, err)) < 0)
		return ret;
	if (r->mem_disable_oom_killer || r->mem_swappiness != LIMIT_NONE)
		report_warn("cgroup v2 has neither swappiness nor an OOM killer switch: ignored");
	return 0;
}

static int cpu(const struct target *t, const struct spec_resources *r, struct error *err)
{
	int64_t period = r->cpu_period > 0 ? r->cpu_period : 100000;
	int ret;

	if (t->h->v2) {
		if (r->cpu_shares > 0) {
			int64_t s = r->cpu_shares < 2 ? 2 : r->cpu_shares;

			ret = put_int(t, "cpu.weight", 1 + (s - 2) * 9999 / 262142, err);
			if (ret < 0)
				return ret;
		}
		if ((r->cpu_quota != LIMIT_NONE && r->cpu_quota != 0) || r->cpu_period > 0) {
			CLEANUP_FREE char *v =
				r->cpu_quota > 0 ? str_format("%lld %lld", (long long)r->cpu_quota,
							      (long long)period)
						 : str_format("max %lld", (long long)period);

			if ((ret = put(t, "cpu.max", v, err)) < 0)
				return ret;
		}
	} else {
		if (r->cpu_shares > 0 && (ret = put_int(t, "cpu.shares", r->cpu_shares, err)) < 0)
			return ret;
		/* With a new period the old quota may be out of bounds and the other way round. */
		if (r->cpu_period > 0 &&
		    (ret = put_int(t, "cpu.cfs_period_us", r->cpu_period, err)) < 0)
			return ret;
		if (r->cpu_quota != LIMIT_NONE && r->cpu_quota != 0 &&
		    (ret = put_int(t, "cpu.cfs_quota_us", r->cpu_quota, err)) < 0)
			return ret;
	}
	return r->cpu_idle != LIMIT_NONE ? put_int(t, "cpu.idle", r->cpu_idle, err) : 0;
}

static int devices_v1(const struct target *t, const struct spec_resources *r, struct error *err)
{
	int ret;

	for (size_t i = 0; i < r->ndevices; i++) {
		const struct spec_device_rule *d = &r->devices[i];
		char major[24] = "*", minor[24] = "*", text[80];

		if (d->major >= 0)
			snprintf(major, sizeof(major), "%d", (int)d->major);
		if (d->minor >= 0)
			snprintf(minor, sizeof(minor), "%d", (int)d->minor);
		if (d->type == 'a')
			snprintf(text, sizeof(text), "a");
		else
			snprintf(text, sizeof(text), "%c %s:%s %s%s%s", d->type, major, minor,
				 d->read ? "r" : "", d->write ? "w" : "", d->mknod ? "m" : "");
		ret = put(t, d->allow ? "devices.allow" : "devices.deny", text, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int unified(const struct cgroups *cg, const char *path, json_t *values, struct error *err)
{
	struct target t = { cg->v2 >= 0 ? &cg->hier[cg->v2] : NULL, path };
	const char *key;
	json_t *v;
	int ret;

	if (!t.h)
		return error_set(err, EOPNOTSUPP,
				 "linux.resources.unified needs cgroup v2, which is not mounted");
	json_object_foreach (values, key, v) {
		if (!json_is_string(v) || strchr(key, '/'))
			return error_set(err, EINVAL,
					 "linux.resources.unified: \"%s\" is no file with a string",
					 key);
		if ((ret = put(&t, key, json_string_value(v), err)) < 0)
			return ret;
	}
	return 0;
}

static int hugepages(const struct cgroups *cg, const char *path, const json_t *arr,
		     struct error *err)
{
	struct target t;
	json_t *v;
	size_t i;
	int ret = find(cg, path, "hugetlb", &t, err);

	if (ret < 0)
		return ret;
	json_array_foreach (arr, i, v) {
		const char *size = json_string_value(json_object_get(v, "pageSize"));
		CLEANUP_FREE char *name = NULL;

		if (!size || strchr(size, '/') || !json_is_integer(json_object_get(v, "limit")))
			return error_set(err, EINVAL,
					 "linux.resources.hugepageLimits wants pageSize and limit");
		name = str_format(t.h->v2 ? "hugetlb.%s.max" : "hugetlb.%s.limit_in_bytes", size);
		ret = put_int(&t, name, json_integer_value(json_object_get(v, "limit")), err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int cgroup_limit(const struct cgroups *cg, const char *path, const struct spec_resources *r,
		 bool with_devices, struct error *err)
{
	struct target t;
	int ret;

	if (r->mem_limit != LIMIT_NONE || r->mem_swap != LIMIT_NONE ||
	    r->mem_reservation != LIMIT_NONE || r->mem_swappiness != LIMIT_NONE ||
	    r->mem_kernel_tcp != LIMIT_NONE || r->mem_disable_oom_killer) {
		if ((ret = find(cg, path, "memory", &t, err)) < 0)
			return ret;
		ret = t.h->v2 ? memory_v2(&t, r, err) : memory_v1(&t, r, err);
		if (ret < 0)
			return error_wrap(err, "setting memory limits");
	}
	if (r->cpu_shares > 0 || (r->cpu_quota != LIMIT_NONE && r->cpu_quota != 0) ||
	    r->cpu_period > 0 || r->cpu_idle != LIMIT_NONE) {
		if ((ret = find(cg, path, "cpu", &t, err)) < 0)
			return ret;
		if (cpu(&t, r, err) < 0)
			return error_wrap(err, "setting CPU limits");
	}
	if ((r->cpus && r->cpus[0]) || (r->mems && r->mems[0])) {
		if ((ret = find(cg, path, "cpuset", &t, err)) < 0)
			return ret;
		if (r->cpus && r->cpus[0] && put(&t, "cpuset.cpus", r->cpus, err) < 0)
			return error_wrap(err, "setting the CPU set");
		if (r->mems && r->mems[0] && put(&t, "cpuset.mems", r->mems, err) < 0)
			return error_wrap(err, "setting the memory nodes");
	}
	if (r->pids_limit != LIMIT_NONE && r->pids_limit != 0) {
		if ((ret = find(cg, path, "pids", &t, err)) < 0)
			return ret;
		if (put_max(&t, "pids.max", r->pids_limit, err) < 0)
			return error_wrap(err, "setting the process limit");
	}
	if (r->blkio && json_object_size(r->blkio) && cgroup_blkio(cg, path, r->blkio, err) < 0)
		return error_wrap(err, "setting limits of block I/O");
	if (r->hugepages && json_array_size(r->hugepages) &&
	    hugepages(cg, path, r->hugepages, err) < 0)
		return error_wrap(err, "setting huge page limits");
	if (r->unified && json_object_size(r->unified) &&
	    (ret = unified(cg, path, r->unified, err)) < 0)
		return ret;
	if (with_devices && r->ndevices) {
		t = (struct target){ cgroups_find(cg, "devices"), path };
		if (t.h) {
			ret = devices_v1(&t, r, err);
		} else if (cg->v2 >= 0) {
			CLEANUP_FREE char *dir = str_format("%s%s", cg->hier[cg->v2].mount, path);

			ret = cgroup_devices_bpf(dir, r->devices, r->ndevices, err);
		} else {
			ret = error_set(err, EOPNOTSUPP, "this machine has no device controller");
		}
		if (ret < 0)
			return error_wrap(err, "setting the list of allowed devices");
	}
	return 0;
}
