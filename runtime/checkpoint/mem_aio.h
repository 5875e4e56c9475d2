/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts of io_setup(2): what the core asks of mem_aio.c. */
#ifndef FERRY_CHECKPOINT_MEM_AIO_H
#define FERRY_CHECKPOINT_MEM_AIO_H

#include "runtime/checkpoint/object.h"

/*
 * Waits until no asynchronous request of the tasks is in flight. 1: they have contexts of
 * io_setup(2), 0: none; -EAGAIN with err set: some requests did not end in time.
 */
int dump_aio_idle(struct dump *d, int64_t bound_ns, struct error *err);

#endif
