/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two "hosts" and a peer, as network namespaces of this process alone:
 *
 *        A: 10.9.0.2, fd09::2 (eth0) ──── pa ┐
 *                                            P: 10.9.0.1, fd09::1
 *        B: 10.9.0.2, fd09::2 (eth0) ──── pb ┘
 *
 * A and B have the same addresses; P's route says who is meant. Namespaces are held by
 * descriptors only: they go when the process does.
 */
#ifndef FERRY_TEST_SOCKNET_H
#define FERRY_TEST_SOCKNET_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/sock_gate.h"
#include "runtime/checkpoint/sock_tcp.h"

enum net_host { NET_A, NET_B, NET_P, NET_HOME, NET_COUNT };
static int net_fd[NET_COUNT] = { -1, -1, -1, -1 };

static inline void net_enter(enum net_host h)
{
	assert_int_equal(setns(net_fd[h], CLONE_NEWNET), 0);
}

/* Runs a shell command in a namespace. */
static inline void net_run(enum net_host h, const char *fmt, ...)
{
	char cmd[2000];
	va_list ap;
	int status;
	pid_t pid;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	pid = fork();
	if (pid == 0) {
		if (setns(net_fd[h], CLONE_NEWNET) < 0)
			_exit(99);
		execl("/bin/sh", "sh", "-ec", cmd, NULL);
		_exit(98);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status)
		fprintf(stderr, "# failed: %s\n", cmd);
	assert_int_equal(status, 0);
}

