/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hijacked connections: after "101" the connection's thread pumps bytes between the
 * client and the shim's socket of a container or exec, one buffer a direction, so that
 * neither direction waits for the other.
 *
 *	client ── bytes ──────► frames of kind 0 ──► shim     end of input: an empty frame
 *	client ◄── Docker's stream ◄── frames ────── shim     end of output: half-close, close
 */
#include <fcntl.h>
#include <microhttpd.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/frames.h"
#include "api/request.h"
#include "api/server.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define PIECE_BYTES 32768

struct hijack {
	struct server *server;
	struct fabric *fabric;
	struct hijack_options o; /* o.sock: -1 where there is none */
	char *arg;		 /* o.arg */
	int stop;
};

/* Bytes on their way in one direction: filled when empty, then drained. */
struct lane {
	struct buf buf;
	size_t sent;
	bool ended; /* nothing more comes in */
};

static bool lane_empty(const struct lane *l)
{
	return l->sent == l->buf.len;
}

static void lane_reset(struct lane *l)
{
	l->buf.len = 0;
	l->sent = 0;
}

/* 1: progress or nothing to do, 0: would block, -1: the other side is gone. */
static int lane_drain(struct lane *l, int fd)
{
	while (!lane_empty(l)) {
		ssize_t n = send(fd, l->buf.data + l->sent, l->buf.len - l->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		l->sent += (size_t)n;
	}
	lane_reset(l);
	return 1;
}

/* >0: bytes in piece, 0: the end, -EAGAIN. */
static ssize_t receive(int fd, char piece[PIECE_BYTES])
{
	ssize_t n;

	do
		n = recv(fd, piece, PIECE_BYTES, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? -EAGAIN : 0;
	return n;
}

/* Client to shim. */
static void fill_up(const struct hijack *h, struct lane *up, int client)
{
	char piece[PIECE_BYTES];
	ssize_t n = receive(client, piece);

	if (n == -EAGAIN)
		return;
	if (n == 0) {
		up->ended = true;
		if (h->o.input)
			frames_add(&up->buf, 0, NULL, 0);
	} else if (h->o.input) {
		frames_add(&up->buf, 0, piece, (size_t)n);
	}
}

/* Shim to client. */
static void fill_down(struct frames *frames, struct lane *down, int sock)
{
	char piece[PIECE_BYTES];
	ssize_t n = receive(sock, piece);

	if (n == 0)
		down->ended = true;
	else if (n > 0)
		frames_feed(frames, piece, (size_t)n, &down->buf);
}

static void pump(struct hijack *h, int client, struct lane *up)
{
	struct frames frames = { .strip = h->o.tty };
	struct lane down = { 0 };
	bool shim_reads = true;

	while (!(down.ended && lane_empty(&down))) {
		struct pollfd p[3] = { { .fd = client },
				       { .fd = h->o.sock },
				       { .fd = h->stop, .events = POLLIN } };

		if (!shim_reads)
			lane_reset(up);
		if (lane_empty(up) && !up->ended)
			p[0].events |= POLLIN;
		if (!lane_empty(&down))
			p[0].events |= POLLOUT;
		if (lane_empty(&down) && !down.ended)
			p[1].events |= POLLIN;
		if (!lane_empty(up))
			p[1].events |= POLLOUT;
		/* A peer that hung up makes poll() return for ever: leave out what wants nothing.
		 */
		if (!p[0].events && !lane_empty(up))
			p[0].fd = -1;
		if (!p[1].events)
			p[1].fd = -1;
		if (poll(p, 3, -1) < 0 && errno != EINTR)
			break;
		if (p[2].revents)
			break;
		if (p[0].revents & POLLIN)
			fill_up(h, up, client);
		else if (p[0].revents & (POLLHUP | POLLERR))
			break; /* closed for both directions: nobody is there any more */
		if (p[1].revents & (POLLIN | POLLHUP | POLLERR) && (p[1].events & POLLIN))
			fill_down(&frames, &down, h->o.sock);
		if (lane_drain(&down, client) < 0)
			break;
		if (lane_drain(up, h->o.sock) < 0)
			shim_reads = false; /* it closed stdin; its output still comes */
	}
	buf_free(&down.buf);
}

/* Adds what the client reads where the socket could not be had. */
static void open_late(struct hijack *h, struct buf *out)
{
	struct error err = { 0 };

	if (!h->o.open || h->o.open(h->fabric, h->arg, &h->o.sock, &err) == 0)
		return;
	h->o.sock = -1;
	if (h->o.tty) {
		buf_addf(out, "%s\r\n", err.msg);
	} else {
		CLEANUP_FREE char *line = str_format("%s\r\n", err.msg);

		frames_add(out, 2, line, strlen(line));
	}
}

void hijack_free(struct hijack *h)
{
	if (h->o.sock >= 0)
		close(h->o.sock);
	server_release(h->server);
	free(h->arg);
	free(h);
}

/* Runs in the connection's thread, which may block as each connection has its own. */
static void on_upgrade(void *cls, struct MHD_Connection *connection, void *state, const char *extra,
		       size_t extra_len, MHD_socket client, struct MHD_UpgradeResponseHandle *urh)
{
	struct hijack *h = cls;
	CLEANUP_BUF struct buf complaint = { 0 };
	struct lane up = { 0 };

	(void)connection;
	((struct request *)state)->hijack = NULL;
	open_late(h, &complaint);
	if (extra_len && h->o.input)
		frames_add(&up.buf, 0, extra, extra_len);
	if (h->o.sock >= 0) {
		fd_set_nonblock(client, true);
		fd_set_nonblock(h->o.sock, true);
		pump(h, client, &up);
	}
	buf_free(&up.buf);
	if (complaint.len) {
		fd_set_nonblock(client, false);
		fd_write_all(client, complaint.data, complaint.len);
	}
	/* The client gets its end of file even where libmicrohttpd closes later. */
	shutdown(client, SHUT_WR);
	hijack_free(h);
	MHD_upgrade_action(urh, MHD_UPGRADE_ACTION_CLOSE);
}

static const char *stream_type(const struct request *req, bool tty)
{
	return !tty && req->version >= 42 ? "application/vnd.docker.multiplexed-stream"
					  : "application/vnd.docker.raw-stream";
}

/* --- without an upgrade: output as a chunked answer --------------------------------- */

static void end_input(int sock)
{
	CLEANUP_BUF struct buf b = { 0 };

	frames_add(&b, 0, NULL, 0);
	fd_write_all(sock, b.data, b.len);
}

static int copy_output(struct feed *s, void *ctx, struct error *err)
{
	struct hijack *h = ctx;
	struct frames frames = { .strip = h->o.tty };
	CLEANUP_BUF struct buf b = { 0 };
	char piece[PIECE_BYTES];
	int r = 0;

	(void)err;
	open_late(h, &b);
	r = b.len ? feed_write(s, b.data, b.len) : 0;
	if (h->o.sock >= 0 && h->o.input)
		end_input(h->o.sock);
	while (!r && h->o.sock >= 0) {
		struct pollfd p = { .fd = h->o.sock, .events = POLLIN };
		ssize_t n;

		/* Nothing to read: look now and then whether anybody still wants it. */
		if (poll(&p, 1, 500) == 0) {
			if (feed_gone(s, 0))
				break;
			continue;
		}
		n = read(h->o.sock, piece, sizeof(piece));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		b.len = 0;
		frames_feed(&frames, piece, (size_t)n, &b);
		r = b.len ? feed_write(s, b.data, b.len) : 0;
	}
	return r;
}

static void copy_free(void *ctx)
{
	hijack_free(ctx);
}

static bool wants_upgrade(const struct request *req)
{
	return request_header(req, MHD_HTTP_HEADER_UPGRADE) != NULL;
}

int reply_hijack(struct request *req, const struct hijack_options *options, struct error *err)
{
	struct hijack *h = mem_zalloc(sizeof(*h));
	const char *type = stream_type(req, options->tty);
	struct MHD_Response *response;

	*h = (struct hijack){ .server = req->server,
			      .fabric = req->fabric,
			      .o = *options,
			      .arg = str_dup(options->arg),
			      .stop = request_stop_fd(req) };
	server_hold(h->server);
	if (!wants_upgrade(req)) {
		struct feed_options o = {
			.type = type, .produce = copy_output, .ctx = h, .free_ctx = copy_free
		};

		return reply_feed(req, &o, err);
	}
	response = MHD_create_response_for_upgrade(on_upgrade, h);
	if (!response) {
		hijack_free(h);
		return error_set(err, ENOMEM, "no memory for the connection");
	}
	req->hijack = h;
	reply_response(req, MHD_HTTP_SWITCHING_PROTOCOLS, response);
	reply_header(req, MHD_HTTP_HEADER_UPGRADE, "tcp");
	reply_header(req, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	return 0;
}
