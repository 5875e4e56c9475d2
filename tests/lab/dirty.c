/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program whose memory changes all the time: dirty MIB NS. It goes over MIB MiB in a
 * scattered order, page by page; each page must be, to the last word, as it was left the
 * time before; then it is written anew, and NS nanoseconds are spent on thinking. At a
 * SIGTERM it says how many pages it did, and ends with 0; at a page that is not right it
 * says which, and ends with 1.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define WORDS 512

static volatile sig_atomic_t want_end;

static void on_signal(int signo)
{
	(void)signo;
	want_end = 1;
}

static uint64_t word(uint64_t page, uint64_t times, uint64_t i)
{
	return (page << 40) + (times << 12) + i;
}

static void think(int64_t ns)
{
	/* By the processor's own time, so that less of it means fewer pages. */
	static volatile uint64_t sink;

	for (int64_t i = 0; i < ns; i++)
		sink++;
}

int main(int argc, char **argv)
{
	uint64_t npages = argc > 1 ? strtoull(argv[1], NULL, 10) * 256 : 0;
	int64_t ns = argc > 2 ? strtoll(argv[2], NULL, 10) : 0;
	uint64_t *memory, *times, done = 0;

	memory = mmap(NULL, npages * 4096 + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	times = calloc(npages + 1, sizeof(*times));
	if (!npages || memory == MAP_FAILED || !times)
		return 2;
	signal(SIGTERM, on_signal);
	for (uint64_t at = 0; !want_end; at = (at + 7919) % npages) {
		uint64_t *p = memory + at * WORDS;

		for (uint64_t i = 0; i < WORDS; i++) {
			if (p[i] != (times[at] ? word(at, times[at], i) : 0)) {
				printf("page %llu is damaged after %llu times: word %llu is "
				       "%#llx\n",
				       (unsigned long long)at, (unsigned long long)times[at],
				       (unsigned long long)i, (unsigned long long)p[i]);
				return 1;
			}
		}
		times[at]++;
		for (uint64_t i = 0; i < WORDS; i++)
			p[i] = word(at, times[at], i);
		think(ns);
		if (++done == npages) {
			puts("ready");
			fflush(stdout);
		}
	}
	printf("whole %llu\n", (unsigned long long)done);
	return 0;
}
