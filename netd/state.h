/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a netd handle holds, shared by netd's own files only. The documents are the truth
 * netd keeps on disk (run_dir/netd/state.json, replaced atomically at each change); what
 * forwards packets is in the pinned maps.
 */
#ifndef FERRY_NETD_STATE_H
#define FERRY_NETD_STATE_H

#include <jansson.h>
#include <pthread.h>

#include "netd/datapath.h"
#include "netd/netd.h"

#define NETD_VXLAN	"ferry.vx"
#define NETD_GW		"ferry.gw"
#define NETD_GW_PEER	"ferry.gx" /* the far end of the pair, which nothing uses */
#define NETD_MTU	1450
#define NETD_VXLAN_PORT 4789

/* The one gateway MAC (locally administered), the same on every host. */
extern const uint8_t netd_gw_mac[6];

struct netd_tap {
	char name[16];
	int fd;
	unsigned int release; /* counts releases: a finisher acts only on the one it saw */
};

struct dns_server;

struct netd {
	pthread_mutex_t lock; /* everything below; never held while the resolver is called */
	char *host, *dir, *netns_dir, *state_path;
	uint32_t underlay;
	struct addr underlay_addr;
	struct datapath *dp;
	struct dns_server *dns;
	int vxlan_ifindex, gw_ifindex;

	json_t *doc; /* {"networks": {id: …}, "endpoints": {id: …}, "ports": […], "sysctls": {…}} */
	json_t *networks, *endpoints, *ports, *sysctls; /* borrowed from doc */
	struct netd_tap *taps;				/* hold queues this process keeps open */
	size_t ntaps;

	pthread_t finisher; /* ends releases (hold.c) */
	pthread_cond_t released;
	bool finisher_runs, stop;
};

int netd_save(struct netd *nd, struct error *err);

/* Interface documents of an endpoint: {"network","vni","ifname","ip4","ip6","mac",
 * "host_ifname","tap","state","forward_to","blocked","queue_frames"}. */
json_t *netd_interfaces(struct netd *nd, const char *id, struct error *err);
uint32_t netd_iface_vni(const json_t *iface);
/* The addresses of an interface, one or two; returns how many. */
int netd_iface_addrs(const json_t *iface, struct addr out[2]);
/* Writes the endpoint map for all addresses of an interface. */
int netd_iface_map(struct netd *nd, const json_t *iface, enum ferry_state state, uint32_t host,
		   struct error *err);

/* hold.c. The tap of an interface: made or re-opened; drained; removed. hold_release sets the
 * state "releasing"; the finisher makes it "local". */
int hold_open(struct netd *nd, const json_t *iface, struct error *err);
int hold_release(struct netd *nd, json_t *iface, struct error *err);
int hold_finisher_start(struct netd *nd, struct error *err);
void hold_finisher_stop(struct netd *nd);
void hold_drain(struct netd *nd, const json_t *iface);
void hold_close(struct netd *nd, const json_t *iface);
uint64_t hold_frames(struct netd *nd, const json_t *iface);
void hold_forget_all(struct netd *nd); /* closes the fds; the taps stay */

/* endpoint.c, called by netd_open and netd_shutdown with the lock held. */
int endpoint_reopen_all(struct netd *nd, struct error *err);
int endpoint_remove_all(struct netd *nd, struct error *err);

/* nat.c: writes the nft tables anew from networks and ports, in one transaction. */
int nat_apply(struct netd *nd, struct error *err);
int nat_remove(struct netd *nd, struct error *err);

#endif
