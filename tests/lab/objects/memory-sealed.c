/* SPDX-License-Identifier: Apache-2.0 */
/* docker: --security-opt seccomp=unconfined */
/* Sealed memory (mseal, Linux 6.10) cannot be unmapped or protected otherwise after the move
 * either. */
#include <sys/mman.h>
#include <sys/syscall.h>

#include "object.h"

int main(int argc, char **argv)
{
	char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool sealed;

	object_init(argc, argv);
	strcpy(p, "sealed");
	sealed = syscall(462 /* mseal */, p, 8192, 0) == 0;
	CHECK(sealed || errno == ENOSYS || errno == EPERM);
	object_move();
	CHECK(strcmp(p, "sealed") == 0);
	if (sealed) {
		CHECK(munmap(p, 4096) < 0 && errno == EPERM);
		CHECK(mprotect(p, 8192, PROT_READ) < 0 && errno == EPERM);
	}
	p[1] = 'E';
	return 0;
}
