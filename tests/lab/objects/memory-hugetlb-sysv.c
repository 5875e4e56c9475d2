/* SPDX-License-Identifier: Apache-2.0 */
/* System V segments of huge pages, one attached and one not: id, key, size, content. */
/* hugepages: 4 */
/* docker: --cap-add IPC_LOCK */
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>

#include "object.h"

#define HUGE (2ul << 20)

int main(int argc, char **argv)
{
	int id = shmget(0x1234, HUGE + 1000, IPC_CREAT | IPC_EXCL | SHM_HUGETLB | 0600);
	int alone = shmget(0x1235, HUGE, IPC_CREAT | IPC_EXCL | SHM_HUGETLB | 0600);
	struct shmid_ds ds;
	char *p, *q;

	object_init(argc, argv);
	CHECK(id >= 0 && alone >= 0);
	p = shmat(id, NULL, 0);
	q = shmat(alone, NULL, 0);
	CHECK(p != (char *)-1 && q != (char *)-1);
	p[HUGE + 999] = 1;
	p[2 * HUGE - 1] = 2; /* the last page is whole */
	q[4321] = 3;
	CHECK(shmdt(q) == 0);
	object_move();
	CHECK(shmget(0x1234, 0, 0) == id && shmget(0x1235, 0, 0) == alone);
	CHECK(p[HUGE + 999] == 1 && p[2 * HUGE - 1] == 2 && p[0] == 0);
	CHECK(shmctl(id, IPC_STAT, &ds) == 0 && ds.shm_segsz == HUGE + 1000 && ds.shm_nattch == 1);
	q = shmat(alone, NULL, 0);
	CHECK(q != (char *)-1 && q[4321] == 3 && q[0] == 0);
	CHECK(munmap(q + 4096, 4096) < 0 && errno == EINVAL);
	return 0;
}
