/* SPDX-License-Identifier: Apache-2.0 */
/* Locked memory, also memory that is locked as it comes (MLOCK_ONFAULT). */
#include <sys/mman.h>
#include <sys/syscall.h>

#include "object.h"
#include "vmflags.h"

int main(int argc, char **argv)
{
	char *all = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *later, *none;

	object_init(argc, argv);
	none = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	later = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(mlock(all, 8192) == 0 && mlock2(later, 16384, MLOCK_ONFAULT) == 0);
	all[0] = 1;
	object_move();
	CHECK(all[0] == 1 && all[4096] == 0);
	CHECK(vm_has(all, "lo", NULL, 0) && !vm_has(all, "lf", NULL, 0));
	CHECK(vm_has(later, "lo", NULL, 0) && vm_has(later, "lf", NULL, 0));
	CHECK(!vm_has(none, "lo", NULL, 0));
	CHECK(munlock(all, 8192) == 0 && !vm_has(all, "lo", NULL, 0));
	return 0;
}
