/* SPDX-License-Identifier: Apache-2.0 */
/* A shared mapping of a file of the writable layer: memory and file are the same, both ways. */
#include <fcntl.h>
#include <sys/mman.h>

#include "object.h"

int main(int argc, char **argv)
{
	int fd = open("/tmp/shared", O_RDWR | O_CREAT | O_TRUNC, 0600);
	char *p, word[8] = "";

	object_init(argc, argv);
	CHECK(ftruncate(fd, 1 << 20) == 0);
	p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	strcpy(p, "before");
	p[(1 << 20) - 1] = 'z';
	object_move();
	CHECK(strcmp(p, "before") == 0 && p[(1 << 20) - 1] == 'z');
	strcpy(p + 4096, "memory");
	CHECK(pread(fd, word, 7, 4096) == 7 && strcmp(word, "memory") == 0);
	CHECK(pwrite(fd, "file", 5, 8192) == 5 && strcmp(p + 8192, "file") == 0);
	CHECK(pread(fd, word, 7, 0) == 7 && strcmp(word, "before") == 0);
	return 0;
}
