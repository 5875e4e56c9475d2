/* SPDX-License-Identifier: Apache-2.0 */
/* Restartable sequences: glibc's registration is there for every thread, old and new. */
#include <linux/rseq.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "object.h"

extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));
static pthread_barrier_t both;

/* The kernel keeps the processor's number in the registered area. */
static void check(void)
{
	volatile struct rseq *r;
	uint32_t cpu;

	if (!&__rseq_size || !__rseq_size)
		return; /* a C library without it */
	r = (volatile struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	/* Registered again it is refused as busy: it still is. */
	CHECK(syscall(SYS_rseq, r, 32, 0, 0x53053053) < 0 && (errno == EBUSY || errno == EINVAL),
	      "rseq is not registered");
	for (int i = 0; i < 100; i++) {
		unsigned int now;

		cpu = r->cpu_id;
		CHECK((int)cpu >= 0);
		CHECK(syscall(SYS_getcpu, &now, NULL, NULL) == 0);
		if (now == cpu && r->cpu_id == cpu)
			return;
	}
	CHECK(0, "the area is not kept up");
}

static void *body(void *arg)
{
	pthread_barrier_wait(&both);
	pthread_barrier_wait(&both);
	check();
	return arg;
}

static void *fresh(void *arg)
{
	check();
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t th;

	object_init(argc, argv);
	pthread_barrier_init(&both, NULL, 2);
	CHECK(pthread_create(&th, NULL, body, NULL) == 0);
	pthread_barrier_wait(&both);
	object_move();
	check();
	pthread_barrier_wait(&both);
	CHECK(pthread_join(th, NULL) == 0);
	CHECK(pthread_create(&th, NULL, fresh, NULL) == 0 && pthread_join(th, NULL) == 0);
	return 0;
}
