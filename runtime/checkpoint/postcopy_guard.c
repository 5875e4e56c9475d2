/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy at the destination: what happens if this engine dies. The kernel closes its
 * userfaultfds then, and gives the tasks pages of zeros for what has not come: silent
 * damage. So a second process holds the same userfaultfds (which keeps the tasks that wait
 * for a page waiting), notices the engine's end, and kills the container first.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/process.h"
#include "runtime/checkpoint/postcopy.h"

enum { GUARD_HOLD = 1, GUARD_DROP, GUARD_END };
struct order {
	uint32_t what, number;
};
struct late_guard {
	pid_t pid;
	int sock;
};

void late_kill(int init_pidfd, const char *note, const char *why)
{
	struct pollfd p = { .fd = init_pidfd, .events = POLLIN };

	/* First the reason: who sees the end looks for it. */
	if (note)
		file_write_atomic(note, why, strlen(why), 0600, NULL);
	/* The end of a namespace's init is the end of all in it; it is over when init is. */
	syscall(SYS_pidfd_send_signal, init_pidfd, SIGKILL, NULL, 0);
	poll(&p, 1, 60000);
}

static void send_order(int sock, struct order o, int fd)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} c = { 0 };
	struct iovec iov = { &o, sizeof(o) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		m.msg_control = &c;
		m.msg_controllen = sizeof(c.space);
		c.h.cmsg_level = SOL_SOCKET;
		c.h.cmsg_type = SCM_RIGHTS;
		c.h.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&c.h), &fd, sizeof(fd));
	}
	while (sendmsg(sock, &m, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

/* One order; false: the engine is gone. */
static bool receive_order(int sock, struct order *o, int *fd)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} c = { 0 };
	struct iovec iov = { o, sizeof(*o) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &c,
			    .msg_controllen = sizeof(c.space) };
	ssize_t n;

	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	*fd = -1;
	if (n == (ssize_t)sizeof(*o) && m.msg_controllen >= CMSG_LEN(sizeof(int)) &&
	    c.h.cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(&c.h), sizeof(*fd));
	return n == (ssize_t)sizeof(*o);
}

/* Everything but the socket, the pidfd and standard descriptors is closed. */
static void close_others(int a, int b)
{
	int lo = a < b ? a : b, hi = a < b ? b : a;

	if (lo > 3)
		close_range(3, (unsigned)lo - 1, 0);
	if (hi > lo + 1)
		close_range((unsigned)lo + 1, (unsigned)hi - 1, 0);
	close_range((unsigned)hi + 1, ~0u, 0);
}

static void guard(int sock, int init_pidfd, const char *note)
{
	struct {
		uint32_t number;
		int fd;
	} *held = NULL;
	size_t n = 0;
	struct order o = { 0 };
	int fd;

	setsid(); /* a signal for ferryd's group is not for us */
	while (receive_order(sock, &o, &fd)) {
		if (o.what == GUARD_END)
			_exit(0);
		if (o.what == GUARD_HOLD && fd >= 0) {
			held = mem_grow(held, n + 1, sizeof(*held));
			held[n].number = o.number;
			held[n++].fd = fd;
		}
		for (size_t i = 0; o.what == GUARD_DROP && i < n; i++)
			if (held[i].number == o.number) {
				close(held[i].fd);
				held[i] = held[--n];
				break;
			}
	}
	late_kill(init_pidfd, note,
		  "the checkpoint engine of this host died while part of the memory was still at "
		  "the source: the container could not go on");
	_exit(1);
}

struct late_guard *late_guard_start(int init_pidfd, const char *note, struct error *err)
{
	struct late_guard *g;
	int pair[2];
	pid_t pid;

	/* Packets: one order, one message. */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		error_sys(err, errno, "making a socket for the guard of post-copy");
		return NULL;
	}
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		close_others(pair[1], init_pidfd);
		guard(pair[1], init_pidfd, note);
	}
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		error_sys(err, errno, "starting the guard of post-copy");
		return NULL;
	}
	g = mem_zalloc(sizeof(*g));
	g->pid = pid;
	g->sock = pair[0];
	return g;
}

void late_guard_hold(struct late_guard *g, uint32_t number, int fd)
{
	send_order(g->sock, (struct order){ GUARD_HOLD, number }, fd);
}

void late_guard_drop(struct late_guard *g, uint32_t number)
{
	send_order(g->sock, (struct order){ GUARD_DROP, number }, -1);
}

void late_guard_end(struct late_guard *g)
{
	int status;

	if (!g)
		return;
	send_order(g->sock, (struct order){ GUARD_END, 0 }, -1);
	close(g->sock);
	process_wait(g->pid, &status);
	free(g);
}
