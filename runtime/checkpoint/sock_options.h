/* SPDX-License-Identifier: Apache-2.0 */
/* Socket options by table, and classic filters; used by sock_common.c. */
#ifndef FERRY_CHECKPOINT_SOCK_OPTIONS_H
#define FERRY_CHECKPOINT_SOCK_OPTIONS_H

#include "runtime/checkpoint/sock_common.h"

/* Appends all options the kernel gives to c->options; family, type, protocol are set.
 * `unconnected`: also those that mean something in states CLOSE and LISTEN only. */
void sock_options_dump(int fd, bool unconnected, Cks__Common *c);
/* Sets those that differ from what fd has. */
int sock_options_load(int fd, const Cks__Common *c, struct error *err);

/* Classic filter and its lock. -ENOTSUP: an eBPF one. */
int sock_filter_dump(int fd, Cks__Common *c, struct error *err);
int sock_filter_load(int fd, const Cks__Common *c, struct error *err);

#endif
