/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POSIX timers: ids, clocks, remaining time, intervals, signals with values to process and
 * thread.
 */
#include <pthread.h>
#include <time.h>

#include "object.h"

static volatile pid_t tid;

static void *thread(void *arg)
{
	struct timespec second = { 100, 0 };
	siginfo_t si;
	sigset_t set;

	tid = gettid();
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	CHECK(sigtimedwait(&set, &si, &second) == SIGRTMIN + 1 && si.si_code == SI_TIMER);
	return arg;
}

int main(int argc, char **argv)
{
	struct itimerspec far = { .it_value.tv_sec = 500, .it_interval.tv_sec = 3 }, now;
	struct itimerspec tick = { { 0, 20000000 }, { 0, 20000000 } };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	struct timespec second = { 20, 0 };
	timer_t gone, mono, real, boot, quiet, th_timer;
	siginfo_t si;
	pthread_t th;
	sigset_t set;

	object_init(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigaddset(&set, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &gone) == 0);
	ev.sigev_value.sival_ptr = (void *)0x1234567890abcdef;
	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &mono) == 0 && timer_delete(gone) == 0);
	CHECK(timer_create(CLOCK_REALTIME, &ev, &real) == 0);
	CHECK(timer_create(CLOCK_BOOTTIME, &ev, &boot) == 0);
	ev.sigev_notify = SIGEV_NONE;
	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &quiet) == 0);
	CHECK(pthread_create(&th, NULL, thread, NULL) == 0);
	while (!tid)
		usleep(1000);
	ev.sigev_notify = SIGEV_THREAD_ID;
	ev.sigev_signo = SIGRTMIN + 1;
	ev._sigev_un._tid = tid;
	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &th_timer) == 0);
	CHECK(timer_settime(real, 0, &far, NULL) == 0 && timer_settime(boot, 0, &far, NULL) == 0);
	CHECK(timer_settime(quiet, 0, &far, NULL) == 0);
	object_move();
	CHECK(timer_gettime(mono, &now) == 0 && now.it_value.tv_sec == 0 &&
	      now.it_value.tv_nsec == 0);
	CHECK(timer_gettime(real, &now) == 0 && now.it_value.tv_sec > 300 &&
	      now.it_value.tv_sec < 500 && now.it_interval.tv_sec == 3);
	CHECK(timer_gettime(boot, &now) == 0 && now.it_value.tv_sec > 300 &&
	      now.it_value.tv_sec < 500);
	CHECK(timer_gettime(quiet, &now) == 0 && now.it_value.tv_sec > 300 &&
	      now.it_value.tv_sec < 500);
	CHECK(timer_settime(mono, 0, &tick, NULL) == 0);
	CHECK(sigtimedwait(&set, &si, &second) == SIGRTMIN && si.si_code == SI_TIMER &&
	      si.si_value.sival_ptr == (void *)0x1234567890abcdef);
	CHECK(timer_settime(th_timer, 0, &tick, NULL) == 0 && pthread_join(th, NULL) == 0);
	CHECK(timer_delete(quiet) == 0 && timer_delete(th_timer) == 0);
	return 0;
}
