/* SPDX-License-Identifier: Apache-2.0 */
/* A socket that sends a signal when something comes (F_SETOWN, F_SETSIG, O_ASYNC). */
#include "net.h"

int main(int argc, char **argv)
{
	sigset_t set;
	siginfo_t info;
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	CHECK(fcntl(b, F_SETOWN, getpid()) == 0 && fcntl(b, F_SETSIG, SIGRTMIN) == 0);
	CHECK(fcntl(b, F_SETFL, O_ASYNC) == 0);
	object_move();
	CHECK(fcntl(b, F_GETOWN) == getpid());
	net_send(a, 1, 0, 10);
	CHECK(sigwaitinfo(&set, &info) == SIGRTMIN && info.si_fd == b);
	return 0;
}
