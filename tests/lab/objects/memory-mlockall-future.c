/* SPDX-License-Identifier: Apache-2.0 */
/* docker: --cap-add IPC_LOCK */
/* mlockall(MCL_FUTURE | MCL_ONFAULT): memory that is mapped after the move is locked too. */
#include <sys/mman.h>

#include "object.h"
#include "vmflags.h"

int main(int argc, char **argv)
{
	char *before, *after;

	object_init(argc, argv);
	before = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(mlockall(MCL_FUTURE | MCL_ONFAULT) == 0);
	object_move();
	after = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(after != MAP_FAILED);
	CHECK(vm_has(after, "lo", NULL, 0) && vm_has(after, "lf", NULL, 0));
	CHECK(before[0] == 0);
	CHECK(munlockall() == 0);
	after = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(after != MAP_FAILED && !vm_has(after, "lo", NULL, 0));
	return 0;
}
