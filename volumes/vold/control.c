// SPDX-License-Identifier: Apache-2.0
/* The control socket of a vold; vold.h has the protocol. A thread a connection. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "volumes/vold/vold.h"

#define DEMOTE_TIMEOUT_NS 30000000000ll
#define MAX_TIMEOUT_NS	  3600000000000ll
#define SHUTDOWN_NS	  10000000000ll
#define SHUTDOWN_ALARM	  20 /* seconds: a store that does not answer must not keep us */

json_t *vold_error(const struct error *err)
{
	json_t *answer = json_object();

	json_set_bool(answer, "ok", false);
	json_set_int(answer, "errno", err->code ? err->code : EIO);
	json_set_str(answer, "error", err->msg);
	return answer;
}

/* --- operations --------------------------------------------------------------------------- */

static int op_status(struct vold *v, const json_t *req, json_t *answer, struct error *err)
{
	CLEANUP_JSON json_t *status = core_status(v->core);

	(void)req, (void)err;
	json_object_update(answer, status);
	core_describe(v->core, answer);
	json_set_str(answer, "device", v->backend->device(v->backend_state));
	json_set_str(answer, "name", v->options->name);
	json_set_str(answer, "image", v->options->image);
	json_set_str(answer, "backend", v->backend->name);
	json_set_int(answer, "pid", getpid());
	return 0;
}

static int op_promote(struct vold *v, const json_t *req, json_t *answer, struct error *err)
{
	(void)answer;
	return core_promote(v->core, json_bool(req, "tentative", false),
			    json_bool(req, "unlocked", false), err);
}

static int op_claim(struct vold *v, const json_t *req, json_t *answer, struct error *err)
{
	(void)req, (void)answer;
	return core_claim(v->core, err);
}

static int op_settle(struct vold *v, const json_t *req, json_t *answer, struct error *err)
{
	(void)req, (void)answer;
	return core_settle(v->core, err);
}

static int op_abandon(struct vold *v, const json_t *req, json_t *answer, struct error *err)
{
	(void)req, (void)answer;
	return core_abandon(v->core, err);
}

static int op_demote(struct vold *v, const json_t *req, json_t *answer, struct error *err)
{
	int64_t timeout_ns = DEMOTE_TIMEOUT_NS;
	int rc = json_want_int(req, "timeout_ns", false, 0, MAX_TIMEOUT_NS, &timeout_ns, err);

	(void)answer;
	return rc ? rc : core_demote(v->core, timeout_ns, json_bool(req, "keep_lock", false), err);
}

static int op_retake(struct vold *v, const json_t *req, json_t *answer, struct error *err)
{
	(void)req, (void)answer;
	return core_retake(v->core, err);
}

static int op_refresh(struct vold *v, const json_t *req, json_t *answer, struct error *err)
{
	uint64_t bytes;
	int rc = core_size(v->core, &bytes, err);

	(void)req;
	if (rc == 0)
		rc = v->backend->resize(v->backend_state, bytes, err);
	if (rc == 0)
		json_set_int(answer, "size_bytes", (int64_t)bytes);
	return rc;
}

static int op_resize(struct vold *v, const json_t *req, json_t *answer, struct error *err)
{
	int64_t bytes = 0;
	int rc = json_want_int(req, "size_bytes", true, VOLD_BLOCK, INT64_MAX, &bytes, err);

	if (rc == 0)
		rc = core_resize(v->core, (uint64_t)bytes, err);
	return rc ? rc : op_refresh(v, req, answer, err);
}

static int op_snapshot(struct vold *v, const json_t *req, json_t *answer, struct error *err)
{
	const char *snap = NULL;
	int rc = json_want_str(req, "name", true, &snap, err);

	(void)answer;
	return rc ? rc : core_snapshot(v->core, snap, !json_bool(req, "remove", false), err);
}

static int op_shutdown(struct vold *v, const json_t *req, json_t *answer, struct error *err)
{
	struct error ignored = { 0 };

	(void)req, (void)answer, (void)err;
	alarm(SHUTDOWN_ALARM);
	if (core_abandon(v->core, &ignored))
		core_demote(v->core, SHUTDOWN_NS, false, &ignored);
	v->backend->stop(v->backend_state);
	core_close(v->core);
	v->core = NULL;
	unlink(v->options->socket);
	return 0;
}

