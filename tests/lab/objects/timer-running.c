/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers that run all the time: a POSIX timer and an interval timer go on ticking after
 * the move.
 */
#include <sys/time.h>
#include <time.h>

#include "object.h"

static volatile sig_atomic_t nposix, ninterval;

static void posix(int sig)
{
	(void)sig;
	nposix++;
}

static void interval(int sig)
{
	(void)sig;
	ninterval++;
}

int main(int argc, char **argv)
{
	struct itimerspec tick = { { 0, 10000000 }, { 0, 10000000 } }, now;
	struct itimerval every = { { 0, 10000 }, { 0, 10000 } }, left;
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	sig_atomic_t a, b;
	timer_t t;

	object_init(argc, argv);
	signal(SIGRTMIN, posix);
	signal(SIGALRM, interval);
	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &t) == 0 && timer_settime(t, 0, &tick, NULL) == 0);
	CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);
	while (nposix < 5 || ninterval < 5)
		usleep(1000);
	object_move();
	a = nposix;
	b = ninterval;
	for (int i = 0; i < 20000 && (nposix < a + 5 || ninterval < b + 5); i++)
		usleep(1000);
	CHECK(nposix >= a + 5 && ninterval >= b + 5, "%d and %d, then %d and %d", a, b, nposix,
	      ninterval);
	CHECK(timer_gettime(t, &now) == 0 && now.it_interval.tv_nsec == 10000000);
	CHECK(getitimer(ITIMER_REAL, &left) == 0 && left.it_interval.tv_usec == 10000);
	return 0;
}
