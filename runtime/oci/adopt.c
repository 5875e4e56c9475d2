/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ferry-oci adopt: the checkpoint engine has turned the init of a container made with
 * `create --stub` into a restored one; from now on the container counts as running.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/oci/oci.h"

int cmd_adopt(const struct global *g, int argc, char **argv, int *status, struct error *err)
{
	CLEANUP_CLOSE int lock = -1;
	CLEANUP_STATE struct state s = { 0 };
	CLEANUP_FREE char *path = NULL;
	int r;

	(void)status;
	if (argc != 2)
		return usage(err, "adopt ID");
	lock = state_lock(g, argv[1], err);
	if (lock < 0)
		return lock;
	r = state_load(g, argv[1], &s, err);
	if (r < 0)
		return r;
	if (!s.stub)
		return error_set(err, EINVAL, "container %s was not created with --stub", s.id);
	if (!strcmp(state_status(g, &s), "stopped"))
		return error_set(err, ESRCH, "container %s is not running", s.id);
	path = state_path(g, s.id, "exec.fifo");
	if (unlink(path) < 0 && errno != ENOENT)
		return error_sys(err, errno, "removing %s", path);
	return 0;
}
