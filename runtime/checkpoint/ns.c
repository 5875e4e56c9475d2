/* SPDX-License-Identifier: Apache-2.0 */
/* A function run in a thread that has entered one namespace of a process. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "base/process.h"
#include "runtime/checkpoint/core.h"

struct job {
	pid_t pid;
	const char *ns;
	int (*fn)(void *arg);
	void *arg;
	int result;
	struct error err;
};

static void *run(void *arg)
{
	struct job *j = arg;

	/* A mount namespace can only be entered by a thread with its own root and cwd. */
	if (strcmp(j->ns, "mnt") == 0 && unshare(CLONE_FS) < 0) {
		j->result = error_sys(&j->err, errno, "unsharing root and working directory");
		return NULL;
	}
	j->result = process_enter_ns(j->pid, j->ns, &j->err);
	if (j->result == 0)
		j->result = j->fn(j->arg);
	return NULL;
}

int run_in_ns(pid_t pid, const char *ns, int (*fn)(void *arg), void *arg, struct error *err)
{
	struct job j = { .pid = pid, .ns = ns, .fn = fn, .arg = arg };
	pthread_t th;
	int r;

	r = pthread_create(&th, NULL, run, &j);
	if (r)
		return error_sys(err, r, "starting a thread");
	pthread_join(th, NULL);
	if (j.err.code && err)
		*err = j.err;
	return j.result;
}
