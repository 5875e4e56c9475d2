/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A background copy that yields. During pre-copy the containers of this host are what
 * counts, in the pause the engine is.
 *
 * Processes of different cpu cgroups compete by the weights of the groups alone, whatever
 * their nice values: so the engine gets a group of its own at the top of the hierarchy,
 * where the workloads' own trees begin, and its weight is changed. A tenth of what one
 * such tree has takes no more than a tenth of a processor from those who use all of it.
 * On an idle host it makes no difference. A copy that has to wait for processors most of
 * the time, and gets less than FLOOR through, yields no longer: a pre-copy has to come to
 * its end.
 *
 * The folder is removed at the end; one whose engine was killed is by the next engine.
 * Where there is no such hierarchy the nice value is what is left, for the process and
 * for its autogroup (sched(7): in one's own session it is the group's value that counts).
 */
#include "runtime/checkpoint/yield.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/str.h"

#define PREFIX "ferry-engine-"

#define FLOOR	(64ull << 20) /* bytes a second */
#define LOOK_NS 100000000ll

/* By enum yield_to. A group begins with a weight of 100 (v2), 1,024 shares (v1). */
static const struct {
	const char *weight, *shares;
	int nice;
} levels[] = { { "10", "102", 10 }, { "100", "1024", 0 }, { "10000", "102400", -20 } };

struct yield {
	char *folder; /* the engine's own cgroup; NULL: none */
	char *home;   /* and where it was before */
	bool v1;
	pthread_mutex_t lock;
	enum yield_to to;
	bool starved; /* once, and not again */
};

/* What a thread that copies has done since it last looked at how fast it goes. */
static _Thread_local struct {
	int64_t since_ns, waited_ns;
	uint64_t bytes;
} pace;

/* Where weights are: the root of a hierarchy with the cpu controller at work. */
static const char *find_root(bool *v1)
{
	static const char *const old[] = { "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct" };
	CLEANUP_FREE char *text = NULL;

	*v1 = true;
	for (size_t i = 0; i < sizeof(old) / sizeof(old[0]); i++) {
		CLEANUP_FREE char *path = str_format("%s/cgroup.procs", old[i]);

		if (access(path, W_OK) == 0)
			return old[i];
	}
	*v1 = false;
	if (file_read("/sys/fs/cgroup/cgroup.subtree_control", 4096, &text, NULL, NULL) < 0)
		return NULL;
	for (char *save, *w = strtok_r(text, " \n", &save); w; w = strtok_r(NULL, " \n", &save))
		if (strcmp(w, "cpu") == 0)
			return "/sys/fs/cgroup";
	return NULL;
}

/* The group this process is in, as a folder below root. */
static char *find_home(const char *root, bool v1)
{
	CLEANUP_FREE char *text = NULL;

	if (file_read("/proc/self/cgroup", 65536, &text, NULL, NULL) < 0)
		return NULL;
	for (char *save, *line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
		bool cpu = false;

		if (!path)
			continue;
		*names++ = *path++ = '\0';
		for (char *s2, *w = strtok_r(names, ",", &s2); w; w = strtok_r(NULL, ",", &s2))
			cpu |= strcmp(w, "cpu") == 0;
		/* One that lies outside of what this namespace shows cannot be gone back to. */
		if ((v1 ? cpu : strcmp(line, "0") == 0) && !strstr(path, ".."))
			return str_format("%s%s", root, strcmp(path, "/") == 0 ? "" : path);
	}
	return NULL;
}

static int enter(const char *folder)
{
	CLEANUP_FREE char *path = str_format("%s/cgroup.procs", folder);

	return file_write_str(path, "0", NULL);
}

/* Folders of engines that were killed; one with a process in it cannot be removed. */
static void sweep(const char *root)
{
	DIR *d = opendir(root);

	for (struct dirent *e; d && (e = readdir(d));)
		if (str_starts(e->d_name, PREFIX)) {
			CLEANUP_FREE char *path = str_format("%s/%s", root, e->d_name);

			rmdir(path);
		}
	if (d)
		closedir(d);
}

