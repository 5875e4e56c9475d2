/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP server: libmicrohttpd with a thread per connection on a listening socket that
 * the caller made. It parses requests, finds the route, runs the handler and sends what
 * that one replied. Nothing here knows what a container is.
 */
#ifndef FERRY_API_SERVER_H
#define FERRY_API_SERVER_H

#include <stddef.h>

#include "api/request.h"

struct server_config {
	struct fabric *fabric;
	const struct route *const *tables; /* each ends with a row of NULLs; looked at in order */
	size_t ntables;
	unsigned int connections; /* at most so many at a time; 0: 8192 */
};

/* Serves on a listening stream socket, which is taken over. */
int server_start(const struct server_config *config, int listen_fd, struct server **out,
		 struct error *err);

/*
 * Takes no more connections, ends streams and hijacked connections, waits up to
 * grace_ms for requests in work. True where all of them ended: only then the fabric may
 * be closed and the server freed (which this did).
 */
bool server_stop(struct server *s, int grace_ms);

/* For streams: keeps server_stop() waiting. */
void server_hold(struct server *s);
void server_release(struct server *s);

#endif
