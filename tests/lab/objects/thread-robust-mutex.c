/* SPDX-License-Identifier: Apache-2.0 */
/* A robust mutex whose owner dies after the move: the next one is told (EOWNERDEAD). Between
 * threads and between processes. */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	pthread_mutexattr_t attr;
	pthread_mutex_t *m =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int go[2], held[2], status;
	char byte;
	pid_t pid;

	object_init(argc, argv);
	CHECK(pipe(go) == 0 && pipe(held) == 0);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	CHECK(pthread_mutex_init(m, &attr) == 0);
	pid = fork();
	if (pid == 0) {
		pthread_mutex_lock(m);
		CHECK(write(held[1], "h", 1) == 1 && read(go[0], &byte, 1) == 1);
		_exit(0); /* and never unlocks */
	}
	CHECK(read(held[0], &byte, 1) == 1);
	object_move();
	CHECK(pthread_mutex_trylock(m) == EBUSY);
	CHECK(write(go[1], "g", 1) == 1);
	CHECK(pthread_mutex_lock(m) == EOWNERDEAD);
	CHECK(pthread_mutex_consistent(m) == 0 && pthread_mutex_unlock(m) == 0);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	return 0;
}
