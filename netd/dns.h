/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names for containers. dns.c answers one message (pure); dns-server.c has the sockets
 * on 127.0.0.11:53 inside the containers' namespaces and one thread that serves them all.
 */
#ifndef FERRY_NETD_DNS_H
#define FERRY_NETD_DNS_H

#include <stddef.h>
#include <stdint.h>

#include "netd/netd.h"

#define DNS_MESSAGE_MAX 65535
#define DNS_TTL		600 /* seconds; as Docker's. Addresses survive a move */

enum dns_verdict { DNS_ANSWER, DNS_FORWARD, DNS_IGNORE };

/* Asked for the addresses of a name, or the names of an address; see netd_lookup_fn. */
typedef int dns_lookup_fn(void *ctx, const char *name, json_t **answers);

/*
 * Reads a query. DNS_ANSWER: *out (caller frees) is the reply, cut to max_len with TC set
 * where it is longer. DNS_FORWARD: not ours, ask upstream. DNS_IGNORE: not a query.
 * Malformed and unsupported queries get FORMERR, NOTIMP.
 */
enum dns_verdict dns_answer(const uint8_t *query, size_t len, size_t max_len, dns_lookup_fn *lookup,
			    void *ctx, uint8_t **out, size_t *out_len);

/* A reply without records to `query`, with that RCODE (SERVFAIL: no upstream answered). */
int dns_error_reply(const uint8_t *query, size_t len, int rcode, uint8_t **out, size_t *out_len);

struct dns_server;

/* resolv_conf NULL: /etc/resolv.conf; it is read again when it changes. */
int dns_server_start(const char *resolv_conf, struct dns_server **out, struct error *err);
void dns_server_stop(struct dns_server *s);
void dns_server_set_resolver(struct dns_server *s, netd_lookup_fn *fn, void *ctx);

/*
 * Serves the namespace of a container. networks: array of ids, asked in order. dns: array
 * of upstream addresses, or NULL for the host's. Both are copied. A second call replaces
 * networks and dns.
 */
int dns_server_add(struct dns_server *s, const char *id, const char *netns, const json_t *networks,
		   const json_t *dns, struct error *err);
void dns_server_remove(struct dns_server *s, const char *id);

#endif
