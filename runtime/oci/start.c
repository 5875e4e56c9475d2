/* SPDX-License-Identifier: Apache-2.0 */
/* ferry-oci start: lets init go, and returns once it has become the user's program. */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/process.h"
#include "runtime/oci/launch.h"
#include "runtime/oci/oci.h"

int container_begin(const struct global *g, const char *id, struct error *err)
{
	CLEANUP_CLOSE int lock = state_lock(g, id, err), fifo = -1;
	CLEANUP_STATE struct state s = { 0 };
	CLEANUP_SPEC struct spec *spec = NULL;
	CLEANUP_FREE char *path = NULL, *text = NULL;
	const char *status;
	struct pollfd pfd;
	int r;

	if (lock < 0)
		return lock;
	r = state_load(g, id, &s, err);
	if (r < 0)
		return r;
	status = state_status(g, &s);
	if (strcmp(status, "created") != 0)
		return error_set(err, EBUSY,
				 "container %s is %s: only a created one can be started", id,
				 status);
	if (s.stub)
		return error_set(
			err, EBUSY,
			"container %s was created with --stub: only a restore gives it life", id);
	spec = state_spec(g, id, err);
	if (!spec)
		return err ? -err->code : -EIO;
	path = state_path(g, id, "exec.fifo");
	fifo = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fifo < 0)
		return errno == ENXIO
			       ? error_set(err, ESRCH, "container %s's first process is gone", id)
			       : error_sys(err, errno, "opening %s", path);
	if (write(fifo, "s", 1) != 1)
		return error_sys(err, errno, "starting container %s", id);
	if (unlink(path) < 0)
		return error_sys(err, errno, "removing %s", path);
	/* Its end is close-on-exec: an error here means that execve has happened (or failed). */
	pfd = (struct pollfd){ .fd = fifo };
	do
		r = poll(&pfd, 1, spec->nhooks[HOOK_START_CONTAINER] ? -1 : 10000);
	while (r < 0 && errno == EINTR);
	text = state_text(&s, "running", s.pid);
	return hooks_run(spec->hooks[HOOK_POSTSTART], spec->nhooks[HOOK_POSTSTART], text, err);
}

int cmd_start(const struct global *g, int argc, char **argv, int *status, struct error *err)
{
	(void)status;
	if (argc != 2)
		return usage(err, "start ID");
	return container_begin(g, argv[1], err);
}
