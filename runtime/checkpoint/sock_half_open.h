/* SPDX-License-Identifier: Apache-2.0 */
/* Handshakes on their way, on the destination; see sock_half_open.c. */
#ifndef FERRY_CHECKPOINT_SOCK_HALF_OPEN_H
#define FERRY_CHECKPOINT_SOCK_HALF_OPEN_H

#include "runtime/checkpoint/sock_common.h"

/* The last packets of these may come from now on (r NULL: in the caller's namespace). What
 * this kernel cannot do is logged. */
int sock_half_open_restore(struct restore *r, const Cks__HalfOpen *h, struct error *err);
/* This process is about to end: another one holds the means for some seconds. */
void sock_half_open_leave(void);
/* Takes the means back. */
void sock_half_open_release(void);

#endif
