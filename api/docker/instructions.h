/* SPDX-License-Identifier: Apache-2.0 */
/* The Dockerfile instructions that `docker commit --change` and `docker import` take. */
#ifndef FERRY_API_DOCKER_INSTRUCTIONS_H
#define FERRY_API_DOCKER_INSTRUCTIONS_H

#include <jansson.h>

#include "base/error.h"

/*
 * Applies one ("ENV A=b", "CMD [\"sh\"]") to a run config. EINVAL, naming it: it is not one
 * of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR, or
 * its arguments are wrong.
 */
int instruction_apply(json_t *config, const char *line, struct error *err);

#endif
