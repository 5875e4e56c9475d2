/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System V semaphores: ids, keys, values, owners; a process that waits for one goes on
 * waiting.
 */
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	int gone = semget(IPC_PRIVATE, 1, 0600), set = semget(0x5e11, 70, IPC_CREAT | 0640), status;
	struct sembuf down = { .sem_num = 69, .sem_op = -1 };
	struct semid_ds ds;
	pid_t child;

	object_init(argc, argv);
	CHECK(gone >= 0 && set > gone && semctl(gone, 0, IPC_RMID) == 0);
	for (int i = 0; i < 69; i++)
		CHECK(semctl(set, i, SETVAL, i * 11) == 0);
	CHECK(semctl(set, 0, IPC_STAT, &ds) == 0);
	ds.sem_perm.uid = 1000;
	ds.sem_perm.gid = 1001;
	CHECK(semctl(set, 0, IPC_SET, &ds) == 0);
	child = fork();
	if (child == 0)
		_exit(semop(set, &down, 1) == 0 ? 0 : 1);
	while (semctl(set, 69, GETNCNT) != 1)
		usleep(1000);
	object_move();
	CHECK(semget(0x5e11, 70, 0) == set && semctl(set, 0, IPC_STAT, &ds) == 0);
	CHECK(ds.sem_nsems == 70 && ds.sem_perm.uid == 1000 && ds.sem_perm.gid == 1001 &&
	      (ds.sem_perm.mode & 0777) == 0640);
	for (int i = 0; i < 69; i++)
		CHECK(semctl(set, i, GETVAL) == i * 11, "semaphore %d", i);
	for (int i = 0; i < 10000 && semctl(set, 69, GETNCNT) != 1; i++)
		usleep(1000);
	CHECK(waitpid(child, &status, WNOHANG) == 0 && semctl(set, 69, SETVAL, 1) == 0);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	return 0;
}
