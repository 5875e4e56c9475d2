/* SPDX-License-Identifier: Apache-2.0 */
/* POSIX timers (timer_create) of several clocks: number, remaining time, interval, signal
 * and value. */
#include <sys/time.h>
#include <time.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 4 };
	struct itimerspec far = { { 77, 0 }, { 1000, 0 } }, soon = { { 0, 0 }, { 0, 1000000 } },
			  left;
	clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME };
	timer_t timers[3], gone;
	siginfo_t si;
	sigset_t set;

	object_init(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 4);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &gone) == 0);
	for (int i = 0; i < 3; i++) {
		ev.sigev_value.sival_int = 500 + i;
		CHECK(timer_create(clocks[i], &ev, &timers[i]) == 0);
		CHECK(timer_settime(timers[i], 0, &far, NULL) == 0);
	}
	CHECK(timer_delete(gone) == 0);
	object_move();
	for (int i = 0; i < 3; i++) {
		CHECK(timer_gettime(timers[i], &left) == 0 && left.it_value.tv_sec > 800 &&
			      left.it_value.tv_sec <= 1000 && left.it_interval.tv_sec == 77,
		      "timer %d: %ld s left", i, (long)left.it_value.tv_sec);
		CHECK(timer_settime(timers[i], 0, &soon, NULL) == 0);
		CHECK(sigwaitinfo(&set, &si) == SIGRTMIN + 4 && si.si_code == SI_TIMER &&
		      si.si_value.sival_int == 500 + i);
	}
	return 0;
}
