/* SPDX-License-Identifier: Apache-2.0 */
/* NUMA policies of memory areas (mbind), private and shared, and none beside them. */
/* docker: --cap-add SYS_NICE */
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "object.h"

#define SIZE (4ul << 20)

static char *map(int flags)
{
	return mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
}

/* The policy of an address, and whether node 0 is in it; -1: it cannot be told. */
static int policy(const char *at, unsigned long *nodes)
{
	int mode = -1;

	nodes[0] = 0;
	if (syscall(SYS_get_mempolicy, &mode, nodes, 1024, at, MPOL_F_ADDR) < 0)
		return -1;
	return mode;
}

int main(int argc, char **argv)
{
	char *bound = map(MAP_PRIVATE), *spread = map(MAP_PRIVATE), *shared = map(MAP_SHARED);
	char *plain = map(MAP_PRIVATE);
	unsigned long nodes[1024 / 64] = { 1 };

	object_init(argc, argv);
	if (syscall(SYS_mbind, bound, SIZE / 2, MPOL_BIND, nodes, 1024, 0) < 0) {
		CHECK(errno == ENOSYS); /* a kernel without NUMA */
		bound = NULL;
	} else {
		CHECK(syscall(SYS_mbind, spread, SIZE, MPOL_INTERLEAVE | MPOL_F_STATIC_NODES, nodes,
			      1024, 0) == 0);
		CHECK(syscall(SYS_mbind, shared, SIZE, MPOL_PREFERRED, nodes, 1024, 0) == 0);
	}
	memset(bound ? bound : plain, 1, SIZE);
	memset(spread, 2, SIZE);
	memset(shared, 3, SIZE);
	object_move();
	if (!bound)
		return 0;
	CHECK(policy(bound, nodes) == MPOL_BIND && nodes[0] == 1);
	CHECK(policy(bound + SIZE / 2, nodes) == MPOL_DEFAULT);
	CHECK(policy(spread + SIZE - 1, nodes) == (MPOL_INTERLEAVE | MPOL_F_STATIC_NODES) &&
	      nodes[0] == 1);
	CHECK(policy(shared, nodes) == MPOL_PREFERRED && nodes[0] == 1);
	CHECK(policy(plain, nodes) == MPOL_DEFAULT);
	CHECK(bound[0] == 1 && bound[SIZE - 1] == 1 && spread[5] == 2 && shared[5] == 3);
	return 0;
}
