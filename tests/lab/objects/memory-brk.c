/* SPDX-License-Identifier: Apache-2.0 */
/* The heap (brk): content, end, and growth from there. */
#include <stdint.h>

#include "object.h"

int main(int argc, char **argv)
{
	char *base, *end;

	object_init(argc, argv);
	puts("the heap:"); /* stdio has its buffer now */
	base = sbrk(1 << 20);
	CHECK(base != (void *)-1);
	memset(base, 9, 1 << 20);
	end = sbrk(0);
	object_move();
	CHECK(sbrk(0) == end);
	for (int i = 0; i < 1 << 20; i++)
		CHECK(base[i] == 9, "byte %d", i);
	CHECK(sbrk(1 << 20) == end && end[0] == 0);
	memset(end, 8, 1 << 20);
	CHECK(sbrk(-(2 << 20)) == end + (1 << 20) && sbrk(0) == base);
	return 0;
}
