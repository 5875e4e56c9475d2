/* SPDX-License-Identifier: Apache-2.0 */
/* ferry-oci kill, pause, resume, ps: commands on the processes of a container. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/oci/cgroup.h"
#include "runtime/oci/oci.h"

int cmd_kill(const struct global *g, int argc, char **argv, int *status, struct error *err)
{
	static const struct option longs[] = { { "all", no_argument, 0, 'a' }, { 0 } };
	CLEANUP_STATE struct state s = { 0 };
	CLEANUP_CGROUPS struct cgroups cg = { 0 };
	CLEANUP_CLOSE int fd = -1;
	bool all = false;
	int c, signo, r;

	(void)status;
	while ((c = getopt_long(argc, argv, "a", longs, NULL)) != -1) {
		if (c != 'a')
			return usage(err, "kill [--all] ID [SIGNAL]");
		all = true;
	}
	if (argc - optind < 1 || argc - optind > 2)
		return usage(err, "kill [--all] ID [SIGNAL]");
	signo = signal_number(argc - optind == 2 ? argv[optind + 1] : "TERM");
	if (!signo)
		return error_set(err, EINVAL, "unknown signal \"%s\"", argv[optind + 1]);
	r = state_load(g, argv[optind], &s, err);
	if (r < 0)
		return r;
	if (all) {
		r = cgroups_load(&cg, err);
		if (!r)
			cgroup_signal(&cg, s.cgroup, signo);
		return r;
	}
	fd = state_pidfd(&s, err);
	if (fd < 0)
		return fd;
	if (syscall(SYS_pidfd_send_signal, fd, signo, NULL, 0) < 0)
		return error_sys(err, errno, "sending signal %d to container %s", signo, s.id);
	return 0;
}

static int freeze(const struct global *g, const char *id, bool on, struct error *err)
{
	CLEANUP_STATE struct state s = { 0 };
	CLEANUP_CGROUPS struct cgroups cg = { 0 };
	const char *is, *want = on ? "running" : "paused";
	int r = state_load(g, id, &s, err);

	if (r < 0)
		return r;
	is = state_status(g, &s);
	if (strcmp(is, want) != 0)
		return error_set(err, EBUSY, "container %s is %s, not %s", id, is, want);
	r = cgroups_load(&cg, err);
	return r < 0 ? r : cgroup_freeze(&cg, s.cgroup, on, err);
}

int cmd_pause(const struct global *g, int argc, char **argv, int *status, struct error *err)
{
	(void)status;
	return argc != 2 ? usage(err, "pause ID") : freeze(g, argv[1], true, err);
}

int cmd_resume(const struct global *g, int argc, char **argv, int *status, struct error *err)
{
	(void)status;
	return argc != 2 ? usage(err, "resume ID") : freeze(g, argv[1], false, err);
}

int cmd_ps(const struct global *g, int argc, char **argv, int *status, struct error *err)
{
	static const struct option longs[] = { { "format", required_argument, 0, 'f' }, { 0 } };
	CLEANUP_STATE struct state s = { 0 };
	CLEANUP_CGROUPS struct cgroups cg = { 0 };
	CLEANUP_FREE pid_t *pids = NULL;
	CLEANUP_BUF struct buf list = { 0 };
	bool json = false;
	size_t n;
	int c, r;

	(void)status;
	while ((c = getopt_long(argc, argv, "f:", longs, NULL)) != -1) {
		if (c != 'f')
			return usage(err, "ps [--format table|json] ID");
		json = !strcmp(optarg, "json");
	}
	if (argc - optind != 1)
		return usage(err, "ps [--format table|json] ID");
	if ((r = state_load(g, argv[optind], &s, err)) < 0 || (r = cgroups_load(&cg, err)) < 0)
		return r;
	r = cgroup_pids(&cg, s.cgroup, &pids, &n);
	if (r < 0)
		return error_sys(err, -r, "reading the processes of container %s", s.id);
	for (size_t i = 0; i < n; i++)
		buf_addf(&list, "%s%d", i ? "," : "", pids[i]);
	if (json) {
		printf("[%s]\n", list.data ? list.data : "");
		return 0;
	}
	if (!n)
		return 0;
	const char *const ps[] = { "ps", "-f", "-p", list.data, NULL };
	CLEANUP_FREE char *out = NULL;

	r = process_run(ps, &out, err);
	if (!r)
		printf("%s", out ? out : "");
	return r;
}
