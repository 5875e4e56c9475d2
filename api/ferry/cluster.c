/* SPDX-License-Identifier: Apache-2.0 */
/* /ferry/v1/cluster and /ferry/v1/hosts: making a cluster, joining one, looking at it. */
#include "api/ferry/ferry.h"
#include "base/json.h"

#define TOKEN_TTL_MAX_S (30 * 86400)

static int reply(struct request *req, int r, int status, json_t *out)
{
	return r < 0 ? r : reply_json(req, status, out);
}

int ferry_cluster_info(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_cluster_info(req->fabric, &out, err);

	return reply(req, r, 200, out);
}

int ferry_cluster_init(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_cluster_init(req->fabric, &out, err);

	return reply(req, r, 201, out);
}

/* {"ttl_s": 3600} */
int ferry_cluster_token(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int64_t ttl_s = 3600;
	int r = json_want_int(req->json, "ttl_s", false, 1, TOKEN_TTL_MAX_S, &ttl_s, err);

	if (!r)
		r = fabric_cluster_token(req->fabric, ttl_s, &out, err);
	return reply(req, r, 201, out);
}

int ferry_host_list(struct request *req, struct error *err)
{
	json_t *out = NULL;
	int r = fabric_host_list(req->fabric, &out, err);

	return reply(req, r, 200, out);
}

/* {"address": "10.0.0.1", "token": "…"}: this host joins that cluster. */
int ferry_host_join(struct request *req, struct error *err)
{
	const char *address = NULL, *token = NULL;
	json_t *out = NULL;
	int r = json_want_str(req->json, "address", true, &address, err);

	if (!r)
		r = json_want_str(req->json, "token", true, &token, err);
	if (!r)
		r = fabric_cluster_join(req->fabric, address, token, &out, err);
	return reply(req, r, 200, out);
}
