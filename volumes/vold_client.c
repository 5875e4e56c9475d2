// SPDX-License-Identifier: Apache-2.0
/* Starting and asking a vold. */
#include "volumes/vold_client.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"

#define MAX_ANSWER (1u << 20)

extern char **environ;

/* Reads to a newline or the end. 0, -ETIMEDOUT, -errno. */
static int read_line(int fd, struct buf *line)
{
	char chunk[4096];

	while (line->len < MAX_ANSWER && !(line->data && memchr(line->data, '\n', line->len))) {
		ssize_t n = read(fd, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (n == 0)
			break;
		buf_add(line, chunk, (size_t)n);
	}
	return 0;
}

/* The object of a line, or the error it tells. */
static int understand(const struct buf *line, json_t **answer, struct error *err)
{
	CLEANUP_JSON json_t *obj = NULL;

	if (!line->len)
		return error_set(err, ECONNRESET, "ferry-vold ended without an answer");
	obj = json_parse(line->data, line->len, "answer of ferry-vold", err);
	if (!obj)
		return -EPROTO;
	if (!json_bool(obj, "ok", false)) {
		int code = (int)json_int(obj, "errno", EIO);

		return error_set(err, code > 0 ? code : EIO, "%s",
				 json_str(obj, "error", "ferry-vold failed"));
	}
	if (answer)
		*answer = TAKE_PTR(obj);
	return 0;
}

static int start(char *const argv[], int out, const char *log, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int rc;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out, 1);
	posix_spawn_file_actions_addopen(&actions, 2, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	rc = posix_spawnp(pid, argv[0], &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return rc;
}

int vold_spawn(char *const argv[], const char *log, json_t **report, struct error *err)
{
	CLEANUP_CLOSE int in = -1;
	CLEANUP_BUF struct buf line = { 0 };
	int fds[2], status = 0, rc;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_sys(err, errno, "making a pipe");
	in = fds[0];
	rc = start(argv, fds[1], log, &pid);
	close(fds[1]);
	if (rc)
		return error_sys(err, rc, "starting %s", argv[0]);
	rc = read_line(in, &line);
	process_wait(pid, &status);
	if (rc)
		return error_sys(err, -rc, "listening to %s", argv[0]);
	return understand(&line, report, err);
}

int vold_call(const char *socket, json_t *request, int64_t timeout_ns, json_t **answer,
	      struct error *err)
{
	CLEANUP_JSON json_t *req = request;
	CLEANUP_FREE char *text = json_text(req);
	CLEANUP_BUF struct buf out = { 0 }, line = { 0 };
	CLEANUP_CLOSE int fd = fd_unix_connect(socket, err);
	struct timeval tv = { .tv_sec = timeout_ns / 1000000000,
			      .tv_usec = timeout_ns % 1000000000 / 1000 };
	int rc;

	if (fd < 0)
		return fd;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	buf_addf(&out, "%s\n", text);
	rc = fd_write_all(fd, out.data, out.len);
	if (rc == 0)
		rc = read_line(fd, &line);
	if (rc)
		return error_sys(err, -rc, "asking ferry-vold to %s", json_str(req, "op", "?"));
	return understand(&line, answer, err);
}
