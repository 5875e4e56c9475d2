/* SPDX-License-Identifier: Apache-2.0 */
/* The main stack holds what it held and still grows by itself, far below where it was. */
#include <stdint.h>

#include "object.h"

/* 4 MiB in all. */
static __attribute__((noinline)) uintptr_t deeper(unsigned int n)
{
	volatile char here[20000];

	memset((char *)here, (int)n, sizeof(here));
	return n ? deeper(n - 1) + (unsigned char)here[19999] : 0;
}

int main(int argc, char **argv)
{
	volatile char deep[300000];
	uintptr_t sum = 0;

	object_init(argc, argv);
	for (size_t i = 0; i < sizeof(deep); i++)
		deep[i] = (char)(i * 7);
	object_move();
	for (size_t i = 0; i < sizeof(deep); i++)
		CHECK(deep[i] == (char)(i * 7), "byte %zu", i);
	sum = deeper(200);
	CHECK(sum == 200 * 201 / 2, "%lu", (unsigned long)sum);
	return 0;
}
