/* SPDX-License-Identifier: Apache-2.0 */
/* The gate on the source's lo; see sock_gate.c. */
#ifndef FERRY_CHECKPOINT_SOCK_GATE_H
#define FERRY_CHECKPOINT_SOCK_GATE_H

#include "runtime/checkpoint/sock_common.h"

/* Loads and attaches it, open; once. d NULL: in the caller's namespace. 0 or -errno. */
int sock_gate_attach(struct dump *d, struct error *err);
/* From now on no packet goes out on lo, or again. Nothing where none is attached. */
void sock_gate_close(bool closed);
/* Once it is closed: waits until what was on its way has arrived. */
void sock_gate_wait(void);
void sock_gate_detach(void);
/* Takes away what an engine that was killed has left attached, where this one has nothing. */
void sock_gate_open_left(struct dump *d);

#endif
