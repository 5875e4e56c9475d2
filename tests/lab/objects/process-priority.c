/* SPDX-License-Identifier: Apache-2.0 */
/* Niceness, I/O priority, scheduling class (batch, idle, reset on fork) and timer slack, of
 * a thread each. */
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "object.h"

static pthread_barrier_t both;

static void *body(void *arg)
{
	struct sched_param sp = { 0 };
	int policy = arg ? SCHED_IDLE : SCHED_BATCH | SCHED_RESET_ON_FORK;

	CHECK(sched_setscheduler(0, policy, &sp) == 0);
	CHECK(setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), arg ? 11 : 7) == 0);
	CHECK(syscall(SYS_ioprio_set, 1, 0, arg ? 3 << 13 : 2 << 13 | 2) == 0);
	CHECK(prctl(PR_SET_TIMERSLACK, arg ? 123456 : 1) == 0);
	pthread_barrier_wait(&both);
	pthread_barrier_wait(&both);
	CHECK(sched_getscheduler(0) == policy, "%x", sched_getscheduler(0));
	CHECK(getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid)) == (arg ? 11 : 7));
	CHECK(syscall(SYS_ioprio_get, 1, 0) == (arg ? 3 << 13 : 2 << 13 | 2));
	CHECK(prctl(PR_GET_TIMERSLACK) == (arg ? 123456 : 1));
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t th[2];

	object_init(argc, argv);
	pthread_barrier_init(&both, NULL, 3);
	for (long i = 0; i < 2; i++)
		CHECK(pthread_create(&th[i], NULL, body, (void *)i) == 0);
	CHECK(setpriority(PRIO_PROCESS, 0, 3) == 0);
	CHECK(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6) == 0);
	pthread_barrier_wait(&both);
	object_move();
	CHECK(getpriority(PRIO_PROCESS, 0) == 3 && sched_getscheduler(0) == SCHED_OTHER);
	CHECK(syscall(SYS_ioprio_get, 1, 0) == (2 << 13 | 6), "%lx", syscall(SYS_ioprio_get, 1, 0));
	pthread_barrier_wait(&both);
	for (int i = 0; i < 2; i++)
		CHECK(pthread_join(th[i], NULL) == 0);
	return 0;
}
