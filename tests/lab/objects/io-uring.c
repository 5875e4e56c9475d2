/* SPDX-License-Identifier: Apache-2.0 */
/* An io_uring cannot travel: preflight says so, and the program goes on. */
/* docker: --security-opt seccomp=unconfined */
/* refused: io_uring */
#include <linux/io_uring.h>
#include <sys/syscall.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct io_uring_params p = { 0 };
	int fd;

	object_init(argc, argv);
	fd = (int)syscall(SYS_io_uring_setup, 8, &p);
	CHECK(fd >= 0);
	object_move();
	CHECK(syscall(SYS_io_uring_enter, fd, 0, 0, 0, NULL, 0) == 0);
	return 0;
}
