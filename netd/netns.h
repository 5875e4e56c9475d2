/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Net namespaces kept by a bind mount. A helper thread enters them, so that the calling
 * process's own threads never move.
 */
#ifndef FERRY_NETD_NETNS_H
#define FERRY_NETD_NETNS_H

#include <stdbool.h>

#include "base/error.h"

/* A fresh namespace, bind-mounted at `path`; one that is there is left alone. */
int netns_make(const char *path, struct error *err);

/* Runs fn(ctx, err) inside the namespace at `path` and returns what it returned. */
int netns_run(const char *path, int (*fn)(void *ctx, struct error *err), void *ctx,
	      struct error *err);

/* Unmounts and unlinks; a missing one is success. */
int netns_remove(const char *path, struct error *err);

#endif
