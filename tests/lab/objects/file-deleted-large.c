/* SPDX-License-Identifier: Apache-2.0 */
/* A deleted file of 192 MiB, of which a little changes while the container moves. */
#include <fcntl.h>
#include <time.h>

#include "object.h"

int main(int argc, char **argv)
{
	enum { BLOCK = 1 << 16, BLOCKS = 3072 };
	static unsigned char last[BLOCKS], buf[BLOCK], want[BLOCK];
	struct timespec soon = { 0, 2000000 };
	int fd = open("/gone", O_RDWR | O_CREAT, 0600);
	unsigned int seed = 7, n = 0;
	sigset_t set;

	object_init(argc, argv);
	CHECK(fd >= 0 && unlink("/gone") == 0);
	for (int i = 0; i < BLOCKS; i++) {
		last[i] = (unsigned char)(i % 251);
		memset(buf, last[i], BLOCK);
		CHECK(pwrite(fd, buf, BLOCK, (off_t)i * BLOCK) == BLOCK);
	}
	object_ready();
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	while (sigtimedwait(&set, NULL, &soon) != SIGUSR2) {
		int i = (int)((seed = seed * 1664525 + 1013904223) >> 12) % BLOCKS;

		last[i] = (unsigned char)n++;
		memset(buf, last[i], BLOCK);
		CHECK(pwrite(fd, buf, BLOCK, (off_t)i * BLOCK) == BLOCK);
	}
	for (int i = 0; i < BLOCKS; i++) {
		memset(want, last[i], BLOCK);
		CHECK(pread(fd, buf, BLOCK, (off_t)i * BLOCK) == BLOCK &&
			      memcmp(buf, want, BLOCK) == 0,
		      "block %d", i);
	}
	return 0;
}
