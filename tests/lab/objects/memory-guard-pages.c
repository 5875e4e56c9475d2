/* SPDX-License-Identifier: Apache-2.0 */
/* Lightweight guard pages (MADV_GUARD_INSTALL, Linux 6.13) kill who touches them; their
 * neighbours are memory. */
#include <sys/mman.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	char *p = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool guards;
	int status;

	object_init(argc, argv);
	memset(p, 5, 16 * 4096);
	guards = madvise(p + 4 * 4096, 2 * 4096, 102 /* MADV_GUARD_INSTALL */) == 0;
	CHECK(guards || errno == EINVAL);
	object_move();
	CHECK(p[4 * 4096 - 1] == 5 && p[6 * 4096] == 5);
	for (int page = 4; page < 6 && guards; page++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(((volatile char *)p)[page * 4096] ? 1 : 2);
		CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) &&
		      WTERMSIG(status) == SIGSEGV);
	}
	if (guards) {
		CHECK(madvise(p + 4 * 4096, 2 * 4096, 103 /* MADV_GUARD_REMOVE */) == 0);
		CHECK(p[4 * 4096] == 0);
	}
	return 0;
}
