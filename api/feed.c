/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunked answers that a producer thread writes: it pushes into a pipe, libmicrohttpd
 * pulls from it. The pulling side also watches the client's socket, so that a stream in
 * which nothing happens ends when its client goes, and the daemon's stop.
 *
 *	producer thread ──pipe──► pull() ──chunks──► client
 *	      ▲ EPIPE, POLLERR ◄── pipe closed ◄── POLLHUP
 */
#include <fcntl.h>
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "api/request.h"
#include "api/server.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"

#define BLOCK_BYTES 65536

struct feed {
	struct server *server;
	struct fabric *fabric;
	struct feed_options o;
	int rd, wr, client, stop;
	atomic_int users; /* the producer and the response */
	int result;	  /* these two are the producer's until done */
	struct error err;
	atomic_bool done; /* set before wr is closed */
};

static void feed_put(struct feed *s)
{
	if (atomic_fetch_sub(&s->users, 1) > 1)
		return;
	if (s->o.free_ctx)
		s->o.free_ctx(s->o.ctx);
	if (s->rd >= 0)
		close(s->rd);
	server_release(s->server);
	free(s);
}

int feed_write(struct feed *s, const void *data, size_t len)
{
	return fd_write_all(s->wr, data, len);
}

int feed_write_json(struct feed *s, const json_t *j)
{
	CLEANUP_FREE char *text = json_text(j);
	CLEANUP_BUF struct buf b = { 0 };

	buf_addf(&b, "%s\n", text);
	return feed_write(s, b.data, b.len);
}

int feed_fd(const struct feed *s)
{
	return s->wr;
}

struct fabric *feed_fabric(const struct feed *s)
{
	return s->fabric;
}

bool feed_gone(const struct feed *s, int wait_ms)
{
	struct pollfd p[] = { { .fd = s->wr }, { .fd = s->stop, .events = POLLIN } };

	return poll(p, 2, wait_ms) > 0;
}

static void *producer_thread(void *arg)
{
	struct feed *s = arg;

	s->result = s->o.produce(s, s->o.ctx, &s->err);
	if (s->result < 0 && s->result != -EPIPE)
		log_debug("a stream ended: %s", s->err.msg);
	atomic_store(&s->done, true);
	close(TAKE_FD(s->wr));
	feed_put(s);
	return NULL;
}

/* Waits until there is something to read. 1: yes; 0: the producer is done; -1: give up. */
static int wait_readable(struct feed *s, int timeout_ms)
{
	struct pollfd p[] = { { .fd = s->rd, .events = POLLIN },
			      { .fd = s->client }, /* POLLHUP: closed for both directions */
			      { .fd = s->stop, .events = POLLIN } };
	int n;

	do
		n = poll(p, 3, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (p[0].revents & POLLIN)
		return 1;
	if (p[0].revents)
		return 0;
	return -1;
}

/* After the pipe's end: what the producer returned. */
static int result_of(struct feed *s)
{
	return atomic_load(&s->done) ? s->result : 0;
}

static ssize_t pull(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct feed *s = cls;
	int r = wait_readable(s, -1);
	ssize_t n;

	(void)pos;
	if (r < 0)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	do
		n = r ? read(s->rd, buf, max) : 0;
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return n;
	return n < 0 || result_of(s) < 0 ? MHD_CONTENT_READER_END_WITH_ERROR
					 : MHD_CONTENT_READER_END_OF_STREAM;
}

/* The response is done with: whoever still writes gets EPIPE. */
static void pull_end(void *cls)
{
	struct feed *s = cls;

	if (s->o.on_gone)
		s->o.on_gone(s->o.ctx);
	close(TAKE_FD(s->rd));
	feed_put(s);
}

static struct feed *feed_new(struct request *req, const struct feed_options *options,
			     struct error *err)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(req->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct feed *s = mem_zalloc(sizeof(*s));
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0) {
		error_sys(err, errno, "making a pipe");
		free(s);
		return NULL;
	}
	s->server = req->server;
	s->fabric = req->fabric;
	s->o = *options;
	s->rd = fds[0];
	s->wr = fds[1];
	s->client = info ? info->connect_fd : -1;
	s->stop = request_stop_fd(req);
	atomic_init(&s->users, 2);
	server_hold(s->server);
	return s;
}

int reply_feed(struct request *req, const struct feed_options *options, struct error *err)
{
	struct feed *s = feed_new(req, options, err);
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	if (!s) {
		if (options->free_ctx)
			options->free_ctx(options->ctx);
		return -err->code;
	}
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 1u << 20);
	r = pthread_create(&thread, &attr, producer_thread, s);
	pthread_attr_destroy(&attr);
	if (r) {
		close(s->wr);
		atomic_store(&s->users, 1); /* no producer */
		feed_put(s);
		return error_sys(err, r, "starting a thread");
	}
	/* Nothing written and already at its end: the error can still be the answer. */
	if (options->settle_ms && wait_readable(s, options->settle_ms) == 0 && result_of(s) < 0) {
		r = s->result;
		*err = s->err;
		pull_end(s);
		return r;
	}
	reply_response(req, 200,
		       MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, pull, s,
							 pull_end));
	reply_header(req, MHD_HTTP_HEADER_CONTENT_TYPE, options->type);
	return 0;
}
