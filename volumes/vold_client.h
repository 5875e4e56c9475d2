/* SPDX-License-Identifier: Apache-2.0 */
/* The other end of ferry-vold's protocol (volumes/vold/vold.h): starting and asking. */
#ifndef FERRY_VOLUMES_VOLD_CLIENT_H
#define FERRY_VOLUMES_VOLD_CLIENT_H

#include <jansson.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Runs argv[0] and waits for its report; its messages go to the file `log`. *report: the
 * object it printed with "ok" true. The error that it reports otherwise.
 */
int vold_spawn(char *const argv[], const char *log, json_t **report, struct error *err);

/*
 * One request, one answer over a fresh connection. `request` is stolen. *answer may be
 * NULL. -ECONNREFUSED or -ENOENT: nobody listens there; -ETIMEDOUT.
 */
int vold_call(const char *socket, json_t *request, int64_t timeout_ns, json_t **answer,
	      struct error *err);

#endif
