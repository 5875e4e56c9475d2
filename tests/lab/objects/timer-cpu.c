/* SPDX-License-Identifier: Apache-2.0 */
/* Timers on the processor time of process and thread, and the interval timers of that kind. */
#include <sys/time.h>
#include <time.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct itimerspec far = { .it_value.tv_sec = 100 }, soon = { .it_value.tv_nsec = 50000000 },
			  now;
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	struct itimerval prof = { .it_value.tv_sec = 200 }, left;
	struct timespec none = { 0, 0 };
	timer_t process, thread;
	siginfo_t si;
	sigset_t set;

	object_init(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	CHECK(timer_create(CLOCK_PROCESS_CPUTIME_ID, &ev, &process) == 0);
	CHECK(timer_create(CLOCK_THREAD_CPUTIME_ID, &ev, &thread) == 0);
	CHECK(timer_settime(process, 0, &far, NULL) == 0 &&
	      setitimer(ITIMER_PROF, &prof, NULL) == 0);
	object_move();
	CHECK(timer_gettime(process, &now) == 0 && now.it_value.tv_sec > 50 &&
	      now.it_value.tv_sec <= 100);
	CHECK(getitimer(ITIMER_PROF, &left) == 0 && left.it_value.tv_sec > 100 &&
	      left.it_value.tv_sec <= 200);
	CHECK(timer_settime(thread, 0, &soon, NULL) == 0);
	for (volatile unsigned long i = 0; i < 100000000000; i++)
		if (i % 1000000 == 0 && sigtimedwait(&set, &si, &none) == SIGRTMIN)
			break;
	CHECK(si.si_signo == SIGRTMIN && si.si_code == SI_TIMER);
	return 0;
}
