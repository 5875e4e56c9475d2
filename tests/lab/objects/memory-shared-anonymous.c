/* SPDX-License-Identifier: Apache-2.0 */
/* Anonymous shared memory of three processes is one object: each sees what another writes
 * after the move. */
#include <sys/mman.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	char *p = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;

	object_init(argc, argv);
	CHECK(p != MAP_FAILED);
	memset(p, 1, 4 << 20);
	for (int i = 1; i <= 2; i++)
		if (fork() == 0) {
			while (p[0] != i)
				usleep(1000);
			for (int k = 8192; k < 4 << 20; k += 4096)
				CHECK(p[k] == 1, "page %d", k / 4096);
			CHECK(p[5 << 20] == 0);
			p[4096 * i] = (char)(10 + i);
			_exit(0);
		}
	p[0] = 0;
	object_move();
	for (int i = 1; i <= 2; i++) {
		p[0] = (char)i;
		CHECK(wait(&status) > 0 && status == 0);
		p[0] = 0;
	}
	CHECK(p[4096] == 11 && p[8192] == 12);
	return 0;
}
