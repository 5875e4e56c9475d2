/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timerfd on the clocks that wake a sleeping machine, and one that is told when the time
 * is set.
 */
/* docker: --cap-add WAKE_ALARM */
#include <fcntl.h>
#include <stdint.h>
#include <sys/timerfd.h>
#include <time.h>

#include "object.h"

int main(int argc, char **argv)
{
	int real = timerfd_create(CLOCK_REALTIME_ALARM, TFD_NONBLOCK), boot, set;
	struct itimerspec its = { { 0, 20000000 }, { 0, 20000000 } },
			  far = { .it_value.tv_sec = 400 }, now;
	uint64_t v;

	object_init(argc, argv);
	boot = timerfd_create(CLOCK_BOOTTIME_ALARM, 0);
	set = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
	CHECK(real >= 0 && boot >= 0 && timerfd_settime(real, 0, &its, NULL) == 0);
	CHECK(timerfd_settime(boot, 0, &far, NULL) == 0);
	clock_gettime(CLOCK_REALTIME, &far.it_value);
	far.it_value.tv_sec += 600;
	CHECK(timerfd_settime(set, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL) == 0);
	usleep(50000);
	object_move();
	CHECK(read(real, &v, 8) == 8 && v >= 2);
	CHECK(timerfd_gettime(boot, &now) == 0 && now.it_value.tv_sec > 200 &&
	      now.it_value.tv_sec < 400);
	CHECK(timerfd_gettime(set, &now) == 0 && now.it_value.tv_sec > 300 &&
	      now.it_value.tv_sec < 600);
	CHECK(read(set, &v, 8) < 0 && errno == EAGAIN);
	CHECK(fcntl(real, F_SETFL, 0) == 0 && read(real, &v, 8) == 8);
	return 0;
}
