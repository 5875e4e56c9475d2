/* SPDX-License-Identifier: Apache-2.0 */
/* Interval timers (setitimer) of all three kinds, with what remains of them. */
#include <sys/time.h>

#include "object.h"

static volatile int got;

static void handler(int sig)
{
	got = sig;
}

int main(int argc, char **argv)
{
	struct itimerval v = { { 9, 0 }, { 500, 0 } }, now;

	object_init(argc, argv);
	CHECK(signal(SIGALRM, handler) != SIG_ERR);
	for (int i = ITIMER_REAL; i <= ITIMER_PROF; i++) {
		v.it_interval.tv_sec = 10 + i;
		CHECK(setitimer(i, &v, NULL) == 0);
	}
	object_move();
	for (int i = ITIMER_REAL; i <= ITIMER_PROF; i++)
		CHECK(getitimer(i, &now) == 0 && now.it_interval.tv_sec == 10 + i &&
			      now.it_value.tv_sec > 300 && now.it_value.tv_sec <= 500,
		      "timer %d: %ld s", i, (long)now.it_value.tv_sec);
	v = (struct itimerval){ { 0, 0 }, { 0, 1000 } };
	CHECK(setitimer(ITIMER_REAL, &v, NULL) == 0);
	while (!got)
		usleep(1000);
	return 0;
}
