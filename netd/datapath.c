/* SPDX-License-Identifier: Apache-2.0 */
/* Loading, pinning, attaching, map access; see datapath.h. */
#include "netd/datapath.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "netd/bpf/overlay.skel.h"

/* enum bpf_attach_type of kernel 6.6, which Debian 12's headers do not have yet. */
#define TCX_INGRESS 46
#define TCX_EGRESS  47

struct datapath {
	struct overlay_bpf *bpf;
	char *pins;  /* <bpffs>/ferry */
	char *links; /* <bpffs>/ferry/links */
};

static int on_libbpf(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	char line[512];

	if (level == LIBBPF_DEBUG)
		return 0;
	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	log_debug("%s", line);
	return 0;
}

static int mount_bpffs(const char *path, struct error *err)
{
	struct statfs fs;
	int r = dir_make(path, 0755, err);

	if (r < 0)
		return r;
	if (statfs(path, &fs) == 0 && fs.f_type == BPF_FS_MAGIC)
		return 0;
	if (mount("bpf", path, "bpf", 0, "mode=0700") < 0)
		return error_sys(err, errno, "mounting a bpffs at %s", path);
	return 0;
}

int datapath_open(const char *bpffs, struct datapath **out, struct error *err)
{
	struct datapath *dp;
	struct ferry_config c = { 0 };
	uint32_t zero = 0;
	int r;

	r = mount_bpffs(bpffs, err);
	if (r < 0)
		return r;
	libbpf_set_print(on_libbpf);
	dp = mem_zalloc(sizeof(*dp));
	dp->pins = str_format("%s/ferry", bpffs);
	dp->links = str_format("%s/links", dp->pins);
	r = dir_make(dp->links, 0700, err);
	if (r == 0) {
		LIBBPF_OPTS(bpf_object_open_opts, opts, .pin_root_path = dp->pins);

		dp->bpf = overlay_bpf__open_opts(&opts);
		if (!dp->bpf)
			r = error_sys(err, errno, "opening ferry's BPF programs");
	}
	if (r == 0 && (r = overlay_bpf__load(dp->bpf)) < 0)
		r = error_sys(err, -r == EINVAL ? EPROTONOSUPPORT : -r,
			      "loading ferry's BPF programs (kernel too old, no CAP_BPF, or pins "
			      "of another version in %s)",
			      dp->pins);
	if (r == 0) {
		bpf_map_lookup_elem(bpf_map__fd(dp->bpf->maps.ferry_config), &zero, &c);
		if (c.version && c.version != FERRY_MAPS_VERSION)
			r = error_set(err, EPROTONOSUPPORT,
				      "%s holds maps of version %u, this is "
				      "version %u: stop ferry's containers and remove it",
				      dp->pins, c.version, FERRY_MAPS_VERSION);
	}
	if (r < 0) {
		datapath_close(dp);
		return r;
	}
	*out = dp;
	return 0;
}

void datapath_close(struct datapath *dp)
{
	if (!dp)
		return;
	overlay_bpf__destroy(dp->bpf);
	free(dp->pins);
	free(dp->links);
	free(dp);
}

static void remove_entries(const char *dir)
{
	CLEANUP_CLOSEDIR DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		CLEANUP_FREE char *path = str_format("%s/%s", dir, e->d_name);

		if (e->d_name[0] != '.')
			unlink(path);
	}
}

int datapath_remove(struct datapath *dp, struct error *err)
{
	remove_entries(dp->links);
	rmdir(dp->links);
	remove_entries(dp->pins);
	if (rmdir(dp->pins) < 0 && errno != ENOENT)
		return error_sys(err, errno, "removing %s", dp->pins);
	return 0;
}

int datapath_prog_fd(struct datapath *dp, enum datapath_prog prog)
{
	switch (prog) {
	case DATAPATH_CONTAINER:
		return bpf_program__fd(dp->bpf->progs.from_container);
	case DATAPATH_OVERLAY:
		return bpf_program__fd(dp->bpf->progs.from_overlay);
	case DATAPATH_HOST:
		return bpf_program__fd(dp->bpf->progs.from_host);
	case DATAPATH_HOLD:
		return bpf_program__fd(dp->bpf->progs.from_hold);
	}
	return -1;
}

