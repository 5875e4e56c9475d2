/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container that is restored with other addresses than it had: what each address of a
 * socket becomes, and which connections end.
 *
 *   its own (an old address, one its namespace has now, loopback)   kept, both ends moved
 *   anybody else's                                                  kept, or dropped: reset
 *
 * `r` may be NULL, or restored without any of this: then nothing changes.
 */
#ifndef FERRY_CHECKPOINT_SOCK_ADDRESSES_H
#define FERRY_CHECKPOINT_SOCK_ADDRESSES_H

#include <jansson.h>

#include "runtime/checkpoint/sock_common.h"

struct addresses;

/* "connections" and "addresses" of the request `prepare`. *out NULL: nothing changes. */
int sock_addresses_parse(json_t *args, struct addresses **out, struct error *err);
/* NULL is fine. */
void sock_addresses_free(struct addresses *a);

/* Gives every address of the message that is an old one its new value. */
void sock_common_move(struct restore *r, Cks__Common *c);
void sock_options_move(struct restore *r, Cks__Option *const *o, size_t n);
void sock_address_move(struct restore *r, Cks__Address *a);
/* True where a connection to this peer (not yet moved) does not come back. */
bool sock_peer_dropped(struct restore *r, const Cks__Address *peer);

#endif
