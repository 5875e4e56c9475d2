/* SPDX-License-Identifier: Apache-2.0 */
/* A library that was replaced by an upgrade while it was mapped: the old content stays,
 * private pages too. */
#include <fcntl.h>
#include <sys/mman.h>

#include "object.h"

int main(int argc, char **argv)
{
	char page[4096], *ro, *rw;
	int fd = open("/tmp/library", O_RDWR | O_CREAT | O_TRUNC, 0755);

	object_init(argc, argv);
	for (int i = 0; i < 128; i++) {
		memset(page, 'a' + i % 26, sizeof(page));
		CHECK(write(fd, page, sizeof(page)) == sizeof(page));
	}
	ro = mmap(NULL, 128 * 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	rw = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 64 * 4096);
	CHECK(ro != MAP_FAILED && rw != MAP_FAILED);
	rw[0] = '!';
	close(fd);
	CHECK(unlink("/tmp/library") == 0);
	fd = open("/tmp/library", O_RDWR | O_CREAT | O_TRUNC, 0755);
	CHECK(write(fd, "new", 3) == 3);
	object_move();
	for (int i = 0; i < 128; i++)
		CHECK(ro[i * 4096] == 'a' + i % 26 && ro[i * 4096 + 4095] == 'a' + i % 26,
		      "page %d", i);
	for (int i = 1; i < 64; i++)
		CHECK(rw[i * 4096] == 'a' + (i + 64) % 26);
	CHECK(rw[0] == '!' && rw[1] == 'a' + 64 % 26);
	CHECK(pread(fd, page, 4, 0) == 3 && memcmp(page, "new", 3) == 0);
	return 0;
}
