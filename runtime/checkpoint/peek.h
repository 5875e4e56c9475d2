/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading what no file of /proc and no system call shows, by BPF iterators (bpf/peek.bpf.c):
 * nothing is changed by it, and nothing can be taken out by accident. Needs BTF of the
 * running kernel and CAP_BPF; without them the objects in question are refused.
 */
#ifndef FERRY_CHECKPOINT_PEEK_H
#define FERRY_CHECKPOINT_PEEK_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum peek_kind {
	/* Undo values of semaphores: pid, tid, a: identity of the list, b: set, c: number of
	 * the first of 64 values (int16_t) that follow, d: size of the set. */
	PEEK_UNDO = 1,
	/* io_setup() contexts: pid, a: address, b: requests in flight, c: the number asked
	 * for, d: bytes of its ring. */
	PEEK_AIO,
	/* mq_notify(): pid, tid: SIGEV_*, a: inode, b: signal, c: its value. */
	PEEK_MQUEUE,
	/* Messages in the receive queue of a unix socket of the network namespace in which
	 * the caller's thread is: tid: the sender's pid, a: inode, 0: it waits to be accepted,
	 * b: the other end's inode, c: place in the queue, d: messages in it; struct peek_unix
	 * follows. peek_unix_from() says which. */
	PEEK_UNIX = 5,
	/* Events that wait in an inotify descriptor of the caller's, which peek_inotify_from()
	 * names. Of the descriptor: a: number of the next watch (0: none yet), c: ~0,
	 * d: events that wait. Then of each event: tid: watch, a: mask, b: cookie, c: place;
	 * its name follows, without a zero. Not all may come at once. */
	PEEK_INOTIFY,
	/* The error that waits in a socket of the caller's: a. See peek_socket_error(). */
	PEEK_SOCKET_ERROR,
	/* Every thread: pid, tid, keys in its a: session, b: process, c: thread keyring,
	 * d: the session keyring's serial. PEEK_CRED_WORDS words of its security modules. */
	PEEK_CRED = 16,
	/* Every thread: pid, tid; struct peek_restart follows. */
	PEEK_RESTART,
	/* Memory areas with a NUMA policy of their own: pid, tid, a, b: start and end; struct
	 * peek_policy follows. Loaded together with PEEK_RESTART. */
	PEEK_POLICY,
};

struct peek_policy {
	uint32_t mode; /* as mbind(2) takes it */
	int32_t home;  /* set_mempolicy_home_node(2); -1: none */
	uint8_t nodes[128];
};

/* How a call goes on that was interrupted, if it was one that the kernel restarts so: the
 * kernel's function, and what each of them finds, of which one is meant. Times are those of
 * the host's clocks at which the call ends. */
struct peek_restart {
	char fn[32];
	uint64_t futex_ns, sleep_ns, poll_s, poll_ns;
	int32_t sleep_clock, poll_timed;
};

struct peek_unix {
	uint32_t len, consumed;
	uint32_t data; /* bytes that can be read; 0: none (it has a descriptor: peek) */
	uint32_t uid, gid, fds;
	uint8_t bytes[];
};

#define PEEK_CRED_WORDS 16

/* As in peek.bpf.c. */
struct peek_record {
	uint32_t kind;
	int32_t pid, tid;
	uint32_t len;
	uint64_t a, b, c, d;
};

/*
 * Loads what is needed for `kind`, which takes tens of milliseconds the first time: not
 * in the blackout. 0, or -errno with err set (-EOPNOTSUPP: this kernel cannot).
 */
int peek_load(enum peek_kind kind, struct error *err);

/* Tells the size of a semaphore set, before PEEK_UNDO is read. */
int peek_sem_size(int semid, uint32_t nsems, struct error *err);

/*
 * Which queue PEEK_UNIX reads: of the socket with inode `own`; 0: of the connection of
 * `client` that waits to be accepted. From message `from` on: not all may come at once.
 */
int peek_unix_from(uint32_t own, uint32_t client, uint32_t from, struct error *err);

/* Which descriptor PEEK_INOTIFY reads, from which event on. */
int peek_inotify_from(int fd, uint32_t from, struct error *err);

/* The error that waits in a socket of the caller's, 0: none; it goes on waiting. */
int peek_socket_error(int fd, int *error, struct error *err);

/* Calls fn for every record; stops at its first negative result, and gives that. */
int peek(enum peek_kind kind, int (*fn)(void *ctx, const struct peek_record *r, const void *data),
	 void *ctx, struct error *err);
/* The same of the threads of one process (as the caller's pid namespace numbers it), where
 * the kernel can tell them apart, else of all. Of kinds that go through threads only. */
int peek_process(enum peek_kind kind, int pid,
		 int (*fn)(void *ctx, const struct peek_record *r, const void *data), void *ctx,
		 struct error *err);

#endif
