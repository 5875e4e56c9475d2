/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that grow, shrink, vanish and come again while the container moves, in the
 * writable layer.
 */
#include <fcntl.h>
#include <time.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct timespec soon = { 0, 300000 };
	unsigned int n = 0, size[32] = { 0 };
	sigset_t set;
	char path[32];

	object_init(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	do {
		unsigned int i = n * 7 % 32, want = n * 7919 % 40000;
		int fd;

		snprintf(path, sizeof(path), "/f%u", i);
		if (n % 5 == 0)
			CHECK(unlink(path) == 0 || errno == ENOENT);
		fd = open(path, O_RDWR | O_CREAT, 0600);
		CHECK(fd >= 0 && ftruncate(fd, 0) == 0);
		for (unsigned int at = 0; at < want; at += 4)
			CHECK(pwrite(fd, &i, 4, at) == 4);
		size[i] = (want + 3) / 4 * 4;
		close(fd);
		if (++n == 100)
			object_ready();
	} while (n < 100 || sigtimedwait(&set, NULL, &soon) != SIGUSR2);
	for (unsigned int i = 0; i < 32; i++) {
		unsigned int got;
		FILE *f;

		snprintf(path, sizeof(path), "/f%u", i);
		f = fopen(path, "r");
		CHECK(f || !size[i]);
		for (unsigned int at = 0; at < size[i]; at += 4)
			CHECK(fread(&got, 4, 1, f) == 1 && got == i, "file %u at %u", i, at);
		CHECK(!f || fgetc(f) == EOF);
	}
	return 0;
}
