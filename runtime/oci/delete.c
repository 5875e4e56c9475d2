/* SPDX-License-Identifier: Apache-2.0 */
/* ferry-oci delete: kills what is left, removes groups and state, runs poststop hooks. */
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "runtime/oci/launch.h"
#include "runtime/oci/oci.h"
#include "runtime/oci/report.h"

/* Kills init and waits until it is dead (a zombie counts: its parent may take its time). */
static int kill_init(const struct state *s, const struct cgroups *cg, struct error *err)
{
	CLEANUP_CLOSE int fd = state_pidfd(s, NULL);
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	int r;

	if (fd < 0)
		return 0;
	syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	/* A v1 frozen task dies only when thawed. */
	if (s->cgroup[0] && cgroup_frozen(cg, s->cgroup))
		cgroup_freeze(cg, s->cgroup, false, NULL);
	do
		r = poll(&pfd, 1, 10000);
	while (r < 0 && errno == EINTR);
	return r ? 0
		 : error_set(err, ETIMEDOUT, "process %d of container %s does not die", s->pid,
			     s->id);
}

int container_destroy(const struct global *g, const char *id, bool force, struct error *err)
{
	CLEANUP_CLOSE int lock = state_lock(g, id, err);
	CLEANUP_STATE struct state s = { 0 };
	CLEANUP_CGROUPS struct cgroups cg = { 0 };
	CLEANUP_SPEC struct spec *spec = NULL;
	CLEANUP_FREE char *dir = NULL, *text = NULL;
	struct error hook = { 0 };
	const char *is;
	int r;

	if (lock == -ENOENT && force) {
		error_clear(err);
		return 0;
	}
	if (lock < 0)
		return lock;
	dir = state_path(g, id, NULL);
	r = state_load(g, id, &s, err);
	if (r == -ENOENT && force) {
		error_clear(err);
		return dir_remove(dir, err); /* killed before it had written anything */
	}
	if (r < 0 || (r = cgroups_load(&cg, err)) < 0)
		return r;
	is = state_status(g, &s);
	if (!force && strcmp(is, "stopped") != 0)
		return error_set(err, EBUSY, "container %s is %s; kill it first, or use --force",
				 id, is);
	r = kill_init(&s, &cg, err);
	if (r < 0)
		return r;
	if (s.cgroup[0]) {
		cgroup_signal(&cg, s.cgroup, SIGKILL);
		if (cgroup_frozen(&cg, s.cgroup))
			cgroup_freeze(&cg, s.cgroup, false, NULL);
		r = cgroup_remove(&cg, s.cgroup, err);
		if (r < 0)
			return r;
	}
	spec = state_spec(g, id, NULL);
	if (spec && spec->nhooks[HOOK_POSTSTOP]) {
		text = state_text(&s, "stopped", 0);
		/* It must not keep the container from being removed (runtime.md, "Lifecycle"). */
		if (hooks_run(spec->hooks[HOOK_POSTSTOP], spec->nhooks[HOOK_POSTSTOP], text,
			      &hook) < 0)
			report_warn("%s", hook.msg);
	}
	return dir_remove(dir, err);
}

int cmd_delete(const struct global *g, int argc, char **argv, int *status, struct error *err)
{
	static const struct option longs[] = { { "force", no_argument, 0, 'f' }, { 0 } };
	bool force = false;
	int c;

	(void)status;
	while ((c = getopt_long(argc, argv, "f", longs, NULL)) != -1) {
		if (c != 'f')
			return usage(err, "delete [--force] ID");
		force = true;
	}
	if (argc - optind != 1)
		return usage(err, "delete [--force] ID");
	return container_destroy(g, argv[optind], force, err);
}