static inline int net_open(void)
{
	return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

static inline void net_up(void)
{
	struct rlimit lim = { 65536, 65536 };

	if (setrlimit(RLIMIT_NOFILE, &lim) < 0 && getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	net_fd[NET_HOME] = net_open();
	for (int i = NET_A; i <= NET_P; i++) {
		assert_int_equal(unshare(CLONE_NEWNET), 0);
		net_fd[i] = net_open();
		assert_true(net_fd[i] >= 0);
	}
	for (int i = NET_A; i <= NET_B; i++) {
		const char *p = i == NET_A ? "pa" : "pb";

		net_run(NET_P,
			"ip link add %s type veth peer name eth0 netns /proc/%d/fd/%d; "
			"ip link set %s up; ip addr add 10.9.0.1/32 dev %s; "
			"ip addr add fd09::1/128 dev %s nodad",
			p, getpid(), net_fd[i], p, p, p);
		net_run(i,
			"ip link set lo up; ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up; "
			"ip addr add fd09::2/64 dev eth0 nodad; "
			"ip addr add 10.9.0.3/24 dev eth0; echo 0 2147483647 "
			">/proc/sys/net/ipv4/ping_group_range");
	}
	net_run(NET_P, "ip link set lo up");
	net_enter(NET_HOME);
}

static inline void net_down(void)
{
	for (int i = 0; i < NET_COUNT; i++)
		if (net_fd[i] >= 0)
			close(TAKE_FD(net_fd[i]));
}

/* P's packets for the container's address go there. */
static inline void net_route(enum net_host h)
{
	const char *p = h == NET_A ? "pa" : "pb";

	net_run(NET_P,
		"ip route replace 10.9.0.2 dev %s src 10.9.0.1; "
		"ip -6 route replace fd09::2 dev %s src fd09::1",
		p, p);
}

/* Which links let nothing through; a set of 1 << host, `from` of packets from there. */
static inline void net_block(unsigned int to, unsigned int from)
{
	char set[2][40] = { "", "" };

	for (int k = 0; k < 2; k++)
		snprintf(set[k], sizeof(set[k]), "{ %s }",
			 (k ? from : to) == 3	? "pa, pb"
			 : (k ? from : to) == 1 ? "pa"
			 : (k ? from : to) == 2 ? "pb"
						: "none0");
	net_run(NET_P,
		"nft 'table inet t\ndelete table inet t\n"
		"table inet t {\nchain in {\ntype filter hook prerouting priority -300\n"
		"iifname %s drop\n}\nchain out {\ntype filter hook postrouting priority 300\n"
		"oifname %s drop\n}\n}\n'",
		set[1], set[0]);
}

static inline void net_start(void)
{
	net_route(NET_A);
	net_block(0, 0);
}

/* --- connections ------------------------------------------------------------------------- */
struct conn {
	int peer, own;	       /* in P; in the container */
	uint64_t tx[2], rx[2]; /* 0: peer to own, 1: own to peer */
};

static inline uint8_t pattern(int dir, uint64_t at)
{
	uint64_t x = (at >> 3) * 0x9e3779b97f4a7c15u + (uint64_t)dir;

	return (uint8_t)((x ^ x >> 29) >> (8 * (at & 7)));
}

static inline int conn_fd(const struct conn *c, int dir, bool sender)
{
	return (dir == 0) == sender ? c->peer : c->own;
}

/* Sends up to n bytes of the pattern without waiting; how many went. */
static inline size_t conn_send(struct conn *c, int dir, size_t n)
{
	static uint8_t buf[65536];
	size_t sent = 0;

	while (sent < n) {
		size_t k = n - sent < sizeof(buf) ? n - sent : sizeof(buf);
		ssize_t r;

		for (size_t i = 0; i < k; i++)
			buf[i] = pattern(dir, c->tx[dir] + i);
		r = send(conn_fd(c, dir, true), buf, k, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r < 0 && errno == EAGAIN)
			break;
		if (r < 0)
			fprintf(stderr, "# send, direction %d: %m\n", dir);
		assert_true(r >= 0);
		c->tx[dir] += (size_t)r;
		sent += (size_t)r;
	}
	return sent;
}

/* Reads what there is, and compares. -1 at the end of the stream. */
static inline ssize_t conn_read(struct conn *c, int dir)
{
	static uint8_t buf[65536];
	ssize_t r = recv(conn_fd(c, dir, false), buf, sizeof(buf), MSG_DONTWAIT);

	if (r < 0 && errno == EAGAIN)
		return 0;
	if (r < 0)
		fprintf(stderr, "# recv, direction %d: %m\n", dir);
	assert_true(r >= 0);
	for (ssize_t i = 0; i < r; i++)
		if (buf[i] != pattern(dir, c->rx[dir] + (size_t)i)) {
			fprintf(stderr, "# wrong byte, direction %d, at %llu of %llu\n", dir,
				(unsigned long long)c->rx[dir] + (unsigned long long)i,
				(unsigned long long)c->tx[dir]);
			fail();
		}
	c->rx[dir] += (size_t)r;
	return r ? r : -1;
}

/* Everything sent arrives, and then n bytes more. */
static inline void conn_pump(struct conn *c, int dir, size_t n)
{
	uint64_t want = c->tx[dir] + n;

	while (c->rx[dir] < want) {
		struct pollfd p[2] = { { .fd = conn_fd(c, dir, false), .events = POLLIN },
				       { .fd = conn_fd(c, dir, true), .events = POLLOUT } };
		int k;

		if (c->tx[dir] < want)
			conn_send(c, dir, want - c->tx[dir]);
		k = poll(p, c->tx[dir] < want ? 2 : 1, 30000);
		if (k == 0)
			fprintf(stderr, "# stuck, direction %d, %llu of %llu\n", dir,
				(unsigned long long)c->rx[dir], (unsigned long long)want);
		assert_true(k > 0);
		if (conn_read(c, dir) < 0) {
			fprintf(stderr, "# early end, direction %d, %llu of %llu\n", dir,
				(unsigned long long)c->rx[dir], (unsigned long long)want);
			fail();
		}
	}
}

static inline void conn_await_end(struct conn *c, int dir)
{
	for (;;) {
		struct pollfd p = { .fd = conn_fd(c, dir, false), .events = POLLIN };

		assert_true(poll(&p, 1, 30000) > 0);
		if (conn_read(c, dir) < 0)
			break;
	}
	assert_int_equal(c->rx[dir], c->tx[dir]);
}

static inline void conn_close(struct conn *c)
{
	close(c->peer);
	close(c->own);
}

static inline int sock_state(int fd)
{
	struct tcp_info i = { 0 };
	socklen_t len = sizeof(i);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) < 0) {
		fprintf(stderr, "# TCP_INFO of %d: %m\n", fd);
		fail();
	}
	return i.tcpi_state;
}

static inline void await_tcp_state(int fd, int state)
{
	for (int i = 0; i < 15000 && sock_state(fd) != state; i++)
		usleep(1000);
	assert_int_equal(sock_state(fd), state);
}

static inline int sock_int(int fd, unsigned long what)
{
	int n = -1;

	assert_int_equal(ioctl(fd, what, &n), 0);
	return n;
}

static inline socklen_t net_address(union sock_addr *a, int family, const char *ip, int port)
{
	memset(a, 0, sizeof(*a));
	a->sa.sa_family = (sa_family_t)family;
	a->in.sin_port = htons((uint16_t)port);
	assert_int_equal(inet_pton(family, ip,
				   family == AF_INET ? (void *)&a->in.sin_addr : &a->in6.sin6_addr),
			 1);
	return family == AF_INET ? sizeof(a->in) : sizeof(a->in6);
}

