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

/* --- obj_unix_restore.c, for obj_unix_peers.c --- */
/* A fresh socket in the container's network namespace, or -errno. */
int unix_make_one(struct restore *r, int type, struct error *err);
/* mkdir -p of the folder of a name, below the current root. */
void unix_make_folders(const char *name);

/* --- obj_unix_peers.c: who is noted as the other end ------------------------------------- */
struct unix_who {
	int32_t vpid; /* 0: nobody of the container */
	uint32_t uid, gid;
	const uint32_t *groups;
	size_t ngroups;
};
/* What the socket of this message sees, and what its other end sees. */
struct unix_who unix_peer_of(const Cko__Unix *m);
struct unix_who unix_own_of(const Cko__Unix *m);
bool unix_who_same(const struct unix_who *a, const struct unix_who *b);
/* A system call of the process under these ids; the upper half of its scratch is used. */
long unix_act_as(struct task *t, const struct unix_who *w, long nr, unsigned long a,
		 unsigned long b, unsigned long c, unsigned long d);
/* listen(2) by that process, else by the engine. 0 or -errno. */
int unix_listen_as(struct restore *r, int fd, int backlog, const struct unix_who *w);
/*
 * A connection through a listener of that name which `listener` made, by `client`: its end in
 * *near, the accepted one in *far. 0 or -errno.
 */
int unix_connect_as(struct restore *r, int type, const struct sockaddr_un *name, socklen_t len,
		    const struct unix_who *listener, const struct unix_who *client, int *near,
		    int *far);
/* Connects the engine's socket to a name of the container's, by that process. */
int unix_connect_fd_as(struct restore *r, int fd, const struct sockaddr_un *name, socklen_t len,
		       const struct unix_who *client);
/* All connections are made. */
void unix_doors_close(void);

/* --- obj_unix_peek.c, source, frozen: with BPF; -errno where that cannot be -------------- */
/* What the client with inode `client`, which waits to be accepted, has sent: m->sent. */
int unix_sent_peek(struct dump *d, uint32_t client, Cko__Unix *m, struct error *err);
/* Cuts the peeked m->queue of the stream `ino` into the messages as they were sent. */
int unix_messages_place(struct dump *d, uint32_t ino, Cko__Unix *m);

/* Source, frozen: descriptors in flight in any unix socket join the checkpoint. */
int unix_gather_in_flight(struct dump *d, struct error *err);

#endif
