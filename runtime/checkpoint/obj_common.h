/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the obj_*.c files share: packing, fields of fdinfo, opening paths of the
 * container, signal owners, inode attributes, content of files without a name.
 */
#ifndef FERRY_CHECKPOINT_OBJ_COMMON_H
#define FERRY_CHECKPOINT_OBJ_COMMON_H

#include <fcntl.h>
#include <protobuf-c/protobuf-c.h>

#include "runtime/checkpoint/object.h"
#include "runtime/checkpoint/objects.pb-c.h"

/* File status flags that open(2) and F_SETFL may take again from F_GETFL. */
#define OBJ_OPEN_FLAGS                                                                             \
	(O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | O_SYNC | O_DIRECT | O_NOATIME | O_LARGEFILE)

/* Appends the packed message to `body`. */
void obj_pack(const ProtobufCMessage *m, struct buf *body);

/* Unpacks, or sets err (-EBADMSG) and gives NULL. Free with protobuf_c_message_free_unpacked. */
void *obj_unpack(const ProtobufCMessageDescriptor *desc, const void *body, size_t len,
		 struct error *err);
void obj_message_free(void *m); /* for the attribute: m is a pointer to the message pointer */
#define CLEANUP_MSG __attribute__((cleanup(obj_message_free)))

/* "key:\tVALUE" of fdinfo in the given base. 0, or -ENOENT. */
int fdinfo_u64(const char *fdinfo, const char *key, int base, uint64_t *out);
/* Start of the value of the first line with this key; NULL: none. */
const char *fdinfo_value(const char *fdinfo, const char *key);

/* fdinfo of a descriptor of the engine or, where pid is not 0, of a task. Caller frees. */
char *fdinfo_read(pid_t pid, int fd);

/* openat2() that never leaves the root. fd or -errno. `path` may begin with a slash. */
int obj_open_in_root(int root_fd, const char *path, int flags, mode_t mode, uint64_t resolve);

/* Reopens a descriptor of the engine with other flags through /proc/self/fd. fd or -errno. */
int obj_reopen(int fd, int flags);

/* A fresh tmpfs that is mounted nowhere: its root (O_PATH), or -errno. */
int obj_own_tmpfs(struct error *err);

/* The vpid and number of the first holder; 0 and -1 where there is none. */
pid_t obj_vpid(const struct ofd *o);

/* Adds an obstacle for this description. */
void obj_obstacle(struct obstacles *out, const struct ofd *o, const char *object, const char *why,
		  const char *remedy);

/*
 * Whether a process outside of the container (and other than this engine) has a
 * descriptor with this link ("pipe:[N]", "socket:[N]"): what neither the container nor
 * anybody else holds is in flight inside a socket. Reads all of /proc: for preflight only.
 */
bool obj_held_outside(struct dump *d, const char *link);

/* --- signal owner -------------------------------------------------------------------- */
/* Preflight: an owner that cannot be named at the destination is an obstacle. */
void obj_owner_check(struct dump *d, const struct ofd *o, struct obstacles *out);
/* NULL in *out where none is set; free with free(). */
int obj_owner_dump(struct dump *d, const struct ofd *o, Cko__Owner **out, struct error *err);
/* In `late`: by remote fcntl in the first holder. */
int obj_owner_late(struct restore *r, uint32_t id, const Cko__Owner *w, struct error *err);

/* --- inodes that are made anew --------------------------------------------------------- */
/* Owner, mode, times, size; with xattrs where `xattrs`. Free with obj_inode_free(). */
Cko__Inode *obj_inode_dump(int fd, const struct stat *st, bool xattrs);
void obj_inode_free(Cko__Inode *i);
/* fchown, fchmod, xattrs, times on a descriptor of the inode. */
int obj_inode_apply(int fd, const Cko__Inode *i, struct error *err);

/* --- content of files without a name (obj_content.c) -------------------------------------- */
/* Sends the content behind `fd` once per inode of this dump; gives its key. Frozen. */
int obj_content_send(struct dump *d, int fd, const struct stat *st, uint64_t *key,
		     struct error *err);
/* Makes a file (or folder) without a name where `path` was; the engine's descriptor. */
int obj_deleted_make(int root, const char *path, bool is_dir, bool linkable, struct error *err);
/* Whether obj_content_made() was called: its inode is complete. */
bool obj_content_complete(uint64_t key);
/* Copies the received content into `fd`, holes as holes; only the size where it is there. */
int obj_content_fill(uint64_t key, int fd, uint64_t size, struct error *err);
/* The inode that the engine made for this key, -1: none yet; borrowed. */
int obj_content_inode(uint64_t key);
/* Remembers it (duplicates fd) so that the next description finds the same inode. */
int obj_content_made(uint64_t key, int fd);

/* Lets go of everything: the inodes belong to the tasks then. */
void obj_content_forget(void);

/* --- locks (obj_locks.c) ------------------------------------------------------------------- */
void obj_locks_check(struct dump *d, const struct ofd *o, struct obstacles *out);
/* *out: n messages, each freed with free(), and the array. */
int obj_locks_dump(struct dump *d, const struct ofd *o, Cko__Lock ***out, size_t *n,
		   struct error *err);
void obj_locks_free(Cko__Lock **locks, size_t n);
/* flock and OFD locks, in the engine. */
int obj_locks_restore(int fd, Cko__Lock *const *locks, size_t n, struct error *err);
/* POSIX locks and leases, by remote fcntl. */
int obj_locks_late(struct restore *r, Cko__Lock *const *locks, size_t n, struct error *err);

/* --- paths by inode (obj_paths.c) ------------------------------------------------------------ */
/*
 * A path of the container that leads to inode (dev, ino), looked for below the folder
 * `near` first and then on that whole file system; remembered, so that a second call
 * with the same inode is one stat. NULL: none found. Caller frees.
 */
char *obj_path_of_inode(int root_fd, dev_t dev, ino_t ino, const char *near);

/* True where the container has an ipc namespace of its own, not the host's. */
bool obj_own_ipc(struct dump *d);

#endif
