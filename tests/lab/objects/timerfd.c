/* SPDX-License-Identifier: Apache-2.0 */
/* timerfd on every clock: remaining time, intervals, unread ticks, times of day. */
#include <fcntl.h>
#include <stdint.h>
#include <sys/timerfd.h>
#include <time.h>

#include "object.h"

int main(int argc, char **argv)
{
	static const int clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME };
	struct itimerspec its = { .it_value.tv_sec = 500 },
			  tick = { { 0, 5000000 }, { 0, 5000000 } };
	struct itimerspec soon = { .it_value.tv_nsec = 1000000 }, now;
	int rel[3], abs_[3], ticks[3], once[3], off[3];
	uint64_t v;

	object_init(argc, argv);
	for (int i = 0; i < 3; i++) {
		struct itimerspec at = { .it_interval.tv_sec = 7 };

		rel[i] = timerfd_create(clocks[i], 0);
		abs_[i] = timerfd_create(clocks[i], 0);
		ticks[i] = timerfd_create(clocks[i], TFD_NONBLOCK);
		once[i] = timerfd_create(clocks[i], 0);
		off[i] = timerfd_create(clocks[i], TFD_NONBLOCK);
		clock_gettime(clocks[i], &at.it_value);
		at.it_value.tv_sec += 300;
		CHECK(timerfd_settime(rel[i], 0, &its, NULL) == 0);
		CHECK(timerfd_settime(abs_[i], TFD_TIMER_ABSTIME, &at, NULL) == 0);
		CHECK(timerfd_settime(ticks[i], 0, &tick, NULL) == 0);
		CHECK(timerfd_settime(once[i], 0, &soon, NULL) == 0 && off[i] >= 0);
	}
	usleep(50000);
	object_move();
	for (int i = 0; i < 3; i++) {
		CHECK(timerfd_gettime(rel[i], &now) == 0 && now.it_value.tv_sec > 200 &&
			      now.it_value.tv_sec < 500,
		      "clock %d: %ld", i, now.it_value.tv_sec);
		CHECK(timerfd_gettime(abs_[i], &now) == 0 && now.it_value.tv_sec > 100 &&
			      now.it_value.tv_sec < 300 && now.it_interval.tv_sec == 7,
		      "clock %d: %ld", i, now.it_value.tv_sec);
		CHECK(read(ticks[i], &v, 8) == 8 && v >= 9, "clock %d: %lu ticks", i, v);
		CHECK(fcntl(ticks[i], F_SETFL, 0) == 0 && read(ticks[i], &v, 8) == 8 && v >= 1);
		CHECK(read(once[i], &v, 8) == 8 && v == 1 && read(off[i], &v, 8) < 0);
	}
	return 0;
}
