/* SPDX-License-Identifier: Apache-2.0 */
/* A System V segment that was removed while attached: it lives as long as it is attached,
 * and is then gone. */
#include <sys/ipc.h>
#include <sys/shm.h>

#include "object.h"

int main(int argc, char **argv)
{
	int id = shmget(IPC_PRIVATE, 65536, IPC_CREAT | 0600);
	struct shmid_ds ds;
	char *p;

	object_init(argc, argv);
	p = shmat(id, NULL, 0);
	CHECK(p != (void *)-1);
	strcpy(p, "kept");
	CHECK(shmctl(id, IPC_RMID, NULL) == 0);
	object_move();
	CHECK(strcmp(p, "kept") == 0);
	CHECK(shmctl(id, IPC_STAT, &ds) == 0 && (ds.shm_perm.mode & SHM_DEST));
	CHECK(shmdt(p) == 0);
	CHECK(shmctl(id, IPC_STAT, &ds) < 0, "it outlives its last user");
	return 0;
}
