/* SPDX-License-Identifier: Apache-2.0 */
/* Priority-inheritance mutexes, one owned and with threads that wait in the kernel. */
#include <pthread.h>

#include "object.h"

static pthread_mutex_t m;
static int counter;
static _Atomic int waiting;

static void *body(void *arg)
{
	waiting++;
	CHECK(pthread_mutex_lock(&m) == 0);
	CHECK(counter >= 100);
	counter++;
	CHECK(pthread_mutex_unlock(&m) == 0);
	return arg;
}

int main(int argc, char **argv)
{
	pthread_mutexattr_t attr;
	pthread_t th[3];

	object_init(argc, argv);
	pthread_mutexattr_init(&attr);
	CHECK(pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT) == 0);
	CHECK(pthread_mutex_init(&m, &attr) == 0 && pthread_mutex_lock(&m) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_create(&th[i], NULL, body, NULL) == 0);
	while (waiting < 3)
		usleep(1000);
	usleep(50000);
	object_move();
	CHECK(counter == 0 && pthread_mutex_trylock(&m) == EBUSY);
	counter = 100;
	CHECK(pthread_mutex_unlock(&m) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_join(th[i], NULL) == 0);
	CHECK(counter == 103);
	return 0;
}
