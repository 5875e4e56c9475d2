/* SPDX-License-Identifier: Apache-2.0 */
/* NUMA policies of single memory areas (mbind(2)). */
#ifndef FERRY_CHECKPOINT_MEM_POLICY_H
#define FERRY_CHECKPOINT_MEM_POLICY_H

#include "runtime/checkpoint/core.h"

/*
 * Source: notes which areas have a policy, in t->policies. In the last round only of processes
 * that had some before. Without BPF nothing is seen.
 */
void policy_look(struct dump *d, struct task *t);
/* Puts them into the message; *room (to be freed) holds what they need. */
void policy_dump(const struct task *t, Ck__Layout *m, void **room);
/* Destination, the areas are mapped. */
void policy_restore(struct task *t, const Ck__Layout *l);

#endif
