/* SPDX-License-Identifier: Apache-2.0 */
/* Between sock_tcp.c (source), sock_tcp_restore.c (destination), sock_accept.c, and tests. */
#ifndef FERRY_CHECKPOINT_SOCK_TCP_H
#define FERRY_CHECKPOINT_SOCK_TCP_H

#include <netinet/tcp.h>

#include "runtime/checkpoint/sock_common.h"

/* Callbacks of sock_type_tcp. `d` and `r` may be NULL: the caller's own namespace. */
int tcp_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err);
int tcp_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
		struct error *err);
int tcp_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
	     struct error *err);
int tcp_finish(struct restore *r, uint32_t id, int fd, struct error *err);

/* Forgets what was restored: after the last finish. */
void tcp_restore_free(void);

/* What repair mode and handmade packets rely on (sock_tcp_restore.c). */
bool tcp_sequence_is_whole(const Cks__TcpSequence *s);

/* --- sock_tcp.c, for sock_idle.c --- */
/* 0, or -ENOTSUP with err set: something about it cannot be made again. */
int tcp_can_travel(const struct ofd *o, struct error *err);

/* --- sock_tcp.c, for sock_accept.c --- */
/* Fills state, common, seq and queues of a connection; err set where it cannot travel.
 * The socket is left in repair mode where `stay`. Free with tcp_message_free(). */
int tcp_connection_dump(struct dump *d, struct ofd *o, Cks__Tcp *m, bool stay, struct error *err);
void tcp_message_free(Cks__Tcp *m);

/* --- sock_ahead.c: connections read by a second thread --- */
/* lo's gate is closed: begins to read the connections among d's descriptors. */
void tcp_ahead_start(struct dump *d);
/* What the thread read of `o` is appended to `body`: 1. 0: the caller reads it himself. */
int tcp_ahead_take(struct ofd *o, struct buf *body, struct error *err);
/* Waits until it reads nothing any more; in any state. */
void tcp_ahead_stop(void);
/* sock_tcp.c, for it: one connection. -EAGAIN without err set: not in this thread. */
int tcp_dump_beside(struct dump *d, struct ofd *o, struct buf *body, struct error *err);

/* --- urgent data that came in (sock_urgent.c) --- */
/* Source, in repair mode: all bytes of the receive queue into *in, the mark into m. */
int tcp_urgent_find(int fd, Cks__Tcp *m, int *in, struct error *err);
/* All `want` bytes of it, where m has a mark; fresh in *data. */
int tcp_urgent_peek(int fd, const Cks__Tcp *m, size_t want, uint8_t **data, struct error *err);
/* Destination: how many of the received bytes tcp_urgent_restore() brings, which comes
 * before the peer's FIN. `ack`: what the peer has acknowledged. */
size_t tcp_urgent_rest(const Cks__Tcp *m, size_t nreceived);
int tcp_urgent_restore(struct restore *r, const Cks__Tcp *m, int fd, uint32_t ack,
		       struct error *err);

/* --- accept queues (sock_accept.c) --- */
/* Whether this kernel can put connections back into an accept queue; loads the means. */
bool tcp_pending_possible(void);
/* Takes `waiting` connections out of the listener's queue and appends them to m->pending. */
int tcp_pending_dump(struct dump *d, struct ofd *o, size_t waiting, Cks__Tcp *m, struct error *err);
/* Puts them back: the source goes on. */
void tcp_pending_undo(struct dump *d, struct ofd *o);
/* Puts them into the restored listener's queue. */
int tcp_pending_restore(struct restore *r, const Cks__Tcp *m, int fd, struct error *err);

#endif
