/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Auto-converge: a container that dirties memory faster than it can be sent gets less
 * CPU time, step by step, through its cpu cgroup, until the migration is over.
 *
 * The steps are parts of what it used before, not of what the host has: a program of one
 * thread on 64 processors would not notice a limit of six. A limit that the container has
 * of its own is never raised.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "runtime/checkpoint/control.h"
#include "runtime/checkpoint/core.h"

#define LEAST_US 1000 /* the kernel's least quota */

static const int steps[] = { 30, 50, 70, 90, 95 };

/* Where files of the container's cpu cgroup are: beside the v2 freezer, or in a hierarchy
 * of v1's; NULL: nowhere. */
static char *find_file(const struct dump *d, const char *v1_folder, const char *name)
{
	const char *rel = strstr(d->cg.path, "/freezer/");

	for (size_t i = 0; d->cg.v1 && rel && i < 2; i++) {
		CLEANUP_FREE char *path =
			i ? str_format("/sys/fs/cgroup/cpu,cpuacct/%s/%s", rel + 9, name)
			  : str_format("/sys/fs/cgroup/%s/%s/%s", v1_folder, rel + 9, name);

		if (access(path, R_OK) == 0)
			return TAKE_PTR(path);
	}
	return d->cg.v1 ? NULL : str_format("%s/%s", d->cg.path, name);
}

/* CPU time that the container has used, in nanoseconds; 0: unknown. */
static uint64_t used_ns(const struct dump *d)
{
	CLEANUP_FREE char *path = find_file(d, "cpuacct", d->cg.v1 ? "cpuacct.usage" : "cpu.stat");
	CLEANUP_FREE char *text = NULL;
	const char *p;

	if (!path || file_read(path, 4096, &text, NULL, NULL) < 0)
		return 0;
	if (d->cg.v1)
		return strtoull(text, NULL, 10);
	p = strstr(text, "usage_usec ");
	return p ? strtoull(p + 11, NULL, 10) * 1000 : 0;
}

void throttle_begin(struct dump *d)
{
	d->cpu_used_ns = used_ns(d);
	d->cpu_since_ns = clock_mono_ns();
}

/* The file that limits, and what is in it: the limit and its period in microseconds. */
static bool find_limit(struct dump *d, double *own, double *period)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FREE char *file = find_file(d, "cpu", d->cg.v1 ? "cpu.cfs_quota_us" : "cpu.max");

	if (!file || access(file, W_OK) < 0 || file_read(file, 128, &text, NULL, NULL) < 0)
		return false;
	text[strcspn(text, "\n")] = '\0';
	*own = strtod(text, NULL); /* "max 100000", "-1": none */
	*period = strchr(text, ' ') ? strtod(strchr(text, ' '), NULL) : 0;
	if (d->cg.v1) {
		CLEANUP_FREE char *path = find_file(d, "cpu", "cpu.cfs_period_us");
		CLEANUP_FREE char *us = NULL;

		if (!path || file_read(path, 64, &us, NULL, NULL) < 0)
			return false;
		*period = strtod(us, NULL);
	}
	if (*period <= 0)
		return false;
	if (!d->cpu_file) {
		d->cpu_file = TAKE_PTR(file);
		d->cpu_saved = TAKE_PTR(text);
		d->cpu_own = *own;
	}
	*own = d->cpu_own;
	return true;
}

void throttle_step(struct dump *d)
{
	CLEANUP_FREE char *value = NULL;
	double own, period, quota;
	size_t next = 0;

	while (next < sizeof(steps) / sizeof(steps[0]) && steps[next] <= d->throttle)
		next++;
	if (next == sizeof(steps) / sizeof(steps[0]) || !find_limit(d, &own, &period))
		return;
	if (d->cpu_rate <= 0) {
		/* Before the first step, and so of the container's own free will. */
		d->cpu_rate = (double)(used_ns(d) - d->cpu_used_ns) /
			      (double)(clock_mono_ns() - d->cpu_since_ns);
		if (!d->cpu_used_ns || d->cpu_rate <= 0)
			d->cpu_rate = (double)sysconf(_SC_NPROCESSORS_ONLN);
	}
	quota = d->cpu_rate * period;
	if (own > 0 && own < quota)
		quota = own;
	d->throttle = steps[next];
	quota = quota * (100 - d->throttle) / 100;
	quota = quota < LEAST_US ? LEAST_US : quota;
	value = d->cg.v1 ? str_format("%.0f", quota) : str_format("%.0f %.0f", quota, period);
	file_write_str(d->cpu_file, value, NULL);
	control_event(d->control,
		      json_pack("{s:s,s:i}", "event", "throttle", "percent", d->throttle));
}

void throttle_end(struct dump *d)
{
	if (d->throttle && d->cpu_file && d->cpu_saved)
		file_write_str(d->cpu_file, d->cpu_saved, NULL);
	d->throttle = 0;
	d->cpu_rate = 0;
	free(d->cpu_file);
	free(d->cpu_saved);
	d->cpu_file = d->cpu_saved = NULL;
}
