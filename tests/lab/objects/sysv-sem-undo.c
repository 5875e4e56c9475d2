/* SPDX-License-Identifier: Apache-2.0 */
/* SEM_UNDO: what a process has taken is given back when it ends, after the move as before. */
#include <pthread.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/wait.h>

#include "object.h"

static void op(int set, unsigned short num, short by)
{
	struct sembuf b = { .sem_num = num, .sem_op = by, .sem_flg = SEM_UNDO };

	CHECK(semop(set, &b, 1) == 0);
}

static void *thread(void *arg)
{
	op(*(int *)arg, 50, 1);
	return NULL;
}

int main(int argc, char **argv)
{
	int set = semget(IPC_PRIVATE, 100, 0600), status;
	pid_t one, two;

	object_init(argc, argv);
	for (int i = 0; i < 100; i++)
		CHECK(semctl(set, i, SETVAL, 20) == 0);
	one = fork();
	if (one == 0) {
		pthread_t th;

		op(set, 3, -5);
		op(set, 99, 10);
		CHECK(pthread_create(&th, NULL, thread, &set) == 0 && pthread_join(th, NULL) == 0);
		object_wait();
		_exit(0);
	}
	two = fork();
	if (two == 0) {
		op(set, 3, -7);
		object_wait();
		_exit(0);
	}
	while (semctl(set, 3, GETVAL) != 8 || semctl(set, 50, GETVAL) != 21)
		usleep(1000);
	object_move();
	CHECK(semctl(set, 3, GETVAL) == 8 && semctl(set, 99, GETVAL) == 30);
	kill(two, SIGUSR2);
	CHECK(waitpid(two, &status, 0) == two && status == 0 && semctl(set, 3, GETVAL) == 15);
	kill(one, SIGKILL);
	CHECK(waitpid(one, &status, 0) == one);
	CHECK(semctl(set, 3, GETVAL) == 20 && semctl(set, 99, GETVAL) == 20 &&
	      semctl(set, 50, GETVAL) == 20 && semctl(set, 51, GETVAL) == 20);
	return 0;
}