static const struct operation {
	const char *name;
	int (*run)(struct vold *v, const json_t *req, json_t *answer, struct error *err);
} operations[] = {
	{ "status", op_status },     { "promote", op_promote },	  { "settle", op_settle },
	{ "abandon", op_abandon },   { "demote", op_demote },	  { "retake", op_retake },
	{ "claim", op_claim },	     { "refresh", op_refresh },	  { "resize", op_resize },
	{ "snapshot", op_snapshot }, { "shutdown", op_shutdown },
};

/* A shutdown takes v->core away: it waits for other requests, and they for it. */
static pthread_rwlock_t ending = PTHREAD_RWLOCK_INITIALIZER;

static int run(struct vold *v, const char *name, const json_t *req, json_t *answer, bool *end,
	       struct error *err)
{
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		int rc;

		if (strcmp(name, operations[i].name) != 0)
			continue;
		*end = operations[i].run == op_shutdown;
		if (*end)
			pthread_rwlock_wrlock(&ending);
		else
			pthread_rwlock_rdlock(&ending);
		if (v->core)
			rc = operations[i].run(v, req, answer, err);
		else
			rc = error_set(err, ESHUTDOWN, "ferry-vold is ending");
		pthread_rwlock_unlock(&ending);
		return rc;
	}
	return error_set(err, EINVAL, "unknown operation \"%s\"", name);
}

void vold_check_lock(struct vold *v)
{
	if (pthread_rwlock_tryrdlock(&ending))
		return;
	if (v->core)
		core_check_lock(v->core);
	pthread_rwlock_unlock(&ending);
}

json_t *vold_request(struct vold *v, const char *text, size_t len, bool *end)
{
	struct error err = { 0 };
	CLEANUP_JSON json_t *req = json_parse(text, len, "request", &err);
	CLEANUP_JSON json_t *answer = json_object();
	const char *name = NULL;
	int rc = req ? json_want_str(req, "op", true, &name, &err) : -EINVAL;

	*end = false;
	json_set_bool(answer, "ok", true);
	if (rc == 0)
		rc = run(v, name, req, answer, end, &err);
	return rc ? vold_error(&err) : TAKE_PTR(answer);
}

/* --- connections -------------------------------------------------------------------------- */

struct connection {
	struct vold *vold;
	int fd;
};

static void *serve_connection(void *arg)
{
	struct connection conn = *(struct connection *)arg;
	FILE *in = fdopen(conn.fd, "r");
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	bool end = false;

	free(arg);
	if (!in) {
		close(conn.fd);
		return NULL;
	}
	while (!end && (n = getline(&line, &cap, in)) > 0) {
		CLEANUP_JSON json_t *answer = vold_request(conn.vold, line, (size_t)n, &end);
		CLEANUP_FREE char *text = json_text(answer);
		CLEANUP_BUF struct buf out = { 0 };

		buf_addf(&out, "%s\n", text);
		if (fd_write_all(conn.fd, out.data, out.len))
			break;
	}
	free(line);
	fclose(in);
	if (end)
		_exit(0);
	return NULL;
}

struct acceptor {
	struct vold *vold;
	int fd;
};

static void *accept_all(void *arg)
{
	struct acceptor a = *(struct acceptor *)arg;

	free(arg);
	for (;;) {
		struct connection *conn;
		pthread_t thread;
		int fd = accept4(a.fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0) {
			log_error("control socket: %s", strerror(errno));
			sleep(1);
			continue;
		}
		conn = malloc(sizeof(*conn));
		if (!conn) {
			close(fd);
			continue;
		}
		*conn = (struct connection){ .vold = a.vold, .fd = fd };
		if (pthread_create(&thread, NULL, serve_connection, conn) == 0) {
			pthread_detach(thread);
		} else {
			close(fd);
			free(conn);
		}
	}
	return NULL;
}

int vold_serve(struct vold *v, int listening, struct error *err)
{
	struct acceptor *a = malloc(sizeof(*a));
	pthread_t thread;
	int rc;

	if (!a)
		return error_set(err, ENOMEM, "out of memory");
	*a = (struct acceptor){ .vold = v, .fd = listening };
	rc = pthread_create(&thread, NULL, accept_all, a);
	if (rc) {
		free(a);
		return error_sys(err, rc, "starting the control thread");
	}
	pthread_detach(thread);
	return 0;
}
