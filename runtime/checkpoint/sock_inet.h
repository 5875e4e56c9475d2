/* SPDX-License-Identifier: Apache-2.0 */
/* Callbacks of sock_type_inet, for tests; `d` and `r` may be NULL as in sock_tcp.h. */
#ifndef FERRY_CHECKPOINT_SOCK_INET_H
#define FERRY_CHECKPOINT_SOCK_INET_H

#include "runtime/checkpoint/sock_common.h"

int inet_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err);
int inet_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
		 struct error *err);
int inet_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
	      struct error *err);
int inet_finish(struct restore *r, uint32_t id, int fd, struct error *err);

/* --- sock_error.c: the error that waits in a connected UDP socket --- */
/* Source: into m; -EAGAIN where there is one that cannot be carried. */
int inet_error_find(int fd, Cks__Inet *m, struct error *err);
/* Destination: the last that is done to the socket. */
int inet_error_restore(struct restore *r, int fd, const Cks__Inet *m, struct error *err);

#endif
