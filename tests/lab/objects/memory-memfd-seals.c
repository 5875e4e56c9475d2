/* SPDX-License-Identifier: Apache-2.0 */
/* A memfd, mapped, with its size, name and seals: what they forbid stays forbidden. */
#include <fcntl.h>
#include <sys/mman.h>

#include "object.h"

int main(int argc, char **argv)
{
	int fd = memfd_create("sealed memory", MFD_ALLOW_SEALING),
	    seals = F_SEAL_SHRINK | F_SEAL_GROW;
	char *p, link[128] = "";

	object_init(argc, argv);
	CHECK(fd >= 0 && ftruncate(fd, 12345) == 0);
	p = mmap(NULL, 12345, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	strcpy(p + 5000, "content");
	CHECK(fcntl(fd, F_ADD_SEALS, seals) == 0);
	object_move();
	CHECK(strcmp(p + 5000, "content") == 0);
	CHECK(lseek(fd, 0, SEEK_END) == 12345);
	CHECK(fcntl(fd, F_GET_SEALS) == seals);
	CHECK(ftruncate(fd, 4096) < 0 && errno == EPERM);
	CHECK(ftruncate(fd, 99999) < 0 && errno == EPERM);
	CHECK(pwrite(fd, "by call", 8, 100) == 8 && strcmp(p + 100, "by call") == 0);
	CHECK(readlink("/proc/self/fd/3", link, sizeof(link) - 1) > 0);
	CHECK(strstr(link, "sealed memory"), "%s", link);
	return 0;
}
