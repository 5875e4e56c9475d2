/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors: whole reads and writes, passing over sockets, small files. */
#ifndef FERRY_BASE_FD_H
#define FERRY_BASE_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

/* Writes all `len` bytes, across EINTR and short writes. 0 or -errno. */
int fd_write_all(int fd, const void *buf, size_t len);

/* Reads exactly `len` bytes. 0, -errno, or -ENODATA where the file ends first. */
int fd_read_all(int fd, void *buf, size_t len);

/* Sets or clears FD_CLOEXEC / O_NONBLOCK. 0 or -errno. */
int fd_set_cloexec(int fd, bool on);
int fd_set_nonblock(int fd, bool on);

/*
 * Sends `len` (at least 1) bytes with `nfds` descriptors (at most 253, SCM_MAX_FD)
 * attached over a unix socket. 0 or -errno. The caller keeps its descriptors.
 */
int fd_send(int sock, const void *buf, size_t len, const int *fds, size_t nfds);

/*
 * Receives one message with up to *nfds descriptors, all close-on-exec; *nfds is
 * set to how many came. Returns the number of bytes (0: the peer closed), or -errno.
 */
ssize_t fd_recv(int sock, void *buf, size_t len, int *fds, size_t *nfds);

/*
 * A bound, listening unix stream socket (close-on-exec, mode as given); a stale
 * socket file at `path` is replaced. The fd, or -errno with err set.
 */
int fd_unix_listen(const char *path, mode_t mode, struct error *err);

/* A connected unix stream socket, or -errno with err set. */
int fd_unix_connect(const char *path, struct error *err);

/*
 * Whole file into a fresh NUL-terminated buffer (caller frees); *len may be NULL.
 * Works for /proc files whose size reads 0. Files above `max` bytes give -EFBIG.
 */
int file_read(const char *path, size_t max, char **out, size_t *len, struct error *err);
int file_read_at(int dirfd, const char *path, size_t max, char **out, size_t *len,
		 struct error *err);

/*
 * Replaces `path` with `len` bytes so that after a crash either the old or the new
 * content is there: temporary file, fsync, rename, fsync of the folder.
 */
int file_write_atomic(const char *path, const void *buf, size_t len, mode_t mode,
		      struct error *err);

/* Writes a string into an existing file (sysfs, procfs, cgroupfs) in one write. */
int file_write_str(const char *path, const char *value, struct error *err);

/* mkdir -p. 0 or -errno with err set. */
int dir_make(const char *path, mode_t mode, struct error *err);

/* rm -rf that never crosses a mount point nor follows a link; a missing path is fine. */
int dir_remove(const char *path, struct error *err);

#endif
