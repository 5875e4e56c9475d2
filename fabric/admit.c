/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May a running container come to this host? Its memory has two bounds: what the kernel
 * still has (MemAvailable), and what the configuration gives to containers in all
 * ("memory_bytes"), of which those that run here use a part. What is on its way here counts
 * as it arrives. The processor must be able to hold every register the container may use.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "fabric/internal.h"

static int64_t memory_available(void)
{
	CLEANUP_FREE char *text = NULL;
	const char *p;

	if (file_read("/proc/meminfo", 65536, &text, NULL, NULL) < 0)
		return INT64_MAX;
	p = strstr(text, "MemAvailable:");
	return p ? strtoll(p + 13, NULL, 10) * 1024 : INT64_MAX;
}

int64_t memory_to_carry(struct fabric *f, const char *id)
{
	CLEANUP_JSON json_t *stats = NULL;
	const json_t *parts;

	if (container_stats(f->containers, id, &stats, NULL) < 0)
		return 0;
	parts = json_at(stats, "memory_stats.stats");
	return json_int(parts, "total_rss", json_int(parts, "anon", 0)) +
	       json_int(parts, "total_shmem", json_int(parts, "shmem", 0));
}

/* As `docker stats` counts: without page cache that nobody has used for a while. */
static int64_t container_memory_used(struct fabric *f, const char *id)
{
	CLEANUP_JSON json_t *stats = NULL;
	const json_t *memory, *parts;
	int64_t used, cache;

	if (container_stats(f->containers, id, &stats, NULL) < 0)
		return 0; /* just removed */
	memory = json_object_get(stats, "memory_stats");
	parts = json_object_get(memory, "stats");
	used = json_int(memory, "usage", 0);
	cache = json_int(parts, "total_inactive_file", json_int(parts, "inactive_file", 0));
	return used > cache ? used - cache : 0;
}

static int64_t memory_used(struct fabric *f)
{
	CLEANUP_JSON json_t *ids = NULL;
	int64_t used = 0;
	json_t *id;
	size_t i;

	if (container_list(f->containers, &ids, NULL) < 0)
		return 0;
	json_array_foreach (ids, i, id)
		used += container_memory_used(f, json_string_value(id));
	return used;
}

int memory_admit(struct fabric *f, int64_t need_bytes, struct error *err)
{
	int64_t have = memory_available(), used;

	if (need_bytes > have)
		return error_set(err, ENOMEM,
				 "host %s has %lld MiB of memory available, the container uses "
				 "%lld MiB; free some or choose another host",
				 f->host, (long long)(have >> 20), (long long)(need_bytes >> 20));
	if (!f->memory_bytes)
		return 0;
	used = memory_used(f);
	if (need_bytes > f->memory_bytes - used)
		return error_set(
			err, ENOMEM,
			"host %s gives %lld MiB of memory to containers, of which %lld MiB "
			"are in use, the container uses %lld MiB; stop containers there, "
			"raise \"memory_bytes\" in its /etc/ferry/ferry.json, or choose "
			"another host",
			f->host, (long long)(f->memory_bytes >> 20), (long long)(used >> 20),
			(long long)(need_bytes >> 20));
	return 0;
}

int cpu_admit(struct fabric *f, uint64_t xsave_mask, struct error *err)
{
	CLEANUP_JSON json_t *facts = host_facts();
	const char *text = json_str(facts, "xsave_mask", "");
	uint64_t here = 0;

	if (!str_starts(text, "0x") || str_to_u64x(text + 2, UINT64_MAX, &here) < 0 ||
	    !(xsave_mask & ~here))
		return 0;
	return error_set(err, EPROTO,
			 "the CPU of host %s lacks features the container may use (of its state "
			 "components %#llx, here are %#llx); choose another host",
			 f->host, (unsigned long long)xsave_mask, (unsigned long long)here);
}
