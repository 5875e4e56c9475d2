/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs of sockets share: addresses, pairs of ends, a pattern of bytes. */
#ifndef FERRY_TESTS_OBJECTS_NET_H
#define FERRY_TESTS_OBJECTS_NET_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "object.h"

union net_address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

__attribute__((unused)) static inline socklen_t net_at(union net_address *a, const char *ip,
						       int port)
{
	bool v6 = strchr(ip, ':') != NULL;

	memset(a, 0, sizeof(*a));
	a->sa.sa_family = v6 ? AF_INET6 : AF_INET;
	a->in.sin_port = htons((uint16_t)port);
	CHECK(inet_pton(a->sa.sa_family, ip,
			v6 ? (void *)&a->in6.sin6_addr : (void *)&a->in.sin_addr) == 1);
	return v6 ? sizeof(a->in6) : sizeof(a->in);
}

__attribute__((unused)) static inline int net_socket(int type, const char *ip, int port)
{
	union net_address a;
	socklen_t len = net_at(&a, ip, port);
	int one = 1, s = socket(a.sa.sa_family, type, 0);

	CHECK(s >= 0);
	CHECK(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0);
	CHECK(bind(s, &a.sa, len) == 0, "%s port %d", ip, port);
	return s;
}

__attribute__((unused)) static inline int net_listen(const char *ip, int port, int backlog)
{
	int s = net_socket(SOCK_STREAM, ip, port);

	CHECK(listen(s, backlog) == 0);
	return s;
}

__attribute__((unused)) static inline int net_dial(const char *ip, int port)
{
	union net_address a;
	socklen_t len = net_at(&a, ip, port);
	int s = socket(a.sa.sa_family, SOCK_STREAM, 0);

	CHECK(s >= 0);
	CHECK(connect(s, &a.sa, len) == 0, "%s port %d", ip, port);
	return s;
}

/* Both ends of a connection inside the container; the listener stays, in *l. */
__attribute__((unused)) static inline void net_pair(const char *ip, int port, int *l, int *near,
						    int *far)
{
	*l = net_listen(ip, port, 16);
	*near = net_dial(ip, port);
	*far = accept(*l, NULL, NULL);
	CHECK(*far >= 0);
}

__attribute__((unused)) static inline int net_int(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	CHECK(getsockopt(fd, level, name, &v, &len) == 0, "option %d of level %d", name, level);
	return v;
}

__attribute__((unused)) static inline void net_set(int fd, int level, int name, int v)
{
	CHECK(setsockopt(fd, level, name, &v, sizeof(v)) == 0, "option %d of level %d", name,
	      level);
}

__attribute__((unused)) static inline int net_state(int fd)
{
	struct tcp_info i = { 0 };
	socklen_t len = sizeof(i);

	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) == 0);
	return i.tcpi_state;
}

__attribute__((unused)) static inline void net_await_state(int fd, int state)
{
	for (int i = 0; i < 20000 && net_state(fd) != state; i++)
		usleep(1000);
	CHECK(net_state(fd) == state, "it is %d", net_state(fd));
}

__attribute__((unused)) static inline short net_poll(int fd, short events, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = events };

	CHECK(poll(&p, 1, timeout_ms) >= 0);
	return p.revents;
}

static inline char net_byte(unsigned int seed, size_t at)
{
	return (char)(at * 7 + at / 251 + seed);
}

/* Sends `n` bytes of the pattern from place `at` on, or (n 0) as many as the queues take. */
__attribute__((unused)) static inline size_t net_send(int fd, unsigned int seed, size_t at,
						      size_t n)
{
	static char buf[65536];
	size_t sent = 0;

	while (!n || sent < n) {
		size_t k = n && n - sent < sizeof(buf) ? n - sent : sizeof(buf);
		ssize_t r;

		for (size_t i = 0; i < k; i++)
			buf[i] = net_byte(seed, at + sent + i);
		r = send(fd, buf, k, MSG_NOSIGNAL | (n ? 0 : MSG_DONTWAIT));
		if (r < 0 && !n && errno == EAGAIN) {
			/* the kernel is still carrying it over */
			if (!(net_poll(fd, POLLOUT, 300) & POLLOUT))
				break;
			continue;
		}
		CHECK(r > 0);
		sent += (size_t)r;
	}
	return sent;
}

/* Receives exactly `n` bytes of the pattern. */
__attribute__((unused)) static inline void net_recv(int fd, unsigned int seed, size_t at, size_t n)
{
	static char buf[65536];

	for (size_t got = 0; got < n;) {
		size_t k = n - got < sizeof(buf) ? n - got : sizeof(buf);
		ssize_t r;

		CHECK(net_poll(fd, POLLIN, 40000) & POLLIN, "%zu of %zu bytes came", got, n);
		r = recv(fd, buf, k, 0);
		CHECK(r > 0, "%zu of %zu bytes came", got, n);
		for (ssize_t i = 0; i < r; i++)
			CHECK(buf[i] == net_byte(seed, at + got + (size_t)i), "byte %zu is wrong",
			      at + got + (size_t)i);
		got += (size_t)r;
	}
}

__attribute__((unused)) static inline void net_end(int fd)
{
	char byte;

	CHECK(net_poll(fd, POLLIN, 40000) & POLLIN);
	CHECK(recv(fd, &byte, 1, 0) == 0);
}

/* Options of a socket with whole numbers for values. */
struct net_option {
	int level, name, value;
};

__attribute__((unused)) static inline void net_options_set(int fd, const struct net_option *o,
							   size_t n)
{
	for (size_t i = 0; i < n; i++)
		net_set(fd, o[i].level, o[i].name, o[i].value);
}

__attribute__((unused)) static inline void net_options_hold(int fd, const struct net_option *o,
							    size_t n)
{
	for (size_t i = 0; i < n; i++)
		CHECK(net_int(fd, o[i].level, o[i].name) == o[i].value, "option %d is %d",
		      o[i].name, net_int(fd, o[i].level, o[i].name));
}

/* The connection works both ways. */
__attribute__((unused)) static inline void net_works(int near, int far)
{
	net_send(near, 90, 0, 5000);
	net_recv(far, 90, 0, 5000);
	net_send(far, 91, 0, 5000);
	net_recv(near, 91, 0, 5000);
}

#endif
