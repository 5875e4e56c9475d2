/* SPDX-License-Identifier: Apache-2.0 */
/* A System V segment with its id, key, owner and mode, attached twice at two places. */
#include <sys/ipc.h>
#include <sys/shm.h>

#include "object.h"

int main(int argc, char **argv)
{
	int id = shmget(0xfe221, 100000, IPC_CREAT | 0640);
	struct shmid_ds ds;
	char *p, *ro;

	object_init(argc, argv);
	CHECK(id >= 0);
	p = shmat(id, NULL, 0);
	ro = shmat(id, NULL, SHM_RDONLY);
	CHECK(p != (void *)-1 && ro != (void *)-1);
	strcpy(p + 50000, "in the segment");
	object_move();
	CHECK(strcmp(ro + 50000, "in the segment") == 0);
	p[70000] = 7;
	CHECK(ro[70000] == 7);
	CHECK(shmget(0xfe221, 0, 0) == id);
	CHECK(shmctl(id, IPC_STAT, &ds) == 0);
	CHECK(ds.shm_segsz == 100000 && (ds.shm_perm.mode & 0777) == 0640 && ds.shm_nattch == 2,
	      "%zu bytes, mode %o, attached %lu times", ds.shm_segsz, ds.shm_perm.mode,
	      (unsigned long)ds.shm_nattch);
	CHECK(shmdt(ro) == 0 && shmdt(p) == 0 && shmctl(id, IPC_RMID, NULL) == 0);
	return 0;
}
