/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the Docker Engine API has and ferry does not: each is answered with 501 and a
 * sentence that names the way out, rather than with a 404 that reads as a mistake.
 */
#include "api/docker/docker.h"

#define NO_BUILD                                                                                   \
	"building images is not built into ferry yet; build elsewhere and bring the image with "   \
	"'docker load'"
#define NO_SWARM                                                                                   \
	"services, secrets and configs are not built yet; ferry's own cluster is made with "       \
	"'ferry cluster init' and 'ferry host join'"
#define NO_PLUGINS                                                                                 \
	"plugins are not built yet; volumes come with drivers rbd and local, networks with "       \
	"overlay"
#define REFUSE(m, p, why)                                                                          \
	{                                                                                          \
		.method = (m), .pattern = (p), .refusal = (why)                                    \
	}

const struct route docker_refused_routes[] = {
	REFUSE("GET", "/containers/{}/attach/ws",
	       "attaching by WebSocket is not built yet; use POST /containers/ID/attach"),
	REFUSE("POST", "/build", NO_BUILD),
	REFUSE("POST", "/build/prune", NO_BUILD),
	REFUSE("POST", "/build/cancel", NO_BUILD),
	REFUSE("POST", "/session", NO_BUILD),
	REFUSE("POST", "/grpc", NO_BUILD),
	REFUSE("GET", "/plugins/privileges", NO_PLUGINS),
	REFUSE("POST", "/plugins/pull", NO_PLUGINS),
	REFUSE("POST", "/plugins/create", NO_PLUGINS),
	REFUSE("GET", "/swarm", NO_SWARM),
	REFUSE("GET", "/swarm/unlockkey", NO_SWARM),
	REFUSE("POST", "/swarm/{}", NO_SWARM),
	REFUSE("GET", "/nodes", NO_SWARM),
	REFUSE("GET", "/nodes/{}", NO_SWARM),
	REFUSE("POST", "/nodes/{}/update", NO_SWARM),
	REFUSE("DELETE", "/nodes/{}", NO_SWARM),
	REFUSE("GET", "/services", NO_SWARM),
	REFUSE("POST", "/services/create", NO_SWARM),
	REFUSE("GET", "/services/{}", NO_SWARM),
	REFUSE("POST", "/services/{}/update", NO_SWARM),
	REFUSE("GET", "/services/{}/logs", NO_SWARM),
	REFUSE("DELETE", "/services/{}", NO_SWARM),
	REFUSE("GET", "/tasks", NO_SWARM),
	REFUSE("GET", "/tasks/{}", NO_SWARM),
	REFUSE("GET", "/tasks/{}/logs", NO_SWARM),
	REFUSE("GET", "/secrets", NO_SWARM),
	REFUSE("POST", "/secrets/create", NO_SWARM),
	REFUSE("GET", "/secrets/{}", NO_SWARM),
	REFUSE("DELETE", "/secrets/{}", NO_SWARM),
	REFUSE("GET", "/configs", NO_SWARM),
	REFUSE("POST", "/configs/create", NO_SWARM),
	REFUSE("GET", "/configs/{}", NO_SWARM),
	REFUSE("DELETE", "/configs/{}", NO_SWARM),
	{ 0 },
};