static inline int listen_at(enum net_host h, int family, const char *ip, int port, int flags)
{
	union sock_addr a;
	socklen_t len = net_address(&a, family, ip, port);
	int fd;

	net_enter(h);
	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	net_enter(NET_HOME);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, &a.sa, len), 0);
	assert_int_equal(listen(fd, 1024), 0);
	return fd;
}

static inline int connect_from(enum net_host h, int family, const char *ip, int port)
{
	union sock_addr a;
	socklen_t len = net_address(&a, family, ip, port);
	int fd;

	net_enter(h);
	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	net_enter(NET_HOME);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, &a.sa, len), 0);
	return fd;
}

/* P connects to a listener in A. */
static inline void conn_open(struct conn *c, int listener, int family, const char *ip)
{
	union sock_addr a = { 0 };
	socklen_t len = sizeof(a);

	memset(c, 0, sizeof(*c));
	assert_int_equal(getsockname(listener, &a.sa, &len), 0);
	c->peer = connect_from(NET_P, family, ip, ntohs(a.in.sin_port));
	c->own = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(c->own >= 0);
}

/* --- the move ------------------------------------------------------------------------------ */
struct moved {
	struct ofd o;
	const struct object_type *kind;
	struct buf body;
	int fd; /* restored */
};

static inline void moved_dump(struct moved *m, uint32_t id, int fd)
{
	struct error err = { 0 };

	memset(m, 0, sizeof(*m));
	m->o.id = id;
	m->o.fd = fd;
	m->o.num = fd;
	m->o.link = (char *)(uintptr_t) "socket:[0]";
	m->o.flags = fcntl(fd, F_GETFL);
	m->fd = -1;
	assert_int_equal(fstat(fd, &m->o.st), 0);
	m->kind = object_type_for(&m->o);
	assert_non_null(m->kind);
	if (m->kind->dump(NULL, &m->o, &m->body, &err) < 0) {
		fprintf(stderr, "# dump: %s\n", err.msg);
		fail();
	}
}

/* All in B, in the order given; fds replace those of A, which are closed. */
static inline void moved_restore(struct moved *m, size_t n)
{
	struct error err = { 0 };
	int r = 0;
	size_t i;

	net_enter(NET_B);
	for (i = 0; i < n && r == 0; i++)
		r = m[i].kind->restore(NULL, m[i].o.id, m[i].body.data, m[i].body.len, &m[i].fd,
				       &err);
	for (i = 0; i < n && r == 0; i++)
		if (m[i].kind->late)
			r = m[i].kind->late(NULL, m[i].o.id, m[i].body.data, m[i].body.len, m[i].fd,
					    &err);
	net_enter(NET_HOME);
	if (r < 0)
		fprintf(stderr, "# restore: %s\n", err.msg);
	assert_int_equal(r, 0);
}

static inline void moved_finish(struct moved *m, size_t n)
{
	struct error err = { 0 };

	net_enter(NET_B);
	for (size_t i = 0; i < n; i++) {
		int r = m[i].kind->finish ? m[i].kind->finish(NULL, m[i].o.id, m[i].fd, &err) : 0;

		if (r < 0)
			fprintf(stderr, "# finish: %s\n", err.msg);
		assert_int_equal(r, 0);
		buf_free(&m[i].body);
	}
	net_enter(NET_HOME);
}

/* A blackout: links cut, dump in A, restore in B, links to B open. fds[i] are replaced. */
static inline void net_move(int *const *fds, size_t n)
{
	struct moved *m = calloc(n, sizeof(*m));

	net_block(3, 3);
	net_enter(NET_A); /* for the gate on its lo */
	for (size_t i = 0; i < n; i++)
		moved_dump(&m[i], (uint32_t)i + 1, *fds[i]);
	net_enter(NET_HOME);
	moved_restore(m, n);
	sock_gate_detach();
	net_route(NET_B);
	net_block(1, 1);
	moved_finish(m, n);
	for (size_t i = 0; i < n; i++) {
		if (m[i].o.priv) {
			net_enter(NET_A);
			m[i].kind->dump_undo(NULL, &m[i].o);
			free(m[i].o.priv);
			net_enter(NET_HOME);
		}
		close(*fds[i]);
		*fds[i] = m[i].fd;
	}
	free(m);
}

/* The same, given up after the dump: A goes on. */
static inline void net_undo(int *const *fds, size_t n)
{
	net_block(3, 3);
	net_enter(NET_A);
	for (size_t i = 0; i < n; i++) {
		struct moved m;

		moved_dump(&m, (uint32_t)i + 1, *fds[i]);
		if (m.kind->dump_undo)
			m.kind->dump_undo(NULL, &m.o);
		free(m.o.priv);
		buf_free(&m.body);
	}
	net_enter(NET_HOME);
	sock_gate_detach();
	net_block(0, 0);
}

#endif
