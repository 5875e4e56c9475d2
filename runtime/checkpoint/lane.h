/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes: further connections for the content of private memory, because one thread on either side
 * of one connection fills neither a fast link nor more than one processor.
 *
 *   main connection  Tree Shared… Layout… │ LaneGo(k)  Pages…           │ zero pages  RoundEnd
 *   each lane                             │            Pages… LaneEnd(k)│
 *
 * A lane begins with Lane (the migration's token, its number). It carries nothing but pages with
 * content and LaneEnd. The destination takes pages of turn k from a lane after it has read
 * LaneGo(k) on the main connection, so that their processes and areas are there; and anything but
 * pages from the main connection after every lane has come to LaneEnd(k): what belongs to different
 * rounds is never under way together, and a page of a round never lands over one of a later round.
 * What is written while a round is sent is in the next one, whatever order its pages arrive in.
 *
 * A lane that fails on either side fails the migration. Files have no lanes.
 */
#ifndef FERRY_CHECKPOINT_LANE_H
#define FERRY_CHECKPOINT_LANE_H

#include "runtime/checkpoint/core.h"

#define LANES_MAX 15u /* beside the main connection */

/* --- source: lane_source.c ---------------------------------------------------------------- */
/* How many lanes `args` of connect ask for: "streams" less one, or "lane_fds"; else as many as
 * are of use here. */
unsigned int lanes_wanted(json_t *args);
/* Connects as many as the destination takes. `ctx` NULL: "lane_fds" of args. */
int lanes_connect(struct dump *d, json_t *args, struct tls_ctx *ctx, unsigned int n,
		  struct error *err);
/*
 * Sends the pages with content that are noted in t->runs of all tasks, over all connections. 1:
 * sent; 0: not worth it, nothing was sent; -errno.
 */
int lanes_send(struct dump *d, struct error *err);
/* What all connections have sent and received, the main one included; `plain`: unpacked. */
uint64_t lanes_bytes(const struct dump *d, bool plain);
/* stream_patience() of all connections. */
void lanes_patience(struct dump *d, unsigned int seconds);
/* Ends the threads, closes the connections. NULL is fine. */
void lanes_out_free(struct lanes_out *l);

/* --- destination: lane_dest.c ------------------------------------------------------------- */
/* How many of the `wanted` lanes this side takes; they may connect from now on. Takes over
 * r->listen_fd, if there is one. */
unsigned int lanes_expect(struct restore *r, unsigned int wanted);
/* LaneGo has come. */
int lanes_go(struct restore *r, const Ck__RoundEnd *m, struct error *err);
/* Waits until each lane has ended its turn. At once where none is under way. */
int lanes_wait(struct restore *r, struct error *err);
/* Ends the threads, closes the connections. */
void lanes_in_free(struct restore *r);

#endif
