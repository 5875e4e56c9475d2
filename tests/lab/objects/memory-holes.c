/* SPDX-License-Identifier: Apache-2.0 */
/* Memory with holes: unmapped pieces, given-back pages, places without any right, moved and
 * split areas. */
#include <sys/mman.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	size_t n = 1 << 20;
	char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *q,
	     *moved;
	unsigned char in[256];
	int status;
	pid_t pid;

	object_init(argc, argv);
	q = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED && q != MAP_FAILED);
	memset(p, 3, n);
	memset(q, 4, n);
	CHECK(munmap(p + 16 * 4096, 4096) == 0);
	CHECK(madvise(p + 32 * 4096, 4 * 4096, MADV_DONTNEED) == 0);
	CHECK(mprotect(p + 48 * 4096, 4096, PROT_NONE) == 0);
	CHECK(mprotect(p + 52 * 4096, 4096, PROT_READ) == 0);
	moved = mremap(q, n, 2 * n, MREMAP_MAYMOVE);
	CHECK(moved != MAP_FAILED);
	object_move();
	for (size_t i = 0; i < 256; i++)
		if (i != 16 && i != 48)
			CHECK(p[i * 4096] == (i >= 32 && i < 36 ? 0 : 3), "page %zu", i);
	CHECK(mincore(p + 16 * 4096, 4096, in) < 0 && errno == ENOMEM);
	for (int page = 48; page <= 52; page += 4) {
		pid = fork();
		if (pid == 0) {
			p[page * 4096] = 1;
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status), "page %d", page);
	}
	CHECK(mprotect(p + 48 * 4096, 4096, PROT_READ) == 0 && p[48 * 4096] == 3);
	CHECK(moved[0] == 4 && moved[n - 1] == 4 && moved[n] == 0 && moved[2 * n - 1] == 0);
	return 0;
}
