/* SPDX-License-Identifier: Apache-2.0 */
/* Private memory of huge pages: content, holes, a page that may only be read; still huge. */
/* hugepages: 5 */
#include <sys/mman.h>

#include "object.h"

#define HUGE (2ul << 20)

static char *map(size_t pages)
{
	return mmap(NULL, pages * HUGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
}

int main(int argc, char **argv)
{
	char *p = map(4), *fixed = map(1);

	object_init(argc, argv);
	CHECK(p != MAP_FAILED && fixed != MAP_FAILED);
	memset(p, 1, HUGE);
	p[2 * HUGE + 12345] = 2;
	strcpy(fixed + 100, "to be read only");
	CHECK(mprotect(fixed, HUGE, PROT_READ) == 0);
	object_move();
	for (size_t i = 0; i < HUGE; i++)
		CHECK(p[i] == 1, "byte %zu", i);
	CHECK(p[2 * HUGE + 12345] == 2 && p[2 * HUGE] == 0 && p[HUGE] == 0 && p[3 * HUGE] == 0);
	CHECK(strcmp(fixed + 100, "to be read only") == 0);
	/* Only ordinary pages can be unmapped one by one. */
	CHECK(munmap(p + 4096, 4096) < 0 && errno == EINVAL);
	CHECK(mprotect(fixed, HUGE, PROT_READ | PROT_WRITE) == 0);
	fixed[0] = 1;
	return 0;
}
