/* SPDX-License-Identifier: Apache-2.0 */
/* ferry-shim: the poll loop, which moves bytes between processes, log and clients. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/container/shim-internal.h"

static void client_gone(struct client *c)
{
	struct proc *p = c->proc;

	c->dead = true;
	if (p && c->in && p->stdin_once)
		p->in_eof = true;
	for (p = shim.procs; p; p = p->next)
		if (p->starter == c)
			p->starter = NULL;
}

static void frame(struct client *c, int kind, const char *p, size_t n)
{
	if (kind == SHIM_CONTROL && !c->proc && !c->waiting && !c->finished) {
		shim_request(c, p, n);
	} else if (kind == SHIM_STDIN && c->proc && c->in && c->proc->in >= 0) {
		if (n)
			buf_add(&c->proc->inq, p, n);
		else if (c->proc->stdin_once)
			c->proc->in_eof = true;
	}
}

static void read_client(struct client *c)
{
	char chunk[65536];
	int fds[4];
	size_t nfds = 4, used = 0;
	ssize_t n = fd_recv(c->fd, chunk, sizeof(chunk), fds, &nfds);

	for (size_t i = 0; n > 0 && i < nfds; i++) {
		if (c->passed < 0)
			c->passed = fds[i];
		else
			close(fds[i]);
	}
	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		client_gone(c);
		return;
	}
	buf_add(&c->inq, chunk, (size_t)n);
	while (c->inq.len - used >= SHIM_HEADER) {
		const unsigned char *h = (const unsigned char *)c->inq.data + used;
		uint32_t len = shim_length(h);

		if (len > SHIM_FRAME_MAX) {
			client_gone(c);
			return;
		}
		if (c->inq.len - used < SHIM_HEADER + len)
			break;
		frame(c, h[0], (const char *)h + SHIM_HEADER, len);
		used += SHIM_HEADER + len;
	}
	if (used) {
		memmove(c->inq.data, c->inq.data + used, c->inq.len - used);
		c->inq.len -= used;
	}
}

static void write_client(struct client *c)
{
	while (c->out_done < c->outq.len) {
		ssize_t n = send(c->fd, c->outq.data + c->out_done, c->outq.len - c->out_done,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (errno != EAGAIN)
				client_gone(c);
			return;
		}
		c->out_done += (size_t)n;
		c->progress_ns = clock_mono_ns();
	}
	c->outq.len = c->out_done = 0;
	if (c->outq.cap > 4 * QUEUE_FULL / 16)
		buf_free(&c->outq);
}

static void read_output(struct proc *p, int stream)
{
	char chunk[65536];
	ssize_t n = read(p->out[stream], chunk, sizeof(chunk));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) { /* a terminal without a process gives EIO */
		if (n < 0 && errno == EIO && p->tty && !p->exited)
			return; /* all of it closed the terminal, but it may be opened again */
		if (p == &shim.init)
			jsonlog_flush(&shim.log, stream);
		shim_close(&p->out[stream]);
		return;
	}
	if (p == &shim.init)
		jsonlog_add(&shim.log, stream, chunk, (size_t)n);
	for (struct client *c = shim.clients; c; c = c->next)
		if (c->proc == p && (stream == 1 ? c->out : c->err))
			shim_queue(c, stream, chunk, (size_t)n);
}

static void write_input(struct proc *p)
{
	ssize_t n = p->inq.len ? write(p->in, p->inq.data, p->inq.len) : 0;

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		shim_close(&p->in);
		p->inq.len = 0;
		return;
	}
	if (n > 0) {
		memmove(p->inq.data, p->inq.data + n, p->inq.len - (size_t)n);
		p->inq.len -= (size_t)n;
	}
	if (!p->inq.len && p->in_eof && !p->tty)
		shim_close(&p->in);
}

/* A process must wait while one of its clients is full; see who has had its time. */
static bool must_wait(const struct proc *p)
{
	bool wait = false;

	for (struct client *c = shim.clients; c; c = c->next) {
		if (c->proc != p || c->dead || c->outq.len - c->out_done < QUEUE_FULL)
			continue;
		if (p == &shim.init && clock_mono_ns() - c->progress_ns > STALL_NS)
			client_gone(c);
		else
			wait = true;
	}
	return wait;
}

static void drop_clients(void)
{
	for (struct client **at = &shim.clients; *at;) {
		struct client *c = *at;

		if (!c->dead && !(c->finished && c->out_done == c->outq.len)) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		close(c->fd);
		shim_close(&c->passed);
		buf_free(&c->inq);
		buf_free(&c->outq);
		free(c);
	}
}

static void accept_client(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *c;

	if (fd < 0)
		return;
	c = mem_zalloc(sizeof(*c));
	c->fd = fd;
	c->passed = -1;
	c->next = shim.clients;
	shim.clients = c;
}

