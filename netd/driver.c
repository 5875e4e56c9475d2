/* SPDX-License-Identifier: Apache-2.0 */
/* The table of network drivers. */
#include "netd/driver.h"

#include <string.h>

static const struct network_driver overlay = {
	.name = "overlay",
	.spans_hosts = true,
	.can_hold = true,
	.network_add = netd_network_add,
	.network_remove = netd_network_remove,
	.endpoint_add = netd_endpoint_add,
	.endpoint_remove = netd_endpoint_remove,
	.endpoint_inspect = netd_endpoint_inspect,
	.hold = netd_hold,
	.release = netd_release,
	.block_egress = netd_block_egress,
	.forward = netd_forward,
	.remote_set = netd_remote_set,
	.remote_remove = netd_remote_remove,
};

const struct network_driver *network_driver_find(const char *name)
{
	return name && !strcmp(name, overlay.name) ? &overlay : NULL;
}
