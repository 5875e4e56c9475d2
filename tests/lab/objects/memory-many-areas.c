/* SPDX-License-Identifier: Apache-2.0 */
/* 30,000 memory areas of one process (the kernel's default limit is 65,530), each with a
 * page. */
#include <sys/mman.h>

#include "object.h"

int main(int argc, char **argv)
{
	enum { AREAS = 30000 };
	char *p;

	object_init(argc, argv);
	p = mmap(NULL, AREAS * 8192ul, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		 0);
	CHECK(p != MAP_FAILED);
	for (size_t i = 0; i < AREAS; i += 2) {
		CHECK(mprotect(p + i * 8192, 8192, PROT_READ | PROT_WRITE) == 0, "area %zu", i);
		p[i * 8192] = (char)(i % 251 + 1);
	}
	object_move();
	for (size_t i = 0; i < AREAS; i += 2)
		CHECK(p[i * 8192] == (char)(i % 251 + 1) && p[i * 8192 + 4096] == 0, "area %zu", i);
	for (size_t i = 1; i < AREAS; i += 2)
		CHECK(mprotect(p + i * 8192, 8192, PROT_READ) == 0 && p[i * 8192] == 0);
	return 0;
}