/* bpffs keeps names with dots for itself. */
static char *link_path(struct datapath *dp, const char *ifname)
{
	char *path = str_format("%s/%s", dp->links, ifname);

	for (char *p = path + strlen(dp->links); *p; p++)
		if (*p == '.')
			*p = '_';
	return path;
}

static int attach_clsact(int fd, bool egress, int ifindex, const char *ifname, struct error *err)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
		    .attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = fd, .handle = 1, .priority = 1,
		    .flags = BPF_TC_F_REPLACE);
	int r = bpf_tc_hook_create(&hook);

	if (r == 0 || r == -EEXIST)
		r = bpf_tc_attach(&hook, &opts);
	return r < 0 ? error_sys(err, -r, "attaching a BPF program to %s", ifname) : 0;
}

int datapath_attach(struct datapath *dp, enum datapath_prog prog, int ifindex, const char *ifname,
		    struct error *err)
{
	CLEANUP_FREE char *path = link_path(dp, ifname);
	CLEANUP_CLOSE int link = bpf_obj_get(path);
	int fd = datapath_prog_fd(dp, prog);
	bool egress = prog == DATAPATH_HOST;

	if (link >= 0) {
		struct bpf_link_info info = { 0 };
		__u32 len = sizeof(info);

		/* struct { ifindex, attach_type } tcx lies where xdp.ifindex does. */
		if (bpf_obj_get_info_by_fd(link, &info, &len) == 0 &&
		    info.xdp.ifindex == (__u32)ifindex && bpf_link_update(link, fd, NULL) == 0)
			return 0;
		close(TAKE_FD(link));
		unlink(path);
	}
	link = getenv("FERRY_NETD_CLSACT")
		       ? -1
		       : bpf_link_create(fd, ifindex, egress ? TCX_EGRESS : TCX_INGRESS, NULL);
	if (link < 0)
		return attach_clsact(fd, egress, ifindex, ifname, err);
	if (bpf_obj_pin(link, path) < 0)
		return error_sys(err, errno, "pinning %s", path);
	return 0;
}

void datapath_detach(struct datapath *dp, const char *ifname)
{
	CLEANUP_FREE char *path = link_path(dp, ifname);

	unlink(path);
}

int datapath_config_set(struct datapath *dp, const struct ferry_config *c, struct error *err)
{
	uint32_t zero = 0;

	if (bpf_map_update_elem(bpf_map__fd(dp->bpf->maps.ferry_config), &zero, c, BPF_ANY) < 0)
		return error_sys(err, errno, "configuring the datapath");
	return 0;
}

static struct ferry_ep_key ep_key(uint32_t vni, const struct addr *ip)
{
	struct ferry_ep_key key = { .vni = vni };

	memcpy(key.ip, ip->b, 16);
	return key;
}

int datapath_ep_set(struct datapath *dp, uint32_t vni, const struct addr *ip,
		    const struct ferry_ep *ep, struct error *err)
{
	struct ferry_ep_key key = ep_key(vni, ip);

	if (bpf_map_update_elem(bpf_map__fd(dp->bpf->maps.ferry_endpoints), &key, ep, BPF_ANY) < 0)
		return error_sys(err, errno, "writing the endpoint map");
	return 0;
}

int datapath_ep_get(struct datapath *dp, uint32_t vni, const struct addr *ip, struct ferry_ep *ep)
{
	struct ferry_ep_key key = ep_key(vni, ip);

	if (bpf_map_lookup_elem(bpf_map__fd(dp->bpf->maps.ferry_endpoints), &key, ep) < 0)
		return -ENOENT;
	return 0;
}

