/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that nothing waits in, read on the source by one pass; see sock_idle.c. */
#ifndef FERRY_CHECKPOINT_SOCK_IDLE_H
#define FERRY_CHECKPOINT_SOCK_IDLE_H

#include "runtime/checkpoint/sock_common.h"

/* From so many TCP sockets of the container on it is done; tests set it. */
extern size_t sock_idle_enough;

/* Pre-copy, where the container has `sockets` of them: loads the means, which takes some
 * milliseconds. -EOPNOTSUPP: this kernel cannot. */
int sock_idle_load(size_t sockets);
/* Frozen, lo's gate closed: the pass (d NULL: in the caller's namespace). Whatever goes wrong,
 * only less is known. */
void sock_idle_read(struct dump *d);
/* Whether there may be connections that no descriptor leads to: false where the pass would
 * have seen them. */
bool sock_idle_orphans_possible(void);
/* Whether the pass has seen `o`. */
bool sock_idle_has(const struct ofd *o);
/* Its message, appended to body: 1; 0: it must be read in another way. In the main thread. */
int sock_idle_dump(struct dump *d, const struct ofd *o, struct buf *body, struct error *err);
/* Forgets what the pass saw. */
void sock_idle_forget(void);
/* The means go too. */
void sock_idle_unload(void);

/* For tests: what the last pass saw of the options of `o`, appended. Sockets with the same bytes
 * have the same options. False: it was not seen. */
bool sock_idle_key(const struct ofd *o, struct buf *key);

#endif
