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

void unix_message_free(Cko__UnixMessage *m);

/* --- obj_unix_peek.c, source, frozen: with BPF; -errno where that cannot be -------------- */
/* What the client with inode `client`, which waits to be accepted, has sent: m->sent. */
int unix_sent_peek(struct dump *d, uint32_t client, Cko__Unix *m, struct error *err);
/* Cuts the peeked m->queue of the stream `ino` into the messages as they were sent. */
int unix_messages_place(struct dump *d, uint32_t ino, Cko__Unix *m);

/* Source, frozen: descriptors in flight in any unix socket join the checkpoint. */
int unix_gather_in_flight(struct dump *d, struct error *err);

#endif
