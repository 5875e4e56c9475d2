/* SPDX-License-Identifier: Apache-2.0 */
/* Names of threads (prctl, pthread_setname_np) and the name of the process. */
#include <pthread.h>
#include <sys/prctl.h>

#include "object.h"

static pthread_barrier_t both;

static void *body(void *arg)
{
	char name[16], now[16];

	snprintf(name, sizeof(name), "worker %ld!", (long)arg);
	CHECK(prctl(PR_SET_NAME, name) == 0);
	pthread_barrier_wait(&both);
	pthread_barrier_wait(&both);
	CHECK(prctl(PR_GET_NAME, now) == 0 && strcmp(name, now) == 0, "%s", now);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t th[3];
	char name[16];

	object_init(argc, argv);
	pthread_barrier_init(&both, NULL, 4);
	for (long i = 0; i < 3; i++)
		CHECK(pthread_create(&th[i], NULL, body, (void *)i) == 0);
	CHECK(prctl(PR_SET_NAME, "main thread") == 0);
	pthread_barrier_wait(&both);
	object_move();
	CHECK(prctl(PR_GET_NAME, name) == 0 && strcmp(name, "main thread") == 0);
	pthread_barrier_wait(&both);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_join(th[i], NULL) == 0);
	return 0;
}
