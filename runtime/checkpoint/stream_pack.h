/* SPDX-License-Identifier: Apache-2.0 */
/* Compression of page content, where it pays; used by stream.c alone. */
#ifndef FERRY_CHECKPOINT_STREAM_PACK_H
#define FERRY_CHECKPOINT_STREAM_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "runtime/checkpoint/stream.h"

struct packer;
struct packer *packer_new(enum stream_packing how);
void packer_free(struct packer *p);
/*
 * `len` bytes of pages that are to be sent: NULL, send them as they are; else what to send
 * instead, of *packed bytes, valid until the next call.
 */
const void *packer_pack(struct packer *p, const void *data, size_t len, size_t *packed);
/* Tells that n bytes took ns to get rid of: from this follows what is worth while. */
void packer_wire(struct packer *p, size_t n, int64_t ns);

struct unpacker;
struct unpacker *unpacker_new(void);
void unpacker_free(struct unpacker *u);
/*
 * A payload of which the first `head` bytes are as they are and the rest is packed: *len
 * and *data become the whole one's, valid until the next call. -EBADMSG.
 */
int unpacker_unpack(struct unpacker *u, size_t head, uint8_t **data, uint32_t *len,
		    struct error *err);

#endif
