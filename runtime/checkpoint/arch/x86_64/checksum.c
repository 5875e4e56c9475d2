/* SPDX-License-Identifier: Apache-2.0 */
/* CRC32C by the SSE4.2 instruction, the page hash and the zero test. */
#include <nmmintrin.h>
#include <string.h>

#include "runtime/checkpoint/stream.h"

__attribute__((target("sse4.2"))) uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t c = ~crc;

	for (; len >= 8; p += 8, len -= 8) {
		uint64_t v;

		memcpy(&v, p, 8);
		c = _mm_crc32_u64((uint32_t)c, v);
	}
	for (; len; p++, len--)
		c = _mm_crc32_u8((uint32_t)c, *p);
	return ~(uint32_t)c;
}

/* Multiply and fold, as xxh3 and wyhash do, in four lanes. */
static inline uint64_t fold(uint64_t a, uint64_t b)
{
	__uint128_t m = (__uint128_t)a * b;

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

uint64_t page_hash(const void *page)
{
	static const uint64_t k[8] = { 0xa0761d6478bd642fULL, 0xe7037ed1a0b428dbULL,
				       0x8ebc6af09c88c6e3ULL, 0x589965cc75374cc3ULL,
				       0x1d8e4e27c47d124fULL, 0xeb44accab455d165ULL,
				       0x9e3779b97f4a7c15ULL, 0xc2b2ae3d27d4eb4fULL };
	uint64_t h[4] = { k[0], k[1], k[2], k[3] };
	const uint8_t *p = page;

	/* The running lanes are mixed in by addition, so that a factor that happens to be
	 * zero loses one block's difference at most in one of the two halves. */
	for (size_t i = 0; i < 4096; i += 64, p += 64) {
		uint64_t v[8];

		/* Mostly one page after another is asked for, and the processor's own prefetching
		 * ends with a page: this halves the time. A prefetch of no memory is none. */
		__builtin_prefetch(p + 4096);
		memcpy(v, p, 64);
		for (int j = 0; j < 4; j++)
			h[j] = fold(h[j] ^ v[2 * j], k[j] ^ v[2 * j + 1]) + v[2 * j] +
			       (v[2 * j + 1] << 1) + (h[j] << 3) + k[j + 4];
	}
	h[0] = fold(h[0] ^ k[4], h[1] ^ k[5]) + fold(h[2] ^ k[6], h[3] ^ k[7]) + h[0] + h[2];
	return h[0] ? h[0] : 1;
}

bool page_is_zero(const void *p, size_t len)
{
	const uint64_t *v = p;

	for (size_t i = 0; i < len / 8; i += 8)
		if (v[i] | v[i + 1] | v[i + 2] | v[i + 3] | v[i + 4] | v[i + 5] | v[i + 6] |
		    v[i + 7])
			return false;
	return true;
}
