/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Auto-converge: a container that dirties memory faster than it can be sent gets less
 * CPU time, step by step, through its cpu cgroup, until the migration is over.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/control.h"
#include "runtime/checkpoint/core.h"

#define PERIOD_US 20000

/* The file that limits: cpu.max beside the v2 freezer, or the v1 cpu hierarchy's. */
static bool find_file(struct dump *d)
{
	const char *rel = strstr(d->cg.path, "/freezer/");
	struct error err = { 0 };
	char *text = NULL;

	if (d->cpu_file)
		return true;
	d->cpu_file = d->cg.v1 && rel
			      ? str_format("/sys/fs/cgroup/cpu/%s/cpu.cfs_quota_us", rel + 9)
			      : str_format("%s/cpu.max", d->cg.path);
	if (access(d->cpu_file, W_OK) < 0 || file_read(d->cpu_file, 128, &text, NULL, &err) < 0) {
		free(d->cpu_file);
		d->cpu_file = NULL;
		return false;
	}
	text[strcspn(text, "\n")] = '\0';
	free(d->cpu_saved);
	d->cpu_saved = text;
	return true;
}

void throttle_step(struct dump *d)
{
	CLEANUP_FREE char *value = NULL;
	long quota;

	if (d->throttle >= 90 || !find_file(d))
		return;
	d->throttle = d->throttle ? d->throttle + 20 : 30;
	d->throttle = d->throttle > 90 ? 90 : d->throttle;
	quota = sysconf(_SC_NPROCESSORS_ONLN) * PERIOD_US * (100 - d->throttle) / 100;
	if (d->cg.v1)
		value = str_format("%ld", quota * (100000 / PERIOD_US));
	else
		value = str_format("%ld %d", quota, PERIOD_US);
	file_write_str(d->cpu_file, value, NULL);
	control_event(d->control,
		      json_pack("{s:s,s:i}", "event", "throttle", "percent", d->throttle));
}

void throttle_end(struct dump *d)
{
	if (d->throttle && d->cpu_file && d->cpu_saved)
		file_write_str(d->cpu_file, d->cpu_saved, NULL);
	d->throttle = 0;
	free(d->cpu_file);
	free(d->cpu_saved);
	d->cpu_file = d->cpu_saved = NULL;
}
