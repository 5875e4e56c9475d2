/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts for tests of the network: processes with a net and a mount namespace of their own,
 * joined through the test's namespace, which is "the outside" (and the router between
 * them). A host runs functions of the test on request; a container of it is a netns that
 * a forked child enters. All of it vanishes with the test's process, whatever happens.
 *
 *     host a 10.1.1.2 ── 10.1.1.1 ┐                    ┌ 10.1.2.1 ── 10.1.2.2 host b
 *                                 └ test: 203.0.113.1 ─┘
 */
#ifndef TESTS_NETD_HOSTS_H
#define TESTS_NETD_HOSTS_H

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "netd/netd.h"

struct host {
	const char *name, *underlay;
	pid_t pid;
	int sock, netns, mntns;
	struct call *call; /* shared with the host's process */
	struct netd *nd;   /* in the host's process only */
};

typedef int host_fn(struct host *h, void *arg, struct error *err);

struct call {
	host_fn *fn;
	char arg[8192];
	int result;
	struct error err;
};

static char base_dir[64];

static inline void sh(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (system(cmd) != 0)
		fail_msg("command failed: %s", cmd);
}

static inline int open_netd(struct host *h, void *arg, struct error *err)
{
	CLEANUP_FREE char *run = str_format("%s/run", base_dir);
	CLEANUP_FREE char *bpf = str_format("%s/bpf", base_dir);
	CLEANUP_FREE char *resolv = str_format("%s/resolv.conf", base_dir);
	struct netd_config config = { .run_dir = run,
				      .bpffs = bpf,
				      .host = h->name,
				      .underlay_ip = h->underlay,
				      .resolv_conf = resolv };

	(void)arg;
	return netd_open(&config, &h->nd, err);
}

static inline void host_loop(struct host *h)
{
	char c;

	while (read(h->sock, &c, 1) == 1) {
		error_clear(&h->call->err);
		h->call->result = h->call->fn(h, h->call->arg, &h->call->err);
		if (write(h->sock, &c, 1) != 1)
			break;
	}
	_exit(0);
}

/* Starts the process of a host; in its old namespaces where it has some. */
static inline void host_start(struct host *h)
{
	int pair[2];
	char c = 'r';

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	if (!h->call)
		h->call = mmap(NULL, sizeof(*h->call), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	h->pid = fork();
	assert_true(h->pid >= 0);
	if (!h->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		h->sock = pair[1];
		if (h->netns >= 0) {
			if (setns(h->netns, CLONE_NEWNET) || setns(h->mntns, CLONE_NEWNS))
				_exit(1);
		} else if (unshare(CLONE_NEWNET | CLONE_NEWNS)) {
			_exit(1);
		} else {
			char run[80];

			snprintf(run, sizeof(run), "%s/run", base_dir);
			if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
			    mount("tmpfs", run, "tmpfs", 0, NULL))
				_exit(1);
		}
		if (write(h->sock, &c, 1) != 1)
			_exit(1);
		host_loop(h);
	}
	close(pair[1]);
	h->sock = pair[0];
	assert_int_equal(read(h->sock, &c, 1), 1);
	if (h->netns < 0) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/ns/net", h->pid);
		h->netns = open(path, O_RDONLY | O_CLOEXEC);
		snprintf(path, sizeof(path), "/proc/%d/ns/mnt", h->pid);
		h->mntns = open(path, O_RDONLY | O_CLOEXEC);
		assert_true(h->netns >= 0 && h->mntns >= 0);
	}
}

static inline int host_try(struct host *h, host_fn *fn, const void *arg, size_t len)
{
	char c = 'c';

	h->call->fn = fn;
	assert_true(len <= sizeof(h->call->arg));
	if (len)
		memcpy(h->call->arg, arg, len);
	assert_int_equal(write(h->sock, &c, 1), 1);
	if (read(h->sock, &c, 1) != 1)
		fail_msg("the process of host %s died", h->name);
	return h->call->result;
}

/* Runs fn in the host; it must return 0. The argument is copied there, and back. */
static inline void host_do(struct host *h, host_fn *fn, void *arg, size_t len)
{
	if (host_try(h, fn, arg, len))
		fail_msg("host %s: %d: %s", h->name, h->call->result, h->call->err.msg);
	if (len)
		memcpy(arg, h->call->arg, len);
}

static inline void host_kill(struct host *h)
{
	int status;

	kill(h->pid, SIGKILL);
	process_wait(h->pid, &status);
	close(h->sock);
}

/* In a host: forks a child into the container's namespace that runs fn. */
typedef int container_fn(void *arg);

static inline pid_t container_start(const char *id, container_fn *fn, void *arg)
{
	char path[128];
	/* The argument lies in memory that the test's next call overwrites. */
	void *copy = malloc(sizeof(((struct call *)0)->arg));
	pid_t pid;

	memcpy(copy, arg, sizeof(((struct call *)0)->arg));
	snprintf(path, sizeof(path), "%s/run/netns/%s", base_dir, id);
	pid = fork();
	if (!pid) {
		int fd;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || setns(fd, CLONE_NEWNET))
			_exit(111);
		_exit(fn(copy));
	}
	free(copy);
	return pid;
}

/* The same, and waits; the exit status. */
static inline int container_do(const char *id, container_fn *fn, void *arg)
{
	pid_t pid = container_start(id, fn, arg);
	int status = 0;

	if (pid < 0 || process_wait(pid, &status) < 0)
		return 112;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 113;
}

/* A new "outside" for the test's process, and the hosts' processes joined to it. */
static inline void world_up(struct host *hosts, int n)
{
	assert_int_equal(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	/* Nothing of it is seen outside, or outlives the process. */
	assert_int_equal(mount("tmpfs", "/mnt", "tmpfs", 0, NULL), 0);
	strcpy(base_dir, "/mnt");
	sh("mkdir %s/run %s/bpf; echo nameserver 203.0.113.1 >%s/resolv.conf", base_dir, base_dir,
	   base_dir);
	sh("ip link set lo up; ip addr add 203.0.113.1/32 dev lo; "
	   "echo 1 >/proc/sys/net/ipv4/ip_forward");
	for (int i = 0; i < n; i++) {
		struct host *h = &hosts[i];

		h->netns = h->mntns = -1;
		host_start(h);
		sh("ip link add h%d type veth peer name eth0 netns %d && "
		   "ip addr add 10.1.%d.1/24 dev h%d && ip link set h%d up && "
		   "nsenter --net=/proc/%d/ns/net sh -c 'ip link set lo up; "
		   "ip addr add %s/24 dev eth0; ip link set eth0 up; "
		   "ip route add default via 10.1.%d.1'",
		   i, h->pid, i + 1, i, i, h->pid, h->underlay, i + 1);
	}
}

static inline void world_down(struct host *hosts, int n)
{
	for (int i = 0; i < n; i++) {
		host_kill(&hosts[i]);
		close(hosts[i].netns);
		close(hosts[i].mntns);
	}
}

#endif