struct slot {
	enum { SLOT_LISTEN, SLOT_SIGNAL, SLOT_CLIENT, SLOT_OUT, SLOT_IN } kind;
	struct client *client;
	struct proc *proc;
	int stream;
};

static struct pollfd *pfds;
static struct slot *slots;
static size_t nslots, slots_cap;

static void watch(int fd, short events, struct slot slot)
{
	if (nslots == slots_cap) {
		slots_cap = slots_cap ? slots_cap * 2 : 32;
		pfds = mem_grow(pfds, slots_cap, sizeof(*pfds));
		slots = mem_grow(slots, slots_cap, sizeof(*slots));
	}
	pfds[nslots] = (struct pollfd){ .fd = fd, .events = events };
	slots[nslots++] = slot;
}

/* Fills the poll set; returns the timeout in milliseconds. */
static int arrange(int listener, int sigfd)
{
	int timeout = -1;

	nslots = 0;
	watch(listener, POLLIN, (struct slot){ .kind = SLOT_LISTEN });
	watch(sigfd, POLLIN, (struct slot){ .kind = SLOT_SIGNAL });
	for (struct proc *p = shim.procs; p; p = p->next) {
		bool wait = must_wait(p);

		if (p->exited && !p->told)
			timeout = 50;
		if (wait)
			timeout = 1000;
		for (int i = 1; i < 3 && !wait && !p->starting; i++)
			if (p->out[i] >= 0)
				watch(p->out[i], POLLIN, (struct slot){ SLOT_OUT, NULL, p, i });
		if (p->in >= 0 && !p->starting && (p->inq.len || (p->in_eof && !p->tty)))
			watch(p->in, POLLOUT, (struct slot){ SLOT_IN, NULL, p, 0 });
	}
	for (struct client *c = shim.clients; c; c = c->next) {
		bool full = c->proc && c->proc->inq.len > QUEUE_FULL;
		short ev = (short)((full ? 0 : POLLIN) | (c->outq.len > c->out_done ? POLLOUT : 0));

		watch(c->fd, ev, (struct slot){ SLOT_CLIENT, c, NULL, 0 });
	}
	return timeout;
}

/* A hung-up terminal or pipe polls readable for ever: give the processor away. */
static bool quiet_hangup(const struct slot *s, short revents)
{
	return s->kind == SLOT_OUT && s->proc->tty && !s->proc->exited && !(revents & POLLIN);
}

void shim_serve(int listener, int sigfd)
{
	for (;;) {
		int timeout = arrange(listener, sigfd);
		struct signalfd_siginfo si;
		bool idle = true;

		if (poll(pfds, nslots, timeout) < 0 && errno != EINTR)
			return;
		for (size_t i = 0; i < nslots; i++) {
			struct slot *s = &slots[i];
			short ev = pfds[i].revents;

			if (!ev)
				continue;
			if (quiet_hangup(s, ev))
				continue;
			idle = false;
			if (s->kind == SLOT_LISTEN)
				accept_client(listener);
			else if (s->kind == SLOT_SIGNAL)
				while (read(sigfd, &si, sizeof(si)) > 0)
					;
			else if (s->kind == SLOT_OUT && s->proc->out[s->stream] >= 0)
				read_output(s->proc, s->stream);
			else if (s->kind == SLOT_IN && s->proc->in >= 0)
				write_input(s->proc);
			else if (s->kind == SLOT_CLIENT && !s->client->dead) {
				if (ev & (POLLIN | POLLHUP | POLLERR))
					read_client(s->client);
				if (!s->client->dead)
					write_client(s->client);
			}
		}
		shim_reap();
		if (idle && timeout < 0)
			clock_sleep_ns(20000000);
		for (struct proc *p = shim.procs; p; p = p->next) {
			if (!p->exited || p->told)
				continue;
			if (shim_outputs_open(p) && clock_mono_ns() - p->exited_ns > LINGER_NS &&
			    !must_wait(p)) {
				shim_close(&p->out[1]);
				shim_close(&p->out[2]);
			}
			if (!shim_outputs_open(p))
				shim_finish(p);
		}
		for (struct client *c = shim.clients; c; c = c->next)
			if (!c->dead && c->outq.len > c->out_done)
				write_client(c);
		drop_clients();
		/* Init's end is the container's end; clients that read get their rest. */
		if (shim.init.told) {
			bool busy = false;

			for (struct client *c = shim.clients; c; c = c->next)
				busy |= c->outq.len > c->out_done &&
					clock_mono_ns() - c->progress_ns < STALL_NS;
			for (struct proc *p = shim.procs; p; p = p->next)
				busy |= !p->told && !p->starting &&
					clock_mono_ns() - shim.init.exited_ns < STALL_NS;
			if (!busy)
				return;
		}
	}
}