static void make_group(struct yield *y)
{
	const char *root = find_root(&y->v1);
	CLEANUP_FREE char *folder = NULL, *weight = NULL;

	y->home = root ? find_home(root, y->v1) : NULL;
	if (!y->home)
		return;
	sweep(root);
	folder = str_format("%s/" PREFIX "%d", root, (int)getpid());
	weight = str_format("%s/%s", folder, y->v1 ? "cpu.shares" : "cpu.weight");
	/* Another engine's sweep may come between. */
	for (int i = 0; i < 5; i++) {
		if (mkdir(folder, 0755) < 0 && errno != EEXIST)
			return;
		if (access(weight, W_OK) == 0 && enter(folder) == 0) {
			y->folder = TAKE_PTR(folder);
			return;
		}
	}
	rmdir(folder);
}

static void set_nice(int value)
{
	CLEANUP_FREE char *text = str_format("%d", value);

	if (access("/proc/self/autogroup", W_OK) == 0)
		file_write_str("/proc/self/autogroup", text, NULL);
	setpriority(PRIO_PROCESS, 0, value);
}

/* Lock held. */
static void change(struct yield *y, enum yield_to to)
{
	CLEANUP_FREE char *path = NULL;

	if (y->to == to)
		return;
	y->to = to;
	if (y->folder) {
		path = str_format("%s/%s", y->folder, y->v1 ? "cpu.shares" : "cpu.weight");
		file_write_str(path, y->v1 ? levels[to].shares : levels[to].weight, NULL);
	}
	if (!y->folder || to == YIELD_FIRST)
		set_nice(levels[to].nice);
}

void yield_set(struct yield **y, enum yield_to to)
{
	if (!*y && to != YIELD_TO_ALL) {
		if (to == YIELD_FIRST)
			setpriority(PRIO_PROCESS, 0, levels[to].nice);
		return;
	}
	if (!*y) {
		*y = mem_zalloc(sizeof(**y));
		(*y)->to = YIELD_TO_NONE;
		pthread_mutex_init(&(*y)->lock, NULL);
		make_group(*y);
	}
	pthread_mutex_lock(&(*y)->lock);
	if (to == YIELD_TO_ALL && (*y)->starved)
		to = YIELD_TO_NONE;
	change(*y, to);
	pthread_mutex_unlock(&(*y)->lock);
}

void yield_progress(struct yield *y, uint64_t bytes)
{
	int64_t now, waited, took;

	if (!y)
		return;
	now = clock_mono_ns();
	took = now - pace.since_ns;
	pace.bytes += bytes;
	if (took < LOOK_NS)
		return;
	waited = yield_waited_ns();
	/* Long ago: it had nothing to do in between. */
	if (took < 50 * LOOK_NS && waited - pace.waited_ns > took / 2 &&
	    (double)pace.bytes * 1e9 < (double)FLOOR * (double)took) {
		pthread_mutex_lock(&y->lock);
		y->starved = true;
		if (y->to == YIELD_TO_ALL)
			change(y, YIELD_TO_NONE);
		pthread_mutex_unlock(&y->lock);
	}
	pace.since_ns = now;
	pace.waited_ns = waited;
	pace.bytes = 0;
}

int64_t yield_waited_ns(void)
{
	CLEANUP_FREE char *text = NULL;
	long long ran, waited;

	/* Documentation/scheduler/sched-stats.rst: time on the processor, time waiting for one. */
	if (file_read("/proc/thread-self/schedstat", 256, &text, NULL, NULL) < 0 ||
	    sscanf(text, "%lld %lld", &ran, &waited) != 2)
		return 0;
	return waited;
}

void yield_free(struct yield *y)
{
	if (!y)
		return;
	if (y->folder) {
		enter(y->home);
		rmdir(y->folder);
	}
	pthread_mutex_destroy(&y->lock);
	free(y->folder);
	free(y->home);
	free(y);
}
