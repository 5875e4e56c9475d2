/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What makes a host part of a cluster: the CA, its own certificate, and where the state is
 * kept. Lies in the state directory:
 *
 *	cluster.json          cluster id and name, this host's name, address, port, store
 *	pki/ca.crt ca.key     the cluster's CA (every host can admit others; mode 0600)
 *	pki/host.crt host.key this host
 *	store.db              the embedded store, where that driver is used
 *
 * and in the store: the document "cluster/config" {id, name, ca_sha256, created_at,
 * settings}. Host documents belong to fabric/host.h.
 *
 * Joining: the token carries the SHA-256 of the CA certificate, an end, and a MAC made with
 * a key derived from the CA's key. The new host connects without a certificate, checks that
 * the server's chain ends in the pinned CA, and only then sends the token and a certificate
 * request; it gets its certificate, the CA and the cluster's settings. ceph.conf and the
 * keyring are on the host already.
 */
#ifndef FERRY_FABRIC_CLUSTER_H
#define FERRY_FABRIC_CLUSTER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/tls.h"
#include "fabric/rpc.h"
#include "fabric/store.h"

struct cluster;

struct cluster_params {
	const char *state_dir;
	const char *host;	  /* this host's name: [a-zA-Z0-9][a-zA-Z0-9_.-]*, ≤ 63 bytes */
	const char *address;	  /* numeric address by which the other hosts reach it */
	uint16_t port;		  /* of its RPC server; 0: RPC_PORT */
	const char *store_driver; /* "rados" or "embedded"; init only */
	const char *ceph_conf;	  /* of this host; NULL: /etc/ceph/ceph.conf */
	const char *ceph_user;	  /* NULL: admin */
	const char *pool;	  /* state pool; NULL: "ferry-state"; init only */
	const char *name;	  /* of the cluster; NULL: "ferry"; init only */
	json_t *settings;	  /* kept in "cluster/config", given to all (NULL: {}); init only */
};

/*
 * Makes a cluster with this host as its first: CA, certificate, cluster document.
 * Nothing is left behind where it fails. -EEXIST: this host, or this pool, has one already.
 * The pool is made where it is missing (and the Ceph user may do so).
 */
int cluster_init(const struct cluster_params *params, struct error *err);

/*
 * Makes this host a member of the cluster whose member listens at peer ("address" or
 * "address:port", "[v6]:port"). Errors tell the remedy: -EINVAL (not a token), -ETIME
 * (expired, or the clocks differ), -EKEYREJECTED (another cluster's CA), -EEXIST (name or
 * this host taken), -ECONNREFUSED …
 */
int cluster_join(const struct cluster_params *params, const char *peer, const char *token,
		 struct error *err);

/* Whether the state directory holds a membership (it does not look into it). */
bool cluster_exists(const char *state_dir);

/*
 * Loads the membership and opens the store. -ENOENT: this host is in no cluster. Where the
 * store does not answer the error is that of store_open(): try again later.
 */
int cluster_load(const char *state_dir, struct cluster **out, struct error *err);

/* Closes the store, frees. NULL is fine. */
void cluster_close(struct cluster *c);

/* What it consists of; all belongs to the cluster. */
const char *cluster_id(const struct cluster *c);
const char *cluster_name(const struct cluster *c);
const char *cluster_host(const struct cluster *c); /* this host's name */
const char *cluster_address(const struct cluster *c);
uint16_t cluster_port(const struct cluster *c);
struct store *cluster_store(const struct cluster *c);
struct tls_ctx *cluster_tls(const struct cluster *c);
json_t *cluster_document(const struct cluster *c);	/* "cluster/config" as it was at load */
const char *cluster_ceph_conf(const struct cluster *c); /* NULL with the embedded store */
const char *cluster_ceph_user(const struct cluster *c);
const char *cluster_cert_path(const struct cluster *c); /* PEM files, for other processes */
const char *cluster_key_path(const struct cluster *c);
const char *cluster_ca_path(const struct cluster *c);

/* A token with which any number of hosts can join for ttl_ns (0: 1 hour). Caller frees. */
int cluster_token_create(struct cluster *c, int64_t ttl_ns, char **token, struct error *err);

/*
 * Names this host as reachable at another address/port from now on: rewrites cluster.json;
 * the caller re-registers the host document.
 */
int cluster_set_address(struct cluster *c, const char *address, uint16_t port, struct error *err);

/*
 * Methods for rpc_server_add(), context: the cluster. "cluster.join" (anonymous; checks the
 * token), "cluster.ping" (answers {"host","time_ns"}).
 */
extern const struct rpc_method cluster_methods[];

#endif
