/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zstd at its fastest, when the link is slower than the compressor. Both are measured: a
 * byte costs `wire` nanoseconds to send, `pack` to compress, and `ratio` of it is left.
 * Packed sending is chosen where pack + ratio · wire is clearly less than wire. On a link
 * faster than FAST nothing is even tried.
 */
#include "runtime/checkpoint/stream_pack.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/process.h"
#include "base/str.h"

#define LEVEL  1
#define FAST   4.0	    /* ns a byte: 250 MB/s */
#define WINDOW (8ull << 20) /* bytes between two decisions */
#define SAMPLE (1ull << 20) /* bytes that are tried */

struct packer {
	enum stream_packing how;
	ZSTD_CCtx *ctx;
	uint8_t *buf;
	size_t cap;
	bool on, trying;
	uint64_t seen;	     /* bytes of pages since the last decision */
	uint64_t wire_bytes; /* and what was sent since */
	int64_t wire_ns;
	double wire, pack, ratio;
	uint64_t tried, tried_left;
	int64_t tried_ns;
};

struct packer *packer_new(enum stream_packing how)
{
	struct packer *p = mem_zalloc(sizeof(*p));

	p->how = how;
	p->on = how == STREAM_PACK_ALWAYS;
	return p;
}

void packer_free(struct packer *p)
{
	if (!p)
		return;
	ZSTD_freeCCtx(p->ctx);
	free(p->buf);
	free(p);
}

void packer_wire(struct packer *p, size_t n, int64_t ns)
{
	p->wire_bytes += n;
	p->wire_ns += ns;
}

static void decide(struct packer *p)
{
	bool worth;

	if (p->wire_bytes)
		p->wire = (double)p->wire_ns / (double)p->wire_bytes;
	if (p->tried) {
		p->pack = (double)p->tried_ns / (double)p->tried;
		p->ratio = (double)p->tried_left / (double)p->tried;
	}
	worth = p->tried && p->pack + p->ratio * p->wire < 0.9 * p->wire;
	/* Nothing known yet of a slow link: a sample tells. */
	p->trying = !p->tried && p->wire > FAST;
	p->on = worth;
	p->seen = p->wire_bytes = p->tried = p->tried_left = 0;
	p->wire_ns = p->tried_ns = 0;
}

const void *packer_pack(struct packer *p, const void *data, size_t len, size_t *packed)
{
	int64_t t0;
	size_t n;

	if (p->how == STREAM_PACK_NEVER)
		return NULL;
	p->seen += len;
	if (p->how == STREAM_PACK_AUTO) {
		if (p->seen > WINDOW || (p->trying && p->tried > SAMPLE))
			decide(p);
		if (!p->on && !p->trying)
			return NULL;
	}
	if (!p->ctx)
		p->ctx = ZSTD_createCCtx();
	if (!p->ctx)
		return NULL;
	n = ZSTD_compressBound(len);
	if (n > p->cap) {
		p->cap = n;
		p->buf = mem_grow(p->buf, n, 1);
	}
	t0 = clock_mono_ns();
	n = ZSTD_compressCCtx(p->ctx, p->buf, p->cap, data, len, LEVEL);
	p->tried_ns += clock_mono_ns() - t0;
	p->tried += len;
	p->tried_left += ZSTD_isError(n) || n > len ? len : n;
	/* What does not shrink goes as it is: the other side need not unpack it. */
	if (ZSTD_isError(n) || n > len - len / 16)
		return NULL;
	*packed = n;
	return p->buf;
}

/* --- the other side -------------------------------------------------------------------- */
struct unpacker {
	ZSTD_DCtx *ctx;
	uint8_t *buf;
	size_t cap;
};

struct unpacker *unpacker_new(void)
{
	return mem_zalloc(sizeof(struct unpacker));
}

void unpacker_free(struct unpacker *u)
{
	if (!u)
		return;
	ZSTD_freeDCtx(u->ctx);
	free(u->buf);
	free(u);
}

int unpacker_unpack(struct unpacker *u, size_t head, uint8_t **data, uint32_t *len,
		    struct error *err)
{
	unsigned long long want = *len < head ? ZSTD_CONTENTSIZE_ERROR
					      : ZSTD_getFrameContentSize(*data + head, *len - head);
	size_t n;

	/* The two error values are the largest there are. */
	if (want > STREAM_FRAME_MAX - head)
		return error_set(err, EBADMSG,
				 "the stream is damaged: packed pages without a size");
	if (!u->ctx)
		u->ctx = ZSTD_createDCtx();
	if (!u->ctx)
		return error_set(err, ENOMEM, "no memory to unpack pages");
	if (head + want > u->cap) {
		u->cap = head + want;
		u->buf = mem_grow(u->buf, u->cap, 1);
	}
	n = ZSTD_decompressDCtx(u->ctx, u->buf + head, want, *data + head, *len - head);
	if (ZSTD_isError(n) || n != want)
		return error_set(err, EBADMSG, "the stream is damaged: packed pages: %s",
				 ZSTD_isError(n) ? ZSTD_getErrorName(n) : "too few");
	memcpy(u->buf, *data, head);
	*data = u->buf;
	*len = (uint32_t)(head + want);
	return 0;
}
