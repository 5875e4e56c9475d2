/* SPDX-License-Identifier: Apache-2.0 */
/* madvise() and mlock() of old memory, changed again and again up to the very moment of the
 * freeze, are as the program last set them. */
#include <pthread.h>
#include <sys/mman.h>

#include "object.h"
#include "vmflags.h"

static char *p;
static volatile int stop;

/* Looks before each change whether the last one still holds. */
static void *change(void *arg)
{
	for (int n = 0; !stop; n++) {
		CHECK(madvise(p, 4096, n % 2 ? MADV_DODUMP : MADV_DONTDUMP) == 0);
		CHECK((n % 3 ? munlock(p + 4096, 4096) : mlock(p + 4096, 4096)) == 0);
		usleep(200);
		CHECK(vm_has(p, "dd", NULL, 0) == (n % 2 == 0), "MADV_DONTDUMP, change %d", n);
		CHECK(vm_has(p + 4096, "lo", NULL, 0) == (n % 3 == 0), "mlock, change %d", n);
	}
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t th;

	object_init(argc, argv);
	p = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED && mprotect(p, 4096, PROT_NONE) == 0);
	p += 4096;
	CHECK(pthread_create(&th, NULL, change, NULL) == 0);
	object_move();
	stop = 1;
	CHECK(pthread_join(th, NULL) == 0);
	return 0;
}
