/* SPDX-License-Identifier: Apache-2.0 */
/* MAP_DROPPABLE memory (Linux 6.11) is droppable memory afterwards; its content may be gone. */
#include <sys/mman.h>

#include "object.h"
#include "vmflags.h"

int main(int argc, char **argv)
{
	char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, 0x08 /* MAP_DROPPABLE */ | MAP_ANONYMOUS,
		       -1, 0);

	object_init(argc, argv);
	CHECK(p != MAP_FAILED || errno == EINVAL || errno == EOPNOTSUPP);
	if (p != MAP_FAILED)
		strcpy(p, "perhaps");
	object_move();
	if (p == MAP_FAILED)
		return 0; /* a kernel without it */
	CHECK(strcmp(p, "perhaps") == 0 || p[0] == 0);
	CHECK(vm_has(p, "dp", NULL, 0));
	strcpy(p, "again");
	return 0;
}
