/* SPDX-License-Identifier: Apache-2.0 */
/* Ferry's own routes, under /ferry/v1; documented in docs/api/openapi.json. */
#ifndef FERRY_API_FERRY_H
#define FERRY_API_FERRY_H

#include "api/request.h"
#include "api/route.h"

extern const struct route ferry_routes[]; /* routes.c */

route_handler ferry_cluster_info, ferry_cluster_init, ferry_cluster_token; /* cluster.c */
route_handler ferry_host_list, ferry_host_join;				   /* cluster.c */
route_handler ferry_migration_list, ferry_migration_start;		   /* migrations.c */
route_handler ferry_checkpoint_list, ferry_checkpoint_create;		   /* checkpoints.c */
route_handler ferry_checkpoint_inspect, ferry_checkpoint_remove;	   /* checkpoints.c */
route_handler ferry_checkpoint_data, ferry_checkpoint_drop_data;	   /* checkpoints.c */
route_handler ferry_restore, ferry_restore_file, ferry_clone;		   /* checkpoints.c */
route_upload ferry_restore_upload;					   /* checkpoints.c */
route_handler ferry_openapi;						   /* openapi.c */
route_handler ferry_metrics;						   /* metrics.c */

#endif
