/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll: events and data of items, nested ones, edges, one shots, and what was ready
 * before.
 */
#include <fcntl.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "object.h"

static void add(int ep, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = { .events = events, .data.u64 = data };

	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) == 0);
}

int main(int argc, char **argv)
{
	int ep = epoll_create1(0), outer = epoll_create1(EPOLL_CLOEXEC), level[2], edge[2], n;
	int once = eventfd(0, EFD_NONBLOCK), ready[2];
	struct epoll_event e[8];
	uint64_t v;

	object_init(argc, argv);
	CHECK(pipe(level) == 0 && pipe(edge) == 0 && pipe(ready) == 0);
	add(ep, level[0], EPOLLIN, 0x1122334455667788);
	add(ep, edge[0], EPOLLIN | EPOLLET, 2);
	add(ep, once, EPOLLIN | EPOLLONESHOT, 3);
	add(outer, ep, EPOLLIN, 4);
	add(outer, ready[0], EPOLLIN | EPOLLRDHUP, 5);
	CHECK(write(ready[1], "r", 1) == 1 && fcntl(outer, F_GETFD) == FD_CLOEXEC);
	object_move();
	CHECK(epoll_wait(outer, e, 8, 1000) == 1 && e[0].data.u64 == 5);
	CHECK(read(ready[0], &v, 1) == 1 && epoll_wait(outer, e, 8, 0) == 0);
	CHECK(write(level[1], "x", 1) == 1 && epoll_wait(outer, e, 8, 1000) == 1 &&
	      e[0].data.u64 == 4);
	for (int i = 0; i < 2; i++)
		CHECK(epoll_wait(ep, e, 8, 0) == 1 && e[0].data.u64 == 0x1122334455667788 &&
		      e[0].events == EPOLLIN);
	CHECK(read(level[0], &v, 1) == 1);
	CHECK(write(edge[1], "y", 1) == 1 && epoll_wait(ep, e, 8, 1000) == 1 && e[0].data.u64 == 2);
	CHECK(epoll_wait(ep, e, 8, 0) == 0 && write(edge[1], "y", 1) == 1);
	CHECK(epoll_wait(ep, e, 8, 1000) == 1);
	CHECK(eventfd_write(once, 1) == 0 && epoll_wait(ep, e, 8, 1000) == 1 && e[0].data.u64 == 3);
	CHECK(eventfd_write(once, 1) == 0 && epoll_wait(ep, e, 8, 0) == 0);
	e[0].events = EPOLLIN;
	CHECK(epoll_ctl(ep, EPOLL_CTL_MOD, once, e) == 0 && (n = epoll_wait(ep, e, 8, 0)) == 1);
	CHECK(epoll_ctl(ep, EPOLL_CTL_DEL, level[0], NULL) == 0);
	return 0;
}
