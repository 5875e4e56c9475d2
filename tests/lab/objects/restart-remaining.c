/* SPDX-License-Identifier: Apache-2.0 */
/* Relative timeouts go on where they were: poll, futex and sleeps that began together with an
 * absolute sleep of the same length end together with it, and do not begin anew when they are
 * moved. Each is the main thread of a process. */
#include <linux/futex.h>
#include <poll.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "object.h"

#define WAITED_S 4 /* before the move; anew, they would end so much later */
#define WHOLE_S	 14

enum { ABSOLUTE, POLL, FUTEX, SLEEP, CLOCK_SLEEP, KINDS };
static const char *const names[] = { "absolute sleep", "poll", "futex", "nanosleep",
				     "clock_nanosleep" };

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool wait_as(int kind)
{
	struct timespec ts = { WHOLE_S, 0 }, end;
	uint32_t word = 0;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += WHOLE_S;
	switch (kind) {
	case ABSOLUTE:
		return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == 0;
	case POLL:
		return poll(NULL, 0, WHOLE_S * 1000) == 0;
	case FUTEX:
		return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &ts) == -1 &&
		       errno == ETIMEDOUT;
	case SLEEP:
		return nanosleep(&ts, NULL) == 0;
	default:
		return clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL) == 0;
	}
}

int main(int argc, char **argv)
{
	double *ended = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	double begin = now();
	int status;

	object_init(argc, argv);
	CHECK(ended != MAP_FAILED);
	for (int i = 0; i < KINDS; i++)
		if (fork() == 0) {
			CHECK(wait_as(i), "%s", names[i]);
			ended[i] = now();
			_exit(0);
		}
	sleep(WAITED_S);
	object_move();
	for (int i = 0; i < KINDS; i++)
		CHECK(wait(&status) > 0 && status == 0);
	for (int i = 0; i < KINDS; i++) {
		CHECK(ended[i] >= begin + WHOLE_S, "%s after %f s", names[i], ended[i] - begin);
		CHECK(ended[i] < ended[ABSOLUTE] + WAITED_S, "%s after %f s, absolute %f s",
		      names[i], ended[i] - begin, ended[ABSOLUTE] - begin);
	}
	return 0;
}
