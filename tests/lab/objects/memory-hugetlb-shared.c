/* SPDX-License-Identifier: Apache-2.0 */
/* Shared anonymous memory of huge pages is one object for two processes, as PostgreSQL has it
 * with huge_pages=on. */
/* hugepages: 4 */
#include <sys/mman.h>
#include <sys/wait.h>

#include "object.h"

#define HUGE (2ul << 20)

int main(int argc, char **argv)
{
	char *p = mmap(NULL, 4 * HUGE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	int status;

	object_init(argc, argv);
	CHECK(p != MAP_FAILED);
	memset(p + HUGE, 3, HUGE);
	if (fork() == 0) {
		while (p[0] != 1)
			usleep(1000);
		CHECK(p[HUGE] == 3 && p[2 * HUGE] == 0);
		p[3 * HUGE] = 4;
		_exit(0);
	}
	object_move();
	p[0] = 1;
	CHECK(wait(&status) > 0 && status == 0);
	CHECK(p[3 * HUGE] == 4 && p[2 * HUGE - 1] == 3 && p[2 * HUGE] == 0);
	CHECK(munmap(p + 4096, 4096) < 0 && errno == EINVAL);
	return 0;
}