void datapath_ep_del(struct datapath *dp, uint32_t vni, const struct addr *ip)
{
	struct ferry_ep_key key = ep_key(vni, ip);

	bpf_map_delete_elem(bpf_map__fd(dp->bpf->maps.ferry_endpoints), &key);
}

/* Collects the keys of a map that `wants` says yes to, then lets `act` have each. */
static void walk_keys(int fd, size_t key_size, bool (*wants)(const void *key, const void *arg),
		      const void *arg, int (*act)(int fd, const void *key, void *ctx), void *ctx)
{
	CLEANUP_BUF struct buf keys = { 0 };
	char key[64], next[64];
	bool first = true;

	while (bpf_map_get_next_key(fd, first ? NULL : key, next) == 0) {
		memcpy(key, next, key_size);
		first = false;
		if (wants(key, arg))
			buf_add(&keys, key, key_size);
	}
	for (size_t i = 0; i + key_size <= keys.len; i += key_size)
		if (act(fd, keys.data + i, ctx))
			return;
}

static int act_delete(int fd, const void *key, void *ctx)
{
	(void)ctx;
	bpf_map_delete_elem(fd, key);
	return 0;
}

static bool ep_in_vni(const void *key, const void *arg)
{
	struct ferry_ep_key k;

	memcpy(&k, key, sizeof(k));
	return k.vni == *(const uint32_t *)arg;
}

void datapath_ep_flush(struct datapath *dp, uint32_t vni)
{
	walk_keys(bpf_map__fd(dp->bpf->maps.ferry_endpoints), sizeof(struct ferry_ep_key),
		  ep_in_vni, &vni, act_delete, NULL);
}

int datapath_port_set(struct datapath *dp, int ifindex, const struct ferry_port *p,
		      struct error *err)
{
	if (bpf_map_update_elem(bpf_map__fd(dp->bpf->maps.ferry_ports), &ifindex, p, BPF_ANY) < 0)
		return error_sys(err, errno, "writing the port map");
	return 0;
}

int datapath_port_get(struct datapath *dp, int ifindex, struct ferry_port *p)
{
	if (bpf_map_lookup_elem(bpf_map__fd(dp->bpf->maps.ferry_ports), &ifindex, p) < 0)
		return -ENOENT;
	return 0;
}

void datapath_port_del(struct datapath *dp, int ifindex)
{
	bpf_map_delete_elem(bpf_map__fd(dp->bpf->maps.ferry_ports), &ifindex);
}

static struct ferry_subnet_key subnet_key(const struct subnet *s)
{
	struct ferry_subnet_key key = { .prefixlen = subnet_prefix128(s) };

	memcpy(key.ip, s->addr.b, 16);
	return key;
}

int datapath_subnet_set(struct datapath *dp, const struct subnet *s, uint32_t vni,
			struct error *err)
{
	struct ferry_subnet_key key = subnet_key(s);

	if (bpf_map_update_elem(bpf_map__fd(dp->bpf->maps.ferry_subnets), &key, &vni, BPF_ANY) < 0)
		return error_sys(err, errno, "writing the subnet map");
	return 0;
}

void datapath_subnet_del(struct datapath *dp, const struct subnet *s)
{
	struct ferry_subnet_key key = subnet_key(s);

	bpf_map_delete_elem(bpf_map__fd(dp->bpf->maps.ferry_subnets), &key);
}

int datapath_queue_make(struct datapath *dp, int ifindex, struct error *err)
{
	uint64_t zero = 0;

	if (bpf_map_update_elem(bpf_map__fd(dp->bpf->maps.ferry_queued), &ifindex, &zero,
				BPF_NOEXIST) < 0 &&
	    errno != EEXIST)
		return error_sys(err, errno, "making a hold queue");
	if (bpf_map_update_elem(bpf_map__fd(dp->bpf->maps.ferry_replayed), &ifindex, &zero,
				BPF_NOEXIST) < 0 &&
	    errno != EEXIST)
		return error_sys(err, errno, "making a hold queue");
	return 0;
}

