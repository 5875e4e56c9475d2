/* SPDX-License-Identifier: Apache-2.0 */
/* Socket options by table, and classic filters; used by sock_common.c. */
#ifndef FERRY_CHECKPOINT_SOCK_OPTIONS_H
#define FERRY_CHECKPOINT_SOCK_OPTIONS_H

#include "runtime/checkpoint/sock_common.h"

/* Names of all options that a connected TCP socket of this family may have; how many. */
#define SOCK_OPTIONS_MAX 128
struct sock_option_id {
	int level, name;
};
size_t sock_options_of_connection(int family, struct sock_option_id *out, size_t cap);

/* All options the kernel gives, into c->options; family, type, protocol are set.
 * `unconnected`: also those that mean something in states CLOSE and LISTEN only. */
void sock_options_dump(int fd, bool unconnected, Cks__Common *c);
void sock_option_free(Cks__Option *m);
/* The same as the number of a set, which sock_options_send_sets() must send before the
 * socket's message goes. Any thread. */
void sock_options_dump_set(int fd, bool unconnected, Cks__Common *c);
/* Sends the sets that are new (main thread). */
int sock_options_send_sets(struct dump *d, struct error *err);
/* The next attempt has another stream. */
void sock_options_forget_sent(void);

/* Destination: a set has come; m is kept. */
int sock_options_receive_set(Cks__Spill *m, struct error *err);
/* Sets those that differ from what fd has, which must be fresh where c names a set. */
int sock_options_load(int fd, const Cks__Common *c, struct error *err);

/* Classic filter and its lock. -ENOTSUP: an eBPF one. */
int sock_filter_dump(int fd, Cks__Common *c, struct error *err);
int sock_filter_load(int fd, const Cks__Common *c, struct error *err);

#endif
