/* SPDX-License-Identifier: Apache-2.0 */
/* The routes of the Docker Engine API, a table a file; each ends with a row of NULLs. */
#ifndef FERRY_API_DOCKER_H
#define FERRY_API_DOCKER_H

#include "api/route.h"

extern const struct route docker_system_routes[];    /* system.c: ping, version, info, events, df */
extern const struct route docker_container_routes[]; /* containers.c */
extern const struct route docker_stream_routes[];    /* streams.c: logs, attach, wait, stats */
extern const struct route docker_checkpoint_routes[]; /* checkpoints.c */
extern const struct route docker_exec_routes[];	      /* exec.c */
extern const struct route docker_image_routes[];      /* images.c */
extern const struct route docker_registry_routes[];   /* registry.c: pull, push, login */
extern const struct route docker_archive_routes[];    /* archive.c: cp, export, diff, commit */
extern const struct route docker_volume_routes[];     /* volumes.c */
extern const struct route docker_network_routes[];    /* networks.c */
extern const struct route
	docker_refused_routes[]; /* refused.c: what ferry does not do, with a reason */

/* The body of POST /images/create, which an import has (archive.c); uploaded: the image's id. */
int docker_import_upload(struct request *req, int fd, struct error *err);

/* POST /containers/ID/start?checkpoint=NAME (checkpoints.c) */
int docker_start_from(struct request *req, const char *id, struct error *err);

#endif