void datapath_queue_del(struct datapath *dp, int ifindex)
{
	bpf_map_delete_elem(bpf_map__fd(dp->bpf->maps.ferry_queued), &ifindex);
	bpf_map_delete_elem(bpf_map__fd(dp->bpf->maps.ferry_replayed), &ifindex);
}

uint64_t datapath_queued(struct datapath *dp, int ifindex)
{
	uint64_t n = 0;

	bpf_map_lookup_elem(bpf_map__fd(dp->bpf->maps.ferry_queued), &ifindex, &n);
	return n;
}

uint64_t datapath_replayed(struct datapath *dp, int ifindex)
{
	uint64_t n = 0;

	bpf_map_lookup_elem(bpf_map__fd(dp->bpf->maps.ferry_replayed), &ifindex, &n);
	return n;
}

void datapath_replayed_set(struct datapath *dp, int ifindex, uint64_t n)
{
	bpf_map_update_elem(bpf_map__fd(dp->bpf->maps.ferry_replayed), &ifindex, &n, BPF_EXIST);
}

int datapath_flow_set(struct datapath *dp, const struct ferry_flow_key *key, uint32_t via,
		      struct error *err)
{
	if (bpf_map_update_elem(bpf_map__fd(dp->bpf->maps.ferry_flows), key, &via, BPF_ANY) < 0)
		return error_sys(err, errno, "writing the flow map");
	return 0;
}

static bool flow_is_of(const void *key, const void *arg)
{
	const struct ferry_ep_key *want = arg;
	struct ferry_flow_key k;

	memcpy(&k, key, sizeof(k));
	return k.vni == want->vni && !memcmp(k.local, want->ip, 16);
}

/*
 * By batches: during a blackout, and a busy host has tens of thousands of flows. The
 * calls of fn are made with a consistent key and value; entries that come or go
 * meanwhile may be missed, as in any walk of a live map.
 */
#define FLOW_BATCH 4096

int datapath_flow_walk(struct datapath *dp, uint32_t vni, const struct addr *local,
		       int (*fn)(void *ctx, const struct ferry_flow_key *key, uint32_t via),
		       void *ctx)
{
	CLEANUP_FREE struct ferry_flow_key *keys = mem_zalloc(FLOW_BATCH * sizeof(*keys));
	CLEANUP_FREE uint32_t *vias = mem_zalloc(FLOW_BATCH * sizeof(*vias));
	struct ferry_ep_key want = ep_key(vni, local);
	int fd = bpf_map__fd(dp->bpf->maps.ferry_flows);
	uint32_t position = 0;
	bool first = true;

	for (;;) {
		uint32_t n = FLOW_BATCH;
		int r = bpf_map_lookup_batch(fd, first ? NULL : &position, &position, keys, vias,
					     &n, NULL);

		if (r < 0 && errno != ENOENT)
			return -errno;
		for (uint32_t i = 0; i < n; i++) {
			int stop = flow_is_of(&keys[i], &want) ? fn(ctx, &keys[i], vias[i]) : 0;

			if (stop)
				return stop;
		}
		if (r < 0)
			return 0;
		first = false;
	}
}

void datapath_flow_flush(struct datapath *dp, uint32_t vni, const struct addr *local)
{
	struct ferry_ep_key want = ep_key(vni, local);

	walk_keys(bpf_map__fd(dp->bpf->maps.ferry_flows), sizeof(struct ferry_flow_key), flow_is_of,
		  &want, act_delete, NULL);
}

uint64_t datapath_drops(struct datapath *dp, enum ferry_drop why)
{
	int cpus = libbpf_num_possible_cpus();
	CLEANUP_FREE uint64_t *n = cpus > 0 ? mem_zalloc((size_t)cpus * sizeof(*n)) : NULL;
	uint32_t key = why;
	uint64_t sum = 0;

	if (n && bpf_map_lookup_elem(bpf_map__fd(dp->bpf->maps.ferry_drops), &key, n) == 0)
		for (int i = 0; i < cpus; i++)
			sum += n[i];
	return sum;
}
