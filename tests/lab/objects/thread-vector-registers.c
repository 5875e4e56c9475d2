/* SPDX-License-Identifier: Apache-2.0 */
/* Floating-point and vector registers of threads that never leave them alone, and their
 * control words. */
#include <pthread.h>

#include "object.h"

static volatile bool stop;

static void *body(void *arg)
{
	double x = (double)(long)arg;
	unsigned long pattern = 0x0123456789abcdef * (unsigned long)arg, got;

	/* Rounding towards zero. */
	__builtin_ia32_ldmxcsr(0x1f80 | 0x6000);
	while (!stop) {
		__asm__ volatile("movq %1, %%xmm15\n\t"
				 "mov $100000, %%ecx\n\t"
				 "1: dec %%ecx\n\t"
				 "jnz 1b\n\t"
				 "movq %%xmm15, %0"
				 : "=r"(got)
				 : "r"(pattern)
				 : "ecx", "xmm15");
		if (got != pattern)
			return (void *)1;
		x = x * 1.5 / 1.5;
		if (x < (double)(long)arg - 1e-6)
			return (void *)2;
	}
	return (__builtin_ia32_stmxcsr() & 0x6000) == 0x6000 ? NULL : (void *)3;
}

int main(int argc, char **argv)
{
	pthread_t th[2];

	object_init(argc, argv);
	for (long i = 0; i < 2; i++)
		CHECK(pthread_create(&th[i], NULL, body, (void *)(i + 1)) == 0);
	object_move();
	usleep(50000);
	stop = true;
	for (int i = 0; i < 2; i++) {
		void *wrong;

		CHECK(pthread_join(th[i], &wrong) == 0 && !wrong, "thread %d: %p", i, wrong);
	}
	return 0;
}
