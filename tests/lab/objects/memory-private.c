/* SPDX-License-Identifier: Apache-2.0 */
/* Private anonymous memory: content, holes, and what is written while it moves. */
#include <stdint.h>
#include <sys/mman.h>

#include "object.h"

#define PAGES 2048
#define PAGE  4096

int main(int argc, char **argv)
{
	uint64_t *m = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	sigset_t set;
	struct timespec soon = { .tv_nsec = 100000 };
	uint64_t round = 0;

	object_init(argc, argv);
	CHECK(m != MAP_FAILED);
	/* Every third page stays a hole. */
	for (uint64_t i = 0; i < PAGES; i++)
		if (i % 3)
			m[i * PAGE / 8] = i ^ 0x5aa5;
	object_ready();
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	while (sigtimedwait(&set, NULL, &soon) < 0) {
		round++;
		for (uint64_t i = round % 16; i < PAGES; i += 16)
			m[i * PAGE / 8 + 1] = round;
	}
	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t last = round >= i % 16 ? round - (round - i % 16) % 16 : 0;

		CHECK(m[i * PAGE / 8] == (i % 3 ? i ^ 0x5aa5 : 0), "page %lu", i);
		CHECK(round < 16 || m[i * PAGE / 8 + 1] == last,
		      "page %lu: round %lu, not %lu of %lu", i, m[i * PAGE / 8 + 1], last, round);
	}
	return 0;
}
