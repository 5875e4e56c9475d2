/* SPDX-License-Identifier: Apache-2.0 */
/* A System V segment that nobody has attached at the moment keeps its content. */
#include <sys/ipc.h>
#include <sys/shm.h>

#include "object.h"

int main(int argc, char **argv)
{
	int id = shmget(0xfe222, 300000, IPC_CREAT | 0600);
	struct shmid_ds ds;
	char *p;

	object_init(argc, argv);
	p = shmat(id, NULL, 0);
	CHECK(p != (void *)-1);
	strcpy(p, "left");
	strcpy(p + 250000, "behind");
	CHECK(shmdt(p) == 0);
	object_move();
	CHECK(shmget(0xfe222, 0, 0) == id);
	CHECK(shmctl(id, IPC_STAT, &ds) == 0 && ds.shm_nattch == 0 && ds.shm_segsz == 300000);
	p = shmat(id, NULL, 0);
	CHECK(p != (void *)-1);
	CHECK(strcmp(p, "left") == 0 && strcmp(p + 250000, "behind") == 0 && p[100000] == 0);
	CHECK(shmdt(p) == 0 && shmctl(id, IPC_RMID, NULL) == 0);
	return 0;
}
