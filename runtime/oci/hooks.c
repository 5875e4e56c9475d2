/* SPDX-License-Identifier: Apache-2.0 */
/* OCI hooks: programs run at points of a container's life with its state on stdin. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "runtime/oci/launch.h"

static int run_one(const struct spec_hook *h, int state, struct error *err)
{
	const char *bare[] = { h->path, NULL };
	int timeout = h->timeout_s > 0 && h->timeout_s < 1000000 ? (int)h->timeout_s * 1000 : -1;
	int status = 0, pidfd, r;
	pid_t pid;

	if (lseek(state, 0, SEEK_SET) < 0)
		return error_sys(err, errno, "rewinding the state for hook %s", h->path);
	pid = fork();
	if (pid < 0)
		return error_sys(err, errno, "starting hook %s", h->path);
	if (!pid) {
		dup2(state, 0);
		execve(h->path, (char *const *)(uintptr_t)(h->args.n ? h->args.v : bare),
		       (char *const *)(uintptr_t)h->env.v);
		_exit(127);
	}
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd >= 0) {
		struct pollfd pfd = { .fd = pidfd, .events = POLLIN };

		do
			r = poll(&pfd, 1, timeout);
		while (r < 0 && errno == EINTR);
		if (!r)
			process_kill(pid, SIGKILL);
		close(pidfd);
		if (!r) {
			process_wait(pid, &status);
			return error_set(err, ETIMEDOUT, "hook %s took longer than %lld s", h->path,
					 (long long)h->timeout_s);
		}
	}
	r = process_wait(pid, &status);
	if (r < 0)
		return error_sys(err, -r, "waiting for hook %s", h->path);
	if (WIFSIGNALED(status))
		return error_set(err, EIO, "hook %s was killed by signal %d", h->path,
				 WTERMSIG(status));
	if (WEXITSTATUS(status))
		return error_set(err, EIO, "hook %s exited with %d", h->path, WEXITSTATUS(status));
	return 0;
}

int hooks_run(const struct spec_hook *hooks, size_t n, const char *state, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	int r;

	if (!n)
		return 0;
	fd = memfd_create("state", MFD_CLOEXEC);
	if (fd < 0)
		return error_sys(err, errno, "writing the state for hooks");
	r = fd_write_all(fd, state, strlen(state));
	for (size_t i = 0; i < n && !r; i++)
		r = run_one(&hooks[i], fd, err);
	return r;
}
