/* SPDX-License-Identifier: Apache-2.0 */
/* A memfd of huge pages, mapped shared and private, and one that nobody maps: content, size,
 * seals, page size. */
/* hugepages: 4 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "object.h"

#define HUGE (2ul << 20)

int main(int argc, char **argv)
{
	int fd = memfd_create("heap", MFD_HUGETLB | MFD_ALLOW_SEALING);
	int alone = memfd_create("alone", MFD_HUGETLB);
	char *shared, *own, *p, byte = 0;
	struct stat st;

	object_init(argc, argv);
	CHECK(fd >= 0 && alone >= 0 && ftruncate(fd, 2 * HUGE) == 0 && ftruncate(alone, HUGE) == 0);
	shared = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	own = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	p = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, alone, 0);
	CHECK(shared != MAP_FAILED && own != MAP_FAILED && p != MAP_FAILED);
	p[77] = 7;
	CHECK(munmap(p, HUGE) == 0);
	shared[5] = 5;
	own[6] = 6;
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	object_move();
	CHECK(shared[5] == 5 && shared[6] == 0 && own[5] == 5 && own[6] == 6);
	shared[HUGE] = 8;
	CHECK(pread(fd, &byte, 1, HUGE) == 1 && byte == 8);
	CHECK(pread(alone, &byte, 1, 77) == 1 && byte == 7);
	CHECK(fcntl(fd, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW));
	CHECK(fstat(alone, &st) == 0 && st.st_size == HUGE && st.st_blksize == HUGE);
	CHECK(munmap(shared + 4096, 4096) < 0 && errno == EINVAL);
	return 0;
}
