/* SPDX-License-Identifier: Apache-2.0 */
/* The processors that each thread may run on. */
#include <pthread.h>
#include <sched.h>

#include "object.h"

static pthread_barrier_t both;

static void *body(void *arg)
{
	cpu_set_t now;

	pthread_barrier_wait(&both);
	pthread_barrier_wait(&both);
	CHECK(sched_getaffinity(0, sizeof(now), &now) == 0 && CPU_EQUAL(&now, (cpu_set_t *)arg));
	return NULL;
}

int main(int argc, char **argv)
{
	cpu_set_t all, one, now;
	pthread_t th;

	object_init(argc, argv);
	CHECK(sched_getaffinity(0, sizeof(all), &all) == 0);
	pthread_barrier_init(&both, NULL, 2);
	CHECK(pthread_create(&th, NULL, body, &all) == 0);
	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &all)) {
			CPU_SET(i, &one);
			break;
		}
	CHECK(sched_setaffinity(0, sizeof(one), &one) == 0);
	pthread_barrier_wait(&both);
	object_move();
	CHECK(sched_getaffinity(0, sizeof(now), &now) == 0 && CPU_EQUAL(&now, &one));
	pthread_barrier_wait(&both);
	CHECK(pthread_join(th, NULL) == 0);
	return 0;
}
