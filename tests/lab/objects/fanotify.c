/* SPDX-License-Identifier: Apache-2.0 */
/* A fanotify group cannot travel: preflight says so, and the program goes on. */
/* docker: --cap-add SYS_ADMIN --security-opt seccomp=unconfined */
/* refused: fanotify */
#include <fcntl.h>
#include <sys/fanotify.h>
#include <sys/syscall.h>

#include "object.h"

int main(int argc, char **argv)
{
	char buf[4096] __attribute__((aligned(8)));
	int fd;

	object_init(argc, argv);
	fd = (int)syscall(SYS_fanotify_init, FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY);
	CHECK(fd >= 0);
	CHECK(syscall(SYS_fanotify_mark, fd, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "/tmp") == 0);
	object_move();
	CHECK(read(fd, buf, sizeof(buf)) < 0 && errno == EAGAIN);
	return 0;
}
