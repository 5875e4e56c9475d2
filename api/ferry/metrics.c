/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics: a few gauges in Prometheus' text format. */
#include <string.h>

#include "api/ferry/ferry.h"
#include "api/version.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

static void gauge(struct buf *b, const char *name, const char *what)
{
	buf_addf(b, "# HELP %s %s\n# TYPE %s gauge\n", name, what, name);
}

static void add_containers(struct buf *b, const json_t *rows)
{
	static const char *const states[] = { "created", "running", "paused", "exited" };
	json_t *row;
	size_t i, k;

	gauge(b, "ferry_containers", "Containers of the cluster by state.");
	for (k = 0; k < sizeof(states) / sizeof(states[0]); k++) {
		int n = 0;

		json_array_foreach (rows, i, row)
			n += !strcmp(json_str(row, "State", ""), states[k]);
		buf_addf(b, "ferry_containers{state=\"%s\"} %d\n", states[k], n);
	}
}

static void add_hosts(struct buf *b, const json_t *hosts)
{
	json_t *h;
	size_t i;
	int up = 0;

	json_array_foreach (hosts, i, h)
		up += !strcmp(json_str(h, "State", ""), "up");
	gauge(b, "ferry_hosts", "Hosts of the cluster by state.");
	buf_addf(b, "ferry_hosts{state=\"up\"} %d\nferry_hosts{state=\"down\"} %d\n", up,
		 (int)json_array_size(hosts) - up);
}

int ferry_metrics(struct request *req, struct error *err)
{
	CLEANUP_JSON json_t *rows = NULL;
	CLEANUP_JSON json_t *hosts = NULL;
	CLEANUP_JSON json_t *migrations = NULL;
	CLEANUP_BUF struct buf b = { 0 };
	int r = fabric_container_list(req->fabric, true, NULL, &rows, err);

	if (!r)
		r = fabric_host_list(req->fabric, &hosts, err);
	if (!r)
		r = fabric_migration_list(req->fabric, &migrations, err);
	if (r < 0)
		return r;
	gauge(&b, "ferry_info", "Version of the daemon.");
	buf_addf(&b, "ferry_info{version=\"" FERRY_VERSION "\"} 1\n");
	add_containers(&b, rows);
	add_hosts(&b, hosts);
	gauge(&b, "ferry_migrations", "Migrations under way from this host.");
	buf_addf(&b, "ferry_migrations %zu\n", json_array_size(migrations));
	return reply_text(req, 200, "text/plain; version=0.0.4; charset=utf-8", b.data, b.len);
}
