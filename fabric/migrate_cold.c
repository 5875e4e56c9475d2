/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving a container that does not run: its writable layer and its log travel as a tar
 * stream (tar keeps the overlay's whiteouts and trusted.* attributes), then the
 * destination swaps the document. Volumes are attached nowhere, so nothing is to be
 * done about them.
 */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/process.h"
#include "base/log.h"
#include "fabric/migrate.h"

#define COLD_TIMEOUT_NS 60000000000ll

extern char **environ;

/* tar with one end of a pipe as its archive; *fd is the other end. */
static int start_tar(const char *const argv[], bool reads, int *fd, pid_t *pid, struct error *err)
{
	posix_spawn_file_actions_t fa;
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_sys(err, errno, "making a pipe");
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, reads ? fds[0] : fds[1], reads ? 0 : 1);
	r = posix_spawnp(pid, argv[0], &fa, NULL, (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(reads ? fds[0] : fds[1]);
	*fd = reads ? fds[1] : fds[0];
	if (r) {
		close(*fd);
		return error_sys(err, r, "starting tar");
	}
	return 0;
}

static int end_tar(pid_t pid, const char *folder, struct error *err)
{
	int status, r = process_wait(pid, &status);

	if (r < 0)
		return error_sys(err, -r, "waiting for tar");
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return error_set(err, EIO, "tar of %s failed with status %#x", folder, status);
	return 0;
}

static int send_upper(struct migration *m, struct rpc_stream *stream, struct error *err)
{
	const char *upper = json_str(m->live, "Upper", "");
	const char *const argv[] = { "tar",
				     "--xattrs",
				     "--xattrs-include=*",
				     "--numeric-owner",
				     "-S",
				     "-C",
				     upper,
				     "-cf",
				     "-",
				     ".",
				     NULL };
	uint64_t bytes = 0;
	pid_t pid = 0;
	int fd = -1, r = start_tar(argv, false, &fd, &pid, err);

	if (r < 0)
		return r;
	r = rpc_stream_send_fd(stream, fd, &bytes, err);
	close(fd);
	if (r < 0) {
		end_tar(pid, upper, NULL); /* it gets SIGPIPE */
		return r;
	}
	m->bytes = (int64_t)bytes;
	return end_tar(pid, upper, err);
}

int migrate_cold(struct migration *m, struct error *err)
{
	const char *id = json_str(m->doc, "id", "");
	CLEANUP_FREE char *key = container_key(id);
	struct rpc_stream *stream = NULL;
	CLEANUP_JSON json_t *obstacles = migration_obstacles(m);
	CLEANUP_JSON json_t *params = NULL;
	int r;

	if (json_array_size(obstacles))
		return migration_refuse(obstacles, err);
	r = container_inspect(m->f->containers, id, &m->live, err);
	if (r < 0)
		return r;
	if (m->options.check)
		return 0;
	migration_enter(m, MIGRATION_PREPARE);
	r = document_change(m->f, key, migration_mark, m, NULL, err);
	if (r < 0)
		return r;
	m->marked = true;
	params = json_pack("{s:s, s:O}", "migration", m->id, "doc", m->doc);
	migrate_log_tail(m, params);
	r = rpc_stream_open(m->f->client, m->to, "migrate.cold", params, COLD_TIMEOUT_NS, &stream,
			    err);
	if (!r) {
		migration_enter(m, MIGRATION_PRECOPY);
		r = send_upper(m, stream, err);
		if (r < 0) {
			rpc_stream_close(stream);
		} else {
			migration_enter(m, MIGRATION_COMMIT);
			r = rpc_stream_finish(stream, NULL, err);
		}
	}
	/* Whatever came back, the document tells who owns it. */
	migration_decide(m);
	if (!m->committed)
		return r < 0 ? r
			     : error_set(err, EIO, "host %s did not take container %s", m->to,
					 json_str(m->doc, "name", ""));
	error_clear(err);
	migration_enter(m, MIGRATION_CLEANUP);
	container_unmake(m->f, m->doc);
	return 0;
}

/* --- destination -------------------------------------------------------------------- */

static int receive_upper(struct fabric *f, const char *id, struct rpc_stream *stream,
			 const json_t *params, struct error *err)
{
	CLEANUP_JSON json_t *live = NULL;
	const char *upper;
	pid_t pid = 0;
	int fd = -1, r = container_inspect(f->containers, id, &live, err);

	if (r < 0)
		return r;
	upper = json_str(live, "Upper", "");
	if (json_str(params, "log", NULL)) {
		const char *text = json_str(params, "log", "");

		r = file_write_atomic(json_str(live, "LogPath", ""), text, strlen(text), 0640, err);
		if (r < 0)
			return r;
	}
	{
		const char *const argv[] = { "tar",
					     "--xattrs",
					     "--xattrs-include=*",
					     "--numeric-owner",
					     "-S",
					     "-p",
					     "-C",
					     upper,
					     "-xf",
					     "-",
					     NULL };

		r = dir_make(upper, 0755, err);
		if (!r)
			r = start_tar(argv, true, &fd, &pid, err);
	}
	if (r < 0)
		return r;
	r = rpc_stream_receive_fd(stream, fd, NULL, err);
	close(fd);
	if (r < 0) {
		process_kill(pid, SIGKILL);
		end_tar(pid, upper, NULL);
		return r;
	}
	return end_tar(pid, upper, err);
}

int migrate_rpc_cold(void *ctx, struct rpc_request *req, json_t *params, struct rpc_stream *stream,
		     json_t **result, struct error *err)
{
	struct fabric *f = ctx;
	const json_t *doc = json_object_get(params, "doc");
	const char *id = json_str(doc, "id", "");
	const char *from = rpc_request_peer(req);
	CLEANUP_JSON json_t *image = NULL;
	int r;

	(void)result;
	if (!*id || !from)
		return error_set(err, EINVAL, "migrate.cold: not a migration");
	r = image_ensure(f, json_str(doc, "image", ""), from, &image, err);
	if (!r)
		r = container_materialise(f, doc, err);
	if (r < 0)
		return r;
	r = receive_upper(f, id, stream, params, err);
	if (!r)
		r = migrate_swap(f, id, from, json_str(params, "migration", ""), err);
	if (r < 0)
		container_remove(f->containers, id, NULL);
	return r;
}
