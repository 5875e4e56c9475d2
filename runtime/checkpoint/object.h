/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel objects that travel: the contract between the checkpoint core and the
 * files that know one kind of object each (obj_*.c, sock_*.c).
 *
 *   source engine                                   destination engine
 *   core finds tasks and fds, dedups open           core reads the objects,
 *   file descriptions (kcmp), duplicates each       calls type->restore() for each,
 *   one into the engine (pidfd_getfd)               installs the fds in the tasks,
 *      claims() → check()            preflight      then type->late() for each,
 *      claims() → dump() → body ───── Object ─────► after the commit type->finish()
 *      dump_undo() when the source goes on
 *
 * All calls are made by the engine's one main thread. Lists of types: obj_table.c
 * (files, pipes, epoll …) and sock_table.c (sockets); the first that claims wins;
 * sockets are asked first.
 */
#ifndef FERRY_CHECKPOINT_OBJECT_H
#define FERRY_CHECKPOINT_OBJECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/str.h"

struct dump;	/* everything the source engine knows */
struct restore; /* everything the destination engine knows */
struct task;	/* a process of the container, on either side */
struct stream;

/* --- tasks, both sides ------------------------------------------------------------- */
pid_t task_pid(const struct task *t);  /* in the engine's pid namespace */
pid_t task_vpid(const struct task *t); /* in the container's */
int task_pidfd(const struct task *t);  /* borrowed */

/*
 * Runs one system call inside the task (its thread group leader), which must be held
 * by ptrace: in dump() on the source, in late() and finish() on the destination.
 * Returns the kernel's result: a value, or -errno; -ESRCH also where the task is gone.
 */
long remote_syscall(struct task *t, long nr, unsigned long a, unsigned long b, unsigned long c,
		    unsigned long d, unsigned long e, unsigned long f);

/*
 * Address of a scratch area of REMOTE_SCRATCH bytes inside the task for arguments of
 * remote system calls (0: none could be mapped). Content does not survive the next
 * call of anybody else's.
 */
#define REMOTE_SCRATCH 16384
unsigned long remote_scratch(struct task *t);

/* Destination: puts a copy of the engine's descriptor into the task (close it there by
 * remote_syscall()). The number there, or -errno with err set. */
int remote_send_fd(struct task *t, int fd, struct error *err);

/* Copies into and out of the task's memory. 0 or -errno. */
int remote_read(struct task *t, unsigned long addr, void *buf, size_t len);
int remote_write(struct task *t, unsigned long addr, const void *buf, size_t len);

/* --- open file descriptions, source ------------------------------------------------ */
struct ofd_holder {
	struct task *task;
	int num; /* descriptor number in that task */
	bool cloexec;
};

struct ofd {
	uint32_t id;	   /* unique in the checkpoint, never 0 */
	int fd;		   /* the engine's duplicate: same open file description */
	struct task *task; /* first holder; NULL: only in flight inside a socket's queue */
	int num;	   /* number in `task` */
	struct stat st;
	char *link;   /* what /proc/PID/fd/NUM points to */
	char *fdinfo; /* text of /proc/PID/fdinfo/NUM */
	int flags;    /* fcntl(F_GETFL) */
	struct ofd_holder *holders;
	size_t nholders;
	const struct object_type *kind; /* who claimed it; NULL: an external (stdio) */
	bool dumped, sent;
	struct ofd *same_chain; /* the core's */
	void *priv;		/* for the type, freed with free() */
};

/*
 * Obstacles are what preflight reports: each names the process (as seen inside the
 * container), the descriptor (-1: none), the object, why it cannot travel and what the
 * user can do about it.
 */
struct obstacles;
void obstacle_add(struct obstacles *out, pid_t vpid, int fd, const char *object, const char *why,
		  const char *remedy);

struct object_type {
	const char *type; /* "file", "pipe", "tcp" …; part of the stream format */
	bool (*claims)(const struct ofd *o);
	/* Preflight: nothing is paused, nothing may be changed. NULL: always fine. 0 or
	 * -errno for a failure of the engine; obstacles are not failures. */
	int (*check)(struct dump *d, const struct ofd *o, struct obstacles *out);
	/* Frozen: everything to make it again, packed, into `body`. */
	int (*dump)(struct dump *d, struct ofd *o, struct buf *body, struct error *err);
	/* The source goes on (or is about to be killed after a commit: not called then). */
	int (*dump_undo)(struct dump *d, struct ofd *o);
	/* Makes the object in the engine; *fd is then the engine's (core closes it). */
	int (*restore)(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
		       struct error *err);
	/* restore() needs nothing but the namespaces: it is called when the object comes in,
	 * while the source reads the next. */
	bool early;
	/* All descriptors are installed in all tasks; remote_syscall() works. */
	int (*late)(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
		    struct error *err);
	/* After the commit, just before the tasks run. */
	int (*finish)(struct restore *r, uint32_t id, int fd, struct error *err);
};

/* NULL-terminated; owners: ckpt-objects (obj_table.c), ckpt-sockets (sock_table.c). */
extern const struct object_type *const object_types_files[];
extern const struct object_type *const object_types_sockets[];

const struct object_type *object_type_for(const struct ofd *o);
const struct object_type *object_type_named(const char *type);

/* --- source ------------------------------------------------------------------------- */
/* The open file description behind a task's descriptor; NULL: no such descriptor. */
struct ofd *dump_ofd(struct dump *d, const struct task *t, int num);
/* The same by id. */
struct ofd *dump_ofd_by_id(struct dump *d, uint32_t id);
/* All of them; index 0 … dump_ofd_count() - 1. */
size_t dump_ofd_count(const struct dump *d);
struct ofd *dump_ofd_at(struct dump *d, size_t i);

