/* SPDX-License-Identifier: Apache-2.0 */
/* docker stats: one sample of a container's control group, v1 or v2, in Docker's shape. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/container/internal.h"
#include "runtime/container/jsonlog.h"

static int64_t number(const char *text)
{
	return text && *text ? (!strncmp(text, "max", 3) ? INT64_MAX : strtoll(text, NULL, 10)) : 0;
}

/* "key value" lines into an object. */
static json_t *table(const char *text)
{
	CLEANUP_FREE char *copy = str_dup(text ? text : "");
	json_t *j = json_object();

	for (char *save = NULL, *l = strtok_r(copy, "\n", &save); l;
	     l = strtok_r(NULL, "\n", &save)) {
		char *sp = strchr(l, ' ');

		if (!sp)
			continue;
		*sp = '\0';
		json_set_int(j, l, strtoll(sp + 1, NULL, 10));
	}
	return j;
}

static int64_t read_number(const char *controller, const char *path, const char *file)
{
	CLEANUP_FREE char *text = group_read(controller, path, file);

	return number(text);
}

/* The whole machine's, user to softirq: the docker CLI divides by it. */
static int64_t host_cpu_ns(int64_t tick_ns)
{
	CLEANUP_FREE char *stat = NULL;
	int64_t sum = 0;
	char *p;

	if (file_read("/proc/stat", 1 << 20, &stat, NULL, NULL) < 0 || !str_starts(stat, "cpu "))
		return 0;
	p = stat + 4;
	for (int i = 0; i < 7; i++)
		sum += strtoll(p, &p, 10);
	return sum * tick_ns;
}

static json_t *cpu_stats(const char *path)
{
	CLEANUP_FREE char *usage = group_read("cpuacct", path, "cpuacct.usage");
	CLEANUP_FREE char *split = group_read("cpuacct", path, "cpuacct.stat"), *text = NULL;
	CLEANUP_JSON json_t *t = NULL, *s = NULL;
	int64_t total, user, sys, tick_ns = 1000000000 / sysconf(_SC_CLK_TCK);

	if (usage) {
		total = number(usage);
		s = table(split);
		user = json_int(s, "user", 0) * tick_ns;
		sys = json_int(s, "system", 0) * tick_ns;
		text = group_read("cpu", path, "cpu.stat");
	} else {
		text = group_read("", path, "cpu.stat");
		s = table(text);
		total = json_int(s, "usage_usec", 0) * 1000;
		user = json_int(s, "user_usec", 0) * 1000;
		sys = json_int(s, "system_usec", 0) * 1000;
	}
	t = table(text);
	return json_pack("{s:{s:I,s:I,s:I},s:I,s:i,s:{s:I,s:I,s:I}}", "cpu_usage", "total_usage",
			 (json_int_t)total, "usage_in_usermode", (json_int_t)user,
			 "usage_in_kernelmode", (json_int_t)sys, "system_cpu_usage",
			 (json_int_t)host_cpu_ns(tick_ns), "online_cpus",
			 (int)sysconf(_SC_NPROCESSORS_ONLN), "throttling_data", "periods",
			 (json_int_t)json_int(t, "nr_periods", 0), "throttled_periods",
			 (json_int_t)json_int(t, "nr_throttled", 0), "throttled_time",
			 (json_int_t)json_int(t, "throttled_time", 0) +
				 (json_int_t)json_int(t, "throttled_usec", 0) * 1000);
}

static json_t *memory_stats(const char *path)
{
	CLEANUP_FREE char *v1 = group_read("memory", path, "memory.stat"), *v2 = NULL;
	int64_t usage, max, limit, host = sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);

	if (v1) {
		usage = read_number("memory", path, "memory.usage_in_bytes");
		max = read_number("memory", path, "memory.max_usage_in_bytes");
		limit = read_number("memory", path, "memory.limit_in_bytes");
	} else {
		v2 = group_read("", path, "memory.stat");
		usage = read_number("", path, "memory.current");
		max = read_number("", path, "memory.peak");
		limit = read_number("", path, "memory.max");
	}
	if (limit <= 0 || limit > host)
		limit = host;
	return json_pack("{s:I,s:I,s:I,s:o}", "usage", (json_int_t)usage, "max_usage",
			 (json_int_t)max, "limit", (json_int_t)limit, "stats", table(v1 ? v1 : v2));
}

static json_t *blkio_stats(const char *path)
{
	CLEANUP_FREE char *text = group_read("blkio", path, "blkio.throttle.io_service_bytes");
	json_t *list = json_array();
	int major, minor;
	long long value;
	char op[32];

	for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
		if (sscanf(p, "%d:%d %31s %lld", &major, &minor, op, &value) == 4)
			json_array_append_new(list, json_pack("{s:i,s:i,s:s,s:I}", "major", major,
							      "minor", minor, "op", op, "value",
							      (json_int_t)value));
	return json_pack("{s:o}", "io_service_bytes_recursive", list);
}

static json_t *pids_stats(const char *path)
{
	CLEANUP_FREE char *v1 = group_read("pids", path, "pids.current");
	const char *where = v1 ? "pids" : "";

	return json_pack("{s:I,s:I}", "current",
			 (json_int_t)read_number(where, path, "pids.current"), "limit",
			 (json_int_t)read_number(where, path, "pids.max"));
}

int container_stats(struct container_manager *m, const char *id, json_t **out, struct error *err)
{
	struct container *c = container_get(m, id, err);
	CLEANUP_FREE char *group = container_cgroup(m, id), *now = time_format(clock_real_ns());
	bool running;
	json_t *j;

	if (!c)
		return -ENOENT;
	j = json_object();
	pthread_mutex_lock(&m->lock);
	running = c->status == RUNNING;
	json_set_str(j, "name", json_str(c->doc, "name", ""));
	pthread_mutex_unlock(&m->lock);
	container_put(m, c);
	json_set_str(j, "id", id);
	json_set_str(j, "read", now);
	json_object_set_new(j, "cpu_stats", running ? cpu_stats(group) : json_object());
	json_object_set_new(j, "memory_stats", running ? memory_stats(group) : json_object());
	json_object_set_new(j, "blkio_stats", running ? blkio_stats(group) : json_object());
	json_object_set_new(j, "pids_stats", running ? pids_stats(group) : json_object());
	*out = j;
	return 0;
}
