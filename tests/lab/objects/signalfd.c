/* SPDX-License-Identifier: Apache-2.0 */
/* signalfd: mask, signals that wait before the move, watched by epoll. */
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct epoll_event ev = { .events = EPOLLIN }, got;
	struct signalfd_siginfo si;
	int fd, ep = epoll_create1(0);
	sigset_t set;

	object_init(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_NONBLOCK);
	CHECK(fd >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0);
	CHECK(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 42 }) == 0);
	object_move();
	CHECK(epoll_wait(ep, &got, 1, 1000) == 1);
	CHECK(read(fd, &si, sizeof(si)) == sizeof(si) && si.ssi_signo == (uint32_t)SIGRTMIN &&
	      si.ssi_int == 42);
	CHECK(epoll_wait(ep, &got, 1, 0) == 0 && read(fd, &si, sizeof(si)) < 0);
	CHECK(kill(getpid(), SIGUSR1) == 0 && epoll_wait(ep, &got, 1, 1000) == 1);
	CHECK(read(fd, &si, sizeof(si)) == sizeof(si) && si.ssi_signo == SIGUSR1);
	return 0;
}
