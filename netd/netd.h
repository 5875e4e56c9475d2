/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network of one host: overlay networks over VXLAN in BPF, endpoints (a network
 * namespace per container with one interface per network), hold and release for live
 * migration, published ports, names, and addresses (IPAM).
 *
 *   container A            host                             other host
 *   ┌────────┐  tcx ingress: from_container                ┌───────────────┐
 *   │ eth0 ──┼──fe…──► endpoint map ──local──► redirect_peer to eth0 of B  │
 *   └────────┘         (network, IP)  ──hold───► tap fh… (queue)           │
 *                            ▲        ──remote─► ferry.vx (VXLAN) ─────────►
 *                            │        ──other──► ferry.gw ─► host's stack, nft masquerade
 *              from_host ◄── ferry.gw ◄── host's own sockets, published ports (nft dnat)
 *
 * All forwarding state is pinned in <bpffs>/ferry: packets flow while no process runs.
 * What netd itself must remember is in <run_dir>/netd (JSON); netd_open() finds both.
 *
 * Functions return 0 or -errno with `err` set; they may be called from any thread.
 * An *id* names a container: it owns one netns and one interface per network it is on;
 * functions that take only an id act on all its interfaces. All calls are idempotent
 * where that makes sense: adding what is there with the same parameters is success,
 * removing what is not there is success.
 */
#ifndef FERRY_NETD_NETD_H
#define FERRY_NETD_NETD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct netd;

struct netd_config {
	const char *run_dir; /* "/run/ferry": state in run_dir/netd, namespaces in run_dir/netns */
	const char *bpffs;   /* "/sys/fs/bpf"; mounted there when it is not a bpffs yet */
	const char *host;    /* this host's name, for messages */
	const char *underlay_ip; /* IPv4 address of this host that other hosts send VXLAN to */
	const char *resolv_conf; /* upstream name servers; NULL: "/etc/resolv.conf" */
};

/*
 * Opens the network of this host in the calling thread's net and mount namespace:
 * makes the devices and pins where they are missing, takes over what an earlier process
 * left (traffic goes on throughout), starts the DNS thread. A release that was cut short
 * is finished. EPROTONOSUPPORT where the kernel lacks what is needed.
 */
int netd_open(const struct netd_config *config, struct netd **out, struct error *err);

/* Forgets the handle and stops its threads. Nothing is removed: traffic goes on. */
void netd_close(struct netd *nd);

/*
 * Removes everything ferry made on this host: endpoints, networks, devices, pins, nft
 * tables, netns mounts, run_dir/netd; forwarding sysctls get their old value back.
 * The handle stays valid only for netd_close().
 */
int netd_shutdown(struct netd *nd, struct error *err);

/* --- networks ------------------------------------------------------------------------ */
/*
 * `network`: {"id", "name", "vni": 1..16777215, "subnet": "10.88.1.0/24", "gateway":
 * "10.88.1.1" (default: first address), "subnet6"?: "fd00:88:1::/64", "gateway6"?,
 * "internal"?: true (no egress), "driver"?: "overlay"}. Must be added on each host that
 * has an endpoint of it, a published port into it, or whose own sockets use it; the same
 * document everywhere. EEXIST: overlaps another network, or same id with other values.
 */
int netd_network_add(struct netd *nd, json_t *network, struct error *err);
/* EBUSY while a local endpoint is on it. Its remote endpoints are removed with it. */
int netd_network_remove(struct netd *nd, const char *id, struct error *err);
/* Array of the documents. */
int netd_network_list(struct netd *nd, json_t **out, struct error *err);

/* --- endpoints ----------------------------------------------------------------------- */
struct netd_endpoint {
	const char *id;	     /* container id */
	const char *network; /* network id; NULL: a namespace with only lo ("none") */
	const char *ip4;     /* "10.88.1.5", from ipam_pick(); needed when network is set */
	const char *ip6;     /* NULL, "": no IPv6 */
	const char *mac;     /* NULL, "": 02:42:<ip4>. Must be the same on both sides of a move */
	const char *ifname;  /* NULL: the next of eth0, eth1 … */
	bool hold;	     /* the destination of a migration: see netd_hold() */
	const char *const *dns; /* NULL-terminated upstream servers, NULL: the host's */
	size_t queue_frames;	/* bound of the hold queue in frames of at most 1,464 bytes;
				 * 0: 16,384 (24 MB) */
};

/*
 * Makes the netns (first time for this id) at run_dir/netns/ID, the veth pair, address,
 * routes (default route on the first interface), DNS on 127.0.0.11, and tells the
 * datapath. *netns_path (caller frees; may be NULL) is what OCI's namespace path gets.
 *
 * With `hold`: where the endpoint map already knows the address on another host, that
 * stays so until netd_hold() is called (clients on this host go on talking to the source
 * during pre-copy); otherwise the endpoint starts in hold at once.
 */
int netd_endpoint_add(struct netd *nd, const struct netd_endpoint *ep, char **netns_path,
		      struct error *err);

/*
 * Removes all interfaces and the netns of a container. An address that was forwarded
 * (netd_forward) or set as remote meanwhile keeps its remote entry; frames still held are
 * dropped. Published ports stay: they belong to the address (netd_unpublish).
 */
int netd_endpoint_remove(struct netd *nd, const char *id, struct error *err);

/* Takes the container off one network; the netns and other interfaces stay. */
int netd_endpoint_disconnect(struct netd *nd, const char *id, const char *network,
			     struct error *err);