/*
 * Adds a description that no task may hold (a descriptor in flight, an accepted
 * connection of an accept queue): takes over `fd`, gives the ofd that is the same open
 * file description, or a new one, which the core dumps too. NULL with err set.
 */
struct ofd *dump_add_fd(struct dump *d, int fd, struct error *err);

/*
 * Sends an object that no descriptor stands for: `type` restores `body` on the destination,
 * and the core closes it after finish(). In a part's dump().
 */
int dump_send_object(struct dump *d, const char *type, const struct buf *body, struct error *err);

/* Sends the object of a description at once, which else comes in its turn when memory has been
 * sent. In a part's dump(). */
int dump_object(struct dump *d, struct ofd *o, struct error *err);

/* Tasks (processes, not threads) of the container; NULL: no such. */
size_t dump_task_count(const struct dump *d);
struct task *dump_task_at(struct dump *d, size_t i);
struct task *dump_task(struct dump *d, pid_t vpid);
/* By pid as the engine sees it (fields l_pid of F_GETLK, SO_PEERCRED …). */
struct task *dump_task_by_pid(struct dump *d, pid_t pid);

/* The container's number of a thread, or of a process group, known to the engine as tid or
 * pgid; 0: not the container's. */
pid_t dump_vtid(struct dump *d, pid_t tid);
pid_t dump_vpgid(struct dump *d, pid_t pgid);

/* Runs fn(arg) in a thread inside the container's network / mount namespace. Gives its
 * result, or -errno where the namespace cannot be entered. */
int dump_in_netns(struct dump *d, int (*fn)(void *arg), void *arg, struct error *err);
int dump_in_mntns(struct dump *d, int (*fn)(void *arg), void *arg, struct error *err);
int dump_in_ipcns(struct dump *d, int (*fn)(void *arg), void *arg, struct error *err);
/* O_PATH descriptor of the root of the container's init; borrowed. */
int dump_root_fd(struct dump *d);

/*
 * Shared memory objects (memfd, mapped tmpfs files, SysV segments) belong to the core.
 * Id of the one that has this inode, or 0: an object type whose descriptor stands on
 * such an inode sends this id and its flags only, and on the destination calls
 * restore_shared_fd(). Complete from the freeze on.
 */
uint32_t dump_shared_id(struct dump *d, dev_t dev, ino_t ino);

/*
 * A part of the checkpoint that is not a descriptor: directory trees, SysV semaphores,
 * message queues, namespace-wide settings. Its messages go to the part of the same name
 * on the destination, in order.
 */
struct checkpoint_part {
	const char *name; /* "tree" … */
	/* Preflight. */
	int (*check)(struct dump *d, struct obstacles *out);
	/* Once a pre-copy round, tasks run. `args` is the object of the precopy request. */
	int (*round)(struct dump *d, int n, json_t *args, struct error *err);
	/* Tasks are frozen: what can take its time beside the dump of other parts begins. */
	void (*begin)(struct dump *d);
	/* Tasks are frozen: send the rest. */
	int (*dump)(struct dump *d, struct error *err);
	int (*dump_undo)(struct dump *d);
	/* Destination: one message of round() or dump(). */
	int (*receive)(struct restore *r, const void *body, size_t len, struct error *err);
	/* Destination: everything has come; `files` are about to be opened. */
	int (*complete)(struct restore *r, struct error *err);
	/* Destination: all objects are made, before the commit. */
	int (*seal)(struct restore *r, struct error *err);
	/* Destination: the tasks run; the engine is about to end. */
	void (*leave)(struct restore *r);
};
extern const struct checkpoint_part *const checkpoint_parts_files[];   /* obj_table.c */
extern const struct checkpoint_part *const checkpoint_parts_sockets[]; /* sock_table.c */

/* Sends a message of at most 4 MiB to the part `name` on the destination. Blocks. */
int dump_send_part(struct dump *d, const char *name, const void *body, size_t len,
		   struct error *err);

/* --- destination -------------------------------------------------------------------- */
/*
 * The engine's descriptor of another object, which is restored first when it was not
 * yet; borrowed. -errno with err set (-ELOOP: it depends on itself, -ENOENT: no such).
 */
int restore_fd(struct restore *r, uint32_t id, struct error *err);

/* A fresh descriptor (caller's) of shared memory object `shared_id`, opened with `flags`. */
int restore_shared_fd(struct restore *r, uint32_t shared_id, int flags, struct error *err);

size_t restore_task_count(const struct restore *r);
struct task *restore_task_at(struct restore *r, size_t i);
struct task *restore_task(struct restore *r, pid_t vpid);

/* Number, in the engine's pid namespace, of the container's thread; 0: no such. From late()
 * on. */
pid_t restore_tid(struct restore *r, pid_t vtid);

/* Where object `id` is installed: the i-th (task, descriptor number). False: no more. */
bool restore_holder(struct restore *r, uint32_t id, size_t i, struct task **t, int *num);

int restore_in_netns(struct restore *r, int (*fn)(void *arg), void *arg, struct error *err);
int restore_in_mntns(struct restore *r, int (*fn)(void *arg), void *arg, struct error *err);
int restore_in_ipcns(struct restore *r, int (*fn)(void *arg), void *arg, struct error *err);
/* O_PATH descriptor of the container's root, for openat2(RESOLVE_IN_ROOT); borrowed. */
int restore_root_fd(struct restore *r);

#endif
