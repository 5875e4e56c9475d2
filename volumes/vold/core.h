/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The heart of a vold: a gate between the backend (the kernel's requests) and the image,
 * and the state machine that opens and closes it.
 *
 *   mode       reads           writes, zeroes        flush           lock
 *   ro         image           EROFS                 done            -
 *   standby    image           EROFS                 done            -
 *   rw         image           image                 image           held
 *   tentative  overlay, image  overlay               closes epoch    held, or not yet
 *   settling   overlay, image  wait for rw           wait for rw     held
 *   draining   image           wait for the outcome  wait            held
 *   demoted    image           EIO                   EIO             -, or still held
 *   failed     EIO             EIO                   EIO             lost
 *
 *   standby → rw | tentative     core_promote       demoted → rw     core_retake
 *   tentative → settling → rw    core_settle        any → failed     lock lost, fenced
 *   tentative → standby          core_abandon
 *   rw → draining → demoted      core_demote (back to rw when it fails)
 *
 * The lock may change hands after the content is final: a demote that keeps it closes the
 * gate and flushes, so that the other side may read on; a tentative promote without it
 * writes nothing to the image; core_claim takes it, at the latest before settling.
 *
 * Invariant: a request goes to the image for writing only in rw (settling: only the
 * overlay's own), is counted in `writes` until the image has answered, and draining turns
 * into demoted only at writes == 0. So after core_demote() nothing is left that could land.
 */
#ifndef FERRY_VOLUMES_VOLD_CORE_H
#define FERRY_VOLUMES_VOLD_CORE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "volumes/vold/backend.h"
#include "volumes/vold/image.h"

/* Opens the image; mode "rw" takes the lock at once. The options may go afterwards. */
int core_open(const struct vold_options *o, struct core **out, struct error *err);
/* The backend is stopped. Releases the lock unless a write is still in flight. */
void core_close(struct core *c);

/* From the backend: see struct vold_io. */
void core_submit(struct core *c, struct vold_io *io);

/* Size of the image in bytes, a multiple of VOLD_BLOCK. */
int core_size(struct core *c, uint64_t *bytes, struct error *err);
bool core_read_only(struct core *c);

/* Transitions, one at a time; what is already so succeeds. */
int core_promote(struct core *c, bool tentative, bool unlocked, struct error *err);
/* In tentative: takes the lock, unless it is ours. EBUSY: the other side has it still. */
int core_claim(struct core *c, struct error *err);
int core_settle(struct core *c, struct error *err);
int core_abandon(struct core *c, struct error *err);
/* keep_lock: a second demote, without it, gives the lock away. */
int core_demote(struct core *c, int64_t timeout_ns, bool keep_lock, struct error *err);
int core_retake(struct core *c, struct error *err);

/* In rw alone: the owner of the lock changes the image. The caller refreshes the device. */
int core_resize(struct core *c, uint64_t bytes, struct error *err);
int core_snapshot(struct core *c, const char *snap, bool create, struct error *err);

/* From now on all requests get EIO; those in flight may still land. */
void core_shut(struct core *c, const char *why);

/* Adds "fs" and "formatted" where the image has notes. */
void core_describe(struct core *c, json_t *out);
/* {"mode","error","address","tentative_bytes","parked","in_flight","reads","writes",..} */
json_t *core_status(struct core *c);
/* Asks whether the lock is still ours, and fails if not; call it about once a second. */
void core_check_lock(struct core *c);

#endif
