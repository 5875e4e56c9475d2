/* SPDX-License-Identifier: Apache-2.0 */
/* The table of ferry's own routes. */
#include "api/ferry/ferry.h"

const struct route ferry_routes[] = {
	{ .method = "GET", .pattern = "/ferry/v1/cluster", .handler = ferry_cluster_info },
	{ .method = "POST",
	  .pattern = "/ferry/v1/cluster/init",
	  .handler = ferry_cluster_init,
	  .body = BODY_OPTIONAL },
	{ .method = "POST",
	  .pattern = "/ferry/v1/cluster/token",
	  .handler = ferry_cluster_token,
	  .body = BODY_OPTIONAL },
	{ .method = "GET", .pattern = "/ferry/v1/hosts", .handler = ferry_host_list },
	{ .method = "POST",
	  .pattern = "/ferry/v1/hosts/join",
	  .handler = ferry_host_join,
	  .body = BODY_JSON },
	{ .method = "GET", .pattern = "/ferry/v1/migrations", .handler = ferry_migration_list },
	{ .method = "POST",
	  .pattern = "/ferry/v1/migrations",
	  .handler = ferry_migration_start,
	  .body = BODY_JSON },
	{ .method = "GET", .pattern = "/ferry/v1/openapi.json", .handler = ferry_openapi },
	{ .method = "GET", .pattern = "/metrics", .handler = ferry_metrics },
	{ 0 },
};
