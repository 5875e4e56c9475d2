/* SPDX-License-Identifier: Apache-2.0 */
/* 8 GiB of address space of which a few pages are there: they arrive, and the rest stays
 * away. */
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "object.h"

int main(int argc, char **argv)
{
	const size_t size = 8ul << 30, step = 128ul << 20;
	struct rusage u;
	char *p;

	object_init(argc, argv);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		 -1, 0);
	CHECK(p != MAP_FAILED && madvise(p, size, MADV_NOHUGEPAGE) == 0);
	for (size_t at = 0; at < size; at += step)
		p[at + at / step * 4096] = (char)(at / step + 1);
	object_move();
	for (size_t at = 0; at < size; at += step)
		CHECK(p[at + at / step * 4096] == (char)(at / step + 1), "at %zu", at);
	CHECK(getrusage(RUSAGE_SELF, &u) == 0 && u.ru_maxrss < 64 << 10, "%ld KiB are there",
	      u.ru_maxrss);
	CHECK(p[size - 1] == 0);
	return 0;
}
