/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes, namespaces, clocks; process.h is the contract. */
#include "base/process.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define OUTPUT_MAX 65536

extern char **environ;

static void last_line(char *text, const char **line)
{
	size_t n = strlen(text);

	while (n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		text[--n] = '\0';
	*line = strrchr(text, '\n');
	*line = *line ? *line + 1 : text;
}

int process_run(const char *const argv[], char **output, struct error *err)
{
	CLEANUP_BUF struct buf out = { 0 };
	CLEANUP_CLOSE int rd = -1, wr = -1;
	posix_spawn_file_actions_t fa;
	int pipefd[2], status = 0, r;
	pid_t pid;

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return error_sys(err, errno, "making a pipe for %s", argv[0]);
	rd = pipefd[0];
	wr = pipefd[1];
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&fa, wr, 1);
	posix_spawn_file_actions_adddup2(&fa, wr, 2);
	r = posix_spawnp(&pid, argv[0], &fa, NULL, (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	if (r)
		return error_sys(err, r, "starting %s", argv[0]);
	close(TAKE_FD(wr));
	for (;;) {
		char chunk[4096];
		ssize_t n = read(rd, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		if (out.len < OUTPUT_MAX)
			buf_add(&out, chunk, (size_t)n);
	}
	r = process_wait(pid, &status);
	if (r < 0)
		return error_sys(err, -r, "waiting for %s", argv[0]);
	buf_add(&out, "", 0);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		const char *line;

		last_line(out.data, &line);
		if (WIFSIGNALED(status))
			return error_set(err, EIO, "%s was killed by signal %d: %.400s", argv[0],
					 WTERMSIG(status), line);
		return error_set(err, EIO, "%s exited with %d: %.400s", argv[0],
				 WEXITSTATUS(status), line);
	}
	if (output)
		*output = TAKE_PTR(out.data);
	return 0;
}

int process_wait(pid_t pid, int *status)
{
	pid_t r;

	do
		r = waitpid(pid, status, 0);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int process_kill(pid_t pid, int signo)
{
	if (pid <= 1)
		return -EINVAL;
	return kill(pid, signo) < 0 ? -errno : 0;
}

int process_start_time(pid_t pid, uint64_t *ticks)
{
	CLEANUP_FREE char *text = NULL;
	char path[64];
	char *p;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	r = file_read(path, 65536, &text, NULL, NULL);
	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	/* The name may hold anything, so count fields from behind its bracket. */
	p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p)
		return -EBADMSG;
	*ticks = strtoull(p + 1, NULL, 10);
	return 0;
}

int process_enter_ns(pid_t pid, const char *ns, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, ns);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_sys(err, errno, "opening %s", path);
	if (setns(fd, 0) < 0)
		return error_sys(err, errno, "entering %s", path);
	return 0;
}

static int64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int thread_hurry(void)
{
	int nice = getpriority(PRIO_PROCESS, 0); /* 0 is this thread (getpriority(2), NOTES) */

	setpriority(PRIO_PROCESS, 0, -20);
	return nice;
}

void thread_calm(int nice)
{
	setpriority(PRIO_PROCESS, 0, nice);
}

int64_t clock_mono_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

int64_t clock_real_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

void clock_sleep_ns(int64_t ns)
{
	struct timespec ts = { ns / 1000000000, ns % 1000000000 };

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

int signal_number(const char *name)
{
	int64_t n;

	if (!name)
		return 0;
	if (str_to_i64(name, 1, SIGRTMAX, &n) == 0)
		return (int)n;
	if (!strncasecmp(name, "SIG", 3))
		name += 3;
	for (int i = 1; i < NSIG; i++) {
		const char *abbrev = sigabbrev_np(i);

		if (abbrev && !strcasecmp(abbrev, name))
			return i;
	}
	if (!strncasecmp(name, "RTMIN", 5) && (!name[5] || name[5] == '+') &&
	    str_to_i64(name[5] ? name + 6 : "0", 0, SIGRTMAX - SIGRTMIN, &n) == 0)
		return SIGRTMIN + (int)n;
	if (!strncasecmp(name, "RTMAX", 5) && (!name[5] || name[5] == '-') &&
	    str_to_i64(name[5] ? name + 6 : "0", 0, SIGRTMAX - SIGRTMIN, &n) == 0)
		return SIGRTMAX - (int)n;
	return 0;
}
