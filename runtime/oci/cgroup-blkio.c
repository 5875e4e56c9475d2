/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.resources.blockIO: weights and rates, of all devices and of single ones, to the files
 * of cgroup v1 (blkio-controller.rst) and v2 (cgroup-v2.rst, "IO").
 */
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "runtime/oci/cgroup.h"

struct group {
	const struct cgroup_hier *h;
	const char *path;
};

static char *file_of(const struct group *g, const char *name)
{
	return str_format("%s%s/%s", g->h->mount, g->path, name);
}

/* The first of these files that the kernel has; each scheduler brings its own. */
static const char *choose(const struct group *g, const char *a, const char *b)
{
	CLEANUP_FREE char *path = file_of(g, a);

	return access(path, F_OK) == 0 ? a : b;
}

static int put(const struct group *g, const char *name, const char *text, struct error *err)
{
	CLEANUP_FREE char *path = file_of(g, name);

	return file_write_str(path, text, err);
}

/* 10…1000 of v1 to 1…10000 of v2, as runc does it. */
static long long weight_v2(int64_t weight)
{
	return 1 + (weight - 10) * 9999 / 990;
}

static int set_weight(const struct group *g, int64_t weight, int64_t leaf, struct error *err)
{
	CLEANUP_FREE char *text = NULL, *below = str_format("%lld", (long long)leaf);
	const char *name;
	int r = 0;

	if (g->h->v2) {
		name = choose(g, "io.bfq.weight", "io.weight");
		text = str_format("%lld", strcmp(name, "io.weight") ? (long long)weight
								    : weight_v2(weight));
	} else {
		name = choose(g, "blkio.bfq.weight", "blkio.weight");
		text = str_format("%lld", (long long)weight);
	}
	if (weight > 0)
		r = put(g, name, text, err);
	if (!r && leaf > 0) {
		if (g->h->v2)
			return error_set(err, EOPNOTSUPP, "leafWeight does not exist in cgroup v2");
		r = put(g, "blkio.leaf_weight", below, err);
	}
	return r;
}

static int set_device_weight(const struct group *g, const json_t *d, struct error *err)
{
	long long major = json_int(d, "major", 0), minor = json_int(d, "minor", 0);
	int64_t weight = json_int(d, "weight", 0), leaf = json_int(d, "leafWeight", 0);
	CLEANUP_FREE char *text = NULL, *below = NULL;
	const char *name;
	int r = 0;

	if (g->h->v2)
		name = choose(g, "io.bfq.weight", "io.weight");
	else
		name = choose(g, "blkio.bfq.weight_device", "blkio.weight_device");
	text = str_format("%lld:%lld %lld", major, minor,
			  strcmp(name, "io.weight") ? (long long)weight : weight_v2(weight));
	below = str_format("%lld:%lld %lld", major, minor, (long long)leaf);
	if (weight > 0)
		r = put(g, name, text, err);
	if (!r && leaf > 0 && !g->h->v2)
		r = put(g, "blkio.leaf_weight_device", below, err);
	return r;
}

static const struct {
	const char *key, *v1, *v2;
} rates[] = {
	{ "throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps" },
	{ "throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps" },
	{ "throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops" },
	{ "throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops" },
};

static int set_rate(const struct group *g, size_t kind, const json_t *d, struct error *err)
{
	long long rate = json_int(d, "rate", 0);
	CLEANUP_FREE char *device = str_format("%lld:%lld", (long long)json_int(d, "major", 0),
					       (long long)json_int(d, "minor", 0));
	CLEANUP_FREE char *text = g->h->v2 ? str_format("%s %s=%lld", device, rates[kind].v2, rate)
					   : str_format("%s %lld", device, rate);
	int r = put(g, g->h->v2 ? "io.max" : rates[kind].v1, text, err);

	return r < 0 ? error_wrap(err, "%s of device %s", rates[kind].key, device) : 0;
}

int cgroup_blkio(const struct cgroups *cg, const char *path, const json_t *blkio, struct error *err)
{
	struct group g = { cgroups_find(cg, "io") ? cgroups_find(cg, "io")
						  : cgroups_find(cg, "blkio"),
			   path };
	const json_t *d;
	size_t i;
	int r;

	if (!g.h)
		return error_set(err, EOPNOTSUPP,
				 "this machine has no blkio cgroup controller: limits of block I/O "
				 "cannot be kept");
	r = set_weight(&g, json_int(blkio, "weight", 0), json_int(blkio, "leafWeight", 0), err);
	json_array_foreach (json_object_get(blkio, "weightDevice"), i, d)
		if (!r)
			r = set_device_weight(&g, d, err);
	for (size_t k = 0; k < sizeof(rates) / sizeof(rates[0]); k++)
		json_array_foreach (json_object_get(blkio, rates[k].key), i, d)
			if (!r)
				r = set_rate(&g, k, d, err);
	return r;
}

int cgroup_blkio_check(const json_t *blkio, struct error *err)
{
	const char *const lists[] = { "weightDevice", rates[0].key, rates[1].key, rates[2].key,
				      rates[3].key };
	int64_t n = 0;

	if (json_want_int(blkio, "weight", false, 0, 1000, &n, err) < 0 ||
	    json_want_int(blkio, "leafWeight", false, 0, 1000, &n, err) < 0)
		return -err->code;
	for (size_t k = 0; k < sizeof(lists) / sizeof(lists[0]); k++) {
		const json_t *list = json_object_get(blkio, lists[k]), *d;
		size_t i;

		if (list && !json_is_null(list) && !json_is_array(list))
			return error_set(err, EINVAL, "field \"%s\" must be a list", lists[k]);
		json_array_foreach (list, i, d)
			if (json_want_int(d, "major", true, 0, 4095, &n, err) < 0 ||
			    json_want_int(d, "minor", true, 0, 1048575, &n, err) < 0 ||
			    json_want_int(d, "rate", k > 0, 0, INT64_MAX, &n, err) < 0 ||
			    json_want_int(d, "weight", false, 0, 1000, &n, err) < 0 ||
			    json_want_int(d, "leafWeight", false, 0, 1000, &n, err) < 0)
				return error_wrap(err, "%s[%zu]", lists[k], i);
	}
	return 0;
}
