/* SPDX-License-Identifier: Apache-2.0 */
/* A named file of a tmpfs, mapped by two processes (shm_open). */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	int fd = shm_open("/object", O_RDWR | O_CREAT, 0600), status;
	char *p, *again;
	pid_t pid;

	object_init(argc, argv);
	CHECK(fd >= 0 && ftruncate(fd, 1 << 20) == 0);
	p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	memset(p, 7, 1 << 19);
	p[0] = 0;
	pid = fork();
	if (pid == 0) {
		while (!p[0])
			usleep(1000);
		p[1 << 19] = 8;
		_exit(p[4096] == 7 ? 0 : 1);
	}
	close(fd);
	object_move();
	p[0] = 1;
	CHECK(waitpid(pid, &status, 0) == pid && status == 0 && p[1 << 19] == 8);
	fd = shm_open("/object", O_RDONLY, 0);
	CHECK(fd >= 0);
	again = mmap(NULL, 1 << 20, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(again[1 << 19] == 8 && again[(1 << 20) - 1] == 0);
	return 0;
}
