/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a network driver must do. ferry's own is `overlay`; a network document names its
 * driver ("driver": "overlay" is the default). The meaning of each operation is that of
 * the netd_ function of the same name in netd/netd.h.
 */
#ifndef FERRY_NETD_DRIVER_H
#define FERRY_NETD_DRIVER_H

#include "netd/netd.h"

struct network_driver {
	const char *name;
	/* What it can do beyond connecting containers of one host. */
	bool spans_hosts; /* endpoints of one network on several hosts */
	bool can_hold;	  /* hold, release, forward, block_egress: live migration */

	int (*network_add)(struct netd *nd, json_t *network, struct error *err);
	int (*network_remove)(struct netd *nd, const char *id, struct error *err);
	int (*endpoint_add)(struct netd *nd, const struct netd_endpoint *ep, char **netns_path,
			    struct error *err);
	int (*endpoint_remove)(struct netd *nd, const char *id, struct error *err);
	int (*endpoint_inspect)(struct netd *nd, const char *id, json_t **out, struct error *err);
	int (*hold)(struct netd *nd, const char *id, struct error *err);
	int (*release)(struct netd *nd, const char *id, struct error *err);
	int (*block_egress)(struct netd *nd, const char *id, bool on, struct error *err);
	int (*forward)(struct netd *nd, const char *id, const char *host_ip, struct error *err);
	int (*remote_set)(struct netd *nd, uint32_t vni, const char *ip, const char *mac,
			  const char *host_ip, struct error *err);
	int (*remote_remove)(struct netd *nd, uint32_t vni, const char *ip, struct error *err);
};

/* The driver of that name, or NULL. */
const struct network_driver *network_driver_find(const char *name);

#endif
