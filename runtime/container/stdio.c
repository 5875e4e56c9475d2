/* SPDX-License-Identifier: Apache-2.0 */
/* attach and resize: what the caller gets are sockets to the shim (shim.h). */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/container/internal.h"
#include "runtime/container/shim.h"

static json_t *attach_request(const struct container_attach_options *o)
{
	return json_pack("{s:s,s:s,s:b,s:b,s:b}", "op", "attach", "proc", "", "stdin", o->stdin_,
			 "stdout", o->stdout_, "stderr", o->stderr_);
}

/* --- attach with what was logged before --------------------------------------------- */

struct replay {
	struct container_manager *m;
	char *id;
	int fd;
	struct container_attach_options o;
};

static int replay_line(void *ctx, int stream, const void *p, size_t n)
{
	struct replay *r = ctx;
	unsigned char h[SHIM_HEADER];

	if (!n)
		return 0;
	shim_header(h, stream, (uint32_t)n);
	return fd_write_all(r->fd, h, sizeof(h)) < 0 || fd_write_all(r->fd, p, n) < 0;
}

static void *replay_main(void *arg)
{
	struct replay *r = arg;
	struct container_log_options lo = { .stdout_ = r->o.stdout_,
					    .stderr_ = r->o.stderr_,
					    .tail = -1 };
	int sock;

	container_logs(r->m, r->id, &lo, replay_line, r, NULL);
	sock = shim_connect(r->m, r->id, NULL);
	if (sock >= 0) {
		if (shim_send(sock, attach_request(&r->o), r->fd, NULL) == 0)
			shim_answer(sock, NULL, NULL);
		close(sock);
	}
	close(r->fd);
	free(r->id);
	free(r);
	return NULL;
}

static int replay(struct container_manager *m, const char *id,
		  const struct container_attach_options *o, int *sock, struct error *err)
{
	struct replay *r;
	pthread_t thread;
	pthread_attr_t at;
	int pair[2], e;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_sys(err, errno, "making a socket pair");
	r = mem_zalloc(sizeof(*r));
	*r = (struct replay){ m, str_dup(id), pair[1], *o };
	pthread_attr_init(&at);
	pthread_attr_setdetachstate(&at, PTHREAD_CREATE_DETACHED);
	e = pthread_create(&thread, &at, replay_main, r);
	pthread_attr_destroy(&at);
	if (e) {
		close(pair[0]);
		close(pair[1]);
		free(r->id);
		free(r);
		return error_sys(err, e, "starting a thread");
	}
	*sock = pair[0];
	return 0;
}

/* Not running yet: the other end waits in the table until the container starts. */
static int wait_for_start(struct container *c, const struct container_attach_options *o, int *sock,
			  struct error *err)
{
	struct pending *p;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_sys(err, errno, "making a socket pair");
	p = mem_zalloc(sizeof(*p));
	*p = (struct pending){ c->pending, pair[1], o->stdin_, o->stdout_, o->stderr_ };
	c->pending = p;
	*sock = pair[0];
	return 0;
}

int container_attach(struct container_manager *m, const char *id,
		     const struct container_attach_options *o, int *sock, struct error *err)
{
	struct container *c = container_get(m, id, err);
	CLEANUP_CLOSE int fd = -1;
	bool running;
	int r = 0;

	if (!c)
		return -ENOENT;
	pthread_mutex_lock(&m->lock);
	running = c->status == RUNNING || c->stub;
	if (!running)
		r = wait_for_start(c, o, sock, err);
	pthread_mutex_unlock(&m->lock);
	if (running && o->logs) {
		r = replay(m, id, o, sock, err);
	} else if (running) {
		fd = shim_connect(m, id, err);
		r = fd < 0 ? fd : shim_ask(fd, attach_request(o), NULL, err);
		if (!r)
			*sock = TAKE_FD(fd);
	}
	container_put(m, c);
	return r;
}

int shim_resize(struct container_manager *m, const char *id, const char *proc, unsigned rows,
		unsigned cols, struct error *err)
{
	CLEANUP_CLOSE int fd = shim_connect(m, id, err);

	if (fd < 0)
		return fd;
	return shim_ask(fd,
			json_pack("{s:s,s:s,s:i,s:i}", "op", "resize", "proc", proc, "rows",
				  (int)rows, "cols", (int)cols),
			NULL, err);
}

int container_resize(struct container_manager *m, const char *id, unsigned rows, unsigned cols,
		     struct error *err)
{
	struct container *c = container_get(m, id, err);
	int r;

	if (!c)
		return -ENOENT;
	r = shim_resize(m, id, "", rows, cols, err);
	container_put(m, c);
	return r;
}
