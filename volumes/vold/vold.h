/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ferry-vold: one process a volume. It opens the image, makes the device, says on its
 * standard output in one line the answer to "status" or
 * {"ok":false,"errno":N,"error":".."}, and goes to the background, where it serves the
 * device until it is told to end; whoever started it may die.
 *
 * Control: a unix socket, one JSON object a line, one answer a line, any number of
 * connections. {"op":OP,...} → {"ok":true,...} or {"ok":false,"errno":N,"error":".."}
 *
 *   status                       core_status() and "device", "name", "image", "pid", "fs",
 *                                "formatted" (as the driver noted them at the image)
 *   promote {"tentative":bool}   standby → rw or tentative
 *   settle, abandon              end of a tentative promote
 *   demote {"timeout_ns":N}      rw → demoted (default 30 s)
 *   retake                       demoted → rw
 *   refresh                      the device follows the image's size → "size_bytes"
 *   resize {"size_bytes":N}      the image, then as refresh (rw alone, as the next)
 *   snapshot {"name","remove"}   creates or removes a snapshot
 *   shutdown                     drops what is tentative, else drains; releases the lock,
 *                                takes the device down, answers, ends. What is mounted
 *                                then gets EIO.
 */
#ifndef FERRY_VOLUMES_VOLD_VOLD_H
#define FERRY_VOLUMES_VOLD_VOLD_H

#include <jansson.h>

#include "volumes/vold/core.h"

/* main() of ferry-vold. */
int vold_main(int argc, char *argv[]);

struct vold {
	const struct vold_options *options;
	struct core *core;
	const struct vold_backend *backend;
	void *backend_state;
};

/* Answers one request; sets *end behind a shutdown. A fresh reference, never NULL. */
json_t *vold_request(struct vold *v, const char *text, size_t len, bool *end);

/* Serves the control socket in threads of its own; `listening` becomes its. */
int vold_serve(struct vold *v, int listening, struct error *err);

/* core_check_lock(), unless the vold is ending. */
void vold_check_lock(struct vold *v);

/* The answer {"ok":false,...} to an error. */
json_t *vold_error(const struct error *err);

#endif