/*
 * {"id","netns","interfaces":[{"network","ifname","ip4","ip6","mac","gateway","prefix",
 *  "host_ifname","state":"local|standby|hold|releasing|forward","forward_to"?,
 *  "blocked","held_frames","rx_packets","rx_bytes","tx_packets","tx_bytes",
 *  "rx_dropped","tx_dropped"}]}. ENOENT: not here.
 */
int netd_endpoint_inspect(struct netd *nd, const char *id, json_t **out, struct error *err);
/* Array of ids of local endpoints (also forwarded and held ones). */
int netd_endpoint_list(struct netd *nd, json_t **out, struct error *err);

/* --- migration ------------------------------------------------------------------------
 * Order: B: endpoint_add(hold) … B: hold → all other hosts: remote_set(B) → A: forward(B)
 * → A: freeze, block_egress(on), dump → A: flows_export, B: flows_import → B: restored,
 * commit, release → A: endpoint_remove. Undo: A: forward(NULL), block_egress(off); others:
 * remote_set(A); B: forward(A) (what was held goes back to A in order), endpoint_remove.
 */
/* Packets to the endpoint are queued from now on instead of delivered. */
int netd_hold(struct netd *nd, const char *id, struct error *err);

/*
 * Delivers what was held, in order, then clears the hold: no packet is lost (unless the
 * queue was full) and none overtakes another. Returns when packets flow directly; a
 * thread of netd then removes the queue (inspect shows "releasing" for some 50 ms more).
 */
int netd_release(struct netd *nd, const char *id, struct error *err);

/* Drops everything the container sends (its kernel's ACKs and ARP included). */
int netd_block_egress(struct netd *nd, const char *id, bool on, struct error *err);

/*
 * The local endpoint's packets go to another host from now on (stragglers during and
 * after a move; one atomic map update per address). Held frames follow in order.
 * host_ip NULL: local again.
 */
int netd_forward(struct netd *nd, const char *id, const char *host_ip, struct error *err);

/*
 * Flows between the endpoint and the outside, which return through the host that took
 * them in (published ports) or masqueraded them: exported on A after the freeze, imported
 * on B before the release, so that these connections survive the move as well, via A.
 * Array of {"net","ip","proto","port","peer","peer_port","via"}; opaque to the caller.
 */
int netd_flows_export(struct netd *nd, const char *id, json_t **out, struct error *err);
int netd_flows_import(struct netd *nd, const char *id, json_t *flows, struct error *err);

/*
 * Where an endpoint of another host is; also the "repoint": one atomic map update.
 * Has no effect on an address that is local here and neither forwarded nor standby
 * (EEXIST), but netd_remote_set() of this host's own address is taken as "local" and is
 * success, so a watcher may apply what the store says to every host alike.
 */
int netd_remote_set(struct netd *nd, uint32_t vni, const char *ip, const char *mac,
		    const char *host_ip, struct error *err);
int netd_remote_remove(struct netd *nd, uint32_t vni, const char *ip, struct error *err);

/* --- published ports ------------------------------------------------------------------ */
/*
 * host_ip:*host_port on this host goes to ip:port of container `id`, wherever in the
 * overlay it runs; clients keep their address. ip NULL: the first address of the local
 * endpoint. host_ip NULL, "" or "0.0.0.0": all addresses, 127.0.0.1 from the host itself
 * included. *host_port 0: a free one is chosen and stored. proto: "tcp" or "udp".
 * EADDRINUSE where another publication or a socket of this host has the port.
 */
int netd_publish(struct netd *nd, const char *id, const char *ip, const char *proto,
		 const char *host_ip, uint16_t *host_port, uint16_t port, struct error *err);
/* Removes one publication; proto NULL: all of this id. */
int netd_unpublish(struct netd *nd, const char *id, const char *proto, const char *host_ip,
		   uint16_t host_port, struct error *err);
/* Array of {"id","ip","proto","host_ip","host_port","port"}. */
int netd_publish_list(struct netd *nd, json_t **out, struct error *err);

/* --- names ---------------------------------------------------------------------------- */
/*
 * Called from the DNS thread, with no lock of netd held, for a query made in a container
 * on that network. `name` is lower case without the final dot; the answer is an array of
 * IPv4 and IPv6 addresses as strings. When `name` is an IP address (a PTR query) the
 * answer is an array of names. Returns 0, or -ENOENT where the name is not a container's
 * (the query then goes to the upstream servers).
 */
typedef int netd_lookup_fn(void *ctx, const char *network_id, const char *name, json_t **ips);
/* fn NULL: all queries go upstream. Waits for a call that is running. */
int netd_set_resolver(struct netd *nd, netd_lookup_fn *fn, void *ctx, struct error *err);

/* --- addresses (pure functions) ------------------------------------------------------- */
/*
 * A free address of `subnet` ("10.88.1.0/24", or IPv6), as text without prefix (caller
 * frees). `used`: array of addresses, the gateway among them; NULL: none. Network and
 * broadcast addresses are never given, the first address (the usual gateway) only when it
 * is wanted. wanted: this address or an error (EADDRINUSE, EINVAL when outside).
 * ENOSPC where all are taken. The lowest free address is taken.
 */
int ipam_pick(const char *subnet, json_t *used, const char *wanted, char **ip, struct error *err);

/* A /24 of 10.88.0.0/13 that overlaps none of `used` (array of subnets). ENOSPC. */
int ipam_pick_subnet(json_t *used, char **subnet, struct error *err);

/* First address of a subnet, the default gateway (caller frees). EINVAL. */
int ipam_gateway(const char *subnet, char **ip, struct error *err);

#endif
