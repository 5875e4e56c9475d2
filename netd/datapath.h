/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The BPF side seen from user space: loads the programs, pins maps and links in
 * <bpffs>/ferry, attaches programs to interfaces, reads and writes the maps.
 * Threads may call concurrently; each map operation is atomic.
 */
#ifndef FERRY_NETD_DATAPATH_H
#define FERRY_NETD_DATAPATH_H

#include <linux/types.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "netd/addr.h"
#include "netd/bpf/maps.h"

struct datapath;

enum datapath_prog { DATAPATH_CONTAINER, DATAPATH_OVERLAY, DATAPATH_HOST, DATAPATH_HOLD };

/*
 * Mounts a bpffs at `bpffs` where there is none, loads the programs on the pinned maps
 * (made where missing). EPROTONOSUPPORT: pins of another version.
 */
int datapath_open(const char *bpffs, struct datapath **out, struct error *err);
void datapath_close(struct datapath *dp);
/* Removes all pins; attached programs go with them (tcx) or with their device (clsact). */
int datapath_remove(struct datapath *dp, struct error *err);

/*
 * Attaches a program to an interface, or replaces the one an earlier process attached,
 * without a gap. tcx links where the kernel has them (6.6), else clsact.
 */
int datapath_attach(struct datapath *dp, enum datapath_prog prog, int ifindex, const char *ifname,
		    struct error *err);
void datapath_detach(struct datapath *dp, const char *ifname);

int datapath_config_set(struct datapath *dp, const struct ferry_config *c, struct error *err);

int datapath_ep_set(struct datapath *dp, uint32_t vni, const struct addr *ip,
		    const struct ferry_ep *ep, struct error *err);
/* 0 or -ENOENT. */
int datapath_ep_get(struct datapath *dp, uint32_t vni, const struct addr *ip, struct ferry_ep *ep);
void datapath_ep_del(struct datapath *dp, uint32_t vni, const struct addr *ip);
/* Removes all endpoints of a network. */
void datapath_ep_flush(struct datapath *dp, uint32_t vni);

int datapath_port_set(struct datapath *dp, int ifindex, const struct ferry_port *p,
		      struct error *err);
int datapath_port_get(struct datapath *dp, int ifindex, struct ferry_port *p);
void datapath_port_del(struct datapath *dp, int ifindex);

int datapath_subnet_set(struct datapath *dp, const struct subnet *s, uint32_t vni,
			struct error *err);
void datapath_subnet_del(struct datapath *dp, const struct subnet *s);

/* The hold queue's counters, by ifindex of the tap. */
int datapath_queue_make(struct datapath *dp, int ifindex, struct error *err);
void datapath_queue_del(struct datapath *dp, int ifindex);
uint64_t datapath_queued(struct datapath *dp, int ifindex);
uint64_t datapath_replayed(struct datapath *dp, int ifindex);
void datapath_replayed_set(struct datapath *dp, int ifindex, uint64_t n);

int datapath_flow_set(struct datapath *dp, const struct ferry_flow_key *key, uint32_t via,
		      struct error *err);
/* Calls fn for each flow of one local address; a nonzero return ends the walk. */
int datapath_flow_walk(struct datapath *dp, uint32_t vni, const struct addr *local,
		       int (*fn)(void *ctx, const struct ferry_flow_key *key, uint32_t via),
		       void *ctx);
void datapath_flow_flush(struct datapath *dp, uint32_t vni, const struct addr *local);

/* Packets dropped for that reason, over all CPUs. */
uint64_t datapath_drops(struct datapath *dp, enum ferry_drop why);

/* For tests: the fd of a program. */
int datapath_prog_fd(struct datapath *dp, enum datapath_prog prog);

#endif
