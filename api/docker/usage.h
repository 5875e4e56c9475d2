/* SPDX-License-Identifier: Apache-2.0 */
/* What containers occupy on disk: for `ps -s`, `system df` and prune. */
#ifndef FERRY_API_DOCKER_USAGE_H
#define FERRY_API_DOCKER_USAGE_H

#include <jansson.h>

#include "fabric/fabric.h"

/*
 * Adds SizeRw (bytes of its writable layer) and SizeRootFs (and its image) to a
 * container's row or inspect document. Containers of other hosts are left as they are.
 */
void usage_add_container(struct fabric *f, json_t *row);

#endif
