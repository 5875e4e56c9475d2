/* SPDX-License-Identifier: Apache-2.0 */
/* Making, entering and removing net namespaces; see netns.h. */
#include "netd/netns.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"

#ifndef NSFS_MAGIC
#define NSFS_MAGIC 0x6e736673
#endif

struct job {
	const char *path;
	bool make;
	int (*fn)(void *ctx, struct error *err);
	void *ctx;
	struct error *err;
	int result;
};

static bool is_namespace(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == NSFS_MAGIC;
}

static int make_here(const char *path, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;

	if (unshare(CLONE_NEWNET) < 0)
		return error_sys(err, errno, "making a net namespace");
	fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0444);
	if (fd < 0)
		return error_sys(err, errno, "creating %s", path);
	if (mount("/proc/thread-self/ns/net", path, NULL, MS_BIND, NULL) < 0)
		return error_sys(err, errno, "binding a net namespace to %s", path);
	return 0;
}

static int run_here(struct job *job)
{
	CLEANUP_CLOSE int fd = open(job->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_sys(job->err, errno, "opening net namespace %s", job->path);
	if (setns(fd, CLONE_NEWNET) < 0)
		return error_sys(job->err, errno, "entering net namespace %s", job->path);
	return job->fn(job->ctx, job->err);
}

static void *job_main(void *arg)
{
	struct job *job = arg;

	job->result = job->make ? make_here(job->path, job->err) : run_here(job);
	return NULL;
}

static int job_run(struct job *job)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, job_main, job);

	if (r)
		return error_sys(job->err, r, "starting a thread for net namespace %s", job->path);
	pthread_join(thread, NULL);
	return job->result;
}

int netns_make(const char *path, struct error *err)
{
	struct job job = { .path = path, .make = true, .err = err };

	return is_namespace(path) ? 0 : job_run(&job);
}

int netns_run(const char *path, int (*fn)(void *ctx, struct error *err), void *ctx,
	      struct error *err)
{
	struct job job = { .path = path, .fn = fn, .ctx = ctx, .err = err };

	return job_run(&job);
}

int netns_remove(const char *path, struct error *err)
{
	while (is_namespace(path))
		if (umount2(path, MNT_DETACH) < 0)
			return error_sys(err, errno, "unmounting %s", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return error_sys(err, errno, "removing %s", path);
	return 0;
}
