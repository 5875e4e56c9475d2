/* SPDX-License-Identifier: Apache-2.0 */
/* The shim's frames for Docker clients; see frames.h and runtime/container/shim.h. */
#include "api/frames.h"
#include "runtime/container/shim.h"

void frames_add(struct buf *out, int kind, const void *data, size_t len)
{
	unsigned char head[SHIM_HEADER];

	shim_header(head, kind, (uint32_t)len);
	buf_add(out, head, sizeof(head));
	if (len)
		buf_add(out, data, len);
}

void frames_feed(struct frames *f, const void *data, size_t len, struct buf *out)
{
	const unsigned char *p = data;

	while (len) {
		size_t n;

		if (f->have < sizeof(f->head)) {
			n = sizeof(f->head) - f->have;
			if (n > len)
				n = len;
			memcpy(f->head + f->have, p, n);
			f->have += n;
			if (f->have == sizeof(f->head)) {
				f->left = shim_length(f->head);
				f->drop = f->head[0] != SHIM_STDOUT && f->head[0] != SHIM_STDERR;
				if (!f->drop && !f->strip)
					buf_add(out, f->head, sizeof(f->head));
			}
		} else {
			n = f->left < len ? f->left : len;
			if (!f->drop && n)
				buf_add(out, p, n);
			f->left -= (uint32_t)n;
		}
		if (f->have == sizeof(f->head) && !f->left)
			f->have = 0;
		p += n;
		len -= n;
	}
}
