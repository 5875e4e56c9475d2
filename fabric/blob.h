/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the bytes of checkpoints are kept: in the pool of the volumes, in objects of 4 MiB,
 *
 *	namespace "ferry-checkpoints"   ID.00000000  ID.00000001 …
 *
 * or, on a host without Ceph, in STATE/checkpoints/ID. A blob has no life of its own: a
 * document says that it is there and how long it is; without one it is rubbish.
 */
#ifndef FERRY_FABRIC_BLOB_H
#define FERRY_FABRIC_BLOB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct fabric;

/* Is it kept in Ceph, where all hosts can read it? */
bool blob_shared(const struct fabric *f);

/*
 * All of the file behind fd, from its start. *bytes: how many. ENOSPC (also where Ceph is
 * full): what was written of it is removed again.
 */
int blob_write(struct fabric *f, const char *id, int fd, uint64_t *bytes, struct error *err);

/* Into fd, which may be a pipe. ENODATA: parts of it are missing. */
int blob_read(struct fabric *f, const char *id, uint64_t bytes, int fd, struct error *err);

/* What there is of it, finished or not. */
int blob_remove(struct fabric *f, const char *id, struct error *err);

#endif
