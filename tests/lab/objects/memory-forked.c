/* SPDX-License-Identifier: Apache-2.0 */
/* Private memory that parent and child have had in common since a fork: each its own
 * afterwards. */
#include <sys/mman.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	char *p = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int go[2], status;
	char byte;
	pid_t pid;

	object_init(argc, argv);
	memset(p, 1, 4 << 20);
	CHECK(pipe(go) == 0);
	pid = fork();
	if (pid == 0) {
		memset(p + (1 << 20), 2, 1 << 20);
		madvise(p + (2 << 20), 1 << 20, MADV_DONTNEED);
		CHECK(read(go[0], &byte, 1) == 1);
		for (int i = 0; i < 4 << 20; i += 4096)
			CHECK(p[i] == (i >> 20 == 1   ? 2
				       : i >> 20 == 2 ? 0
						      : 1),
			      "page %d", i / 4096);
		_exit(0);
	}
	memset(p + (3 << 20), 3, 1 << 20);
	object_move();
	for (int i = 0; i < 4 << 20; i += 4096)
		CHECK(p[i] == (i >> 20 == 3 ? 3 : 1), "page %d", i / 4096);
	CHECK(write(go[1], "g", 1) == 1);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	return 0;
}
