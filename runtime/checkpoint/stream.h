/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checkpoint stream: frames over TLS, a socket or into a file.
 *
 *   frame:  u32 length of what follows the header · u16 type · u16 flags · u32 crc32c
 *   pages:  struct page_run, then npages × 4,096 bytes (none with FRAME_ZERO, FRAME_DROP;
 *           with FRAME_ZSTD one zstd frame that tells its content's size)
 *   others: one protobuf message of checkpoint.proto
 *
 * All integers are little-endian. The checksum covers the payload; it is 0 over TLS, which
 * has a better one.
 */
#ifndef FERRY_CHECKPOINT_STREAM_H
#define FERRY_CHECKPOINT_STREAM_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define STREAM_VERSION	 1
#define STREAM_FRAME_MAX (8u << 20)

enum frame_type {
	FRAME_HELLO = 1,
	FRAME_REPLY,
	FRAME_TREE,
	FRAME_LAYOUT,
	FRAME_SHARED,
	FRAME_PAGES,
	FRAME_ROUND_END,
	FRAME_TASK,
	FRAME_OBJECT,
	FRAME_FDTABLE,
	FRAME_PART,
	FRAME_HASH,
	FRAME_DONE,
	/* Further connections, see lane.h. */
	FRAME_LANE,
	FRAME_LANE_GO,
	FRAME_LANE_END,
	/* Post-copy, see postcopy.h. */
	FRAME_LATE = 20,
	FRAME_WANT,
	FRAME_TOOK,
	FRAME_SENT,
	FRAME_WHOLE,
	FRAME_SIGNATURE = 32, /* last of a file */
};

/* Flags of a pages frame. */
#define FRAME_ZERO 1 /* all these pages are zero */
#define FRAME_DROP 2 /* these pages are no longer there */
#define FRAME_ZSTD 4 /* packed; stream_recv() has unpacked it */

enum page_space { SPACE_PRIVATE, SPACE_SHARED };

/* What precedes page content. */
struct page_run {
	uint32_t space; /* enum page_space */
	uint32_t id;	/* vpid, or the shared object's id */
	uint64_t start; /* address, or offset in the object */
	uint64_t npages;
};

/* One thread may send while another one receives. */
struct stream;
struct tls;

/* Takes over `fd` (a connected socket or a file). */
struct stream *stream_new_fd(int fd);
/* Takes over the TLS connection. */
struct stream *stream_new_tls(struct tls *tls);
/* Takes over a file, or a pipe into or out of one; keeps a running SHA-256 of its frames. */
struct stream *stream_new_file(int fd);
#define STREAM_DIGEST 32
/* The SHA-256 of all frames sent or received, but for a signature's. 0 or -errno. */
int stream_digest(struct stream *s, uint8_t out[STREAM_DIGEST], struct error *err);
/*
 * How many seconds a peer may be silent before it counts as gone: 10 at first. While the tasks
 * stand still nobody may wait for one that is cut off as long as that.
 */
#define STREAM_PATIENCE_STILL_S 3
void stream_patience(struct stream *s, unsigned int seconds);
/*
 * Whether page content is compressed. AUTO, which is how a TLS stream begins: while that
 * gets more pages a second through. A file begins with ALWAYS, a socket with NEVER.
 */
enum stream_packing { STREAM_PACK_NEVER, STREAM_PACK_AUTO, STREAM_PACK_ALWAYS };
void stream_pack(struct stream *s, enum stream_packing how);
/* NULL is fine. */
void stream_close(struct stream *s);
/* Lets whoever sends or receives on it, in whatever thread, fail soon. */
void stream_abort(struct stream *s);
/* For poll(). */
int stream_fd(const struct stream *s);
/* True where a read would not wait for the socket: something is buffered. */
bool stream_buffered(const struct stream *s);
/* Bytes sent and received so far; and as many as they would be if nothing were packed. */
uint64_t stream_bytes(const struct stream *s);
uint64_t stream_plain_bytes(const struct stream *s);

/* Sends one frame; `data` (may be NULL) follows `head` in the payload. 0 or -errno. */
int stream_send(struct stream *s, uint16_t type, uint16_t flags, const void *head, size_t head_len,
		const void *data, size_t len, struct error *err);
/* Packs and sends a message. */
int stream_send_msg(struct stream *s, uint16_t type, const ProtobufCMessage *m, struct error *err);
/* Small frames are gathered; this puts them on the wire. */
int stream_flush(struct stream *s, struct error *err);
/* The same where more than `bytes` wait. */
int stream_flush_over(struct stream *s, size_t bytes, struct error *err);

/* One frame received: valid until the next call. */
struct frame {
	uint16_t type, flags;
	uint32_t len;
	uint8_t *data;
	/* As it came, perhaps packed: for a copy. */
	uint16_t raw_flags;
	uint32_t raw_len;
	const uint8_t *raw;
};
/* -EPIPE: the other side has closed; -EBADMSG: damaged, a file that ends within a frame;
 * -ENODATA: a file's end. */
int stream_recv(struct stream *s, struct frame *f, struct error *err);

uint32_t crc32c(uint32_t crc, const void *data, size_t len);
/* 64-bit hash of a page of 4,096 bytes, never 0. */
uint64_t page_hash(const void *page);
/* True where all `len` (a multiple of 64) bytes are zero. */
bool page_is_zero(const void *p, size_t len);

#endif
