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
#include "base/log.h"
#include "base/str.h"

#ifndef NSFS_MAGIC
#define NSFS_MAGIC 0x6e736673
#endif

#define TCP_CHAINS "16384"

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

static int own(const char *name)
{
	CLEANUP_FREE char *path = str_format("/proc/sys/net/ipv4/%s", name);

	return open(path, O_RDWR | O_CLOEXEC);
}

/*
 * A table of TCP connections of its own (Linux 6.1): a migration walks it while the container
 * stands still, and the host's has 262,144 chains on a machine of 16 GiB and more. The number is
 * asked for in the namespace that makes another one. Two limits are derived from it, which are
 * the host's all the same. On older kernels all of it is the host's.
 */
static int unshare_net(void)
{
	static const char *const limits[] = { "tcp_max_tw_buckets", "tcp_max_syn_backlog" };
	char value[2][32] = { "", "" };
	CLEANUP_CLOSE int chains = own("tcp_child_ehash_entries");
	char before = 0;
	bool set = chains >= 0 && pread(chains, &before, 1, 0) == 1 && before == '0';
	int r;

	for (size_t i = 0; set && i < 2; i++) {
		CLEANUP_CLOSE int fd = own(limits[i]);

		set = fd >= 0 && pread(fd, value[i], sizeof(value[i]) - 1, 0) > 0;
	}
	set = set && pwrite(chains, TCP_CHAINS, strlen(TCP_CHAINS), 0) > 0;
	r = unshare(CLONE_NEWNET) < 0 ? -errno : 0;
	if (!set)
		return r;
	if (pwrite(chains, "0", 1, 0) < 0)
		log_warn("net.ipv4.tcp_child_ehash_entries stays %s", TCP_CHAINS);
	for (size_t i = 0; r == 0 && i < 2; i++) {
		CLEANUP_CLOSE int fd = own(limits[i]);

		if (fd < 0 || write(fd, value[i], strlen(value[i])) < 0)
			log_warn("net.ipv4.%s of a container is not the host's", limits[i]);
	}
	return r;
}

static int make_here(const char *path, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	int r = unshare_net();

	if (r < 0)
		return error_sys(err, -r, "making a net namespace");
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
