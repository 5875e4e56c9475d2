/* SPDX-License-Identifier: Apache-2.0 */
/* AF_UNIX: what the source's half (obj_unix.c) and the destination's share. */
#ifndef FERRY_CHECKPOINT_OBJ_UNIX_H
#define FERRY_CHECKPOINT_OBJ_UNIX_H

#include <sys/un.h>

#include "runtime/checkpoint/obj_common.h"

/* SOL_SOCKET options that are carried as they are, zero-terminated. */
extern const int unix_options[];

int unix_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
		 struct error *err);
int unix_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
	      struct error *err);
int unix_finish(struct restore *r, uint32_t id, int fd, struct error *err);

/* Source, frozen: descriptors in flight in any unix socket join the checkpoint. */
int unix_gather_in_flight(struct dump *d, struct error *err);

#endif
