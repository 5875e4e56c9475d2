/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Positions and status flags of open files; a description that two descriptors and a child
 * share.
 */
#include <fcntl.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	char buf[32] = "";
	int fd = open("/data", O_RDWR | O_CREAT | O_NONBLOCK | O_DSYNC, 0600), two, app, ro, status;
	pid_t child;

	object_init(argc, argv);
	CHECK(fd >= 0 && write(fd, "0123456789", 10) == 10 && lseek(fd, 4, SEEK_SET) == 4);
	two = dup(fd);
	app = open("/data", O_WRONLY | O_APPEND | O_CLOEXEC);
	ro = open("/data", O_RDONLY);
	CHECK(two >= 0 && app >= 0 && lseek(ro, 1000000, SEEK_SET) == 1000000);
	child = fork();
	if (child == 0) {
		object_wait();
		_exit(read(fd, buf, 1) == 1 && buf[0] == '4' ? 0 : 1);
	}
	object_move();
	CHECK((fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_DSYNC | O_APPEND)) ==
	      (O_RDWR | O_NONBLOCK | O_DSYNC));
	CHECK((fcntl(app, F_GETFL) & (O_ACCMODE | O_APPEND)) == (O_WRONLY | O_APPEND));
	CHECK(fcntl(app, F_GETFD) == FD_CLOEXEC && fcntl(fd, F_GETFD) == 0);
	CHECK(lseek(ro, 0, SEEK_CUR) == 1000000);
	kill(child, SIGUSR2);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	/* what the child has read, this one has not to read any more */
	CHECK(read(two, buf, 2) == 2 && memcmp(buf, "56", 2) == 0);
	CHECK(write(app, "X", 1) == 1 && pread(fd, buf, 11, 0) == 11 && buf[10] == 'X');
	return 0;
}
