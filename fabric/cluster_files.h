/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of cluster: what cluster.c (init, load) and cluster_join.c (tokens, join) share. */
#ifndef FERRY_FABRIC_CLUSTER_FILES_H
#define FERRY_FABRIC_CLUSTER_FILES_H

#include "fabric/cluster.h"

#define CLUSTER_POOL	  "ferry-state"
#define CLUSTER_CERT_DAYS 3650

struct cluster_pki { /* PEM texts */
	char *ca, *ca_key, *cert, *key;
};
void cluster_pki_free(struct cluster_pki *pki);

int cluster_check_params(const struct cluster_params *p, struct error *err);
int cluster_save_pki(const char *state_dir, const struct cluster_pki *pki, struct error *err);
int cluster_save_membership(const struct cluster_params *p, const char *id, const char *name,
			    json_t *store, struct error *err);
void cluster_remove_files(const char *state_dir);

/* How this host opens the store, as kept in cluster.json; new reference. */
json_t *cluster_store_json(const struct cluster_params *p, const char *driver, const char *pool);
int cluster_open_store(const char *state_dir, const json_t *store, bool create, struct store **out,
		       struct error *err);
const json_t *cluster_store_settings(const struct cluster *c);
const char *cluster_ca_key_path(const struct cluster *c);

/* "members/NAME": who was let in, with which certificate. */
int cluster_put_member(struct store *s, const char *host, const char *address, uint16_t port,
		       const char *cert, uint64_t expected, struct error *err);

#endif
