/* SPDX-License-Identifier: Apache-2.0 */
/* POSIX record locks belong to their process, byte by byte. */
#include <fcntl.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	int fd = open("/db", O_RDWR | O_CREAT, 0600), status;
	struct flock a = { .l_type = F_WRLCK, .l_start = 100, .l_len = 50 };
	struct flock b = { .l_type = F_RDLCK, .l_start = 1000 };
	pid_t child;

	object_init(argc, argv);
	child = fork();
	if (child == 0) {
		struct flock c = { .l_type = F_WRLCK, .l_start = 100, .l_len = 1 };
		int own = open("/db", O_RDWR);

		object_wait();
		CHECK(fcntl(own, F_GETLK, &c) == 0 && c.l_type == F_WRLCK && c.l_pid == 1 &&
		      c.l_start == 100 && c.l_len == 50);
		c = (struct flock){ .l_type = F_WRLCK, .l_start = 99, .l_len = 1 };
		CHECK(fcntl(own, F_SETLK, &c) == 0);
		c = (struct flock){ .l_type = F_RDLCK, .l_start = 5000, .l_len = 1 };
		CHECK(fcntl(own, F_SETLK, &c) == 0);
		c.l_type = F_WRLCK;
		CHECK(fcntl(own, F_SETLK, &c) < 0);
		_exit(0);
	}
	CHECK(fcntl(fd, F_SETLK, &a) == 0 && fcntl(fd, F_SETLK, &b) == 0);
	object_move();
	kill(child, SIGUSR2);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	return 0;
}
