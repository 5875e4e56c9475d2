/* SPDX-License-Identifier: Apache-2.0 */
/* docker: --ulimit nproc=4096 */
/* 1,000 threads, each with a stack, a number and a wait of its own, go on and end one by
 * one. */
#include <pthread.h>
#include <sys/mman.h>

#include "object.h"

enum { N = 1000 };
static pthread_t threads[N];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int begun;
static bool go;

static void *body(void *arg)
{
	volatile long mine[100];

	for (long i = 0; i < 100; i++)
		mine[i] = (long)arg + i;
	pthread_mutex_lock(&lock);
	if (++begun == N)
		pthread_cond_broadcast(&cond);
	while (!go)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	for (long i = 0; i < 100; i++)
		CHECK(mine[i] == (long)arg + i);
	return (void *)(mine[0] * 3);
}

int main(int argc, char **argv)
{
	pthread_attr_t attr;

	object_init(argc, argv);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	for (long i = 0; i < N; i++)
		CHECK(pthread_create(&threads[i], &attr, body, (void *)i) == 0, "thread %ld", i);
	pthread_mutex_lock(&lock);
	while (begun < N)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	object_move();
	pthread_mutex_lock(&lock);
	go = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
	for (long i = 0; i < N; i++) {
		void *result;

		CHECK(pthread_join(threads[i], &result) == 0 && result == (void *)(i * 3),
		      "thread %ld", i);
	}
	return 0;
}
