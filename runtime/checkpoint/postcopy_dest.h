/* SPDX-License-Identifier: Apache-2.0 */
/* What the two files of post-copy at the destination share; postcopy.h is the contract. */
#ifndef FERRY_CHECKPOINT_POSTCOPY_DEST_H
#define FERRY_CHECKPOINT_POSTCOPY_DEST_H

#include <pthread.h>
#include <stdatomic.h>

#include "runtime/checkpoint/postcopy.h"

struct late_mm { /* the memory of a running process */
	int uffd;
	uint32_t number; /* at the guard */
	struct late_space space;
	bool dead; /* the process is gone, or has all its pages */
};

struct waiting { /* a thread waits for this page */
	uint32_t number, space, id;
	uint64_t src, addr;
	int64_t since_ns;
};

struct late_key { /* a process or an object of the source */
	uint32_t space, id;
	struct pageset asked;
	struct pageset missing; /* of an object; a process's is in its struct late_mm */
	uint64_t nmissing;
};

/* --verify: what a late page must be. */
struct expected {
	uint32_t space, id;
	uint64_t src, hash;
};

struct late_dest {
	struct restore *r;
	pthread_mutex_t lock; /* of all that the two threads share */
	struct late_mm **mms;
	size_t nmms;
	uint32_t numbers;
	struct waiting *waits;
	size_t nwaits, waits_cap;
	struct late_key *keys;
	size_t nkeys;
	struct expected *expected;
	size_t nexpected;
	bool sorted;

	struct late_guard *guard;
	char *note;
	pthread_t faults, arrivals;
	bool begun;
	int wake, ended; /* eventfds: for the thread of faults; for the engine */
	atomic_uint_fast64_t took;
	atomic_bool complete, failed, over;
	int result;
	struct error err;
	int64_t begin_ns;
	uint32_t *latencies; /* microseconds */
	size_t nlatencies;
	struct late_stats stats;
	struct buf wants;
};

/* Made where it is not there yet. */
struct late_key *late_key(struct late_dest *l, uint32_t space, uint32_t id);
/* Takes over the userfaultfd. */
struct late_mm *late_mm_new(struct late_dest *l, int uffd);

#endif
