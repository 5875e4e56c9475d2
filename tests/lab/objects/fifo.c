/* SPDX-License-Identifier: Apache-2.0 */
/* Fifos: content, ends in other processes, one whose name was deleted. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	int rd, wr, both, status;
	char buf[16] = "";
	struct stat st;
	pid_t child;

	object_init(argc, argv);
	umask(0);
	CHECK(mkfifo("/tmp/fifo", 0620) == 0 && mkfifo("/tmp/gone", 0600) == 0);
	rd = open("/tmp/fifo", O_RDONLY | O_NONBLOCK);
	both = open("/tmp/gone", O_RDWR);
	child = fork();
	if (child == 0) {
		wr = open("/tmp/fifo", O_WRONLY);
		CHECK(write(wr, "before", 6) == 6);
		object_wait();
		_exit(write(wr, "after", 5) == 5 ? 0 : 1);
	}
	CHECK(write(both, "nameless", 8) == 8 && unlink("/tmp/gone") == 0);
	while (read(rd, buf, 1) != 1)
		usleep(1000);
	object_move();
	CHECK(stat("/tmp/fifo", &st) == 0 && S_ISFIFO(st.st_mode) && (st.st_mode & 0777) == 0620);
	CHECK(read(rd, buf, 16) == 5 && memcmp(buf, "efore", 5) == 0);
	kill(child, SIGUSR2);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(read(rd, buf, 16) == 5 && read(rd, buf, 16) == 0);
	CHECK(read(both, buf, 16) == 8 && memcmp(buf, "nameless", 8) == 0);
	wr = open("/tmp/fifo", O_WRONLY | O_NONBLOCK);
	CHECK(wr >= 0 && write(wr, "new", 3) == 3 && read(rd, buf, 16) == 3);
	return 0;
}
