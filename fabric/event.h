/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events of one daemon, in the form of the Docker Engine API's GET /events:
 *
 *	{"Type":"container","Action":"start","Actor":{"ID":"…","Attributes":{"name":"db"}},
 *	 "scope":"local","time":1764348000,"timeNano":1764348000123456789,
 *	 "status":"start","id":"…","from":"IMAGE"}            (the last line: containers only)
 *
 * Publishing never waits: a bounded history is kept, and every subscriber has a bounded
 * queue; one that does not keep up is dropped and told so.
 */
#ifndef FERRY_FABRIC_EVENT_H
#define FERRY_FABRIC_EVENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct event_bus;
struct event_sub;

/* `history`: events kept for replay; `queue`: events a subscriber may lag. 0: 1024 each. */
struct event_bus *event_bus_new(size_t history, size_t queue);

/* Subscribers that wait are woken and told the end. They must all be unsubscribed before. */
void event_bus_free(struct event_bus *b);

/* Ends all subscriptions: event_next() gives 0 once its queue is empty. For shutdown. */
void event_bus_shutdown(struct event_bus *b);

/*
 * Publishes. `attributes` (borrowed, may be NULL): an object of strings; other values are
 * turned into JSON text. Time is now. Never blocks on a subscriber, may be called from any
 * thread. The event's timeNano, which is unique and grows.
 */
int64_t event_publish(struct event_bus *b, const char *type, const char *action,
		      const char *actor_id, json_t *attributes);

/*
 * Subscribes. `filters` (borrowed, may be NULL): Docker's form, {"type":["container"],
 * "event":[…],"container":[id or name],"image":…,"label":["k","k=v"], "volume":…,"network":…,
 * "daemon":…,"scope":…}; or with {"type":{"container":true}} as old clients send it. Kinds are
 * and-ed, values of one kind or-ed. -EINVAL for an unknown kind.
 * since_ns: replays kept events from that time on (CLOCK_REALTIME); 0: none.
 * until_ns: ends there; 0: never.
 */
int event_subscribe(struct event_bus *b, json_t *filters, int64_t since_ns, int64_t until_ns,
		    struct event_sub **out, struct error *err);

/*
 * The next event (a copy of the caller's own), waiting for at most timeout_ns (< 0: for ever).
 * 1: *event is set; 0: the end (until reached, shutdown); -ETIMEDOUT: none yet, call again;
 * -EOVERFLOW: this subscriber was too slow and has been dropped.
 */
int event_next(struct event_sub *sub, int64_t timeout_ns, json_t **event);

/* Ends it. Not while event_next() runs in another thread: event_cancel() that first. */
void event_unsubscribe(struct event_sub *sub);

/* Makes a waiting or coming event_next() return 0. From any thread. */
void event_cancel(struct event_sub *sub);

#endif
