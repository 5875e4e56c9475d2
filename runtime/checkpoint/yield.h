/* SPDX-License-Identifier: Apache-2.0 */
/* How much of the processors the engine takes while the container runs: yield.c. */
#ifndef FERRY_CHECKPOINT_YIELD_H
#define FERRY_CHECKPOINT_YIELD_H

#include <stdint.h>

struct yield;
/* Who comes first on this host: whatever else runs, nobody, or the engine. */
enum yield_to { YIELD_TO_ALL, YIELD_TO_NONE, YIELD_FIRST };
/*
 * Made at the first YIELD_TO_ALL; before that the rest does nothing but to set the nice value.
 * Never fails, because all that can be lost is politeness.
 */
void yield_set(struct yield **y, enum yield_to to);
/*
 * So many bytes were moved: called now and then while memory is copied. A copy that hardly moves
 * because it yields does so no longer.
 */
void yield_progress(struct yield *y, uint64_t bytes);
/* How long this thread has been able to run and did not get a processor. */
int64_t yield_waited_ns(void);
/* Back to where the process was before; NULL is fine. */
void yield_free(struct yield *y);

#endif
