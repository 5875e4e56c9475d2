/* SPDX-License-Identifier: Apache-2.0 */
/* Timeouts that run out on the other host: poll, select, futex, sleep and an absolute sleep
 * end when their time has come, not at once and not never; each in a thread, and in the main
 * thread of a process, which is stopped in pre-copy too. */
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "object.h"

enum { POLL, PPOLL, SELECT, FUTEX, SLEEP, ABSOLUTE, KINDS };
static long result[KINDS];
static int code[KINDS];
static bool good[KINDS];
static double took[KINDS];

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void *waiter(void *arg)
{
	int kind = (int)(long)arg;
	struct timespec ts = { 4, 0 }, end;
	struct timeval tv = { 4, 0 };
	uint32_t word = 0;
	double begin = now();

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += 4;
	switch (kind) {
	case POLL:
		result[kind] = poll(NULL, 0, 4000);
		break;
	case PPOLL:
		result[kind] = ppoll(NULL, 0, &ts, NULL);
		break;
	case SELECT:
		result[kind] = select(0, NULL, NULL, NULL, &tv);
		break;
	case FUTEX:
		result[kind] = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &ts);
		break;
	case SLEEP:
		result[kind] = nanosleep(&ts, &ts);
		break;
	case ABSOLUTE:
		result[kind] = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
		break;
	}
	code[kind] = errno;
	took[kind] = now() - begin;
	good[kind] =
		kind == FUTEX ? result[kind] == -1 && code[kind] == ETIMEDOUT : result[kind] == 0;
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t th[KINDS];
	int status;

	object_init(argc, argv);
	for (long i = 0; i < KINDS; i++)
		if (fork() == 0) {
			waiter((void *)i);
			CHECK(good[i], "kind %ld ended with %ld (errno %d)", i, result[i], code[i]);
			CHECK(took[i] >= 3.9, "kind %ld after %f s", i, took[i]);
			_exit(0);
		}
	for (long i = 0; i < KINDS; i++)
		CHECK(pthread_create(&th[i], NULL, waiter, (void *)i) == 0);
	usleep(100000);
	object_move();
	for (int i = 0; i < KINDS; i++)
		CHECK(wait(&status) > 0 && status == 0);
	for (int i = 0; i < KINDS; i++) {
		CHECK(pthread_join(th[i], NULL) == 0);
		CHECK(good[i], "kind %d ended with %ld (errno %d)", i, result[i], code[i]);
		CHECK(took[i] >= 3.9, "kind %d after %f s", i, took[i]);
	}
	return 0;
}
