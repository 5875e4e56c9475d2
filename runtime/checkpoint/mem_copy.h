/* SPDX-License-Identifier: Apache-2.0 */
/* One connection's part in sending private memory: mem_copy.c, for lane_source.c. */
#ifndef FERRY_CHECKPOINT_MEM_COPY_H
#define FERRY_CHECKPOINT_MEM_COPY_H

#include "runtime/checkpoint/core.h"

#define MEM_BATCH 256ul /* pages read at once */

struct mem_gone {
	struct task *t;
	uint64_t addr;
};

/* Used by one thread at a time. */
struct mem_copier {
	struct dump *d; /* only read */
	struct stream *s;
	uint8_t *buf;
	bool main;	  /* the main connection: pages of zeros go out with the others */
	struct buf zeros; /* else they are noted: struct page_run */
	struct buf gone;  /* pages that could not be read: struct mem_gone */
	uint64_t bytes;	  /* of pages sent with content */
};
void mem_copier_init(struct mem_copier *c, struct dump *d, struct stream *s, bool main);
void mem_copier_free(struct mem_copier *c);
/* By the engine's thread, after the last mem_copier_send() of a round: counts what was sent, and
 * what was not after all. */
void mem_copier_settle(struct mem_copier *c);
/* Up to MEM_BATCH pages, which are noted in t->sent already. Those that cannot be read are left
 * out, or an error at the freeze. */
int mem_copier_send(struct mem_copier *c, struct task *t, uint64_t start, uint64_t npages,
		    struct error *err);

#endif
