/* SPDX-License-Identifier: Apache-2.0 */
/* Starting ferry-checkpoint and speaking to it; engine.h is the contract. */
#include "fabric/engine.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/str.h"

extern char **environ;

static struct engine *new_engine(int sock, pid_t pid)
{
	struct engine *e = mem_zalloc(sizeof(*e));

	e->control.sock = sock;
	e->pid = pid;
	pthread_mutex_init(&e->busy, NULL);
	return e;
}

int engine_start(const char *program, struct engine **out, struct error *err)
{
	return engine_start_with(program, -1, out, err);
}

int engine_start_with(const char *program, int file, struct engine **out, struct error *err)
{
	char *argv[] = { (char *)(uintptr_t)program, NULL };
	CLEANUP_CLOSE int ours = -1, theirs = -1, given = -1;
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	int sv[2], r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return error_sys(err, errno, "making a socket for ferry-checkpoint");
	/* Above the number it gets, so that dup2 never is a no-op that keeps close-on-exec. */
	ours = fcntl(sv[0], F_DUPFD_CLOEXEC, 10);
	theirs = fcntl(sv[1], F_DUPFD_CLOEXEC, 10);
	given = file < 0 ? -1 : fcntl(file, F_DUPFD_CLOEXEC, 10);
	close(sv[0]);
	close(sv[1]);
	if (ours < 0 || theirs < 0 || (file >= 0 && given < 0))
		return error_sys(err, EMFILE, "making a socket for ferry-checkpoint");
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&fa, theirs, CONTROL_FD);
	if (given >= 0)
		posix_spawn_file_actions_adddup2(&fa, given, ENGINE_FILE);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID);
	r = posix_spawn(&pid, program, &fa, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	if (r)
		return error_sys(err, r, "starting %s", program);
	*out = new_engine(TAKE_FD(ours), pid);
	return 0;
}

int engine_reach(const char *socket_path, struct engine **out, struct error *err)
{
	int sock = fd_unix_connect(socket_path, err);

	if (sock < 0)
		return sock;
	*out = new_engine(sock, 0);
	return 0;
}

int engine_send(struct engine *e, const char *op, json_t *args, struct error *err)
{
	int r;

	pthread_mutex_lock(&e->busy);
	r = control_send(&e->control, op, args, err);
	if (r < 0)
		pthread_mutex_unlock(&e->busy);
	return r < 0 ? error_wrap(err, "checkpoint engine: %s", op) : 0;
}

int engine_receive(struct engine *e, const char *op, json_t **answer, struct error *err)
{
	int r = control_receive(&e->control, answer, err);

	pthread_mutex_unlock(&e->busy);
	return r < 0 ? error_wrap(err, "checkpoint engine: %s", op) : r;
}

int engine_call(struct engine *e, const char *op, json_t *args, json_t **answer, struct error *err)
{
	int r = engine_send(e, op, args, err);

	return r < 0 ? r : engine_receive(e, op, answer, err);
}

void engine_kill(struct engine *e)
{
	if (e->pid > 0)
		process_kill(e->pid, SIGKILL);
	else
		shutdown(e->control.sock, SHUT_RDWR);
}

void engine_free(struct engine *e)
{
	int status;

	if (!e)
		return;
	control_client_close(&e->control);
	if (e->pid > 0)
		process_wait(e->pid, &status);
	pthread_mutex_destroy(&e->busy);
	free(e);
}
