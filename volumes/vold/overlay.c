// SPDX-License-Identifier: Apache-2.0
/*
 * Overlay of a tentative promote. Nodes lie in one array in the order they were made, so
 * an epoch is a range of that array; a hash table leads from a block number to its newest
 * node. Data lie in an arena behind one another, so blocks written one after the other are
 * one piece of memory, which makes the pieces of overlay_drain() long.
 */
#include "volumes/vold/overlay.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "volumes/vold/backend.h"

#define NODES_PER_BLOCK 4 /* zeroed blocks have a node and no data: leave room for them */
#define NO_NODE		0 /* indices start at 1 */

struct node {
	uint64_t block;
	char *data;    /* NULL: zeroes */
	uint32_t next; /* in the hash chain */
	uint32_t epoch;
};

struct overlay {
	struct node *nodes;
	uint32_t nnodes, max_nodes; /* nodes[1..nnodes] */
	uint32_t *buckets, mask;
	char *arena;
	size_t used, budget;
	uint32_t epoch;
	uint64_t blocks; /* distinct ones */
};

static void *reserve(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

struct overlay *overlay_new(size_t budget)
{
	struct overlay *ov = calloc(1, sizeof(*ov));
	size_t buckets = 1024;

	if (!ov)
		return NULL;
	budget = budget / VOLD_BLOCK * VOLD_BLOCK;
	if (budget < VOLD_MAX_IO)
		budget = VOLD_MAX_IO;
	if (budget > 1ull << 40)
		budget = 1ull << 40;
	ov->budget = budget;
	ov->max_nodes = (uint32_t)(budget / VOLD_BLOCK * NODES_PER_BLOCK);
	while (buckets < ov->max_nodes / 2)
		buckets *= 2;
	ov->mask = (uint32_t)buckets - 1;
	ov->nodes = reserve((ov->max_nodes + 1ull) * sizeof(*ov->nodes));
	ov->buckets = reserve(buckets * sizeof(*ov->buckets));
	ov->arena = reserve(budget);
	if (!ov->nodes || !ov->buckets || !ov->arena) {
		overlay_free(ov);
		return NULL;
	}
	return ov;
}

void overlay_free(struct overlay *ov)
{
	if (!ov)
		return;
	if (ov->nodes)
		munmap(ov->nodes, (ov->max_nodes + 1ull) * sizeof(*ov->nodes));
	if (ov->buckets)
		munmap(ov->buckets, (ov->mask + 1ull) * sizeof(*ov->buckets));
	if (ov->arena)
		munmap(ov->arena, ov->budget);
	free(ov);
}

static uint32_t *bucket(const struct overlay *ov, uint64_t block)
{
	return &ov->buckets[(block * 0x9e3779b97f4a7c15ull >> 32) & ov->mask];
}

/* The newest version of a block: newer nodes stand first in their chain. */
static struct node *find(const struct overlay *ov, uint64_t block)
{
	for (uint32_t i = *bucket(ov, block); i != NO_NODE; i = ov->nodes[i].next)
		if (ov->nodes[i].block == block)
			return &ov->nodes[i];
	return NULL;
}

static void write_block(struct overlay *ov, uint64_t block, const char *data)
{
	struct node *n = find(ov, block);

	if (!n || n->epoch != ov->epoch) {
		uint32_t *head = bucket(ov, block);

		if (!n)
			ov->blocks++;
		n = &ov->nodes[++ov->nnodes];
		*n = (struct node){ .block = block, .epoch = ov->epoch, .next = *head };
		*head = ov->nnodes;
	}
	if (!data) {
		n->data = NULL; /* its place in the arena is lost: rare, and bounded */
		return;
	}
	if (!n->data) {
		n->data = ov->arena + ov->used;
		ov->used += VOLD_BLOCK;
	}
	memcpy(n->data, data, VOLD_BLOCK);
}

int overlay_write(struct overlay *ov, uint64_t offset, size_t length, const void *data)
{
	size_t need_nodes = 0, need_data = 0;

	if (offset % VOLD_BLOCK || length % VOLD_BLOCK)
		return -EINVAL;
	if (length / VOLD_BLOCK > ov->max_nodes)
		return -ENOSPC;
	for (size_t at = 0; at < length; at += VOLD_BLOCK) {
		struct node *n = find(ov, (offset + at) / VOLD_BLOCK);
		bool fresh = !n || n->epoch != ov->epoch;

		need_nodes += fresh;
		if (data && (fresh || !n->data))
			need_data += VOLD_BLOCK;
	}
	if (need_nodes > ov->max_nodes - ov->nnodes || need_data > ov->budget - ov->used)
		return -ENOSPC;
	for (size_t at = 0; at < length; at += VOLD_BLOCK)
		write_block(ov, (offset + at) / VOLD_BLOCK, data ? (const char *)data + at : NULL);
	return 0;
}

void overlay_flush(struct overlay *ov)
{
	if (ov->nnodes && ov->nodes[ov->nnodes].epoch == ov->epoch)
		ov->epoch++;
}

enum overlay_cover overlay_covers(const struct overlay *ov, uint64_t offset, size_t length)
{
	uint64_t first = offset / VOLD_BLOCK, end = (offset + length + VOLD_BLOCK - 1) / VOLD_BLOCK;
	uint64_t hits = 0;

	if (!ov->blocks)
		return OVERLAY_NONE;
	for (uint64_t block = first; block < end; block++)
		hits += find(ov, block) != NULL;
	return !hits ? OVERLAY_NONE : hits == end - first ? OVERLAY_ALL : OVERLAY_PART;
}

void overlay_read(const struct overlay *ov, uint64_t offset, size_t length, void *buf)
{
	uint64_t at = offset, end = offset + length;

	while (at < end) {
		struct node *n = find(ov, at / VOLD_BLOCK);
		size_t skip = at % VOLD_BLOCK, part = VOLD_BLOCK - skip;
		char *to = (char *)buf + (at - offset);

		if (part > end - at)
			part = end - at;
		if (n && n->data)
			memcpy(to, n->data + skip, part);
		else if (n)
			memset(to, 0, part);
		at += part;
	}
}

uint64_t overlay_bytes(const struct overlay *ov)
{
	return ov->blocks * VOLD_BLOCK;
}

/* Whether node b can be written in one piece with a, behind `length` bytes of it. */
static bool continues(const struct node *a, const struct node *b, size_t length)
{
	return b->epoch == a->epoch && b->block == a->block + length / VOLD_BLOCK &&
	       (a->data ? b->data == a->data + length : !b->data) && length < VOLD_MAX_IO;
}

int overlay_drain(struct overlay *ov, const struct overlay_sink *sink)
{
	for (uint32_t i = 1; i <= ov->nnodes;) {
		struct node *first = &ov->nodes[i];
		size_t length = VOLD_BLOCK;
		int rc;

		for (i++; i <= ov->nnodes && continues(first, &ov->nodes[i], length); i++)
			length += VOLD_BLOCK;
		rc = sink->write(sink->ctx, first->block * VOLD_BLOCK, length, first->data);
		if (rc == 0 && (i > ov->nnodes || ov->nodes[i].epoch != first->epoch))
			rc = sink->barrier(sink->ctx);
		if (rc)
			return rc;
	}
	return 0;
}
