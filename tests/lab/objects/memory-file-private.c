/* SPDX-License-Identifier: Apache-2.0 */
/* A private mapping of a file: pages written are its own, the others are the file's. */
#include <fcntl.h>
#include <sys/mman.h>

#include "object.h"

int main(int argc, char **argv)
{
	char page[4096], *p;
	int fd = open("/tmp/file", O_RDWR | O_CREAT | O_TRUNC, 0600);

	object_init(argc, argv);
	for (int i = 0; i < 64; i++) {
		memset(page, i, sizeof(page));
		CHECK(write(fd, page, sizeof(page)) == sizeof(page));
	}
	p = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(p != MAP_FAILED);
	for (int i = 0; i < 64; i += 3)
		p[i * 4096] = 'x';
	object_move();
	for (int i = 0; i < 64; i++)
		CHECK(p[i * 4096] == (i % 3 ? i : 'x') && p[i * 4096 + 1] == i, "page %d", i);
	CHECK(pread(fd, page, 1, 0) == 1 && page[0] == 0);
	/* Not written to before the move: still the file's. */
	CHECK(pwrite(fd, "changed", 7, 4096) == 7 && memcmp(p + 4096, "changed", 7) == 0);
	return 0;
}
